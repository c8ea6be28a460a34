"""What the chain strip and the curves of a study show: boxes in the order of teaching, and lines with their stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from takd.analysis.frames import part_of, progress_frame
from takd.analysis.statistics import Interval, t_interval
from takd.methods.options import read_options
from takd.methods.table import METHODS
from takd.networks.table import capacity
from takd.plan import Arm
from takd.presentation import words
from takd.presentation.study import Study
from takd.runs.store import Store


def box_frame(shown: Study, store: Store) -> pd.DataFrame:
    """The strip's boxes: one row per network of the chosen path, teacher first, or per sub-model of its one network,
    largest first; means over finished seeds.

    title: the word for the box. arrow: whether the one before teaches it. network: what a click selects.
    """
    keys = {key for chain in shown.plan.chains_of(shown.chosen) for key in (*chain.keys, chain.student)}
    progress = progress_frame(shown.plan, store, keys).set_index("key")
    return pd.DataFrame((_sub_models if shown.in_one_network else _path)(shown, store, progress))


def _path(shown: Study, store: Store, progress: pd.DataFrame) -> list[dict[str, Any]]:
    arm, classes = shown.chosen, shown.dataset.classes
    networks, cohort = people(arm), METHODS[arm.method].wiring == "cohort"
    chains = shown.plan.chains_of(arm)
    rows = []
    for position, network in enumerate(networks):
        # Who learns in the student's own stage has no key: its numbers stand among the parts of the student's result.
        own = position - (len(networks) - len(chains[0].keys))
        keys = [chain.keys[max(own, 0)] for chain in chains]
        part = position + 1 if own < 0 else None
        role = "student" if position == len(networks) - 1 else "peer" if cohort else "assistant" if position else ""
        size = capacity(network, classes)
        before = capacity(networks[position - 1], classes).macs if position else math.nan
        rows.append(
            {"position": position, "role": role or "teacher", "network": network, "label": network}
            | {"title": words.box_title(role or "teacher", *_epochs(shown, keys[0]))}
            | {"params": size.params, "macs": size.macs, "ratio": before / size.macs, "arrow": not cohort}
            | _state(store, progress.loc[keys], part)
        )
    return rows


def _sub_models(shown: Study, store: Store, progress: pd.DataFrame) -> list[dict[str, Any]]:
    keys = [chain.student for chain in shown.plan.chains_of(shown.chosen)]
    who = teacher_option(shown.chosen)
    between = "student" if who == "largest" else "assistant"
    rows: list[dict[str, Any]] = []
    for position, sub in enumerate(reversed(shown.sub_models)):
        last = position == len(shown.sub_models) - 1
        role = "student" if last or not who else "teacher" if not position else between
        rows.append(
            {"position": position, "role": role, "network": sub.label, "label": f"{sub.label} of {sub.network}"}
            | {"title": "Smallest" if last else "Sub-model" if position else "Largest"}
            | {"params": sub.params, "macs": sub.macs, "arrow": who == "next-larger"}
            | {"ratio": rows[-1]["macs"] / sub.macs if rows else math.nan}
            | _state(store, progress.loc[keys], len(shown.sub_models) - 1 - position)
        )
    return rows


def teacher_option(arm: Arm) -> str:
    """Who teaches a sub-model, as the method's option names it; empty where the labels teach all of them."""
    return str(read_options(METHODS[arm.method].options, dict(arm.options)).get("teacher", ""))


def people(arm: Arm) -> tuple[str, ...]:
    """The networks of an arm in the order of its boxes: its path, or a copy of the student and the student."""
    row = METHODS[arm.method]
    if row.wiring == "cohort" and read_options(row.options, dict(arm.options))["peers"] == "copies":
        return (arm.path[-1], arm.path[-1])
    return arm.path


def _epochs(shown: Study, key: str) -> tuple[int, int]:
    """(epochs a stage trains, epochs of its network's budget): fewer where a teacher is stopped early."""
    stage = shown.plan.stages[key]
    usual = [s.recipe.epochs for s in shown.plan.stages.values() if s.network == stage.network]
    return stage.recipe.last, max(usual)


