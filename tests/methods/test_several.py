"""Dense guidance and heads as teachers: the published sums, the mean, gates, and what reaches whom."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from takd.methods.losses import Answers, StepState, kd_loss, make_loss, state_at
from takd.methods.losses.several import several_terms
from takd.methods.losses.step import settings_for
from takd.methods.options import Value
from takd.stage import LossSpec
from tests.methods.reference import CLASSES, LABELS, STUDENT, TEACHERS, answers, ce, kl, labels, softmax, tensor, value

T, LAM = 5.0, 0.7


def run(
    teachers: int, *, name: str = "dgkd", lam: float = LAM, gates: list[float] | None = None, **options: Value
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    recipe = LossSpec(name, T, lam, options)
    state, heard = state_at(recipe, settings_for(recipe, epochs=10, teachers=teachers), 0)
    assert heard is None
    if gates is not None:
        state = StepState(state.weights, state.target_scale, torch.tensor(gates, dtype=torch.float64))
    z = tensor(STUDENT, grad=True)
    terms = make_loss(recipe)(Answers((z,)), labels(), [answers(t) for t in TEACHERS[:teachers]], state)
    terms["loss"].backward()
    assert z.grad is not None
    return terms, z.grad


def kds(teachers: int) -> list[float]:
    return [T**2 * kl(TEACHERS[i], STUDENT, T) for i in range(teachers)]


@pytest.mark.parametrize("teachers", [1, 2, 3, 4])
def test_sum_of_the_paper_counts_the_labels_once_per_teacher(teachers: int) -> None:
    terms, _ = run(teachers, sum="paper")
    expected = teachers * (1 - LAM) * ce(STUDENT) + LAM * sum(kds(teachers))
    assert value(terms["loss"]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("teachers", [2, 4])
def test_sum_of_the_code_counts_the_labels_once(teachers: int) -> None:
    terms, _ = run(teachers, sum="code")
    assert value(terms["loss"]) == pytest.approx((1 - LAM) * ce(STUDENT) + LAM * sum(kds(teachers)), rel=1e-9)


@pytest.mark.parametrize("teachers", [2, 4])
def test_mean_is_at_the_scale_of_kd(teachers: int) -> None:
    terms, _ = run(teachers, sum="mean")
    expected = (1 - LAM) * ce(STUDENT) + LAM * float(np.mean(kds(teachers)))
    assert value(terms["loss"]) == pytest.approx(expected, rel=1e-9)
    same, _ = run(teachers)
    assert value(same["loss"]) == pytest.approx(expected, rel=1e-9), "the mean is what is used when nothing is chosen"


def test_the_mean_pulls_like_the_teachers_mean_answer() -> None:
    """So an ensemble that is heard one by one is one whose probabilities are averaged."""
    _, gradient = run(4, lam=1.0, sum="mean")
    answer = np.mean([softmax(target, T) for target in TEACHERS[:4]], axis=0)
    np.testing.assert_allclose(gradient.numpy(), T * (softmax(STUDENT, T) - answer) / len(LABELS), rtol=1e-9)


def test_every_teacher_has_its_own_named_term() -> None:
    terms, _ = run(4)
    assert set(terms) == {"loss", "ce", "kl", "kl_0", "kl_1", "kl_2", "kl_3"}
    for i, expected in enumerate(kds(4)):
        assert value(terms[f"kl_{i}"]) == pytest.approx(expected, rel=1e-9)
    assert value(terms["ce"]) == pytest.approx(ce(STUDENT), rel=1e-9)


def test_gradient_is_the_weighted_sum_of_the_teachers_pulls() -> None:
    _, gradient = run(3, sum="paper")
    onehot = np.eye(CLASSES)[LABELS]
    expected = 3 * (1 - LAM) * (softmax(STUDENT) - onehot)
    for target in TEACHERS[:3]:
        expected += LAM * T * (softmax(STUDENT, T) - softmax(target, T))
    np.testing.assert_allclose(gradient.numpy(), expected / len(LABELS), rtol=1e-9)


@pytest.mark.parametrize("how", ["paper", "code", "mean"])
def test_one_teacher_is_kd_whatever_the_sum(how: str) -> None:
    terms, _ = run(1, sum=how)
    kd = kd_loss(tensor(STUDENT), labels(), tensor(TEACHERS[0]), temperature=T, lam=LAM)
    assert value(terms["loss"]) == pytest.approx(value(kd["loss"]), rel=1e-12)


@pytest.mark.parametrize("how", ["paper", "code", "mean"])
def test_gates_of_ones_are_no_gates(how: str) -> None:
    (open_, gradient), (gated, other) = run(3, sum=how), run(3, sum=how, gates=[1.0, 1.0, 1.0])
    assert value(open_["loss"]) == pytest.approx(value(gated["loss"]), rel=1e-12)
    np.testing.assert_allclose(gradient.numpy(), other.numpy(), rtol=1e-12)


def test_a_closed_gate_takes_out_exactly_its_teacher() -> None:
    terms, _ = run(3, sum="code", gates=[1.0, 0.0, 1.0])
    first, _, last = kds(3)
    assert value(terms["loss"]) == pytest.approx((1 - LAM) * ce(STUDENT) + LAM * (first + last), rel=1e-9)
    assert value(terms["kl_1"]) == pytest.approx(kds(3)[1], rel=1e-9), "its term can still be drawn"


def test_stochastic_sum_of_the_paper_keeps_the_whole_label_term() -> None:
    terms, _ = run(3, sum="paper", gates=[1.0, 0.0, 0.0])
    assert value(terms["loss"]) == pytest.approx(3 * (1 - LAM) * ce(STUDENT) + LAM * kds(3)[0], rel=1e-9)


def test_heads_teach_beside_the_teacher_that_carries_them() -> None:
    recipe = LossSpec("dih", T, 0.1, {"sum": "paper"})
    settings = settings_for(recipe, epochs=1, teachers=4)
    sources = [answers(TEACHERS[0]), answers(*TEACHERS[1:])]
    terms = make_loss(recipe)(answers(STUDENT), labels(), sources, state_at(recipe, settings, 0)[0])
    assert value(terms["loss"]) == pytest.approx(4 * 0.9 * ce(STUDENT) + 0.1 * sum(kds(4)), rel=1e-9)
    assert value(terms["kl_0"]) == pytest.approx(kds(1)[0], rel=1e-9)
    mean = LossSpec("dih", T, 0.1)
    fair = make_loss(mean)(
        answers(STUDENT), labels(), sources, state_at(mean, settings_for(mean, epochs=1, teachers=4), 0)[0]
    )
    assert value(fair["loss"]) == pytest.approx(value(terms["loss"]) / 4, rel=1e-9)


def test_nothing_reaches_a_teacher() -> None:
    teachers = [answers(t, grad=True) for t in TEACHERS[:2]]
    terms = several_terms(answers(STUDENT, grad=True), labels(), teachers, StepState({}), temperature=T)
    (terms["kl_0"] + terms["kl_1"]).backward()
    assert [t.logits[0].grad for t in teachers] == [None, None]


def test_no_teacher_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="no teacher"):
        several_terms(answers(STUDENT), labels(), [], StepState({}), temperature=T)


def test_extreme_logits_stay_finite() -> None:
    z = torch.tensor(STUDENT * 1e4, dtype=torch.float32, requires_grad=True)
    teachers = [Answers((torch.tensor(t * 1e4, dtype=torch.float32),)) for t in TEACHERS]
    terms = several_terms(Answers((z,)), labels(), teachers, StepState({}), temperature=1.0)
    terms["kl"].backward()
    assert torch.isfinite(terms["kl"]) and z.grad is not None and torch.isfinite(z.grad).all()


def test_the_mean_of_several_terms_pulls_like_the_average_answer() -> None:
    """sum_i KL(p_i || q) / n = KL(mean p || q) + a constant, so teachers that never heard each other and dense
    guidance's mean are the average of their answers: the same gradient, in float64 NumPy by finite differences."""
    rng = np.random.default_rng(0)
    teachers, student = rng.standard_normal((3, 4, 5)) * 2, rng.standard_normal((4, 5))

    def soft(z: np.ndarray) -> np.ndarray:
        raised = np.exp(z - z.max(-1, keepdims=True))
        return raised / raised.sum(-1, keepdims=True)

    def kl(p: np.ndarray, z: np.ndarray) -> float:
        return float((p * (np.log(p) - np.log(soft(z)))).sum(-1).mean())

    def terms(z: np.ndarray) -> float:
        return sum(kl(soft(t), z) for t in teachers) / len(teachers)

    def average(z: np.ndarray) -> float:
        return kl(soft(teachers).mean(axis=0), z)

    for place in ((0, 0), (3, 4), (2, 1)):
        nudge = np.zeros_like(student)
        nudge[place] = 1e-6
        slopes = [(f(student + nudge) - f(student - nudge)) / 2e-6 for f in (terms, average)]
        assert slopes[0] == pytest.approx(slopes[1], abs=1e-8)
    assert terms(student) != pytest.approx(average(student))
