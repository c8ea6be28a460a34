"""The numbers of the Capacity gap page, against ones worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from takd.analysis.capacity_gap import (
    LINE_COLUMNS,
    TEACHER_COLUMNS,
    VALUE_COLUMNS,
    line_frame,
    line_of,
    peak_of,
    seed_values,
    teacher_frame,
)
from takd.analysis.frames import chain_frame, stage_frame
from takd.analysis.pool import Pool, pool
from takd.analysis.whatif import Guess
from takd.networks.table import capacity
from takd.plan import Arm
from takd.presentation.gap.words import peak_sentence
from takd.spec import ExperimentSpec
from tests.analysis.fakes import DATASET, FakeStore, plan_for

ALONE, BIG, SMALL = Arm("scratch", ("plain-2",)), Arm("kd", ("plain-10", "plain-2")), Arm("kd", ("plain-4", "plain-2"))
CHAIN = Arm("takd", ("plain-10", "plain-4", "plain-2"))


def filled(values: dict[Arm, list[float]], **more: float) -> tuple[Pool, FakeStore]:
    """A pool in which these arms have finished: their student's test accuracy by seed."""
    store, spec = FakeStore(), ExperimentSpec(dataset="cifar10", seeds=3)
    empty = pool(spec, DATASET, store)
    for arm, accuracies in values.items():
        for chain, accuracy in zip(empty.plan.chains_of(arm), accuracies, strict=False):
            store.finish(empty.plan, chain.student, accuracy, **more)
    return pool(spec, DATASET, store), store


def test_gain_is_paired_with_the_same_seed_s_student_alone() -> None:
    here, store = filled({ALONE: [0.60, 0.70], BIG: [0.65, 0.71, 0.90]})
    found = seed_values(here.plan.stages, here.chains, store, "gain")
    assert {c: str(t) for c, t in found.dtypes.items()} == VALUE_COLUMNS
    rows = {(str(r.arm), int(r.seed)): r.value for r in found.itertuples()}
    assert rows == {("kd 10>2", 0): pytest.approx(0.05), ("kd 10>2", 1): pytest.approx(0.01)}  # nothing alone at seed 2
    plain = seed_values(here.plan.stages, here.chains, store, "accuracy")
    assert len(plain) == 5 and set(plain["arm"]) == {"scratch 2", "kd 10>2"}


def test_agreement_is_with_the_direct_teacher_and_calibration_the_error_stored() -> None:
    here, store = filled({ALONE: [0.6], CHAIN: [0.7]}, ece=0.04)
    stage = here.plan.stages[here.plan.chains_of(CHAIN)[0].student]
    store.results[stage.key]["agreement"] = {"0" * 32: 0.1, stage.teachers[-1]: 0.8}
    agreement = seed_values(here.plan.stages, here.chains, store, "agreement")
    assert agreement.to_dict("records") == [{"arm": "takd 10>4>2", "seed": 0, "value": 0.8}]  # nobody taught alone
    calibration = seed_values(here.plan.stages, here.chains, store, "calibration")
    assert calibration["value"].tolist() == [0.04, 0.04]


def test_of_several_teachers_the_direct_one_counts() -> None:
    plan, store = (
        plan_for(teacher="plain-10", assistants=("plain-4",), student="plain-2", method="dgkd", seeds=1),
        FakeStore(),
    )
    stage = plan.stages[plan.chains_of(plan.chosen)[0].student]
    assert len(stage.teachers) == 2
    store.finish(plan, stage.key, 0.7, agreement={stage.teachers[0]: 0.6, stage.teachers[1]: 0.9})
    found = seed_values(plan.stages, chain_frame(plan, store), store, "agreement")
    direct = stage_frame(plan, store).set_index("key").loc[stage.key, "agreement"]
    assert found["value"].tolist() == [direct] == [0.9]


