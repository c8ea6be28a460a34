"""A claim's measure on stored results, above zero where it speaks for the claim, and its interval over seeds.

Some measures are about the best or the weakest of several: "the best smaller teacher minus the largest". Nothing is
chosen for them. Every pair is measured, and the interval is one for max over a, min over b of the pairs' true means,
wide enough for all of them together; see `interval_of`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import pandas as pd
from scipy import stats

from takd.analysis.frames import Store, part_of
from takd.analysis.statistics import Interval, t_interval
from takd.analysis.verdicts import LEAST_SEEDS
from takd.claims.claim import Effect, Line, Measure
from takd.claims.settings import Setting
from takd.data.table import Dataset
from takd.networks.table import capacity
from takd.plan import Arm, Chain, Plan, build_plan
from takd.runs.layout import SELECTED, environment_of

Series = dict[int, float]
"""Seed -> value."""
ROUNDING = 1e-12  # accuracies are counts over images: their differences carry rounding


class Beside(Protocol):
    """What is kept beside the results of finished stages."""

    def wrong(self, plan: Plan, key: str) -> np.ndarray | None:
        """Which test images a stage gets wrong, (N,) bool; None where its answers are not kept."""

    def rise(self, key: str) -> float:
        """How steep the training loss is around it, in nats; NaN where nobody has looked."""


class Readings:
    """What every line of a setting reads, by seed. Values that are not stored are left out."""

    def __init__(self, setting: Setting, dataset: Dataset, store: Store, lines: Iterable[Line], beside: Beside) -> None:
        self._store, self._beside = store, beside
        self._plans = plans_of(setting, dataset, lines)
        self._known: dict[tuple[Line, str], Series] = {}
        self._came: dict[str, tuple[str | None, str]] = {}

    @property
    def plans(self) -> tuple[Plan, ...]:
        """One plan per set of choices."""
        return tuple(self._plans.values())

    def came(self, key: str) -> tuple[str | None, str]:
        """Where a stage's numbers come from, and what it was trained in; empty where its result does not say. Asked
        once: most students are read by several claims."""
        if key not in self._came:
            said = environment_of(self._store.result(key)).get("precision")
            self._came[key] = self._store.origin(key), said if isinstance(said, str) else ""
        return self._came[key]

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
            return _number((result.get(SELECTED) or {}).get("last_test_acc"))
        if value == "shared_errors":
            return self._shared(plan, chain)
        if value == "rise":
            return self._beside.rise(key)
        return _number(part_of(result, line.part).get(value))

    def _shared(self, plan: Plan, chain: Chain) -> float:
        from takd.analysis.inside import error_overlap

        student, before = (self._beside.wrong(plan, key) for key in (chain.keys[-1], chain.keys[-2]))
        return math.nan if student is None or before is None else error_overlap(student, before).kappa


def plans_of(
    setting: Setting, dataset: Dataset, lines: Iterable[Line]
) -> Mapping[tuple[tuple[str, object], ...], Plan]:
    """The plans that hold the arms of some lines: one per set of changes to the setting's choices."""
    return _plans(setting, dataset, tuple(dict.fromkeys((line.changes, line.arm) for line in lines)))


@lru_cache(maxsize=16)
def _plans(
    setting: Setting, dataset: Dataset, wanted: tuple[tuple[tuple[tuple[str, object], ...], Arm], ...]
) -> Mapping[tuple[tuple[str, object], ...], Plan]:
    # What a board reads does not change while the program runs, and thousands of stages take a second to name.
    arms: dict[tuple[tuple[str, object], ...], list[Arm]] = {}
    for changes, arm in wanted:
        arms.setdefault(changes, []).append(arm)
    return {changes: build_plan(setting.changed(changes), dataset, tuple(some)) for changes, some in arms.items()}


def _heads_key(plan: Plan, chain: Chain) -> str:
    """The stage of the linear heads beside a chain."""
    return next((key for key in chain.beside if plan.stages[key].loss.name == "heads"), "")


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


@dataclass(frozen=True)
class Sample:
    """Differences by seed: `values` (seeds, a, b), where the measure is about max over a of min over b. Plain measures
    have one a and one b. `names[a][b]` says what is held against what."""

    seeds: tuple[int, ...]
    values: np.ndarray
    names: tuple[tuple[str, ...], ...]

    @property
    def pair(self) -> tuple[int, int]:
        """The (a, b) at which the means have their max over a of min over b."""
        means = self.values.mean(axis=0)
        a = int(means.min(axis=1).argmax())
        return a, int(means[a].argmin())

    def series(self) -> pd.Series:
        """That pair's differences by seed."""
        if not self.seeds:
            return pd.Series(dtype="float64").rename_axis("seed")
        a, b = self.pair
        return pd.Series(self.values[:, a, b], index=pd.Index(self.seeds, name="seed"), dtype="float64")

    @property
    def name(self) -> str:
        """That pair in words, where there are several."""
        if not self.seeds or self.values[0].size == 1:
            return ""
        a, b = self.pair
        return self.names[a][b]


