"""kill -9 of real trainings, on every way a stage can be trained: what is resumed must end with the same bits.

Half of the kills come at a batch drawn by number, half at an instant drawn from the length of the undisturbed training,
so that evaluation, checkpoints and commits are hit too. Compared are the bytes of weights and test answers, the answers
kept for students, and the rows of the epochs and the result without what a clock or the size of a process says.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from takd.data.catalogue import available_datasets
from takd.plan import build_plan
from takd.runs import loop
from takd.runs.failures import failure
from takd.runs.store import Store
from takd.stage import StageSpec
from tests.faults.common import Figures, in_child, time_is_over
from tests.training.test_every_method import spec_for

EPOCHS = 4
CLOCK = {"seconds", "images_per_second", "peak_memory_mb", "finished", "files"}  # files: the sum of the rows is in it
CRASH_LOOP = "crash-loop"
KILLS = 2  # of one training: at a third death without a new epoch it would be given up
CNN = {"teacher": "cnn8-4", "student": "cnn8-2"}


@dataclass(frozen=True)
class Way:
    """One way to train: a method on its smallest networks, changes to the recipe, and the engine."""

    method: str
    options: dict[str, object] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)
    augmentation: str = "none"
    engine: str = ""
    seeds: int = 1
    processes: int = 1


WAYS: dict[str, Way] = {
    "plain loop, CNN, random views, live teacher": Way("kd", {}, CNN, "crop-flip", "reference"),
    "compiled passes, CNN, random views": Way("kd", {}, CNN, "crop-flip"),
    "compiled passes, CNN, answers looked up": Way("kd", {}, CNN, "flip"),
    "MLPs in one pass": Way("takd", seeds=3),
    "several teachers, drawn for each step": Way("dgkd", {"gate": "bernoulli"}),
    "heads on the teacher": Way("dih", {"sum": "paper"}),
    "a cohort that learns in turn": Way("dml", {"order": "in turn"}),
    "sub-models": Way("ipkd"),
    "a teacher's earlier epochs": Way("rco"),
    "a teacher that falls silent": Way("eskd"),
    "hidden layers": Way("fitnets", {"phases": "hint first", "beta": 1.0}, CNN, "flip"),
    "two processes": Way("takd", seeds=3, processes=2),
}


def run(size: int, seed: int, root: Path) -> Figures:
    """`size` ways in turn, each killed twice and resumed."""
    from takd.training import mlp_batch, run_stage

    os.environ.pop("TAKD_TRAINER")
    run_stage.CHECKPOINT_SECONDS = 0.0  # else such small ones end before the first
    mlp_batch._SLICE_SECONDS = 0.0  # one epoch between two looks at the wish to stop
    run_stage._log = lambda _: None  # type: ignore[assignment]  # so short a training says it has learnt little
    run_stage.warm_up()
    figures, dice = Figures("kill -9 of real trainings"), random.Random(seed)
    calm: dict[str, tuple[dict[str, Any], int, float]] = {}
    loops = 0
    for number in range(size):
        if time_is_over():
            break
        name = list(WAYS)[number % len(WAYS)]
        way, place = WAYS[name], root / f"killed-{number}"
        os.environ["TAKD_ENGINE"] = way.engine
        stages = stages_of(way)
        if name not in calm:
            calm[name] = _calm(root / f"calm-{number}", stages)
        expected, batches, seconds = calm[name]
        store = Store(place)
        for kill in range(KILLS):
            at = dice.randrange(batches // way.processes)
            if (number + kill) % 2 or way.processes > 1:
                _kill_in(dice.uniform(0.0, seconds / way.processes), [_trains(store, stages)] * way.processes)
            else:
                in_child(_trains(store, stages, die_at=at), quiet=True)
        problem = _go_on(store, stages)
        if problem == CRASH_LOOP:  # who dies beside another one may have died four times at one stage
            loops += 1
            problem = _go_on(store, stages)
        found = {key: fingerprint(store, key) for key in stages}
        wrong = [stages[key].network for key in stages if found[key] != expected[key]]
        figures.add(name, problem or (f"{wrong} differ" if wrong else ""))
        figures.stages += len(stages)
        figures.once += len(stages) - len(wrong)
        figures.lost += len(wrong)
        shutil.rmtree(place)
    if loops:
        figures.notes.append(f"{loops} crash loops named and resumed")
    return figures


def _go_on(store: Store, stages: dict[str, StageSpec]) -> str:
    """Train what is left; nothing, or what came of it."""
    if in_child(_trains(store, stages), quiet=True) == 0:
        return ""
    causes = {found.cause_class for key in stages if (found := failure(Store(store.root), key)) is not None}
    return CRASH_LOOP if causes == {CRASH_LOOP} else f"not resumed: {causes}"


def stages_of(way: Way) -> dict[str, StageSpec]:
    """The stages of a way's chosen arm, with a few epochs."""
    spec = spec_for(way.method, **way.options)
    spec = replace(spec, seeds=way.seeds, **way.networks)  # type: ignore[arg-type]
    plan = build_plan(spec, available_datasets()["digits"])
    chains = plan.chains_of(plan.chosen)
    wanted = {key for chain in chains for key in (*chain.keys, *chain.beside)}
    wanted |= {teacher for key in wanted for teacher in plan.stages[key].teachers}
    short: dict[str, StageSpec] = {}
    names: dict[str, str] = {}
    for key, stage in plan.stages.items():
        if key in wanted:
            until = math.ceil(stage.recipe.until * EPOCHS / stage.recipe.epochs)
            recipe = replace(stage.recipe, epochs=EPOCHS, until=until, augmentation=way.augmentation)
            made = replace(stage, recipe=recipe, teachers=tuple(names[one] for one in stage.teachers))
            names[key], short[made.key] = made.key, made
    return short