def test_teachers_are_those_between_with_their_own_accuracy() -> None:
    here, _ = filled({Arm("scratch", ("plain-4",)): [0.7, 0.8, 0.9], Arm("scratch", ("plain-10",)): [0.5]})
    found = teacher_frame(here, "plain-2", "plain-8")
    assert {c: str(t) for c, t in found.dtypes.items()} == TEACHER_COLUMNS
    assert found["teacher"].tolist() == ["plain-4", "plain-6", "plain-8"]
    assert found["ratio"].tolist()[0] == capacity("plain-4", 10).macs / capacity("plain-2", 10).macs
    half = stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert found.iloc[0][["mean", "low", "high"]].tolist() == pytest.approx([0.8, 0.8 - half, 0.8 + half])
    assert found["n"].tolist() == [3, 0, 0] and np.isnan(found["mean"].iloc[1])
    assert teacher_frame(here, "plain-10", "plain-10").empty


def test_lines_say_what_is_measured_estimated_and_not_run() -> None:
    here, store = filled({ALONE: [0.60, 0.62, 0.64], BIG: [0.70, 0.70, 0.73]})
    arms = {arm.name: arm for arm in (ALONE, BIG, SMALL, CHAIN)}
    guess = {SMALL.name: Guess(SMALL.name, 0.66, 0.64, 0.68, 0.01, 9, "made up")}
    values = seed_values(here.plan.stages, here.chains, store, "accuracy")
    found = line_frame(arms, here.chains, values, guess, "accuracy")
    assert {c: str(t) for c, t in found.dtypes.items()} == LINE_COLUMNS
    assert found["state"].tolist() == ["measured", "measured", "estimated", "not run"]
    assert found["line"].tolist() == ["scratch", "kd", "kd", "via plain-4"]
    assert found["mean"].tolist()[:3] == pytest.approx([0.62, 0.71, 0.66]) and math.isnan(found["mean"].iloc[3])
    gains = line_frame(arms, here.chains, seed_values(here.plan.stages, here.chains, store, "gain"), guess, "gain")
    assert gains["arm"].tolist() == [BIG.name, SMALL.name, CHAIN.name]  # the student alone gains nothing over itself
    differences = np.array([0.10, 0.08, 0.09])
    half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / math.sqrt(3)
    assert gains.iloc[0][["mean", "low", "high"]].tolist() == pytest.approx([0.09, 0.09 - half, 0.09 + half])
    assert gains.iloc[1][["mean", "low", "high"]].tolist() == pytest.approx([0.04, 0.02, 0.06])
    agreement = seed_values(here.plan.stages, here.chains, store, "agreement")
    states = line_frame(arms, here.chains, agreement, guess, "agreement").set_index("arm")["state"].to_dict()
    assert states == {BIG.name: "measured", SMALL.name: "not run", CHAIN.name: "not run"}


def test_no_gain_is_estimated_without_the_student_alone() -> None:
    here, store = filled({BIG: [0.7, 0.7, 0.7]})
    guess = {SMALL.name: Guess(SMALL.name, 0.66, 0.64, 0.68, 0.01, 9, "made up")}
    values = seed_values(here.plan.stages, here.chains, store, "gain")
    found = line_frame({SMALL.name: SMALL}, here.chains, values, guess, "gain")
    assert found["state"].tolist() == ["not run"] and found["mean"].isna().all()


def test_lines_have_names() -> None:
    longer = Arm("takd", ("plain-10", "plain-8", "plain-4", "plain-2"))
    assert [line_of(arm) for arm in (ALONE, BIG, CHAIN, longer)] == [
        "scratch",
        "kd",
        "via plain-4",
        "via plain-8,plain-4",
    ]
    assert line_of(Arm("dgkd", ("plain-10", "plain-2"), (("gate", "drop-one"),))) == "dgkd[gate=drop-one]"


