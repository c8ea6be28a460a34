"""The library entry closest to what was asked, and what differs, in words: shown while the real thing is not trained.

Distance is a weighted sum over the parameters that matter for the wanted method. A parameter that differs costs
between half its weight (a neighbouring size, a slightly other number) and all of it (nothing alike), so any
difference is felt and a smaller one is preferred. Another data set outweighs all else together; then student, teacher,
method, assistants, budget, epochs, images and rate of one's own, noise, T and lam, and last the number of seeds, the
scope and the first seed, which change how sure an answer is rather than the question.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from takd.data.table import DATASETS, Dataset
from takd.methods.table import METHODS
from takd.networks.table import NETWORKS
from takd.parameters import AS_BUDGET, LEFT_TO_BUDGET
from takd.spec import PARAMETERS, ExperimentSpec, size_order

WEIGHTS: dict[str, float] = {
    "dataset": 256,  # more than twice the rest together: half of it still outweighs everything else
    "student": 32,
    "teacher": 24,
    "method": 16,
    "assistants": 12,
    "budget": 8,
    "epochs": 6,
    "images": 6,
    "lr": 6,
    "noise": 6,
    "temperature": 4,
    "lam": 4,
    "options": 4,
    "view": 4,
    "seeds": 1,
    "scope": 0.5,
    "seed": 0.25,
}
_TEACHING = (
    "teacher",
    "assistants",
    "temperature",
    "lam",
    "options",
    "view",
)  # mean nothing to a student that learns alone

_BETWEEN = ("teacher", "assistants", "lam", "scope")  # mean nothing inside one network


@dataclass(frozen=True)
class Difference:
    """One choice that differs: the parameter's label, what was asked and what the entry has, as words to show."""

    parameter: str
    wanted: str
    has: str

    @property
    def said(self) -> str:
        """The same in words."""
        return f"{self.parameter}: you asked for {self.wanted}, shown is {self.has}"


def nearest(
    spec: ExperimentSpec, library: Sequence[ExperimentSpec], datasets: Mapping[str, Dataset] = DATASETS
) -> tuple[ExperimentSpec, tuple[Difference, ...]] | None:
    """The entry of `library` with the smallest distance (the first of equals) and its differences, weightiest first.

    Entries on data sets outside `datasets` are left out, and a question about sub-models of one network is never
    answered by one about a row of networks, nor the other way round. None when nothing is left; no differences for an
    entry that answers the question as asked.
    """
    in_one_network = METHODS[spec.method].in_one_network
    entries = [
        entry
        for entry in library
        if entry.dataset in datasets and METHODS[entry.method].in_one_network == in_one_network
    ]
    if not entries:
        return None
    best = min(entries, key=lambda entry: distance(spec, entry))
    return best, tuple(
        Difference(PARAMETERS[name].label, words(name, getattr(spec, name), datasets), words(name, value, datasets))
        for name in _asked(spec)
        if (value := getattr(best, name)) != getattr(spec, name)
    )


def differing(differences: Sequence[Difference]) -> str:
    """All of them in one sentence without its end."""
    return "; ".join(found.said for found in differences)


def distance(wanted: ExperimentSpec, has: ExperimentSpec) -> float:
    """0 for the same question; see the module's docstring."""
    total = 0.0
    for name in _asked(wanted):
        left, right = getattr(wanted, name), getattr(has, name)
        if left != right:
            total += WEIGHTS[name] * (0.5 + 0.5 * _UNLIKE[name](left, right))
    return total


def words(name: str, value: Any, datasets: Mapping[str, Dataset] = DATASETS) -> str:
    """A parameter's value as it is shown."""
    if name == "dataset":
        return datasets[value].label if value in datasets else str(value)
    if name == "method":
        return METHODS[value].label
    if name == "assistants":
        return " > ".join(value) or "none"
    if name == "options":
        return ", ".join(f"{option} {chosen}" for option, chosen in value) or "as usual"
    if name in LEFT_TO_BUDGET:
        return f"{value:,}" if value else AS_BUDGET
    if name == "noise":
        return f"{100 * value:g} %"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _asked(spec: ExperimentSpec) -> list[str]:
    unasked = _TEACHING if spec.method == "scratch" else _BETWEEN if METHODS[spec.method].in_one_network else ()
    return [name for name in WEIGHTS if name not in unasked]


def _network(a: str, b: str) -> float:
    """Neighbours in size are alike; another family is not."""
    if NETWORKS[a].family != NETWORKS[b].family:
        return 1.0
    return _ratio(float(size_order(a)), float(size_order(b)))


def _ratio(a: float, b: float) -> float:
    """Factors of 1 to 100 (and beyond) mapped to 0..1."""
    return min(1.0, abs(math.log(a / b)) / math.log(100))


def _sets(a: tuple[str, ...], b: tuple[str, ...]) -> float:
    """Share of the assistants named by only one of the two."""
    return len(set(a) ^ set(b)) / len(set(a) | set(b))


_UNLIKE: dict[str, Callable[[Any, Any], float]] = {
    "dataset": lambda a, b: 1.0,
    "student": _network,
    "teacher": _network,
    "method": lambda a, b: 1.0 if "scratch" in (a, b) else 0.0,
    "assistants": _sets,
    "budget": lambda a, b: 0.0 if "taste" not in (a, b) else 1.0,
    **dict.fromkeys(LEFT_TO_BUDGET, lambda a, b: _ratio(float(a), float(b)) if a and b else 1.0),
    "noise": lambda a, b: abs(a - b) / PARAMETERS["noise"].high,
    "temperature": _ratio,
    "lam": lambda a, b: abs(a - b),
    "seeds": lambda a, b: _ratio(float(a), float(b)),
    "scope": lambda a, b: 0.0 if b == "ladder" else 1.0,  # a ladder holds the chain's arms as well
    "seed": lambda a, b: 1.0,
    "options": lambda a, b: 1.0,
    "view": lambda a, b: 1.0,
}
