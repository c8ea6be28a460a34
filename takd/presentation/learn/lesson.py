"""The lesson: eight steps, each with a guess and what the stored runs say. Facts and words; panels.py draws.

Nothing here is written in advance: every answer is worked out from the study, and may be that nobody can tell yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from takd.analysis.frames import path_label
from takd.analysis.statistics import t_interval
from takd.analysis.verdicts import LEAST_SEEDS, Verdict, judge, paired_differences
from takd.plan import Arm
from takd.presentation import words
from takd.presentation.phrases import row_label
from takd.presentation.study import Study

CANNOT = "nobody can tell yet"


@dataclass(frozen=True)
class Measured:
    """What the runs say about a step. `answer` is a number (a fraction, or times) or one of the step's options, or
    CANNOT. dots: one value per seed. sentence: the answer in words, with its interval and n. undecided: whether a
    number's verdict is still open."""

    answer: float | str
    sentence: str
    dots: tuple[float, ...] = ()
    low: float = math.nan
    high: float = math.nan
    undecided: bool = False


@dataclass(frozen=True)
class Step:
    """One step. kind says how the guess is given: percent, points, times (sliders) or choice; none has no guess.

    options: of a choice, value -> words; `choices` works them out from the study where they depend on it.
    """

    number: int
    name: str
    title: Callable[[Study], str]
    ask: Callable[[Study], str]
    kind: str
    measured: Callable[[Study], Measured | None]
    note: str
    options: dict[str, str] = field(default_factory=dict)


def chain_of(shown: Study) -> Arm | None:
    """The chain the lesson is about: the chosen one, or the first with assistants that was trained."""
    trained = set(shown.arms.loc[shown.arms["n"] > 0, "arm"].astype(str))
    chains = [arm for arm in (shown.chosen, *shown.plan.arms) if arm.method == "takd" and not arm.options]
    return next((arm for arm in chains if arm.name in trained), None)


def direct_of(shown: Study) -> Arm:
    return Arm("kd", (shown.spec.teacher, shown.spec.student))


def alone_of(shown: Study) -> Arm:
    return Arm("scratch", (shown.spec.student,))


def wrong_labels(shown: Study) -> str:
    """That labels of this question are wrong, in a sentence for every step; empty where none are."""
    if not shown.spec.noise > 0:
        return ""
    return (
        f"In this question {words.percent(shown.spec.noise, 0)} of the training labels were made wrong on purpose, for "
        "every network; the labels of validation and test images are right."
    )


def _wrong(shown: Study) -> str:
    return f", {words.percent(shown.spec.noise, 0)} of them wrong" if shown.spec.noise > 0 else ""


def _alone(shown: Study) -> Measured | None:
    values = _accuracies(shown, alone_of(shown))
    if not len(values):
        return None
    interval = t_interval(values)
    text = f"{shown.spec.student} alone reaches {words.accuracy(interval.mean, interval.half)} on test images"
    return Measured(interval.mean, f"{text}, n = {interval.n}.", tuple(values), interval.low, interval.high)


def _distilled(shown: Study) -> Measured | None:
    return _as_direction(_compared(shown, direct_of(shown), alone_of(shown)), shown, direct_of(shown), alone_of(shown))


def _larger(shown: Study) -> Measured | None:
    found = shown.gap_verdict
    if not found.verdict.n:
        return None
    said = {"gap": "down", "no gap": "up", "flat": "same"}.get(found.kind, CANNOT)
    interval = found.verdict.interval
    return Measured(said, words.gap_sentence(found), (), interval.low, interval.high)


def _assistant(shown: Study) -> Measured | None:
    chain = chain_of(shown)
    verdict = None if chain is None else _compared(shown, chain, direct_of(shown))
    if chain is None or verdict is None:
        return None
    dots = tuple(paired_differences(shown.chains, chain.name, direct_of(shown).name))
    interval = verdict.interval
    undecided = words.kind_of(verdict) == words.CANNOT_TELL
    return Measured(interval.mean, words.verdict_sentence(verdict), dots, interval.low, interval.high, undecided)


def _why(shown: Study) -> Measured | None:
    chain = chain_of(shown)
    if chain is None:
        return None
    teacher, assistant = (entropies(shown, chain.path[: place + 1]) for place in (0, len(chain.path) - 2))
    seeds = teacher.index.intersection(assistant.index)
    if not len(seeds):
        return None
    verdict = judge((assistant[seeds] - teacher[seeds]).to_numpy(), margin=0.0)
    said = CANNOT
    if verdict.kind != "cannot tell yet":
        said = "teacher" if verdict.interval.mean > 0 else "assistant"
    interval = verdict.interval
    text = (
        f"Mean entropy of the answers on test images: teacher {chain.path[0]} {teacher[seeds].mean():.3f} nats, "
        f"assistant {chain.path[-2]} {assistant[seeds].mean():.3f} nats; the difference is {interval.mean:+.3f}"
        + (f" (95 % CI {interval.low:+.3f} to {interval.high:+.3f})" if interval.n > 1 else "")
        + f", n = {interval.n}. Less entropy is more certainty."
    )
    return Measured(said, text)


