"""Many one-hidden-layer networks of one shape trained side by side: the compiled epoch between networks and rows."""

from __future__ import annotations

import importlib
import importlib.util
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from queue import SimpleQueue

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from takd.batching import compiled
from takd.methods.losses.step import settings_for, state_at
from takd.networks.table import family_of
from takd.runs.errors import StageFailed, StageStopped
from takd.stage import LossSpec, StageSpec
from takd.training.device import TrainingData
from takd.training.progress import REPORT_SECONDS, Hooks, Progress, diverged
from takd.training.schedules import learning_rate
from takd.training.streams import epoch_order

_KERNEL = "takd.training.mlp_kernel"  # imported when needed: numba takes half a second
_LEAST_PER_THREAD = 4  # networks
_LOOK_SECONDS = 0.02  # between looks at which networks are done
_SLICE_SECONDS = 0.05  # of compiled work between two looks at the wish to stop
_ORDERS_BYTES = 2**24  # of batch orders kept for the networks that follow
_PER_STEP = 1e-4  # seconds, until the first slice has been measured


@dataclass(frozen=True)
class Pupil:
    """One network of the batch: trained in place; `answers` are its teachers' logits, (N, classes) each.

    `progress` is where it stands and is carried on.
    """

    network: nn.Module
    stage: StageSpec
    data: TrainingData
    answers: Sequence[Tensor]
    hooks: Hooks
    progress: Progress


def fits(stage: StageSpec, device: str) -> bool:
    """Whether the compiled epoch can train this stage: 64-h-C on the CPU, images as they are, its two losses. Without
    numba it can train nothing."""
    if importlib.util.find_spec("numba") is None:
        return False
    small = family_of(stage.network) == "mlp" and device == "cpu"
    return small and compiled(stage)


