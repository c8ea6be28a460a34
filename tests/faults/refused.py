"""A disk that takes no more: full (by a limit on file sizes, and a real tmpfs where mounting is allowed), read-only,
without permission. The run must say so by name, and after the fault is gone resuming must give the same bytes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import resource
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from takd.runs import states, worker
from takd.runs import submit as asking
from takd.runs.states import run_info
from takd.runs.store import Store
from takd.runs.submit import submit
from tests.faults.common import USERS, Bytes, Figures, calm_bytes, in_child, stages_of
from tests.runs.conftest import DATA

_NOBODY = 65534
_TMPFS_BYTES = 200_000
_RDONLY, _REMOUNT = 1, 32
SPEC = USERS["Ben"]


def run(size: int, seed: int, root: Path) -> Figures:
    """`size` disks of each kind that fill up at another place, and one of each other refusal."""
    figures, dice = Figures("a disk that refuses"), random.Random(seed)
    asking.start_worker = lambda *_: None  # type: ignore[assignment]  # the worker is called in a child of this process
    asking.LEAST_FREE_BYTES = 0
    states.START_SECONDS = 0.0  # a worker that could not write a word has had its time
    calm = calm_bytes(root / "calm", stages_of(SPEC))
    for number in range(size):
        limit = dice.choice((400, 500, 550, 600, 1000, 3000, 6000))
        store, run_id = _asked(root / f"limited-{number}")
        code = _work(store, run_id, lambda most=limit: _limit(most))
        _judge(figures, f"files of at most {limit} bytes", store, run_id, code, ("disk-full",), calm)
    _full(figures, root, size, dice, calm)
    _read_only(figures, root, calm)
    _no_permission(figures, root, calm)
    return figures


def _asked(root: Path) -> tuple[Store, str]:
    store = Store(root)
    return store, submit(store, SPEC, datasets=DATA)


def _work(store: Store, run_id: str, before: Callable[[], object] = lambda: None) -> int:
    """A worker of the run, in a child in which something was done before; its exit code."""

    def action() -> None:
        before()
        code = worker.main(["--store", str(store.root), "--run", run_id, "--device", "cpu", "--processes", "1"])
        os._exit(code)

    return in_child(action, quiet=True)


def _judge(
    figures: Figures, kind: str, store: Store, run_id: str, code: int, causes: tuple[str, ...], calm: Bytes
) -> None:
    """The run has failed with a name; called while the fault lasts, `_heal` after it."""
    info = run_info(store, run_id)
    named = code == worker.FAILED and info.cause in causes and "resume" in info.reason
    problem = "" if named else f"exit {code}, {info.state}, {info.cause}: {info.reason}"
    figures.add(kind + ", named", problem)
    if causes == ("disk-full",) and "limited" in store.root.name:
        _heal(figures, kind, store, run_id, calm)


def _heal(figures: Figures, kind: str, store: Store, run_id: str, calm: Bytes) -> None:
    """The fault is gone: resume, compare."""
    asking.resume(store, run_id)
    code = _work(store, run_id)
    figures.add(kind + ", resumed", figures.count(store, calm) if code == 0 else f"exit {code}")


def _limit(most: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


@contextlib.contextmanager
def _tmpfs(place: Path) -> Iterator[bool]:
    """A small disk of its own, where this user may mount one."""
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    path = str(place).encode()
    mounted = libc.mount(b"tmpfs", path, b"tmpfs", 0, f"size={_TMPFS_BYTES}".encode()) == 0
    try:
        yield mounted
    finally:
        if mounted:
            libc.umount2(path, 2)


def _remount(place: Path, flags: int) -> None:
    """Change a mounted disk to read-only or back."""
    path = str(place).encode()
    if ctypes.CDLL(None).mount(b"tmpfs", path, b"tmpfs", _REMOUNT | flags, f"size={_TMPFS_BYTES}".encode()) != 0:
        raise OSError("cannot be mounted again")


def _full(figures: Figures, root: Path, size: int, dice: random.Random, calm: Bytes) -> None:
    """A real disk with room for a few files, filled up by somebody else before the worker starts."""
    for number in range(size):
        place = root / f"tmpfs-{number}"
        with _tmpfs(place) as mounted:
            if not mounted:
                figures.notes.append("no disk of its own could be mounted here")
                return
            store, run_id = _asked(place / "store")
            pages = os.statvfs(place).f_bavail - dice.choice((0, 1, 2, 3, 5, 8, 12))
            (place / "ballast").write_bytes(bytes(max(0, pages) * os.statvfs(place).f_frsize))
            code = _work(store, run_id)
            _judge(figures, "a disk that is full", store, run_id, code, ("disk-full",), calm)
            # what is left of such a small disk: the bytes are compared after the ballast is gone
            (place / "ballast").unlink()
            copy = Store(root / f"copy-{number}")
            shutil.copytree(store.root, copy.root)
            _heal(figures, "a disk that is full", copy, run_id, calm)


def _read_only(figures: Figures, root: Path, calm: Bytes) -> None:
    place = root / "read-only"
    with _tmpfs(place) as mounted:
        if not mounted:
            return
        store, run_id = _asked(place / "store")
        _remount(place, _RDONLY)
        code = _work(store, run_id)
        _judge(figures, "a read-only store", store, run_id, code, ("read-only",), calm)
        _remount(place, 0)
        copy = Store(root / "was-read-only")
        shutil.copytree(store.root, copy.root)
        _heal(figures, "a read-only store", copy, run_id, calm)


def _no_permission(figures: Figures, root: Path, calm: Bytes) -> None:
    """The store belongs to somebody else: the worker runs as nobody (only root can become nobody)."""
    if os.getuid() != 0:
        figures.notes.append("not root: nobody else to be")
        return
    store, run_id = _asked(root / "forbidden")
    root.chmod(0o755)
    sysconfig.get_config_vars()  # read now: Python itself may lie where nobody may look
    code = _work(store, run_id, lambda: os.setuid(_NOBODY))
    seen = in_child(lambda: os._exit(_seen_by_nobody(store, run_id)))
    problem = "" if (code, seen) == (worker.FAILED, 7) else f"exit {code}, {seen}"
    figures.add("a store of somebody else, named", problem)
    _heal(figures, "a store of somebody else", store, run_id, calm)


def _seen_by_nobody(store: Store, run_id: str) -> int:
    os.setuid(_NOBODY)
    return 7 if run_info(store, run_id).cause == "no-permission" else 8
