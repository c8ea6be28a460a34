"""Losses that help a small student follow a large teacher: DKD, DIST, standardised logits, NormKD, ATS, annealing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from takd.methods.losses.answers import Answers, StepState, the_one
from takd.methods.losses.basic import kl_term

PEARSON_EPS = 1e-8  # as in the authors' code: added to the product of the two lengths
STD_EPS = 1e-7  # as in the authors' code: added to the standard deviation


def dkd_parts(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Per image: KL of (label, rest), KL among the rest, and the teacher's softened probability of the label; (B,).

    Zhao et al. 2022, eq. 7: KL(teacher || student) = TCKD + (1 - p_label) NCKD, without T**2 here. The label's column
    is taken out instead of being pushed down by a large number, which would leak at high temperatures.
    """
    log_s, log_t = F.log_softmax(student / temperature, dim=1), F.log_softmax(teacher.detach() / temperature, dim=1)
    label = labels[:, None]
    columns = torch.arange(student.shape[1] - 1, device=student.device)
    others = columns + (columns >= label)
    s_label, t_label = log_s.gather(1, label)[:, 0], log_t.gather(1, label)[:, 0]
    s_others, t_others = log_s.gather(1, others), log_t.gather(1, others)
    s_rest, t_rest = torch.logsumexp(s_others, dim=1), torch.logsumexp(t_others, dim=1)
    tckd = t_label.exp() * (t_label - s_label) + t_rest.exp() * (t_rest - s_rest)
    s_among, t_among = s_others - s_rest[:, None], t_others - t_rest[:, None]
    nckd = (t_among.exp() * (t_among - s_among)).sum(dim=1)
    return tckd, nckd, t_label.exp()


def dkd_terms(
    student: Answers, labels: Tensor, teachers: Sequence[Answers], state: StepState, *, temperature: float
) -> dict[str, Tensor]:
    """Terms `ce`, `tckd` and `nckd`, the last two with T**2 and averaged over the batch."""
    tckd, nckd, _ = dkd_parts(student.logits[0], the_one(teachers), labels, temperature)
    return {
        "ce": F.cross_entropy(student.logits[0], labels),
        "tckd": temperature**2 * tckd.mean(),
        "nckd": temperature**2 * nckd.mean(),
    }


def pearson_distance(one: Tensor, other: Tensor) -> Tensor:
    """1 - Pearson's correlation of the rows of two (R, N) tensors, averaged over rows: a scalar in [0, 2].

    Adding a constant to a row or scaling it by a positive number changes nothing. A constant row has correlation 0.
    """
    one, other = one - one.mean(dim=1, keepdim=True), other - other.mean(dim=1, keepdim=True)
    lengths = torch.linalg.vector_norm(one, dim=1) * torch.linalg.vector_norm(other, dim=1)
    return 1.0 - ((one * other).sum(dim=1) / (lengths + PEARSON_EPS)).mean()


def dist_terms(
    student: Answers, labels: Tensor, teachers: Sequence[Answers], state: StepState, *, temperature: float
) -> dict[str, Tensor]:
    """Terms `ce`, `inter` (over classes, per image) and `intra` (over images, per class), the last two with T**2."""
    p_s = F.softmax(student.logits[0] / temperature, dim=1)
    p_t = F.softmax(the_one(teachers) / temperature, dim=1)
    return {
        "ce": F.cross_entropy(student.logits[0], labels),
        "inter": temperature**2 * pearson_distance(p_s, p_t),
        "intra": temperature**2 * pearson_distance(p_s.t(), p_t.t()),
    }


def standardised(logits: Tensor) -> Tensor:
    """Logits with mean 0 and standard deviation (over C - 1) 1 in each row."""
    return (logits - logits.mean(dim=1, keepdim=True)) / (logits.std(dim=1, keepdim=True) + STD_EPS)


def ls_terms(
    student: Answers, labels: Tensor, teachers: Sequence[Answers], state: StepState, *, temperature: float
) -> dict[str, Tensor]:
    """Terms `ce` and `kl`: T**2 KL between standardised logits. Gradients flow through the student's deviation."""
    target = standardised(the_one(teachers))
    return {
        "ce": F.cross_entropy(student.logits[0], labels),
        "kl": kl_term(standardised(student.logits[0]), target, temperature),
    }


def normkd_terms(
    student: Answers, labels: Tensor, teachers: Sequence[Answers], state: StepState, *, t_norm: float
) -> dict[str, Tensor]:
    """Terms `ce` and `kl`: every image has T_t = t_norm std(z_t) and T_s = t_norm std(z_s), the KL times T_t**2."""
    logits, target = student.logits[0], the_one(teachers)
    t_student = t_norm * (logits.std(dim=1, keepdim=True) + STD_EPS)
    t_teacher = t_norm * (target.std(dim=1, keepdim=True) + STD_EPS)
    log_s, log_t = F.log_softmax(logits / t_student, dim=1), F.log_softmax(target / t_teacher, dim=1)
    rows = (log_t.exp() * (log_t - log_s)).sum(dim=1)
    return {"ce": F.cross_entropy(logits, labels), "kl": (rows * t_teacher[:, 0] ** 2).mean()}


def ats_terms(
    student: Answers,
    labels: Tensor,
    teachers: Sequence[Answers],
    state: StepState,
    *,
    tau_label: float,
    tau_wrong: float,
    tau_student: float,
    centre: bool,
) -> dict[str, Tensor]:
    """Terms `ce` and `kl`: s**2 KL from a teacher whose label logit has a temperature of its own.

    The authors take the cross-entropy with the teacher's distribution: the same gradient, another constant.
    """
    target = the_one(teachers)
    if centre:
        target = target - target.mean(dim=1, keepdim=True)
    taus = torch.full_like(target, tau_wrong).scatter(1, labels[:, None], tau_label)
    # kl_term softens both sides by the student's temperature, so the target is stretched by it first
    scaled = target / taus * tau_student
    return {
        "ce": F.cross_entropy(student.logits[0], labels),
        "kl": kl_term(student.logits[0], scaled, tau_student),
    }


def akd_terms(student: Answers, labels: Tensor, teachers: Sequence[Answers], state: StepState) -> dict[str, Tensor]:
    """Terms `ce` and `mse`: mean over images and classes of (z_s - phi z_t)**2, phi from the state's target scale."""
    target = the_one(teachers) * state.target_scale
    return {
        "ce": F.cross_entropy(student.logits[0], labels),
        "mse": F.mse_loss(student.logits[0], target),
    }
