"""The sentences of a study about sub-models of one network: headline, story, what stands around its figures.

`means` is a frame of takd.analysis.parts.part_means; verdicts are about the smallest sub-model, the chosen way first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from takd.analysis.frames import Store
from takd.analysis.parts import part_frame, part_means
from takd.analysis.verdicts import Verdict
from takd.plan import Plan
from takd.presentation.formats import accuracy, duration, known, listing, number_word, percent, size
from takd.presentation.phrases import (
    CANNOT_TELL,
    HELPS,
    HURTS,
    NO_DIFFERENCE,
    SLIGHTLY_HELPS,
    SLIGHTLY_HURTS,
    arm_label,
    capital,
    gain_text,
    interval_text,
    kind_of,
    method_label,
    seeds_sentence,
    verdict_label,
)
from takd.presentation.words import Story

INTRODUCTION = (
    "One network holds smaller ones that share its weights: its sub-models. They are trained together, from the labels "
    "alone (joint training), taught by the largest (in-place KD), or each by the next larger one (in-place TA chain)."
)
_TEACHING = {
    "": "Every sub-model learns from the labels alone; no one teaches another.",
    "largest": "The largest learns from the labels and teaches each of the others, in the same step.",
    "next-larger": "The largest learns from the labels; each one teaches the next smaller one, in the same step.",
    "all-larger": "The largest learns from the labels; each of the others is taught by every larger one, in the same "
    "step.",
    "mean-of-larger": "The largest learns from the labels; each of the others is taught by the mean answer of all "
    "larger ones, in the same step.",
}


def teaching(who: str, hard: bool = False) -> str:
    """Who teaches whom (the method's option `teacher`; empty where nobody does)."""
    return f"{_TEACHING[who]}{' All of them see the labels too.' if who and hard else ''}"


def headline_of(plan: Plan, store: Store, verdicts: Sequence[Verdict]) -> str:
    """The headline of a stored plan; empty where it is not about sub-models."""
    return headline(part_means(part_frame(plan, store)), verdicts) if plan.chosen.part is not None else ""


def headline(means: pd.DataFrame, verdicts: Sequence[Verdict]) -> str:
    """What the chosen way to train them together does for the smallest sub-model."""
    chosen = [v for v in verdicts if v.arm == _chosen(means)]
    if not chosen or chosen[0].n == 0:
        return "Nothing to compare yet: no way to train the sub-models and its control have finished."
    first, kind = chosen[0], kind_of(chosen[0])
    small = f"{_label(means, 1)}, the smallest sub-model"
    way, around = _way(first.arm), f"({interval_text(first)})"
    text = f"{gain_text(first)} {'against' if first.interval.mean < 0 else 'over'} {_other(first)}"
    if kind == CANNOT_TELL:
        return capital(f"whether {way} helps {small}, cannot be told yet: {text} so far {around}.")
    verb = {
        HELPS: f"helps {small}",
        SLIGHTLY_HELPS: f"helps {small}, a little",
        NO_DIFFERENCE: f"makes no real difference to {small}",
        SLIGHTLY_HURTS: f"hurts {small}, a little",
        HURTS: f"hurts {small}",
    }[kind]
    told = capital(f"{way} {verb}: {text} {around}.")
    return told if kind not in (HELPS, SLIGHTLY_HELPS) else f"{told} {_beside(chosen[1:])}".strip()


def _beside(verdicts: Sequence[Verdict]) -> str:
    """What else must be beaten before the chosen way deserves the credit; the numbers stand under the figure."""
    groups = {
        "Also better than": (HELPS, SLIGHTLY_HELPS),
        "No real difference to": (NO_DIFFERENCE,),
        "Worse than": (HURTS, SLIGHTLY_HURTS),
        "Not yet told apart from": (CANNOT_TELL,),
    }
    found = {text: [_other(v) for v in verdicts if v.n and kind_of(v) in kinds] for text, kinds in groups.items()}
    return " ".join(f"{text} {listing(others)}." for text, others in found.items() if others)


def reading(means: pd.DataFrame, verdicts: Sequence[Verdict]) -> str:
    """The line under the figure: the chosen way against every other one, on the smallest sub-model."""
    chosen = [v for v in verdicts if v.arm == _chosen(means) and v.n]
    if not chosen:
        return "Nothing to compare yet: the chosen way and another one have to finish at the same seed."
    compared = [
        f"{verdict_label(v).lower()} against {arm_label(v.against)}, {gain_text(v)} ({interval_text(v)})"
        for v in chosen
    ]
    return f"{capital(arm_label(chosen[0].arm))} on {_label(means, 1)}, the smallest: {'; '.join(compared)}."


def story(
    means: pd.DataFrame, verdict: Verdict | None, at_largest: Verdict | None, seconds: Mapping[str, float]
) -> Story:
    """What happened, why, and what it costs; `seconds` of one seed by method."""
    return Story(_happened(means), _why(means, at_largest), _next(means, verdict, seconds))


def _happened(means: pd.DataFrame) -> str:
    small = means[(means["part"] == 1) & (means["n"] > 0)]
    alone = small[small["method"] == "scratch"]
    together = small[small["method"] != "scratch"]
    parts = []
    if len(alone):
        parts.append(f"Trained alone, {_label(means, 1)} scores {_scored(alone.iloc[0])}.")
    if len(together):
        ways = [f"{_scored(row)} with {_way(row['arm'])}" for _, row in together.iterrows()]
        parts.append(f"Trained together with the larger ones, {_label(means, 1)} scores {listing(ways)}.")
    return " ".join(parts) or "Nothing has finished yet."


def _why(means: pd.DataFrame, at_largest: Verdict | None) -> str:
    shared = "The sub-models share their weights, so what teaches one moves the others."
    top = means[(means["part"] == means["part"].max()) & means["chosen"] & (means["n"] > 0)]
    if at_largest is not None and at_largest.n:
        where = f"On the largest, {_label(means, int(means['part'].max()))}, {_way(at_largest.arm)}"
        found = f"{verdict_label(at_largest).lower()}, {gain_text(at_largest)} ({interval_text(at_largest)})"
        shared += f" {where} against joint training: {found}."
    elif len(top):
        shared += f" The largest, {top['label'].iloc[0]}, scores {_scored(top.iloc[0])}."
    return f"{shared} Why is not measured here."


def _next(means: pd.DataFrame, verdict: Verdict | None, seconds: Mapping[str, float]) -> str:
    number = number_word(int(means["part"].max()))
    text = (
        f"Each way is one training of the whole network per seed, and each of its steps runs all {number} sub-models."
    )
    method = _chosen(means).partition(" ")[0].partition("[")[0]
    if known(seconds.get(method)):
        alone = seconds.get("scratch")
        beside = f", training {_label(means, 1)} alone {duration(alone)}" if known(alone) else ""
        text += f" One seed takes {duration(seconds[method])}{beside}."
    kind = kind_of(verdict)
    if kind == CANNOT_TELL:
        return f"{text} {seeds_sentence(verdict)}"
    if method == "joint":
        return f"{text} Try teaching inside the network: in-place KD or the in-place TA chain."
    if kind in (HELPS, SLIGHTLY_HELPS):
        return f"{text} See whether it holds on a larger network."
    return f"{text} Try another teacher inside the network, or labels for all of them (More)."


def noise_caveat(noise: float) -> str:
    """What label noise means for the reading; empty where there is none."""
    if not noise > 0:
        return ""
    return (
        f"{percent(noise, 0)} of the training labels were made wrong on purpose; validation and test labels are clean. "
        "The largest sub-model may learn wrong labels by heart and pass them on. Compare with clean labels (More, "
        "Label noise 0)."
    )


def how_measured(number: int) -> str:
    """What a seed is, for the details."""
    return (
        f"Each seed trains the network anew, with all {number_word(number)} sub-models in every step, and the smallest "
        "one alone. The ways to train them together share a seed's initial weights and batch order."
    )


def alt_parts(means: pd.DataFrame, sentence: str = "") -> str:
    """The figure in words: every mean, then `sentence` (reading)."""
    done = means[means["n"] > 0]
    if done.empty:
        return "Test accuracy of every sub-model by its MACs: nothing trained yet."
    told = []
    for arm, rows in done.groupby("arm", sort=False, observed=True):
        listed = listing(f"{row['label']} {_scored(row)}" for _, row in rows.iterrows())
        alone = rows["method"].iloc[0] == "scratch"
        told.append(f"alone, {listed}" if alone else f"{arm_label(str(arm))}, {listed}")
    return f"Test accuracy of every sub-model by its MACs, small to large: {'; '.join(told)}. {sentence}".strip()


def alt_boxes(boxes: pd.DataFrame, network: str, taught: str) -> str:
    """The strip in words; `taught` is the sentence of `teaching`."""
    steps = []
    for box in boxes.sort_values("position").to_dict("records"):
        done = box["state"] == "done" and known(box["accuracy"])
        result = accuracy(box["accuracy"], box["half"]) if done else "not trained yet"
        steps.append(f"{box['network']} ({size(box['params'])} parameters, {result})")
    return f"Sub-models of {network}, large to small: {listing(steps)}. {taught}"


def _scored(row: pd.Series) -> str:
    return accuracy(float(row["mean"]), float(row["half"]))


def _chosen(means: pd.DataFrame) -> str:
    rows = means[means["chosen"]]
    return str(rows["arm"].iloc[0]) if len(rows) else ""


def _label(means: pd.DataFrame, part: int) -> str:
    rows = means[means["part"] == part]
    return str(rows["label"].iloc[0]) if len(rows) else "the sub-model"


def _way(arm: object) -> str:
    label = method_label(str(arm).rpartition(" ")[0])
    return f"the {label}" if label.startswith("in-place TA") else label


def _other(verdict: Verdict) -> str:
    return arm_label(verdict.against) if verdict.against.startswith("scratch") else _way(verdict.against)
