"""The basket: arms of any question, put side by side on the Compare page. It stands in the URL.

An item is a question whose chosen arm is meant: the networks, the method and its settings, data, budget and seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from takd.data.table import Dataset
from takd.presentation import view
from takd.spec import PARAMETERS, ExperimentSpec, from_query, to_query

MOST = 8  # lines that a figure can tell apart


def write(spec: ExperimentSpec) -> str:
    """An item as the URL has it: every choice by its short name."""
    query = to_query(replace(spec, scope="chain"), full=True)
    return ";".join(f"{name}:{value}" for name, values in query.items() for value in values if value)


def read(text: str, datasets: Mapping[str, Dataset]) -> tuple[ExperimentSpec, tuple[str, ...]]:
    """An item from the URL, and one sentence per thing that had to change."""
    query: dict[str, list[str]] = {}
    for piece in text.split(";"):
        name, _, value = piece.partition(":")
        query.setdefault(name, []).append(value)
    for name in ("ta", "o"):
        query.setdefault(name, [""])
    spec, problems = from_query(query, datasets)
    return replace(spec, scope="chain"), problems


def is_arm(text: str) -> bool:
    """Whether a text of the URL names a choice at all: from anything else `read` would make the question pages open
    with."""
    return any(f";{text}".count(f";{parameter.short}:") for parameter in PARAMETERS.values())


def items() -> tuple[str, ...]:
    """What is in the basket, as the URL has it."""
    return tuple(view.get("cmp"))[:MOST]


def add(specs: Iterable[ExperimentSpec]) -> None:
    """Put arms into the basket; those that are in it already stay where they are."""
    view.put("cmp", tuple(dict.fromkeys((*items(), *map(write, specs))))[:MOST])


def remove(text: str) -> None:
    view.put("cmp", tuple(item for item in items() if item != text))


def clear() -> None:
    view.put("cmp", ())
