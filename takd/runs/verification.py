"""Ask for a check of stored numbers, see how far it is, stop it. One at a time in a store, and on a public server one
per person in ten minutes.

The check loads torch, so a detached process does it (takd.evaluation.verifier), whoever asks. It holds a lock while it
lives and leaves its progress and log in `<store>/verified/`; what it found is a stamp (takd.runs.stamps).
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from takd.runs import files
from takd.runs.errors import RunError
from takd.runs.launch import start_detached
from takd.runs.locks import LOCK, is_held
from takd.runs.people import MACHINE, Person, require_may_start
from takd.runs.policy import public, require_changes_allowed
from takd.runs.stamps import stamps_folder
from takd.runs.states import START_SECONDS, run_info
from takd.runs.store import Store
from takd.stage import canonical_json

PROGRAM = "takd.evaluation.verifier"
PROGRESS, CANCEL, LOG = "progress.json", "cancel", "log.txt"
_ASKED = "asked.json"  # when each person last asked for one
_REST = 600.0  # seconds between two checks of one person on a public server
ENDED = ("done", "cancelled", "failed")


@dataclass(frozen=True)
class Verification:
    """The check that goes on, or the last one. `what` is a run's id, empty for everything; `state` is starting,
    running, done, cancelled, failed or lost; `text` the stage it looks at, or why it failed; `owner` the id of who
    asked for it."""

    id: str
    what: str
    state: str
    done: int
    total: int
    text: str
    owner: str = ""

    @property
    def active(self) -> bool:
        """Whether it still goes on."""
        return self.state in ("starting", "running")

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1."""
        return min(1.0, self.done / max(1, self.total))


def start(store: Store, run_id: str = "", person: Person = MACHINE) -> str:
    """Start checking a run, or everything; returns the id of the check.

    Raises RunError for an unknown run, for a person who may start nothing or has just asked for another, where another
    check goes on, and where nothing can be stored.
    """
    require_changes_allowed()
    require_may_start(person)
    if run_id:
        run_info(store, run_id)
    if (problem := store.writable()) is not None:
        raise RunError(problem.replace("no training can start", "no check can start"))
    if (now := verification(store)) is not None and now.active:
        raise RunError(f"A check of {now.what or 'everything'} is going on; wait for its end, or stop it.")
    asked, limited = _asked_lately(store), public() and not person.everything
    if limited and person.id in asked:
        minutes = math.ceil((asked[person.id] + _REST - time.time()) / 60)
        raise RunError(f"You may have a check here every {_REST / 60:.0f} minutes; ask again in {minutes}.")
    folder, number = stamps_folder(store), secrets.token_hex(4)
    try:
        folder.mkdir(exist_ok=True)
        (folder / CANCEL).unlink(missing_ok=True)
        if limited:
            files.write_atomic(folder / _ASKED, canonical_json(asked | {person.id: time.time()}), durable=False)
        row = {"id": number, "what": run_id, "state": "starting", "done": 0, "total": 0, "owner": person.id}
        write_progress(store, row)
        what = ["--run", run_id] if run_id else ["--all"]
        owner = ["--owner", person.id] if person.id else []
        start_detached(store, [*what, "--id", number, *owner], folder / LOG, PROGRAM)
    except OSError as error:
        raise RunError(f"The check could not be started ({error.strerror or error}).") from error
    return number


def stop(store: Store, person: Person = MACHINE) -> None:
    """Ask the check that goes on to stop: it does after the stage it looks at, and keeps nothing.

    Raises RunError where somebody else asked for it, and where nothing can be stored.
    """
    require_changes_allowed()
    require_may_start(person)
    now = verification(store)
    if now is None or not now.active:
        return
    if not may_stop(now, person):
        raise RunError("Somebody else asked for this check, and only they can stop it. It ends by itself.")
    try:
        files.write_atomic(stamps_folder(store) / CANCEL, b"", durable=False)
    except OSError as error:
        raise RunError(f"The check could not be stopped ({error.strerror or error}).") from error


def may_stop(now: Verification, person: Person) -> bool:
    """Whether a check is this person's to stop."""
    return not person.refused and person.owns({"owner": now.owner})


def _asked_lately(store: Store) -> dict[str, float]:
    """Who asked for a check in the last ten minutes, and when. One goes on at a time, so there are not many."""
    row, now = files.read_json_or_none(stamps_folder(store) / _ASKED) or {}, time.time()
    return {who: float(at) for who, at in row.items() if isinstance(at, (int, float)) and 0 <= now - at < _REST}


def verification(store: Store) -> Verification | None:
    """The check that goes on, or how the last one ended; None where there was none. Never raises.

    A free lock without a last word means that the process is gone, however it ended.
    """
    held = is_held(stamps_folder(store) / LOCK)
    row = files.read_json_or_none(stamps_folder(store) / PROGRESS)  # after the lock: the last word comes before it
    if row is None:
        return None
    state = str(row.get("state"))
    if state not in ENDED and not held and not _may_start(state, row):
        row = files.read_json_or_none(stamps_folder(store) / PROGRESS) or row  # it may have started in between
        state = str(row.get("state"))
        if state not in ENDED and not is_held(stamps_folder(store) / LOCK):
            state = "lost"
    numbers = [value if type(value := row.get(name)) is int else 0 for name in ("done", "total")]
    texts = [str(row.get(name) or "") for name in ("id", "what", "text", "owner")]
    return Verification(texts[0], texts[1], state, numbers[0], numbers[1], texts[2], texts[3])


def _may_start(state: str, row: Mapping[str, Any]) -> bool:
    asked = row.get("updated")
    return state == "starting" and isinstance(asked, (int, float)) and abs(time.time() - asked) < START_SECONDS


def write_progress(store: Store, row: Mapping[str, Any]) -> None:
    """Say how far a check is: its process, and whoever starts one."""
    raw = canonical_json({**row, "updated": time.time()})
    files.write_atomic(stamps_folder(store) / PROGRESS, raw, durable=False)
