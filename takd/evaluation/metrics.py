"""Numbers computed from logits. Pure functions; accuracies and calibration errors are fractions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from takd.methods.losses import entropy, kl_rows

CALIBRATION_BINS = 15


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = CALIBRATION_BINS) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by bin size (Guo et al. 2017, eq. 5)."""
    confidence, answer = torch.softmax(logits.double(), dim=1).max(dim=1)
    right = (answer == labels).double()
    bin_of = torch.clamp((confidence * bins).ceil().long() - 1, 0, bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_of, confidence - right)
    return float(gaps.abs().sum() / len(labels))


def prediction_metrics(logits: Tensor, labels: Tensor, classes: int) -> dict[str, object]:
    """Accuracy, cross-entropy, calibration error, mean entropy (nats, T = 1) and right answers per class."""
    right = logits.argmax(1) == labels
    return {
        "test_acc": float(right.double().mean()),
        "test_loss": float(F.cross_entropy(logits.double(), labels)),
        "ece": expected_calibration_error(logits, labels),
        "entropy": float(entropy(logits.double()).mean()),
        "correct_classes": torch.bincount(labels[right], minlength=classes).tolist(),
    }


def agreement(logits: Tensor, teacher_logits: Tensor) -> dict[str, float]:
    """Share of images with the same answer as the teacher, and mean KL(teacher || student) at T = 1."""
    return {
        "agreement": float((logits.argmax(1) == teacher_logits.argmax(1)).double().mean()),
        "kl": float(kl_rows(teacher_logits.double(), logits.double()).mean()),
    }
