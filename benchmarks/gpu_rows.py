"""The rows of a GPU: one step in its variants, and whole studies as a run trains them, measured or extrapolated."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks import baselines, engine
from benchmarks.clock import Spent, spent_on
from benchmarks.cnn_rows import Options, gate_for
from benchmarks.images import small_set
from benchmarks.report import Fact, Ratio, Row
from takd.stage import DataSpec, LossSpec, Recipe, StageSpec

ENGINE, SCRIPT = "engine", "plain script, 2 workers, extrapolated"
TEMPERATURES = (1.0, 4.0, 8.0)
_FEW = 40  # batches of the plain script that are measured
_LONG = 7  # epochs of the longer of the two trainings that say how long the whole takes


@dataclass(frozen=True)
class Size:
    """How much work the rows are; `quick` shrinks everything so that a CPU can go through it."""

    epochs: int = 160
    images: int = 50_000
    chain: tuple[str, ...] = ("plain-10", "plain-4", "plain-2")
    resnets: tuple[str, ...] = ("resnet-110", "resnet-20", "resnet-8")
    ladder: tuple[int, ...] = (10, 8, 6, 4, 2)
    table_seeds: int = 3
    sweep_seeds: int = 5
    sweep_images: int = 10_000
    sweep_epochs: int = 20
    together: tuple[int, ...] = (4, 16, 64)
    steps: int = 100
    rounds: int = 5


QUICK = Size(3, 256, ("plain-4", "plain-2"), ("resnet-14", "resnet-8"), (4, 2), 1, 1, 256, 2, (2,), 3, 1)


@dataclass(frozen=True)
class Work:
    """Options, sizes and the seconds a row may take before it is extrapolated."""

    options: Options
    size: Size
    limit: float

    def data(self, classes: int, images: int) -> tuple[DataSpec, str]:
        return small_set(self.options.source, classes, images, -(-images // 9))


def step_row(work: Work) -> Row:
    """One training step of plain-2: launched kernel by kernel, and as the engine does it."""
    found: dict[str, list[float]] = {"eager": [], "default": []}
    names: dict[str, str] = {}
    for _ in range(work.size.rounds):
        for way, values in found.items():
            seconds, names[way] = engine.step_seconds("plain-2", 1, way, work.options.device, work.size.steps)
            values.append(1e6 * seconds)
    facts = [Fact(f"{way} ({names[way]})", values, "us") for way, values in found.items()]
    facts.append(Fact("ratio", [a / b for a, b in zip(*found.values(), strict=True)], "times faster"))
    return Row("step", "one training step of plain-2, batch 128", "us a step", facts=facts)


def ways_row(work: Work) -> Row:
    """A step of K plain-2 side by side, by the ways the engine chooses from."""
    facts, notes = [], []
    for count in work.size.together:
        for way in engine.WAYS:
            try:
                each = [
                    engine.step_seconds("plain-2", count, way, work.options.device, work.size.steps)
                    for _ in range(work.size.rounds)
                ]
            except (RuntimeError, torch.OutOfMemoryError) as error:
                notes.append(f"K = {count}, {way}: {str(error).splitlines()[0]}")
                continue
            facts.append(Fact(f"K = {count}, {way} ({each[0][1]})", [1e6 * seconds for seconds, _ in each], "us"))
    title = "a training step of one of K plain-2 side by side, batch 128"
    return Row("ways", title, "us a step of one network", facts=facts, notes=notes)


def chain_row(work: Work) -> Row:
    """plain-10 > plain-4 > plain-2 with the teacher's own training, against the plain script."""
    data, what = work.data(10, work.size.images)
    gate = gate_for(work.options, "plain-4", "plain-2")
    title = f"chain {' > '.join(work.size.chain)}, {work.size.epochs} epochs"
    ours, how = _whole(work, lambda how: _path(work.size.chain, data, how, 0), work.size.epochs)
    theirs = _script(work, work.size.chain, data)
    ratios = [Ratio(ENGINE, SCRIPT, _unless_quick(work, 30.0), "wall")]
    facts = [Fact("engine, wall", [ours.wall], "s", _unless_quick(work, 30.0))]
    notes = [f"{work.size.images:,} images ({what}); {how}; counted limit 7 s"]
    return Row("chain", title, "seconds for all", {ENGINE: [ours], SCRIPT: [theirs]}, ratios, facts, gate, notes)


