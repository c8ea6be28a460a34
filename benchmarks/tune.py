"""Choose learning rate, T and lam on validation images, from one grid that is the same for every arm.

    python -m benchmarks.tune cifar10-plain-standard --store DIR
    python -m benchmarks.tune cifar10-resnet-4-epochs --store DIR --images 20000
    python -m benchmarks.tune digits-mlp-noise --store DIR

Trains on seeds that no reported run uses. First the rate (at `first`), by the mean validation accuracy over `scratch`
and `kd` arms; then T and lam at that rate, by the mean over the `kd` arms. One setting for all arms: an arm
that would like another one is not given it, and the table shows what it would have had. Test accuracies play no part
in the choice and are not in the report, which goes to cached_runs/tuning/ unless --out says otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

from takd.claims.settings import SETTINGS
from takd.data.catalogue import available_datasets
from takd.runs.layout import environment_of
from takd.runs.loop import train_all
from takd.runs.store import Store
from takd.spec import ExperimentSpec
from takd.stage import LossSpec, StageSpec
from takd.starts import start_for
from takd.wiring import stage_for

_MADE_ON = ("device_name", "platform", "python", "torch", "precision", "commit")
PLACE = Path(__file__).resolve().parents[1] / "cached_runs" / "tuning"


@dataclass(frozen=True)
class Grid:
    """What is tried. `pairs` are (teacher, student) of direct KD; teachers are trained at `teacher_rate`;
    `first` is (T, lam) while the rate is chosen."""

    spec: ExperimentSpec
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    teacher_rate: float
    first: tuple[float, float]
    temperatures: tuple[float, ...]
    lams: tuple[float, ...]
    students: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]


_CIFAR = Grid(
    ExperimentSpec(), (1000,), (0.01, 0.02, 0.05), 0.02, (4.0, 0.9), (1.0, 2.0, 4.0, 8.0), (0.5, 0.9),
    ("plain-2", "plain-4"), (("plain-10", "plain-2"), ("plain-6", "plain-2"), ("plain-10", "plain-4")),
)  # fmt: skip
_DIGITS = Grid(
    start_for("digits"), tuple(range(2000, 2020)), (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2), 0.05,
    (1.0, 0.9), (1.0, 2.0, 4.0, 8.0), (0.5, 0.9), ("mlp-8", "mlp-16"),
    (("mlp-256", "mlp-8"), ("mlp-16", "mlp-8"), ("mlp-256", "mlp-16")),
)  # fmt: skip
GRIDS: dict[str, Grid] = {
    "cifar10-plain-standard": _CIFAR,
    "cifar100-plain-standard": replace(
        _CIFAR, spec=start_for("cifar100"), students=("plain-2",),
        rates=(0.01, 0.02, 0.05, 0.1),  # the last was added when 0.05 was chosen, the largest until then
        pairs=(("plain-10", "plain-2"), ("plain-4", "plain-2")),
    ),
    "cifar10-resnet-4-epochs": replace(
        _CIFAR, spec=SETTINGS["resnet"].spec, teacher_rate=0.1,
        students=("resnet-8", "resnet-14", "resnet-32"),  # teachers too, since a rate was chosen that one fails at
        rates=(0.05, 0.1, 0.2, 0.4, 0.8),  # the last two were added one by one, when the largest was chosen
        pairs=(("resnet-32", "resnet-8"), ("resnet-14", "resnet-8")),
    ),
    "digits-mlp-noise": _DIGITS,
    "digits-mlp-clean": replace(_DIGITS, spec=replace(_DIGITS.spec, noise=0.0)),
    "digits-cnn-clean": replace(
        _DIGITS, spec=SETTINGS["digits-cnn"].spec, teacher_rate=0.1, first=(4.0, 0.5), students=("cnn8-2", "cnn8-8"),
        pairs=(("cnn8-32", "cnn8-2"), ("cnn8-8", "cnn8-2"), ("cnn8-32", "cnn8-8")),
    ),
}  # fmt: skip

Row = dict[str, tuple[StageSpec, ...]]
"""What is tried -> its trainings, one per seed."""


def train(store: Store, stages: Mapping[str, StageSpec], processes: int) -> None:
    """Train what is missing, shared between this process and its helpers through the stages' locks."""
    for stage in stages.values():
        store.ensure(stage)
    command = [sys.executable, "-m", "benchmarks.tune", "--store", str(store.root), "--keys", *stages]
    helpers = [subprocess.Popen(command) for _ in range(processes - 1)]
    _train_all(store, stages, processes)
    for helper in helpers:
        helper.wait()


def _train_all(store: Store, stages: Mapping[str, StageSpec], processes: int = 1) -> None:
    say = partial(print, flush=True)
    train_all(store, stages, device="auto", should_stop=lambda: False, say=say, processes=processes)


