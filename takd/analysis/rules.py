"""Which rule predicts the best assistant? Four midpoint rules, each scored by rank correlation on measured chains.

A rule places teacher, student and every size in between on one scale and prefers the assistant nearest to the middle of
the other two. Mirzadeh et al. (AAAI 2020, section "Size of TA") report the middle in accuracy of the networks trained
alone as the better choice than the middle in number of layers. Here it stands beside three others.

A rule is used before any chain is trained, so it may not see test labels: accuracies are on validation images. The
entropy of the answers is stored for test images only; it needs no labels. Gains are on test images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from takd.analysis.assistants import direct_name
from takd.analysis.frames import Store, tidy
from takd.analysis.pool import Pool
from takd.analysis.statistics import MARGIN, Interval, spearman, t_interval
from takd.analysis.verdicts import LEAST_SEEDS
from takd.networks.table import capacity
from takd.plan import Arm

LEAST = 3  # candidates: two can only be in one order or the other
RULES: Mapping[str, str] = {
    "accuracy": "accuracy midpoint",
    "params": "log-parameter midpoint",
    "macs": "log-MAC midpoint",
    "entropy": "entropy midpoint",
}
CASE_COLUMNS = {
    "pool": "int16", "key": "str", "teacher": "category", "student": "category", "assistant": "category",
    "seed": "int64", "gain": "float64", **dict.fromkeys(RULES, "float64"),
}  # fmt: skip
SCORE_COLUMNS = {
    "rule": "str", "pool": "int16", "seed": "int64", "pairs": "int16", "rho": "float64", "hit": "float64",
}  # fmt: skip
_ENOUGH = 1e-12  # gains are counts over images; their differences carry rounding


@dataclass(frozen=True)
class Score:
    """One rule over all pairs: the mean rank correlation and the share of pairs in which its pick is within the margin
    of the best, with t intervals over independent seeds (n of them)."""

    rule: str
    rho: Interval
    hit: Interval


@dataclass(frozen=True)
class Rules:
    """scores: best rank correlation first. pairs: (teacher, student) pairs with enough candidates. chance: the share of
    assistants that lie within the margin of the best, what a blind pick would hit. best: the rule whose lead over every
    other is certain; None where none is. cases: CASE_COLUMNS, one row per candidate and seed."""

    scores: tuple[Score, ...]
    pairs: tuple[tuple[str, str], ...]
    chance: Interval
    best: str | None
    cases: pd.DataFrame


def rules(pools: Sequence[tuple[Pool, Store]], margin: float = MARGIN) -> Rules:
    """Score all rules on the pools. Seeds are the independent units: within a seed, pairs share networks, so their
    correlations are averaged first and the interval is taken over seeds. A seed and pair at which a rule's distances
    or the gains are all equal has no rank correlation and is left out of that mean."""
    cases = pd.concat([candidates(pool, store, i) for i, (pool, store) in enumerate(pools)], ignore_index=True)
    cases = _once(tidy(cases.to_dict("records"), CASE_COLUMNS))
    table = per_seed(cases, margin)
    scores = []
    for rule in RULES:
        own = table[table["rule"] == rule]
        scores.append(Score(rule, t_interval(own["rho"].dropna()), t_interval(own["hit"].dropna())))
    scores.sort(key=lambda s: -s.rho.mean if s.rho.n else math.inf)
    pairs = list(dict.fromkeys(zip(cases["teacher"].astype(str), cases["student"].astype(str), strict=True)))
    chance = t_interval(table.loc[table["rule"] == "chance", "hit"].dropna())
    return Rules(tuple(scores), tuple(pairs), chance, _leader(table, scores), cases)


def candidates(pool: Pool, store: Store, number: int = 0) -> pd.DataFrame:
    """One row per pair of the pool, measured single assistant and seed (CASE_COLUMNS), where at least three assistants
    are finished at that seed beside direct KD. A rule's column is its distance from the middle, NaN where a network
    alone is not trained."""
    alone = _alone(pool, store)
    rows = []
    done = pool.chains[pool.chains["done"] & pool.chains["test_acc"].notna()]
    where = [(str(arm), int(seed)) for arm, seed in zip(done["arm"], done["seed"], strict=True)]
    accuracy = dict(zip(where, done["test_acc"].astype(float), strict=True))
    keys = dict(zip(where, done["student_key"].astype(str), strict=True))
    seeds = sorted({seed for _, seed in accuracy})
    for student, teacher in combinations(pool.sizes, 2):
        inside = pool.sizes[pool.sizes.index(student) + 1 : pool.sizes.index(teacher)]
        control = direct_name(teacher, student)
        names = {size: Arm("takd", (teacher, size, student)).name for size in inside}
        for seed in seeds:
            tried = [size for size in inside if (names[size], seed) in accuracy]
            if len(tried) < LEAST or (control, seed) not in accuracy:
                continue
            for size in tried:
                gain = accuracy[names[size], seed] - accuracy[control, seed]
                rows.append(
                    {"pool": number, "teacher": teacher, "student": student, "assistant": size, "seed": seed}
                    | {"gain": gain, "key": keys[names[size], seed]}
                    | {rule: distance(alone[rule], teacher, size, student, seed) for rule in RULES}
                )
    return tidy(rows, CASE_COLUMNS)


def _once(cases: pd.DataFrame) -> pd.DataFrame:
    """Every training counted once: two questions that differ in their number of seeds share most of them. A pair and
    seed of which a training was counted in an earlier pool is left out of the later one."""
    seen: dict[str, int] = {}
    kept = []
    for (pool, *_), group in cases.groupby(["pool", "teacher", "student", "seed"], observed=True, sort=True):
        if all(seen.get(str(key), pool) == pool for key in group["key"]):
            seen |= dict.fromkeys(group["key"].astype(str), pool)
            kept.append(group)
    return pd.concat(kept, ignore_index=True) if kept else cases


def distance(scale: Callable[[str, int], float], teacher: str, assistant: str, student: str, seed: int) -> float:
    """How far an assistant lies from the middle of teacher and student on a rule's scale."""
    return abs(scale(assistant, seed) - (scale(teacher, seed) + scale(student, seed)) / 2)


