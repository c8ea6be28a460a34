"""What a stage minimises while it trains: its loss from the table of methods, told which epoch and step it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from takd.methods.losses.answers import Answers
from takd.methods.losses.step import gates_for, make_loss, settings_for, state_at
from takd.methods.table import loss_and_options
from takd.stage import LossSpec, StageSpec
from takd.training.streams import stream_seed


def changes(spec: LossSpec) -> bool:
    """Whether a loss differs between epochs or steps: by a schedule, or by chance in who is heard."""
    loss, options = loss_and_options(spec)
    return loss.scheduled or options.get("gate", "none") != "none"


class Objective:
    """The loss of one stage with so many teachers. It stands at the first epoch until it is told otherwise."""

    def __init__(self, stage: StageSpec, teachers: int) -> None:
        self._stage, self._teachers = stage, teachers
        self._function = make_loss(stage.loss)
        self._settings = settings_for(stage.loss, epochs=stage.recipe.epochs, teachers=max(1, teachers))
        self._state, self._heard = state_at(stage.loss, self._settings, 0)
        self._gates: Tensor | None = None

    def begin_epoch(self, epoch: int, steps: int) -> None:
        """Go to an epoch (0-based) of so many steps."""
        self._state, self._heard = state_at(self._stage.loss, self._settings, epoch)
        seed = stream_seed(self._stage.seed, self._stage.network, "gates")
        ahead = range(epoch * steps, (epoch + 1) * steps)
        self._gates = gates_for(self._stage.loss, seed, ahead, self._teachers) if self._teachers else None

    def begin_step(self, step: int) -> None:
        """Go to a step (0-based) of the epoch."""
        if self._gates is not None:
            self._state = replace(self._state, gates=self._gates[step])

    def __call__(self, student: Tensor, labels: Tensor, teachers: Sequence[Tensor]) -> dict[str, Tensor]:
        """(student logits (B, C), labels (B,), each teacher's logits (B, C)) -> terms by name, and their weighted sum
        as `loss`. Raises ValueError where the loss hears another number of teachers."""
        heard = [Answers((logits,)) for logits in teachers]
        if self._heard is not None:
            heard = [heard[self._heard]]
        return self._function(Answers((student,)), labels, heard, self._state)