NOTHING = Sample((), np.empty((0, 1, 1)), (("",),))


def sample(measure: Measure, readings: Readings) -> Sample:
    """The measure at the seeds at which all its lines are finished.

    Raises ValueError for a kind of measure that is not in takd.claims.claim.KINDS."""
    if measure.kind == "midpoint":
        return _midpoint(measure, readings)
    own, others = _table(measure.effects, readings), _table(measure.others, readings)
    seeds = own.index.intersection(others.index) if measure.others else own.index
    values = own.loc[seeds].to_numpy()
    names: tuple[tuple[str, ...], ...] = (("",),)
    if measure.kind == "effect":
        found = values[:, :1, None]
    elif measure.kind == "slope":
        found = slopes(np.asarray(measure.x), values)[:, None, None]
    elif measure.kind == "least":
        found, names = values[:, None, :], (tuple(named(effect) for effect in measure.effects),)
    elif measure.kind == "best against best":
        found = values[:, :, None] - others.loc[seeds].to_numpy()[:, None, :]
        names = tuple(
            tuple(f"{named(one)} against {named(other)}" for other in measure.others) for one in measure.effects
        )
    else:
        raise ValueError(f"{measure.kind} is not a kind of measure")
    return Sample(tuple(int(seed) for seed in seeds), found, names)


def named(effect: Effect) -> str:
    """An effect by its arms, as names write them."""
    parts = [_told(line) for _, line in effect]
    return parts[0] if len(parts) == 1 else f"{parts[0]} minus {parts[1]}"


def _told(line: Line) -> str:
    lam = dict(line.changes).get("lam")
    part = "" if line.part is None else f", part {line.part + 1}"
    return f"{line.arm.name}{part}" + (f" at lam {lam:g}" if isinstance(lam, float) else "")


def interval_of(found: Sample, alpha: float = 0.05) -> Interval:
    """The interval at confidence 1 - alpha for max over a, min over b of the means of the pairs (a, b).

    With L and U the ends of Student's t intervals of single pairs: from max_a min_b L at alpha / (number of a) to
    max_a min_b U at alpha / (number of b). Below: if the lower end is too high, some a has all its L above its own
    smallest mean, and there are so many a. Above: if the upper end is too low, the best a has a b whose U lies below
    its mean, and there are so many b. `mean` is the same of the means; `half` is half the width. With one pair it is
    the t interval.
    """
    n, a, b = found.values.shape
    if not n:
        return t_interval([], 1 - alpha)
    means = found.values.mean(axis=0)
    mean = float(means.min(axis=1).max())
    if n < 2:
        return Interval(n, mean, math.nan, math.nan, math.nan, 1 - alpha)
    error = found.values.std(axis=0, ddof=1) / math.sqrt(n)
    reach = [float(stats.t.isf(alpha / (2 * count), n - 1)) for count in (a, b)]
    low = float((means - reach[0] * error).min(axis=1).max())
    high = float((means + reach[1] * error).min(axis=1).max())
    return Interval(n, mean, low, high, (high - low) / 2, 1 - alpha)


def p_of(found: Sample, turn: float = 0.0) -> float:
    """Two-sided p of the measure being `turn`: the smallest alpha at which its interval leaves `turn` out. NaN for
    fewer than three seeds."""
    n, a, b = found.values.shape
    if n < LEAST_SEEDS:
        return math.nan
    means = found.values.mean(axis=0) - turn
    error = found.values.std(axis=0, ddof=1) / math.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Differences without any spread: certain, or exactly at the turn.
        score = np.where(
            error > ROUNDING, means / error, np.where(np.abs(means) > ROUNDING, np.sign(means) * np.inf, 0.0)
        )
    below, above = stats.t.sf(score, n - 1), stats.t.cdf(score, n - 1)
    up = 2 * a * float(below.max(axis=1).min())
    down = 2 * b * float(above.min(axis=1).max())
    return min(1.0, up, down)


def _table(effects: Sequence[Effect], readings: Readings) -> pd.DataFrame:
    """One row per seed at which everything is finished, one column per effect."""
    columns = [{line: readings.of(line) for _, line in effect} for effect in effects]
    finished = [set(series) for column in columns for series in column.values()]
    seeds = sorted(set.intersection(*finished)) if finished else []
    pairs = list(zip(effects, columns, strict=True))
    rows = [[sum(weight * column[line][seed] for weight, line in effect) for effect, column in pairs] for seed in seeds]
    return pd.DataFrame(rows, index=pd.Index(seeds, dtype="int64", name="seed"), columns=range(len(pairs)), dtype=float)


def slopes(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Least-squares slope over x (candidates,) of every row of values (seeds, candidates)."""
    if not len(values):
        return np.empty(0)
    centred = x - x.mean()
    return values @ centred / float(centred @ centred)


def _midpoint(measure: Measure, readings: Readings) -> Sample:
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
    return Sample(tuple(found), np.array([*found.values()], dtype=np.float64)[:, None, None], (("",),))
