"""A claim's measure on stored results: one number per seed, above zero where it speaks for the claim.

What is chosen (the best teacher, the weakest step) is chosen anew at every seed, by the validation images of the other
seeds only. So no seed judges what it chose, and the mean is not too high as that of a best of several is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from takd.analysis.frames import Store, part_of
from takd.claims.claim import Effect, Line, Measure
from takd.claims.settings import Setting
from takd.data.table import Dataset
from takd.networks.table import capacity
from takd.plan import Chain, Plan, build_plan
from takd.spec import ExperimentSpec

Series = dict[int, float]
"""Seed -> value."""
Wrong = Callable[[Plan, str], np.ndarray | None]
"""(plan, key of a finished stage) -> which test images it gets wrong (N,) bool; None where its answers are not kept."""

_CHOSEN_BY = {"test_acc": "val_acc"}  # other values are no accuracies, nothing is selected on test images with them


class Readings:
    """What every line of a setting reads, by seed. Values that are not stored are left out."""

    def __init__(self, setting: Setting, dataset: Dataset, store: Store, lines: Iterable[Line], wrong: Wrong) -> None:
        self._store, self._wrong = store, wrong
        self._plans = plans_of(setting, dataset, lines)
        self._known: dict[tuple[Line, str], Series] = {}

    @property
    def plans(self) -> tuple[Plan, ...]:
        """One plan per set of choices."""
        return tuple(self._plans.values())

    def origin(self, key: str) -> str | None:
        """Where a stage's numbers come from."""
        return self._store.origin(key)

    def chains(self, line: Line) -> tuple[Chain, ...]:
        """The line's arm at every seed."""
        return self._plans[line.changes].chains_of(line.arm)

    def of(self, line: Line, value: str = "") -> Series:
        """The line's value by seed, or another `value` of the same network."""
        name = value or line.value
        if (line, name) not in self._known:
            plan = self._plans[line.changes]
            found = ((chain.seed, self._read(plan, chain, line, name)) for chain in plan.chains_of(line.arm))
            self._known[line, name] = {seed: number for seed, number in found if math.isfinite(number)}
        return self._known[line, name]

    def _read(self, plan: Plan, chain: Chain, line: Line, value: str) -> float:
        key = _heads_key(plan, chain) if line.of == "heads" else chain.student
        result = self._store.result(key) if key else None
        if result is None:
            return math.nan
        if value == "train_kl":
            rows, _ = self._store.read_events(key)
            temperature = plan.stages[key].loss.temperature or 1.0
            return _number(rows[-1].get("loss_kl")) / temperature**2 if rows else math.nan
        if value == "last_test_acc":
            return _number((result.get("selected_on_test") or {}).get("last_test_acc"))
        if value == "shared_errors":
            return self._shared(plan, chain)
        return _number(part_of(result, line.part).get(value))

    def _shared(self, plan: Plan, chain: Chain) -> float:
        from takd.analysis.inside import error_overlap

        student, before = (self._wrong(plan, key) for key in (chain.keys[-1], chain.keys[-2]))
        return math.nan if student is None or before is None else error_overlap(student, before).kappa


def plans_of(setting: Setting, dataset: Dataset, lines: Iterable[Line]) -> dict[tuple[tuple[str, object], ...], Plan]:
    """The plans that hold the arms of some lines: one per set of changes to the setting's choices."""
    arms: dict[tuple[tuple[str, object], ...], list[Line]] = {}
    for line in lines:
        arms.setdefault(line.changes, []).append(line)
    return {
        changes: build_plan(changed(setting.spec, changes), dataset, tuple(dict.fromkeys(line.arm for line in some)))
        for changes, some in arms.items()
    }


def changed(spec: ExperimentSpec, changes: Sequence[tuple[str, object]]) -> ExperimentSpec:
    """A setting's choices with some of them changed."""
    return replace(spec, **dict(changes))  # type: ignore[arg-type]


