"""What a claim of the field is made of: its source, the rule fixed beforehand, and the measurements that test it.

A claim is tested in one or more settings (takd.claims.settings). In each, a `Measure` turns stored results into one
number per seed, and a seed is an independent chain: its own teacher, its own assistants, its own student. The number is
signed so that values above zero speak for the claim. What follows from the numbers is in takd.analysis.claims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from takd.claims.settings import Setting
from takd.plan import Arm

MARGIN = 0.003  # 0.3 points: a difference wholly within it counts as none
KINDS: dict[str, str] = {
    "effect": "one difference",
    "least": "the weakest of several differences; the interval is wide enough for all of them",
    "best against best": "the best of one group minus the best of another; the interval is wide enough for all pairs",
    "slope": "the slope over a size, by least squares at each seed",
    "midpoint": "the assistant nearest to the middle in accuracy minus the one nearest to the middle in parameters",
}
VALUES: dict[str, str] = {
    "test_acc": "accuracy on test images",
    "entropy": "mean entropy of the answers to test images at T = 1, in nats",
    "train_kl": "KL to the teacher's answers on training images in the last epoch, over T squared, in nats",
    "shared_errors": "how far student and predecessor fail on the same test images, beyond chance (Cohen's kappa)",
    "last_test_acc": "accuracy on test images at the last epoch, where another one was kept",
    "rise": "how much the training loss rises half a filter's norm away, the mean over random directions, in nats",
}


@dataclass(frozen=True)
class Line:
    """One trained network of one arm, with the choices in which its experiment differs from the setting's.

    of: `student`, or `heads` for the linear heads beside its teacher. part: which sub-model or head, from 0.
    value: what is read of it (VALUES).
    """

    arm: Arm
    changes: tuple[tuple[str, object], ...] = ()
    of: Literal["student", "heads"] = "student"
    part: int | None = None
    value: str = "test_acc"


Effect = tuple[tuple[float, Line], ...]
"""A weighted sum of lines; the plain one is (+1, arm), (-1, what it is held against)."""


@dataclass(frozen=True)
class Measure:
    """One number per seed. `others` is the second group of `best against best`, `x` the sizes of `slope`, `ends` what
    `midpoint` needs to know: (teacher alone, student alone)."""

    kind: str
    effects: tuple[Effect, ...]
    others: tuple[Effect, ...] = ()
    x: tuple[float, ...] = ()
    unit: str = "points"
    margin: float = MARGIN
    alone: tuple[Line, ...] = ()
    turn: float = 0.0  # above it speaks for the claim; -margin for "no worse than"

    def lines(self) -> Iterator[Line]:
        """Every line it reads."""
        for effect in (*self.effects, *self.others):
            yield from (line for _, line in effect)
        yield from self.alone


@dataclass(frozen=True)
class Trial:
    """A claim in one setting.

    registered: the rule was written down before anybody had seen results of the setting's seeds in that setting, and
    has not changed since; else it is exploratory. variant: what is different from the claim's own measure, in words;
    such a trial is shown beside it and never decides. withdrawn: it is exploratory, and was called registered when its
    runs were made, so that its neighbours are still corrected for it.
    """

    setting: str
    measure: Callable[[Setting], Measure]
    registered: bool = True
    variant: str = ""
    withdrawn: bool = False


def exploratory(setting: str, measure: Callable[[Setting], Measure], variant: str = "") -> Trial:
    """A trial that was not pre-registered."""
    return Trial(setting, measure, False, variant)


def withdrawn(setting: str, measure: Callable[[Setting], Measure]) -> Trial:
    """An exploratory trial that was called registered once; why it is not is among the amendments."""
    return Trial(setting, measure, False, withdrawn=True)


@dataclass(frozen=True)
class Claim:
    """A row of the board. Trials are in order of weight: the first registered one that was run (without one, the first
    that was) leads, the others stand beside it.

    published: the number of the source, as printed there. experiment: arms and data in words. rule: what is held
    against what, and when the claim falls.
    """

    number: int
    name: str
    title: str
    family: str
    source: str
    published: str
    experiment: str
    rule: str
    trials: tuple[Trial, ...]


FAMILIES: dict[str, str] = {
    "gap": "The capacity gap",
    "assistants": "Assistants",
    "dense": "Dense guidance",
    "inside": "Sub-models and heads",
    "remedies": "Other remedies",
    "why": "Why it should be so",
    "protocol": "How it is measured",
}