def fingerprint(store: Store, key: str) -> dict[str, Any]:
    """What must be equal, by name."""
    fresh = Store(store.root)
    result = fresh.result(key)
    if result is None:
        return {}
    rows = [{name: value for name, value in row.items() if name not in CLOCK} for row in fresh.read_events(key)[0]]
    extra = sorted(store.own_folder(key).glob("extra/*.npy"))
    return {
        "weights": fresh.read_file(key, "weights.safetensors"),
        "answers": fresh.read_file(key, "predictions.npz"),
        "rows": json.dumps(rows, sort_keys=True).encode(),
        "result": json.dumps({n: v for n, v in result.items() if n not in CLOCK}, sort_keys=True).encode(),
        "kept": {path.name: path.read_bytes() for path in extra},
    }


def _calm(root: Path, stages: dict[str, StageSpec]) -> tuple[dict[str, Any], int, float]:
    """(what an undisturbed training leaves, how often it asked whether to stop, its seconds)."""
    store, began = Store(root), time.monotonic()
    assert in_child(_trains(store, stages, count=root / "asked")) == 0
    seconds = time.monotonic() - began
    found = {key: fingerprint(store, key) for key in stages}
    assert all(found.values())
    return found, int((root / "asked").read_text()), seconds


def _trains(
    store: Store, stages: dict[str, StageSpec], *, die_at: int = -1, count: Path | None = None
) -> Callable[[], None]:
    """What a worker does; it dies when it asks for the `die_at`-th time whether to stop (once a batch)."""

    def action() -> None:
        asked = itertools.count()
        last = 0

        def should_stop() -> bool:
            nonlocal last
            last = next(asked)
            if last == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return False

        loop.clear_failures(store, stages, loop.needed(store, stages))
        assert loop.train_all(store, stages, device="cpu", should_stop=should_stop, say=lambda _: None)
        assert all(store.is_done(key) for key in stages)
        if count is not None:
            count.write_text(str(last))

    return action


def _kill_in(seconds: float, actions: list[Callable[[], None]]) -> None:
    """Do all of it at the same time, each in a process, and kill them."""
    children = []
    for action in actions:
        child = os.fork()
        if child == 0:
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                signal.alarm(60)
                action()
            finally:
                os._exit(0)
        children.append(child)
    time.sleep(seconds)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