def _heads_key(plan: Plan, chain: Chain) -> str:
    """The stage of the linear heads beside a chain."""
    return next((key for key in chain.beside if plan.stages[key].loss.name == "heads"), "")


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def differences(measure: Measure, readings: Readings) -> pd.Series:
    """The measure's number by seed (index), float64, at the seeds at which all its lines are finished.

    Raises ValueError for a kind of measure that is not in takd.claims.claim.KINDS."""
    if measure.kind == "midpoint":
        return _midpoint(measure, readings)
    own = _table(measure.effects, readings)
    others = _table(measure.others, readings)
    seeds = own.index.intersection(others.index) if measure.others else own.index
    values = own.loc[seeds].to_numpy()
    if measure.kind == "effect":
        found = values[:, 0] if values.size else np.empty(0)
    elif measure.kind == "slope":
        found = slopes(np.asarray(measure.x), values)
    elif measure.kind == "least":
        found = left_out(values, _judges(measure.effects, readings, seeds), largest=False)
    elif measure.kind == "best against best":
        best = left_out(values, _judges(measure.effects, readings, seeds), largest=True)
        rivals = left_out(others.loc[seeds].to_numpy(), _judges(measure.others, readings, seeds), largest=True)
        found = best - rivals
    else:
        raise ValueError(f"{measure.kind} is not a kind of measure")
    return pd.Series(found, index=seeds, dtype="float64").dropna()


def _table(effects: Sequence[Effect], readings: Readings, instead: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row per seed at which everything is finished, one column per effect. `instead` says what is read in place of
    a line's own value."""
    other = instead or {}
    columns = [{line: readings.of(line, other.get(line.value, "")) for _, line in effect} for effect in effects]
    finished = [set(series) for column in columns for series in column.values()]
    seeds = sorted(set.intersection(*finished)) if finished else []
    pairs = list(zip(effects, columns, strict=True))
    rows = [[sum(weight * column[line][seed] for weight, line in effect) for effect, column in pairs] for seed in seeds]
    return pd.DataFrame(rows, index=pd.Index(seeds, dtype="int64", name="seed"), columns=range(len(pairs)), dtype=float)


def _judges(effects: Sequence[Effect], readings: Readings, seeds: pd.Index) -> np.ndarray:
    """The same table on validation images, for choosing; where nothing is to be chosen it is not needed."""
    if len(effects) == 1:
        return np.zeros((len(seeds), 1))
    return _table(effects, readings, _CHOSEN_BY).reindex(seeds).to_numpy()


def left_out(values: np.ndarray, judges: np.ndarray, *, largest: bool) -> np.ndarray:
    """Per seed the value (seeds, candidates) of the candidate that is best (`largest`) or weakest by the mean of
    `judges` over all other seeds. NaN where there is no other seed and there is something to choose."""
    n, k = values.shape
    if k == 1 or not n:
        return values[:, 0] if n else np.empty(0)
    if n == 1:
        return np.full(1, math.nan)
    others = (judges.sum(axis=0) - judges) / (n - 1)
    chosen = others.argmax(axis=1) if largest else others.argmin(axis=1)
    return values[np.arange(n), chosen]


def slopes(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Least-squares slope over x (candidates,) of every row of values (seeds, candidates)."""
    if not len(values):
        return np.empty(0)
    centred = x - x.mean()
    return values @ centred / float(centred @ centred)


def _midpoint(measure: Measure, readings: Readings) -> pd.Series:
    """Per seed: the chain through the assistant in the middle by validation accuracy minus the one in the middle by log
    parameters. A pick uses networks alone and no chain, so it may use its own seed."""
    chains = [effect[0][1] for effect in measure.effects]
    names = [line.arm.path[1] for line in chains]
    teacher, student = measure.alone[0].arm.path[-1], measure.alone[-1].arm.path[-1]
    classes = next(iter(readings.plans[0].stages.values())).data.classes
    size = {name: math.log(capacity(name, classes).params) for name in (teacher, *names, student)}
    by_size = min(names, key=lambda name: abs(size[name] - (size[teacher] + size[student]) / 2))
    alone = {line.arm.path[-1]: readings.of(line, "val_acc") for line in measure.alone}
    gains = dict(zip(names, (readings.of(line) for line in chains), strict=True))
    seeds = sorted(set.intersection(*(set(series) for series in (*gains.values(), *alone.values()))))
    found = {}
    for seed in seeds:
        middle = (alone[teacher][seed] + alone[student][seed]) / 2
        by_accuracy = min(names, key=lambda name: abs(alone[name][seed] - middle))
        found[seed] = gains[by_accuracy][seed] - gains[by_size][seed]
    return pd.Series(found, dtype="float64").rename_axis("seed")
