"""What an accuracy costs: every arm that ends in one student, with the trainings it takes, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from takd.analysis.frames import Store, chain_frame, tidy
from takd.analysis.pool import Pool
from takd.analysis.statistics import MARGIN
from takd.analysis.verdicts import Verdict, compare
from takd.data.table import Dataset
from takd.plan import Arm, Plan, build_plan
from takd.spec import ExperimentSpec

_WORD, _EXACT, _COUNT, _FLAG = "category", "float64", "int16", "bool"
WORTH_COLUMNS = {
    "arm": "str", "method": _WORD, "teacher": _WORD, "assistants": _COUNT, "n": _COUNT, "mean": _EXACT, "low": _EXACT,
    "high": _EXACT, "seconds": _EXACT, "mac_epochs": _EXACT, "trainings": _COUNT, "front": _FLAG,
}  # fmt: skip


def pareto(cost: Sequence[float] | np.ndarray, value: Sequence[float] | np.ndarray) -> np.ndarray:
    """Which of n points (cost, value) are not beaten: no other costs at most as much and reaches at least as much, one
    of them strictly. Boolean (n,); points with a missing number are never on the front. Equal points share it."""
    x, y = np.asarray(cost, dtype=np.float64), np.asarray(value, dtype=np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    beaten = (
        (x[None, :] <= x[:, None])
        & (y[None, :] >= y[:, None])
        & ((x[None, :] < x[:, None]) | (y[None, :] > y[:, None]))
        & known[None, :]
    )
    return known & ~beaten.any(axis=1)


def longer_plan(spec: ExperimentSpec, dataset: Dataset) -> Plan | None:
    """The plan of the equal-cost control of a chain: direct KD from the same teacher whose student trains for as many
    more epochs as the assistants took. None for a question without assistants."""
    if not spec.assistants:
        return None
    asked = replace(spec, method="kd-long", options=(), scope="chain")
    return build_plan(asked, dataset, (Arm("kd-long", (spec.teacher, spec.student)),))


def worth_frame(
    pool: Pool,
    student: str,
    others: Sequence[pd.DataFrame] = (),
    cost: str = "seconds",
) -> pd.DataFrame:
    """One row per measured arm that ends in `student` (WORTH_COLUMNS), from the pool and from `others` (arm frames of
    other methods at the same settings).

    seconds, mac_epochs, trainings: of all distinct trainings of one seed, the teacher's included. front: on the Pareto
    front of the means over `cost` (a column name). Accuracies are fractions.
    """
    pooled = {arm.name: arm for arm in pool.plan.arms if arm.path[-1] == student}
    rows = {str(row["arm"]): row for row in pool.arms.to_dict("records") if str(row["arm"]) in pooled and row["n"]}
    for frame in others:
        rows |= {str(row["arm"]): row for row in frame.to_dict("records") if row["n"] and str(row["arm"]) not in rows}
    made = [
        {
            name: row[name]
            for name in ("arm", "method", "n", "mean", "low", "high", "seconds", "mac_epochs", "trainings")
        }
        | {"teacher": row["teacher"] if isinstance(row["teacher"], str) else None}
        | {"assistants": max(0, str(row["path"]).count(">") - 1), "front": False}
        for row in rows.values()
    ]
    table = tidy(made, WORTH_COLUMNS)
    table["front"] = pareto(table[cost].to_numpy(float), table["mean"].to_numpy(float))
    return table.sort_values([cost, "mean"], ignore_index=True, kind="stable")


def longer_chains(spec: ExperimentSpec, dataset: Dataset, store: Store) -> pd.DataFrame | None:
    """The chain frame of the equal-cost control (its arm_frame has n = 0 where it is not trained); None without
    assistants."""
    plan = longer_plan(spec, dataset)
    return None if plan is None else chain_frame(plan, store)


def against_longer(pool: Pool, spec: ExperimentSpec, longer: pd.DataFrame, margin: float = MARGIN) -> Verdict:
    """The chain of the question's assistants minus the equal-cost control, paired by seed."""
    both = pd.concat([frame.astype({"arm": str}) for frame in (pool.chains, longer)], ignore_index=True)
    return compare(both, Arm("takd", spec.path).name, str(longer["arm"].iloc[0]), margin)


def share_of_cost(row: pd.Series, against: pd.Series, cost: str = "seconds") -> float:
    """How many times as much an arm costs as another; NaN where either is not known."""
    one, other = float(row[cost]), float(against[cost])
    return one / other if math.isfinite(one) and math.isfinite(other) and other > 0 else math.nan
