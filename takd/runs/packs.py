"""Packs: many small finished stages of a cached store in one file, `<cached store>/packs/<run id>.sqlar`.

A pack is a SQLite archive (https://sqlite.org/sqlar.html; `sqlite3 -A` lists and unpacks it) whose members are named
`<key>/<file>`, the files exactly those of a stage's folder. The small ones among them, texts, answered classes and
weights of a few kB, which are much alike from stage to stage, lie end to end in one member per file, `all/<file>`, and
`all.json` says whose they are and how long: so they take a third of the space and are read faster. To the rest of the
store a packed stage's folder is the path `<pack>/<key>`: below a file there is nothing, so such a path is free, and
`files` asks here for it. Only cached stores are looked into for packs, and nobody writes these, so an archive is opened
read-only and immutable, without locks and side files.

Reading never raises: a damaged or foreign file counts as not there, and `problems` names it.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import threading
import time
import zlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path

PACKS, ENDING = "packs", ".sqlar"
ABOUT = "about.json"  # where its numbers come from; of no stage
ALL, _ALL_NAMES = "all", "all.json"  # small files end to end; {file: {key: bytes}} in their order
_TEXTS = (".json", ".jsonl", ".bin")  # much alike from stage to stage, however long
_SMALL = 4_000  # bytes of any other file: its header and its own row would be a tenth of it
_NOBODY = "0" * 32
Version = tuple[int, int, int]
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\.sqlar")
_MEMBER = re.compile(r"([0-9a-f]{32})/([a-z0-9][a-z0-9._-]{0,79})")
BELOW = f"{ENDING}{os.sep}"  # every virtual path has it, and hardly any other
_SAME = f".{os.sep}"  # another spelling of the same path
_LARGEST = 100_000_000  # bytes of a member; packs hold small stages
_OPEN = 100  # archives kept open by a process: each takes a file descriptor
_LOOK_SECONDS = 1.0  # a pack changed in place by hand is noticed after so long, a new or replaced one at once
_PAGES = (512, 1024, 2048, 4096)  # bytes; which leaves least empty depends on the members' sizes
_COLUMNS = ("name", "mode", "mtime", "sz", "data")
_MODE = 0o100644
_ONE = "SELECT sz, data FROM sqlar WHERE name = ?"
_NAMES = "SELECT name FROM sqlar"
_KEPT_BYTES = 24_000_000  # of texts that were read; who reads one of a pack mostly reads them all


class _Unfit(Exception):
    """This file is no pack; says why."""


@dataclass
class _Pack:
    """One archive as it was at `version`: names of members by key; how long those are that lie end to end (by file
    and key, in their order), and which of these have a member of their own as well (`alone`), which stands before them;
    what has no place in a pack, or why it is none. `places` is (start, end) of what lies end to end, worked out when
    somebody reads it."""

    path: str
    version: Version
    names: dict[str, set[str]]
    together: dict[str, dict[str, int]] = field(default_factory=dict)
    alone: set[tuple[str, str]] = field(default_factory=set)
    places: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class _Folder:
    """The packs of a root when they were last looked at."""

    written: int
    looked: float
    packs: tuple[_Pack, ...]
    places: dict[str, tuple[str, ...]]


_guard = threading.RLock()  # of everything below; a read holds it for some microseconds
_folders: dict[str, _Folder] = {}
_packs: dict[str, _Pack] = {}
_connections: dict[str, tuple[Version, sqlite3.Connection]] = {}
_texts: dict[tuple[str, Version, str], bytes] = {}  # lately read ones last


def places(root: Path, key: str) -> tuple[str, ...]:
    """The virtual folders `<pack>/<key>` of a stage in the packs of a cached root, by the name of the pack."""
    folder = _folder(str(root))
    return () if folder is None else folder.places.get(key, ())


def keys(root: Path) -> set[str]:
    """Every stage of which the packs of a cached root hold anything."""
    folder = _folder(str(root))
    return set() if folder is None else set(folder.places)


def version(path: str) -> Version | None:
    """What changes when the member at a virtual path may have: time, size and inode of its pack; None where there is no
    such member."""
    found = _split(path)
    pack = None if found is None else _pack(found[0])
    return pack.version if found is not None and pack is not None and _has(pack, found[1]) else None


def pack_version(place: str) -> Version | None:
    """What changes when the pack of a virtual folder does; None where there is no pack."""
    pack = _pack(place.rpartition(os.sep)[0])
    return None if pack is None else pack.version


def read(path: str) -> bytes | None:
    """The bytes of the member at a virtual path; None for anything else."""
    found = _split(path)
    if found is None:
        return None
    with _guard:
        pack = _pack(found[0])
        if pack is None or not _has(pack, found[1]):
            return None
        key, _, name = found[1].partition("/")
        if key not in pack.together.get(name, {}) or (key, name) in pack.alone:
            return _member(pack, found[1])
        whole = _text(pack, name)
    return None if whole is None else whole[slice(*pack.places[name][key])]


def on_disk(folder: Path) -> str:
    """What to delete so that a stage read from `folder` is not there any more: the folder, or the pack it lies in."""
    path, below, _ = str(folder).partition(BELOW)
    return f"the file {path}{ENDING}" if below and os.path.isfile(path + ENDING) else f"the folder {folder}"


def about(path: Path) -> bytes | None:
    """What a pack says about where its numbers come from; None where it says nothing."""
    with _guard:
        pack = _pack(str(path))
        return None if pack is None else _member(pack, ABOUT)


def problems(root: Path) -> list[tuple[str, str]]:
    """(file name, reason) of everything in the packs folder of a root that is no pack, or more than one."""
    found = []
    for name in _listed(os.path.join(root, PACKS)):
        path = os.path.join(root, PACKS, name)
        pack = _pack(path) if _NAME.fullmatch(name) else None
        if pack is None:
            found.append((name, "not a pack of stages; move it elsewhere"))
        elif pack.problem:
            found.append((name, f"not a pack that can be read ({pack.problem}); bring the original file back"))
        elif pack.foreign:
            found.append((name, f"holds {pack.foreign[0][:80]!r}, which has no place in a pack"))
    return found


def members(path: Path) -> dict[str, bytes]:
    """Everything readable in a pack, {`<key>/<file>`: bytes}; nothing where it is none."""
    pack = _pack(str(path))
    names = [] if pack is None else [(key, name) for key, names in pack.names.items() for name in sorted(names)]
    raws = {f"{key}/{name}": read(os.path.join(path, key, name)) for key, name in names}
    with _guard:
        if str(path) in _connections:  # Windows replaces no file that is open
            _connections.pop(str(path))[1].close()
    return {name: raw for name, raw in raws.items() if raw is not None}


def packed(contents: Mapping[str, bytes]) -> bytes:
    """The bytes of a pack with these members. Equal members give equal bytes (with one version of SQLite). Raises
    ValueError for a name that is no member's."""
    for name in contents:
        if name != ABOUT and not _MEMBER.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a pack's member")
    laid = _end_to_end(contents)
    return min((_archive(laid, page) for page in _PAGES), key=len)


