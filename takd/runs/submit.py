"""Ask for a run, stop it, continue it, delete it. The work is done by a detached worker that outlives the page."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from takd.data.catalogue import available_datasets
from takd.data.table import Dataset
from takd.networks.weights import missing_weights
from takd.plan import Plan, build_plan
from takd.runs import files
from takd.runs.errors import RunError
from takd.runs.estimates import estimate, estimate_of
from takd.runs.failures import utc_now
from takd.runs.imported import remove_imported
from takd.runs.launch import start_detached
from takd.runs.limits import forget_ended, refusal
from takd.runs.locks import queue_lock, run_lock, try_acquire
from takd.runs.people import MACHINE, Person, clean_name, require_owner
from takd.runs.policy import limits, require_changes_allowed
from takd.runs.states import STATES, observe, plan_keys, read_run_file, run_folder, write_run_file
from takd.runs.store import Store
from takd.runs.tickets import draw_ticket, drop_tickets
from takd.runs.warm import hand_over, stays, wait_until_idle
from takd.spec import ExperimentSpec, to_json

LEAST_FREE_BYTES = 200_000_000
_PATIENCE = 10.0  # seconds with others who ask at the same moment
_STOPS_WITHIN = 0.5  # seconds a cancelled run's worker mostly needs to be idle again; a new one takes longer to start


def submit(
    store: Store,
    spec: ExperimentSpec,
    asked_by: str = "",
    *,
    note: str = "",
    datasets: Mapping[str, Dataset] | None = None,
    replaces: str | None = None,
    person: Person = MACHINE,
) -> str:
    """Store a run and start its worker; returns the run's id at once.

    It is this person's run from now on; `asked_by` is a name to show in place of theirs. `datasets` defaults to what
    this machine knows. Where the data set has never been prepared here, the worker prepares it first and makes the plan
    then. `replaces` names a run that is not wanted any more: it is cancelled first if it is active, and what it has
    finished stays in the store and is used by this one where both need it. Raises RunError with a sentence when nothing
    can be stored, the disk is nearly full, or the server's limits do not allow it.
    """
    require_changes_allowed()
    _require_room(store)
    dataset = (available_datasets() if datasets is None else datasets).get(spec.dataset)
    if dataset is None:
        raise RunError(f"Data set {spec.dataset!r} is not on this machine; choose another one or import it first.")
    _require_weights(store, spec, dataset)
    seconds = seconds_of(store, spec, dataset) if limits().hours else None
    row = {
        "spec": to_json(spec),
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "asked_by": clean_name(asked_by or person.name),
        "owner": person.id,
        "note": note[:500],
    }
    with _one_after_another(store):
        _require_limits(store, person, seconds, replaces)
        stopping = replaces is not None and _stop(store, replaces, person)
        folder = _stored(store, build_plan(spec, dataset) if dataset.fingerprint is not None else None, row)
    if stopping:
        wait_until_idle(store, _STOPS_WITHIN)
    start_worker(store, folder.name)
    return folder.name


def _stored(store: Store, plan: Plan | None, experiment: Mapping[str, Any]) -> Path:
    """The folder of a new run, whole and in the queue; where something cannot be written there is none."""
    folder = None
    try:
        folder = _new_folder(store)
        write_run_file(folder, "status.json", {"state": "starting", "requested": time.time()})
        if plan is not None:
            write_plan(store, folder, plan)
        write_run_file(folder, "experiment.json", experiment)
        draw_ticket(store.root, folder.name)
    except OSError as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise RunError(f"The run could not be stored in {store.root} ({error.strerror or error}).") from error
    return folder


@contextmanager
def _one_after_another(store: Store) -> Iterator[None]:
    """Between a look at somebody's runs and what follows from it nobody else adds, resumes or deletes one: else two
    clicks at once pass a limit."""
    try:
        (store.root / "queue").mkdir(exist_ok=True)
        lock = queue_lock(store.root)
        if not try_acquire(lock, timeout=_PATIENCE):
            raise RunError("Many people are asking for runs at this moment; try again.")
    except OSError as error:
        raise RunError(f"The queue in {store.root} cannot be changed ({error.strerror or error}).") from error
    try:
        yield
    finally:
        lock.release()


def _require_weights(store: Store, spec: ExperimentSpec, dataset: Dataset) -> None:
    """A pretrained network is trained further from a file that has to be here; trained stages need it no more."""
    if not any(missing_weights(name) for name in spec.path) or dataset.fingerprint is None:
        return
    for stage in build_plan(spec, dataset).stages.values():
        if (problem := missing_weights(stage.network)) and not store.without_imports.is_done(stage.key):
            raise RunError(problem)


def write_plan(store: Store, folder: Path, plan: Plan) -> None:
    """Make the stages' folders and write plan.json."""
    for stage in plan.stages.values():
        store.ensure(stage)
    write_run_file(folder, "plan.json", plan.to_json())


def seconds_of(store: Store, spec: ExperimentSpec, dataset: Dataset) -> float:
    """How long a run is estimated to take, also on a data set that is not here yet (without its download)."""
    return estimate(build_plan(spec, dataset.with_fingerprint()), store, dataset.classes).seconds


def cancel(store: Store, run_id: str, person: Person = MACHINE) -> None:
    """Ask a run to stop: it does within one batch and keeps what is finished. Nothing happens to a run that ended.

    A training that does not listen is ended by the run's own worker after ten seconds. Raises RunError when there is
    no such run, it is a cached one, or somebody else's, or nothing can be written.
    """
    require_changes_allowed()
    folder = _own_folder(store, run_id, person)
    if observe(store, folder)[0] not in ("done", "failed", "cancelled"):
        try:
            files.write_atomic(folder / "cancel", utc_now().encode())
        except OSError as error:
            raise RunError(f"Run {run_id} could not be cancelled ({error.strerror or error}); try it again.") from error