def per_seed(cases: pd.DataFrame, margin: float = MARGIN) -> pd.DataFrame:
    """One row per rule, pool and seed (SCORE_COLUMNS): the mean over its pairs of Spearman's rank correlation between
    minus distance and gain (rho), and the share of pairs in which the rule's pick gains at least the best gain minus
    the margin (hit; of several at the same distance, their mean). The rule `chance` picks any assistant."""
    rows = []
    for (pool, seed), group in cases.groupby(["pool", "seed"], observed=True):
        pairs = [pair for _, pair in group.groupby(["teacher", "student"], observed=True)]
        for rule in (*RULES, "chance"):
            rho, hit = [], []
            for pair in pairs:
                good = (pair["gain"] >= pair["gain"].max() - margin - _ENOUGH).to_numpy(float)
                if rule == "chance":
                    hit.append(float(good.mean()))
                    continue
                far = pair[rule].to_numpy(float)
                if np.isfinite(far).all():
                    rho.append(spearman(-far, pair["gain"].to_numpy(float)))
                    hit.append(float(good[far <= far.min() + _ENOUGH].mean()))
            rho = [value for value in rho if math.isfinite(value)]
            rows.append(
                {"rule": rule, "pool": pool, "seed": seed, "pairs": len(pairs)}
                | {"rho": np.mean(rho) if rho else math.nan, "hit": np.mean(hit) if hit else math.nan}
            )
    return tidy(rows, SCORE_COLUMNS)


def _leader(table: pd.DataFrame, scores: Sequence[Score]) -> str | None:
    """The rule whose rank correlation is above every other's: paired by seed, at a confidence that allows for all the
    pairs of rules that could have been compared (Bonferroni)."""
    wide = table[table["rule"] != "chance"].pivot_table(index=["pool", "seed"], columns="rule", values="rho")
    if not scores or not scores[0].rho.n:
        return None
    first, confidence = scores[0].rule, 1 - 0.05 / math.comb(len(RULES), 2)
    for other in RULES:
        if other == first:
            continue
        if other not in wide or first not in wide:
            return None
        lead = t_interval((wide[first] - wide[other]).dropna().to_numpy(), confidence)
        if lead.n < LEAST_SEEDS or not lead.low > _ENOUGH:
            return None
    return first


def _alone(pool: Pool, store: Store) -> dict[str, Callable[[str, int], float]]:
    """Each rule's scale: (network, seed) -> number, from the networks trained alone at that seed."""
    classes = next(iter(pool.plan.stages.values())).data.classes
    results = {
        (chain.arm.path[0], chain.seed): store.result(chain.student) or {}
        for chain in pool.plan.chains
        if chain.arm.method == "scratch"
    }

    def stored(column: str) -> Callable[[str, int], float]:
        def value(network: str, seed: int) -> float:
            found = results.get((network, seed), {}).get(column)
            return float(found) if isinstance(found, (int, float)) else math.nan

        return value

    return {
        "accuracy": stored("val_acc"),
        "params": lambda network, _: math.log(capacity(network, classes).params),
        "macs": lambda network, _: math.log(capacity(network, classes).macs),
        "entropy": stored("entropy"),
    }
