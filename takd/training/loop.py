"""The one training loop: a network, images, a recipe and maybe frozen teachers go in; rows and weights come out."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from takd.data.augment import augment
from takd.methods.losses import ce_loss, kd_loss
from takd.runs.errors import StageFailed, StageStopped
from takd.stage import LossSpec, StageSpec
from takd.training.device import TrainingData
from takd.training.predicting import accuracy_and_loss
from takd.training.progress import Hooks, Progress
from takd.training.schedules import learning_rate
from takd.training.streams import epoch_order, stream_seed
from takd.training.teachers import TeacherLogits

FINITE_CHECK = 20  # steps between looks at the loss: each look waits for a GPU
REPORT_SECONDS = 0.5


def train(
    network: nn.Module,
    stage: StageSpec,
    data: TrainingData,
    teacher: TeacherLogits | None,
    *,
    bf16: bool,
    hooks: Hooks,
    progress: Progress | None = None,
) -> Progress:
    """Train `network` in place for the epochs that are missing and return the progress.

    Raises StageStopped when `hooks.stop()` turns true (within one batch) and StageFailed when the loss is no longer
    finite. The same stage, device and torch give the same bits whether or not the run was interrupted in between:
    order, augmentation and learning rate depend on the epoch number, not on history.
    """
    recipe, device = stage.recipe, data.train.pixels.device
    progress = progress or Progress()
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
        fused=True,
    )
    _restore_momentum(optimiser, network, progress)
    images = len(data.train)
    batch = min(recipe.batch, images)
    steps_per_epoch = images // batch  # a last, smaller batch is left out: the order changes every epoch
    steps = steps_per_epoch * recipe.epochs
    earlier, started, last_report = progress.seconds, time.perf_counter(), 0.0
    for epoch in range(progress.epochs, recipe.epochs):
        network.train()
        order = epoch_order(images, stage.seed, stage.network, epoch).to(device)
        augment_seed = stream_seed(stage.seed, "shared", "augment")
        totals: dict[str, Tensor] = {}
        correct = torch.zeros((), device=device)
        epoch_started, rate = time.perf_counter(), recipe.lr
        for step in range(steps_per_epoch):
            if hooks.stop():
                raise StageStopped(f"stopped in epoch {epoch + 1} of {recipe.epochs}")
            index = order[step * batch : (step + 1) * batch]
            labels = data.train.labels[index]
            pixels = data.train.batch(index)
            if recipe.augmentation != "none":
                pixels = augment(pixels, recipe.augmentation, augment_seed, epoch, index)
            rate = learning_rate(recipe.schedule, recipe.lr, epoch * steps_per_epoch + step, steps)
            for group in optimiser.param_groups:
                group["lr"] = rate
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = network(pixels)
            terms = _terms(stage.loss, logits.float(), labels, None if teacher is None else teacher(index, pixels))
            optimiser.zero_grad(set_to_none=True)
            terms["loss"].backward()
            optimiser.step()
            for name, value in terms.items():
                totals[name] = totals[name] + value.detach() if name in totals else value.detach()
            correct += (logits.detach().argmax(1) == labels).sum()
            if step % FINITE_CHECK == FINITE_CHECK - 1:
                _require_finite(totals["loss"], epoch, recipe.lr)
                now = time.perf_counter()
                if now - last_report > REPORT_SECONDS:
                    last_report = now
                    hooks.report(
                        {
                            "epoch": epoch + 1,
                            "epochs": recipe.epochs,
                            "step": step + 1,
                            "steps": steps_per_epoch,
                            "loss": float(terms["loss"].detach()),
                            "images_per_second": (step + 1) * batch / (now - epoch_started),
                        }
                    )
        _require_finite(totals["loss"], epoch, recipe.lr)
        training_time = time.perf_counter() - epoch_started
        accuracy, loss = accuracy_and_loss(network, data.validation, bf16)
        progress.rows.append(
            {
                "epoch": epoch + 1,
                "loss": float(totals["loss"]) / steps_per_epoch,
                "loss_ce": float(totals["ce"]) / steps_per_epoch,
                "loss_kl": float(totals["kl"]) / steps_per_epoch if "kl" in totals else 0.0,
                "train_acc": float(correct) / (steps_per_epoch * batch),
                "val_acc": accuracy,
                "val_loss": loss,
                "lr": rate,
                "images_per_second": steps_per_epoch * batch / training_time,
                "seconds": earlier + time.perf_counter() - started,
            }
        )
        progress.momentum = [optimiser.state[p]["momentum_buffer"] for p in network.parameters()]
        hooks.epoch_done(progress)
    return progress


def _terms(loss: LossSpec, logits: Tensor, labels: Tensor, teacher_logits: Tensor | None) -> dict[str, Tensor]:
    if teacher_logits is None:
        return ce_loss(logits, labels)
    assert loss.temperature is not None
    return kd_loss(logits, labels, teacher_logits, temperature=loss.temperature, lam=loss.lam)


def _restore_momentum(optimiser: torch.optim.SGD, network: nn.Module, progress: Progress) -> None:
    if progress.momentum is not None:
        for parameter, buffer in zip(network.parameters(), progress.momentum, strict=True):
            # In the parameter's own memory layout: the fused step walks both side by side, and a contiguous buffer
            # beside channels-last weights would reach every weight with another one's momentum.
            optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter.detach()).copy_(buffer)


def _require_finite(total: Tensor, epoch: int, lr: float) -> None:
    if not torch.isfinite(total):
        raise StageFailed(
            "diverged",
            f"The loss became infinite or not a number in epoch {epoch + 1}. The usual cause is a learning rate that "
            f"is too high for this network (here {lr:g}) or a very high temperature; try a smaller temperature.",
        )
