"""Arms of any questions side by side: each arm's seeds, and the difference from one of them.

Two arms are paired by seed where a seed means the same thing in both: the same student network on the same images,
so that initial weights and batch order are shared. Everything else is compared as two independent samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from takd.analysis.frames import Store, arm_frame, chain_frame
from takd.analysis.statistics import MARGIN, Interval, holm, t_interval
from takd.analysis.verdicts import LEAST_SEEDS, Verdict, judge, kind_of_interval, paired_differences
from takd.data.table import Dataset
from takd.plan import Plan, build_plan, chosen_arm
from takd.spec import ExperimentSpec

_EXACT = 20_000  # ways to divide the seeds among two arms; beyond, as many random ones
_FULL = "paired by seed"
_APART = "two independent samples"


@dataclass(frozen=True)
class Item:
    """One arm: the question whose chosen arm it is, its plan (that arm alone), its chain frame and its row of the arm
    frame (takd.analysis.frames), and `name`, a label that no other item has."""

    name: str
    spec: ExperimentSpec
    plan: Plan
    chains: pd.DataFrame
    arm: pd.Series

    @property
    def n(self) -> int:
        """Finished seeds."""
        return int(self.arm["n"])


@dataclass(frozen=True)
class Contrast:
    """`verdict` on item minus reference (names of items), how they were compared and why. dots: one row per seed
    (seed, difference); empty where nothing is paired."""

    verdict: Verdict
    paired: bool
    how: str
    dots: pd.DataFrame


def item(name: str, spec: ExperimentSpec, dataset: Dataset, store: Store) -> Item:
    """Look an arm up. `dataset` must carry its fingerprint (ValueError)."""
    plan = build_plan(spec, dataset, (chosen_arm(spec),))
    chains = chain_frame(plan, store)
    return Item(name, spec, plan, chains, arm_frame(chains).iloc[0])


def why_apart(one: ExperimentSpec, other: ExperimentSpec) -> str:
    """Why two arms are not paired by seed; empty where they are."""
    reasons = {
        "dataset": "the images differ",
        "images": "the numbers of training images differ",
        "noise": "the labels differ",
        "student": "the students differ",
        "epochs": "the numbers of epochs differ",
        "lr": "the learning rates differ",
    }
    found = [said for name, said in reasons.items() if getattr(one, name) != getattr(other, name)]
    if not found and one.budget != other.budget:  # it says how many images are seen, and in how many epochs
        found = ["the budgets differ"]
    return ", ".join(found)


def contrast(one: Item, reference: Item, margin: float = MARGIN) -> Contrast:
    """Test accuracy of an item minus the reference's, with a 95 % interval and a p from exchanging signs or seeds."""
    apart = why_apart(one.spec, reference.spec)
    if not apart:
        both = pd.concat([one.chains.assign(arm="one"), reference.chains.assign(arm="other")], ignore_index=True)
        pairs = paired_differences(both, "one", "other")
        if len(pairs):
            verdict = replace(judge(pairs, margin), arm=one.name, against=reference.name)
            dots = pd.DataFrame({"seed": pairs.index, "difference": pairs.to_numpy()})
            return Contrast(verdict, True, _FULL, dots)
        apart = "no seed is finished in both"
    left, right = _values(one), _values(reference)
    verdict = judge_apart(left, right, margin)
    named = replace(verdict, arm=one.name, against=reference.name)
    return Contrast(named, False, f"{_APART}, because {apart}", pd.DataFrame(columns=["seed", "difference"]))


def contrasts(items: Sequence[Item], reference: Item, margin: float = MARGIN) -> list[Contrast]:
    """Every other item against the reference. They are one family: their p carry Holm's correction where there are
    more than one."""
    found = [contrast(one, reference, margin) for one in items if one is not reference]
    if len(found) < 2:
        return found
    adjusted = holm([1.0 if math.isnan(c.verdict.p) else c.verdict.p for c in found])
    return [
        replace(c, verdict=replace(c.verdict, p_holm=p if not math.isnan(c.verdict.p) else None))
        for c, p in zip(found, adjusted, strict=True)
    ]


def judge_apart(left: np.ndarray, right: np.ndarray, margin: float = MARGIN) -> Verdict:
    """The verdict on mean(left) - mean(right) of two independent samples of accuracies: Welch's t interval, p from
    all (or 20 000 random) ways to divide the seeds among the two. n is the smaller sample."""
    n = min(left.size, right.size)
    interval = welch(left, right)
    kind = kind_of_interval(interval, margin) if n >= LEAST_SEEDS else "cannot tell yet"
    needed = None
    if kind == "cannot tell yet":
        spread = math.sqrt(left.var(ddof=1) + right.var(ddof=1)) if n >= 2 else math.nan
        wanted = math.ceil((1.96 * spread / margin) ** 2) if math.isfinite(spread) and margin > 0 else LEAST_SEEDS
        needed = max(wanted, n + 1, LEAST_SEEDS)
    return Verdict(kind, "", "", n, interval, permutation_p(left, right), margin, needed)


def welch(left: np.ndarray, right: np.ndarray, confidence: float = 0.95) -> Interval:
    """Welch's interval for mean(left) - mean(right), degrees of freedom after Welch and Satterthwaite; n is the smaller
    sample's. NaN ends where a sample has fewer than two values."""
    n = min(left.size, right.size)
    mean = float(left.mean() - right.mean()) if n else math.nan
    if n < 2:
        return Interval(n, mean, math.nan, math.nan, math.nan, confidence)
    parts = [sample.var(ddof=1) / sample.size for sample in (left, right)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Interval(n, mean, mean, mean, 0.0, confidence)
    freedom = error**4 / sum(part**2 / (s.size - 1) for part, s in zip(parts, (left, right), strict=True))
    half = float(stats.t.ppf(0.5 + confidence / 2, freedom) * error)
    return Interval(n, mean, mean - half, mean + half, half, confidence)


def permutation_p(left: np.ndarray, right: np.ndarray) -> float:
    """Two-sided permutation p of the difference of means: exact where there are at most 20 000 divisions, else from
    20 000 random ones of a fixed stream. NaN where a sample is empty."""
    if not left.size or not right.size:
        return math.nan
    found = stats.permutation_test(
        (left, right),
        lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis),
        vectorized=True,
        n_resamples=_EXACT,
        alternative="two-sided",
        rng=np.random.default_rng(0),
    )
    return float(min(1.0, found.pvalue))


def _values(one: Item) -> np.ndarray:
    rows = one.chains[one.chains["done"] & one.chains["test_acc"].notna()]
    return rows["test_acc"].to_numpy(dtype=np.float64)


def bands(curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per line and epoch of a curve frame: line, epoch, mean, low, high (95 % t interval over seeds), n."""
    rows = []
    kept = curves.dropna(subset=[metric])
    for (line, epoch), group in kept.groupby(["line", "epoch"], observed=True, sort=False):
        interval = t_interval(group[metric].to_numpy(dtype=np.float64))
        rows.append((str(line), int(epoch), interval.mean, interval.low, interval.high, interval.n))
    return pd.DataFrame(rows, columns=["line", "epoch", "mean", "low", "high", "n"])
