"""The capacity gap as numbers: a student's measures by teacher and by way of being taught, the peak and what stands
beside it, with estimates where nobody has trained. Pure reading; accuracies and gains are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from takd.analysis.frames import Store, origin_of_all, tidy
from takd.analysis.pool import Pool
from takd.analysis.statistics import MARGIN, t_interval
from takd.analysis.verdicts import LEAST_SEEDS, Verdict, compare, is_direct_kd
from takd.analysis.whatif import Guess
from takd.networks.table import capacity
from takd.plan import Arm, Plan
from takd.spec import size_order
from takd.stage import StageSpec

Measure = Literal["accuracy", "gain", "agreement", "calibration"]

_WORD, _EXACT = "category", "float64"
VALUE_COLUMNS = {"arm": _WORD, "seed": "int64", "value": _EXACT}
TEACHER_COLUMNS = {
    "teacher": _WORD, "params": "int64", "macs": "int64", "ratio": _EXACT, "mean": _EXACT, "low": _EXACT,
    "high": _EXACT, "n": "int16",
}  # fmt: skip
LINE_COLUMNS = {
    "arm": _WORD, "method": _WORD, "line": "str", "teacher": _WORD, "student": _WORD, "n": "int16", "mean": _EXACT,
    "low": _EXACT, "high": _EXACT, "state": _WORD, "origin": _WORD,
}  # fmt: skip
MEASURED, GUESSED, UNKNOWN = "measured", "estimated", "not run"


def seed_values(stages: Mapping[str, StageSpec], chains: pd.DataFrame, store: Store, measure: Measure) -> pd.DataFrame:
    """One row per finished student (VALUE_COLUMNS) in which the measure is known. `stages`: those of the chains, by
    key.

    accuracy: test accuracy. gain: minus that of the same network trained alone at the same seed, which starts from the
    same weights. agreement: share of test images with the same answer as its direct teacher. calibration: expected
    calibration error (Guo et al. 2017, arXiv 1706.04599), lower is better.
    """
    done = chains[chains["done"].astype(bool)]
    alone = {
        (str(row.student), int(row.seed)): float(row.test_acc) for row in done[done["method"] == "scratch"].itertuples()
    }
    rows = []
    for row in done.itertuples():
        value = math.nan
        if measure == "accuracy":
            value = float(row.test_acc)
        elif measure == "gain":
            before = alone.get((str(row.student), int(row.seed)), math.nan)
            value = math.nan if row.method == "scratch" else float(row.test_acc) - before
        else:
            value = _of_result(stages, store.result(str(row.student_key)) or {}, str(row.student_key), measure)
        if math.isfinite(value):
            rows.append({"arm": str(row.arm), "seed": int(row.seed), "value": value})
    return tidy(rows, VALUE_COLUMNS)


def _of_result(stages: Mapping[str, StageSpec], result: Mapping[str, Any], key: str, measure: Measure) -> float:
    stage = stages.get(key)
    teachers = stage.teachers if stage is not None else ()
    value = result.get("ece")
    if measure == "agreement":
        value = (result.get("agreement") or {}).get(teachers[-1]) if teachers else None
    return float(value) if isinstance(value, (int, float)) else math.nan


def teacher_frame(pool: Pool, student: str, teacher: str) -> pd.DataFrame:
    """One row per network of the ladder that is larger than the student and not larger than the teacher, small to large
    (TEACHER_COLUMNS). ratio: its MACs over the student's; mean, low, high, n: its own test accuracy after training
    alone, 95 % t interval."""
    rows = []
    classes = classes_of(pool.plan)
    for name in pool.sizes:
        if size_order(student) < size_order(name) <= size_order(teacher):
            size, found = capacity(name, classes), pool.row(Arm("scratch", (name,)))
            row: dict[str, Any] = {"teacher": name, "params": size.params, "macs": size.macs}
            row["ratio"] = size.macs / capacity(student, classes).macs
            row |= {c: math.nan if found is None else float(found[c]) for c in ("mean", "low", "high")}
            rows.append(row | {"n": 0 if found is None else int(found["n"])})
    return tidy(rows, TEACHER_COLUMNS)


def line_frame(
    arms: Mapping[str, Arm], chains: pd.DataFrame, values: pd.DataFrame, guesses: Mapping[str, Guess], measure: Measure
) -> pd.DataFrame:
    """One row per arm (LINE_COLUMNS), in the order given; one that was trained without this measure has none.

    line: arms of one line share it; `kd`, `via 64,16` for chains through the same assistants, the method with its
    options for others, `scratch`. mean, low, high: of the measure over its n seeds, 95 % t interval (NaN for one seed);
    an estimate's mean and its interval where `state` says estimated; NaN where it says not run. Estimates exist for
    accuracy and, as a difference to the student alone where that is measured, for the gain.
    """
    by_arm = {str(name): rows for name, rows in values.groupby("arm", observed=True)}
    origins = {str(name): rows for name, rows in chains[chains["done"].astype(bool)].groupby("arm", observed=True)}
    scratch = chains[chains["done"].astype(bool) & (chains["method"] == "scratch")]
    alone = scratch.groupby(scratch["student"].astype(str))["test_acc"].mean().to_dict() if measure == "gain" else {}
    rows = []
    for name, arm in arms.items():
        row: dict[str, Any] = {"arm": name, "method": arm.method, "line": line_of(arm), "student": arm.path[-1]}
        row |= {"teacher": arm.path[0] if len(arm.path) > 1 else None, "n": 0, "state": UNKNOWN, "origin": None}
        row |= dict.fromkeys(("mean", "low", "high"), math.nan)
        if (found := by_arm.get(name)) is not None:
            interval = t_interval(found["value"].to_numpy())
            row |= {"n": interval.n, "mean": interval.mean, "low": interval.low, "high": interval.high}
            row |= {"state": MEASURED, "origin": origin_of_all(origins[name]["origin"])}
        elif name in origins:  # trained, and this was not measured of it
            continue
        elif (guess := guesses.get(name)) is not None:
            base = alone.get(arm.path[-1], math.nan) if measure == "gain" else 0.0
            possible = measure == "accuracy" or (measure == "gain" and arm.method != "scratch")
            if possible and math.isfinite(base):
                row |= {"mean": guess.mean - base, "low": guess.low - base, "high": guess.high - base, "state": GUESSED}
        rows.append(row)
    return tidy(rows, LINE_COLUMNS)


def line_of(arm: Arm) -> str:
    """The line an arm stands on, see line_frame."""
    if arm.usual:
        return f"via {','.join(arm.path[1:-1])}" if arm.method == "takd" else arm.method
    return arm.how


def classes_of(plan: Plan) -> int:
    """Classes of the plan's data set."""
    return next(iter(plan.stages.values())).data.classes


