"""Metrics against values worked out by hand or in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from takd.evaluation.final import pack_logits, unpack_logits
from takd.evaluation.metrics import agreement, expected_calibration_error, prediction_metrics


def sure(p: float) -> list[float]:
    """Two-class logits whose softmax gives the first class probability p."""
    return [float(np.log(p / (1 - p))), 0.0]


def test_calibration_error_by_hand() -> None:
    # two bins of confidence: 0.9 (three answers, two right) and 0.6 (one answer, right)
    logits = torch.tensor([sure(0.9), sure(0.9), sure(0.9), sure(0.6)])
    labels = torch.tensor([0, 0, 1, 0])
    expected = 3 / 4 * abs(2 / 3 - 0.9) + 1 / 4 * abs(1.0 - 0.6)
    assert expected_calibration_error(logits, labels) == pytest.approx(expected, rel=1e-6)


def test_a_perfectly_sure_and_right_network_is_calibrated() -> None:
    assert expected_calibration_error(torch.tensor([[100.0, 0.0], [0.0, 100.0]]), torch.tensor([0, 1])) == 0.0


def test_metrics_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0], [1.0, 0.0, 0.0]])
    labels = torch.tensor([0, 1, 1, 2])
    found = prediction_metrics(logits, labels, 3)
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    assert found["test_acc"] == 0.5
    assert found["test_loss"] == pytest.approx(-np.log(p[range(4), labels.numpy()]).mean(), rel=1e-6)
    assert found["entropy"] == pytest.approx(-(p * np.log(p)).sum(1).mean(), rel=1e-6)
    assert found["correct_classes"] == [1, 1, 0]


def test_agreement_counts_equal_answers_right_or_wrong() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.2, 0.0]])
    b = torch.tensor([[5.0, 0.0], [3.0, 0.0], [9.0, 0.0], [0.0, 0.1]])
    found = agreement(a, b)
    assert found["agreement"] == 0.5
    p, q = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (b.double().numpy(), a.double().numpy()))
    assert found["kl"] == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-9)
    assert agreement(a, a) == {"agreement": 1.0, "kl": pytest.approx(0.0, abs=1e-12)}


def test_logits_survive_packing_to_half_precision_and_damage_is_refused() -> None:
    logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(0))
    raw = pack_logits(logits)
    torch.testing.assert_close(unpack_logits(raw), logits, rtol=1e-3, atol=1e-3)
    for bad in (b"", raw[:40], raw[: len(raw) // 2], b"PK not a zip"):
        with pytest.raises(ValueError, match="predictions"):
            unpack_logits(bad)
