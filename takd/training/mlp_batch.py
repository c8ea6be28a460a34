"""Many one-hidden-layer networks of one shape trained side by side: the compiled epoch between networks and rows."""

from __future__ import annotations

import importlib
import importlib.util
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from takd.networks.table import NETWORKS
from takd.runs.errors import StageFailed, StageStopped
from takd.stage import LossSpec, StageSpec
from takd.training.device import TrainingData
from takd.training.progress import REPORT_SECONDS, Hooks, Progress, diverged
from takd.training.schedules import learning_rate
from takd.training.streams import epoch_order

_KERNEL = "takd.training.mlp_kernel"  # imported when needed: numba takes half a second
_LEAST_PER_THREAD = 4  # networks
_SLICE_SECONDS = 0.03  # of compiled work between two looks at the wish to stop
_PER_STEP = 1e-4  # seconds, until the first slice has been measured


@dataclass(frozen=True)
class Pupil:
    """One network of the batch: trained in place; `answers` are its teacher's logits (N, classes) or None.

    `progress` is where it stands and is carried on.
    """

    network: nn.Module
    stage: StageSpec
    data: TrainingData
    answers: Tensor | None
    hooks: Hooks
    progress: Progress


def fits(stage: StageSpec, device: str) -> bool:
    """Whether the compiled epoch can train this stage: 64-h-C on the CPU, images as they are, its two losses. Without
    numba it can train nothing."""
    recipe = stage.recipe
    if importlib.util.find_spec("numba") is None:
        return False
    small = NETWORKS[stage.network].family == "mlp" and device == "cpu"
    plain = stage.loss.name in ("ce", "kd") and not stage.loss.options
    return small and plain and recipe.augmentation == "none" and recipe.precision == "fp32"


