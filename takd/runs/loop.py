"""The loop every training process of a run walks: take the first stage that is free, train it, look again.

Lead and helpers need no other agreement than the stages' locks and results, so any of them may die at any time.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from types import ModuleType
from typing import Any, Protocol

from takd.runs import files
from takd.runs.errors import StageFailed, StageStopped, StoreError
from takd.runs.estimates import measured_rate, rate_name, record_rate
from takd.runs.failures import Failure, clear_failure, failure, record_failure, utc_now
from takd.runs.locks import stage_lock, try_acquire
from takd.runs.store import Store
from takd.stage import StageSpec, answers_file, answers_suffice

WEIGHTS, PREDICTIONS = "weights.safetensors", "predictions.npz"  # what a pupil's training reads of its teachers
_FIRST_WAIT, _LONGEST_WAIT = 0.02, 0.2
_STOP_LOOK = 0.02
_TRAINER = "takd.training.run_stage:run_stage"


class Trainer(Protocol):
    """Trains one stage whose lock the caller holds; see takd.training.run_stage."""

    def __call__(
        self,
        store: Store,
        key: str,
        *,
        device: str,
        should_stop: Callable[[], bool],
        report: Callable[[dict[str, Any]], None],
    ) -> None: ...


def find_trainer(should_stop: Callable[[], bool]) -> Trainer:
    """The training function, imported on first use (this is where torch comes in); $TAKD_TRAINER names another one
    as `module:function`.

    Importing takes seconds on a busy machine, so it happens in a thread that a wish to stop leaves behind. Raises
    StageStopped, and StageFailed when a package is missing.
    """
    module, _, function = os.environ.get("TAKD_TRAINER", _TRAINER).partition(":")
    if module not in _imports:
        _imports[module] = Future()
        threading.Thread(target=_import, args=(module, _imports[module]), name="import", daemon=True).start()
    while True:
        try:
            trainer: Trainer = getattr(_imports[module].result(_STOP_LOOK), function)
            return trainer
        except TimeoutError:
            if should_stop():
                raise StageStopped("stopped before training began") from None
        except ImportError as error:
            raise StageFailed(
                "missing-package",
                f"A package that training needs is missing ({error}). Install it with: "
                "python -m pip install -r requirements.txt",
            ) from error


_imports: dict[str, Future[ModuleType]] = {}


def _import(module: str, answer: Future[ModuleType]) -> None:
    try:
        answer.set_result(importlib.import_module(module))
    except BaseException as error:
        answer.set_exception(error)


def needed(store: Store, stages: Mapping[str, StageSpec]) -> set[str]:
    """Keys that must be trained: unfinished stages, and finished teachers of those whose files were left out or are
    damaged (a cached stage keeps its result without its weights). `stages` lists teachers before pupils."""
    wanted: set[str] = set()
    for key in reversed(list(stages)):
        if key in wanted or not store.is_done(key):
            wanted.add(key)
            wanted.update(teacher for teacher in stages[key].teachers if not can_teach(store, teacher, stages[key]))
    return wanted


def can_teach(store: Store, key: str, pupil: StageSpec) -> bool:
    """Whether a stage is finished and has, unharmed, what this pupil reads: its test logits, and its weights or, where
    they suffice, its answers on the training images (a large cached teacher comes without weights)."""
    if not store.has_file(key, PREDICTIONS):
        return False
    answers = answers_suffice(pupil) and store.has_extra(key, answers_file(pupil.data))
    return answers or store.has_file(key, WEIGHTS)


def complete(store: Store, key: str) -> bool:
    """Whether a stage is finished with all its files unharmed."""
    return store.has_file(key, PREDICTIONS) and store.has_file(key, WEIGHTS)


def failures_among(store: Store, stages: Mapping[str, StageSpec], wanted: set[str]) -> dict[str, Failure | None]:
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
) -> bool:
    """Train until nothing more can be trained; False when `should_stop` ended it first.

    Several processes may do this at once for the same or overlapping stages: each stage is trained by the one that
    holds its lock. A failure is left in the stage's folder and only its descendants are skipped. `between` is called
    before each look.
    """
    pause = _FIRST_WAIT
    while not should_stop():
        between()
        wanted = needed(store, stages)
        stuck = failures_among(store, stages, wanted)
        open_keys = [key for key in stages if key in wanted and key not in stuck]
        if not open_keys:
            return True
        ready = (key for key in open_keys if all(can_teach(store, t, stages[key]) for t in stages[key].teachers))
        if any(_train_if_free(store, key, stages, device, should_stop, say) for key in ready):
            pause = _FIRST_WAIT
        else:  # somebody else trains what is left, or what the rest waits for
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_WAIT)
    return False


def _train_if_free(
    store: Store,
    key: str,
    stages: Mapping[str, StageSpec],
    device: str,
    should_stop: Callable[[], bool],
    say: Callable[[str], None],
) -> bool:
    """Train the stage unless somebody holds its lock; whether the world has changed."""
    lock = stage_lock(store.ensure(stages[key], own=True))
    if not try_acquire(lock):
        return False
    try:
        if not complete(store, key) and failure(store, key) is None:  # else it ended between the look and the lock
            _train(store, key, stages, device, should_stop, say)
    finally:
        store.clear_progress(key)
        lock.release()
    return True


def _train(
    store: Store,
    key: str,
    stages: Mapping[str, StageSpec],
    device: str,
    should_stop: Callable[[], bool],
    say: Callable[[str], None],
) -> None:
    stage = stages[key]
    name = title(stage, stages)
    files.remove_leftovers(store.own_folder(key), keep="stage.json")
    store.write_progress(key, {"epoch": 0, "epochs": stage.recipe.epochs})
    try:
        trainer = find_trainer(should_stop)
        say(f"{name}: training")
        started = time.monotonic()
        trainer(store, key, device=device, should_stop=should_stop, report=partial(store.write_progress, key))
        if not complete(store, key):
            raise StageFailed("code-error", "The training ended without a complete result; please report this.")
    except StageStopped:
        say(f"{name}: stopped, it can go on later")
    except Exception as error:
        found = named(error)
        if found.cause_class == "code-error":
            traceback.print_exc()
        say(f"{name}: failed ({found.cause_class}): {found.why}")
        with contextlib.suppress(OSError):  # a full disk may not even take the reason
            record_failure(store, key, found.cause_class, found.why)
            return
        raise
    else:
        say(f"{name}: done in {time.monotonic() - started:.1f} s")
        result = store.result(key) or {}
        with contextlib.suppress(OSError):  # a rate that is not remembered only makes the next estimate worse
            record_rate(store, device, rate_name(stage.network, stage.data.classes), measured_rate(stage, result))


def named(error: Exception) -> Failure:
    """What to tell the reader about an exception that ended a training."""
    now = utc_now()
    if isinstance(error, StageFailed):
        return Failure(error.cause_class, error.sentence, now)
    if isinstance(error, StoreError):
        return Failure("bad-parent", str(error), now)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure("disk-full", "The disk is full. Free some space, then resume.", now)
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return Failure("read-only", "The store became read-only. Check the disk, then resume.", now)
    if isinstance(error, MemoryError):
        return Failure("out-of-memory", "The computer ran out of memory. Close other programs, then resume.", now)
    text = f"{type(error).__name__}: {error}".splitlines()[0][:150]
    return Failure("code-error", f"The program made an error of its own ({text}). The log has the details.", now)


def title(stage: StageSpec, stages: Mapping[str, StageSpec]) -> str:
    """A stage in words: `plain-2 from plain-4, seed 0`."""
    teachers = " and ".join(stages[key].network for key in stage.teachers if key in stages)
    return f"{stage.network}{f' from {teachers}' if teachers else ''}, seed {stage.seed}"


def clear_failures(store: Store, stages: Mapping[str, StageSpec], wanted: set[str]) -> None:
    """Give failed stages another try: what a new start of a run means."""
    for key in stages:
        if key in wanted:
            clear_failure(store, key)
