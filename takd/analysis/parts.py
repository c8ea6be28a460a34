"""(Plan, store) -> what every sub-model of one network reaches: for studies of methods that train them together."""

from __future__ import annotations

import math

import pandas as pd

from takd.analysis.frames import Store, origin_of_all, part_of, tidy
from takd.analysis.statistics import MARGIN, t_interval
from takd.analysis.verdicts import Verdict, compare
from takd.networks.table import NETWORKS, SubModel, sub_models
from takd.plan import Arm, Plan

PART_COLUMNS = {
    "arm": "category", "method": "category", "chosen": "bool", "part": "int16", "label": "category",
    "params": "int64", "macs": "int64", "seed": "int64", "done": "bool", "test_acc": "float64", "val_acc": "float64",
    "origin": "category",
}  # fmt: skip
PART_MEAN_COLUMNS = {
    "arm": "category", "method": "category", "chosen": "bool", "part": "int16", "label": "category",
    "params": "int64", "macs": "int64", "n": "int16", "mean": "float64", "half": "float64", "low": "float64",
    "high": "float64", "origin": "category",
}  # fmt: skip
_SAME = ["arm", "method", "chosen", "part", "label", "params", "macs"]


def part_frame(plan: Plan, store: Store) -> pd.DataFrame:
    """One row per arm, sub-model and seed (PART_COLUMNS), in the plan's order and smallest first; none for a plan
    whose student holds no sub-models.

    part: 1 for the smallest, as in `name@1`. A sub-model trained alone is an arm with that one part. params and macs:
    when the sub-model is deployed alone, for one image. Accuracies are NaN and origin missing until done.
    """
    rows = []
    for chain in plan.chains:
        result = store.result(chain.student)
        origin = store.origin(chain.student) if result is not None else None
        for index, sub in _parts_of(chain.arm, plan.stages[chain.student].data.classes):
            numbers = part_of(result or {}, index)
            test, val = (numbers.get(name) for name in ("test_acc", "val_acc"))
            rows.append(
                {
                    "arm": chain.arm.name,
                    "method": chain.arm.method,
                    "chosen": chain.arm == plan.chosen,
                    "part": int(sub.name.rpartition("@")[2]),
                    "label": sub.label,
                    "params": sub.params,
                    "macs": sub.macs,
                    "seed": chain.seed,
                    "done": result is not None,
                    "test_acc": float(test) if isinstance(test, (int, float)) else math.nan,
                    "val_acc": float(val) if isinstance(val, (int, float)) else math.nan,
                    "origin": origin,
                }
            )
    return tidy(rows, PART_COLUMNS)


def _parts_of(arm: Arm, classes: int) -> list[tuple[int | None, SubModel]]:
    """(place in a result's parts, sub-model) of an arm's network; the place is None where the result is its own."""
    network = arm.path[-1]
    if number := NETWORKS[network].part:
        return [(None, sub_models(network.partition("@")[0], classes)[number - 1])]
    return list(enumerate(sub_models(network, classes)))


def part_means(parts: pd.DataFrame) -> pd.DataFrame:
    """One row per arm and sub-model of a part frame (PART_MEAN_COLUMNS): mean test accuracy and its 95 % t interval
    over the n seeds that have finished (NaN as in statistics.Interval)."""
    rows = []
    for values, group in parts.groupby(_SAME, sort=False, observed=True):
        done = group[group["test_acc"].notna()]
        interval = t_interval(done["test_acc"].to_numpy())
        row = dict(zip(_SAME, values, strict=True))
        row |= {"n": interval.n, "mean": interval.mean, "half": interval.half}
        row |= {"low": interval.low, "high": interval.high}
        row["origin"] = origin_of_all(done["origin"])
        rows.append(row)
    return tidy(rows, PART_MEAN_COLUMNS)


def compare_part(parts: pd.DataFrame, part: int, arm: str, against: str, margin: float = MARGIN) -> Verdict:
    """The verdict on `arm` minus `against` (arm names) at one sub-model, paired by seed."""
    return compare(parts[parts["part"] == part], arm, against, margin)
