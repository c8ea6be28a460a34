"""What chains win over direct KD from the same teacher, read from a pool: one winner, one map, one line by length.

Gains are paired by seed and fractions; every verdict is takd.analysis.verdicts.judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import pandas as pd

from takd.analysis.frames import tidy
from takd.analysis.pool import Pool
from takd.analysis.statistics import MARGIN
from takd.analysis.verdicts import LEAST_SEEDS, Verdict, compare, judge, paired_differences
from takd.plan import Arm
from takd.spec import size_order

T = TypeVar("T")
_KEPT = 32  # answers with a pool: teachers, students and margins that people try
_WORD, _EXACT, _COUNT, _FLAG = "category", "float64", "int16", "bool"
MAP_COLUMNS = {
    "teacher": _WORD, "assistant": _WORD, "arm": "str", "state": _WORD, "gain": _EXACT, "low": _EXACT,
    "high": _EXACT, "n": _COUNT, "kind": _WORD, "certain": _FLAG, "accuracy": _EXACT, "seconds": _EXACT,
}  # fmt: skip
LENGTH_COLUMNS = {
    "assistants": _COUNT, "arm": "str", "path": _WORD, "mean": _EXACT, "low": _EXACT, "high": _EXACT, "n": _COUNT,
    "val_mean": _EXACT, "seconds": _EXACT, "trainings": _COUNT, "best": _FLAG,
}  # fmt: skip


def direct_name(teacher: str, student: str) -> str:
    """The name of the arm that every chain between the two is held against."""
    return Arm("kd", (teacher, student)).name


@dataclass(frozen=True)
class Winner:
    """The arm with the best validation accuracy among `tried`, and the verdict on its test accuracy minus direct KD's.

    The verdict's interval is widened for the choice, see `winner`. name is None where nothing can be compared."""

    name: str | None
    verdict: Verdict
    tried: int


def winner(chains: pd.DataFrame, names: Iterable[str], against: str, margin: float = MARGIN) -> Winner:
    """Select on validation, report on test: of the arms `names`, the one whose students lie highest above `against` on
    validation images (paired by seed), judged on test images.

    Arms with fewer than three seeds stand for election only where no arm has three. Choosing on validation does not
    undo best-of-k, because who is lucky on validation images is also lucky on test images; so the interval is taken
    at confidence 1 - min(0.05, 0.1 / k) for k arms, as takd.analysis.verdicts.judge_gap does.
    """
    found = {name: paired_differences(chains, name, against, "val_acc") for name in dict.fromkeys(names)}
    found = {name: gains for name, gains in found.items() if len(gains)}
    full = {name: gains for name, gains in found.items() if len(gains) >= LEAST_SEEDS}
    found = full or found
    if not found:
        return Winner(None, judge([], margin), 0)
    best = max(found, key=lambda name: float(found[name].mean()))
    confidence = 1 - min(0.05, 0.1 / len(found))
    return Winner(best, compare(chains, best, against, margin, confidence), len(found))


def chains_between(pool: Pool, teacher: str, student: str) -> tuple[Arm, ...]:
    """Direct KD and every chain of the pool from a teacher to a student, short ones first."""
    found = [arm for arm in pool.plan.arms if len(arm.path) > 1 and (arm.path[0], arm.path[-1]) == (teacher, student)]
    return tuple(sorted(found, key=lambda arm: len(arm.path)))


def measured(pool: Pool, arms: Iterable[Arm]) -> tuple[Arm, ...]:
    """Those with a finished seed."""
    names = set(pool.arms.loc[pool.arms["n"] > 0, "arm"].astype(str))
    return tuple(arm for arm in arms if arm.name in names)


def certain(verdict: Verdict) -> bool:
    """Whether the interval of a gain lies on one side of 0; never with fewer than three seeds."""
    return verdict.n >= LEAST_SEEDS and (verdict.interval.low > 0 or verdict.interval.high < 0)


def kept(pool: Pool, name: tuple[object, ...], make: Callable[[], T]) -> T:
    """What follows from a pool, worked out once and kept with it: many visitors look at the same one, and a pool never
    changes."""
    memory: dict[tuple[object, ...], T] = vars(pool).setdefault("kept", {})
    if name not in memory:
        for oldest in list(memory)[: len(memory) - _KEPT + 1]:
            memory.pop(oldest, None)
        memory[name] = make()
    return memory[name]


def gain_map(pool: Pool, student: str, margin: float = MARGIN) -> pd.DataFrame:
    """One row per teacher and single assistant above `student` (MAP_COLUMNS), teachers and assistants large to small.

    gain: the chain's test accuracy minus direct KD's from the same teacher. state: `measured`, `no control` (the chain
    is trained and direct KD is not) or `not run`. accuracy: the chain's student. seconds: of one seed of the chain.
    """
    above = [name for name in reversed(pool.sizes) if size_order(name) > size_order(student)]
    rows = []
    for teacher in above[:-1]:
        for assistant in (name for name in above if size_order(name) < size_order(teacher)):
            arm = Arm("takd", (teacher, assistant, student))
            row, verdict = pool.row(arm), judge([], margin)
            if row is not None:
                verdict = compare(pool.chains, arm.name, direct_name(teacher, student), margin)
            state = "measured" if verdict.n else "no control" if row is not None else "not run"
            interval = verdict.interval
            rows.append(
                {"teacher": teacher, "assistant": assistant, "arm": arm.name, "state": state}
                | {"gain": interval.mean, "low": interval.low, "high": interval.high, "n": verdict.n}
                | {"kind": verdict.kind, "certain": certain(verdict)}
                | {"accuracy": None if row is None else row["mean"], "seconds": None if row is None else row["seconds"]}
            )
    return tidy(rows, MAP_COLUMNS)


def by_length(pool: Pool, teacher: str, student: str) -> pd.DataFrame:
    """One row per measured path from teacher to student (LENGTH_COLUMNS), short ones first.

    best marks, for each number of assistants, the path with the best mean validation accuracy: the mean over all paths
    of one length would mix good and bad choices. seconds: of all trainings of one seed. Accuracies are fractions.
    """
    rows = []
    for arm in measured(pool, chains_between(pool, teacher, student)):
        row = pool.row(arm)
        assert row is not None
        rows.append(
            {"assistants": len(arm.path) - 2, "arm": arm.name, "path": " > ".join(arm.path), "best": False}
            | {name: row[name] for name in ("mean", "low", "high", "n", "val_mean", "seconds", "trainings")}
        )
    frame = tidy(rows, LENGTH_COLUMNS)
    for _, group in frame.groupby("assistants"):
        if group["val_mean"].notna().any():
            frame.loc[group["val_mean"].idxmax(), "best"] = True
    return frame


def longer_against_shorter(pool: Pool, lengths: pd.DataFrame, margin: float = MARGIN) -> tuple[Verdict, ...]:
    """Each number of assistants against the one before: the verdict on the best paths' test accuracy, both chosen on
    validation. Intervals as `winner` widens them, for all paths the two were chosen from."""
    best = lengths[lengths["best"]].sort_values("assistants")
    verdicts = []
    for (_, before), (_, after) in zip(best.iloc[:-1].iterrows(), best.iloc[1:].iterrows(), strict=True):
        both = lengths["assistants"].isin([before["assistants"], after["assistants"]])
        choices = max(1, int(both.sum()) - 1)
        confidence = 1 - min(0.05, 0.1 / choices)
        verdict = compare(pool.chains, str(after["arm"]), str(before["arm"]), margin, confidence)
        verdicts.append(replace(verdict, arm=str(after["arm"]), against=str(before["arm"])))
    return tuple(verdicts)