def search(grid: Grid, store: Store, processes: int, images: int = 0) -> dict[str, object]:
    """The report: validation accuracies of the whole grid, means over seeds, and what they choose."""
    dataset = available_datasets()[grid.spec.dataset]

    def made(
        network: str, seed: int, lr: float, teacher: str = "", t: float = grid.first[0], lam: float = grid.first[1]
    ):
        loss = LossSpec("kd", t, lam) if teacher else LossSpec("ce", None, 0.0)
        above = (made(teacher, seed, grid.teacher_rate).key,) if teacher else ()
        return stage_for(network, above, loss, seed, replace(grid.spec, lr=lr, images=images), dataset)

    def row(network: str, lr: float, teacher: str = "", t: float = grid.first[0], lam: float = grid.first[1]):
        return tuple(made(network, seed, lr, teacher, t, lam) for seed in grid.seeds)

    def scores(arms: Mapping[str, Row]) -> dict[str, object]:
        wanted = _by_key(stage for arm in arms.values() for some in arm.values() for stage in some)
        train(store, wanted, processes)
        tried.update(wanted)
        found = {name: {cell: _validation(store, some) for cell, some in arm.items()} for name, arm in arms.items()}
        cells = list(next(iter(found.values())))
        by_seed = {
            cell: [fmean(at) for at in zip(*(arm[cell] for arm in found.values()), strict=True)] for cell in cells
        }
        mean = {cell: fmean(values) for cell, values in by_seed.items()}
        chosen = max(cells, key=mean.__getitem__)
        report: dict[str, object] = {
            "scores": {name: {cell: fmean(values) for cell, values in arm.items()} for name, arm in found.items()},
            "mean": mean,
            "chosen": chosen,
        }
        if len(grid.seeds) > 1:
            behind = {cell: [a - b for a, b in zip(by_seed[chosen], by_seed[cell], strict=True)] for cell in cells}
            report["behind_the_chosen"] = {
                cell: {"mean": fmean(gaps), "standard_error": stdev(gaps) / len(gaps) ** 0.5}
                for cell, gaps in behind.items()
            }
        return report

    sizes = dict.fromkeys(teacher for teacher, _ in grid.pairs)
    teachers = _by_key(stage for size in sizes for stage in row(size, grid.teacher_rate))
    train(store, teachers, processes)
    tried = dict(teachers)
    rate_arms = {f"scratch {size}": {f"{lr:g}": row(size, lr) for lr in grid.rates} for size in grid.students}
    for teacher, student in grid.pairs:
        rate_arms[f"kd {teacher} > {student}"] = {f"{lr:g}": row(student, lr, teacher) for lr in grid.rates}
    rates = scores(rate_arms)
    lr = float(str(rates["chosen"]))
    cells = [(t, lam) for t in grid.temperatures for lam in grid.lams]
    softening = scores(
        {
            f"kd {teacher} > {student}": {f"T={t:g} lam={lam:g}": row(student, lr, teacher, t, lam) for t, lam in cells}
            for teacher, student in grid.pairs
        }
    )
    first = next(iter(teachers.values()))
    seeds = "one seed" if len(grid.seeds) == 1 else f"mean of {len(grid.seeds)} seeds"
    return {
        "seed": grid.seeds[0],
        "seeds": len(grid.seeds),
        "noise": grid.spec.noise,
        "train_images": first.data.train_images,
        "selected_on": f"validation accuracy of the last epoch, {seeds} per cell",
        "recipe": {name: value for name, value in vars(first.recipe).items() if name != "lr"},
        "rates": rates,
        "softening": softening,
        "teachers_trained_at_lr": grid.teacher_rate,
        "rates_tried_at": {"T": grid.first[0], "lam": grid.first[1]},
        "made_on": _made_on(store, tried),
    }


def _made_on(store: Store, stages: Iterable[str]) -> dict[str, object]:
    """Machines, versions, commits and seconds of these trainings."""
    results = [store.result(key) or {} for key in stages]
    envs = [environment_of(result) for result in results]
    said = {name: sorted({str(env.get(name)) for env in envs}) for name in _MADE_ON}
    return {"trainings": len(results), "seconds": round(sum(float(r.get("seconds", 0)) for r in results)), **said}


def _by_key(stages: Iterable[StageSpec]) -> dict[str, StageSpec]:
    return {stage.key: stage for stage in stages}


def _validation(store: Store, stages: Iterable[StageSpec]) -> list[float]:
    """Of the last epoch. Ends the program where one did not finish: a mean of the others would favour what fails."""
    found = []
    for stage in stages:
        if (result := store.result(stage.key)) is None:
            what = f"{stage.network}, seed {stage.seed}, rate {stage.recipe.lr:g}"
            raise SystemExit(f"{what} was not trained (see above).")
        found.append(float(result["val_acc"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune", description="Choose rate, T and lam.")
    parser.add_argument("grid", choices=list(GRIDS), nargs="?")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keys", nargs="*", help=argparse.SUPPRESS)  # what a helper trains
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--images", type=int, default=0, help="train on the first N images only (for a trial)")
    asked = parser.parse_args()
    store = Store(asked.store.absolute())
    if asked.keys:
        found = [store.stage(key) for key in asked.keys]
        _train_all(store, _by_key(stage for stage in found if stage is not None), asked.processes)
        return
    if asked.grid is None:
        parser.error("name a grid")
    report = search(GRIDS[asked.grid], store, asked.processes, asked.images)
    out: Path = asked.out or PLACE / f"{asked.grid}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
