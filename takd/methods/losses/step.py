"""What a training step calls: the loss of a stage as one function, and its state at an epoch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from takd.methods.losses.answers import Answers, StepState, total
from takd.methods.losses.gates import draw_gates
from takd.methods.method import Settings
from takd.methods.scale import largest_multiplier
from takd.methods.table import loss_and_options
from takd.stage import LossSpec

__all__ = ["Answers", "LossFunction", "StepState", "gates_for", "make_loss", "settings_for", "state_at"]

LossFunction = Callable[[Answers, Tensor, Sequence[Answers], StepState], dict[str, Tensor]]
"""(student's answers, labels (B,), teachers' answers, state) -> `loss` to differentiate and every term, detached."""


def make_loss(recipe: LossSpec) -> LossFunction:
    """The loss of a stage. Raises OptionError for a loss or options that are not in the table."""
    loss, options = loss_and_options(recipe)
    module, name = loss.terms.split(":")
    terms = getattr(importlib.import_module(f"takd.methods.losses.{module}"), name)
    arguments: dict[str, object] = {option: options[option] for option in loss.options}
    if "temperature" in loss.uses:
        if recipe.temperature is None or not recipe.temperature > 0:
            raise ValueError(f"loss {recipe.name} needs a temperature above 0, not {recipe.temperature}")
        arguments["temperature"] = recipe.temperature

    def evaluate(student: Answers, labels: Tensor, teachers: Sequence[Answers], state: StepState) -> dict[str, Tensor]:
        return total(terms(student, labels, teachers, state, **arguments), state)

    return evaluate


def settings_for(recipe: LossSpec, *, epochs: int, teachers: int = 1, outputs: int = 1) -> Settings:
    """The settings of a stage's weights at its first epoch."""
    _, options = loss_and_options(recipe)
    return Settings(recipe.lam, options, teachers, outputs, 0, epochs, temperature=recipe.temperature)


def state_at(recipe: LossSpec, settings: Settings, epoch: int) -> tuple[StepState, int | None]:
    """(state without gates, which teacher is heard or None for all) in one epoch, counted from 0."""
    loss, _ = loss_and_options(recipe)
    now = replace(settings, epoch=epoch)
    scale = 1.0 if loss.target_scale is None else loss.target_scale(now)
    weights = loss.weights(now)
    if settings.options.get("scale") == "equal":
        most = largest_multiplier(loss, settings)
        weights = {name: weight / most for name, weight in weights.items()}
    return StepState(weights, scale), None if loss.hears is None else loss.hears(now)


def gates_for(recipe: LossSpec, seed: int, steps: range, teachers: int) -> Tensor | None:
    """The gates of these optimiser steps, (len(steps), teachers), or None where the loss has none.

    `seed` is the stage's own stream for this purpose; `steps` counts from the start of the training.
    """
    _, options = loss_and_options(recipe)
    if options.get("gate", "none") == "none":
        return None
    return draw_gates(
        seed,
        steps,
        teachers,
        gate=str(options["gate"]),
        p=float(options["p"]),
        protect=bool(options["protect"]),
        empty=str(options["empty"]),
        mean=options["sum"] == "mean",
    )
