"""Whether a run may be asked for now: the server's limits on waiting runs, time and space. Asked where a run is stored,
and by the page beforehand, so that both say the same."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from takd.runs.people import Person
from takd.runs.policy import MAX_HOURS, MAX_PER_PERSON, MAX_STORE_GB, MAX_WAITING, limits
from takd.runs.states import observe, read_run_file
from takd.runs.store import Store
from takd.runs.tickets import drop_tickets, tickets

_WAITING, _ACTIVE = ("queued", "starting"), ("queued", "starting", "running")
_SIZE_SECONDS = 30.0  # how long a measured size of a store counts: looking at every file takes a while
_sizes: dict[Path, tuple[float, int]] = {}


def refusal(store: Store, person: Person, seconds: float | None, *, besides: str | None = None) -> str:
    """Why a run of this person that takes so many seconds (None: not known) is not taken; empty where it is.

    `besides` is a run that does not count, because the new one replaces it. The sentence names the limit, what it is
    now, and what to do.
    """
    most = limits()
    if person.refused:
        return person.refused
    if most.hours and seconds is not None and seconds > 3600 * most.hours:
        return (
            f"This takes about {seconds / 3600:,.1f} hours here, and a run on this server may take {most.hours:g} "
            f"({MAX_HOURS}). Choose fewer seeds, a smaller budget or smaller networks."
        )
    active = [(name, state) for name, state in active_runs(store) if name != besides]
    waiting = sum(state in _WAITING for _, state in active)
    if most.waiting and waiting >= most.waiting:
        return (
            f"{waiting} runs are waiting already, the most that this server lets wait ({MAX_WAITING}). Start yours "
            "when some of them are done."
        )
    if most.per_person and not _is_free(person):
        yours = sum(_owner(store, name) == person.id for name, _ in active)
        if yours >= most.per_person:
            return (
                f"{yours} of your runs wait or train, and one person may have {most.per_person} on this server "
                f"({MAX_PER_PERSON}). Wait until one is done, or cancel one."
            )
    if most.store_gb and (held := store_bytes(store.root)) >= most.store_gb * 1e9:
        return (
            f"The store holds {held / 1e9:,.2f} GB, and this server keeps {most.store_gb:g} GB ({MAX_STORE_GB}). Look "
            "at what is stored, or ask whoever runs the server to make room."
        )
    return ""


def _is_free(person: Person) -> bool:
    """The machine's own person is not one of many: what waits for it may come from several terminals."""
    return person.everything and not person.id and not os.environ.get(MAX_PER_PERSON)


def active_runs(store: Store) -> Iterator[tuple[str, str]]:
    """(id, state) of the own runs that wait or train, in the order of the queue."""
    for ticket in tickets(store.root):
        state = observe(store, store.root / "runs" / ticket.run_id)[0]
        if state in _ACTIVE:
            yield ticket.run_id, state


def forget_ended(store: Store) -> None:
    """Take away the tickets of runs that ended without doing it, because their worker died."""
    now = [ticket.run_id for ticket in tickets(store.root)]
    ended = [name for name in now if observe(store, store.root / "runs" / name)[0] not in (*_ACTIVE, "cancelling")]
    drop_tickets(store.root, ended)


def store_bytes(root: Path) -> int:
    """What the files of a store hold, as it was at most half a minute ago."""
    known = _sizes.get(root)
    if known is None or time.monotonic() - known[0] > _SIZE_SECONDS:
        known = _sizes[root] = (time.monotonic(), _bytes_under(root))
    return known[1]


def _bytes_under(folder: Path | str) -> int:
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += _bytes_under(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    except OSError:  # taken away in this moment
        return total
    return total


def _owner(store: Store, run_id: str) -> str:
    return str(read_run_file(store, store.root / "runs" / run_id, "experiment.json").get("owner") or "")
