"""(Plan, store) -> tidy tables: one row per stage, chain, arm or mark. Pure reading; absent numbers are NaN.

Every function works on an empty store, a half-finished plan and missing seeds, and always returns all its columns
with the same dtypes. Accuracies are fractions and stay float64, because statistics are computed from them. Words are
categories, which travel to the browser once each.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd

from takd.analysis.statistics import t_interval
from takd.costs import looking_macs, step_macs
from takd.networks.table import NETWORKS, capacity
from takd.plan import Arm, Chain, Plan
from takd.runs.layout import environment_of
from takd.spec import size_order
from takd.stage import StageSpec


class Store(Protocol):
    """What this room needs of takd.runs.store."""

    def result(self, key: str) -> dict[str, Any] | None: ...

    def read_events(self, key: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]: ...

    def events_id(self, key: str) -> tuple[object, object]: ...

    def origin(self, key: str) -> str | None: ...

    def progress(self, key: str) -> dict[str, Any] | None: ...


_WORD, _NUMBER, _EXACT, _COUNT, _SEED, _FLAG = "category", "float32", "float64", "int16", "int64", "bool"

STAGE_COLUMNS = {
    "key": "str", "network": _WORD, "family": _WORD, "size": _COUNT, "params": "int64", "macs": "int64",
    "role": _WORD, "method": _WORD, "path": _WORD, "seed": _SEED, "done": _FLAG,
    "test_acc": _EXACT, "val_acc": _EXACT, "train_acc": _EXACT, "entropy": _EXACT, "ece": _EXACT,
    "agreement": _EXACT, "kl": _EXACT, "seconds": _EXACT, "origin": _WORD, "epochs": _COUNT,
    "images_per_second": _NUMBER, "device": _WORD,
}  # fmt: skip
CHAIN_COLUMNS = {
    "arm": _WORD, "method": _WORD, "path": _WORD, "teacher": _WORD, "student": _WORD, "seed": _SEED, "done": _FLAG,
    "test_acc": _EXACT, "val_acc": _EXACT, "teacher_test_acc": _EXACT, "seconds": _EXACT, "trainings": _COUNT,
    "mac_epochs": _EXACT, "origin": _WORD, "student_key": "str",
}  # fmt: skip
ARM_COLUMNS = {
    "arm": _WORD, "method": _WORD, "path": _WORD, "teacher": _WORD, "n": _COUNT, "mean": _EXACT, "half": _EXACT,
    "low": _EXACT, "high": _EXACT, "val_mean": _EXACT, "teacher_mean": _EXACT, "seconds": _EXACT,
    "trainings": _COUNT, "mac_epochs": _EXACT, "origin": _WORD,
}  # fmt: skip
GAP_COLUMNS = {
    "panel": _WORD, "x": _WORD, "order": _COUNT, "params": "int64", "macs": "int64", "group": _WORD, "arm": _WORD,
    "chosen": _FLAG, "mean": _EXACT, "low": _EXACT, "high": _EXACT, "n": _COUNT,
}  # fmt: skip
GAP_SEED_COLUMNS = {
    "panel": _WORD, "x": _WORD, "order": _COUNT, "group": _WORD, "arm": _WORD, "seed": _SEED, "value": _EXACT,
}  # fmt: skip
PROGRESS_COLUMNS = {
    "key": "str", "network": _WORD, "role": _WORD, "method": _WORD, "path": _WORD, "seed": _SEED, "state": _WORD,
    "epoch": _COUNT, "epochs": _COUNT, "share": _NUMBER, "origin": _WORD,
}  # fmt: skip


def tidy(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """A frame with exactly `columns` (name -> dtype), whatever the number of rows."""
    return pd.DataFrame(list(rows), columns=list(columns)).astype(dict(columns))


def path_label(path: tuple[str, ...]) -> str:
    """`10>4>2`: a path as arm names write it."""
    return Arm("", path).name.strip()


def roles(plan: Plan) -> dict[str, str]:
    """Each stage's most specific use: `teacher` teaches and is taught by nobody, `assistant` teaches and is taught,
    `student` teaches nobody (taught or alone)."""
    teaching = {teacher for stage in plan.stages.values() for teacher in stage.teachers}
    return {
        key: ("assistant" if stage.teachers else "teacher") if key in teaching else "student"
        for key, stage in plan.stages.items()
    }


def _lineages(plan: Plan) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Per stage: how it was trained and along which path. An assistant taught by the teacher is a plain `kd`."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for chain in plan.chains:
        first = len(chain.arm.path) - len(chain.keys)  # networks trained in the student's own stage have no key
        for key in chain.beside:
            network, loss = plan.stages[key].network, plan.stages[key].loss
            found.setdefault(key, ("scratch" if loss.name == "ce" else loss.name, (network,)))
        for i, key in enumerate(chain.keys, first):
            path = chain.arm.path[: i + 1] if plan.stages[key].teachers else (chain.arm.path[i],)
            loss = plan.stages[key].loss
            plain = len(path) == 2 and loss.name == "kd" and not loss.options
            alone = len(path) == 1 and loss.name == "ce"
            found.setdefault(key, ("scratch" if alone else "kd" if plain else chain.arm.method, path))
    return found


def _identity(plan: Plan) -> list[dict[str, Any]]:
    """The columns that stage and progress tables share, in plan order."""
    lineages, role = _lineages(plan), roles(plan)
    return [
        {
            "key": key,
            "network": stage.network,
            "role": role[key],
            "method": lineages[key][0],
            "path": path_label(lineages[key][1]),
            "seed": stage.seed,
            "epochs": stage.recipe.last,
        }
        for key, stage in plan.stages.items()
    ]


def stage_frame(plan: Plan, store: Store) -> pd.DataFrame:
    """One row per stage, teachers before pupils (STAGE_COLUMNS).

    role: see `roles`. method and path: how this stage itself was trained (`scratch` without teachers). agreement and
    kl: with its direct teacher on test images, NaN without one. epochs: planned. macs: for one image. seconds: NaN
    until done. origin: missing until done. device: its name where the result knows it, else its kind.
    """
    rows = []
    for row in _identity(plan):
        stage, result = plan.stages[row["key"]], store.result(row["key"])
        network, size = NETWORKS[stage.network], capacity(stage.network, stage.data.classes)
        row |= {"family": network.family, "size": network.size, "params": size.params, "macs": size.macs}
        row |= {"done": result is not None} | _numbers(stage, result or {})
        row["origin"] = store.origin(stage.key) if result is not None else None
        rows.append(row)
    return tidy(rows, STAGE_COLUMNS)


def _numbers(stage: StageSpec, result: Mapping[str, Any]) -> dict[str, Any]:
    names = ("test_acc", "val_acc", "train_acc", "entropy", "ece", "seconds", "images_per_second")
    direct = stage.teachers[-1] if stage.teachers else ""
    env = environment_of(result)
    return {name: _number(result.get(name)) for name in names} | {
        "agreement": _number((result.get("agreement") or {}).get(direct)),
        "kl": _number((result.get("kl") or {}).get(direct)),
        "device": env.get("device_name") or env.get("device"),
    }


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def chain_frame(plan: Plan, store: Store) -> pd.DataFrame:
    """One row per arm and seed (CHAIN_COLUMNS).

    done: the student is finished. test_acc, val_acc: the student's, at the last epoch. teacher: first network of the
    path, missing for scratch; teacher_test_acc: its accuracy. seconds: sum over the chain's distinct trainings, NaN
    unless all of them are known. trainings: how many there are. mac_epochs: planned cost, the sum of
    MACs of a step per image (takd.costs) * training images * epochs. origin: that of all its stages (origin_of_all),
    missing until done.
    """
    results = {key: store.result(key) for key in plan.stages}
    rows = []
    for chain in plan.chains:
        arm, taught = chain.arm, len(chain.arm.path) > 1
        student = part_of(results[chain.student] or {}, arm.part)
        keys = tuple(dict.fromkeys((*chain.beside, *chain.keys)))
        own_teacher = taught and len(chain.keys) == len(arm.path)
        done = results[chain.student] is not None
        origins = [store.origin(key) for key in keys] if done else []
        rows.append(
            {
                "arm": arm.name,
                "method": arm.method,
                "path": path_label(arm.path),
                "teacher": arm.path[0] if taught else None,
                "student": arm.path[-1],
                "seed": chain.seed,
                "done": done,
                "test_acc": _number(student.get("test_acc")),
                "val_acc": _number(student.get("val_acc")),
                "teacher_test_acc": _number((results[chain.keys[0]] or {}).get("test_acc"))
                if own_teacher
                else math.nan,
                "seconds": sum(_number((results[key] or {}).get("seconds")) for key in keys),
                "trainings": len(keys),
                "mac_epochs": sum(_mac_epochs(plan.stages[key], plan.stages) for key in keys),
                "origin": origin_of_all(origins),
                "student_key": chain.student,
            }
        )
    return tidy(rows, CHAIN_COLUMNS)


def origin_of_all(origins: Iterable[str | None]) -> str | None:
    """One word for numbers made from several trainings: `imported` where one of them is, so that nobody takes the whole
    for a number that was trained here; `cached` where all are; else `live`. None for no training."""
    found = set(origins)
    if not found:
        return None
    return "imported" if "imported" in found else "cached" if found == {"cached"} else "live"


def part_of(result: Mapping[str, Any], part: int | None) -> Mapping[str, Any]:
    """The numbers of one sub-model of a result that has several; those of the whole for None."""
    if part is None:
        return result
    rows = result.get("parts")
    return rows[part] if isinstance(rows, list) and part < len(rows) and isinstance(rows[part], dict) else {}


def _mac_epochs(stage: StageSpec, stages: Mapping[str, StageSpec]) -> float:
    return (step_macs(stage) + looking_macs(stage, stages)) * stage.data.train_images * stage.recipe.last


def arm_frame(chains: pd.DataFrame) -> pd.DataFrame:
    """One row per arm of a chain frame, in its order (ARM_COLUMNS).

    n counts finished seeds; mean, half, low, high: 95 % t interval of the student's test accuracy over them (NaN as
    in statistics.Interval). val_mean, teacher_mean, seconds: means over the same seeds. trainings, mac_epochs: of
    one seed. origin: that of all finished chains (origin_of_all).
    """
    rows = []
    for name, group in chains.groupby("arm", sort=False, observed=True):
        done = group[group["done"] & group["test_acc"].notna()]
        interval = t_interval(done["test_acc"].to_numpy())
        first = group.iloc[0]
        row = {column: first[column] for column in ("method", "path", "teacher", "trainings", "mac_epochs")}
        row |= {"arm": name, "n": interval.n, "mean": interval.mean, "half": interval.half}
        row |= {"low": interval.low, "high": interval.high, "val_mean": done["val_acc"].mean()}
        row |= {"teacher_mean": done["teacher_test_acc"].mean(), "seconds": done["seconds"].mean()}
        row["origin"] = origin_of_all(done["origin"])
        rows.append(row)
    return tidy(rows, ARM_COLUMNS)


def gap_seed_frame(plan: Plan, store: Store) -> pd.DataFrame:
    """One row per finished training of the gap chart (GAP_SEED_COLUMNS), for faint dots and for `gap_frame`.

    panel `teacher`: the teachers' own test accuracy, group `teacher alone`. panel `student`: test accuracy of the
    student; group `kd` at its teacher, `takd` (any chain with assistants) at the chain's first teacher, `other`
    (another method, or one with options) likewise, `scratch` repeated at every teacher so that it draws as a level
    line. x is a teacher's name, order its rank by MACs.
    """
    arms = [arm for arm in plan.arms if len(arm.path) > 1]
    teachers = sorted({arm.path[0] for arm in arms}, key=size_order)
    rows: list[dict[str, Any]] = []

    def add(panel: str, x: str, group: str, arm: str, chain: Chain, key: str) -> None:
        value = _number((store.result(key) or {}).get("test_acc"))
        if math.isfinite(value):
            order = teachers.index(x)
            rows.append(dict(zip(GAP_SEED_COLUMNS, (panel, x, order, group, arm, chain.seed, value), strict=True)))

    seen: set[str] = set()
    for chain in plan.chains:
        arm = chain.arm
        if len(arm.path) == 1:
            for x in teachers:
                add("student", x, "scratch", arm.name, chain, chain.student)
            continue
        if arm.usual and chain.keys[0] not in seen:  # one teacher serves several arms; another's may have stopped early
            seen.add(chain.keys[0])
            add("teacher", arm.path[0], "teacher alone", f"scratch {path_label(arm.path[:1])}", chain, chain.keys[0])
        group = arm.method if arm.usual else "other"
        add("student", arm.path[0], group, arm.name, chain, chain.student)
    return tidy(rows, GAP_SEED_COLUMNS)


def gap_frame(plan: Plan, store: Store) -> pd.DataFrame:
    """One row per mark of the gap chart (GAP_COLUMNS): mean and 95 % interval over the rows of `gap_seed_frame`.

    params and macs are those of the teacher x; chosen marks the arm the user built. Marks without a finished seed
    are absent; low and high are NaN for one seed.
    """
    rows = []
    keys = ["panel", "group", "x", "order", "arm"]
    for values, group in gap_seed_frame(plan, store).groupby(keys, sort=False, observed=True):
        row = dict(zip(keys, values, strict=True))
        interval = t_interval(group["value"].to_numpy())
        size = capacity(row["x"], next(iter(plan.stages.values())).data.classes)
        row |= {"params": size.params, "macs": size.macs, "chosen": row["arm"] == plan.chosen.name}
        row |= {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}
        rows.append(row)
    return tidy(rows, GAP_COLUMNS).sort_values(["panel", "group", "order"], ignore_index=True, kind="stable")


def progress_frame(plan: Plan, store: Store, keys: Collection[str] | None = None) -> pd.DataFrame:
    """One row per stage (PROGRESS_COLUMNS), or per stage of `keys`.

    state: `done`, `training` (it has started and is not done; whether a worker still lives is the run's state to
    say) or `waiting`. epoch: the one being trained, 1-based; 0 while waiting, all of them when done. share: of the
    stage's training that is done, 0 to 1, steps inside the epoch included.
    """
    rows = []
    for row in _identity(plan):
        if keys is not None and row["key"] not in keys:
            continue
        done = store.result(row["key"]) is not None
        progress = None if done else store.progress(row["key"])
        row["state"] = "done" if done else "waiting" if progress is None else "training"
        row["epoch"], row["share"] = (row["epochs"], 1.0) if done else _position(progress or {}, row["epochs"])
        row["origin"] = store.origin(row["key"]) if done else None
        rows.append(row)
    return tidy(rows, PROGRESS_COLUMNS)


def _position(progress: Mapping[str, Any], epochs: int) -> tuple[int, float]:
    epoch, step, steps = (_number(progress.get(name)) for name in ("epoch", "step", "steps"))
    if not math.isfinite(epoch):
        return 0, 0.0
    epoch = float(np.clip(epoch, 0, epochs))
    inside = step / steps if math.isfinite(step) and steps > 0 else 0.0
    return int(epoch), float(np.clip((epoch - 1 + inside) / epochs, 0, 1))
