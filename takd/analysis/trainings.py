"""Every finished training as a row of one table: for whoever wants to work something out by other means.

A row per training, and one more for each part of it that answers by itself (a sub-model, a head), which `part` names.
What is about a teacher stands in as many columns as any training has teachers, in the order of `teachers`. `path` leads
from the network that learned alone to this one, along the last teacher of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from takd.runs.layout import environment_of
from takd.runs.store import Store
from takd.stage import StageSpec

OF_A_PART = ("test_acc", "test_loss", "ece", "entropy", "val_acc")
_OF_A_RESULT = (
    *OF_A_PART,
    "train_acc",
    "val_best",
    "val_best_epoch",
    "seconds",
    "images_per_second",
    "peak_memory_mb",
    "finished",
)
_OF_A_MACHINE = ("device", "device_name", "precision", "threads", "torch", "platform", "commit")
_BY_TEACHER = ("agreement", "kl")
_ORDER = ["dataset", "loss", "options", "network", "teachers", "noise", "train_images", "epochs", "lr", "seed", "key"]


def trainings_frame(store: Store) -> pd.DataFrame:
    """Accuracies, ECE and agreement as fractions; losses, entropies and KL in nats (KL at temperature 1). What a result
    does not say is empty."""
    found = ((key, store.stage(key), store.result(key)) for key in store.stage_keys())
    rows = [row for key, stage, result in found if stage and result for row in _rows(store, key, stage, result)]
    frame = pd.DataFrame(rows)
    own = [column for column in frame.columns if column.rpartition("_")[0] not in _BY_TEACHER]
    of_teachers = sorted(set(frame.columns).difference(own))
    return frame[[*own, *of_teachers]].sort_values(_ORDER if rows else [], ignore_index=True)


def _rows(store: Store, key: str, stage: StageSpec, result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    what = {"key": key, "origin": store.origin(key)} | _of_stage(store, stage)
    env = environment_of(result)
    of_teachers = {
        f"{name}_{number}": (result.get(name) or {}).get(teacher)
        for name in _BY_TEACHER
        for number, teacher in enumerate(stage.teachers, 1)
    }
    numbers = {name: result.get(name) for name in _OF_A_RESULT}
    yield what | {"part": ""} | numbers | {name: env.get(name) for name in _OF_A_MACHINE} | of_teachers
    for part in result.get("parts") or ():
        yield what | {"part": part["name"]} | {name: part.get(name) for name in OF_A_PART}


def _of_stage(store: Store, stage: StageSpec) -> dict[str, Any]:
    data, loss, recipe = stage.data, stage.loss, stage.recipe
    teachers = (store.stage(key) for key in stage.teachers)
    return {
        "dataset": data.name,
        "train_images": data.train_images,
        "skip": data.skip,
        "noise": data.noise,
        "noise_seed": stage.noise_seed,
        "network": stage.network,
        "path": ">".join(_path(store, stage)),
        "seed": stage.seed,
        "loss": loss.name,
        "temperature": loss.temperature,
        "lam": loss.lam,
        "options": ", ".join(f"{name} {value}" for name, value in loss.options),
        "teachers": " + ".join("?" if one is None else one.network for one in teachers),
        "teacher_keys": " ".join(stage.teachers),
        "peers": " + ".join(stage.peers),
        "view": stage.view,
        "epochs": recipe.last,
        "of_epochs": recipe.epochs,
        "batch": recipe.batch,
        "lr": recipe.lr,
        "schedule": recipe.schedule,
        "momentum": recipe.momentum,
        "weight_decay": recipe.weight_decay,
        "augmentation": recipe.augmentation,
        "selection": recipe.selection,
    }


def _path(store: Store, stage: StageSpec) -> tuple[str, ...]:
    teacher = store.stage(stage.teachers[-1]) if stage.teachers else None
    return (*(() if teacher is None else _path(store, teacher)), stage.network)
