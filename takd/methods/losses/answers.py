"""What goes into a loss and how its terms come together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Answers:
    """What a network answers for a batch.

    `logits`: one (B, classes) tensor for a plain network; one per sub-model, smallest first; one per head. `features`:
    stage outputs (B, C, H, W) or (B, units), in order; of a student with regressors, what these made of them. `main` is
    the place of the answer that counts as the network's own.
    """

    logits: tuple[Tensor, ...]
    features: tuple[Tensor, ...] = ()
    main: int = 0


@dataclass(frozen=True)
class StepState:
    """What changes between steps: weight of each named term, factor on the teacher's logits, gates.

    Weights are numbers, or 0-d tensors where a captured graph has to see them change. `gates` (teachers,) multiplies
    the terms kl_0, kl_1, ...; None hears all.
    """

    weights: Mapping[str, float | Tensor]
    target_scale: float | Tensor = 1.0
    gates: Tensor | None = field(default=None, compare=False)


def the_one(teachers: Sequence[Answers]) -> Tensor:
    """The logits of the only teacher, without gradient. Raises ValueError for none or several: a missing teacher is
    an error and never replaced."""
    answers = all_logits(teachers)
    if len(answers) != 1:
        raise ValueError(f"this loss hears one teacher, not {len(answers)}")
    return answers[0]


def all_logits(teachers: Sequence[Answers]) -> list[Tensor]:
    """The logits of all teachers and their heads, in order, without gradient. Raises ValueError if there are none."""
    answers = [logits.detach() for teacher in teachers for logits in teacher.logits]
    if not answers:
        raise ValueError("a taught network has no teacher")
    return answers


def total(terms: Mapping[str, Tensor], state: StepState) -> dict[str, Tensor]:
    """The weighted sum as `loss`, and every term as it is, detached.

    A weight that is exactly the number 0 leaves its term out, so that no infinity or rounding of it leaks in. Raises
    ValueError when nothing is left and KeyError for a weight without a term.
    """
    loss: Tensor | None = None
    for name, weight in state.weights.items():
        term = terms[name]
        if isinstance(weight, int | float) and weight == 0:
            continue
        part = weight * term
        if state.gates is not None and name.startswith("kl_"):
            part = state.gates[int(name[3:])] * part
        loss = part if loss is None else loss + part
    if loss is None:
        raise ValueError("every term has weight 0: there is nothing to learn")
    return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}
