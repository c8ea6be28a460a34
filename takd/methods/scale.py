"""Comparisons at equal terms: how strongly a loss pulls, and what a method costs. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from takd.methods.method import Loss, Method, Settings
from takd.methods.options import Value

GATES = ("none", "bernoulli", "drop-one", "weaken")


def gradient_multiplier(loss: Loss, settings: Settings) -> float:
    """The sum of a loss's weights at one epoch, expected over gates: KD has 1, DGKD's printed sum one per teacher.

    Terms count with their T**2 as one unit, since T**2 KL has a gradient of the same size at every high temperature;
    those of which that is not true (`Loss.grows`) count T**2 times where `settings.temperature` is known.
    Divide the loss by this number, or compare with the learning rate chosen per method from one grid; otherwise a
    method that adds terms up is compared at a higher learning rate. What the number does not say: how large a term's
    own gradient is (a standardised logit's grows as the logits shrink). Raises ValueError for the released codes' mean
    over classes without `settings.classes`.
    """
    heard = expected_hearing(settings.options, settings.teachers)
    shrunk = settings.options.get("reduction") == "mean"
    if shrunk and settings.classes is None:
        raise ValueError("the mean over classes makes the KL terms `classes` times smaller: say how many there are")
    total = 0.0
    for name, weight in loss.weights(settings).items():
        taught = name.startswith("kl")
        factor = heard if name.startswith("kl_") else 1.0
        if name in loss.grows and settings.temperature is not None:
            factor *= settings.temperature**2
        total += weight * factor / (float(settings.classes or 1) if taught and shrunk else 1.0)
    return total


def largest_multiplier(loss: Loss, settings: Settings) -> float:
    """The largest gradient multiplier over all epochs of a training: what an equal loss scale divides by."""
    return max(gradient_multiplier(loss, replace(settings, epoch=epoch)) for epoch in range(settings.epochs))


def expected_hearing(options: Mapping[str, Value], teachers: int) -> float:
    """Mean factor on a teacher's term under the options' gate (1 without one), averaged over teachers and chance."""
    gate = options.get("gate", "none")
    if gate == "none" or teachers == 0:
        return 1.0
    p, fixed = float(options["p"]), int(bool(options["protect"]))
    free, mean = teachers - fixed, options["sum"] == "mean"
    if gate == "drop-one":
        return 1.0 if mean else (teachers - 1) / teachers
    if gate == "weaken":
        return (fixed + free * p) / teachers
    silent = 0.0 if fixed else (1.0 - p) ** free
    one = options["empty"] == "one"
    if mean:  # whoever is heard shares the whole weight
        return 1.0 if one else 1.0 - silent
    return (fixed + free * p + (silent if one else 0.0)) / teachers


@dataclass(frozen=True)
class Training:
    """What one training costs: epochs, MACs of the network for one image, MACs of teachers asked live, and the images
    of an epoch (in any unit that is the same for all that are compared)."""

    epochs: int
    macs: int
    teacher_macs: int = 0
    images: int = 1

    @property
    def work(self) -> int:
        """MACs: a step forwards once and goes backward at twice that cost; teachers forward."""
        return self.epochs * self.images * (3 * self.macs + self.teacher_macs)


def equal_cost_epochs(student: Training, extra: Sequence[Training], measure: str = "trainings") -> int:
    """Epochs of direct KD that cost as much as the student's training and the extra networks together.

    measure `trainings`: every extra network adds the epochs it was trained for, counted in the student's images;
    `macs`: it adds as many epochs of the student as its own work pays for. The teacher, which both arms need, is not in
    `extra`. Raises ValueError for another measure.
    """
    if measure == "trainings":
        return student.epochs + round(sum(training.epochs * training.images for training in extra) / student.images)
    if measure == "macs":
        return round(student.epochs * (1 + sum(training.work for training in extra) / student.work))
    raise ValueError(f"measure is trainings or macs, not {measure!r}")


def extra_trainings(method: Method, assistants: int) -> int:
    """Trainings a method needs besides the student's own."""
    constant, each = method.trainings
    return constant + each * assistants


def extra_forwards(method: Method, assistants: int) -> int:
    """Forward passes of other networks in each step of the student when no answers are stored."""
    constant, each = method.forwards
    return constant + each * assistants


def stopping_epoch(share: float, epochs: int) -> int:
    """The epoch (counted from 1) after which an early-stopped teacher teaches: at least 1, at most `epochs`.

    Raises ValueError for a share outside (0, 1].
    """
    if not 0.0 < share <= 1.0:
        raise ValueError(f"the share of a teacher's epochs lies in (0, 1], not {share}")
    return min(epochs, max(1, int(share * epochs + 0.5)))


def anchor_epochs(epochs: int, anchors: int) -> tuple[int, ...]:
    """The teacher's epochs (counted from 1) that teach in turn: equal intervals, the last one the finished teacher.

    Jin et al.'s equal epoch interval. Raises ValueError for more anchors than epochs or fewer than one.
    """
    if not 1 <= anchors <= epochs:
        raise ValueError(f"{anchors} anchors do not fit into {epochs} epochs; use 1 to {epochs}")
    return tuple(int(epochs * i / anchors + 0.5) for i in range(1, anchors + 1))
