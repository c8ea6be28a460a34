"""Choose learning rate, T and lam on validation images, from one grid that is the same for every arm.

    python benchmarks/tune.py --store DIR --out cached_runs/tuning/cifar10-plain-standard.json

Trains on a seed that no reported run uses. First the rate (at T = 4, lam = 0.9), by the mean validation accuracy
over `scratch` and `kd` arms of both students; then T and lam at that rate, by the mean over the `kd` arms. One
setting for all arms: an arm that would like another one is not given it, and the table shows what it would have had.
Test accuracies play no part in the choice and are not in the report.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from takd.data.catalogue import available_datasets
from takd.plan import stage_for
from takd.runs.locks import stage_lock
from takd.runs.store import Store
from takd.spec import ExperimentSpec
from takd.stage import LossSpec, StageSpec

SEED = 1000
RATES = (0.01, 0.02, 0.05)
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
LAMS = (0.5, 0.9)
TEACHERS = ("plain-10", "plain-6")
STUDENTS = ("plain-2", "plain-4")
PAIRS = (("plain-10", "plain-2"), ("plain-6", "plain-2"), ("plain-10", "plain-4"))


def train_all(store: Store, stages: Iterable[StageSpec], helpers: int) -> None:
    """Train what is missing, shared between this process and its helpers through the stages' locks."""
    keys = [stage.key for stage in stages]
    for stage in stages:
        store.ensure(stage)
    others = [
        subprocess.Popen([sys.executable, __file__, "--store", str(store.root), "--keys", *keys])
        for _ in range(helpers)
    ]
    _work(store, keys)
    for other in others:
        other.wait()


def _work(store: Store, keys: list[str]) -> None:
    import torch

    from takd.training.run_stage import run_stage

    torch.set_num_threads(1)
    while open_keys := [key for key in keys if not store.is_done(key)]:
        for key in open_keys:
            stage = store.stage(key)
            assert stage is not None
            if not all(store.is_done(teacher) for teacher in stage.teachers):
                continue
            lock = stage_lock(store.folder(key))
            try:
                lock.acquire(timeout=0)
            except Exception:  # someone else trains it
                continue
            try:
                if not store.is_done(key):
                    run_stage(store, key, device="auto")
                    print(f"{stage.network} {stage.loss} lr {stage.recipe.lr:g}: done", flush=True)
            finally:
                lock.release()
        time.sleep(0.2)


def with_rate(stage: StageSpec, lr: float) -> StageSpec:
    return replace(stage, recipe=replace(stage.recipe, lr=lr))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keys", nargs="*")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--images", type=int, help="train on the first N images only (for a trial)")
    args = parser.parse_args()
    store = Store(args.store)
    if args.keys:
        _work(store, args.keys)
        return
    dataset = available_datasets()["cifar10"]
    spec = ExperimentSpec(seed=SEED, seeds=1)

    def stage(network: str, teachers: tuple[str, ...] = (), lr: float = RATES[1], t: float = 4.0, lam: float = 0.9):
        loss = LossSpec("kd", t, lam) if teachers else LossSpec("ce", None, 0.0)
        made = with_rate(stage_for(network, teachers, loss, SEED, spec, dataset), lr)
        return replace(made, data=replace(made.data, train_images=args.images)) if args.images else made

    teachers = {name: stage(name) for name in TEACHERS}
    rate_arms: dict[str, dict[float, StageSpec]] = {}
    for student in STUDENTS:
        rate_arms[f"scratch {student}"] = {lr: stage(student, (), lr) for lr in RATES}
    for name, student in PAIRS:
        rate_arms[f"kd {name} > {student}"] = {lr: stage(student, (teachers[name].key,), lr) for lr in RATES}
    train_all(store, [*teachers.values(), *(s for arm in rate_arms.values() for s in arm.values())], args.processes - 1)

    def val(s: StageSpec) -> float:
        result = store.result(s.key)
        assert result is not None
        return float(result["val_acc"])

    rate_scores = {arm: {str(lr): val(s) for lr, s in row.items()} for arm, row in rate_arms.items()}
    mean_by_rate = {lr: sum(row[str(lr)] for row in rate_scores.values()) / len(rate_scores) for lr in RATES}
    lr = max(RATES, key=lambda r: mean_by_rate[r])
    soft_arms = {
        f"kd {name} > {student}": {
            (t, lam): stage(student, (teachers[name].key,), lr, t, lam) for t in TEMPERATURES for lam in LAMS
        }
        for name, student in PAIRS
    }
    train_all(store, [s for arm in soft_arms.values() for s in arm.values()], args.processes - 1)
    soft_scores = {
        arm: {f"T={t:g} lam={lam:g}": val(s) for (t, lam), s in row.items()} for arm, row in soft_arms.items()
    }
    cells = list(next(iter(soft_scores.values())))
    mean_by_cell = {cell: sum(row[cell] for row in soft_scores.values()) / len(soft_scores) for cell in cells}
    report = {
        "seed": SEED,
        "train_images": next(iter(teachers.values())).data.train_images,
        "selected_on": "validation accuracy of the last epoch (5,000 images), one seed per cell",
        "recipe": {k: v for k, v in vars(next(iter(teachers.values())).recipe).items() if k != "lr"},
        "rates": {"scores": rate_scores, "mean": {str(k): v for k, v in mean_by_rate.items()}, "chosen": lr},
        "softening": {"scores": soft_scores, "mean": mean_by_cell, "chosen": max(cells, key=mean_by_cell.__getitem__)},
        "teachers_trained_at_lr": RATES[1],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
