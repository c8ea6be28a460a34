"""The loop every training process of a run walks: take the first stages that are free, train them, look again.

Lead and helpers need no other agreement than the stages' locks and results, so any of them may die at any time.
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from filelock import FileLock

from takd.answers import answers_file, answers_suffice
from takd.batching import take_together
from takd.methods.table import form_of
from takd.runs import files
from takd.runs.causes import named
from takd.runs.errors import StageFailed, StageStopped
from takd.runs.estimates import measured_rate, rate_name, record_rate
from takd.runs.failures import Failure, clear_failure, failure, record_failure
from takd.runs.guard import MOST_DEATHS, SUSPECT, crash_loop, deaths
from takd.runs.locks import stage_lock, try_acquire
from takd.runs.states import log_tail
from takd.runs.store import Store
from takd.runs.trainer import find_trainer
from takd.stage import StageSpec

WEIGHTS, PREDICTIONS = "weights.safetensors", "predictions.npz"  # what a pupil's training reads of its teachers
_FIRST_WAIT, _LONGEST_WAIT = 0.02, 0.2
_REPORT_SECONDS = 0.5
_QUOTED = 20  # lines of the log
_TRY_ALONE = ("code-error", "out-of-memory")  # causes that one stage of several may have brought on the others
_INCOMPLETE = StageFailed("code-error", "The training ended without a complete result; please report this.")


class Left:
    """What of a run is left to do. What was once seen finished and unharmed is not looked at again."""

    def __init__(self, store: Store, stages: Mapping[str, StageSpec]) -> None:
        """`stages` lists teachers before pupils."""
        self._store, self._stages = store.without_imports, stages
        self._left = dict(stages)
        self._taught: set[str] = set()  # pupils whose teachers are all ready

    def look(self) -> dict[str, StageSpec]:
        """Stages that must be trained, in order: unfinished ones, and finished teachers of those whose files were left
        out or are damaged (a cached stage keeps its result without its weights)."""
        wanted: set[str] = set()
        for key in reversed(self._left):
            if key in wanted or not self._store.is_done(key):
                wanted.add(key)
                wanted.update(t for t in self._stages[key].teachers if not self._can_teach(t, key))
        self._left = {key: stage for key, stage in self._left.items() if key in wanted}
        return self._left

    def can_be_taught(self, key: str) -> bool:
        """Whether all teachers of a stage are ready."""
        if key not in self._taught and all(self._can_teach(teacher, key) for teacher in self._stages[key].teachers):
            self._taught.add(key)
        return key in self._taught

    def _can_teach(self, teacher: str, pupil: str) -> bool:
        return pupil in self._taught or can_teach(self._store, teacher, self._stages[pupil])


def needed(store: Store, stages: Mapping[str, StageSpec]) -> set[str]:
    """Keys that must be trained; see Left.look."""
    return set(Left(store, stages).look())


def can_teach(store: Store, key: str, pupil: StageSpec) -> bool:
    """Whether a stage is finished and has, unharmed, what this pupil reads: its test logits, and its weights or, where
    they suffice, its answers on the training images (a large cached teacher comes without weights). Weights alone give
    its test logits again, but for heads, which are asked with the network they sit on."""
    stage = store.stage(key)
    if store.has_file(key, WEIGHTS):
        return store.has_file(key, PREDICTIONS) or (stage is not None and form_of(stage.loss) != "heads")
    answers = answers_suffice(pupil) and store.has_extra(key, answers_file(pupil, stage))
    return answers and store.has_file(key, PREDICTIONS)


def complete(store: Store, key: str) -> bool:
    """Whether a stage is finished with all its files unharmed."""
    return store.has_file(key, PREDICTIONS) and store.has_file(key, WEIGHTS)


def failures_among(store: Store, stages: Mapping[str, StageSpec], wanted: Collection[str]) -> dict[str, Failure | None]:
    """Keys that cannot be trained in this run: the failed ones with their reason, their descendants with None."""
    stuck: dict[str, Failure | None] = {}
    for key, stage in stages.items():
        if key in wanted:
            found = failure(store, key)
            if found is not None or any(teacher in stuck for teacher in stage.teachers):
                stuck[key] = found
    return stuck


def train_all(
    store: Store,
    stages: Mapping[str, StageSpec],
    *,
    device: str,
    should_stop: Callable[[], bool],
    say: Callable[[str], None],
    between: Callable[[], None] = lambda: None,
    processes: int = 1,
    run_id: str = "",
) -> bool:
    """Train until nothing more can be trained; False when `should_stop` ended it first.

    Several processes may do this at once for the same or overlapping stages (`processes` says how many share this
    run): each stage is trained by the one that holds its lock. A failure is left in the stage's folder and only its
    descendants are skipped. `between` is called before each look; `run_id` names the run whose log is quoted. What was
    imported is not used: it is trained anew.
    """
    store = store.without_imports
    pupils = Counter(teacher for stage in stages.values() for teacher in stage.teachers)
    work = _Work(store, stages, device, should_stop, say, pupils, run_id)
    left = Left(store, stages)
    pause = _FIRST_WAIT
    while not should_stop():
        between()
        wanted = left.look()
        stuck = failures_among(store, stages, wanted)
        open_keys = [key for key in wanted if key not in stuck]
        if not open_keys:
            return True
        ready = [key for key in open_keys if left.can_be_taught(key)]
        if _train_some(work, ready, set(open_keys).difference(ready), processes):
            pause = _FIRST_WAIT
        else:  # somebody else trains what is left, or what the rest waits for
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_WAIT)
    return False


@dataclass(frozen=True)
class _Work:
    """What every training of this process is called with."""

    store: Store
    stages: Mapping[str, StageSpec]
    device: str
    should_stop: Callable[[], bool]
    say: Callable[[str], None]
    pupils: Mapping[str, int]
    run_id: str


def _train_some(work: _Work, ready: list[str], coming: Collection[str], processes: int) -> bool:
    """Train the first stages that are free, together where they can be; whether the world has changed."""
    while ready:
        together = take_together(ready, work.stages, work.device, processes, coming)
        locks = _take_locks(work, together)
        if locks:
            try:
                keys = [key for key in locks if _is_open(work.store, key)]
                died = {key: deaths(work.store, key) for key in keys}
                _train_each_once(work, _without_loops(work, died), max(died.values(), default=0) >= SUSPECT)
            finally:
                for key, lock in locks.items():
                    with contextlib.suppress(OSError):  # a disk that fails must not keep the other locks
                        work.store.clear_progress(key)
                    lock.release()
            return True
        taken = set(together)
        ready = [key for key in ready if key not in taken]
    return False


def _take_locks(work: _Work, keys: list[str]) -> dict[str, FileLock]:
    """The locks of those stages that nobody else holds. Never waits, so two processes cannot wait for each other."""
    locks: dict[str, FileLock] = {}
    try:
        for key in keys:
            lock = stage_lock(work.store.ensure(work.stages[key], own=True))
            if try_acquire(lock):
                locks[key] = lock
    except BaseException:
        for lock in locks.values():
            lock.release()
        raise
    return locks


def _is_open(store: Store, key: str) -> bool:
    """Whether a stage whose lock is held is still to be trained: it may have ended between the look and the lock."""
    return not complete(store, key) and failure(store, key) is None


def _without_loops(work: _Work, died: Mapping[str, int]) -> list[str]:
    """Stages that may be tried; those at which too many workers died get a failure with a name instead."""
    for key, count in died.items():
        if count >= MOST_DEATHS:
            _leave_failure(work, key, crash_loop(work.store, key, count))
    return [key for key, count in died.items() if count < MOST_DEATHS]


def _train_each_once(work: _Work, keys: list[str], alone: bool) -> None:
    """Train stages whose locks are held, together or one by one."""
    for part in [[key] for key in keys] if alone else [keys] * bool(keys):
        if not work.should_stop():
            _train(work, part)


def _train(work: _Work, keys: list[str]) -> None:
    """Train stages whose locks are held, and leave the reason of each one that failed."""
    store, say = work.store, work.say
    (name,) = titles(keys, work.stages)
    report = Reporter(store)
    for key in keys:
        files.remove_leftovers(store.own_folder(key), keep="stage.json")
        report(key, {"epoch": 0, "epochs": work.stages[key].recipe.last})
    report.flush()
    started = time.monotonic()
    found: Mapping[str, Exception]
    try:
        trainer = find_trainer(work.should_stop)
        say(f"{name}: training")
        found = trainer(
            store,
            keys,
            device=work.device,
            should_stop=work.should_stop,
            report=report,
            pupils=work.pupils,
        )
    except StageStopped:
        say(f"{name}: stopped, it can go on later")
        return
    except Exception as error:
        if len(keys) > 1 and named(error).cause_class in _TRY_ALONE:
            traceback.print_exc()
            say(f"{name}: could not be trained together, so they are trained one by one")
            _train_each_once(work, [key for key in keys if _is_open(store, key)], alone=True)
            return
        found = dict.fromkeys(keys, error)
    failed = {key: found.get(key, _INCOMPLETE) for key in keys if not complete(store, key)}
    for key, cause in failed.items():
        _leave_failure(work, key, cause)
    _remember_rate(work, [key for key in keys if key not in failed], time.monotonic() - started)
    if len(failed) < len(keys):
        say(f"{name}: {len(keys) - len(failed)} done in {time.monotonic() - started:.1f} s")


def _leave_failure(work: _Work, key: str, error: Exception) -> None:
    found = named(error)
    if found.cause_class == "code-error":
        traceback.print_exception(error)
    work.say(f"{title(work.stages[key], work.stages)}: failed ({found.cause_class}): {found.why}")
    try:
        tail = log_tail(work.store, work.run_id, _QUOTED) if work.run_id and found.cause_class == "crash-loop" else ""
        record_failure(work.store, key, found.cause_class, found.why, tail)
    except OSError:  # a full disk may not even take the reason
        raise error from None


def _remember_rate(work: _Work, keys: list[str], elapsed: float) -> None:
    """The speed of stages that were trained together (they are of one network) as one measurement."""
    if not keys:
        return
    stages = [work.stages[key] for key in keys]
    rate = measured_rate(stages, [work.store.result(key) or {} for key in keys], elapsed)
    with contextlib.suppress(OSError):  # a rate that is not remembered only makes the next estimate worse
        record_rate(work.store, work.device, rate_name(stages[0].network, stages[0].data.classes), rate)


class Reporter:
    """Writes how far stages are, for all that train together at most twice a second; any thread may report."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._guard = threading.Lock()
        self._latest: dict[str, dict[str, Any]] = {}
        self._next = time.monotonic() + _REPORT_SECONDS

    def __call__(self, key: str, row: Mapping[str, Any]) -> None:
        with self._guard:
            self._latest[key] = dict(row)
            due = time.monotonic() >= self._next
        if due:
            self.flush()

    def flush(self) -> None:
        """Write what has not been written yet."""
        with self._guard:
            rows, self._latest = self._latest, {}
            self._next = time.monotonic() + _REPORT_SECONDS
        for key, row in rows.items():
            self._store.write_progress(key, row)


def title(stage: StageSpec, stages: Mapping[str, StageSpec]) -> str:
    """A stage in words: `plain-2 from plain-4, seed 0`."""
    teachers = " and ".join(stages[key].network for key in stage.teachers if key in stages)
    return f"{stage.network}{f' from {teachers}' if teachers else ''}, seed {stage.seed}"


def titles(keys: Collection[str], stages: Mapping[str, StageSpec]) -> list[str]:
    """Stages that train at the same time in words, those of one network together: `16 trainings of plain-2`."""
    by_network: dict[str, list[StageSpec]] = {}
    for key in keys:
        by_network.setdefault(stages[key].network, []).append(stages[key])
    return [
        title(found[0], stages) if len(found) == 1 else f"{len(found)} trainings of {network}"
        for network, found in by_network.items()
    ]


def clear_failures(store: Store, stages: Mapping[str, StageSpec], wanted: Collection[str]) -> None:
    """Give failed stages another try: what a new start of a run means."""
    for key in stages:
        if key in wanted:
            clear_failure(store, key)
