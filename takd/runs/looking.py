"""Ask for what takes a processor seconds to minutes and is then kept for ever: loss landscapes and maps of answers of
finished stages. One request at a time in a store, and on a public server one per person in ten minutes.

A landscape loads torch and a map scikit-learn, so a detached process does it (takd.evaluation.looking). What it finds
lies in `<store>/extra-looks/<key>-<what>.json`; a cached store may bring its own.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from takd.runs import files
from takd.runs.errors import RunError
from takd.runs.launch import start_detached
from takd.runs.layout import is_key
from takd.runs.locks import LOCK, is_held
from takd.runs.people import MACHINE, Person, require_may_start
from takd.runs.policy import public, require_changes_allowed
from takd.runs.states import START_SECONDS
from takd.runs.store import Store
from takd.stage import canonical_json

PROGRAM = "takd.evaluation.looking"
WHATS = ("line", "plane", "map", "rise")  # a loss along one direction, over two, a map of the answers, how steep it is
PROGRESS, CANCEL, LOG = "progress.json", "cancel", "log.txt"
SCHEMA = 1
_ASKED = "asked.json"  # when each person last asked
_REST = 600.0  # seconds between two requests of one person on a public server
_MOST, MOST_RISES = 12, 64  # stages of one request; a rise is one number and half the work of a line
ENDED = ("done", "cancelled", "failed")


@dataclass(frozen=True)
class Looking:
    """The request that goes on, or the last one. `state` is starting, running, done, cancelled, failed or lost; `share`
    how much of it is done, from 0 to 1; `text` what it is at, or why it failed; `owner` the id of who asked."""

    id: str
    what: str
    state: str
    share: float
    text: str
    owner: str = ""

    @property
    def active(self) -> bool:
        """Whether it still goes on."""
        return self.state in ("starting", "running")


def folder(store: Store) -> Path:
    """Where looks of this store lie."""
    return store.root / "extra-looks"


def look_lock(root: Path) -> FileLock:
    """The lock of whoever computes looks: one at a time. The folder must exist."""
    return FileLock(root / "extra-looks" / LOCK, thread_local=False, fallback_to_soft=False, preserve_lock_file=True)


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
    if (problem := store.writable()) is not None:
        raise RunError(problem.replace("no training can start", "nothing can be computed"))
    if (now := looking(store)) is not None and now.active:
        raise RunError("Something is being computed already; wait for its end, or stop it.")
    asked, limited = _asked_lately(store), public() and not person.everything
    if limited and person.id in asked:
        minutes = math.ceil((asked[person.id] + _REST - time.time()) / 60)
        raise RunError(f"You may ask for one every {_REST / 60:.0f} minutes; ask again in {minutes}.")
    number = secrets.token_hex(4)
    try:
        folder(store).mkdir(exist_ok=True)
        (folder(store) / CANCEL).unlink(missing_ok=True)
        if limited:
            raw = canonical_json(asked | {person.id: time.time()})
            files.write_atomic(folder(store) / _ASKED, raw, durable=False)
        write_progress(store, {"id": number, "what": what, "state": "starting", "share": 0.0, "owner": person.id})
        owner = ["--owner", person.id] if person.id else []
        start_detached(store, ["--what", what, "--id", number, *owner, *keys], folder(store) / LOG, PROGRAM)
    except OSError as error:
        raise RunError(f"It could not be started ({error.strerror or error}).") from error
    return number


def stop(store: Store, person: Person = MACHINE) -> None:
    """Ask what goes on to stop; what is finished of it is kept.

    Raises RunError where somebody else asked for it, and where nothing can be stored.
    """
    require_changes_allowed()
    require_may_start(person)
    now = looking(store)
    if now is None or not now.active:
        return
    if not may_stop(now, person):
        raise RunError("Somebody else asked for this, and only they can stop it. It ends by itself.")
    try:
        files.write_atomic(folder(store) / CANCEL, b"", durable=False)
    except OSError as error:
        raise RunError(f"It could not be stopped ({error.strerror or error}).") from error


def may_stop(now: Looking, person: Person) -> bool:
    """Whether it is this person's to stop."""
    return not person.refused and person.owns({"owner": now.owner})


def looking(store: Store) -> Looking | None:
    """What goes on, or how the last request ended; None where there was none. Never raises.

    A free lock without a last word means that the process is gone, however it ended.
    """
    held = is_held(folder(store) / LOCK)
    row = files.read_json_or_none(folder(store) / PROGRESS)  # after the lock: the last word comes before it
    if row is None:
        return None
    state = str(row.get("state"))
    if state not in ENDED and not held and not _may_start(state, row):
        row = files.read_json_or_none(folder(store) / PROGRESS) or row  # it may have started in between
        state = str(row.get("state"))
        if state not in ENDED and not is_held(folder(store) / LOCK):
            state = "lost"
    share = row.get("share")
    share = min(1.0, max(0.0, float(share))) if isinstance(share, (int, float)) and math.isfinite(share) else 0.0
    texts = [str(row.get(name) or "") for name in ("id", "what", "text", "owner")]
    return Looking(texts[0], texts[1], state, share, texts[2], texts[3])


def _may_start(state: str, row: Mapping[str, Any]) -> bool:
    asked = row.get("updated")
    return state == "starting" and isinstance(asked, (int, float)) and abs(time.time() - asked) < START_SECONDS


def _asked_lately(store: Store) -> dict[str, float]:
    """Who asked in the last ten minutes, and when. One goes on at a time, so there are not many."""
    row, now = files.read_json_or_none(folder(store) / _ASKED) or {}, time.time()
    return {who: float(at) for who, at in row.items() if isinstance(at, (int, float)) and 0 <= now - at < _REST}


def write_progress(store: Store, row: Mapping[str, Any]) -> None:
    """Say how far it is: its process, and whoever starts one."""
    raw = canonical_json({**row, "updated": time.time()})
    files.write_atomic(folder(store) / PROGRESS, raw, durable=False)
