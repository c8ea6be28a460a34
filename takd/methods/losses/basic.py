"""Cross-entropy and knowledge distillation: the two losses everything else is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from takd.methods.losses.answers import Answers, StepState, the_one, total


def kl_term(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, *, reduction: str = "batchmean"
) -> Tensor:
    """T**2 * KL(p_T(teacher) || p_T(student)), a scalar in nats. The teacher's side carries no gradient.

    `reduction` mean averages over classes too, as the released TAKD and DGKD code does: `classes` times smaller than
    the formula. Raises ValueError for another one.
    """
    if reduction not in ("batchmean", "mean"):
        raise ValueError(f"reduction is batchmean or mean, not {reduction!r}")
    log_student = F.log_softmax(student_logits / temperature, dim=1)
    log_teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    kl = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    if reduction == "mean":
        kl = kl / student_logits.shape[1]
    return kl * temperature**2


def ce_terms(student: Answers, labels: Tensor, teachers: Sequence[Answers], state: StepState) -> dict[str, Tensor]:
    """Cross-entropy with the labels: term `ce`."""
    return {"ce": F.cross_entropy(student.logits[0], labels)}


def kd_terms(
    student: Answers,
    labels: Tensor,
    teachers: Sequence[Answers],
    state: StepState,
    *,
    temperature: float,
    reduction: str = "batchmean",
) -> dict[str, Tensor]:
    """Terms `ce` and `kl` (with its T**2) for one teacher."""
    target = the_one(teachers)
    return {
        "ce": F.cross_entropy(student.logits[0], labels),
        "kl": kl_term(student.logits[0], target, temperature, reduction=reduction),
    }


def ce_loss(student_logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Cross-entropy with the labels alone: terms `loss` and `ce`."""
    state = StepState({"ce": 1.0})
    return total(ce_terms(Answers((student_logits,)), labels, (), state), state)


def kd_loss(
    student_logits: Tensor, labels: Tensor, teacher_logits: Tensor, *, temperature: float, lam: float
) -> dict[str, Tensor]:
    """(1 - lam) * CE + lam * T**2 * KL (Mirzadeh et al. 2020, eq. 3): terms `loss`, `ce` and `kl` (with its T**2).

    lam = 0 is exactly cross-entropy and lam = 1 exactly the KL term: neither side leaks into the gradient.
    """
    state = StepState({"ce": 1.0 - lam, "kl": lam})
    student, teacher = Answers((student_logits,)), Answers((teacher_logits,))
    return total(kd_terms(student, labels, (teacher,), state, temperature=temperature), state)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy in nats of each row's softened distribution, shape (B,)."""
    log_p = F.log_softmax(logits / temperature, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def kl_rows(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(teacher || student) at T = 1 of each row, in nats, shape (B,)."""
    log_t, log_s = F.log_softmax(teacher_logits, dim=1), F.log_softmax(student_logits, dim=1)
    return torch.sum(log_t.exp() * (log_t - log_s), dim=1)