def _cost(shown: Study) -> Measured | None:
    chain = chain_of(shown)
    rows = shown.arms.set_index(shown.arms["arm"].astype(str))
    direct = direct_of(shown).name
    if chain is None or not {chain.name, direct} <= set(rows.index):
        return None
    one, other = float(rows.loc[chain.name, "seconds"]), float(rows.loc[direct, "seconds"])
    if not (math.isfinite(one) and math.isfinite(other) and other > 0):
        return None
    trained = (int(rows.loc[direct, "trainings"]), int(rows.loc[chain.name, "trainings"]))
    text = (
        f"Direct KD trains {trained[0]} networks a seed in {words.duration(other)}, the chain {trained[1]} in "
        f"{words.duration(one)}, on the machine that trained them: {one / other:.2f} times as long."
    )
    return Measured(one / other, text)


def entropies(shown: Study, path: tuple[str, ...]) -> pd.Series:
    """Mean test entropy by seed of the network at the end of a path, as it was taught along it."""
    stages = shown.usual_stages
    alone = len(path) == 1
    rows = stages[
        (stages["network"] == path[-1])
        & (stages["path"] == path_label(path))
        & (stages["method"] == ("scratch" if alone else "kd" if len(path) == 2 else "takd"))
        & stages["done"]
    ]
    rows = rows.drop_duplicates("seed")
    return pd.Series(rows["entropy"].to_numpy(), index=rows["seed"].to_numpy()).dropna()


def hop_frame(shown: Study) -> pd.DataFrame:
    """One row per network of the lesson's chain and of direct KD, and seed: path, network, role, seed, entropy,
    agreement (with its direct teacher; NaN for the first)."""
    chain = chain_of(shown)
    paths = [] if chain is None else [chain.path[: place + 1] for place in range(len(chain.path))]
    paths.append(direct_of(shown).path)
    stages, rows = shown.usual_stages, []
    for path in paths:
        method = "scratch" if len(path) == 1 else "kd" if len(path) == 2 else "takd"
        found = stages[(stages["path"] == path_label(path)) & (stages["method"] == method) & stages["done"]]
        for row in found.drop_duplicates("seed").to_dict("records"):
            role = "teacher" if len(path) == 1 else "student" if path[-1] == shown.spec.student else "assistant"
            taught = f" from {path[-2]}" if len(path) > 1 else ""
            rows.append(
                {"label": f"{path[-1]}{taught}", "role": role, "method": method, "seed": row["seed"]}
                | {"entropy": row["entropy"], "agreement": row["agreement"]}
            )
    return pd.DataFrame(rows, columns=["label", "role", "method", "seed", "entropy", "agreement"])


def holm_in_words(shown: Study, arms: Iterable[str]) -> str:
    """What Holm's correction makes of the p of each chain: `is 0.38 via 8 and 1 via 6`, `is 1 for each of them`. The
    page has no table of it."""
    direct = direct_of(shown).name
    found = {v.arm: v.p_holm for v in shown.verdicts if v.against == direct and v.p_holm is not None}
    p = {arm: "< 0.001" if found[arm] < 0.001 else f"{found[arm]:.2g}" for arm in arms if arm in found}
    if not p:
        return f"needs at least {words.count(LEAST_SEEDS, 'seed')}"
    if len(p) > 1 and len(set(p.values())) == 1:
        return f"is {next(iter(p.values()))} for each of them"
    return f"is {words.listing(f'{value} {row_label(arm)}' for arm, value in p.items())}"


def _compared(shown: Study, arm: Arm, against: Arm) -> Verdict | None:
    differences = paired_differences(shown.chains, arm.name, against.name)
    return judge(differences, arm=arm.name, against=against.name) if len(differences) else None


def _as_direction(verdict: Verdict | None, shown: Study, arm: Arm, against: Arm) -> Measured | None:
    if verdict is None:
        return None
    said = {
        "helps": "up",
        "slightly helps": "up",
        "hurts": "down",
        "slightly hurts": "down",
        "no real difference": "same",
    }.get(verdict.kind, CANNOT)
    dots = tuple(paired_differences(shown.chains, arm.name, against.name))
    return Measured(said, words.verdict_sentence(verdict), dots, verdict.interval.low, verdict.interval.high)


def _accuracies(shown: Study, arm: Arm) -> np.ndarray:
    rows = shown.chains[(shown.chains["arm"] == arm.name) & shown.chains["done"]]
    return rows["test_acc"].dropna().to_numpy(dtype=np.float64)


