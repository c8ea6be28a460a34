"""Several teachers at once: dense guidance (Son et al. 2021), a teacher with its heads (Asadian et al. 2021), ensembles
of teachers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from takd.methods.losses.answers import Answers, StepState, all_logits


def several_terms(
    student: Answers,
    labels: Tensor,
    teachers: Sequence[Answers],
    state: StepState,
    *,
    temperature: float,
    reduction: str = "batchmean",
) -> dict[str, Tensor]:
    """Terms `ce`, `kl_0`, `kl_1`, ... (T**2 KL from each teacher, in order) and, for drawing, their mean as `kl`.

    In a path `kl_0` is the teacher and then every assistant, large to small; with heads `kl_0` is the teacher and
    `kl_i` its i-th head; of an ensemble the teacher of the chain's own seed is the last. How they add up is in the
    weights, and who is heard in the gates; the drawn mean is over all.
    """
    targets = torch.stack(all_logits(teachers))
    parts = kl_each(student.logits[0], targets, temperature)
    if reduction == "mean":
        parts = parts / targets.shape[2]
    named = {f"kl_{i}": part for i, part in enumerate(parts.unbind())}
    return {"ce": F.cross_entropy(student.logits[0], labels), **named, "kl": parts.mean()}


def kl_each(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T**2 KL of a student (B, classes) from each of n teachers (n, B, classes), shape (n,): one pass for all."""
    log_s = F.log_softmax(student_logits / temperature, dim=1)
    log_t = F.log_softmax(teacher_logits.detach() / temperature, dim=2)
    return (log_t.exp() * (log_t - log_s)).sum(dim=2).mean(dim=1) * temperature**2
