"""Intervals, exact tests and corrections for a handful of seeds. Float64 throughout; nothing here knows about files.

Values are accuracies or differences of accuracies as fractions, one per seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

MARGIN = 0.005  # half a percentage point: smaller differences are "too small to matter" unless the reader moves it
EXACT_UP_TO = 20  # seeds; 2**20 sign patterns are a million sums, a few milliseconds
_DRAWS = 100_000
_CHUNK = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean over `n` seeds and its confidence interval [low, high] = mean -+ half, in the unit of the values.

    mean is NaN for n = 0; low, high and half are NaN for n < 2, where no spread can be seen.
    """

    n: int
    mean: float
    low: float
    high: float
    half: float
    confidence: float = 0.95


def t_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """Student's t interval for the mean of `values` (n,): mean -+ t_{n-1} * sd / sqrt(n), sd with n - 1.

    Raises ValueError for values that are not finite: an unfinished seed has to be left out by the caller, openly.
    """
    data = _finite(values)
    n = data.size
    mean = float(data.mean()) if n else math.nan
    if n < 2:
        return Interval(n, mean, math.nan, math.nan, math.nan, confidence)
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1) * data.std(ddof=1) / math.sqrt(n))
    return Interval(n, mean, mean - half, mean + half, half, confidence)


def sign_flip_p(differences: Sequence[float] | np.ndarray) -> float:
    """Two-sided sign-flip (Fisher randomisation) p of paired differences (n,): the share of sign patterns whose
    |sum| is at least the observed one. NaN for n = 0.

    Exact up to 20 pairs; beyond, 100 000 patterns from a fixed stream with the +1 correction (Phipson and Smyth
    2010), so that the same data always show the same p and none shows 0. It cannot go below 2 / 2**n: 0.25 at
    n = 3, 0.0625 at n = 5.
    """
    data = _finite(differences)
    n = data.size
    if n == 0:
        return math.nan
    # Sums that are equal in exact arithmetic differ in the last bits; they must count as ties.
    reach = abs(data.sum()) - 1e-12 * np.abs(data).sum()
    if n <= EXACT_UP_TO:
        sums = np.zeros(1)
        for difference in data:
            sums = np.concatenate([sums + difference, sums - difference])
        return float(np.mean(np.abs(sums) >= reach))
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(_DRAWS // _CHUNK):
        signs = 2 * rng.integers(0, 2, (_CHUNK, n), dtype=np.int8) - 1
        hits += int(np.count_nonzero(np.abs(signs @ data) >= reach))
    return (hits + 1) / (_DRAWS + 1)


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjusted p, in the order given. NaN stays NaN and is not counted as a test."""
    adjusted = [math.nan] * len(pvalues)
    ranked = sorted((p, i) for i, p in enumerate(pvalues) if not math.isnan(p))
    highest = 0.0
    for rank, (p, i) in enumerate(ranked):
        highest = max(highest, min(1.0, (len(ranked) - rank) * p))
        adjusted[i] = highest
    return adjusted


def seeds_needed(
    differences: Sequence[float] | np.ndarray, margin: float = MARGIN, confidence: float = 0.95
) -> int | None:
    """How many seeds bring the interval's half width down to `margin`: (t * sd / margin)**2 rounded up, at least 3.

    t belongs to the answer's own degrees of freedom, not to today's: at n = 3 today's t (4.3) would ask for four
    times too many. A planning figure: sd comes from the few differences at hand. None for n < 2 or margin <= 0.
    """
    data = _finite(differences)
    if data.size < 2 or margin <= 0:
        return None
    ratio = float(data.std(ddof=1)) / margin
    # t is above z for any n, so the search can start at the z answer and is over after a few steps.
    n = max(3, math.floor((stats.norm.ppf(0.5 + confidence / 2) * ratio) ** 2))
    while n < (stats.t.ppf(0.5 + confidence / 2, n - 1) * ratio) ** 2 - 1e-9:
        n += 1
    return n


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Rank correlation of two sequences of equal length; NaN for fewer than 3 points, constants or missing values."""
    a, b = np.asarray(x, float), np.asarray(y, float)
    if a.size < 3 or not np.isfinite([a, b]).all() or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(stats.spearmanr(a, b).statistic)


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    data = np.asarray(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(data).all():
        raise ValueError("values must be finite; leave unfinished seeds out")
    return data
