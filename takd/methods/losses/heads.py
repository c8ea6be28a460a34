"""Linear heads on the stages of a frozen teacher (Asadian and Salehi-Abari 2021): a ladder of teachers from one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from takd.methods.losses.answers import Answers, StepState
from takd.methods.shapes import Shape, head_inputs


class Heads(nn.Module):
    """One linear layer per stage output, in order of depth; they share nothing.

    forward: stage outputs (B, C, H, W) or (B, units) -> one (B, classes) tensor per head. The stage outputs are
    detached, so nothing reaches the teacher. Raises ValueError without stages: a teacher without heads would silently
    be plain KD, which is what happens in the released code when no head file carries the ending it looks for.
    """

    def __init__(self, shapes: Sequence[Shape], classes: int, pooling: str = "flatten") -> None:
        super().__init__()
        if not shapes:
            raise ValueError("a network without stages has nowhere to put heads")
        self.pooling = pooling
        self.layers = nn.ModuleList(nn.Linear(head_inputs(shape, pooling), classes) for shape in shapes)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        pairs = zip(self.layers, features, strict=True)
        return tuple(layer(head_input(output.detach(), self.pooling)) for layer, output in pairs)


def head_input(output: Tensor, pooling: str) -> Tensor:
    """What a head reads of a stage output: every value (flatten) or the mean of each channel (average); (B, inputs)."""
    return output.flatten(1) if pooling == "flatten" or output.dim() == 2 else output.mean(dim=(2, 3))


def heads_terms(student: Answers, labels: Tensor, teachers: Sequence[Answers], state: StepState) -> dict[str, Tensor]:
    """Terms `ce_1`, `ce_2`, ... in order of depth, the heads' cross-entropies, and for drawing their mean as `ce`.

    The heads share no weights, so the sum trains each as if it were alone. Raises ValueError without heads.
    """
    if not student.logits:
        raise ValueError("there are no heads to train")
    parts = [F.cross_entropy(z, labels) for z in student.logits]
    return {"ce": torch.stack(parts).mean(), **{f"ce_{i}": part for i, part in enumerate(parts, 1)}}
