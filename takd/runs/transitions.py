"""The states of a run as a machine: what happens to a run, who may cause it, and where it leads.

Data only: nothing here decides anything. takd.runs.states derives a state from files and locks; tests hold the real
workers to these rows, and ARCHITECTURE.md shows them as `table()` prints them.
"""

from __future__ import annotations

from dataclasses import dataclass

from takd.runs.states import STATES

NONE = "none"  # before a run is asked for, and after it is deleted

# How a state is read from the run's lock, status.json and the file `cancel`; the first row that fits counts.
READ_FROM: dict[str, str] = {
    "done": "status says done",
    "failed": "status says failed, with its reason",
    "cancelled": "status says cancelled; or lock free, no worker on its way, and `cancel` there",
    "lost": "lock free, no worker on its way, no `cancel`",
    "cancelling": "lock held or a worker on its way, and `cancel` there",
    "queued": "lock held, status says queued",
    "running": "lock held, status says running",
    "starting": "status says starting: lock held (images are fetched), or a worker was asked for 15 s ago at most",
}


@dataclass(frozen=True)
class Event:
    """Something that happens to a run: `who` causes it (person, worker, system), and where it leads from each state in
    which it can happen. Where a state is not named, it is refused or changes nothing. `late`: only where a worker took
    longer to start than anybody waits for it."""

    name: str
    who: str
    means: str
    leads: dict[str, str]
    late: bool = False


EVENTS: tuple[Event, ...] = (
    Event("ask", "person", "a run is asked for", {NONE: "starting"}),
    Event("begin", "worker", "a worker takes the run's lock", {"starting": "queued"}),
    Event(
        "begin late",
        "worker",
        "the same after more than 15 s, when the run was given up",
        {"lost": "queued", "cancelled": "cancelling"},
        late=True,
    ),
    Event("fetch", "worker", "the images are not here and are fetched first", {"queued": "starting"}),
    Event("train", "worker", "it is the run's turn on its device", {"queued": "running"}),
    Event(
        "finish",
        "worker",
        "nothing is left to train",
        {"queued": "done", "running": "done", "cancelling": "done"},
    ),
    Event(
        "fail",
        "worker",
        "a cause with a name ends it",
        {"starting": "failed", "queued": "failed", "running": "failed", "cancelling": "failed"},
    ),
    Event(
        "cancel",
        "person",
        "a person stops it",
        {"starting": "cancelling", "queued": "cancelling", "running": "cancelling", "lost": "cancelled"},
    ),
    Event("stop", "worker", "the batch in hand is over", {"cancelling": "cancelled"}),
    Event(
        "die",
        "system",
        "kill -9, SIGTERM, a crash, the power; or no worker came in 15 s",
        {"starting": "lost", "queued": "lost", "running": "lost", "cancelling": "cancelled"},
    ),
    Event("resume", "person", "a person lets it go on", dict.fromkeys(("cancelled", "failed", "lost"), "starting")),
    Event("delete", "person", "a person forgets it", dict.fromkeys(("cancelled", "failed", "lost", "done"), NONE)),
)
BY_ITSELF = tuple(event for event in EVENTS if event.who != "person" and not event.late)


def reachable(state: str, events: tuple[Event, ...] = BY_ITSELF) -> frozenset[str]:
    """All states these events may lead to from a state, itself among them; the default is what happens while nobody
    does anything."""
    found = {state}
    while more := {event.leads[one] for event in events for one in found if one in event.leads} - found:
        found |= more
    return frozenset(found)


def after(state: str, event: str) -> frozenset[str]:
    """Where a run may be found after a person did something to it, and whatever else happened since then and before."""
    (row,) = (each for each in EVENTS if each.name == event)
    before = reachable(state)
    done = {row.leads[one] for one in before if one in row.leads}
    return frozenset(before.union(*(reachable(one) for one in done)))


def table() -> str:
    """Both tables in Markdown, as ARCHITECTURE.md has them."""
    lines = ["| state | read from |", "|---|---|"]
    lines += [f"| {state} | {why} |" for state, why in READ_FROM.items()]
    names = [NONE, *STATES]
    lines += ["", f"| event | by | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for event in EVENTS:
        cells = " | ".join(event.leads.get(name, "") for name in names)
        lines.append(f"| {event.name}: {event.means} | {event.who} | {cells} |")
    return "\n".join(lines)
