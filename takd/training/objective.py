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
    """The loss of one stage with so many teachers and `outputs` answers of its own. It stands at the first epoch until
    it is told otherwise.

    `turns` is how often a step goes forward and backward: once, or once for each network of a cohort that learns in
    turn.
    """

    def __init__(self, stage: StageSpec, teachers: int, outputs: int = 1) -> None:
        self._stage, self._teachers = stage, teachers
        self._function = make_loss(stage.loss)
        self._settings = settings_for(
            stage.loss, epochs=stage.recipe.epochs, teachers=max(1, teachers), outputs=outputs
        )
        self.turns = outputs if self._settings.options.get("order") == "in turn" else 1
        self._state, self._heard = state_at(stage.loss, self._settings, 0)
        self._weights = self._state.weights  # of the epoch, whoever's turn it is
        self._gates: Tensor | None = None

    def begin_epoch(self, epoch: int, steps: int) -> None:
        """Go to an epoch (0-based) of so many steps."""
        self._state, self._heard = state_at(self._stage.loss, self._settings, epoch)
        self._weights = self._state.weights
        seed = stream_seed(self._stage.seed, self._stage.network, "gates")
        ahead = range(epoch * steps, (epoch + 1) * steps)
        self._gates = gates_for(self._stage.loss, seed, ahead, self._teachers) if self._teachers else None

    @property
    def heard(self) -> int | None:
        """Which teacher teaches in this epoch; None for all."""
        return self._heard

    def begin_turn(self, turn: int) -> None:
        """Only one network of the cohort learns: only its terms have weight."""
        own = ("ce" if turn == 0 else f"ce_{turn}", f"kl_{turn}")
        self._state = replace(self._state, weights={name: self._weights[name] for name in own})

    def begin_step(self, step: int) -> None:
        """Go to a step (0-based) of the epoch."""
        if self._gates is not None:
            self._state = replace(self._state, gates=self._gates[step])

    def __call__(
        self, student: Tensor | Answers, labels: Tensor, teachers: Sequence[Tensor | Answers]
    ) -> dict[str, Tensor]:
        """(student logits (B, C) or all its answers, labels (B,), each teacher's logits (B, C) or answers) -> terms by
        name, and their weighted sum as `loss`. Raises ValueError where the loss hears another number of teachers."""
        heard = [_answers(one) for one in teachers]
        if self._heard is not None and len(heard) > 1:
            heard = [heard[self._heard]]
        return self._function(_answers(student), labels, heard, self._state)


def _answers(one: Tensor | Answers) -> Answers:
    return Answers((one,)) if isinstance(one, Tensor) else one
