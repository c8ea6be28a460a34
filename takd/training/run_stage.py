"""Train one stage of the store from its spec to its result. The worker calls this; it calls everything else."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import torch
from torch import nn

from takd.data.cache import DataError
from takd.evaluation.final import evaluate, unpack_logits
from takd.runs.errors import StageFailed
from takd.runs.store import Store, StoreError
from takd.stage import StageSpec
from takd.training.checkpoints import checkpoint_bytes, load_checkpoint, peak_memory_mb, weights_bytes
from takd.training.device import TrainingData, environment, on_device, pick_device, training_data, uses_bf16
from takd.training.loop import train
from takd.training.progress import Hooks, Progress
from takd.training.streams import initial_network
from takd.training.teachers import teacher_of

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
    network = on_device(initial_network(stage.network, stage.data.classes, stage.seed), device)
    progress = _resume(store, key, network)
    teacher = teacher_of(store, stage, data, device, bf16)
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
