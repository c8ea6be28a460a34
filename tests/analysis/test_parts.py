"""What each sub-model of one network reaches, and what is compared with what."""

from __future__ import annotations

import math
from typing import Any

import pytest

from takd.analysis.frames import chain_frame, gap_seed_frame
from takd.analysis.parts import PART_COLUMNS, PART_MEAN_COLUMNS, compare_part, part_frame, part_means
from takd.analysis.verdicts import verdicts_for
from takd.networks.table import sub_models
from takd.plan import Plan
from tests.analysis.fakes import FakeStore, plan_for

NETWORK = "slim-plain-4"
GAIN = {"joint": 0.0, "ipkd": 0.01, "ipkd-ta": 0.03}


def plan_of(method: str = "ipkd-ta", **more: Any) -> Plan:
    choices = {"teacher": NETWORK, "student": NETWORK, "assistants": (), "seeds": 3, "method": method}
    return plan_for(**{**choices, **more})


def filled(plan: Plan) -> FakeStore:
    """Wider sub-models are better by two points, later seeds by one; methods as in GAIN."""
    store = FakeStore()
    for chain in plan.chains:
        base = 0.5 + 0.01 * chain.seed + GAIN.get(chain.arm.method, -0.01)
        parts = [{"test_acc": base + 0.02 * k, "val_acc": base} for k in range(4)]
        alone = chain.arm.method == "scratch"
        store.finish(plan, chain.student, base if alone else base + 0.06, **({} if alone else {"parts": parts}))
    return store


def test_one_row_per_arm_sub_model_and_seed() -> None:
    plan = plan_of()
    parts = part_frame(plan, filled(plan))
    assert list(parts.columns) == list(PART_COLUMNS)
    assert len(parts) == 3 * (1 + 3 * 4)
    alone = parts[parts["method"] == "scratch"]
    small = sub_models(NETWORK, 10)[0]
    assert set(zip(alone["part"], alone["label"], alone["macs"], strict=True)) == {(1, small.label, small.macs)}
    row = parts[(parts["arm"] == f"ipkd-ta {NETWORK}") & (parts["part"] == 3) & (parts["seed"] == 2)].iloc[0]
    assert row["test_acc"] == pytest.approx(0.5 + 0.02 + 0.03 + 0.04)
    assert bool(row["chosen"])
    assert row["origin"] == "cached"


def test_means_carry_their_interval_and_n() -> None:
    plan = plan_of()
    means = part_means(part_frame(plan, filled(plan)))
    assert list(means.columns) == list(PART_MEAN_COLUMNS)
    assert len(means) == 13
    row = means[(means["method"] == "joint") & (means["part"] == 1)].iloc[0]
    assert (row["n"], row["mean"]) == (3, pytest.approx(0.51))
    assert row["half"] == pytest.approx(4.302653 * 0.01 / math.sqrt(3), rel=1e-6)


def test_nothing_trained_and_half_trained_stay_usable() -> None:
    plan = plan_of()
    means = part_means(part_frame(plan, FakeStore()))
    assert len(means) == 13 and set(means["n"]) == {0} and means["origin"].isna().all()
    store = filled(plan)
    for chain in plan.chains:
        if chain.seed or chain.arm.method == "joint":
            del store.results[chain.student]
    means = part_means(part_frame(plan, store)).set_index(["method", "part"])
    assert means.loc[("ipkd", 1), "n"] == 1 and math.isnan(means.loc[("ipkd", 1), "low"])
    assert means.loc[("joint", 1), "n"] == 0
    store.results[plan.chains_of(plan.chosen)[0].student]["parts"] = "broken"
    assert part_means(part_frame(plan, store)).set_index(["method", "part"]).loc[("ipkd-ta", 1), "n"] == 0


def test_an_ordinary_plan_has_no_sub_models() -> None:
    assert part_frame(plan_for(seeds=1), FakeStore()).empty
    assert part_means(part_frame(plan_for(seeds=1), FakeStore())).empty


@pytest.mark.parametrize(
    ("method", "options", "against"),
    [
        ("ipkd-ta", (), ["joint", "ipkd", "scratch"]),
        ("ipkd", (), ["joint", "scratch"]),
        ("joint", (), ["scratch"]),
        ("ipkd-ta", (("hard", True),), ["joint", "ipkd", "ipkd-ta", "scratch"]),
    ],
)
def test_the_chosen_way_is_held_against_the_others(method: str, options: Any, against: list[str]) -> None:
    plan = plan_of(method, options=options)
    found = verdicts_for(plan, chain_frame(plan, filled(plan)))
    assert [v.against.split(" ")[0] for v in found if v.arm == plan.chosen.name] == against
    assert len({(v.arm, v.against) for v in found}) == len(found)
    assert all(v.n == 3 for v in found)


def test_verdicts_are_of_the_smallest_and_pair_by_seed() -> None:
    plan = plan_of()
    store = filled(plan)
    first = verdicts_for(plan, chain_frame(plan, store))[0]
    assert first.interval.mean == pytest.approx(0.03) and first.interval.half == pytest.approx(0, abs=1e-9)
    largest = compare_part(part_frame(plan, store), 4, plan.chosen.name, f"joint {NETWORK}")
    assert largest.n == 3 and largest.interval.mean == pytest.approx(0.03)


def test_a_teacher_that_stopped_early_is_no_teacher_of_the_gap_chart() -> None:
    plan = plan_for(teacher="plain-4", student="plain-2", assistants=(), method="early-teacher", seeds=2)
    store = FakeStore()
    for key in plan.stages:
        store.finish(plan, key, 0.6)
    teachers = gap_seed_frame(plan, store).query("panel == 'teacher' and x == 'plain-4'")
    assert len(teachers) == 2
