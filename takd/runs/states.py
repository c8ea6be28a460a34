"""What a run is doing, derived from its files and its lock alone, so that no run can stay "running" after a crash."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from takd.runs import files
from takd.runs.causes import unwritable
from takd.runs.errors import RunError
from takd.runs.locks import LOCK, is_held
from takd.runs.signs import QUIET_SECONDS, SILENT_SECONDS, quiet_sentence, silence, silent_sentence
from takd.runs.store import RUN_ID, Store, is_key
from takd.runs.tickets import ticket_of, tickets
from takd.stage import canonical_json

START_SECONDS = 15.0  # a worker that has not taken its lock by then did not start
RUN_SCHEMA = 1


@dataclass(frozen=True)
class RunState:
    """One row of the table of states. `icon` is the name of a Material symbol; `active` runs have a worker."""

    name: str
    icon: str
    word: str
    next_action: str
    active: bool


STATES: dict[str, RunState] = {
    row.name: row
    for row in (
        RunState("queued", "schedule", "Queued", "Starts by itself when the run before it ends.", True),
        RunState("starting", "hourglass_top", "Starting", "Wait a moment: the training program is starting.", True),
        RunState("running", "play_circle", "Running", "Watch it, or close the page: it goes on without you.", True),
        RunState("cancelling", "pause_circle", "Stopping", "Wait a moment: it stops after the current batch.", True),
        RunState("cancelled", "cancel", "Cancelled", "Resume it: finished trainings are kept.", False),
        RunState("done", "check_circle", "Done", "Look at the results.", False),
        RunState("failed", "error", "Failed", "Fix what the reason names, then resume.", False),
        RunState("lost", "link_off", "Interrupted", "Resume it: it continues from the last checkpoint.", False),
    )
}
FINAL = ("done", "failed", "cancelled")
_LOST = "The training program ended without a word (the computer was switched off, or the program was stopped)."
_NOT_STARTED = "The training program did not start; the log says why."


@dataclass(frozen=True)
class RunInfo:
    """One run as it is now.

    `spec` holds the choices as JSON values. `reason` is a sentence where the state needs one, `cause` its one-word
    class. Times are UTC in ISO form. `current` are the stages being trained with their progress; `position` is the
    place in the queue (1 starts next) of a waiting run; `asked_by` is a name to show, `owner` the short id of whose it
    is (people.py); `origin` is live, cached or imported.
    """

    id: str
    spec: Mapping[str, Any]
    state: str
    reason: str
    cause: str
    created: str
    started: str | None
    finished: str | None
    stages_total: int
    stages_done: int
    current: tuple[tuple[str, dict[str, Any]], ...]
    position: int | None
    asked_by: str
    owner: str
    note: str
    origin: str
    device: str
    processes: int
    keys: tuple[str, ...]

    @property
    def look(self) -> RunState:
        """Icon, word and next action."""
        return STATES[self.state]


def run_folder(store: Store, run_id: str) -> Path:
    """The folder of a run: own root first, then cached ones, then imported ones. Raises RunError when there is none."""
    if isinstance(run_id, str) and RUN_ID.fullmatch(run_id):
        for root in store.roots:
            if (root / "runs" / run_id / "experiment.json").is_file():
                return root / "runs" / run_id
    raise RunError(f"There is no run {str(run_id)[:40]!r} here; choose one from the list of runs.")


def run_info(store: Store, run_id: str, line: Mapping[str, int] | None = None) -> RunInfo:
    """Everything a page says about a run. `line` is what `positions` gave, for those who ask about many.

    Raises RunError when there is no such run or it cannot be read.
    """
    folder = run_folder(store, run_id)
    experiment = read_run_file(store, folder, "experiment.json")
    if not isinstance(experiment.get("spec"), dict):
        raise RunError(f"experiment.json of run {run_id} is damaged; delete the run and start it again.")
    origin = _origin(store, folder)
    own, store = origin == "live", seen_by(store, origin)
    keys = plan_keys(store, folder)
    # The state first: stages that end between the two looks are then too many for it, never too few
    state, status = observe(store, folder) if own else ("", read_status(folder))
    listed = line is not None and state == "done"  # in a list nobody asks which stages these were
    done = [listed or store.is_done(key) for key in keys]
    state = state or ("done" if all(done) else "lost")
    reason, cause = str(status.get("reason") or ""), str(status.get("class") or "")
    if state == "lost":
        generic = _NOT_STARTED if status.get("state") == "starting" else _LOST
        cause, reason = (unwritable(store) if own else None) or ("lost", generic)
    unfinished = [key for key, ready in zip(keys, done, strict=True) if not ready]
    if state in ("running", "cancelling") and (quiet := silence(store, folder, unfinished)) > QUIET_SECONDS:
        reason, cause = quiet_sentence(quiet, status.get("pid")), "quiet"
    waits = state in ("queued", "starting") and own
    if waits and (silent := _silent(store, run_id)) > SILENT_SECONDS:
        reason, cause = silent_sentence(silent, status.get("pid")), "quiet"
    active = STATES[state].active
    return RunInfo(
        id=run_id,
        spec=experiment["spec"],
        state=state,
        reason=reason,
        cause=cause,
        created=str(experiment.get("created") or ""),
        started=status.get("started"),
        finished=status.get("finished"),
        stages_total=len(keys),
        stages_done=sum(done),
        current=_current(store, unfinished) if active and not waits else (),
        position=_position(store, run_id, line) if waits else None,
        asked_by=str(experiment.get("asked_by") or ""),
        owner=str(experiment.get("owner") or ""),
        note=str(experiment.get("note") or ""),
        origin=origin,
        device=str(status.get("device") or ""),
        processes=_whole(status.get("processes")),
        keys=keys,
    )


def _whole(value: Any) -> int:
    return value if type(value) is int else 0  # a damaged status never keeps a list of runs from being shown


def run_or_none(store: Store, run_id: str, line: Mapping[str, int] | None = None) -> RunInfo | None:
    """run_info, or None where there is no such run (any more) or it cannot be read."""
    try:
        return run_info(store, run_id, line)
    except RunError:
        return None


def seen_by(store: Store, origin: str) -> Store:
    """The store in which a run of this origin finds its stages: only imported ones are done by what was imported."""
    return store if origin == "imported" else store.without_imports


def _origin(store: Store, folder: Path) -> str:
    root = folder.parent.parent
    return "live" if root == store.root else "imported" if root == store.imported else "cached"


def _position(store: Store, run_id: str, line: Mapping[str, int] | None) -> int:
    now = positions(store) if line is None else line
    return now.get(run_id, len(now) + 1)  # without a ticket: it has just been asked for, or the ticket was deleted


def list_runs(store: Store, limit: int = 500) -> list[RunInfo]:
    """The newest runs first, cached and imported ones among them; runs that cannot be read are left out (see
    Store.broken)."""
    names = {name for root in store.roots for name in run_ids(root)}
    line = positions(store)
    found = [run for name in sorted(names, reverse=True)[:limit] if (run := run_or_none(store, name, line)) is not None]
    return sorted(found, key=lambda run: (run.created, run.id), reverse=True)


def log_tail(store: Store, run_id: str, lines: int = 40) -> str:
    """The last lines of a run's log; plain text, to be shown as code. Raises RunError when there is no such run."""
    path = run_folder(store, run_id) / "log.txt"
    try:
        size = path.stat().st_size
    except OSError:
        return ""
    raw = files.read_bytes_or_none(path, max(0, size - 64_000)) or b""
    return "\n".join(raw.decode("utf-8", "replace").splitlines()[-lines:])


