"""What a person has a detached process do, one at a time in a store and, on a public server, one per person in ten
minutes: ask for it, see how far it is, stop it.

Checks of stored numbers (verification.py) and looks inside networks (looking.py) are such jobs. The process holds a
lock while it lives and leaves its progress and its log in the job's folder.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from takd.runs import files
from takd.runs.errors import RunError
from takd.runs.launch import start_detached
from takd.runs.locks import LOCK, is_held
from takd.runs.people import Person, require_may_start
from takd.runs.policy import public
from takd.runs.states import START_SECONDS
from takd.runs.store import Store
from takd.stage import canonical_json

PROGRESS, CANCEL, LOG = "progress.json", "cancel", "log.txt"
ENDED = ("done", "cancelled", "failed")
_ASKED = "asked.json"  # when each person last asked for one
_REST = 600.0  # seconds between two of one person on a public server


@dataclass(frozen=True)
class Kind:
    """`place`: its folder below the store; `program`: the module that does it. The rest are parts of sentences: `none`
    of it can start, `it` stands before "could not be started", `one` after "You may have", `this` after "asked for"."""

    place: str
    program: str
    none: str
    it: str
    one: str
    this: str

    def folder(self, store: Store) -> Path:
        return store.root / self.place


@dataclass(frozen=True)
class Job:
    """The one that goes on, or the last one. `what` was asked for; `state` is starting, running, done, cancelled,
    failed or lost; `text` what it is at, or why it failed; `owner` the id of who asked for it."""

    id: str
    what: str
    state: str
    text: str
    owner: str

    @property
    def active(self) -> bool:
        """Whether it still goes on."""
        return self.state in ("starting", "running")


def require_writable(store: Store, kind: Kind) -> None:
    """Raises RunError where nothing can be stored."""
    if (problem := store.writable()) is not None:
        raise RunError(problem.replace("no training can start", kind.none))


def start(store: Store, kind: Kind, row: Mapping[str, Any], arguments: Sequence[str], person: Person) -> str:
    """Start the process with these arguments, `row` being its first progress; returns the job's id.

    The caller has asked whether changes are allowed, whether this person may start something, whether it can be stored
    and whether none goes on. Raises RunError for a person who has just asked for another."""
    asked, limited = _asked_lately(store, kind), public() and not person.everything
    if limited and person.id in asked:
        minutes = math.ceil((asked[person.id] + _REST - time.time()) / 60)
        raise RunError(f"You may have {kind.one} every {_REST / 60:.0f} minutes; ask again in {minutes}.")
    folder, number = kind.folder(store), secrets.token_hex(4)
    try:
        folder.mkdir(exist_ok=True)
        (folder / CANCEL).unlink(missing_ok=True)
        if limited:
            files.write_atomic(folder / _ASKED, canonical_json(asked | {person.id: time.time()}), durable=False)
        write_progress(store, kind, {**row, "id": number, "state": "starting", "owner": person.id})
        owner = ["--owner", person.id] if person.id else []
        start_detached(store, [*arguments, "--id", number, *owner], folder / LOG, kind.program)
    except OSError as error:
        raise RunError(f"{kind.it} could not be started ({error.strerror or error}).") from error
    return number


def stop(store: Store, kind: Kind, now: Job | None, person: Person) -> None:
    """Ask what goes on to stop. Raises RunError where somebody else asked for it, and where nothing can be stored."""
    require_may_start(person)
    if now is None or not now.active:
        return
    if not may_stop(now, person):
        raise RunError(f"Somebody else asked for {kind.this}, and only they can stop it. It ends by itself.")
    try:
        files.write_atomic(kind.folder(store) / CANCEL, b"", durable=False)
    except OSError as error:
        raise RunError(f"{kind.it} could not be stopped ({error.strerror or error}).") from error


def may_stop(now: Job, person: Person) -> bool:
    """Whether it is this person's to stop."""
    return not person.refused and person.owns({"owner": now.owner})


def read(store: Store, kind: Kind) -> tuple[Job, Mapping[str, Any]] | None:
    """What goes on, or how the last one ended, with the row it comes from; None where there was none. Never raises.

    A free lock without a last word means that the process is gone, however it ended.
    """
    folder = kind.folder(store)
    held = is_held(folder / LOCK)
    row = files.read_json_or_none(folder / PROGRESS)  # after the lock: the last word comes before it
    if row is None:
        return None
    state = str(row.get("state"))
    if state not in ENDED and not held and not _may_start(state, row):
        row = files.read_json_or_none(folder / PROGRESS) or row  # it may have started in between
        state = str(row.get("state"))
        if state not in ENDED and not is_held(folder / LOCK):
            state = "lost"
    texts = [str(row.get(name) or "") for name in ("id", "what", "text", "owner")]
    return Job(texts[0], texts[1], state, texts[2], texts[3]), row


def _may_start(state: str, row: Mapping[str, Any]) -> bool:
    asked = row.get("updated")
    return state == "starting" and isinstance(asked, (int, float)) and abs(time.time() - asked) < START_SECONDS


def _asked_lately(store: Store, kind: Kind) -> dict[str, float]:
    """Who asked for one in the last ten minutes, and when. One goes on at a time, so there are not many."""
    row, now = files.read_json_or_none(kind.folder(store) / _ASKED) or {}, time.time()
    return {who: float(at) for who, at in row.items() if isinstance(at, (int, float)) and 0 <= now - at < _REST}


def write_progress(store: Store, kind: Kind, row: Mapping[str, Any]) -> None:
    """Say how far it is: its process, and whoever starts one."""
    raw = canonical_json({**row, "updated": time.time()})
    files.write_atomic(kind.folder(store) / PROGRESS, raw, durable=False)
