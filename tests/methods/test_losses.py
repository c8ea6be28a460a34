"""Losses against values worked out independently in float64 NumPy, and against the faults of published code."""

import numpy as np
import pytest
import torch

from takd.methods.losses import ce_loss, entropy, kd_loss, kl_rows, kl_term

RNG = np.random.default_rng(7)
STUDENT, TEACHER = RNG.normal(size=(6, 10)) * 2, RNG.normal(size=(6, 10)) * 3
LABELS = np.array([0, 3, 9, 1, 1, 5])


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def numpy_ce() -> float:
    return float(-np.log(softmax(STUDENT)[np.arange(6), LABELS]).mean())


def numpy_kl(temperature: float) -> float:
    p, q = softmax(TEACHER / temperature), softmax(STUDENT / temperature)
    return float((p * (np.log(p) - np.log(q))).sum(axis=1).mean())


def tensors(requires_grad: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.tensor(STUDENT, requires_grad=requires_grad), torch.tensor(LABELS), torch.tensor(TEACHER)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0, 20.0])
def test_kl_is_batchmean_times_t_squared(temperature: float) -> None:
    s, _, t = tensors()
    assert float(kl_term(s, t, temperature)) == pytest.approx(temperature**2 * numpy_kl(temperature), rel=1e-9)


def test_kl_by_hand_for_two_classes() -> None:
    # p = (3/4, 1/4), q = (1/2, 1/2): KL = 3/4 ln(3/2) + 1/4 ln(1/2)
    s, t = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[np.log(3.0), 0.0]])
    assert float(kl_term(s, t, 1.0)) == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5), rel=1e-9)


@pytest.mark.parametrize(("temperature", "lam"), [(1.0, 0.5), (4.0, 0.9), (10.0, 0.1)])
def test_kd_loss_is_the_published_formula(temperature: float, lam: float) -> None:
    s, y, t = tensors()
    terms = kd_loss(s, y, t, temperature=temperature, lam=lam)
    expected = (1 - lam) * numpy_ce() + lam * temperature**2 * numpy_kl(temperature)
    assert float(terms["loss"]) == pytest.approx(expected, rel=1e-9)
    assert float(terms["ce"]) == pytest.approx(numpy_ce(), rel=1e-9)
    assert float(terms["kl"]) == pytest.approx(temperature**2 * numpy_kl(temperature), rel=1e-9)


def test_gradient_is_t_times_the_difference_of_soft_answers() -> None:
    # d(T^2 KL)/dz_s = T (p_T(z_s) - p_T(z_t)) per sample, over the batch size for the batch mean
    s, _, t = tensors(requires_grad=True)
    kl_term(s, t, 4.0).backward()
    expected = 4.0 * (softmax(STUDENT / 4) - softmax(TEACHER / 4)) / len(LABELS)
    assert s.grad is not None
    np.testing.assert_allclose(s.grad.numpy(), expected, rtol=1e-9)


def test_published_fault_mean_reduction_would_be_classes_times_smaller() -> None:
    """TAKD and DGKD call KLDivLoss() whose default also averages over classes."""
    s, _, t = tensors()
    faulty = torch.nn.KLDivLoss(reduction="mean")(torch.log_softmax(s, 1), torch.softmax(t, 1))
    assert float(kl_term(s, t, 1.0)) == pytest.approx(10 * float(faulty), rel=1e-9)


def test_limits_are_continuous_and_clean() -> None:
    """torchdistill's alpha = 0 drops T^2; ours must reach pure CE and pure KL without a jump."""
    s, y, t = tensors(requires_grad=True)
    assert float(kd_loss(s, y, t, temperature=4, lam=0.0)["loss"].detach()) == pytest.approx(numpy_ce(), rel=1e-9)
    near, at = (float(kd_loss(s, y, t, temperature=4, lam=v)["loss"].detach()) for v in (1 - 1e-9, 1.0))
    assert near == pytest.approx(at, rel=1e-6)
    assert at == pytest.approx(16 * numpy_kl(4.0), rel=1e-9)


def test_no_gradient_reaches_the_teacher() -> None:
    s, y, t = tensors(requires_grad=True)
    t.requires_grad_(True)
    kd_loss(s, y, t, temperature=2.0, lam=0.5)["loss"].backward()
    assert t.grad is None
    assert s.grad is not None


def test_identical_logits_have_zero_kl_and_the_loss_is_never_negative() -> None:
    s, _, t = tensors()
    assert float(kl_term(s, s.clone(), 3.0)) == pytest.approx(0.0, abs=1e-12)
    assert float(kl_term(s, t, 3.0)) > 0


def test_ce_and_entropy_against_numpy() -> None:
    s, y, t = tensors()
    assert float(ce_loss(s, y)["loss"]) == pytest.approx(numpy_ce(), rel=1e-9)
    p = softmax(TEACHER / 2)
    np.testing.assert_allclose(entropy(t, 2.0).numpy(), -(p * np.log(p)).sum(1), rtol=1e-9)
    assert float(kl_rows(t, s).mean()) == pytest.approx(numpy_kl(1.0), rel=1e-9)
