"""Networks that teach each other within a step: sub-models with shared weights, and peers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from takd.methods.losses.answers import Answers, StepState
from takd.methods.losses.basic import kl_term

TEACHERS = ("largest", "next-larger", "all-larger", "mean-of-larger")


def in_place_terms(
    student: Answers,
    labels: Tensor,
    teachers: Sequence[Answers],
    state: StepState,
    *,
    temperature: float = 1.0,
    teacher: str | None = None,
) -> dict[str, Tensor]:
    """Terms of all sub-models, smallest first as they are numbered: `ce_0`, `ce_1`, ... and, for the largest, `ce`
    for the labels, and `kl_0`, `kl_1`, ... for what all but the largest are taught.

    All answers are of the same step, the larger ones detached: otherwise the teacher would be pulled towards its
    student through the weights they share. Without `teacher` there are no KL terms (joint training). Raises
    ValueError for frozen teachers, which would have no place here.
    """
    if teachers:
        raise ValueError("sub-models are taught by larger sub-models of the same network, not by another stage")
    terms: dict[str, Tensor] = {}
    last = len(student.logits) - 1
    for k, logits in enumerate(student.logits):
        terms["ce" if k == last else f"ce_{k}"] = F.cross_entropy(logits, labels)
        if k < last and teacher is not None:
            terms[f"kl_{k}"] = sub_model_term(logits, student.logits[k + 1 :], teacher=teacher, temperature=temperature)
    return terms


def sub_model_term(logits: Tensor, larger: Sequence[Tensor], *, teacher: str, temperature: float) -> Tensor:
    """What one sub-model is taught by the larger ones (smallest first): a scalar with its T**2.

    largest, next-larger: T**2 KL from that one; all-larger: the mean of the KLs from every one (the weight counts
    them); mean-of-larger: the KL from the mean of their softened answers, which has the same gradient as that mean
    but a smaller value. Raises ValueError for another word or no larger sub-model.
    """
    if teacher not in TEACHERS:
        raise ValueError(f"teacher is one of {', '.join(TEACHERS)}, not {teacher!r}")
    if not larger:
        raise ValueError("the largest sub-model has no teacher among the sub-models")
    if teacher == "all-larger":
        return torch.stack([kl_term(logits, target, temperature) for target in larger]).mean()
    if teacher == "mean-of-larger":
        # kl_term at T reads logits: T log of the mean probability are such logits
        softened = torch.stack([F.log_softmax(target.detach() / temperature, dim=1) for target in larger])
        return kl_term(logits, torch.logsumexp(softened, dim=0) * temperature, temperature)
    return kl_term(logits, larger[-1 if teacher == "largest" else 0], temperature)


def mutual_terms(
    student: Answers, labels: Tensor, teachers: Sequence[Answers], state: StepState, *, temperature: float
) -> dict[str, Tensor]:
    """Deep mutual learning (Zhang et al. 2018): `ce`, `ce_1`, ... and `kl_0`, `kl_1`, ... for the networks of a cohort.

    kl_k is the mean over the other networks l of T**2 KL(p_l || p_k), p_l detached, so each network's gradient is
    that of its own loss although the sum is differentiated once. Raises ValueError for fewer than two networks.
    """
    if len(student.logits) < 2:
        raise ValueError("mutual learning takes at least two networks")
    terms = {}
    for k, logits in enumerate(student.logits):
        peers = [kl_term(logits, peer, temperature) for j, peer in enumerate(student.logits) if j != k]
        terms["ce" if k == 0 else f"ce_{k}"] = F.cross_entropy(logits, labels)
        terms[f"kl_{k}"] = torch.stack(peers).mean()
    return terms
