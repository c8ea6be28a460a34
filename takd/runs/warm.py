"""The idle worker: one process per store that has torch imported and waits to be told a run.

It holds `<store>/warm/lock` while it is idle, and nothing else. Whoever wants a run done puts an order (a file in
`warm/orders/`) and rings the bell (a FIFO that only a living worker reads). The worker takes the run's lock before it
takes the order away, and an order can be taken away only once: by the worker, or by the one who asked and has lost
patience and starts a worker the slow way. Dying at any moment therefore loses nothing and starts nothing twice.

Where the system has no FIFOs (Windows) there is no idle worker and every run starts the slow way.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import stat
import subprocess
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from takd.runs import files
from takd.runs.errors import RunError
from takd.runs.launch import settings, start_detached, worker_environment
from takd.runs.locks import LOCK, is_held, run_lock, try_acquire, warm_lock
from takd.runs.policy import read_only
from takd.runs.states import read_status, run_folder
from takd.runs.store import REPO, RUN_ID, Store
from takd.stage import canonical_json

ANSWER_SECONDS = 1.5  # how long a run waits for a living idle worker (it mostly takes 10 ms) before it is started anew
_MINUTES = 10.0
_STALE_SECONDS = 5.0  # an order this old was left by somebody who died
_LOOK = 0.002
_PATIENCE = 0.1  # with those who only look whether a lock is held
_IDLE_LOOK = 1.0  # seconds between looks at whether to go on waiting
_BELL, _ORDERS = "bell", "orders"
_SCHEMA = 1


def idle_minutes() -> float:
    """How long a worker stays idle before it ends itself: $TAKD_WARM_MINUTES, default 10; 0 means no idle worker."""
    try:
        return max(0.0, float(os.environ.get("TAKD_WARM_MINUTES", _MINUTES)))
    except ValueError:
        return _MINUTES


# The side that asks: the page, the command line


def warm(store: Store) -> bool:
    """Have an idle worker for this store from now on; whether one is ready or on its way.

    A server calls this when it starts and may call it again at any time: nothing happens while there is one. It also
    lets the workers of runs that this process starts later stay as the idle one. Nothing is started on a read-only
    server. Never raises.
    """
    if not _possible():
        return False
    _kept.add(store.root)
    started = _started.get(store.root)
    if is_held(_folder(store) / LOCK) or (started is not None and started.poll() is None):
        return True
    try:
        _folder(store).mkdir(parents=True, exist_ok=True)
        warm_log(store).unlink(missing_ok=True)
        _started[store.root] = start_detached(store, ["--warm"], warm_log(store))
    except OSError:  # a store that cannot be written: nothing can be trained there anyway
        return False
    return True


_kept: set[Path] = set()
_started: dict[Path, subprocess.Popen[bytes]] = {}


def is_warm(store: Store) -> bool:
    """Whether an idle worker waits."""
    return _possible() and is_held(_folder(store) / LOCK)


def stays(store: Store) -> bool:
    """Whether a worker started now should become the idle one when its run has ended."""
    return store.root in _kept and _possible()


def wait_until_idle(store: Store, seconds: float) -> None:
    """Give a worker that is about to be idle again a moment; returns at once where none would stay."""
    deadline = time.monotonic() + seconds
    while stays(store) and time.monotonic() < deadline:
        if (bell := _open_bell(store)) is not None:
            os.close(bell)
            return
        time.sleep(_LOOK)


def hand_over(store: Store, run_id: str) -> bool:
    """Let the idle worker do a run that has been stored; False where there is none, or it refuses or does not answer
    in time, and then the run is to be started the slow way. Never raises."""
    bell = _open_bell(store) if _possible() else None
    if bell is None:
        return False
    own, others = settings(worker_environment(store))
    order = _folder(store) / _ORDERS / f"{run_id}.json"
    row = {"schema": _SCHEMA, "run": run_id, "asked": time.time(), "settings": own, "environment": _sum(others)}
    try:
        files.write_atomic(order, canonical_json(row), durable=False)
        os.write(bell, b"!")
        return _is_taken(store, run_id, order)
    except OSError:
        return not _withdraw(order) and _is_begun(store, run_id)
    finally:
        os.close(bell)


def _is_taken(store: Store, run_id: str, order: Path) -> bool:
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        if _is_begun(store, run_id):
            return True
        if order.exists():
            if not is_held(_folder(store) / LOCK):  # it died, or somebody else's order was first
                break
        elif not is_held(_run(store, run_id) / LOCK):  # refused, or it died, or the run has ended already
            return _is_begun(store, run_id)
        time.sleep(_LOOK)
    if _withdraw(order):
        return False
    return is_held(_run(store, run_id) / LOCK) or _is_begun(store, run_id)


def _is_begun(store: Store, run_id: str) -> bool:
    """Whether a worker has written its first word: from then on its lock tells what becomes of the run."""
    status = read_status(_run(store, run_id))
    return status.get("state") != "starting" or "pid" in status


def _withdraw(order: Path) -> bool:
    """Take an order away; False where somebody else did, or it cannot be (then the run's lock keeps it from being done
    twice)."""
    try:
        order.unlink()
    except OSError:
        return False
    return True


def _open_bell(store: Store) -> int | None:
    """The bell, if somebody listens to it."""
    try:
        bell = os.open(_folder(store) / _BELL, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # nobody listens, or there was never anybody
        return None
    if stat.S_ISFIFO(os.fstat(bell).st_mode):
        return bell
    os.close(bell)
    return None


# The side that waits: the worker


@dataclass(frozen=True)
class Order:
    """A run to do. The worker holds its lock already; `settings` are the TAKD_* variables of whoever asked, `log` is
    where it prints."""

    run_id: str
    lock: FileLock
    settings: dict[str, str]
    log: Path


@dataclass(frozen=True)
class Kind:
    """What makes an idle worker the right one for an order: the program's version, and the sum of the variables that
    libraries read when they are loaded."""

    code: str
    environment: str


def this_kind() -> Kind:
    """This process, to be asked before it imports anything late."""
    return Kind(code_version(), _sum(settings(dict(os.environ))[1]))


class Idle:
    """This process as the idle worker of a store, until an order is taken or it is time to end."""

    def __init__(self, store: Store, kind: Kind, lock: FileLock) -> None:
        self._store, self._kind, self._lock = store, kind, lock
        self._folder = _folder(store)
        self._place = _place(self._folder)
        self._bell: int | None = None

    @staticmethod
    def begin(store: Store, kind: Kind) -> Idle | None:
        """Become the idle worker; None where there is one already. Raises OSError where the store cannot be written or
        there are no FIFOs."""
        orders = _folder(store) / _ORDERS
        orders.mkdir(parents=True, exist_ok=True)
        lock = warm_lock(store.root)
        if not try_acquire(lock, timeout=_PATIENCE):
            return None
        idle = Idle(store, kind, lock)
        try:
            for left in _listed(orders):  # by somebody who asked a worker that died
                _withdraw(left)
            files.remove_leftovers(orders, keep="")
            with contextlib.suppress(FileExistsError):
                os.mkfifo(idle._folder / _BELL)
            # Also open for writing, so that it never reads as ended when somebody else's end is closed.
            idle._bell = os.open(idle._folder / _BELL, os.O_RDWR | os.O_NONBLOCK)
        except BaseException:
            idle.end()
            raise
        return idle

    def wait(self, usable: Callable[[], bool] = lambda: True) -> Order | None:
        """The next order; None when the idle minutes are over, the program or its store have changed or `usable` says
        no. Either way this process is no longer the idle worker."""
        deadline = time.monotonic() + 60.0 * idle_minutes()
        try:
            while time.monotonic() < deadline and _place(self._folder) == self._place and usable():
                for path in _listed(self._folder / _ORDERS):
                    if code_version() != self._kind.code:
                        _withdraw(path)
                        return None
                    if (order := self._take(path)) is not None:
                        return order
                assert self._bell is not None
                if select.select([self._bell], [], [], min(_IDLE_LOOK, max(0.0, deadline - time.monotonic())))[0]:
                    os.read(self._bell, 4096)
            return None
        finally:
            self.end()

    def end(self) -> None:
        """Stop being the idle worker."""
        if self._bell is not None:
            os.close(self._bell)
            self._bell = None
        self._lock.release()

    def _take(self, path: Path) -> Order | None:
        """An order with its run's lock, or None where it cannot be done here; then it is taken away as refused."""
        row = files.read_json_or_none(path)
        lock = self._lock_of(row) if row is not None and self._fits(row) else None
        if not _withdraw(path):  # whoever asked was faster
            if lock is not None:
                lock.release()
            return None
        if row is None or lock is None:
            return None
        run_id = str(row["run"])
        return Order(run_id, lock, _texts(row.get("settings")), _run(self._store, run_id) / "log.txt")

    def _fits(self, row: dict[str, Any]) -> bool:
        asked = row.get("asked")
        fresh = isinstance(asked, (int, float)) and abs(time.time() - asked) < _STALE_SECONDS
        named = isinstance(row.get("run"), str) and RUN_ID.fullmatch(row["run"]) is not None
        return row.get("schema") == _SCHEMA and fresh and named and row.get("environment") == self._kind.environment

    def _lock_of(self, row: dict[str, Any]) -> FileLock | None:
        try:
            lock = run_lock(run_folder(self._store, row["run"]))
            return lock if try_acquire(lock, timeout=_PATIENCE) else None
        except (RunError, OSError):
            return None


