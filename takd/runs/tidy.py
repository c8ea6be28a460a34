"""What a store holds that can be had again, and taking it away: answers kept beside stages, what killed processes left.

Nothing a run needs is touched: a stage of an active run stays as it is, and so does what is kept beside a stage whose
weights are not here, because from these alone it can be computed again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from takd.runs.layout import listed, only_extras, stage_folders
from takd.runs.locks import stage_lock, try_acquire
from takd.runs.loop import WEIGHTS
from takd.runs.policy import require_changes_allowed
from takd.runs.states import list_runs
from takd.runs.store import Store

_LEFT_SECONDS = 3600.0  # a temporary file this old is nobody's any more
EXTRA, LEFTOVER = "kept to save time", "left by a process that was killed"


@dataclass(frozen=True)
class Spare:
    """One thing that may go: a file (with the file of its sum), or a folder. `key` is the stage it lies beside."""

    path: Path
    bytes: int
    what: str
    written: float
    key: str = ""


def spare(store: Store, keep: int = 0) -> list[Spare]:
    """Everything that may go, oldest first; of what only saves time the newest `keep` bytes stay."""
    busy = {key for run in list_runs(store, 10_000) if run.look.active for key in run.keys}
    left = sorted(_leftovers(store), key=lambda one: one.written)
    kept = sorted(_extras(store, busy), key=lambda one: one.written)
    size = sum(one.bytes for one in kept)
    for one in kept:
        if size <= keep:
            break
        size -= one.bytes
        left.append(one)
    return left


def remove(store: Store, found: Iterable[Spare]) -> int:
    """Take things away that `spare` has found; the bytes that are free now. What is in use meanwhile stays. Raises
    RunError on a server that only shows results."""
    require_changes_allowed()
    freed = 0
    for one in found:
        with contextlib.suppress(OSError), _nobody_trains(store, one.key) as free:
            if free:
                _delete(one.path)
                freed += one.bytes
                _forget_empty(one)
    return freed


def _extras(store: Store, busy: set[str]) -> Iterator[Spare]:
    for folder in stage_folders(store.root):
        key = folder.name
        if key in busy or not store.is_done(key) or not store.has_file(key, WEIGHTS):
            continue
        for path in listed(folder / "extra"):
            if path.suffix != ".sha256" and not path.is_symlink() and path.is_file():
                size = sum(_size(each) for each in (path, path.with_name(f"{path.name}.sha256")))
                yield Spare(path, size, EXTRA, path.stat().st_mtime, key)


def _leftovers(store: Store) -> Iterator[Spare]:
    """Temporary files, and the folders of runs whose deletion did not come to its end."""
    before = time.time() - _LEFT_SECONDS
    folders = [*stage_folders(store.root), *listed(store.root / "runs"), store.root]
    for folder in [*folders, *(folder / "extra" for folder in folders)]:
        with contextlib.suppress(OSError):
            for path in folder.glob(".*.tmp"):
                if path.is_file() and path.stat().st_mtime < before:
                    yield Spare(path, _size(path), LEFTOVER, path.stat().st_mtime)
    for path in (store.root / "runs").glob(".deleted-*"):
        if path.is_dir() and not path.is_symlink():
            size = sum(_size(each) for each in path.rglob("*"))
            yield Spare(path, size, LEFTOVER, path.stat().st_mtime)


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


@contextlib.contextmanager
def _nobody_trains(store: Store, key: str) -> Iterator[bool]:
    """Hold the stage's lock meanwhile; what lies beside a cached stage has none, and is only read."""
    if not key or only_extras(store.own_folder(key)):
        yield True
        return
    lock = stage_lock(store.own_folder(key))
    taken = try_acquire(lock)
    try:
        yield taken
    finally:
        if taken:
            lock.release()


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
        return
    path.unlink()
    path.with_name(f"{path.name}.sha256").unlink(missing_ok=True)


def _forget_empty(one: Spare) -> None:
    """Folders in which nothing is left: extra/, and that of a cached stage, which held nothing else."""
    if one.key:
        with contextlib.suppress(OSError):  # not empty
            one.path.parent.rmdir()
            one.path.parent.parent.rmdir()
