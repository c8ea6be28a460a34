"""Who owns what, by locks of the operating system: they are free the moment their owner dies, however it dies.

No process id is ever used to tell whether something lives. Lock files are never deleted. The store must be on a local
disk: network drives do not keep these locks reliably.
"""

from __future__ import annotations

import re
from pathlib import Path

from filelock import FileLock, Timeout

from takd.runs.layout import IMPORTED

LOCK = "lock"


def _lock(path: Path) -> FileLock:
    # thread_local=False: a lock taken in one thread may be released in another (the worker's watchdog).
    return FileLock(path, thread_local=False, fallback_to_soft=False, preserve_lock_file=True)


def stage_lock(folder: Path) -> FileLock:
    """The lock of one stage: its holder alone writes in the folder. The folder must exist."""
    return _lock(folder / LOCK)


def run_lock(folder: Path) -> FileLock:
    """The lock of one run: held by its worker as long as it lives. The folder must exist."""
    return _lock(folder / LOCK)


def slot_lock(root: Path, device: str) -> FileLock:
    """The lock of a device in a store: `cpu` -> slots/cpu.lock, `cuda:0` -> slots/cuda0.lock. One run trains there at
    a time; creates the folder (OSError when the store cannot be written)."""
    folder = root / "slots"
    folder.mkdir(parents=True, exist_ok=True)
    return _lock(folder / f"{re.sub('[^a-z0-9]', '', device.lower())}.lock")


def warm_lock(root: Path) -> FileLock:
    """The lock of a store's idle worker, held while it is idle. The folder must exist."""
    return _lock(root / "warm" / LOCK)


def verify_lock(root: Path) -> FileLock:
    """The lock of whoever checks a store's numbers: one at a time. The folder must exist."""
    return _lock(root / "verified" / LOCK)


def look_lock(root: Path) -> FileLock:
    """The lock of whoever computes looks: one at a time. The folder must exist."""
    return _lock(root / "extra-looks" / LOCK)


def queue_lock(root: Path) -> FileLock:
    """The lock of whoever changes the order of the queue. The folder must exist."""
    return _lock(root / "queue" / LOCK)


def import_lock(root: Path) -> FileLock:
    """The lock of whoever adds to or takes from a store's imported runs. The folder must exist."""
    return _lock(root / IMPORTED / LOCK)


def history_lock(root: Path) -> FileLock:
    """The lock of whoever adds to a store's history of estimates. The folder must exist."""
    return _lock(root / "history.lock")


def try_acquire(lock: FileLock, timeout: float = 0.0) -> bool:
    """Take the lock if it is free within `timeout` seconds. Raises OSError where the store cannot be written."""
    try:
        lock.acquire(timeout=timeout, poll_interval=0.01)
    except Timeout:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether somebody holds this lock file. Never creates it; a missing or unreadable one is held by nobody.

    The probe holds the lock for microseconds, so owners take theirs with a short timeout instead of none.
    """
    if not path.is_file():
        return False
    lock = _lock(path)
    try:
        if not try_acquire(lock):
            return True
    except OSError:  # a read-only store: no worker can run there
        return False
    lock.release()
    return False