def _end_to_end(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The members as they are stored: texts and other small files in one member per file."""
    lengths: dict[str, dict[str, int]] = {}
    texts: dict[str, list[bytes]] = {}
    rest = {}
    for name, raw in sorted(contents.items()):
        key, _, file = name.partition("/")
        if file and (file.endswith(_TEXTS) or len(raw) <= _SMALL):
            lengths.setdefault(file, {})[key] = len(raw)
            texts.setdefault(file, []).append(raw)
        else:
            rest[name] = raw
    if texts:
        rest[_ALL_NAMES] = json.dumps(lengths, sort_keys=True, separators=(",", ":")).encode()
    return rest | {f"{ALL}/{file}": b"".join(raws) for file, raws in texts.items()}


def _archive(contents: Mapping[str, bytes], page: int) -> bytes:
    with closing(sqlite3.connect(":memory:")) as archive:
        archive.execute(f"PRAGMA page_size = {page}")
        archive.execute("CREATE TABLE sqlar(name TEXT PRIMARY KEY, mode INT, mtime INT, sz INT, data BLOB)")
        for name, raw in sorted(contents.items()):
            small = zlib.compress(raw, 9)
            data = small if len(small) < len(raw) else raw
            archive.execute("INSERT INTO sqlar VALUES (?, ?, 0, ?, ?)", (name, _MODE, len(raw), data))
        archive.commit()
        return archive.serialize()


# Paths


def _split(path: str) -> tuple[str, str] | None:
    """(path of the pack, name of the member) of a virtual path; None for every other path."""
    start, below, name = path.rpartition(BELOW)
    if not below:
        return None
    key, _, last = name.partition(os.sep)
    return start + ENDING, f"{key}/{last.removeprefix(_SAME)}"


def _has(pack: _Pack, member: str) -> bool:
    key, _, name = member.partition("/")
    return name in pack.names.get(key, ())


# Looking


def _listed(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []


def _folder(root: str) -> _Folder | None:
    """The packs of a root as they are now; None where there are none."""
    path = f"{root}{os.sep}{PACKS}"
    try:
        written = os.stat(path).st_mtime_ns
    except (OSError, ValueError):
        return None
    known, now = _folders.get(root), time.monotonic()
    if known is not None and known.written == written and now - known.looked < _LOOK_SECONDS:
        return known
    with _guard:
        found = tuple(p for name in _listed(path) if _NAME.fullmatch(name) and (p := _pack(os.path.join(path, name))))
        same = known is not None and [id(pack) for pack in found] == [id(pack) for pack in known.packs]
        by_key = known.places if known is not None and same else _places(found)
        _folders[root] = fresh = _Folder(written, now, found, by_key)
    return fresh


def _places(packs: tuple[_Pack, ...]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for pack in packs:
        for key in pack.names:
            found[key] = (*found.get(key, ()), f"{pack.path}{os.sep}{key}")
    return found


def _pack(path: str) -> _Pack | None:
    """A pack as it is now, looked into once per version; None where there is no plain file."""
    try:
        now = os.stat(path, follow_symlinks=False)
    except (OSError, ValueError):
        return None
    known, at = _packs.get(path), (now.st_mtime_ns, now.st_size, now.st_ino)
    if known is not None and known.version == at:
        return known
    if not stat.S_ISREG(now.st_mode):
        return None
    with _guard:
        _packs[path] = known = _looked_into(path, at)
    return known


def _looked_into(path: str, at: Version) -> _Pack:
    pack = _Pack(path, at, {})
    try:
        foreign = []
        for (name,) in _connection(pack).execute(_NAMES):
            if isinstance(name, str) and (match := _MEMBER.fullmatch(name)):
                pack.names.setdefault(match[1], set()).add(match[2])
            elif name not in (ABOUT, _ALL_NAMES):
                foreign.append(str(name))
        for file, lengths in _lengths(pack).items():
            pack.together[file] = lengths
            for key in lengths:
                own = pack.names.setdefault(key, set())
                if file in own:  # a member of its own stands before it
                    pack.alone.add((key, file))
                own.add(file)
        pack.foreign = tuple(sorted(set(foreign) - {f"{ALL}/{file}" for file in pack.together}))
    except (sqlite3.Error, _Unfit, MemoryError) as error:
        return _Pack(path, at, {}, problem=str(error)[:200])
    return pack


def _lengths(pack: _Pack) -> dict[str, dict[str, int]]:
    """What `all.json` says; nothing where there is none. Raises _Unfit where it says nothing sensible."""
    raw = _member(pack, _ALL_NAMES)
    if raw is None:
        return {}
    try:
        found = json.loads(raw)
        keys = {key for lengths in found.values() for key in lengths}
        fits = all(_MEMBER.fullmatch(f"{_NOBODY}/{file}") for file in found)
        fits = fits and all(_MEMBER.fullmatch(f"{key}/x") for key in keys)
        lengths = [length for one in found.values() for length in one.values()]
        fits = fits and all(type(length) is int and 0 <= length <= _LARGEST for length in lengths)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise _Unfit("its list of texts cannot be read") from error
    if not fits:
        raise _Unfit("its list of texts names what no stage has")
    return dict(found)


def _text(pack: _Pack, file: str) -> bytes | None:
    """All texts of a file end to end; None where they are not as long as they should be. The guard is held."""
    if file not in pack.places:
        ends = accumulate(pack.together[file].values(), initial=0)
        pack.places[file] = dict(zip(pack.together[file], pairwise(ends), strict=True))
    at = pack.path, pack.version, file
    found = _texts.pop(at, None)
    if found is None:
        found = _member(pack, f"{ALL}/{file}")
        if found is None or len(found) != sum(pack.together[file].values()):
            return None
        while _texts and len(found) + sum(map(len, _texts.values())) > _KEPT_BYTES:
            del _texts[next(iter(_texts))]
    _texts[at] = found
    return found


def _member(pack: _Pack, name: str) -> bytes | None:
    """The bytes of a member; None where there is none or it is damaged. The guard is held."""
    try:
        row = _connection(pack).execute(_ONE, (name,)).fetchone()
    except (sqlite3.Error, _Unfit, MemoryError):
        return None
    return None if row is None else _inflated(*row)


def _connection(pack: _Pack) -> sqlite3.Connection:
    """The open archive; for the holder of the guard. Raises sqlite3.Error or _Unfit where it is none."""
    known = _connections.get(pack.path)
    if known is not None and known[0] == pack.version:
        return known[1]
    for old in [pack.path] if known is not None else list(_connections)[: max(0, len(_connections) - _OPEN + 1)]:
        _connections.pop(old)[1].close()
    uri = f"{Path(pack.path).absolute().as_uri()}?mode=ro&immutable=1"
    archive = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
    try:
        archive.execute("PRAGMA trusted_schema = OFF")  # a stranger's file runs nothing
        kind = archive.execute("SELECT type FROM sqlite_master WHERE name = 'sqlar'").fetchone()
        columns = tuple(row[1] for row in archive.execute("PRAGMA table_info(sqlar)"))
        if kind != ("table",) or columns != _COLUMNS:
            raise _Unfit("it has no table sqlar as SQLite archives have it")
    except BaseException:
        archive.close()
        raise
    _connections[pack.path] = pack.version, archive
    return archive


def _inflated(size: object, data: object) -> bytes | None:
    """A member's bytes: as they are where that is its size, else deflated; None where they are not what they say."""
    if not isinstance(data, bytes) or type(size) is not int or not 0 <= size <= _LARGEST:
        return None
    if len(data) == size:
        return data
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(data, size + 1)
    except zlib.error:
        return None
    return raw if len(raw) == size and unpacker.eof else None