def train_mlps(pupils: Sequence[Pupil], threads: int | None = None) -> dict[int, StageFailed]:
    """Train networks that share images, network and recipe (not labels, teachers, T or lam) to the end of the recipe.

    `threads` (default: one per core this process may use) share the networks; the compiled epochs need no lock of
    Python's. Returns the failures by position: a loss that is no longer finite ends that network only. Raises
    StageStopped when a hook asks to stop, within one epoch of a few networks. A network's bits depend neither on its
    companions nor on the threads.
    """
    count = max(1, min(threads or _cores(), len(pupils) // _LEAST_PER_THREAD))
    failed: dict[int, StageFailed] = {}

    def train_part(first: int) -> None:
        failures = _train_in_turn(pupils[first::count])
        failed.update({first + place * count: failure for place, failure in failures.items()})

    # One thread per product: they are small, and BLAS threads that wait for each other cost ten times the work.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(count, "mlp-batch") as pool:
        for part in [pool.submit(train_part, first) for first in range(count)]:
            part.result()
    return failed


def warm_up() -> None:
    """Compile the kernels, or load them where this machine has compiled them before."""
    kernel = importlib.import_module(_KERNEL)
    one, flat, image = np.zeros(1, np.int64), np.zeros((1, 1 + 1 + 2 + 2), np.float32), np.zeros((1, 1), np.float32)
    table, number = np.full((1, 1, 2), 0.5, np.float32), np.ones(1, np.float32)
    last = (1, 1, flat, flat.copy(), np.zeros((1, kernel.SUMS)))
    kernel.train_epoch(one, image, one[None], one[None], table, image, one, number, number, number, 0.9, 0.0, *last)
    kernel.validate(one, image, one, 1, flat, np.zeros((1, 2)))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _train_in_turn(pupils: Sequence[Pupil]) -> dict[int, StageFailed]:
    batch = _Batch(pupils)
    failed: dict[int, StageFailed] = {}
    for epoch in range(batch.recipe.epochs):
        waiting = [k for k, pupil in enumerate(pupils) if pupil.progress.epochs == epoch and k not in failed]
        while waiting:
            slice_, waiting = waiting[: batch.slice_size()], waiting[batch.slice_size() :]
            if pupils[slice_[0]].hooks.stop():
                raise StageStopped(f"stopped in epoch {epoch + 1} of {batch.recipe.epochs}")
            failed.update(batch.train(slice_, epoch))
    return failed


class _Batch:
    """All networks in flat arrays, which their modules' parameters and momenta are views of."""

    def __init__(self, pupils: Sequence[Pupil]) -> None:
        first = pupils[0]
        self.kernel = importlib.import_module(_KERNEL)
        self.pupils, self.recipe, self.name = pupils, first.stage.recipe, first.stage.network
        self.pixels = _flat(first.data.train.pixels)
        self.validation = _flat(first.data.validation.pixels), first.data.validation.labels.numpy()
        self.labels = np.stack([pupil.data.train.labels.numpy() for pupil in pupils])
        self.hidden = int(next(first.network.parameters()).shape[0])
        self.weights, self.velocities = _flat_parameters(pupils)
        self.softened = _Softened(pupils, first.stage.data.classes, len(self.pixels))
        losses = [pupil.stage.loss for pupil in pupils]
        self.temperatures = np.array([loss.temperature or 1.0 for loss in losses], np.float32)
        self.lams = np.array([loss.lam for loss in losses], np.float32)
        self.sums, self.checked = np.zeros((len(pupils), self.kernel.SUMS)), np.zeros((len(pupils), 2))
        self.batch = min(self.recipe.batch, len(self.pixels))
        self.steps = len(self.pixels) // self.batch
        self.step_seconds, self.last_report = _PER_STEP, 0.0

    def slice_size(self) -> int:
        """How many networks to train between two looks at the wish to stop."""
        return max(1, int(_SLICE_SECONDS / (self.steps * self.step_seconds)))

    def train(self, chosen: list[int], epoch: int) -> dict[int, StageFailed]:
        """One epoch of some of the networks: train, validate, write their rows; the failures."""
        began = time.perf_counter()
        recipe, steps = self.recipe, self.steps
        all_steps = steps * recipe.epochs
        rates = [learning_rate(recipe.schedule, recipe.lr, epoch * steps + i, all_steps) for i in range(steps)]
        seeds = [self.pupils[k].stage.seed for k in chosen]
        orders = np.stack([epoch_order(len(self.pixels), seed, self.name, epoch).numpy() for seed in seeds])
        places = np.array(chosen)
        self.kernel.train_epoch(
            places,
            self.pixels,
            orders,
            self.labels,
            *self.softened.tables,
            self.softened.rows,
            self.temperatures,
            self.lams,
            np.array(rates, np.float32),
            recipe.momentum,
            recipe.weight_decay,
            self.batch,
            self.hidden,
            self.weights,
            self.velocities,
            self.sums,
        )
        training_seconds = (time.perf_counter() - began) / len(chosen)
        self.kernel.validate(places, *self.validation, self.hidden, self.weights, self.checked)
        seconds = (time.perf_counter() - began) / len(chosen)
        self.step_seconds = seconds / steps
        self._report(chosen, epoch, training_seconds)
        failed: dict[int, StageFailed] = {}
        for k in chosen:
            # The weights too: a ReLU may hide what is not a number.
            if np.isfinite([self.sums[k, 0], self.checked[k, 1], self.weights[k].sum()]).all():
                self._write(k, epoch, rates[-1], seconds, training_seconds)
            else:
                failed[k] = diverged(epoch, recipe.lr)
        return failed

    def _write(self, k: int, epoch: int, rate: float, seconds: float, training_seconds: float) -> None:
        loss, ce, kl, right = self.sums[k].tolist()
        correct, validation_loss = self.checked[k].tolist()
        images, progress = self.steps * self.batch, self.pupils[k].progress
        progress.rows.append(
            {
                "epoch": epoch + 1,
                "loss": loss,
                "loss_ce": ce,
                "loss_kl": kl,
                "train_acc": right / images,
                "val_acc": correct / len(self.validation[1]),
                "val_loss": validation_loss,
                "lr": rate,
                "images_per_second": images / training_seconds,
                "seconds": progress.seconds + seconds,  # this network's share of the time of all
            }
        )
        self.pupils[k].hooks.epoch_done(progress)

    def _report(self, chosen: list[int], epoch: int, seconds: float) -> None:
        now = time.perf_counter()
        if now - self.last_report > REPORT_SECONDS:
            self.last_report = now
            for k in chosen:
                self.pupils[k].hooks.report(
                    {
                        "epoch": epoch + 1,
                        "epochs": self.recipe.epochs,
                        "step": self.steps,
                        "steps": self.steps,
                        "images_per_second": self.steps * self.batch / seconds,
                    }
                )


class _Softened:
    """What the teachers say: one table per teacher and temperature, and each network's row in them (-1: no teacher)."""

    def __init__(self, pupils: Sequence[Pupil], classes: int, images: int) -> None:
        known: dict[tuple[int, float], int] = {}
        self.rows = np.full(len(pupils), -1, np.int64)
        logs: list[Tensor] = []
        for k, pupil in enumerate(pupils):
            if pupil.answers is not None:
                temperature = _temperature(pupil.stage.loss)
                name = (id(pupil.answers), temperature)
                if name not in known:
                    known[name] = len(logs)
                    logs.append(torch.log_softmax(pupil.answers / temperature, dim=1))
                self.rows[k] = known[name]
        every = torch.stack(logs) if logs else torch.zeros(1, images, classes)
        softened = every.exp()
        self.tables = softened.numpy(), (softened * every).sum(2).numpy()


def _temperature(loss: LossSpec) -> float:
    assert loss.temperature is not None
    return loss.temperature


def _flat(pixels: Tensor) -> np.ndarray:
    """Images (N, H, W, 1) as rows (N, H * W), as nn.Flatten makes them."""
    return np.ascontiguousarray(pixels.permute(0, 3, 1, 2).flatten(1).numpy())


def _flat_parameters(pupils: Sequence[Pupil]) -> tuple[np.ndarray, np.ndarray]:
    """Weights and momenta (K, P) float32; the modules and the progress become views of them."""
    weights = torch.stack([parameters_to_vector(pupil.network.parameters()).detach() for pupil in pupils])
    velocities = torch.zeros_like(weights)
    for flat, velocity, pupil in zip(weights, velocities, pupils, strict=True):
        if pupil.progress.momentum is not None:
            velocity.copy_(parameters_to_vector(pupil.progress.momentum))
        vector_to_parameters(flat, pupil.network.parameters())
        parts = velocity.split([p.numel() for p in pupil.network.parameters()])
        pupil.progress.momentum = [part.view_as(p) for part, p in zip(parts, pupil.network.parameters(), strict=True)]
    return weights.numpy(), velocities.numpy()
