"""Hidden layers as knowledge: FitNets' hints and attention transfer, over the feature maps of paired stages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from takd.methods.losses.answers import Answers, StepState, the_one
from takd.methods.losses.basic import kl_term
from takd.methods.shapes import Regressor


def build_regressor(rule: Regressor) -> nn.Sequential:
    """The layer, batch norm and ReLU that predict a teacher's stage output (itself after a ReLU). It is trained with
    the student and thrown away with the hint."""
    norm: nn.Module = nn.BatchNorm2d(rule.outputs)
    layer: nn.Module
    if rule.kind == "linear":
        layer, norm = nn.Linear(rule.inputs, rule.outputs), nn.BatchNorm1d(rule.outputs)
    elif rule.kind == "conv":
        layer = nn.Conv2d(rule.inputs, rule.outputs, rule.kernel, rule.stride, rule.padding)
    else:
        layer = nn.ConvTranspose2d(rule.inputs, rule.outputs, rule.kernel, rule.stride, rule.padding)
    return nn.Sequential(layer, norm, nn.ReLU())


def _pairs(student: Answers, teachers: Sequence[Answers]) -> list[tuple[Tensor, Tensor]]:
    """The feature maps to compare, paired by the caller. Raises ValueError unless every one has its partner."""
    if len(teachers) != 1 or not teachers[0].features or len(student.features) != len(teachers[0].features):
        counts = [len(teacher.features) for teacher in teachers]
        raise ValueError(f"{len(student.features)} feature maps of the student do not pair with the teacher's {counts}")
    return [(s, t.detach()) for s, t in zip(student.features, teachers[0].features, strict=True)]


def hint_terms(
    student: Answers, labels: Tensor, teachers: Sequence[Answers], state: StepState, *, temperature: float
) -> dict[str, Tensor]:
    """Terms `ce`, `kl` and `hint`: mean squared difference of paired feature maps, averaged over pairs.

    The student's maps have been through their regressors. Raises ValueError for maps of different shapes, which
    would otherwise be stretched over each other.
    """
    pairs = _pairs(student, teachers)
    for s, t in pairs:
        if s.shape != t.shape:
            raise ValueError(f"a hint of shape {tuple(s.shape)} does not fit the teacher's {tuple(t.shape)}")
    return {
        "ce": F.cross_entropy(student.logits[0], labels),
        "kl": kl_term(student.logits[0], the_one(teachers), temperature),
        "hint": torch.stack([F.mse_loss(s, t) for s, t in pairs]).mean(),
    }


def attention_map(features: Tensor, power: int) -> Tensor:
    """(B, C, H, W) -> (B, H * W): mean over channels of |activation|**power, each row scaled to length 1."""
    return F.normalize(features.abs().pow(power).mean(dim=1).flatten(1), dim=1)


def attention_terms(
    student: Answers,
    labels: Tensor,
    teachers: Sequence[Answers],
    state: StepState,
    *,
    power: int = 2,
    form: str = "square",
) -> dict[str, Tensor]:
    """Terms `ce` and `attention`: the sum over paired stages of how far the two attention maps are apart.

    form square: mean squared difference, as released; norm: half the length of the difference, averaged over images,
    as printed (eq. 2). The larger of two maps is averaged down to the smaller one's size. Raises ValueError for
    unpaired maps or another form.
    """
    if form not in ("square", "norm"):
        raise ValueError(f"form is square or norm, not {form!r}")
    parts = []
    for s, t in _pairs(student, teachers):
        size = (min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3]))
        s, t = (x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size) for x in (s, t))
        difference = attention_map(s, power) - attention_map(t, power)
        square = form == "square"
        parts.append(difference.square().mean() if square else torch.linalg.vector_norm(difference, dim=1).mean() / 2)
    return {"ce": F.cross_entropy(student.logits[0], labels), "attention": torch.stack(parts).sum()}
