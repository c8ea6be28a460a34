"""What stands around a figure: its text for screen readers, where its numbers come from, and how a run fares."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from takd.analysis.verdicts import GapVerdict, Verdict
from takd.presentation.formats import accuracy, count, digits_for, duration, known, listing, percent, points, size
from takd.presentation.phrases import capital, row_label, verdict_sentence
from takd.presentation.theme import ROLE_LABELS
from takd.runs.estimates import Estimate
from takd.runs.states import STATES

METRICS = {
    "val_acc": "validation accuracy",
    "train_acc": "training accuracy",
    "loss": "training loss",
    "loss_ce": "label term of the loss (CE)",
    "loss_kl": "teacher's term of the loss (T² KL)",
}


def run_sentence(
    state: str, done: int = 0, total: int = 0, position: int | None = None, left: float | None = None
) -> str:
    """How a run fares: its state, place in the queue (1 starts next) or stages trained, and seconds left."""
    text = f"{STATES[state].word}."
    if state == "queued" and position is not None:
        text = "Next in the queue." if position <= 1 else f"Place {position} in the queue."
    elif total:
        text = f"{text[:-1]}, {done} of {total} trained."
    return f"{text} {capital(duration(left))} left." if known(left) else text


def starts_in(seconds: float | None, ahead: int) -> str:
    """When a waiting run starts: `next, in ~4 min`, `3 runs ahead, in ~2.0 h`."""
    place = "next" if ahead == 0 else f"{count(ahead, 'run')} ahead"
    return f"{place}, starts in {duration(seconds)}" if known(seconds) else place


ADD_A_GPU = (
    "No graphics card was found, so everything is trained on the processor: digits in seconds, CIFAR in hours. On an "
    "NVIDIA card with a CUDA build of PyTorch the same runs are many times faster; `python -m takd doctor` says what "
    "this machine has."
)


def long_run(seconds: float) -> str:
    """What is asked before a run of hours."""
    return (
        f"This takes {duration(seconds)}. It keeps running when you close the page; you can stop it at any time and "
        "resume it later. Finished trainings are kept."
    )


def cost_note(left: Estimate) -> str:
    """What a run would train, for the line beside its button."""
    if not left.new_stages:
        return f"All {count(left.total_stages, 'stage')} are stored; nothing is left to train."
    reused = "; the rest is reused" if left.new_stages < left.total_stages else ""
    return f"Trains {left.new_stages} of {count(left.total_stages, 'stage')}{reused}."


def cost_details(left: Estimate, rules: Iterable[str] = ()) -> str:
    """What else is known of a run before it starts: its memory, how teachers are heard (takd.answers), and how sure
    the time is."""
    memory = f"It takes about {left.memory_mb:,.0f} MB of memory." if left.memory_mb else ""
    sure = "" if left.calibrated else "Not measured on this machine yet, so the time is a rough guess."
    return " ".join(part for part in (memory, *rules, sure) if part)


ORIGINS = {"live": "● live", "cached": "■ cached", "imported": "◆ imported"}
"""Where numbers come from: trained on this machine, with the program, in a bundle somebody brought."""


def provenance(origin: str | None, date: str | None = None, device: str | None = None, n: int | None = None) -> str:
    """The chip on every figure: `● live on H200`, `■ cached 2026-11-20 on H200`, `◆ imported 2026-11-20 on H200`,
    `◌ estimated, not run`; `live+cached` and the like are parts of both."""
    seeds = f" · n = {n}" if n is not None else ""
    if origin == "estimated":
        return "◌ estimated, not run"
    if origin == "live":
        return f"{ORIGINS[origin]}{f' on {device}' if device else ''}{seeds}"
    if origin in ("cached", "imported"):
        return f"{ORIGINS[origin]} {date or '(date not recorded)'} on {device or 'a device not recorded'}{seeds}"
    if origin and "+" in origin:
        return f"◐ {', '.join(f'part {word}' for word in origin.split('+'))}{seeds}"
    return f"○ not trained yet{seeds if n else ''}"


def alt_chain(boxes: pd.DataFrame, verdict: Verdict | None = None) -> str:
    """The chain strip in words (columns role, network, params, accuracy, half, state)."""
    if boxes.empty:
        return "Chain of networks: nothing chosen yet."
    steps = []
    for box in boxes.sort_values("position").to_dict("records"):
        done = box["state"] == "done" and known(box["accuracy"])
        result = accuracy(box["accuracy"], box["half"]) if done else _NOT_DONE.get(box["state"], "not trained yet")
        role = str(box.get("title") or ROLE_LABELS[box["role"]]).lower()
        steps.append(f"{role} {box['network']} ({size(box['params'])} parameters, {result})")
    tail = f" {verdict_sentence(verdict)}" if verdict is not None else ""
    if (boxes["role"] == "peer").any():
        return f"Networks that learn at the same time and teach each other: {listing(steps)}.{tail}"
    return f"Chain of networks: {' teaches '.join(steps)}.{tail}"


def alt_gap(gap: pd.DataFrame, verdict: GapVerdict | None = None, sentence: str = "") -> str:
    """The gap chart in words: every direct-KD mean, then `sentence` (words.gap_sentence)."""
    means = gap[gap["group"] == "kd"].sort_values("order") if len(gap) else gap
    if means.empty:
        return "Student accuracy by teacher size: nothing trained yet."
    listed = listing(f"{x} {percent(mean)}" for x, mean in zip(means["x"], means["mean"], strict=True))
    tail = sentence or (verdict_sentence(verdict.verdict) if verdict is not None else "")
    return f"Student accuracy after direct KD by teacher, small to large: {listed}. {tail}".strip()


def alt_assistants(summary: pd.DataFrame) -> str:
    """The assistants chart in words (columns arm, mean, low, high, n, kind)."""
    if summary.empty:
        return "Points over direct KD by assistant: nothing trained yet."
    rows = []
    for row in summary.to_dict("records"):
        gain = gain_and_interval(row["mean"], row["low"], row["high"], row["n"])
        rows.append(f"{row_label(str(row['arm']))} {row['kind']}, {gain}")
    return f"Points over direct KD by assistant: {'; '.join(rows)}."


NO_EPOCH, NOT_KEPT = "No epoch finished yet", "The epochs of these trainings are not stored, only their results"


def alt_curves(curves: pd.DataFrame, metric: str = "val_acc", nothing: str = NO_EPOCH) -> str:
    """The curves in words: the last value of each line; `nothing` says why there are none."""
    name = METRICS.get(metric, metric)
    if curves.empty:
        return f"Learning curves, {name}: {nothing[0].lower()}{nothing[1:]}."
    ends = []
    for line, group in curves.groupby("line", observed=True, sort=False):
        last = group[group["epoch"] == group["epoch"].max()]
        value, epochs = float(last[metric].mean()), count(int(last["epoch"].iloc[0]), "epoch")
        shown = percent(value) if metric.endswith("acc") else f"{value:.2f}" if known(value) else "not measured"
        ends.append(f"{line} {shown} after {epochs}")
    return f"Learning curves, {name}: {'; '.join(ends)}."


def gain_and_interval(mean: float | None, low: float | None, high: float | None, n: int) -> str:
    """`+0.9 (0.3 to 1.5), n = 5`."""
    if not n or not known(mean):
        return "nothing to compare yet"
    digits = digits_for((mean, low, high))
    if not (known(low) and known(high)):
        return f"{points(mean, digits)}, {'one run, no interval' if n == 1 else f'n = {n}, no interval'}"
    ends = f"{points(low, digits).removeprefix('+')} to {points(high, digits).removeprefix('+')}"
    return f"{points(mean, digits)} ({ends}), n = {n}"


_NOT_DONE = {"training": "training now", "waiting": "not trained yet"}