def observe(store: Store, folder: Path) -> tuple[str, dict[str, Any]]:
    """(state, status.json) of a run in the own root.

    The lock is looked at before the status: a worker writes its last status before it lets go, so a free lock means
    the status is final. A worker that starts between the two looks is caught by looking again.
    """
    status = read_status(folder)
    if status.get("state") in FINAL:  # most runs of a library; a last word stays true whoever holds the lock
        return str(status["state"]), status
    held = is_held(folder / LOCK)
    status = read_status(folder)
    if status.get("state") in FINAL:
        return str(status["state"]), status
    cancel = (folder / "cancel").exists()
    if not held and not _may_start(status, folder):
        held, status = is_held(folder / LOCK), read_status(folder)
        if status.get("state") in FINAL:
            return str(status["state"]), status
        if not held:
            return ("cancelled" if cancel else "lost"), status
    if cancel:
        return "cancelling", status
    state = str(status.get("state"))
    return (state if state in ("queued", "running") and held else "starting"), status


def _may_start(status: Mapping[str, Any], folder: Path) -> bool:
    """Whether a worker without a lock may still be on its way."""
    if status.get("state") not in (None, "starting"):
        return False
    asked = status.get("requested")
    try:
        since = float(asked) if isinstance(asked, (int, float)) else folder.stat().st_mtime
    except OSError:
        return False
    return abs(time.time() - since) < START_SECONDS