def test_the_peak_is_chosen_on_validation_and_held_against_its_neighbours() -> None:
    kd = {size: Arm("kd", (f"plain-{size}", "plain-2")) for size in (4, 6, 8, 10)}
    here, store = filled({kd[4]: [0.70, 0.71, 0.72], kd[6]: [0.72, 0.72, 0.75], kd[10]: [0.65, 0.66, 0.67]})
    peak = peak_of(here.chains[here.chains["student"] == "plain-2"])
    assert peak is not None
    assert (peak.arm, peak.teacher, peak.largest, peak.smallest, peak.n, peak.teachers) == (
        "kd 6>2",
        "plain-6",
        False,
        False,
        3,
        3,
    )
    assert peak.mean == pytest.approx(0.73)
    assert [v.against for v in peak.neighbours] == ["kd 4>2", "kd 10>2"]
    assert peak.neighbours[0].interval.mean == pytest.approx(0.02)
    half = stats.t.ppf(0.975, 2) * np.std([0.02, 0.01, 0.03], ddof=1) / math.sqrt(3)
    assert peak.neighbours[0].interval.half == pytest.approx(half) and half > 0.02
    assert peak.inseparable == ("kd 4>2",)  # 8 points over kd 10>2 at every seed
    for chain in here.plan.chains_of(kd[10]):  # the same test accuracies, another choice on validation images
        store.results[chain.student]["val_acc"] = 0.99
    again = peak_of(chain_frame(here.plan, store).query("student == 'plain-2'"))
    assert again is not None and again.teacher == "plain-10" and again.largest
    assert again.mean == pytest.approx(0.66)


def test_neighbours_of_the_peak_allow_for_its_choice_and_need_three_seeds() -> None:
    kd = {size: Arm("kd", (f"plain-{size}", "plain-2")) for size in (4, 6, 8, 10)}
    low, high = [0.70, 0.70, 0.70], [0.71, 0.72, 0.73]
    here, _ = filled({kd[4]: low, kd[6]: high, kd[8]: low, kd[10]: low})
    peak = peak_of(here.chains[here.chains["student"] == "plain-2"])
    assert peak is not None and peak.teacher == "plain-6"
    half = stats.t.ppf(1 - 0.1 / 3 / 2, 2) * 0.01 / math.sqrt(3)  # best of three beside one
    assert [v.interval.half for v in peak.neighbours] == pytest.approx([half, half])
    here, _ = filled({kd[4]: low[:2], kd[6]: [0.80, 0.80], kd[8]: low[:2]})
    two = peak_of(here.chains[here.chains["student"] == "plain-2"])
    assert two is not None and two.inseparable == ("kd 4>2", "kd 8>2")  # without spread, and yet only two seeds


def test_a_peak_on_validation_that_falls_short_on_test_is_not_called_clear() -> None:
    here, store = filled({SMALL: [0.70, 0.71, 0.72], BIG: [0.80, 0.81, 0.82]})
    for chain in here.plan.chains_of(SMALL):
        if chain.student in store.results:
            store.results[chain.student]["val_acc"] = 0.99
    peak = peak_of(chain_frame(here.plan, store).query("student == 'plain-2'"))
    assert peak is not None and peak.arm == SMALL.name and peak.inseparable == ()
    said = peak_sentence(peak, "plain-2")
    assert "On test images it falls short of plain-10 (\u221210.0 points" in said and "clear" not in said


def test_one_seed_separates_nothing_and_one_teacher_has_no_peak() -> None:
    here, _ = filled({BIG: [0.7], SMALL: [0.8]})
    peak = peak_of(here.chains[here.chains["student"] == "plain-2"])
    assert peak is not None and peak.n == 1 and peak.smallest and peak.inseparable == ("kd 10>2",)
    assert math.isnan(peak.low)
    here, _ = filled({BIG: [0.7]})
    assert peak_of(here.chains[here.chains["student"] == "plain-2"]) is None
    assert peak_of(here.chains.head(0)) is None
