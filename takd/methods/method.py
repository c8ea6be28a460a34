"""What a row of the table of methods is made of. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from takd.methods.composer import Preset
from takd.methods.options import Option, Value

WIRINGS: dict[str, str] = {
    "path": "networks in a row; each is a stage, taught by finished earlier ones",
    "heads": "a path, with a stage of linear heads on the frozen teacher before the student",
    "trajectory": "a path whose teacher is heard at earlier epochs of its own training (kept checkpoints)",
    "copies": "a path whose teacher is heard together with networks like it from other seeds",
    "sub-models": "one stage: one network whose parts share weights, all trained in every step",
    "cohort": "one stage: several networks trained side by side",
}


# What a stage trains, by the form of its loss.
FORMS: dict[str, str] = {
    "network": "one network, from labels and the answers of finished ones",
    "features": "one network with regressors, which looks at hidden layers of its teacher",
    "heads": "linear heads on the frozen teacher",
    "sub-models": "all sub-models of one network",
    "cohort": "several networks side by side",
}


@dataclass(frozen=True)
class Settings:
    """All that the weights of a loss depend on: `teachers` counts answers heard (a head is one), `outputs` the
    student's own (sub-models or peers), `epoch` is 0-based out of `epochs`. `classes` and `temperature` matter for
    comparisons only."""

    lam: float
    options: Mapping[str, Value]
    teachers: int = 1
    outputs: int = 1
    epoch: int = 0
    epochs: int = 1
    classes: int | None = None
    temperature: float | None = None

    def number(self, name: str) -> float:
        """An option as a number."""
        return float(self.options[name])

    def first(self, share: float, *, rest: int = 0) -> int:
        """Epochs in the first `share` of the training: at least one, so that a share above 0 is never nothing, but
        `rest` epochs are left for what comes after."""
        return min(max(1, int(share * self.epochs + 0.5)), self.epochs - rest)


Weights = dict[str, float]


@dataclass(frozen=True)
class Loss:
    """A loss as named terms and their weights; the sum over both is what is minimised.

    `terms` is "module:function" inside takd.methods.losses: it takes (student, labels, teachers, state) and, by
    keyword, `temperature` where `uses` has it and the method's options named in `options`, and returns unweighted
    terms by name. `weights(settings)` gives the weight of each; terms it leaves out are for drawing only.
    `scheduled` losses change with the epoch, by their weights, by `target_scale` (a factor on the teacher's logits)
    or by `hears` (which teacher teaches in this epoch; without it all do). `uses` names the experiment's own
    parameters the loss reads. `form` (of FORMS) says what a stage with this loss trains. `grows` names terms whose
    T**2 is not made up for by a gradient that shrinks as T rises, so that they pull T**2 times as hard. `by_image`: the
    loss of a batch is the mean of that of its images, and no layer that is trained along with it looks at several.
    """

    name: str
    terms: str
    weights: Callable[[Settings], Weights]
    uses: tuple[str, ...] = ("temperature", "lam")
    options: tuple[str, ...] = ()
    scheduled: bool = False
    target_scale: Callable[[Settings], float] | None = None
    hears: Callable[[Settings], int] | None = None
    form: str = "network"
    grows: tuple[str, ...] = ()
    by_image: bool = True


@dataclass(frozen=True)
class Reading:
    """Sources that do not agree or could not be read in full: the option whose choices are the readings, and why."""

    option: str
    why: str


@dataclass(frozen=True)
class Method:
    """One way to teach a network.

    `teachers_of(i)` gives the positions in the path that teach position i. `assistants` is the (least, most) number
    of assistants the method takes; None means any number. `trainings` and `forwards` are (constant, per assistant):
    trainings besides the student's own, and forward passes of other networks in each of the student's steps when
    their answers are not stored. `needs` says what the teacher has to hand over. `published` holds the T and lam of
    the source where they differ from ours. `spends_assistants`: assistants are not trained, what they would have cost
    is spent on a longer training of the student. `starts_at` is the temperature of a question that names none, where
    that of direct KD would be far off. `starts` are options a page proposes for students of a family for
    which the published ones are far off.
    """

    name: str
    label: str
    teachers_of: Callable[[int], tuple[int, ...]]
    assistants: tuple[int, int | None]
    formula: str
    cost: str
    reference: str
    help: str
    loss: Loss
    presets: tuple[Preset, ...]
    wiring: str = "path"
    trainings: tuple[int, int] = (1, 0)
    forwards: tuple[int, int] = (1, 0)
    needs: tuple[str, ...] = ("labels", "logits")
    options: tuple[Option, ...] = ()
    readings: tuple[Reading, ...] = ()
    published: Mapping[str, float] = field(default_factory=dict)
    spends_assistants: bool = False
    starts_at: float | None = None
    starts: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    @property
    def in_one_network(self) -> bool:
        """Whether it trains the sub-models of one network, which share weights; there are no other networks then."""
        return self.wiring == "sub-models"


def nobody(position: int) -> tuple[int, ...]:
    """No network of the path teaches another."""
    return ()


def predecessor(position: int) -> tuple[int, ...]:
    """Each network is taught by the one before it."""
    return (position - 1,) if position else ()


def all_before(position: int) -> tuple[int, ...]:
    """Each network is taught by every one before it."""
    return tuple(range(position))
