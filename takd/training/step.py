"""One training step: forward, terms of the loss, backward, update and counts, without a look at any value.

Nothing in a step waits for a number, so the loop may run it one operation at a time and a GPU may record it whole. With
K networks side by side every tensor has them as its first dimension, and the terms of the loss have the shape (K,).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from takd.stage import Recipe, StageSpec
from takd.training.objective import Objective

Loss = Callable[[Tensor, Tensor, Sequence[Tensor]], dict[str, Tensor]]
"""(student logits (B, C), labels (B,), each teacher's logits (B, C)) -> terms by name; `loss` is the one to minimise.
For K networks the inputs are (K, B, C), (K, B) and (K, B, C), and each term is (K,). Of a stage that trains more than
one plain network, student and teachers may be all their answers."""

Update = Callable[[Tensor | float], None]
"""Move the weights along their gradients at this learning rate."""

CORRECT = "correct"  # counted beside the terms of the loss
_USUAL = ("loss", "ce", "kl", CORRECT)


def loss_of_many(stages: Sequence[StageSpec], teachers: Sequence[int], like: Tensor) -> Loss:
    """The losses of K networks at once; each hears only as many `teachers` as it has.

    T and lam lie on the device and in the type of `like`. One network's loss never enters another's gradient.
    """
    plain = all(stage.loss.name in ("ce", "kd") and not stage.loss.options for stage in stages)
    if len(stages) > 1 and plain:
        temperatures = [stage.loss.temperature or 1.0 for stage in stages]
        lams = [stage.loss.lam if hears else 0.0 for stage, hears in zip(stages, teachers, strict=True)]
        return _kd_of_many(like.new_tensor(temperatures), like.new_tensor(lams), any(teachers))
    return stack_losses([Objective(stage, hears) for stage, hears in zip(stages, teachers, strict=True)], teachers)


def stack_losses(losses: Sequence[Loss], hears: Sequence[int]) -> Loss:
    """K networks' losses one after the other, stacked: right for every loss, with K times the operations. Network k
    hears the first hears[k] teachers."""

    def terms(student: Tensor, labels: Tensor, teachers: Sequence[Tensor]) -> dict[str, Tensor]:
        students, answers, heard = _apart(student), _apart(labels), [_apart(teacher) for teacher in teachers]
        each = [
            loss(students[k], answers[k], [teacher[k] for teacher in heard[: hears[k]]])
            for k, loss in enumerate(losses)
        ]
        names = {name: value for one in each for name, value in one.items()}
        return {
            name: side_by_side([one[name] if name in one else torch.zeros_like(value) for one in each])
            for name, value in names.items()
        }

    return terms


def _kd_of_many(temperatures: Tensor, lams: Tensor, taught: bool) -> Loss:
    """`kd_loss` of K networks with a T and a lam of their own, (K,) each; lam = 0 is cross-entropy."""
    divisor, scale, hard = temperatures[:, None, None], temperatures**2, 1.0 - lams

    def terms(student: Tensor, labels: Tensor, teachers: Sequence[Tensor]) -> dict[str, Tensor]:
        models, batch = labels.shape
        ce = F.cross_entropy(student.flatten(0, 1), labels.flatten(), reduction="none").view(models, batch).mean(1)
        if not taught:
            return {"loss": ce, "ce": ce.detach()}
        (teacher,) = teachers
        log_student = F.log_softmax(student / divisor, dim=2)
        log_teacher = F.log_softmax(teacher.detach() / divisor, dim=2)
        kl = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum((1, 2)) / batch * scale
        return {"loss": hard * ce + lams * kl, "ce": ce.detach(), "kl": kl.detach()}

    return terms


@dataclass
class Step:
    """A training step of one network, or of K side by side.

    `forward` maps images to logits, `hear` (index, images) to each teacher's logits. `totals` sums the terms of the
    loss and the right answers of an epoch on the device. `turns` calls its entries one after the other in a step of
    several turns, each before a forward and backward pass of its own.
    """

    forward: Callable[[Tensor], Any]
    hear: Callable[[Tensor, Tensor], Sequence[Any]]
    loss: Callable[[Any, Tensor, Sequence[Any]], dict[str, Tensor]]
    update: Update
    parameters: Sequence[Tensor]
    bf16: bool
    totals: dict[str, Tensor] = field(default_factory=dict)
    turns: Sequence[Callable[[], None]] = (lambda: None,)

    def begin_epoch(self) -> None:
        """Count from zero again."""
        for total in self.totals.values():
            total.zero_()

    def __call__(self, index: Tensor, images: Tensor, labels: Tensor, rate: Tensor | float) -> dict[str, Tensor]:
        """One step on the samples `index` as the student sees them; the terms of the loss (of the first turn)."""
        heard = self.hear(index, images)
        for number, begin_turn in enumerate(self.turns):
            begin_turn()
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
                answered = self.forward(images)
            terms = self.loss(full(answered), labels, heard)
            for parameter in self.parameters:
                parameter.grad = None  # so that backward writes gradients instead of adding to them
            loss = terms["loss"]
            loss.backward(torch.ones_like(loss) if loss.ndim else None)
            self.update(rate)
            if number == 0:
                first, logits = terms, answered if isinstance(answered, Tensor) else answered.logits[answered.main]
        for name, value in first.items():
            self._add(name, value.detach())
        self._add(CORRECT, (logits.detach().argmax(-1) == labels).sum(-1))
        return first

    def _add(self, name: str, value: Tensor) -> None:
        if name not in self.totals:
            self.totals[name] = torch.zeros_like(value)
        self.totals[name].add_(value)


def side_by_side(tensors: Sequence[Tensor]) -> Tensor:
    """Stacked along a new first dimension; one alone is not copied."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(list(tensors))


def _apart(tensor: Tensor) -> Sequence[Tensor]:
    """The opposite; a view of one alone, whose gradient is a view too."""
    return [tensor.squeeze(0)] if len(tensor) == 1 else tensor.unbind(0)


def full(answered: Any) -> Any:
    """At least fp32, whatever the network computes in: a tensor, or every one of a network's answers."""
    if isinstance(answered, Tensor):
        return answered if answered.dtype.itemsize >= 4 else answered.float()
    return replace(answered, logits=tuple(map(full, answered.logits)), features=tuple(map(full, answered.features)))


@torch.no_grad()
def sgd_(parameters: Sequence[Tensor], momenta: Sequence[Tensor], rate: Tensor | float, recipe: Recipe) -> None:
    """SGD with Nesterov momentum and coupled weight decay, in one pass: what torch.optim.SGD(fused=True) does.

    A rate that is a tensor stays where it is (one element; fp32 on CUDA), so a recorded step reads it anew each time.
    Parameters without a gradient are left out, momentum and all.
    """
    live = [(p, p.grad, m) for p, m in zip(parameters, momenta, strict=True) if p.grad is not None]
    if live:
        # is_first_step false: the momenta start from zero, where the first step writes what it would have set
        torch._fused_sgd_(
            [p for p, _, _ in live],
            [g for _, g, _ in live],
            [m for _, _, m in live],
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=True,
            maximize=False,
            is_first_step=False,
        )


@torch.no_grad()
def sgd_of_many_(parameters: Sequence[Tensor], momenta: Sequence[Tensor], rates: Tensor, recipe: Recipe) -> None:
    """The same for stacked parameters (K * n, ...) whose networks have a rate each, (K,)."""
    live = [(p, p.grad, m) for p, m in zip(parameters, momenta, strict=True) if p.grad is not None]
    weights, moments = [p for p, _, _ in live], [m for _, _, m in live]
    gradients = torch._foreach_add([g for _, g, _ in live], weights, alpha=recipe.weight_decay)
    torch._foreach_mul_(moments, recipe.momentum)
    torch._foreach_add_(moments, gradients)
    torch._foreach_add_(gradients, moments, alpha=recipe.momentum)
    for weight, way in zip(weights, gradients, strict=True):
        each = (len(rates), -1, *weight.shape[1:])
        weight.view(each).sub_(way.view(each) * rates.to(weight.dtype).view(-1, *[1] * weight.ndim))


def zero_momenta(parameters: Sequence[Tensor], saved: Sequence[Tensor] | None) -> list[Tensor]:
    """Momenta in their parameters' own memory layout: a contiguous buffer beside channels-last weights would reach
    every weight with another one's momentum. `saved` fills them."""
    momenta = [torch.zeros_like(parameter.detach()) for parameter in parameters]
    if saved is not None:
        for momentum, value in zip(momenta, saved, strict=True):
            momentum.copy_(value)
    return momenta


def epoch_row(
    epoch: int,
    totals: dict[str, float],
    steps: int,
    batch: int,
    *,
    validation: tuple[float, float],
    rate: float,
    training_seconds: float,
    seconds: float,
) -> dict[str, float]:
    """One epoch's (0-based) row of events: means of the terms of the loss, shares of right answers, speed.

    `validation` is (accuracy, loss); `seconds` the training time so far.
    """
    return {
        "epoch": epoch + 1,
        "loss": totals["loss"] / steps,
        "loss_ce": totals.get("ce", 0.0) / steps,
        "loss_kl": totals.get("kl", 0.0) / steps,
        **{f"loss_{name}": total / steps for name, total in totals.items() if name not in _USUAL},
        "train_acc": totals[CORRECT] / (steps * batch),
        "val_acc": validation[0],
        "val_loss": validation[1],
        "lr": rate,
        "images_per_second": steps * batch / training_seconds,
        "seconds": seconds,
    }
