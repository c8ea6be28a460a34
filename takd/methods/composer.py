"""Knowledge distillation as five choices (after Abbasi et al. 2019, arXiv 1912.13179). Imports no torch.

The paper separates data preparation from what is transferred, from where and how; every method of the table is one
combination. Its details beyond that are not verified, so the words of the choices are this project's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from takd.methods.options import Value


@dataclass(frozen=True)
class Control:
    """One of the five choices: its label, its question, and each answer with a sentence about it."""

    name: str
    label: str
    help: str
    choices: Mapping[str, str]


CONTROLS: dict[str, Control] = {
    row.name: row
    for row in (
        Control(
            "view",
            "Data view",
            "Which images do teacher and student look at?",
            {
                "same": "the same view of every image",
                "own": "each its own: students their random views, finished teachers the image as it is",
                "split": "different images: the teacher learns from one part, the student from the other",
            },
        ),
        Control(
            "sources",
            "Sources",
            "Who teaches?",
            {
                "none": "nobody",
                "teacher": "the trained teacher",
                "assistants": "the teacher and networks of sizes in between",
                "heads": "the teacher and linear heads on its own stages",
                "trajectory": "the teacher at earlier epochs of its own training",
                "copies": "several teachers of one size, each from another seed",
                "sub-models": "larger parts of the same network",
                "peers": "other networks that learn at the same time",
            },
        ),
        Control(
            "knowledge",
            "Knowledge",
            "What is handed over?",
            {
                "labels": "nothing but the labels",
                "logits": "the answers for every class",
                "relations": "how the answers rank classes and images, not their values",
                "features": "a hidden layer's activations",
                "attention": "where in the picture hidden layers respond",
            },
        ),
        Control(
            "schedule",
            "Schedule",
            "In what order?",
            {
                "one by one": "every network learns from one finished source at a time",
                "all at once": "every network learns from several finished sources in every step",
                "inside one step": "sources and students are trained in the same step",
                "two phases": "first the handed-over knowledge alone, then the usual loss",
            },
        ),
        Control(
            "gate",
            "Gate",
            "When is a source heard?",
            {
                "all": "always",
                "bernoulli": "in each step with probability p",
                "drop-one": "in each step all but one",
                "early stop": "only in the first part of the training",
                "warm-up": "softly at first, fully after some epochs",
            },
        ),
    )
}


@dataclass(frozen=True)
class Composition:
    """One answer to each of the five choices."""

    sources: str
    knowledge: str
    schedule: str = "one by one"
    gate: str = "all"
    view: str = "same"


@dataclass(frozen=True)
class Preset:
    """A method in the composer's terms, and the options that make it so."""

    composition: Composition
    options: Mapping[str, Value] = field(default_factory=dict)


TOGETHER = ("sub-models", "peers")  # sources that are trained in the student's own step
SEVERAL = ("assistants", "heads", "trajectory", "copies")  # sources of which there can be more than one at a time


def refusal(combination: Composition) -> str | None:
    """Why a combination makes no sense, in one sentence with what to change; None if it does make sense.

    A sensible combination need not be built yet: takd.methods.table.methods_for says which methods are.
    """
    c = combination
    for part in fields(c):
        value, control = getattr(c, part.name), CONTROLS[part.name]
        if value not in control.choices:
            return f"{control.label} {str(value)[:40]!r} is not one of {', '.join(control.choices)}."
    return _sources_and_knowledge(c) or _schedules(c) or _gates(c) or _views(c)


def _sources_and_knowledge(c: Composition) -> str | None:
    if c.sources == "none" and c.knowledge != "labels":
        return "Nobody teaches, so only labels can be learnt from: choose a source, or labels alone."
    if c.sources not in ("none", "sub-models") and c.knowledge == "labels":
        return "A source is chosen but nothing is handed over: choose what it teaches, or no source."
    if c.sources == "heads" and c.knowledge in ("features", "attention"):
        return "A linear head has no hidden layers: it can hand over answers only."
    if c.sources == "sub-models" and c.knowledge in ("features", "attention"):
        return "Sub-models share their hidden layers, so there is nothing to hand over but the answers."
    return None


def _schedules(c: Composition) -> str | None:
    if c.sources in TOGETHER and c.schedule != "inside one step":
        return f"{c.sources.capitalize()} are trained in the same step as the student: choose 'inside one step'."
    if c.sources not in TOGETHER and c.schedule == "inside one step":
        return "Only sub-models and peers are trained in the student's own step; a finished source teaches later."
    if c.schedule == "all at once" and c.sources not in SEVERAL:
        return "Teaching all at once takes several finished sources: assistants, heads, copies or a trajectory."
    if c.sources == "heads" and c.schedule != "all at once":
        return "Heads sit on one network and teach beside it: choose 'all at once'."
    if c.sources == "copies" and c.schedule != "all at once":
        return "Teachers of one size differ in nothing but their seed, so there is no order: choose 'all at once'."
    if c.schedule == "two phases" and c.sources == "none":
        return "Without a source there is no knowledge for a first phase: choose a source."
    return None


def _gates(c: Composition) -> str | None:
    if c.sources == "none" and c.gate != "all":
        return "Without a source there is nothing to gate: choose gate 'all'."
    if c.knowledge == "labels" and c.gate != "all":
        return "Labels are always heard: choose gate 'all', or hand over more than labels."
    if c.gate in ("bernoulli", "drop-one") and c.schedule != "all at once":
        return "A random gate chooses among sources that teach in the same step: choose 'all at once'."
    if c.gate in ("early stop", "warm-up") and c.schedule == "two phases":
        return "Two phases already say when the source is heard: choose gate 'all'."
    if c.gate in ("early stop", "warm-up") and c.schedule == "inside one step":
        return "Networks that learn together have no finished source to stop hearing: choose gate 'all'."
    return None


def _views(c: Composition) -> str | None:
    if c.sources == "none" and c.view != "same":
        return "Without a source there is one view only: choose 'same'."
    if c.sources in TOGETHER and c.view != "same":
        return f"{c.sources.capitalize()} share every step's images: choose the same view."
    if c.knowledge in ("features", "attention") and c.view == "own":
        return "Hidden layers are compared place by place, so both must see the same view of the image."
    return None
