"""The ExperimentSpec, and the one each data set opens with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from takd.data.catalogue import folder_shape
from takd.data.table import Dataset
from takd.methods.options import Value

SCOPES = {
    "chain": "the chosen chain with its controls",
    "ladder": "also direct KD from every larger size and a chain through every single assistant",
}


@dataclass(frozen=True)
class ExperimentSpec:
    """What the user asked: one chain (teacher > assistants > student), a method with its options where they differ from
    their defaults, a budget, and how many seeds. `epochs`, `images` (training images) and `lr` (learning rate) take
    the place of what the budget says of every network; 0 leaves it to the budget.

    Every seed trains its own teacher, assistants and student: n seeds are n independent chains. Seed numbers are
    `seed`, `seed` + 1, ..., `seed` + `seeds` - 1.
    """

    dataset: str = "cifar10"
    teacher: str = "plain-10"
    assistants: tuple[str, ...] = ("plain-4",)
    student: str = "plain-2"
    method: str = "takd"
    budget: str = "standard"
    seeds: int = 5
    temperature: float = 8.0
    lam: float = 0.5
    noise: float = 0.0
    seed: int = 0
    scope: str = "ladder"
    options: tuple[tuple[str, Value], ...] = ()
    view: str = "same"
    epochs: int = 0
    images: int = 0
    lr: float = 0.0

    @property
    def path(self) -> tuple[str, ...]:
        """Networks from teacher to student."""
        return (self.teacher, *self.assistants, self.student)


# Where each data set starts. T and lam of CIFAR-10 are the best of cached_runs/tuning/ on validation images (tuned
# on direct KD, at another budget); those of digits come from an earlier search on other seeds, and the grids there
# choose others, see takd/claims/settings.py. A folder of images starts like CIFAR-10.
STARTS: dict[str, ExperimentSpec] = {
    "cifar10": ExperimentSpec(),
    "digits": ExperimentSpec(
        dataset="digits",
        teacher="mlp-256",
        assistants=("mlp-16",),
        student="mlp-8",
        budget="taste",
        seeds=8,
        temperature=1.0,
        lam=0.9,
        noise=0.2,
    ),
}


_STANDARD = Dataset.input_shape
_LARGE_START = ExperimentSpec(
    teacher="imagenet-resnet-34",
    assistants=("imagenet-resnet-18",),
    student="imagenet-mobilenet-50",
    budget="taste",
    seeds=3,
    scope="chain",
)


def start_for(dataset: str) -> ExperimentSpec:
    """The choices a data set opens with. An imported folder opens like CIFAR-10, one of larger images with ImageNet's
    networks."""
    if dataset in STARTS:
        return STARTS[dataset]
    side = (folder_shape(dataset) or _STANDARD)[1]
    return replace(STARTS["cifar10"] if side <= _STANDARD[1] else _LARGE_START, dataset=dataset)