def table_row(work: Work) -> Row:
    """Every path down the ladder, and every size alone."""
    sizes = [f"plain-{size}" for size in work.size.ladder]

    def stages(how: Recipe) -> list[StageSpec]:
        found: dict[str, StageSpec] = {}
        for seed in range(work.size.table_seeds):
            inside = [path for n in range(len(sizes) - 1) for path in itertools.combinations(sizes[1:-1], n)]
            paths = [(sizes[0], *path, sizes[-1]) for path in inside]
            lone = [(size,) for size in sizes]
            found |= {one.key: one for path in (*paths, *lone) for one in _path(path, data, how, seed)}
        return list(found.values())

    data, what = work.data(10, work.size.images)
    count = len(stages(engine.recipe(1)))
    spent, how = _whole(work, stages, work.size.epochs)
    facts = [Fact("engine, wall", [spent.wall], "s", _unless_quick(work, 300.0))]
    notes = [f"{count} trainings of {work.size.images:,} images ({what}); {how}; counted limit 90 s"]
    title = f"table of the plain CNNs: every path, every size alone, {work.size.table_seeds} seeds"
    return Row("table", f"{title}, {work.size.epochs} epochs", "seconds for all", facts=facts, notes=notes)


def resnet_row(work: Work) -> Row:
    """A chain of ResNets on a hundred classes."""
    data, what = work.data(100, work.size.images)
    spent, how = _whole(work, lambda how: _path(work.size.resnets, data, how, 0), work.size.epochs)
    facts = [Fact("engine, wall", [spent.wall], "s", _unless_quick(work, 120.0))]
    notes = [f"{work.size.images:,} images of 100 classes ({what}); {how}; counted limit 45 s"]
    title = f"chain {' > '.join(work.size.resnets)}, {work.size.epochs} epochs"
    return Row("resnet", title, "seconds for all", facts=facts, notes=notes)


def sweep_row(work: Work) -> Row:
    """Teachers of every size and seed, and three students of each, which differ in T."""
    data, what = work.data(10, work.size.sweep_images)

    def stages(how: Recipe) -> list[StageSpec]:
        seeds = range(work.size.sweep_seeds)
        teachers = [engine.stage(f"plain-{s}", data, how, seed=seed) for s in work.size.ladder for seed in seeds]
        pupils = [
            replace(engine.stage("plain-2", data, how, boss, boss.seed), loss=LossSpec("kd", t, engine.LAM))
            for boss in teachers
            for t in TEMPERATURES
        ]
        return [*teachers, *pupils]

    count = len(work.size.ladder) * work.size.sweep_seeds
    spent, how = _whole(work, stages, work.size.sweep_epochs)
    facts = [Fact("engine, wall", [spent.wall], "s", _unless_quick(work, 15.0))]
    notes = [f"{work.size.sweep_images:,} images ({what}), {work.size.sweep_epochs} epochs; {how}"]
    title = f"sweep of {count} teachers and {count * len(TEMPERATURES)} students"
    return Row("sweep", title, "seconds for all", facts=facts, notes=[*notes, "counted limit 5 s"])


ROWS: dict[str, Callable[[Work], Row]] = {
    "step": step_row,
    "ways": ways_row,
    "chain": chain_row,
    "sweep": sweep_row,
    "resnet": resnet_row,
    "table": table_row,
}


def _path(path: Sequence[str], data: DataSpec, how: Recipe, seed: int) -> list[StageSpec]:
    stages: list[StageSpec] = []
    for network in path:
        stages.append(engine.stage(network, data, how, stages[-1] if stages else None, seed))
    return stages


def _whole(work: Work, stages_of: Callable[[Recipe], list[StageSpec]], epochs: int) -> tuple[Spent, str]:
    """What a study costs, and how that is known: trained whole where two short ones say it fits into the limit."""

    def cost(count: int) -> Spent:
        return engine.cost(stages_of(_calm(count)), device=work.options.device)

    _, names = engine.cost_and_engines(stages_of(_calm(1)), device=work.options.device)  # and warm up
    long = min(_LONG, epochs)
    first, later = cost(1), cost(long)
    predicted = first + (later - first) * ((epochs - 1) / (long - 1))
    if predicted.wall > work.limit:
        return predicted, f"{names}; EXTRAPOLATED from 1 and {long} epochs"
    return cost(epochs), f"{names}; trained whole"


def _calm(epochs: int) -> Recipe:
    """A rate at which random labels do no harm: speed does not depend on it."""
    return engine.recipe(epochs, lr=1e-3)


def _script(work: Work, path: Sequence[str], data: DataSpec) -> Spent:
    """The plain script for the same chain: some batches of every training, and evaluation, multiplied."""
    total, teacher = Spent(0.0, 0.0), None
    stages = _path(path, data, _calm(1), 0)
    for one in stages:
        arrays = engine.arrays_of(one)
        rival = baselines.PlainScript(one, teacher, arrays, 2, work.options.device)
        total = total + _some(rival.batches(0), len(arrays.train_y) // one.recipe.batch)
        total = total + _some(rival.evaluation(), max(1, len(arrays.train_y) // 5 // one.recipe.batch))
        teacher = rival.student
    return total * work.size.epochs


def _some(steps: object, whole: int) -> Spent:
    count = min(_FEW, whole)
    few = itertools.islice(steps, count)  # type: ignore[call-overload]
    return spent_on(few, min(5, count // 2), whole)


def _unless_quick(work: Work, target: float) -> float | None:
    return None if work.options.quick else target
