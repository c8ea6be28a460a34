"""What answers say, on logits small enough to work out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from takd.analysis import inside, terms
from takd.stage import DataSpec, LossSpec, Recipe, StageSpec

LOG = np.log
# Four images, two classes: confidences 0.8, 0.8, 0.6, 0.6 at T = 1.
LOGITS = LOG(np.array([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6], [0.6, 0.4]]))
LABELS = np.array([0, 1, 1, 1])


def test_soft_answers_at_a_temperature() -> None:
    logits = np.array([[LOG(9.0), 0.0]])
    assert inside.soft_answers(logits)[0] == pytest.approx([0.9, 0.1])
    assert inside.soft_answers(logits, 2.0)[0] == pytest.approx([0.75, 0.25])  # the square root of 9 to 1
    assert inside.soft_answers(np.array([1e4, 0.0])) == pytest.approx([1.0, 0.0])
    with pytest.raises(ValueError, match="temperature"):
        inside.soft_answers(logits, 0.0)


def test_entropy_in_nats() -> None:
    found = inside.entropies(np.array([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]]))
    assert found == pytest.approx([LOG(2), 0.0, -(0.25 * LOG(0.25) + 0.75 * LOG(0.75))])


def test_agreement_counts_equal_answers() -> None:
    other = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert inside.agreement(LOGITS, other) == 0.75


def test_error_overlap_and_its_chance() -> None:
    first = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], bool)  # 4 of 10 wrong
    second = np.array([1, 1, 0, 0, 1, 0, 0, 0, 0, 0], bool)  # 3 of 10, two shared
    found = inside.error_overlap(first, second)
    assert found.of_first == pytest.approx(2 / 4)
    assert found.of_second == pytest.approx(2 / 3)
    assert found.expected_first == pytest.approx(0.3)
    assert found.expected_second == pytest.approx(0.4)
    chance = 0.4 * 0.3 + 0.6 * 0.7  # 0.54; both wrong or both right on 7 of 10
    assert found.kappa == pytest.approx((0.7 - chance) / (1 - chance))


def test_errors_that_are_the_same_or_absent() -> None:
    wrong = np.array([1, 0, 0, 1], bool)
    assert inside.error_overlap(wrong, wrong).kappa == pytest.approx(1.0)
    assert inside.error_overlap(wrong, ~wrong).kappa == pytest.approx(-1.0)
    none = inside.error_overlap(np.zeros(4, bool), np.zeros(4, bool))
    assert math.isnan(none.kappa) and math.isnan(none.of_first)


def test_independent_errors_have_no_kappa() -> None:
    first = np.array([1, 1, 0, 0], bool)
    second = np.array([1, 0, 1, 0], bool)
    assert inside.error_overlap(first, second).kappa == pytest.approx(0.0)


def test_reliability_and_calibration_error() -> None:
    bins = inside.reliability(LOGITS, LABELS, bins=5)  # 0.8 lies in (0.6, 0.8], 0.6 in (0.4, 0.6]
    assert bins["count"].sum() == 4
    assert bins["bin"].tolist() == [2, 3] and bins["count"].tolist() == [2, 2]
    assert bins["confidence"].tolist() == pytest.approx([0.6, 0.8])
    assert bins["accuracy"].tolist() == pytest.approx([0.5, 0.5])
    assert inside.calibration_error(bins) == pytest.approx(0.5 * 0.1 + 0.5 * 0.3)


def test_calibration_error_is_that_of_the_final_evaluation() -> None:
    import torch

    from takd.evaluation.metrics import CALIBRATION_BINS, expected_calibration_error

    rng = np.random.default_rng(1)
    logits, labels = 2 * rng.normal(size=(500, 7)), rng.integers(0, 7, 500)
    found = inside.calibration_error(inside.reliability(logits, labels))
    assert inside.BINS == CALIBRATION_BINS
    assert found == pytest.approx(expected_calibration_error(torch.from_numpy(logits), torch.from_numpy(labels)))


def test_class_accuracies_and_confusions() -> None:
    # class 0: its one image is right; class 1: answered 0, 1, 0
    assert inside.class_accuracies(LOGITS, LABELS, 2).tolist() == pytest.approx([1.0, 1 / 3])
    assert inside.confusion(LOGITS, LABELS, 2) == pytest.approx(np.array([[1000, 0], [2000 / 3, 1000 / 3]]))
    absent = inside.class_accuracies(LOGITS, np.zeros(4, int), 2)
    assert absent[0] == pytest.approx(0.75) and math.isnan(absent[1])


def test_class_gains_are_paired_by_seed() -> None:
    chosen = {0: np.array([0.5, 0.6]), 1: np.array([0.6, 0.6]), 2: np.array([0.7, 0.6]), 9: np.array([0.0, 0.0])}
    control = {0: np.array([0.4, 0.6]), 1: np.array([0.5, 0.6]), 2: np.array([0.5, 0.6])}
    found = inside.class_gains(chosen, control)
    assert found["n"].tolist() == [3, 3]  # the seed of one arm alone is left out
    first = found.iloc[0]
    # 0.1, 0.1, 0.2: mean 0.1333, sd 0.057735, t(0.975, 2) = 4.302653
    half = 4.302653 * 0.0577350 / math.sqrt(3)
    assert first["mean"] == pytest.approx(0.4 / 3)
    assert first["low"] == pytest.approx(0.4 / 3 - half, abs=1e-6)
    # t = 4 with 2 degrees of freedom: p = 1 - 4 / sqrt(2 + 16)
    assert first["p"] == pytest.approx(1 - 4 / math.sqrt(18))
    assert found["p"][1] == 1.0
    assert first["p_holm"] == pytest.approx(2 * (1 - 4 / math.sqrt(18)))
    assert inside.class_gains({}, control).empty


def test_equal_differences_of_a_class_are_no_certainty() -> None:
    """Three seeds at which a class wins the same one image of 36 show no spread; sign-flip p = 2 / 2**3."""
    control = {seed: np.array([(30 - seed) / 36, 0.5]) for seed in range(3)}
    chosen = {seed: np.array([(31 - seed) / 36, 0.5]) for seed in range(3)}
    found = inside.class_gains(chosen, control)
    assert found["p"].tolist() == [0.25, 1.0] and found["p_holm"].tolist() == [0.5, 1.0]


def test_similar_classes_are_a_mean_over_one_class() -> None:
    found = inside.similar_classes(LOGITS, LABELS, 1, 1.0)
    assert found == pytest.approx([(0.8 + 0.4 + 0.6) / 3, (0.2 + 0.6 + 0.4) / 3])


def test_probes() -> None:
    teacher = LOG(np.array([[0.9, 0.1], [0.3, 0.7], [0.1, 0.9], [0.5001, 0.4999]]))
    student = LOG(np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]]))
    labels = np.array([0, 1, 1, 1])
    assert inside.probes("rescue", teacher, student, labels).tolist() == [2, 1]  # the surest first
    assert inside.probes("unsure", teacher, student, labels, most=2).tolist() == [3, 1]
    assert inside.probes("class", teacher, student, labels, number=1).tolist() == [1, 2, 3]
    assert inside.probes("all", teacher, student, labels, most=2).tolist() == [0, 3]


def test_leading_classes_hold_the_true_one() -> None:
    shares = [np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.1, 0.7, 0.2, 0.0])]
    assert inside.leading(shares, 1, most=2) == [1, 0]
    assert inside.leading(shares, 3, most=2) == [1, 3]


def test_frames_leave_out_what_is_missing() -> None:
    values = {"a": {0: 0.5, 1: 0.7}, "b": {0: math.nan}, "c": {2: 0.4}}
    means = inside.mean_frame(values)
    assert means["name"].tolist() == ["a", "c"] and means["n"].tolist() == [2, 1]
    assert means["mean"].tolist() == pytest.approx([0.6, 0.4]) and math.isnan(means["low"][1])
    assert inside.seed_frame(values)["value"].tolist() == [0.5, 0.7, 0.4]


# The loss, term by term

DATA = DataSpec("digits", "0" * 64, 10, 500, 0.0, 0)
RECIPE = Recipe(4, 50, 0.1, "constant", 0.9, 0.0, "none", "fp32")
KD = StageSpec("mlp-8", DATA, LossSpec("kd", 4.0, 0.75), RECIPE, 0, ("a" * 32,))


def test_terms_of_kd_add_up() -> None:
    found = terms.epoch_loss(KD, {"epoch": 2, "loss": 0.25 * 2.0 + 0.75 * 1.2, "loss_ce": 2.0, "loss_kl": 1.2})
    assert found is not None
    assert {term.name: term.weight for term in found.terms} == pytest.approx({"ce": 0.25, "kl": 0.75})
    assert found.adds_up
    assert sum(term.weighted for term in found.terms) == pytest.approx(1.4)


def test_terms_that_do_not_add_up_are_noticed() -> None:
    found = terms.epoch_loss(KD, {"epoch": 2, "loss": 1.5, "loss_ce": 2.0, "loss_kl": 1.2})
    assert found is not None and not found.adds_up
    assert terms.epoch_loss(KD, {"epoch": 2, "loss": 1.5, "loss_ce": 2.0}) is None  # a term with weight is missing
    assert terms.epoch_loss(KD, {"epoch": 2, "loss": math.nan, "loss_ce": 2.0, "loss_kl": 1.0}) is None


def test_one_term_stands_for_several_teachers_where_it_adds_up() -> None:
    spec = LossSpec("dgkd", 2.0, 0.5, {"sum": "mean"})
    stage = StageSpec("mlp-8", DATA, spec, RECIPE, 0, ("a" * 32, "b" * 32))
    row = {"epoch": 4, "loss": 0.024923, "loss_ce": 0.010466, "loss_kl": 0.039381}  # as one pass stores it
    found = terms.epoch_loss(stage, row)
    assert found is not None and found.adds_up
    assert {term.name: term.weight for term in found.terms} == pytest.approx({"ce": 0.5, "kl": 0.5})
    assert terms.epoch_loss(stage, {**row, "loss": 0.9}) is None
    named = terms.epoch_loss(stage, {**row, "loss_kl": 0.0, "loss_kl_0": 0.03, "loss_kl_1": 0.048762})
    assert named is not None and named.adds_up and [t.name for t in named.terms] == ["ce", "kl_0", "kl_1"]


def test_weights_are_those_of_the_training() -> None:
    from takd.methods.losses.step import settings_for, state_at
    from takd.methods.table import METHODS

    for method in METHODS.values():
        if method.wiring != "path" or method.loss.form != "network":
            continue
        spec = LossSpec(method.loss.name, 4.0 if "temperature" in method.loss.uses else None, 0.5)
        stage = StageSpec("mlp-8", DATA, spec, RECIPE, 0, ("a" * 32,) if method.name != "scratch" else ())
        for epoch in (0, 3):
            state, _ = state_at(spec, settings_for(spec, epochs=4), epoch)
            assert terms.weights_at(stage, epoch) == pytest.approx(state.weights), method.name
