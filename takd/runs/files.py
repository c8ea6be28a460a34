"""Files that survive a kill at any instant: whole files are replaced atomically, logs are only appended to.

Readers never raise on what they find: a torn tail, garbage or a missing file reads as "not there".
"""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from takd.runs import packs

_READ_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_APPEND_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_TAIL = 65_536  # a torn line is looked for in the last 64 kB
_SYNCS = 8  # a disk takes several fsyncs side by side in hardly more time than one


def write_atomic(path: Path, data: bytes, *, durable: bool = True, sync_parent: bool = True) -> None:
    """Replace `path` by `data` so that a reader sees the old file or the new one, never a part.

    `durable` also survives a power cut (two fsyncs); progress files do without. Of several files written into one
    folder, only the last needs `sync_parent`. Raises OSError (disk full,
    read-only); then the old file is untouched and nothing is left behind.
    """
    temporary = _temporary(path)
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        _replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable and sync_parent:
        sync_folder(path.parent)


def write_together(contents: Mapping[Path, bytes], also: Iterable[Path] = ()) -> None:
    """Replace several files, renamed in the order given after all of them are forced to the disk, so that a file counts
    only when those before it are safe. They and the files in `also` survive a power cut when this returns.

    Costs two waits for the disk, whatever the number of files. Raises OSError; then nothing was replaced (unless a
    rename itself failed) and nothing is left behind.
    """
    temporaries = {path: _temporary(path) for path in contents}
    try:
        for path, raw in contents.items():
            with open(temporaries[path], "xb") as file:
                file.write(raw)
        _side_by_side(sync_file, [*temporaries.values(), *also])
        for path, temporary in temporaries.items():
            _replace(temporary, path)
    except BaseException:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
        raise
    _side_by_side(sync_folder, list(dict.fromkeys(path.parent for path in contents)))


def _side_by_side(sync: Callable[[Path], None], paths: list[Path]) -> None:
    if len(paths) == 1:
        sync(paths[0])
    else:
        list(_threads().map(sync, paths))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_SYNCS, "fsync")


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def _replace(source: Path, target: Path) -> None:
    for _ in range(20):
        try:
            os.replace(source, target)
            return
        except PermissionError:  # Windows refuses while a reader has the file open, for milliseconds
            if os.name != "nt":
                raise
            time.sleep(0.01)
    os.replace(source, target)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut (Windows has no such call and needs none)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: bytes, *, durable: bool = True) -> None:
    """Append `line` (or several) and a newline in one write, first cutting off a torn tail left by a kill.

    Only one process may append to a file at a time (the lock holder). Raises OSError; a write cut short by a full
    disk is undone before it raises.
    """
    descriptor = os.open(path, _APPEND_FLAGS, 0o644)
    try:
        size = _cut_torn_tail(descriptor)
        data = line + b"\n"
        if os.write(descriptor, data) != len(data):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cut_torn_tail(descriptor: int) -> int:
    """Truncate to the last newline; returns the size."""
    size = end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - (1 if end == size else _TAIL))  # nearly always the last byte is the newline
        os.lseek(descriptor, start, os.SEEK_SET)
        newline = os.read(descriptor, end - start).rfind(b"\n")
        end = start + newline + 1 if newline >= 0 else start
        if newline >= 0:
            break
    if end != size:
        os.ftruncate(descriptor, end)
    return end


def sync_file(path: Path) -> None:
    """Make the file's content survive a power cut; a missing file is nothing to do."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bytes_or_none(path: Path | str, offset: int = 0) -> bytes | None:
    """The bytes of a regular file, or of a member of a pack, from `offset`; None for anything else (missing, link,
    folder, pipe, not ours)."""
    if packs.BELOW in (name := str(path)) and (member := packs.read(name)) is not None:
        return member[offset:]
    try:
        descriptor = os.open(path, _READ_FLAGS)
    except (OSError, ValueError):
        return None
    try:
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            file.seek(offset)
            return file.read()
    except OSError:
        return None


def version(path: str) -> tuple[int, int, int] | None:
    """What changes when a file, or the pack it is a member of, does; None when it is not there."""
    if packs.BELOW in path and (found := packs.version(path)) is not None:
        return found
    try:
        now = os.stat(path, follow_symlinks=False)
    except (OSError, ValueError):
        return None
    return now.st_mtime_ns, now.st_size, now.st_ino


def size_or_none(path: Path) -> int | None:
    """Bytes of a file or of a member of a pack; None when it is not there."""
    if (member := packs.read(str(path))) is not None:
        return len(member)
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None


def read_jsonl(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The whole rows after byte `offset`, and the offset to ask for next time.

    A tail without a newline is left for the next call; reading stops before the first line that is not a JSON object
    of finite numbers. Where the file was rewritten since `offset` was handed out (it shrank, or the offset is inside
    a line), it is read from the start: keep rows by their epoch, the later one counts. Never raises.
    """
    start = max(0, offset - 1)
    raw = read_bytes_or_none(path, start)
    if raw is None:
        return [], 0
    if offset > 0:
        if not raw.startswith(b"\n"):
            return read_jsonl(path)
        raw = raw[1:]
    rows: list[dict[str, Any]] = []
    position = max(0, offset)
    for line in raw.split(b"\n")[:-1]:
        row = parse_object(line)
        if row is None:
            break
        rows.append(row)
        position += len(line) + 1
    return rows, position


def read_json_or_none(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when it is missing, torn, not an object, or holds a number that is not finite."""
    raw = read_bytes_or_none(path)
    return None if raw is None else parse_object(raw)


def parse_object(raw: bytes) -> dict[str, Any] | None:
    """A JSON object of finite numbers, or None; never raises."""
    try:
        value = _OBJECTS.decode(raw.decode(json.detect_encoding(raw), "surrogatepass"))
        return value if isinstance(value, dict) and all_finite(value) else None
    except (ValueError, RecursionError):
        return None


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


_OBJECTS = json.JSONDecoder(parse_constant=_refuse)  # made once: json.loads makes one for every call


def all_finite(value: Any) -> bool:
    """Whether no number inside a parsed JSON value is infinite or NaN (`1e400` parses as infinity)."""
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    for item in value.values() if kind is dict else value if kind is list else ():
        inner = type(item)
        if inner is float:  # here, not one call deeper: a page reads thousands of results
            if not math.isfinite(item):
                return False
        elif (inner is dict or inner is list) and not all_finite(item):
            return False
    return True


def remove_leftovers(folder: Path, keep: str) -> None:
    """Delete temporary files a killed writer left; only the holder of the folder's lock may call this.

    `keep` is the one file that others write without the lock: its temporary may be in use.
    """
    for name in os.listdir(folder):
        if name.startswith(".") and name.endswith(".tmp") and not name.startswith(f".{keep}."):
            (folder / name).unlink(missing_ok=True)