def in_words(step: Step, value: Any, options: dict[str, str]) -> str:
    """A guess or an answer as people read it."""
    if isinstance(value, str):
        return options.get(value, value)
    if step.kind == "percent":
        return words.percent(float(value))
    if step.kind == "points":
        return f"{words.points(float(value), 1)} points"
    return f"{float(value):.1f} times as long"


def how_close(step: Step, guess: Any, measured: Measured) -> str:
    """What a guess was worth, in a few words; kind where it was wrong."""
    if measured.answer == CANNOT:
        return "Nobody can tell yet, so no guess is wrong. More seeds would settle it."
    if isinstance(measured.answer, str):
        return "That is what was measured." if guess == measured.answer else "The measurement says otherwise. Why?"
    apart = abs(float(guess) - measured.answer)
    if measured.low <= float(guess) <= measured.high:
        return "Inside the interval: nobody could have guessed better."
    if step.kind == "times":
        return f"You were off by {apart:.1f} times."
    return f"You were off by {100 * apart:.1f} points."


_DIRECTIONS = {"up": "better", "down": "worse", "same": "about the same"}


def _via(shown: Study) -> str:
    chain = chain_of(shown)
    return words.listing(chain.path[1:-1]) if chain is not None else "an assistant"


def _last(shown: Study) -> str:
    chain = chain_of(shown)
    return chain.path[-2] if chain is not None else ""


STEPS: tuple[Step, ...] = (
    Step(
        1,
        "Alone",
        lambda s: "A small network learns alone",
        lambda s: (
            f"{s.spec.student} is small enough for a phone. What share of test images does it get right when it "
            f"learns from the training labels of {s.dataset.label} alone{_wrong(s)}?"
        ),
        "percent",
        _alone,
        "Guessing first makes the number stick. Point at the dots: each is another random start, so a single run is "
        "not the truth about a network.",
    ),
    Step(
        2,
        "Teacher",
        lambda s: "A teacher says more than the label",
        lambda s: "",
        "choice",
        lambda s: None,
        "A label says which class. A teacher's answer also says what else a picture resembles; Hinton, Vinyals and "
        "Dean (2015) call this dark knowledge. The temperature T makes the small shares visible.",
    ),
    Step(
        3,
        "Distil",
        lambda s: "The student listens to the teacher",
        lambda s: (
            f"{s.spec.student} now learns from the same labels{_wrong(s) and f'{_wrong(s)},'} and from the answers of "
            f"{s.spec.teacher}. Will it be better than alone?"
        ),
        "choice",
        _distilled,
        "The loss is (1 - lam) CE + lam T² KL. T² keeps the teacher's part as strong as the labels' when T grows. Ask "
        "why the same start and batch order are used for both students.",
        _DIRECTIONS,
    ),
    Step(
        4,
        "Gap",
        lambda s: "A bigger teacher",
        lambda s: (
            f"A bigger network is a better network. Is {s.spec.student} better or worse with the biggest teacher "
            "than with the best of the smaller ones?"
        ),
        "choice",
        _larger,
        "Mirzadeh et al. (AAAI 2020) call it the capacity gap. Look at both panels: the upper line rises; does the "
        "lower one follow? The interval allows for the best smaller teacher having been picked.",
        {"up": "better with the biggest", "down": "worse with the biggest", "same": "about the same"},
    ),
    Step(
        5,
        "Assistant",
        lambda s: "A teacher assistant in between",
        lambda s: (
            f"The teacher teaches {_via(s)}, which then teaches {s.spec.student}. How many points does that win or "
            "lose against being taught directly?"
        ),
        "points",
        _assistant,
        "The published gains are single numbers. Here every dot is a whole chain trained anew, and the grey zone is "
        "too small to matter. An honest answer may be: cannot tell yet.",
    ),
    Step(
        6,
        "Why",
        lambda s: "Why could an assistant help?",
        lambda s: (
            f"Who is more certain of its answers: the teacher {s.spec.teacher} or the assistant {_last(s)}, which "
            "teaches the student?"
        ),
        "choice",
        _why,
        "Mirzadeh et al. name three things that change when a teacher grows: it is right more often, it is harder to "
        "imitate, and it is more certain, so that its answers say less beyond the label. Entropy measures the last, "
        "agreement the second.",
        {"teacher": "the teacher", "assistant": "the assistant"},
    ),
    Step(
        7,
        "Cost",
        lambda s: "What does it cost?",
        lambda s: (
            "The assistant has to be trained too. How many times as long does the chain take as direct KD, with the "
            "teacher's own training counted in both?"
        ),
        "times",
        _cost,
        "A fair rival is direct KD that trains longer, in the assistant's time (method: Whole-budget KD). The "
        "Assistants page shows accuracy against seconds.",
    ),
    Step(
        8,
        "Your turn",
        lambda s: "Your turn",
        lambda s: "",
        "none",
        lambda s: None,
        "Good tasks: find a student for which the gap disappears; find out how many seeds the verdict needs; make the "
        "labels noisier and guess first.",
    ),
)
