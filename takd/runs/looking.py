"""Ask for what takes a processor seconds to minutes and is then kept for ever: loss landscapes and maps of answers of
finished stages. A job (takd.runs.jobs).

A landscape loads torch and a map scikit-learn, so a detached process does it (takd.evaluation.looking). What it finds
lies in `<store>/extra-looks/<key>-<what>.json`; a cached store may bring its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from takd.runs import files, jobs
from takd.runs.errors import RunError
from takd.runs.jobs import Job, Kind
from takd.runs.layout import is_key
from takd.runs.people import MACHINE, Person, require_may_start
from takd.runs.policy import require_changes_allowed
from takd.runs.store import Store
from takd.stage import canonical_json

PROGRAM = "takd.evaluation.looking"
WHATS = ("line", "plane", "map", "rise")  # a loss along one direction, over two, a map of the answers, how steep it is
SCHEMA = 1
_KIND = Kind("extra-looks", PROGRAM, "nothing can be computed", "It", "one", "this")
_MOST, MOST_RISES = 12, 64  # stages of one request; a rise is one number and half the work of a line


@dataclass(frozen=True)
class Looking(Job):
    """A request: `what` is one of WHATS; `share` how much of it is done, from 0 to 1."""

    share: float = 0.0


def folder(store: Store) -> Path:
    """Where looks of this store lie."""
    return _KIND.folder(store)


def read_look(store: Store, key: str, what: str) -> dict[str, Any] | None:
    """What was found out about a stage, from whichever store has it; None where nothing is stored or it is damaged."""
    if not is_key(key) or what not in WHATS:
        return None
    for root in (store.root, *store.cached):
        row = files.read_json_or_none(root / "extra-looks" / f"{key}-{what}.json")
        if row is not None and row.get("schema") == SCHEMA and row.get("key") == key and row.get("what") == what:
            return row
    return None


def write_look(store: Store, key: str, what: str, row: Mapping[str, Any]) -> None:
    """Keep what was found out about a stage."""
    raw = canonical_json({**row, "schema": SCHEMA, "key": key, "what": what})
    files.write_atomic(folder(store) / f"{key}-{what}.json", raw)


def start(store: Store, what: str, keys: Sequence[str], person: Person = MACHINE) -> str:
    """Start looking at stages; returns the id of the request.

    Raises RunError for something else than finished stages, for a person who may start nothing or has just asked,
    where another request goes on, and where nothing can be stored.
    """
    require_changes_allowed()
    require_may_start(person)
    most = MOST_RISES if what == "rise" else _MOST
    if what not in WHATS or not keys or len(keys) > most or not all(map(is_key, keys)):
        raise RunError(f"That cannot be computed: name one to {most} finished stages.")
    if not all(store.is_done(key) for key in keys):
        raise RunError("One of these networks is not trained yet; train it first.")
    jobs.require_writable(store, _KIND)
    if (now := looking(store)) is not None and now.active:
        raise RunError("Something is being computed already; wait for its end, or stop it.")
    return jobs.start(store, _KIND, {"what": what, "share": 0.0}, ["--what", what, *keys], person)


def stop(store: Store, person: Person = MACHINE) -> None:
    """Ask what goes on to stop; what is finished of it is kept.

    Raises RunError where somebody else asked for it, and where nothing can be stored.
    """
    require_changes_allowed()
    jobs.stop(store, _KIND, looking(store), person)


def looking(store: Store) -> Looking | None:
    """What goes on, or how the last request ended; None where there was none. Never raises."""
    found = jobs.read(store, _KIND)
    if found is None:
        return None
    job, row = found
    share = row.get("share")
    share = min(1.0, max(0.0, float(share))) if isinstance(share, (int, float)) and math.isfinite(share) else 0.0
    return Looking(job.id, job.what, job.state, job.text, job.owner, share)


def write_progress(store: Store, row: Mapping[str, Any]) -> None:
    """Say how far it is: its process."""
    jobs.write_progress(store, _KIND, row)
