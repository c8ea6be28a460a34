"""Midpoint rules against correlations worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from takd.analysis.pool import plan_of_paths, pool
from takd.analysis.rules import RULES, candidates, distance, per_seed, rules
from takd.networks.table import capacity
from takd.plan import Arm
from takd.spec import ExperimentSpec, start_for
from tests.analysis.fakes import DATASET, FakeStore

SPEC = replace(start_for("cifar10"), seeds=3)
T, S, INSIDE = "plain-10", "plain-2", ("plain-8", "plain-6", "plain-4")
# Alone: teacher 0.9, student 0.5, so the middle is 0.7; 6 is nearest, then 4 (0.12 away), then 8 (0.16).
ALONE = {"plain-10": 0.9, "plain-8": 0.86, "plain-6": 0.71, "plain-4": 0.58, "plain-2": 0.5}
ENTROPY = {"plain-10": 0.2, "plain-8": 0.6, "plain-6": 0.9, "plain-4": 1.1, "plain-2": 1.0}  # middle 0.6: 8, 6, 4


def stored(
    gains: dict[str, list[float]], spec: ExperimentSpec = SPEC, entropy: dict[str, float] = ENTROPY
) -> FakeStore:
    """Every network alone, direct KD at 0.6, and single-assistant chains that gain what `gains` says, by seed."""
    store, plan = FakeStore(), plan_of_paths(spec, DATASET)
    for name, accuracy in ALONE.items():
        for chain in plan.chains_of(Arm("scratch", (name,))):
            store.finish(plan, chain.student, accuracy - 0.3, val_acc=accuracy, entropy=entropy[name])
    for i in range(spec.seeds):
        store.finish(plan, plan.chains_of(Arm("kd", (T, S)))[i].student, 0.6)
        for size, gain in gains.items():
            chain = plan.chains_of(Arm("takd", (T, size, S)))[i]
            store.finish(plan, chain.keys[1], 0.7)
            store.finish(plan, chain.student, 0.6 + gain[i])
    return store


STEADY = {"plain-8": [0.01] * 3, "plain-6": [0.05] * 3, "plain-4": [0.03] * 3}


def test_distances_by_hand() -> None:
    store = stored(STEADY)
    cases = candidates(pool(SPEC, DATASET, store), store).set_index(["assistant", "seed"])
    assert len(cases) == 9  # three assistants, three seeds; no other pair of the ladder has three assistants
    row = cases.loc[("plain-8", 0)]
    assert row["accuracy"] == pytest.approx(0.16)  # validation, not test
    assert row["entropy"] == pytest.approx(0.0)
    assert row["gain"] == pytest.approx(0.01)
    logs = {name: math.log(capacity(name, 10).macs) for name in ALONE}
    assert row["macs"] == pytest.approx(abs(logs["plain-8"] - (logs[T] + logs[S]) / 2))
    params = {name: math.log(capacity(name, 10).params) for name in ALONE}
    assert row["params"] == pytest.approx(abs(params["plain-8"] - (params[T] + params[S]) / 2))
    assert distance(lambda name, _: float(name[-1]), "n-8", "n-4", "n-2", 0) == 1.0


def test_a_rule_that_ranks_as_measured_scores_one() -> None:
    store = stored(STEADY)  # measured order 6, 4, 8: the accuracy rule's own; entropy says 8, 6, 4
    found = rules([(pool(SPEC, DATASET, store), store)])
    scores = {score.rule: score for score in found.scores}
    assert scores["accuracy"].rho.mean == pytest.approx(1.0)
    assert scores["accuracy"].hit.mean == 1.0
    # Ranks by gain (8, 6, 4) = 1, 3, 2, by nearness in entropy 3, 2, 1: rho = 1 - 6 (4 + 1 + 1) / (3 * 8) = -0.5.
    assert scores["entropy"].rho.mean == pytest.approx(-0.5)
    assert scores["entropy"].hit.mean == 0.0
    assert found.pairs == ((T, S),)
    assert found.chance.mean == pytest.approx(1 / 3)
    assert found.scores[0].rho.mean == 1.0
    assert scores["accuracy"].rho.n == 3


def test_the_margin_makes_more_picks_good() -> None:
    store = stored(STEADY)
    found = rules([(pool(SPEC, DATASET, store), store)], margin=0.02)
    assert found.chance.mean == pytest.approx(2 / 3)  # 6 and, two points below it, 4


def test_a_leader_must_be_certain_against_every_other() -> None:
    store = stored(STEADY)
    found = rules([(pool(SPEC, DATASET, store), store)])
    assert found.best is None  # the log-MAC rule ranks these networks the same way: 6, 4, 8
    # Entropies that say 4, 6, 8, the measured order: accuracy and log-MAC agree in one step less, parameters in none.
    entropy = {**ENTROPY, "plain-4": 0.6, "plain-8": 1.1}
    alone = stored({"plain-8": [0.01] * 3, "plain-6": [0.03] * 3, "plain-4": [0.05] * 3}, entropy=entropy)
    found = rules([(pool(SPEC, DATASET, alone), alone)])
    assert {score.rule: round(score.rho.mean, 6) for score in found.scores} == {
        "entropy": 1.0, "accuracy": 0.5, "macs": 0.5, "params": -1.0,
    }  # fmt: skip
    assert found.best == "entropy"
    noisy = {"plain-8": [0.01, 0.06, 0.02], "plain-6": [0.05, 0.01, 0.0], "plain-4": [0.03, 0.04, 0.07]}
    other = stored(noisy)
    assert rules([(pool(SPEC, DATASET, other), other)]).best is None


def test_per_seed_is_the_mean_over_pairs() -> None:
    def pair(teacher: str, far: list[float], gain: list[float]) -> list[dict[str, object]]:
        return [
            {"pool": 0, "key": f"{teacher}{i}", "teacher": teacher, "student": "s", "assistant": f"a{i}", "seed": 7}
            | {"gain": g, **dict.fromkeys(RULES, d)}
            for i, (d, g) in enumerate(zip(far, gain, strict=True))
        ]

    cases = pd.DataFrame(pair("t", [1, 2, 3], [0.3, 0.2, 0.1]) + pair("u", [1, 2, 3], [0.1, 0.2, 0.3]))
    rows = per_seed(cases).set_index("rule")
    assert rows.loc["macs", "rho"] == pytest.approx(0.0)  # 1 and -1
    assert rows.loc["macs", "hit"] == pytest.approx(0.5)
    assert rows.loc["macs", "pairs"] == 2
    tied = per_seed(pd.DataFrame(pair("t", [2, 2, 2], [0.3, 0.2, 0.1]))).set_index("rule")
    assert math.isnan(tied.loc["macs", "rho"])  # no order at all
    assert tied.loc["macs", "hit"] == pytest.approx(1 / 3)  # any of the three


def test_the_same_training_counts_once() -> None:
    more = replace(SPEC, seeds=5)
    store = stored({name: gains[:1] * 5 for name, gains in STEADY.items()}, more)
    small, large = (pool(spec, DATASET, store) for spec in (SPEC, more))
    assert rules([(small, store), (large, store)]).scores[0].rho.n == 5
    assert rules([(large, store), (large, store)]).scores[0].rho.n == 5


def test_nothing_to_score() -> None:
    store = FakeStore()
    found = rules([(pool(SPEC, DATASET, store), store)])
    assert (found.best, found.pairs, found.chance.n) == (None, (), 0)
    assert all(score.rho.n == 0 for score in found.scores)
    two = stored({name: STEADY[name] for name in ("plain-8", "plain-6")})  # two can only be in one order or the other
    assert rules([(pool(SPEC, DATASET, two), two)]).pairs == ()


def test_a_network_that_is_not_trained_alone_takes_no_part() -> None:
    store, plan = stored(STEADY), plan_of_paths(SPEC, DATASET)
    for chain in plan.chains_of(Arm("scratch", ("plain-6",))):
        del store.results[chain.student]
    found = rules([(pool(SPEC, DATASET, store), store)])
    scores = {score.rule: score for score in found.scores}
    assert scores["accuracy"].rho.n == 0  # not known for one of the three
    assert scores["macs"].rho.n == 3
