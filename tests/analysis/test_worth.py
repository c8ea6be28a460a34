"""The Pareto front against its definition, and costs by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from takd.analysis.frames import arm_frame
from takd.analysis.pool import plan_of_paths, pool
from takd.analysis.worth import against_longer, longer_chains, longer_plan, pareto, share_of_cost, worth_frame
from takd.plan import Arm
from takd.spec import start_for
from tests.analysis.fakes import DATASET, FakeStore

SPEC = start_for("cifar10")


def test_pareto_by_hand() -> None:
    cost = [1.0, 2.0, 2.0, 3.0, 4.0, math.nan]
    value = [0.5, 0.7, 0.6, 0.7, 0.9, 0.99]
    assert pareto(cost, value).tolist() == [True, True, False, False, True, False]
    assert pareto([1.0, 1.0], [0.5, 0.5]).tolist() == [True, True]  # equal points share the front
    assert pareto([], []).tolist() == []


def test_pareto_is_its_definition() -> None:
    rng = np.random.default_rng(3)
    cost, value = rng.integers(0, 8, 60).astype(float), rng.integers(0, 8, 60).astype(float)
    for i, on_front in enumerate(pareto(cost, value)):
        others = [
            cost[j] <= cost[i] and value[j] >= value[i] and (cost[j] < cost[i] or value[j] > value[i])
            for j in range(60)
        ]
        assert on_front == (not any(others))


def test_worth_of_arms_by_hand() -> None:
    store, plan = FakeStore(), plan_of_paths(SPEC, DATASET)
    for arm, accuracy in (
        (Arm("scratch", ("plain-2",)), 0.6),
        (Arm("kd", ("plain-4", "plain-2")), 0.7),
        (Arm("kd", ("plain-10", "plain-2")), 0.7),
        (Arm("takd", ("plain-10", "plain-4", "plain-2")), 0.8),
        (Arm("kd", ("plain-10", "plain-4")), 0.9),  # another student: not here
    ):
        for chain in plan.chains_of(arm):
            for key in chain.keys:
                if key not in store.results:
                    store.finish(plan, key, 0.5, seconds=100.0 if plan.stages[key].network == "plain-10" else 10.0)
            store.finish(plan, chain.student, accuracy)
    arms = worth_frame(pool(SPEC, DATASET, store), "plain-2").set_index("arm")
    assert arms["seconds"].to_dict() == {"scratch 2": 10, "kd 4>2": 20, "kd 10>2": 110, "takd 10>4>2": 120}
    assert arms["front"].to_dict() == {"scratch 2": True, "kd 4>2": True, "kd 10>2": False, "takd 10>4>2": True}
    assert arms["trainings"].to_dict() == {"scratch 2": 1, "kd 4>2": 2, "kd 10>2": 2, "takd 10>4>2": 3}
    assert share_of_cost(arms.loc["kd 4>2"], arms.loc["takd 10>4>2"]) == pytest.approx(1 / 6)
    by_count = worth_frame(pool(SPEC, DATASET, store), "plain-2", cost="trainings").set_index("arm")
    assert by_count.loc["kd 10>2", "front"]  # as many trainings as KD from 4, and as good


def test_the_equal_cost_control_trains_longer() -> None:
    plan, store = longer_plan(SPEC, DATASET), FakeStore()
    assert plan is not None and [arm.name for arm in plan.arms] == ["kd-long 10>2"]
    usual = plan_of_paths(SPEC, DATASET)
    short = usual.stages[usual.chains_of(Arm("kd", ("plain-10", "plain-2")))[0].student].recipe.epochs
    long = plan.stages[plan.chains[0].student].recipe.epochs
    assert long == 2 * short  # one assistant, trained for as many epochs as the student
    assert not longer_chains(SPEC, DATASET, store)["done"].any()
    for chain in plan.chains:
        for key in chain.keys:
            store.finish(plan, key, 0.7)
    longer = longer_chains(SPEC, DATASET, store)
    assert longer is not None and int(longer["done"].sum()) == SPEC.seeds
    arms = worth_frame(pool(SPEC, DATASET, store), "plain-2", [arm_frame(longer)])
    assert list(arms["arm"]) == ["kd-long 10>2"]
    assert against_longer(pool(SPEC, DATASET, store), SPEC, longer).n == 0
    for i, chain in enumerate(usual.chains_of(Arm("takd", SPEC.path))):
        store.finish(usual, chain.student, 0.72 + 0.001 * i)
    verdict = against_longer(pool(SPEC, DATASET, store), SPEC, longer)
    assert (verdict.n, verdict.kind) == (5, "helps")
    assert verdict.interval.mean == pytest.approx(0.022)
    assert longer_plan(replace(SPEC, method="kd", assistants=()), DATASET) is None
