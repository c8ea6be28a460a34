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


def watch(stop: Stop, ended: threading.Event, give_up: Callable[[], None]) -> None:
    """End this process, after `give_up`, when it was asked to stop and a training does not listen."""

    def look() -> None:
        while not ended.wait(0.1):
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
