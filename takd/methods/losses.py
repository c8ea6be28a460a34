"""Losses as pure functions that return their terms by name, so that every term can be drawn.

Conventions: logits are (B, classes), labels (B,) int64; KL is summed over classes and averaged over the batch
(`batchmean`) and multiplied by T**2 (Hinton et al. 2015, section 2), so that `lam` keeps its meaning whatever the
temperature and the number of classes. The released TAKD and DGKD code averages over classes too, which makes its
KD term `classes` times smaller than the formula it implements.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def kl_term(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T**2 * KL(p_T(teacher) || p_T(student)), a scalar in nats. The teacher's side carries no gradient."""
    log_student = F.log_softmax(student_logits / temperature, dim=1)
    log_teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2


def ce_loss(student_logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Cross-entropy with the labels alone: terms `loss` and `ce`."""
    ce = F.cross_entropy(student_logits, labels)
    return {"loss": ce, "ce": ce.detach()}


def kd_loss(
    student_logits: Tensor, labels: Tensor, teacher_logits: Tensor, *, temperature: float, lam: float
) -> dict[str, Tensor]:
    """(1 - lam) * CE + lam * T**2 * KL (Mirzadeh et al. 2020, eq. 3): terms `loss`, `ce` and `kl` (with its T**2).

    lam = 0 is exactly cross-entropy and lam = 1 exactly the KL term: neither side leaks into the gradient.
    """
    ce = F.cross_entropy(student_logits, labels)
    kl = kl_term(student_logits, teacher_logits, temperature)
    if lam == 0.0:
        loss = ce
    elif lam == 1.0:
        loss = kl
    else:
        loss = (1.0 - lam) * ce + lam * kl
    return {"loss": loss, "ce": ce.detach(), "kl": kl.detach()}


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy in nats of each row's softened distribution, shape (B,)."""
    log_p = F.log_softmax(logits / temperature, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def kl_rows(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(teacher || student) at T = 1 of each row, in nats, shape (B,)."""
    log_t, log_s = F.log_softmax(teacher_logits, dim=1), F.log_softmax(student_logits, dim=1)
    return torch.sum(log_t.exp() * (log_t - log_s), dim=1)
