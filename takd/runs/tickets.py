"""Tickets: an empty file for every run that was asked for and has not ended, so that looking at the queue costs what
the queue is long, however many runs the library holds.

`<store>/queue/<run id>.<place>`: the place is the moment the run was asked for, in microseconds since 1970, unless it
was moved. It is in the name, so one look at the folder gives the order, and moving is renaming. A worker that waits
touches its ticket, which is its sign of life. A ticket is a hint and never the truth: what a run is doing follows from
its own files and lock, and a slot is given by its lock alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"([a-z0-9][a-z0-9-]{0,63})\.([0-9]{1,20})")  # a run's id (layout.RUN_ID) and a place


@dataclass(frozen=True)
class Ticket:
    """`place`: smaller is earlier. `silent`: seconds since the ticket was drawn or touched."""

    run_id: str
    place: int
    silent: float

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.run_id}.{self.place}"


def tickets(root: Path) -> list[Ticket]:
    """All tickets of a store in the order of the queue; nothing where there are none. Never raises."""
    found: dict[str, Ticket] = {}
    now = time.time()
    try:
        with os.scandir(root / "queue") as entries:
            for entry in entries:
                if (name := _NAME.fullmatch(entry.name)) is None:
                    continue
                with contextlib.suppress(OSError):  # taken away in this moment
                    touched = entry.stat(follow_symlinks=False).st_mtime
                    ticket = Ticket(name[1], int(name[2]), max(0.0, now - touched))
                    if ticket.run_id not in found or ticket.place < found[ticket.run_id].place:
                        found[ticket.run_id] = ticket
    except OSError:
        return []
    return sorted(found.values(), key=lambda ticket: (ticket.place, ticket.run_id))


def ticket_of(root: Path, run_id: str) -> Ticket | None:
    """The ticket of one run."""
    return next((ticket for ticket in tickets(root) if ticket.run_id == run_id), None)


def draw_ticket(root: Path, run_id: str) -> None:
    """Put a run behind all others. Raises OSError where nothing can be stored."""
    (root / "queue").mkdir(parents=True, exist_ok=True)
    place = max([int(1e6 * time.time()), *(ticket.place + 1 for ticket in tickets(root))])
    drop_tickets(root, [run_id])
    (root / "queue" / f"{run_id}.{place}").touch()


def change_places(root: Path, places: Mapping[str, int]) -> None:
    """Give runs other places; what was the last sign of life of their workers remains it. Raises OSError."""
    now = {ticket.run_id: ticket for ticket in tickets(root)}
    for run_id, place in places.items():
        if run_id in now:
            os.rename(root / "queue" / now[run_id].name, root / "queue" / f"{run_id}.{place}")


def touch_ticket(root: Path, run_id: str) -> None:
    """A sign of life of a worker that waits; a ticket that is gone is drawn anew. Nothing happens where it cannot be
    written: the run then waits without one."""
    with contextlib.suppress(OSError):
        for _ in range(2):  # it may be moved in this moment
            if (ticket := ticket_of(root, run_id)) is None:
                continue
            with contextlib.suppress(FileNotFoundError):
                os.utime(root / "queue" / ticket.name)
                return
        draw_ticket(root, run_id)


def drop_tickets(root: Path, run_ids: Iterable[str]) -> None:
    """Take tickets away, of runs that have ended or are gone."""
    gone = set(run_ids)
    for ticket in tickets(root) if gone else ():
        if ticket.run_id in gone:
            with contextlib.suppress(OSError):
                (root / "queue" / ticket.name).unlink(missing_ok=True)
