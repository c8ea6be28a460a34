"""Estimates of arms nobody has trained: against numbers worked out by hand and by another route through the algebra."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from takd.analysis.frames import arm_frame, chain_frame
from takd.analysis.pool import Pool, pool
from takd.analysis.whatif import (
    LEAST,
    LOO_COLUMNS,
    RIDGE,
    WIDTH,
    guesses,
    leave_one_out,
    measured_arms,
    rms,
    smooth_effect,
    student_mean,
)
from takd.data.catalogue import available_datasets
from takd.networks.table import capacity
from takd.plan import Arm
from takd.presets import PRESETS
from takd.runs.store import Store
from takd.spec import ExperimentSpec
from tests.analysis.fakes import DATASET, FakeStore

CACHED = Path(__file__).parents[2] / "cached_runs"
SIZES = ("plain-2", "plain-4", "plain-6", "plain-8", "plain-10")
KD = [
    Arm("kd", (teacher, student))
    for student in SIZES
    for teacher in SIZES
    if SIZES.index(teacher) > SIZES.index(student)
]
ALONE = [Arm("scratch", (name,)) for name in SIZES]


def filled(values: dict[Arm, float], seeds: int = 2) -> Pool:
    """A pool in which exactly these arms have finished, with these mean test accuracies (seeds 0.01 around them)."""
    store = FakeStore()
    empty = pool(ExperimentSpec(dataset="cifar10", seeds=seeds), DATASET, store)
    for arm, value in values.items():
        for chain in empty.plan.chains_of(arm):
            store.finish(empty.plan, chain.student, value + (0.01 if chain.seed % 2 else -0.01))
    chains = chain_frame(empty.plan, store)
    return Pool(empty.plan, empty.sizes, chains, arm_frame(chains))


def log_macs(name: str) -> float:
    return math.log(capacity(name, 10).macs)


def level(arm: Arm) -> float:
    """A made-up truth: larger students do better, teaching adds a little, less the larger the ratio."""
    alone = 0.5 + 0.05 * SIZES.index(arm.path[-1])
    return alone + (0.03 - 0.01 * (log_macs(arm.path[-2]) - log_macs(arm.path[-1])) if len(arm.path) > 1 else 0.0)


def test_the_plainest_guess_is_the_mean_of_the_student_s_arms() -> None:
    measured = [(ALONE[0], 0.60), (KD[0], 0.66), (ALONE[1], 0.9)]
    assert student_mean(measured, Arm("kd", ("plain-10", "plain-2")), 10) == pytest.approx(0.63)
    assert student_mean(measured, Arm("kd", ("plain-10", "plain-6")), 10) is None


def test_smooth_effect_agrees_with_one_block_system() -> None:
    """The saddle-point system [C S; S' 0] of kriging gives the same number in one solve."""
    arms = [*ALONE[:3], *KD[:5], Arm("takd", ("plain-10", "plain-6", "plain-2"))]
    rng = np.random.default_rng(3)
    y = rng.normal(0.7, 0.05, len(arms))
    wanted = Arm("takd", ("plain-8", "plain-4", "plain-2"))

    def place(arm: Arm) -> np.ndarray:
        macs = [log_macs(name) for name in arm.path]
        direct = macs[-2] - macs[-1] if len(macs) > 1 else 0.0
        return np.array([direct, (macs[0] - macs[-1]) / 2, 3 * (len(macs) > 1), len(macs) > 2], float)

    def alike(a: Arm, b: Arm) -> float:
        return math.exp(-sum((place(a) - place(b)) ** 2) / (2 * WIDTH**2))

    students = sorted({arm.path[-1] for arm in arms})
    c = np.array([[alike(a, b) + RIDGE * (a == b) for b in arms] for a in arms])
    s = np.array([[float(a.path[-1] == name) for name in students] for a in arms])
    block = np.block([[c, s], [s.T, np.zeros((len(students),) * 2)]])
    right = np.array([*(alike(a, wanted) for a in arms), *(float(wanted.path[-1] == name) for name in students)])
    weights = np.linalg.solve(block, right)[: len(arms)]
    assert weights.sum() == pytest.approx(1)
    assert smooth_effect(list(zip(arms, y, strict=True)), wanted, 10) == pytest.approx(float(weights @ y), abs=1e-12)


def test_a_student_s_level_moves_only_its_own_estimates() -> None:
    measured = [(arm, level(arm)) for arm in (*ALONE, *KD[:6])]
    moved = [(arm, value + (0.1 if arm.path[-1] == "plain-2" else 0)) for arm, value in measured]
    for student, step in (("plain-2", 0.1), ("plain-4", 0.0)):
        arm = Arm("takd", ("plain-10", "plain-8", student))
        assert smooth_effect(moved, arm, 10) == pytest.approx((smooth_effect(measured, arm, 10) or 0) + step)
    assert smooth_effect(measured[:1], Arm("kd", ("plain-10", "plain-8")), 10) is None


def test_every_arm_that_was_not_run_gets_a_guess_with_its_error() -> None:
    known = {arm: level(arm) for arm in (*ALONE, *KD) if arm.path != ("plain-6", "plain-2")}
    here = filled(known)
    found = guesses(here)
    assert set(found) == {arm.name for arm in here.plan.arms} - {arm.name for arm in known}
    table = leave_one_out(here)
    assert {c: str(t) for c, t in table.dtypes.items()} == LOO_COLUMNS
    assert table["arm"].tolist() == [arm.name for arm, _ in measured_arms(here) if arm.path != ("plain-10",)]
    assert table["measured"].tolist() == pytest.approx(
        [level(a) for a, _ in measured_arms(here) if a.name != "scratch 10"]
    )
    error = math.sqrt(((table["measured"] - table["estimated"]) ** 2).mean())
    guess = found["kd 6>2"]
    assert guess.error == pytest.approx(error) == rms(table) and guess.n == len(known) == 14
    reach = stats.t.ppf(0.975, len(table) - 1) * error
    assert (guess.low, guess.high) == pytest.approx((guess.mean - reach, guess.mean + reach))
    assert guess.mean == pytest.approx(level(Arm("kd", ("plain-6", "plain-2"))), abs=0.01)
    plain = np.mean([value for arm, value in known.items() if arm.path[-1] == "plain-2"])
    assert abs(guess.mean - level(Arm("kd", ("plain-6", "plain-2")))) < abs(
        plain - level(Arm("kd", ("plain-6", "plain-2")))
    )
    assert "14 measured arms" in guess.basis and f"{100 * error:.2f} points" in guess.basis


def test_an_arm_is_estimated_without_itself() -> None:
    known = {arm: level(arm) for arm in (*ALONE, *KD)}
    before = leave_one_out(filled(known)).set_index("arm")["estimated"]
    after = leave_one_out(filled(known | {KD[0]: level(KD[0]) + 0.005})).set_index("arm")["estimated"]
    assert after[KD[0].name] == pytest.approx(before[KD[0].name])
    assert (after.drop(KD[0].name) - before.drop(KD[0].name)).abs().max() > 1e-4


def test_the_plainest_guess_is_taken_where_it_is_off_by_less() -> None:
    flat = {arm: 0.5 + 0.05 * SIZES.index(arm.path[-1]) + 0.001 * (-1) ** i for i, arm in enumerate((*ALONE, *KD))}
    here = filled(flat)
    guess = guesses(here)["takd 10>4>2"]
    assert "mean of the student's other arms" in guess.basis
    assert guess.mean == pytest.approx(np.mean([v for arm, v in flat.items() if arm.path[-1] == "plain-2"]))


def test_no_estimate_from_few_arms_or_for_a_student_never_measured() -> None:
    assert guesses(filled({})) == {} and leave_one_out(filled({})).empty and math.isnan(rms(leave_one_out(filled({}))))
    few = {arm: level(arm) for arm in (ALONE[0], *[a for a in KD if a.path[-1] == "plain-2"])}  # five arms
    assert len(few) == LEAST - 1 and guesses(filled(few)) == {}
    enough = few | {Arm("takd", ("plain-10", "plain-8", "plain-2")): 0.5}
    found = guesses(filled(enough))
    assert "takd 10>4>2" in found and {arm.rpartition(">")[2] for arm in found} == {"2"}
    alone = {arm: level(arm) for arm in ALONE}
    assert guesses(filled(alone | {KD[0]: 0.5})) == {}  # six arms, of which two can be left out


def test_estimates_stay_accuracies() -> None:
    wild = {arm: 0.999 if i % 2 else 0.4 for i, arm in enumerate((*ALONE, *KD))}
    for guess in guesses(filled(wild)).values():
        assert 0 <= guess.low <= guess.mean <= guess.high <= 1


@pytest.mark.parametrize(
    ("name", "arms", "plainest", "smooth", "within"),
    [
        ("cifar-gap", 24, 0.84, 0.27, 22),
        ("digits-noise", 20, 1.37, 0.81, 19),
        ("digits-clean", 18, 0.076, 0.082, 18),
    ],
)
def test_what_the_docstring_says_of_the_stored_runs(
    name: str, arms: int, plainest: float, smooth: float, within: int, tmp_path: Path
) -> None:
    spec = PRESETS[name].spec
    dataset = available_datasets()[spec.dataset]
    here = pool(spec, dataset, Store(tmp_path, [CACHED]))
    measured = measured_arms(here)
    for model, expected in ((student_mean, plainest), (smooth_effect, smooth)):
        errors = []
        for i, (arm, value) in enumerate(measured):
            estimate = model([*measured[:i], *measured[i + 1 :]], arm, dataset.classes)
            errors += [] if estimate is None else [100 * (estimate - value)]
        assert len(errors) == arms
        assert math.sqrt(np.mean(np.square(errors))) == pytest.approx(
            expected, abs=0.0051 if expected > 0.1 else 0.00051
        )
    assert 100 * next(iter(guesses(here).values())).error == pytest.approx(min(plainest, smooth), abs=0.0051)
    table = leave_one_out(here)
    inside = (table["measured"] - table["estimated"]).abs() <= stats.t.ppf(0.975, arms - 1) * rms(table)
    assert inside.sum() >= within  # nearly 95 % of them
