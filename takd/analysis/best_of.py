"""What choosing the best of several equal trainings is worth: the largest of n numbers lies above their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from takd.analysis.contrasts import Beside, Readings
from takd.analysis.frames import Store
from takd.claims.measures import kd
from takd.claims.settings import SETTINGS, Setting
from takd.claims.table import CLAIMS
from takd.data.table import Dataset

DRAWS = (5, 30, 120)  # 120 trials chose the published settings
CLAIM = "optimism"  # what it stands beside
_LEAST = 20  # stored seeds: fewer say little about the largest of many


@dataclass(frozen=True)
class BestOf:
    """Students of direct KD that differ in nothing but the seed: how many are stored, and by how much the best of n of
    them lies above their mean, by n; fractions."""

    setting: Setting
    stored: int
    above: Mapping[int, float]


def best_above_mean(values: Sequence[float], n: int) -> float:
    """The expected largest of n draws with replacement from these values, minus their mean; exact.

    The i-th smallest of N is the largest of n draws with probability (i/N)^n - ((i-1)/N)^n. Draws can find no better
    one than is there, so for n beyond N it is too little.
    """
    if not values or n < 1:
        raise ValueError("values and at least one draw are needed")
    total = len(values)
    chances = [(i / total) ** n - ((i - 1) / total) ** n for i in range(1, total + 1)]
    best = sum(value * chance for value, chance in zip(sorted(values), chances, strict=True))
    return best - sum(values) / total


def best_of(store: Store, datasets: Mapping[str, Dataset], beside: Beside) -> tuple[BestOf, ...]:
    """In every setting of CLAIM with enough stored seeds."""
    found = []
    for name in dict.fromkeys(trial.setting for trial in CLAIMS[CLAIM].trials):
        setting = SETTINGS[name]
        if datasets[setting.spec.dataset].fingerprint is None:
            continue
        line = kd(setting.teacher, setting.student)
        values = list(Readings(setting, datasets[setting.spec.dataset], store, [line], beside).of(line).values())
        if len(values) >= _LEAST:
            found.append(BestOf(setting, len(values), {n: best_above_mean(values, n) for n in DRAWS}))
    return tuple(found)