def _state(store: Store, progress: pd.DataFrame, part: int | None) -> dict[str, Any]:
    """How far these stages (one per seed) are, and what they or one of their parts reach."""
    interval = _interval([part_of(store.result(str(key)) or {}, part) for key in progress.index])
    training = "training" in progress["state"].astype(str).tolist()
    return {
        "accuracy": interval.mean,
        "half": interval.half,
        "n": interval.n,
        "state": "done" if interval.n else "training" if training else "waiting",
        "progress": float(progress["share"].mean()),
    }


def _interval(results: Sequence[Mapping[str, Any]]) -> Interval:
    found = [row.get("test_acc") for row in results]
    return t_interval([value for value in found if isinstance(value, (int, float))])


def curve_lines(shown: Study, network: str | None) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Which stages the curves show: label -> keys (one per seed), and label -> method for the colour.

    Without a selected network: every network of the chosen chain. With one: that network under every way the plan
    trains it, e.g. the student alone, after direct KD and after the chain. Of a network with sub-models: each way to
    train them together, whose curves are the largest's.
    """
    lines: dict[str, list[str]] = {}
    how: dict[str, str] = {}
    if shown.in_one_network:
        for arm in (arm for arm in shown.plan.arms if arm.part is not None):
            label = words.arm_label(arm.name)
            lines[label], how[label] = [chain.student for chain in shown.plan.chains_of(arm)], arm.method
        return lines, how
    arms = [shown.chosen]
    if network is not None:
        arms += [a for a in shown.plan.arms if _simple(a, shown) or a == Arm("kd", (network, shown.spec.student))]
    for arm in arms:
        chains = shown.plan.chains_of(arm)
        missing = len(arm.path) - len(chains[0].keys)  # peers that learn in the student's stage have no curve
        for position, name in list(enumerate(arm.path))[missing:]:
            if network is not None and name != network:
                continue
            taught = position > 0
            method = arm.method if taught else "scratch"
            label = f"{_role(arm, position)} {name}" if network is None else _way(arm, position)
            if label not in lines:
                lines[label] = [chain.keys[position - missing] for chain in chains]
                how[label] = "kd" if method == "takd" and position == 1 else method
    return lines, how


def _role(arm: Arm, position: int) -> str:
    return "student" if position == len(arm.path) - 1 else "assistant" if position else "teacher"


def _simple(arm: Arm, shown: Study) -> bool:
    """The controls of the chosen arm: alone, and direct KD from the same teacher."""
    return arm.method == "scratch" or arm == Arm("kd", (shown.spec.teacher, shown.spec.student))


def _way(arm: Arm, position: int) -> str:
    if position == 0:
        return "alone"
    if not arm.usual and position == len(arm.path) - 1:
        method = words.method_label(arm.how)
        if METHODS[arm.method].wiring == "cohort":
            return f"{method} beside {people(arm)[0]}"
        return f"{method} {f'via {listed}' if (listed := ' > '.join(arm.path[1:-1])) else f'from {arm.path[0]}'}"
    return f"from {arm.path[0]}" if position == 1 else f"via {' > '.join(arm.path[1:position])}"


def who_else_teaches(shown: Study, store: Store) -> str:
    """Teachers of the student that are not in the strip: heads on the teacher, the teacher at earlier epochs, more
    teachers like it."""
    chains = shown.plan.chains_of(shown.chosen)
    others = [[shown.plan.stages[key] for key in chain.beside] for chain in chains]
    n = sum(bool(chain) and all(store.is_done(stage.key) for stage in chain) for chain in others)
    if not others[0] or not n:
        return ""
    network = others[0][0].network
    if others[0][0].loss.name == "heads":
        results = [store.result(chain[0].key) or {} for chain in others]
        parts = [[float(part["test_acc"]) for part in result["parts"]] for result in results if "parts" in result]
        means = [sum(column) / len(column) for column in zip(*parts, strict=True)]
        listed = words.listing(words.percent(mean) for mean in means)
        alone = f"by themselves they reach {listed} (n = {n})"
        return f"Linear heads on {network}, first stage to last, teach beside it; {alone}."
    if METHODS[shown.chosen.method].wiring == "copies":
        return f"Beside it {len(others[0])} more {network} teach, each from another seed (n = {n})."
    epochs = words.listing(str(stage.recipe.last) for stage in others[0])
    return f"Before it {network} teaches as it was after epoch {epochs} of its own training."