@dataclass(frozen=True)
class Peak:
    """The teacher whose students score best.

    Chosen by mean VALIDATION accuracy among direct-KD arms, at the seeds at which all finished ones are there.
    mean, low, high: its students' test accuracy over these n seeds (95 % t interval). neighbours: the verdicts on the
    peak minus the next smaller and the next larger finished teacher, paired by seed, with intervals widened for the
    choice as in `judge_gap`. largest: whether it is the largest finished one. teachers: how many were compared.
    """

    arm: str
    teacher: str
    largest: bool
    smallest: bool
    n: int
    mean: float
    low: float
    high: float
    neighbours: tuple[Verdict, ...]
    teachers: int

    @property
    def inseparable(self) -> tuple[str, ...]:
        """Arms beside the peak that it cannot be told apart from: the interval of the paired differences holds zero, or
        there are fewer than three seeds."""
        return tuple(
            v.against for v in self.neighbours if v.n < LEAST_SEEDS or not (v.interval.low > 0 or v.interval.high < 0)
        )


def peak_of(chains: pd.DataFrame, margin: float = MARGIN) -> Peak | None:
    """The peak among the direct-KD arms of one student; None where fewer than two have a seed in common."""
    done = chains[is_direct_kd(chains) & chains["done"].astype(bool)]
    teachers = {str(arm): str(teacher) for arm, teacher in zip(done["arm"], done["teacher"], strict=True)}
    arms = sorted(teachers, key=lambda arm: size_order(teachers[arm]))
    if len(arms) < 2:
        return None
    test, val = (
        done.assign(arm=done["arm"].astype(str)).pivot(index="seed", columns="arm", values=value)[arms].dropna()
        for value in ("test_acc", "val_acc")
    )
    seeds = test.index.intersection(val.index)
    if seeds.empty:
        return None
    test, val = test.loc[seeds], val.loc[seeds]
    place = int(np.argmax(val.mean().to_numpy()))
    common = done[done["seed"].isin(seeds)]
    beside = [arms[at] for at in (place - 1, place + 1) if 0 <= at < len(arms)]
    interval = t_interval(test[arms[place]].to_numpy())
    confidence = 1 - min(0.05, 0.1 / (len(arms) - 1))
    return Peak(
        arms[place],
        teachers[arms[place]],
        place == len(arms) - 1,
        place == 0,
        interval.n,
        interval.mean,
        interval.low,
        interval.high,
        tuple(compare(common, arms[place], other, margin, confidence) for other in beside),
        len(arms),
    )
