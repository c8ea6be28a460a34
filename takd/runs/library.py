"""Make the library grow: train what it should hold and does not, as far as the time goes, and put it where it travels.

Trainings are ordinary runs of ordinary workers, one question after the other. What was begun is kept: the next time, on
this store, goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from takd.claims.library import FILE, Entry, all_rises, keys_read, wanted
from takd.claims.library import read as read_list
from takd.data.catalogue import is_ready
from takd.data.table import Dataset
from takd.runs import looking as looks
from takd.runs.errors import RunError
from takd.runs.estimates import estimate, reference_seconds
from takd.runs.loop import WEIGHTS
from takd.runs.policy import require_changes_allowed
from takd.runs.shelf import shelve
from takd.runs.states import RunInfo, list_runs, run_info
from takd.runs.store import Store
from takd.runs.submit import cancel, resume, submit
from takd.spec import ExperimentSpec, SpecError, require_spec

ASKED_BY = "library"
_LOOK = 0.25  # seconds between looks at a run
_STOPPING = 60.0  # seconds a run may take to stop: one batch, and a checkpoint
_RESUMABLE = ("cancelled", "failed", "lost")


@dataclass(frozen=True)
class Shelf:
    """What is there of an entry: trainings in all, those that came with the program (or a bundle of it), those trained
    here, and seconds the rest would take here, `guessed` where no speed was measured here. `ready`: its data set is
    prepared on this machine."""

    entry: Entry
    total: int
    cached: int
    here: int
    seconds: float
    guessed: bool
    ready: bool

    @property
    def complete(self) -> bool:
        return self.cached + self.here == self.total


def entries(datasets: Mapping[str, Dataset]) -> tuple[Entry, ...]:
    """What the library should hold, as the repository's file has it; worked out anew where there is no file. Entries of
    data sets that are not known here are left out. Raises RunError for a file that is none."""
    try:
        raw = FILE.read_bytes()
    except OSError:
        return made_anew(datasets)
    try:
        found = read_list(raw, datasets)
    except (ValueError, KeyError, TypeError, SpecError) as error:
        raise RunError(
            f"{FILE.name} cannot be read ({error}); write it anew: python -m takd library plan --write."
        ) from error
    return tuple(entry for entry in found if datasets[entry.spec.dataset].fingerprint is not None)


def made_anew(datasets: Mapping[str, Dataset]) -> tuple[Entry, ...]:
    """What the library should hold, from the table of claims."""
    return wanted(datasets, reference_seconds)


def shelves(store: Store, datasets: Mapping[str, Dataset], wished: Iterable[Entry]) -> Iterator[Shelf]:
    """What is there of each entry, of the trainings that claims and map rest on: a run also trains its usual controls,
    which the library leaves out where nobody reads them. What was imported does not count: nobody knows who trained it.
    """
    own, read = store.without_imports, keys_read(datasets).every
    for entry in wished:
        plan = entry.plan(datasets)
        places = [own.origin(key) for key in plan.stages if key in read or read.isdisjoint(plan.stages)]
        left = estimate(plan, own, datasets[entry.spec.dataset].classes) if None in places else None
        seconds, guessed = (left.seconds, not left.calibrated) if left is not None else (0.0, False)
        ready = is_ready(entry.spec.dataset)
        yield Shelf(entry, len(places), places.count("cached"), places.count("live"), seconds, guessed, ready)


def train_next(
    store: Store,
    datasets: Mapping[str, Dataset],
    wished: Iterable[Entry],
    seconds: float,
    say: Callable[[str], None],
    *,
    longest: float = float("inf"),
    watch: Callable[[RunInfo], None] = lambda _: None,
) -> list[str]:
    """Train what is missing, in order, until `seconds` are over; ids of the runs that were completed.

    An entry that would take more than `longest` seconds here is passed over. What is in training when the time is over
    is stopped and goes on from its checkpoint the next time. A run that fails is reported and passed over.
    """
    require_changes_allowed()
    until, completed = time.monotonic() + seconds, []
    for shelf in shelves(store, datasets, wished):
        if time.monotonic() >= until:
            break
        if shelf.complete or shelf.seconds > longest:
            continue
        if not shelf.ready:
            say(f"{shelf.entry.name}: {shelf.entry.spec.dataset} is not prepared here, passed over.")
            continue
        say(f"{shelf.entry.name}: {shelf.total - shelf.cached - shelf.here} of {shelf.total} trainings to go.")
        run_id = _start(store, datasets, shelf.entry.spec)
        try:
            ended = _follow(store, run_id, until, watch)
        except KeyboardInterrupt:
            cancel(store, run_id)
            raise
        if ended.state == "done":
            completed.append(run_id)
        elif ended.state == "failed":
            say(f"Run {run_id} failed and is passed over: {ended.reason}")
    return completed


def _start(store: Store, datasets: Mapping[str, Dataset], spec: ExperimentSpec) -> str:
    """A run of the question: the one that was stopped before, or a new one."""
    for run in runs_of(store, datasets, spec):
        if run.state in _RESUMABLE:
            resume(store, run.id)
            return run.id
        if run.look.active:
            return run.id
    return submit(store, spec, ASKED_BY, datasets=datasets)


def runs_of(store: Store, datasets: Mapping[str, Dataset], spec: ExperimentSpec) -> list[RunInfo]:
    """The own runs of a question, newest first."""
    found = []
    for run in list_runs(store, limit=10_000):
        if run.origin == "live" and run.spec.get("dataset") == spec.dataset:
            try:
                same = require_spec(run.spec, datasets) == spec
            except SpecError:
                continue
            found += [run] if same else []
    return found


def _follow(store: Store, run_id: str, until: float, watch: Callable[[RunInfo], None]) -> RunInfo:
    """Wait for a run; when the time is over, stop it and wait until it has."""
    stopping = False
    while True:
        run = run_info(store, run_id)
        watch(run)
        if not run.look.active or (stopping and time.monotonic() > until + _STOPPING):
            return run
        if not stopping and time.monotonic() >= until:
            cancel(store, run_id)
            stopping = True
        time.sleep(_LOOK)


def look_around(store: Store, keys: Collection[str], until: float = float("inf")) -> int:
    """Look at how steep the loss is around those of these stages that are finished and have their weights here, until
    `until` (time.monotonic()); returns how many of them have been looked at now. Raises RunError where somebody else's
    look goes on, or one fails."""
    require_changes_allowed()
    own = store.without_imports
    todo = [key for key in sorted(keys) if own.has_file(key, WEIGHTS) and looks.read_look(own, key, "rise") is None]
    done = 0
    while todo and time.monotonic() < until:
        some, todo = todo[: looks.MOST_RISES], todo[looks.MOST_RISES :]
        looks.start(own, "rise", some)
        while (now := looks.looking(own)) is not None and now.active:
            time.sleep(_LOOK)
        if now is None or now.state != "done":
            raise RunError(f"The loss could not be looked at: {now.text if now else 'nothing is left of the request'}.")
        done += len(some)
    return done


def shelve_all(
    store: Store,
    datasets: Mapping[str, Dataset],
    wished: Iterable[Entry],
    destination: Path,
    say: Callable[[str], None],
) -> int:
    """Put everything of the list that was trained here into a library (cached_runs/); the number of trainings copied.
    What only came along as a control is left out, what is there already stays as it is, so the results of several
    machines go together in any order."""
    require_changes_allowed()
    needed, copied = keys_read(datasets), 0
    for entry in wished:
        more = shelve(store, entry, entry.plan(datasets), destination, needed)
        if more:
            say(f"{entry.name}: {more} trainings copied.")
        copied += more
    _shelve_looks(store, all_rises(datasets), destination)
    return copied


def _shelve_looks(store: Store, keys: Collection[str], destination: Path) -> None:
    own, there = Store(store.root), Store(destination)
    for key in keys:
        row = looks.read_look(own, key, "rise")
        if row is not None and looks.read_look(there, key, "rise") is None:
            looks.folder(there).mkdir(parents=True, exist_ok=True)
            looks.write_look(there, key, "rise", row)
