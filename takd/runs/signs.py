"""Signs of life: how long a worker that holds its lock has written nothing, which may mean that it hangs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from takd.runs.layout import CHECKPOINT, EVENTS, PROGRESS
from takd.runs.store import Store

QUIET_SECONDS = 300.0  # a training reports twice a second; loading torch or a teacher's answers may take minutes
TOUCH_SECONDS = 10.0  # between a waiting worker's signs of life
SILENT_SECONDS = 30.0  # without one of them: those behind it go first
_RUN_FILES = ("status.json", "log.txt")
_STAGE_FILES = (PROGRESS, EVENTS, CHECKPOINT)


def silence(store: Store, folder: Path, unfinished: Iterable[str]) -> float:
    """Seconds since anything of a run or of its unfinished stages was written; 0 where the clock was set back."""
    paths = [folder / name for name in _RUN_FILES]
    paths += [store.own_folder(key) / name for key in unfinished for name in _STAGE_FILES]
    latest = max((at for path in paths if (at := _written(path)) is not None), default=None)
    return 0.0 if latest is None else max(0.0, time.time() - latest)


def quiet_sentence(seconds: float, pid: object) -> str:
    """What to say about a worker without a sign of life, and what to do."""
    process = f"process {pid}" if isinstance(pid, int) else "its worker"
    return (
        f"No sign of life for {int(seconds // 60)} minutes. If the computer was asleep, wait a moment. If not, the "
        f"training hangs: cancel the run and resume it; if it does not stop within a minute, end {process} first. "
        "Nothing finished is lost."
    )


def silent_sentence(seconds: float, pid: object) -> str:
    """What to say about a waiting worker without a sign of life, and what to do."""
    process = f"process {pid}" if isinstance(pid, int) else "its worker"
    return (
        f"No sign of life for {int(seconds)} s, so the runs behind it go first. It takes its place again when it goes "
        f"on. If it does not, end {process} and resume the run."
    )


def _written(path: Path) -> float | None:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None
