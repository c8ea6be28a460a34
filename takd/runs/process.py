"""What a worker process does about itself: being asked to stop, where it prints, how much it holds."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from takd.runs.failures import utc_now

STOPPED = 4  # the exit code of a process that was asked to stop
_KILL_AFTER = 10.0  # seconds a process gets to stop by itself ($TAKD_KILL_AFTER)
_CANCEL_LOOK = 0.05
LOG_MOST = 1_000_000  # bytes of a log; what a library prints in every step would fill the disk
_LOG_HEAD, _LOG_TAIL = 200_000, 300_000
_OPEN_FILES = 4096  # a process holds a lock for each stage it trains; the usual limit on a Mac is 256


class Stop:
    """Whether to stop: asked by the cancel file, a signal, or the death of the lead. Cheap enough for every batch."""

    def __init__(self, folder: Path, lead: int | None = None) -> None:
        self.cancel_file = folder / "cancel"
        self.lead = lead
        self.asked = False
        self.signalled = False
        self._next_look = 0.0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self.asked = self.signalled = True

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self.asked and now >= self._next_look:
            self._next_look = now + _CANCEL_LOOK
            self.asked = self.cancelled() or (self.lead is not None and os.getppid() != self.lead)
        return self.asked

    def cancelled(self) -> bool:
        """Whether a person asked, and not the operating system."""
        return self.cancel_file.exists()


def watch(
    stop: Stop, ended: threading.Event, give_up: Callable[[], None], each: Callable[[], None] = lambda: None
) -> None:
    """End this process, after `give_up`, when it was asked to stop and a training does not listen. `each` is called at
    every look before that."""

    def look() -> None:
        while not ended.wait(0.1):
            each()
            if stop():
                if not ended.wait(kill_after() + 1.0):  # the lead gives its helpers kill_after seconds first
                    say("the training does not stop by itself and is ended")
                    give_up()
                    os._exit(STOPPED)
                return

    threading.Thread(target=look, name="watchdog", daemon=True).start()


def kill_after() -> float:
    """Seconds a process gets to stop by itself."""
    try:
        return float(os.environ.get("TAKD_KILL_AFTER", _KILL_AFTER))
    except ValueError:
        return _KILL_AFTER


def say(text: str) -> None:
    """One line of the log."""
    print(f"{utc_now()} [{os.getpid()}] {text}", flush=True)


def print_to(log: Path) -> None:
    """Let everything this process prints from now on be added to a log, whoever prints it."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)


def trim(log: Path) -> None:
    """Keep a log that has grown beyond LOG_MOST to its beginning and its end. It stays the same file, because several
    processes append to it; what they print in this very moment may be lost, and nothing else."""
    with contextlib.suppress(OSError):
        size = log.stat().st_size
        if size <= LOG_MOST:
            return
        with open(log, "r+b") as file:
            file.seek(size - _LOG_TAIL)
            tail = file.read()
            tail = tail[tail.find(b"\n") + 1 :]
            file.seek(_LOG_HEAD)
            file.write(b"\n[... %d bytes left out ...]\n" % (size - _LOG_HEAD - len(tail)))
            file.write(tail)
            file.truncate()


def forget_peak_memory() -> None:
    """Let the peak that a result records be that of this run (Linux; elsewhere it is the largest so far)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def memory_bytes() -> int:
    """What this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def allow_many_files() -> None:
    """Raise this process's own limit on open files where the system lets it."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