def resume(store: Store, run_id: str, person: Person = MACHINE) -> None:
    """Continue a run that was cancelled, failed or lost, behind those that wait; finished stages and checkpoints are
    used.

    Raises RunError when the run is active or done, somebody else's, or nothing can be stored, or the server's limits do
    not allow it.
    """
    require_changes_allowed()
    folder = _own_folder(store, run_id, person)
    _require_room(store)
    seconds = _seconds_left(store, folder) if limits().hours else None
    with _one_after_another(store):  # who comes second finds it starting, not what its worker has said before
        state, status = observe(store, folder)
        if STATES[state].active:
            raise RunError(f"Run {run_id} is still {STATES[state].word.lower()}; wait until it has stopped.")
        if state == "done":
            raise RunError(f"Run {run_id} is done; there is nothing left to train.")
        _require_limits(store, person, seconds, run_id)
        asked = {"state": "starting", "requested": time.time(), "started": status.get("started")}
        try:
            (folder / "cancel").unlink(missing_ok=True)
            write_run_file(folder, "status.json", asked)
            draw_ticket(store.root, run_id)
        except OSError as error:
            raise RunError(f"Run {run_id} could not be resumed ({error.strerror or error}); try it again.") from error
    start_worker(store, run_id)


def _seconds_left(store: Store, folder: Path) -> float:
    """How long what is left of a stored plan is estimated to take."""
    found = {key: store.stage(key) for key in plan_keys(store, folder)}
    stages = {key: stage for key, stage in found.items() if stage is not None}
    return estimate_of({k: s for k, s in stages.items() if not store.is_done(k)}, stages, store).seconds


def delete(store: Store, run_id: str, person: Person = MACHINE) -> str:
    """Forget a run that is not active; returns what became of its stages, in a sentence. Those that were trained here
    stay, because other runs may share them; imported ones go with the last run that needs them.

    Raises RunError when it is active, cached, or somebody else's (an imported one belongs to who runs the server), or
    nothing can be written.
    """
    require_changes_allowed()
    if run_folder(store, run_id).parent.parent == store.imported:
        require_owner(person, {}, run_id)
        gone = remove_imported(store, run_id)
        return f"The imported run {run_id} is removed, and {gone} trainings that no other imported run needs."
    folder = _own_folder(store, run_id, person)
    hidden = folder.with_name(f".deleted-{run_id}-{secrets.token_hex(4)}")  # gone for readers in one step
    with _one_after_another(store):  # nobody resumes it between the look and the rename
        try:
            if STATES[observe(store, folder)[0]].active or not try_acquire(lock := run_lock(folder), timeout=1.0):
                raise RunError(f"Run {run_id} is active; cancel it before you delete it.")
            try:
                folder.rename(hidden)
            finally:
                lock.release()
        except OSError as error:
            raise RunError(f"Run {run_id} could not be deleted ({error.strerror or error}); try it again.") from error
        drop_tickets(store.root, [run_id])
    shutil.rmtree(hidden, ignore_errors=True)
    return f"Run {run_id} is deleted; its trainings are kept."


def _stop(store: Store, run_id: str, person: Person) -> bool:
    """Cancel a run that is not wanted any more; whether a worker is now stopping. One that is gone, came with the
    program, or is somebody else's, is left alone."""
    try:
        active = STATES[observe(store, _own_folder(store, run_id, person))[0]].active
        cancel(store, run_id, person)
    except (RunError, OSError):
        return False
    return active


def start_worker(store: Store, run_id: str) -> None:
    """Let the idle worker do the run, or start a worker for it."""
    require_changes_allowed()
    if not hand_over(store, run_id):
        stay = ["--stay"] if stays(store) else []
        start_detached(store, ["--run", run_id, *stay], store.root / "runs" / run_id / "log.txt")


def _require_room(store: Store) -> None:
    if (problem := store.writable()) is not None:
        raise RunError(problem)
    free = shutil.disk_usage(store.root).free
    if free < LEAST_FREE_BYTES:
        raise RunError(
            f"Only {free // 1_000_000} MB are free on the disk of {store.root}; a run needs "
            f"{LEAST_FREE_BYTES // 1_000_000} MB. Delete something or set TAKD_STORE to a folder on another disk."
        )


def _require_limits(store: Store, person: Person, seconds: float | None, besides: str | None) -> None:
    forget_ended(store)
    if problem := refusal(store, person, seconds, besides=besides):
        raise RunError(problem)


def _new_folder(store: Store) -> Path:
    """A new run folder; ids sort by the time they were asked for (the last four digits count 1/65536 s)."""
    runs = store.root / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    while True:
        now = datetime.now(UTC)
        folder = runs / f"{now:%Y%m%d-%H%M%S}-{now.microsecond * 65536 // 1_000_000:04x}"
        try:
            folder.mkdir()
        except FileExistsError:
            time.sleep(0.0001)
            continue
        return folder


def _own_folder(store: Store, run_id: str, person: Person) -> Path:
    """The folder of a run that this person may change."""
    folder = run_folder(store, run_id)
    if folder.parent.parent != store.root:
        if folder.parent.parent == store.imported:
            raise RunError(f"Run {run_id} was imported and cannot be changed; start the same question yourself.")
        raise RunError(f"Run {run_id} comes with the program and cannot be changed; start the same question yourself.")
    require_owner(person, read_run_file(store, folder, "experiment.json"), run_id)
    return folder
