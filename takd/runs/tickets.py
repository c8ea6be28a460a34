"""Tickets: a small file for every run that was asked for and has not ended, so that looking at the queue costs what the
queue is long, however many runs the library holds.

`<store>/queue/<run id>.json` holds the run's place (seconds since 1970 of the moment it was asked for, unless it was
moved); a worker that waits touches it, which is its sign of life. A ticket is a hint and never the truth: what a run is
doing follows from its own files and lock, and a slot is given by its lock alone.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from takd.runs import files
from takd.runs.layout import RUN_ID
from takd.stage import canonical_json

_SCHEMA = 1
_SUFFIX = ".json"
LEAST_STEP = 1e-4  # seconds between two places


@dataclass(frozen=True)
class Ticket:
    """`place`: smaller is earlier. `silent`: seconds since the ticket was written or touched."""

    run_id: str
    place: float
    silent: float


def tickets(root: Path) -> list[Ticket]:
    """All tickets of a store in the order of the queue; nothing where there are none. Never raises."""
    found = []
    now = time.time()
    try:
        with os.scandir(root / "queue") as entries:
            for entry in entries:
                name = entry.name.removesuffix(_SUFFIX)
                if name == entry.name or not RUN_ID.fullmatch(name):
                    continue
                with contextlib.suppress(OSError):  # taken away in this moment
                    touched = entry.stat(follow_symlinks=False).st_mtime
                    found.append(Ticket(name, _place(root, name, touched), max(0.0, now - touched)))
    except OSError:
        return []
    return sorted(found, key=lambda ticket: (ticket.place, ticket.run_id))


def _place(root: Path, run_id: str, otherwise: float) -> float:
    value = (files.read_json_or_none(_path(root, run_id)) or {}).get("place")
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else otherwise


def draw_ticket(root: Path, run_id: str) -> None:
    """Put a run behind all others. Raises OSError where nothing can be stored."""
    last = max((ticket.place for ticket in tickets(root)), default=0.0)
    _write(root, run_id, max(time.time(), last + LEAST_STEP))


def change_places(root: Path, places: Mapping[str, float]) -> None:
    """Give runs other places; what was the last sign of life of their workers remains it. Raises OSError."""
    for run_id, place in places.items():
        path = _path(root, run_id)
        touched = os.stat(path).st_mtime_ns
        _write(root, run_id, place)
        os.utime(path, ns=(touched, touched))


def _write(root: Path, run_id: str, place: float) -> None:
    (root / "queue").mkdir(parents=True, exist_ok=True)
    files.write_atomic(_path(root, run_id), canonical_json({"schema": _SCHEMA, "place": place}), durable=False)


def touch_ticket(root: Path, run_id: str) -> None:
    """A sign of life of a worker that waits; a ticket that is not there is drawn. Nothing happens where it cannot be
    written: the run then waits without one."""
    with contextlib.suppress(OSError):
        try:
            os.utime(_path(root, run_id))
        except FileNotFoundError:
            draw_ticket(root, run_id)


def drop_tickets(root: Path, run_ids: Iterable[str]) -> None:
    """Take tickets away, of runs that have ended or are gone."""
    for run_id in run_ids:
        with contextlib.suppress(OSError):
            _path(root, run_id).unlink(missing_ok=True)


def _path(root: Path, run_id: str) -> Path:
    return root / "queue" / f"{run_id}{_SUFFIX}"
