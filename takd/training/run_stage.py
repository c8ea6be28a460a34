"""Train one stage of the store from its spec to its result. The worker calls this; it calls everything else."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from takd.data.cache import DataError
from takd.evaluation.final import evaluate, unpack_logits
from takd.networks.table import build
from takd.runs.errors import StageFailed
from takd.runs.store import Store, StoreError
from takd.stage import StageSpec, answers_file, answers_suffice
from takd.training.checkpoints import checkpoint_bytes, load_checkpoint, load_weights, peak_memory_mb, weights_bytes
from takd.training.device import TrainingData, environment, pick_device, training_data, uses_bf16
from takd.training.loop import Hooks, Progress, TeacherLogits, freeze, live_teacher, predict, stored_teacher, train
from takd.training.streams import initial_network

CHECKPOINT_SECONDS = 5.0  # tiny networks finish before the first one; long ones lose at most an epoch


def run_stage(
    store: Store,
    key: str,
    *,
    device: str = "auto",
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
) -> None:
    """Train, evaluate and commit one stage; the caller holds its lock.

    Raises StageStopped after a stop (the checkpoint stays) and StageFailed with a sentence for named failures.
    """
    stage = store.stage(key)
    if stage is None:
        raise StageFailed("bad-stage", f"Stage {key} has no readable stage.json; start the run again.")
    target = pick_device(device)
    bf16 = uses_bf16(target, stage.recipe.precision)
    try:
        data = training_data(stage.data, stage.seed, target, bf16)
        _train_and_commit(store, stage, data, target, bf16, should_stop, report)
    except DataError as error:
        raise StageFailed("bad-data", str(error)) from error
    except StoreError as error:
        raise StageFailed("bad-parent", str(error)) from error
    except torch.OutOfMemoryError as error:
        raise StageFailed(
            "out-of-memory",
            f"The device ran out of memory while training {stage.network}. Close other programs that use it, or "
            "choose a smaller network.",
        ) from error


def _train_and_commit(
    store: Store,
    stage: StageSpec,
    data: TrainingData,
    device: torch.device,
    bf16: bool,
    should_stop: Callable[[], bool],
    report: Callable[[dict[str, Any]], None],
) -> None:
    key = stage.key
    network = _on_device(initial_network(stage.network, stage.data.classes, stage.seed), device)
    progress = _resume(store, key, network)
    teacher = _teacher(store, stage, data, device, bf16)
    last_checkpoint = time.monotonic()

    def epoch_done(now: Progress) -> None:
        nonlocal last_checkpoint
        if time.monotonic() - last_checkpoint > CHECKPOINT_SECONDS:
            store.save_checkpoint(key, checkpoint_bytes(network, now))
            last_checkpoint = time.monotonic()
        store.append_event(key, now.rows[-1])

    store.rewrite_events(key, progress.rows if progress else [])
    progress = train(
        network, stage, data, teacher, bf16=bf16, hooks=Hooks(should_stop, report, epoch_done), progress=progress
    )
    teachers = {
        teacher_key: unpack_logits(store.read_file(teacher_key, "predictions.npz")) for teacher_key in stage.teachers
    }
    metrics, predictions = evaluate(network, stage, data, teachers)
    rows = progress.rows
    best = max(rows, key=lambda row: row["val_acc"])
    speeds = sorted(row["images_per_second"] for row in rows)
    result = {
        "epochs": len(rows),
        **metrics,
        "train_acc": rows[-1]["train_acc"],
        "val_acc": rows[-1]["val_acc"],
        "val_best": best["val_acc"],
        "val_best_epoch": best["epoch"],
        "seconds": progress.seconds,
        "images_per_second": speeds[len(speeds) // 2],
        "peak_memory_mb": peak_memory_mb(device),
        "env": environment(device, bf16),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    store.commit(key, result, {"weights.safetensors": weights_bytes(network), "predictions.npz": predictions})


def _on_device(network: nn.Module, device: torch.device) -> nn.Module:
    return network.to(device).to(memory_format=torch.channels_last)


def _resume(store: Store, key: str, network: nn.Module) -> Progress | None:
    """Continue from the last checkpoint; a damaged one is as good as none, because the stage is deterministic."""
    raw = store.load_checkpoint(key)
    if raw is None:
        return None
    untouched = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    try:
        return load_checkpoint(network, raw)
    except ValueError:
        network.load_state_dict(untouched)
        store.drop_checkpoint(key)
        return None


def _teacher(
    store: Store, stage: StageSpec, data: TrainingData, device: torch.device, bf16: bool
) -> TeacherLogits | None:
    """How this stage hears its teacher: looked up where an image always looks the same, else asked live."""
    if not stage.teachers:
        return None
    (key,) = stage.teachers
    if answers_suffice(stage):
        return stored_teacher(teacher_logits(store, key, stage, data, device, bf16))
    return live_teacher([load_teacher(store, key, device)], bf16)


def load_teacher(store: Store, key: str, device: torch.device) -> nn.Module:
    """A finished stage's network, frozen; a missing or foreign file is an error, never a random teacher."""
    stage = store.stage(key)
    if stage is None:
        raise StageFailed("bad-parent", f"Teacher stage {key} cannot be read; train it again.")
    network = build(stage.network, stage.data.classes)
    try:
        load_weights(network, store.read_file(key, "weights.safetensors"))
    except ValueError as error:
        raise StageFailed("bad-parent", f"The weights of teacher {stage.network} are unusable: {error}") from error
    return freeze(_on_device(network, device))


def teacher_logits(
    store: Store, key: str, stage: StageSpec, data: TrainingData, device: torch.device, bf16: bool
) -> Tensor:
    """A teacher's logits (N, classes) on the training images, computed once and kept beside the teacher.

    They are rounded to float16 before first use, so the first student and the hundredth hear the same numbers,
    whether the teacher's stage is live or cached.
    """
    name = answers_file(stage.data)
    raw = store.read_extra(key, name)
    if raw is None:
        answers = predict(load_teacher(store, key, device), data.train, bf16).cpu().numpy().astype(np.float16)
        buffer = io.BytesIO()
        np.save(buffer, answers)
        raw = buffer.getvalue()
        store.write_extra(key, name, raw)
    return _unpacked(raw, device)


@lru_cache(maxsize=4)
def _unpacked(raw: bytes, device: torch.device) -> Tensor:
    return torch.from_numpy(np.load(io.BytesIO(raw), allow_pickle=False).astype(np.float32)).to(device)
