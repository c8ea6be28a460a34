"""Ask for a check of stored numbers, see how far it is, stop it: a job (takd.runs.jobs).

The check loads torch, so a detached process does it (takd.evaluation.verifier), whoever asks. Its folder is
`<store>/verified/`; what it found is a stamp (takd.runs.stamps).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from takd.runs import jobs
from takd.runs.errors import RunError
from takd.runs.jobs import Job, Kind
from takd.runs.people import MACHINE, Person, require_may_start
from takd.runs.policy import require_changes_allowed
from takd.runs.states import run_info
from takd.runs.store import Store

PROGRAM = "takd.evaluation.verifier"
_KIND = Kind("verified", PROGRAM, "no check can start", "The check", "a check here", "this check")


@dataclass(frozen=True)
class Verification(Job):
    """A check: `what` is a run's id, empty for everything, `text` the stage it looks at, or why it failed."""

    done: int = 0
    total: int = 0

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1."""
        return min(1.0, self.done / max(1, self.total))


def start(store: Store, run_id: str = "", person: Person = MACHINE, again: float = 0.0) -> str:
    """Start checking a run, or everything, and train large networks of the library again for that many seconds; returns
    the id of the check.

    Raises RunError for an unknown run, for a person who may start nothing or has just asked for another, where another
    check goes on, and where nothing can be stored.
    """
    require_changes_allowed()
    require_may_start(person)
    if run_id:
        run_info(store, run_id)
    jobs.require_writable(store, _KIND)
    if (now := verification(store)) is not None and now.active:
        raise RunError(f"A check of {now.what or 'everything'} is going on; wait for its end, or stop it.")
    what = ["--run", run_id] if run_id else ["--all"]
    more = ["--again", str(again)] if again else []
    return jobs.start(store, _KIND, {"what": run_id, "done": 0, "total": 0}, [*what, *more], person)


def stop(store: Store, person: Person = MACHINE) -> None:
    """Ask the check that goes on to stop: it does after the stage it looks at, and keeps nothing.

    Raises RunError where somebody else asked for it, and where nothing can be stored.
    """
    require_changes_allowed()
    jobs.stop(store, _KIND, verification(store), person)


def verification(store: Store) -> Verification | None:
    """The check that goes on, or how the last one ended; None where there was none. Never raises."""
    found = jobs.read(store, _KIND)
    if found is None:
        return None
    job, row = found
    done, total = (value if type(value := row.get(name)) is int else 0 for name in ("done", "total"))
    return Verification(job.id, job.what, job.state, job.text, job.owner, done, total)


def write_progress(store: Store, row: Mapping[str, Any]) -> None:
    """Say how far a check is: its process."""
    jobs.write_progress(store, _KIND, row)