def train_mlps(
    pupils: Sequence[Pupil], threads: int | None = None, done: Callable[[int], None] = lambda _: None
) -> dict[int, StageFailed]:
    """Train networks that share images, network and recipe (not labels, teachers, T or lam) to the end of the recipe.

    `threads` (default: one per core this process may use) share the networks; the compiled epochs need no lock of
    Python's. `done` is called with the position of each network that is finished, in the calling thread, while others
    are still trained. Returns the failures by position: a loss that is no longer finite ends that network only. Raises
    StageStopped when a hook asks to stop, within one epoch of a few networks. A network's bits depend neither on its
    companions nor on the threads.
    """
    count = max(1, min(threads or _cores(), len(pupils) // _LEAST_PER_THREAD))
    failed: dict[int, StageFailed] = {}
    ended: SimpleQueue[tuple[int, StageFailed | None]] = SimpleQueue()

    def train_part(first: int) -> None:
        places = range(first, len(pupils), count)
        _train_in_turn(pupils[first::count], lambda k, failure: ended.put((places[k], failure)))

    def tell() -> None:
        while not ended.empty():
            place, failure = ended.get()
            if failure is None:
                done(place)
            else:
                failed[place] = failure

    warm_up()  # before any clock runs: the first networks of a process would take seconds that are not theirs
    # One thread per product: they are small, and BLAS threads that wait for each other cost ten times the work.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(count, "mlp-batch") as pool:
        parts = [pool.submit(train_part, first) for first in range(count)]
        while wait(parts, _LOOK_SECONDS).not_done:
            tell()
        tell()
        for part in parts:
            part.result()
    return failed


def warm_up() -> None:
    """Compile the kernels, or load them where this machine has compiled them before."""
    kernel = importlib.import_module(_KERNEL)
    one, flat, image = np.zeros(1, np.int64), np.zeros((1, 1 + 1 + 2 + 2), np.float32), np.zeros((1, 1), np.float32)
    table, number = np.full((1, 1, 2), 0.5, np.float32), np.ones(1, np.float32)
    state, seen = (1, 1, flat, flat.copy()), (np.zeros((1, 1, kernel.SUMS)), np.zeros((1, 1, 2)))
    taught = (table, image, one, number, number, number)
    kernel.train_epochs(
        one, image, one[None, None], one[None], *taught, number[None], 0.9, 0.0, *state, image, one, *seen
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _train_in_turn(pupils: Sequence[Pupil], ended: Callable[[int, StageFailed | None], None]) -> None:
    """A few networks at a time to their end, so that the first ones are done soon."""
    batch, end = _Batch(pupils), pupils[0].stage.recipe.last
    left = list(range(len(pupils)))
    while left:
        epoch = pupils[left[0]].progress.epochs  # checkpoints may be of different epochs
        alike = [k for k in left if pupils[k].progress.epochs == epoch]
        networks, epochs = batch.slice_of(len(alike), end - epoch)
        chosen = alike[:networks]
        if pupils[chosen[0]].hooks.stop():
            raise StageStopped(f"stopped in epoch {epoch + 1} of {end}")
        failures = batch.train(chosen, epoch, epochs) if epochs else {}
        for k in chosen:
            if k in failures or pupils[k].progress.epochs == end:
                left.remove(k)
                ended(k, failures.get(k))


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
        self.ce_weights, self.kl_weights = np.array([_weights(pupil) for pupil in pupils], np.float32).T.copy()
        self.batch = min(self.recipe.batch, len(self.pixels))
        self.steps = len(self.pixels) // self.batch
        self.step_seconds, self.last_report = _PER_STEP, 0.0

        @lru_cache(_ORDERS_BYTES // (8 * len(self.pixels)))
        def order(seed: int, epoch: int) -> np.ndarray:
            return epoch_order(len(self.pixels), seed, self.name, epoch).numpy()

        self.order = order

    def slice_of(self, networks: int, epochs: int) -> tuple[int, int]:
        """(networks, epochs) to train between two looks at the wish to stop."""
        fitting = max(1, int(_SLICE_SECONDS / (self.steps * self.step_seconds)))
        return max(1, min(networks, fitting // max(1, epochs))), min(epochs, fitting)

    def train(self, chosen: list[int], epoch: int, epochs: int) -> dict[int, StageFailed]:
        """Some epochs of some of the networks: train, validate, write their rows; the failures."""
        began = time.perf_counter()
        recipe, steps, span = self.recipe, self.steps, range(epoch, epoch + epochs)
        all_steps = steps * recipe.epochs
        rates = [
            [learning_rate(recipe.schedule, recipe.lr, now * steps + i, all_steps) for i in range(steps)]
            for now in span
        ]
        sums = np.zeros((epochs, len(self.pupils), self.kernel.SUMS))
        checked = np.zeros((epochs, len(self.pupils), 2))
        self.kernel.train_epochs(
            np.array(chosen),
            self.pixels,
            self._orders(chosen, span),
            self.labels,
            *self.softened.tables,
            self.softened.rows,
            self.temperatures,
            self.ce_weights,
            self.kl_weights,
            np.array(rates, np.float32),
            recipe.momentum,
            recipe.weight_decay,
            self.batch,
            self.hidden,
            self.weights,
            self.velocities,
            *self.validation,
            sums,
            checked,
        )
        seconds = (time.perf_counter() - began) / (len(chosen) * epochs)
        self.step_seconds = seconds / steps
        self._report(chosen, span.stop, seconds)
        failed: dict[int, StageFailed] = {}
        for k in chosen:
            finite = np.isfinite(sums[:, k]).all(1) & np.isfinite(checked[:, k]).all(1)
            for i in range(epochs if finite.all() else int(finite.argmin())):
                self._write(k, epoch + i, sums[i, k].tolist(), checked[i, k].tolist(), rates[i][-1], seconds)
            try:
                if not finite.all():
                    raise diverged(epoch + int(finite.argmin()), recipe.lr)
                self.pupils[k].hooks.epoch_done(self.pupils[k].progress)
            except StageFailed as error:  # ends this network only
                failed[k] = error
        return failed

    def _orders(self, chosen: list[int], span: range) -> np.ndarray:
        """(epochs, networks, N): how each network visits the images. Those of one seed do it alike."""
        seeds = [self.pupils[k].stage.seed for k in chosen]
        return np.stack([np.stack([self.order(seed, epoch) for seed in seeds]) for epoch in span])

    def _write(self, k: int, epoch: int, sums: list[float], checked: list[float], rate: float, seconds: float) -> None:
        (loss, ce, kl, right, _), (correct, validation_loss) = sums, checked
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
                "images_per_second": images / seconds,
                "seconds": progress.seconds + seconds,  # this network's share of the time of all
            }
        )

    def _report(self, chosen: list[int], epoch: int, seconds: float) -> None:
        now = time.perf_counter()
        if now - self.last_report > REPORT_SECONDS:
            self.last_report = now
            for k in chosen:
                self.pupils[k].hooks.report(
                    {
                        "epoch": epoch,
                        "epochs": self.recipe.last,
                        "step": self.steps,
                        "steps": self.steps,
                        "images_per_second": self.steps * self.batch / seconds,
                    }
                )


class _Softened:
    """What the teachers say: a table per temperature and teacher, or mean of several, and each network's row in them
    (-1: no teacher)."""

    def __init__(self, pupils: Sequence[Pupil], classes: int, images: int) -> None:
        known: dict[tuple[object, ...], int] = {}
        self.rows = np.full(len(pupils), -1, np.int64)
        softened: list[Tensor] = []
        entropies: list[Tensor] = []
        for k, pupil in enumerate(pupils):
            if pupil.answers:
                temperature = _temperature(pupil.stage.loss)
                name = (*map(id, pupil.answers), temperature)
                if name not in known:
                    known[name] = len(softened)
                    logs = [torch.log_softmax(answers / temperature, dim=1) for answers in pupil.answers]
                    softened.append(torch.stack([log.exp() for log in logs]).mean(0))
                    entropies.append(torch.stack([(log.exp() * log).sum(1) for log in logs]).mean(0))
                self.rows[k] = known[name]
        if not softened:
            softened, entropies = [torch.zeros(images, classes)], [torch.zeros(images)]
        self.tables = torch.stack(softened).numpy(), torch.stack(entropies).numpy()


def _weights(pupil: Pupil) -> tuple[np.float32, np.float32]:
    """Of CE, and of the mean of the teachers' KL: all teachers of these losses weigh the same."""
    loss = pupil.stage.loss
    if loss.name == "kd":
        return np.float32(1) - np.float32(loss.lam), np.float32(loss.lam)
    settings = settings_for(loss, epochs=1, teachers=max(1, len(pupil.answers)))
    weights = state_at(loss, settings, 0)[0].weights
    return np.float32(weights["ce"]), np.float32(sum(float(w) for name, w in weights.items() if name != "ce"))


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
