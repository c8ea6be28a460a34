"""The loss of one epoch, term by term, from the rows a training left. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from takd.methods.method import Settings
from takd.methods.scale import largest_multiplier
from takd.methods.table import form_of, loss_and_options
from takd.networks.table import NETWORKS
from takd.stage import StageSpec

_NEAR = 2e-3  # of the loss: terms are means of float32 sums, and rows have six decimals


@dataclass(frozen=True)
class Term:
    """A term of the loss in one epoch: its name in the method's formula, its weight and its mean over the steps. The
    value holds T**2 where the method multiplies by it."""

    name: str
    weight: float
    value: float

    @property
    def weighted(self) -> float:
        """What it adds to the loss."""
        return self.weight * self.value


@dataclass(frozen=True)
class EpochLoss:
    """The loss of an epoch (counted from 1) and its terms; `adds_up`: whether the weighted terms sum to the loss, which
    they need not where terms are switched on and off at random in every step."""

    epoch: int
    total: float
    terms: tuple[Term, ...]

    @property
    def adds_up(self) -> bool:
        found = sum(term.weighted for term in self.terms)
        return abs(found - self.total) <= _NEAR * max(1.0, abs(self.total))


def epoch_loss(stage: StageSpec, row: Mapping[str, Any]) -> EpochLoss | None:
    """The loss of a row of events.jsonl; None where the row has none, or lacks a term that has weight.

    Small networks that were trained in one pass keep one term for all of their teachers: it stands for the terms
    `kl_0`, `kl_1` and so on where it adds up.
    """
    epoch, total = row.get("epoch"), row.get("loss")
    if not isinstance(epoch, int) or not isinstance(total, (int, float)) or not math.isfinite(total):
        return None
    terms = []
    weights = weights_at(stage, epoch - 1)
    each = [name for name in weights if name.startswith("kl_")]
    if each and not any(f"loss_{name}" in row for name in each):
        whole = _of_all(weights, each, row)
        return whole if whole is not None and whole.adds_up else None
    for name, weight in weights.items():
        value = row.get(f"loss_{name}")
        if isinstance(value, (int, float)) and math.isfinite(value):
            terms.append(Term(name, weight, float(value)))
        elif weight:
            return None
    return EpochLoss(epoch, float(total), tuple(terms))


def _of_all(weights: Mapping[str, float], each: list[str], row: Mapping[str, Any]) -> EpochLoss | None:
    """The loss with the terms `each` taken together."""
    left = {name: weight for name, weight in weights.items() if name not in each}
    together = {**left, "kl": sum(weights[name] for name in each)}
    values = {name: row.get(f"loss_{name}") for name in together}
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in values.values()):
        return None
    terms = tuple(Term(name, weight, float(str(values[name]))) for name, weight in together.items())
    return EpochLoss(int(row["epoch"]), float(row["loss"]), terms)


def weights_at(stage: StageSpec, epoch: int) -> dict[str, float]:
    """The weight of each term in one epoch (counted from 0), as the training has it (takd.methods.losses.step)."""
    loss, options = loss_and_options(stage.loss)
    outputs = 1 + len(stage.peers)
    if form_of(stage.loss) == "sub-models":
        outputs = len(NETWORKS[stage.network].subs)
    teachers = max(1, len(stage.teachers))
    start = Settings(
        stage.loss.lam, options, teachers, outputs, 0, stage.recipe.epochs, temperature=stage.loss.temperature
    )
    weights = loss.weights(replace(start, epoch=epoch))
    if options.get("scale") == "equal":
        most = largest_multiplier(loss, start)
        weights = {name: weight / most for name, weight in weights.items()}
    return weights