def waiting_before(store: Store, run_id: str, device: str = "") -> Iterator[str]:
    """Runs that wait for the same device and come earlier, the next one first.

    A run that is downloading its data holds nobody up, nor does one whose worker has given no sign of life for a while:
    it keeps its place and takes it again when it goes on.
    """
    for ticket in tickets(store.root):
        if ticket.run_id == run_id:
            break
        if ticket.silent <= SILENT_SECONDS:
            status = _waiting(store, ticket.run_id)
            if status is not None and _holds_up(status, device):
                yield ticket.run_id


def positions(store: Store) -> dict[str, int]:
    """The place in the queue of every run that waits, 1 for the next one of its device."""
    found: dict[str, int] = {}
    before: list[Mapping[str, Any]] = []
    for ticket in tickets(store.root):
        if (status := _waiting(store, ticket.run_id)) is not None:
            device = str(status.get("device") or "")
            found[ticket.run_id] = 1 + sum(_holds_up(other, device) for other in before)
            if ticket.silent <= SILENT_SECONDS:
                before.append(status)
    return found


def _waiting(store: Store, run_id: str) -> dict[str, Any] | None:
    """The status of a run that waits; None where it does not."""
    folder = store.root / "runs" / run_id
    if read_status(folder).get("state") not in (None, "starting", "queued"):
        return None
    state, status = observe(store, folder)
    return status if state in ("queued", "starting") else None


def _holds_up(status: Mapping[str, Any], device: str) -> bool:
    """Whether a waiting run comes before a later one for this device, as far as both are known."""
    elsewhere = device and status.get("device") not in (None, "", device)
    return status.get("phase") != "preparing" and not elsewhere


def _silent(store: Store, run_id: str) -> float:
    ticket = ticket_of(store.root, run_id)
    return 0.0 if ticket is None else ticket.silent


def run_ids(root: Path) -> list[str]:
    """Names of the run folders under a root, oldest first."""
    try:
        with os.scandir(root / "runs") as entries:
            return sorted(entry.name for entry in entries if RUN_ID.fullmatch(entry.name))
    except OSError:
        return []


def _current(store: Store, unfinished: list[str]) -> tuple[tuple[str, dict[str, Any]], ...]:
    found = []
    for key in unfinished:
        progress = store.progress(key)
        if progress is not None and is_held(store.own_folder(key) / LOCK):
            found.append((key, progress))
    return tuple(found)


# Run files, read and written by this room only


def read_run_file(store: Store, folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a run; empty when it is missing, damaged, or of a schema this version does not read."""
    value = store.remember(folder / name, files.parse_object)
    return value if value is not None and value.get("schema") == RUN_SCHEMA else {}


def plan_keys(store: Store, folder: Path) -> tuple[str, ...]:
    """The stages of a run, teachers first; empty until the plan is made."""
    keys = read_run_file(store, folder, "plan.json").get("stages")
    return tuple(keys) if isinstance(keys, list) and all(is_key(key) for key in keys) else ()


def read_status(folder: Path) -> dict[str, Any]:
    value = files.read_json_or_none(folder / "status.json")  # changes often: never from memory
    return value if value is not None and value.get("schema") == RUN_SCHEMA else {}


def write_run_file(folder: Path, name: str, value: Mapping[str, Any], *, durable: bool = True) -> None:
    """Replace a JSON file of a run atomically; `durable` as in files.write_atomic."""
    files.write_atomic(folder / name, canonical_json({**value, "schema": RUN_SCHEMA}), durable=durable)