def code_version() -> str:
    """Changes when a file of the program does, or when a package is installed."""
    digest = hashlib.sha256()
    for path in sorted((REPO / "takd").rglob("*.py")):
        now = path.stat()
        digest.update(f"{path}/{now.st_mtime_ns}/{now.st_size}\n".encode())
    with contextlib.suppress(OSError):
        digest.update(str(os.stat(sysconfig.get_paths()["purelib"]).st_mtime_ns).encode())
    return digest.hexdigest()


def warm_log(store: Store) -> Path:
    """Where the idle worker prints while it has no run."""
    return _folder(store) / "log.txt"


def _possible() -> bool:
    return hasattr(os, "mkfifo") and idle_minutes() > 0 and not read_only()


def _folder(store: Store) -> Path:
    return store.root / "warm"


def _run(store: Store, run_id: str) -> Path:
    return store.root / "runs" / run_id


def _place(folder: Path) -> int | None:
    """Changes when the lock file does: a store may be deleted, or be another one under the old name."""
    try:
        return os.stat(folder / LOCK).st_ino
    except OSError:
        return None


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".json" and path.name[0] != ".")
    except OSError:
        return []


def _sum(environment: dict[str, str]) -> str:
    return hashlib.sha256(canonical_json(environment)).hexdigest()


def _texts(value: Any) -> dict[str, str]:
    """Names and texts of an order; anything else in it is left out."""
    rows = value.items() if isinstance(value, dict) else ()
    return {name: text for name, text in rows if isinstance(text, str) and name.startswith("TAKD_")}
