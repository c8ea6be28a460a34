"""Arms side by side: pairing, Welch's interval and the permutation p against values worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from takd.analysis.side_by_side import Item, bands, contrast, contrasts, judge_apart, permutation_p, welch, why_apart
from takd.starts import ExperimentSpec

SPEC = ExperimentSpec()


def item(name: str, values: dict[int, float], spec: ExperimentSpec = SPEC) -> Item:
    chains = pd.DataFrame({"seed": list(values), "test_acc": list(values.values())}).assign(arm=name, done=True)
    return Item(name, spec, None, chains, pd.Series({"n": len(values)}))  # type: ignore[arg-type]


def test_arms_of_one_student_are_paired_by_seed_number() -> None:
    one = item("chain", {1: 0.72, 2: 0.74, 3: 0.73, 9: 0.10})
    other = item("direct", {0: 0.90, 1: 0.70, 2: 0.71, 3: 0.72}, replace(SPEC, method="kd", temperature=4.0))
    found = contrast(one, other)
    assert found.paired and list(found.dots["seed"]) == [1, 2, 3]
    assert found.dots["difference"].to_list() == pytest.approx([0.02, 0.03, 0.01])
    assert (found.verdict.n, found.verdict.interval.mean) == (3, pytest.approx(0.02))
    assert (found.verdict.arm, found.verdict.against) == ("chain", "direct")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"student": "plain-4"}, "the students differ"),
        ({"noise": 0.2}, "the labels differ"),
        ({"dataset": "digits"}, "the images differ"),
        ({"budget": "taste"}, "the budgets differ"),
        ({"teacher": "plain-8", "temperature": 2.0, "lam": 0.9, "seeds": 3}, ""),
    ],
)
def test_what_makes_a_seed_mean_something_else(change: dict[str, object], why: str) -> None:
    assert why_apart(SPEC, replace(SPEC, **change)) == why  # type: ignore[arg-type]


def test_without_common_seeds_samples_are_independent() -> None:
    found = contrast(item("a", {0: 0.7, 1: 0.71}), item("b", {5: 0.7, 6: 0.72}))
    assert not found.paired and "no seed is finished in both" in found.how and found.dots.empty


def test_welch_by_hand() -> None:
    # means 3 and 1; variances 1 and 4; s.e. = sqrt(1/3 + 4/4); freedom = se**4 / ((1/3)**2 / 2 + 1 / 3)
    left, right = np.array([2.0, 3.0, 4.0]), np.array([-1.0, 0.0, 1.0, 4.0])
    variance = right.var(ddof=1)
    error = math.sqrt(1 / 3 + variance / 4)
    freedom = error**4 / ((1 / 3) ** 2 / 2 + (variance / 4) ** 2 / 3)
    found = welch(left, right)
    assert (found.n, found.mean) == (3, pytest.approx(2.0))
    assert found.half == pytest.approx(stats.t.ppf(0.975, freedom) * error)
    low, high = stats.ttest_ind(left, right, equal_var=False).confidence_interval()
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert math.isnan(welch(np.array([1.0]), right).low) and welch(np.array([1.0]), right).mean == pytest.approx(0.0)
    assert math.isnan(welch(np.array([]), right).mean)
    same = welch(np.array([1.0, 1.0]), np.array([0.5, 0.5]))
    assert (same.low, same.high) == (0.5, 0.5)


def test_permutation_p_is_the_share_of_divisions() -> None:
    left, right = np.array([0.5, 0.7, 0.9]), np.array([0.1, 0.2, 0.75])
    both = np.concatenate([left, right])
    seen = left.mean() - right.mean()
    divided = [both[list(c)].mean() - np.delete(both, list(c)).mean() for c in combinations(range(6), 3)]
    above = np.mean([d >= seen - 1e-12 for d in divided])
    assert permutation_p(left, right) == pytest.approx(2 * above)
    assert permutation_p(left, right) == permutation_p(left, right)  # the same stream every time
    assert permutation_p(left, left) == 1.0
    assert math.isnan(permutation_p(left, np.array([])))


def test_the_rule_of_verdicts_holds_for_independent_samples_too() -> None:
    far = judge_apart(np.array([0.80, 0.81, 0.82]), np.array([0.60, 0.61, 0.62]))
    assert far.kind == "helps" and far.seeds_needed is None
    two = judge_apart(np.array([0.80, 0.81]), np.array([0.60, 0.61, 0.62]))
    assert two.kind == "cannot tell yet" and two.n == 2
    near = judge_apart(np.array([0.70, 0.80, 0.75]), np.array([0.71, 0.79, 0.75]))
    assert near.kind == "cannot tell yet" and near.seeds_needed is not None and near.seeds_needed > 3


def test_several_contrasts_are_one_family() -> None:
    reference = item("direct", dict.fromkeys(range(5), 0.7))
    up = item("up", {s: 0.72 + 0.001 * s for s in range(5)})
    mixed = item("mixed", {s: 0.70 + (-1) ** s * 0.01 for s in range(5)})
    found = {c.verdict.arm: c.verdict for c in contrasts([reference, up, mixed], reference)}
    assert set(found) == {"up", "mixed"}
    assert found["up"].p == pytest.approx(0.0625) and found["up"].p_holm == pytest.approx(0.125)
    assert found["mixed"].p_holm == pytest.approx(found["mixed"].p)
    assert contrasts([reference, up], reference)[0].verdict.p_holm is None


def test_bands_are_intervals_over_the_seeds_of_an_epoch() -> None:
    rows = [
        {"line": "a", "seed": s, "epoch": e, "val_acc": 0.5 + 0.1 * e + 0.01 * s} for s in (0, 1, 2) for e in (1, 2)
    ]
    rows.append({"line": "a", "seed": 3, "epoch": 1, "val_acc": math.nan})
    found = bands(pd.DataFrame(rows), "val_acc")
    first = found[found["epoch"] == 1].iloc[0]
    assert (first["n"], first["mean"]) == (3, pytest.approx(0.61))
    assert first["high"] - first["mean"] == pytest.approx(stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3))
