"""The queue as people see it: who is before whom, about when a run starts, and how its owner moves it.

A person moves runs of their own among the places these have, or to the very end, and so never ahead of anybody else;
the machine's own person moves every run anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from filelock import Timeout

from takd.runs.errors import RunError
from takd.runs.estimates import estimate_of
from takd.runs.limits import active_runs
from takd.runs.locks import queue_lock
from takd.runs.people import MACHINE, Person, require_owner
from takd.runs.policy import require_changes_allowed
from takd.runs.states import RunInfo, positions, read_run_file, run_folder, run_or_none
from takd.runs.store import Store
from takd.runs.tickets import Ticket, change_places, tickets

MOVES = ("front", "up", "down", "back")
_PATIENCE = 2.0  # seconds with somebody else who changes the order
_KEPT = 200  # estimates remembered


@dataclass(frozen=True)
class Queued:
    """A run that trains or waits. `left`: seconds it still needs by itself; `starts_in`: seconds until those before it
    are done, 0 for one that trains. Both are None where its plan is not made yet, or that of one before it.
    `moves`: where the person who asked may move it."""

    run: RunInfo
    left: float | None
    starts_in: float | None
    moves: tuple[str, ...]


def queue(store: Store, person: Person = MACHINE) -> list[Queued]:
    """Runs that train, then those that wait in their order. What two of them share is trained by the first."""
    line = positions(store)
    runs = [info for name, _ in active_runs(store) if (info := run_or_none(store, name, line)) is not None]
    runs.sort(key=lambda run: run.state in ("queued", "starting"))  # stable: the order of the queue is kept
    mine = [run.id for run in runs if run.position is not None and _may_move(person, run)]
    last = next((run.id for run in reversed(runs) if run.position is not None), "")
    free: dict[str, float | None] = {}
    planned: set[str] = set()
    found = []
    for run in runs:
        device = run.device or "cpu"
        left = _seconds_left(store, run, planned)
        planned.update(run.keys)
        before = free.get(device, 0.0)
        waits = run.position is not None
        found.append(Queued(run, left, before if waits else 0.0, _moves(run.id, mine, last) if waits else ()))
        if not (waits and run.cause == "quiet"):  # those behind a worker that hangs do not wait for it
            free[device] = None if left is None or before is None else before + left
    return found


def _may_move(person: Person, run: RunInfo) -> bool:
    return not person.refused and person.owns({"owner": run.owner})


def _moves(run_id: str, mine: list[str], last: str) -> tuple[str, ...]:
    """The moves that change something."""
    if run_id not in mine:
        return ()
    place = mine.index(run_id)
    earlier = ("front", "up") if place > 0 else ()
    later = ("down",) if place < len(mine) - 1 else ()
    return (*earlier, *later, *(("back",) if run_id != last else ()))


_left: dict[tuple[object, ...], float] = {}


def _seconds_left(store: Store, run: RunInfo, planned: set[str]) -> float | None:
    """What a run still has to train, without what those before it train; None where its plan is not made yet."""
    if not run.keys:
        return None
    todo = tuple(key for key in run.keys if key not in planned and not store.is_done(key))
    name = (store.root, run.id, todo, run.device, run.processes)
    if (seconds := _left.get(name)) is None:
        stages = {key: stage for key in run.keys if (stage := store.stage(key)) is not None}
        wanted = {key: stages[key] for key in todo if key in stages}
        seconds = estimate_of(wanted, stages, store, run.processes or None, run.device or None).seconds
        if len(_left) >= _KEPT:
            _left.clear()
        _left[name] = seconds
    done = sum(_share(progress) for key, progress in run.current if key in todo)
    return seconds * max(0.0, 1.0 - done / max(1, len(todo)))


def _share(progress: Mapping[str, Any]) -> float:
    """How much of a training is done, from 0 to 1, by its last word."""
    try:
        return min(
            1.0,
            max(0.0, (progress["epoch"] - 1 + progress.get("step", 0) / progress.get("steps", 1)) / progress["epochs"]),
        )
    except (KeyError, TypeError, ZeroDivisionError):
        return 0.0


def move(store: Store, run_id: str, to: str, person: Person = MACHINE) -> None:
    """Move a waiting run to the `front`, one place `up` or `down`, or to the `back`.

    Workers look at the order anew each time, so nothing has to be told to them. Raises RunError when the run does not
    wait, is somebody else's, or the order cannot be changed.
    """
    require_changes_allowed()
    if to not in MOVES:
        raise RunError(f"{to[:20]!r} is no place in the queue; choose one of {', '.join(MOVES)}.")
    require_owner(person, read_run_file(store, run_folder(store, run_id), "experiment.json"), run_id)
    if run_id not in [ticket.run_id for ticket in _line(store)]:
        raise RunError(f"Run {run_id} does not wait in the queue, so it cannot be moved.")
    try:
        with queue_lock(store.root).acquire(timeout=_PATIENCE):
            change_places(store.root, _places(store, list(_line(store)), run_id, to, person))
    except Timeout as error:
        raise RunError("Somebody else is changing the order of the queue; try again.") from error
    except OSError as error:
        raise RunError(f"The order could not be changed ({error.strerror or error}); look at it again.") from error


def _line(store: Store) -> Iterator[Ticket]:
    """Tickets of the runs that wait, in order."""
    waiting = {name for name, state in active_runs(store) if state in ("queued", "starting")}
    return (ticket for ticket in tickets(store.root) if ticket.run_id in waiting)


def _places(store: Store, line: list[Ticket], run_id: str, to: str, person: Person) -> dict[str, int]:
    """The places that change, by run."""
    if to == "back":
        last = line[-1]
        return {} if last.run_id == run_id else {run_id: max(int(1e6 * time.time()), last.place + 1)}
    mine = [ticket for ticket in line if person.owns(_experiment(store, ticket.run_id))]
    order = [ticket.run_id for ticket in mine]
    if run_id not in order:  # it began in this moment
        return {}
    place = order.index(run_id)
    order.insert({"front": 0, "up": max(0, place - 1), "down": place + 1}[to], order.pop(place))
    changed, slot = {}, 0
    for name, ticket in zip(order, mine, strict=True):
        slot = max(ticket.place, slot + 1)
        if name != ticket.run_id:
            changed[name] = slot
    return changed


def _experiment(store: Store, run_id: str) -> Mapping[str, Any]:
    return read_run_file(store, store.root / "runs" / run_id, "experiment.json")
