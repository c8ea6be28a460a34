"""Train one network: images, a recipe and maybe frozen teachers go in; rows and weights come out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from takd.data.augment import draws, views
from takd.methods.losses.answers import Answers
from takd.networks.own_module import Own
from takd.runs.errors import StageStopped
from takd.stage import StageSpec
from takd.training.device import TrainingData
from takd.training.engine import Engine, reference_mode
from takd.training.fused import training_answers, training_forward
from takd.training.graphs import Branches, Session, prepare, train_recorded
from takd.training.objective import Objective, changes
from takd.training.predicting import accuracy_and_loss
from takd.training.progress import REPORT_SECONDS, Hooks, Progress, diverged
from takd.training.recording import Capture, CaptureFailed, CudaCapture
from takd.training.schedules import learning_rate
from takd.training.spare_memory import SparingStep
from takd.training.step import Step, epoch_row, sgd_, zero_momenta
from takd.training.streams import draws_in_layers, epoch_order, seed_layers, stream_seed
from takd.training.teachers import Teacher, TeacherLogits, begin_epoch
from takd.training.trainees import Trainee, parts

FINITE_CHECK = 20  # steps between looks at the loss: each look waits for a GPU


def train(
    network: nn.Module,
    stage: StageSpec,
    data: TrainingData,
    teachers: Sequence[Teacher],
    *,
    bf16: bool,
    hooks: Hooks,
    progress: Progress | None = None,
    engine: Engine | None = None,
    capture: Capture | None = None,
    spare: str = "",
) -> Progress:
    """Train `network` in place for the epochs that are missing and return the progress, carried on in place.

    On CUDA the whole step is recorded and replayed (`capture` can say how); where that fails `engine` gets a note and
    the plain loop does it, as on a CPU. `engine.name` then says which it was. `spare` (of memory.SPARED) takes less
    memory, step by step. Raises StageStopped when `hooks.stop()` turns true (within one batch; recorded, within
    graphs.LOOK) and StageFailed when the loss is no longer finite. On the CPU the same stage and torch give the same
    bits whether or not the run was interrupted in between: order, augmentation and learning rate depend on the epoch
    number, not on history.
    """
    forward = _forward(network, bf16, data.train.pixels.device)  # compiles, which is no part of this training's time
    started = time.perf_counter()
    progress, engine = progress or Progress(), engine or Engine()
    device = data.train.pixels.device
    if capture is None and device.type == "cuda" and not reference_mode() and not spare:
        capture = CudaCapture(device)
    if capture is not None and (why := why_step_by_step(network, stage)):
        engine.note(f"{stage.network} is trained step by step: {why}")
    elif capture is not None and progress.epochs < stage.recipe.last:
        heard = cast(Sequence[TeacherLogits], teachers)  # plain networks hear logits
        try:
            return _recorded(network, stage, data, heard, bf16, hooks, progress, engine, capture, started)
        except CaptureFailed as error:
            engine.note(f"{stage.network} is trained step by step: its step could not be recorded ({error})")
    engine.name = "reference" if reference_mode() else "loop"
    return _loop(network, forward, stage, data, teachers, bf16, hooks, progress, started, spare)


def why_step_by_step(network: nn.Module, stage: StageSpec) -> str:
    """Why the steps of this stage cannot be recorded; empty where they can."""
    if isinstance(network, Trainee):
        return "it trains more than one plain network"
    if isinstance(network, Own):
        return "nobody knows what its code does between two steps"
    if draws_in_layers(network):
        return "its layers draw, which has to follow from the epoch"
    return "its loss is not the same in every step" if changes(stage.loss) else ""


def _recorded(
    network: nn.Module,
    stage: StageSpec,
    data: TrainingData,
    teachers: Sequence[TeacherLogits],
    bf16: bool,
    hooks: Hooks,
    progress: Progress,
    engine: Engine,
    capture: Capture,
    started: float,
) -> Progress:
    def build() -> Session:
        return Session(Branches([network]), [stage], [data], [teachers], [progress], bf16)

    session = prepare(build, capture, engine.note)
    engine.name = capture.name
    try:
        (outcome,) = train_recorded(session, [hooks], [progress], stage.recipe.last, started)
    finally:
        session.close()
    if isinstance(outcome, Progress):
        return outcome
    raise outcome


def _loop(
    network: nn.Module,
    forward: Callable[[Tensor], Tensor | Answers],
    stage: StageSpec,
    data: TrainingData,
    teachers: Sequence[Teacher],
    bf16: bool,
    hooks: Hooks,
    progress: Progress,
    started: float,
    spare: str,
) -> Progress:
    recipe, device = stage.recipe, data.train.pixels.device
    parameters = list(network.parameters())
    momenta = zero_momenta(parameters, progress.momentum)
    objective, heard = Objective(stage, len(teachers), max(1, len(parts(network)))), list(teachers)
    kind_of_step = partial(SparingStep, way=spare) if spare else Step
    step = kind_of_step(
        forward,
        lambda index, images: [teacher(index, images) for teacher in heard],
        objective,
        lambda rate: sgd_(parameters, momenta, rate, recipe),
        parameters,
        bf16,
    )
    if objective.turns > 1:
        step.turns = [partial(objective.begin_turn, turn) for turn in range(objective.turns)]
    images, kind = len(data.train), recipe.augmentation
    batch = min(recipe.batch, images)
    steps = images // batch  # a last, smaller batch is left out: the order changes every epoch
    augment_seed = stream_seed(stage.seed, "shared", "augment")
    earlier, last_report = progress.seconds, 0.0
    for epoch in range(progress.epochs, recipe.last):
        network.train()
        seed_layers(stage.seed, stage.network, epoch, device)
        step.begin_epoch()
        epoch_began, rate = time.perf_counter(), recipe.lr
        objective.begin_epoch(epoch, steps)
        heard[:] = teachers if objective.heard is None else [teachers[objective.heard]]
        begin_epoch(heard, epoch)
        order = epoch_order(images, stage.seed, stage.network, epoch)[: steps * batch].to(device)
        drawn = () if kind == "none" else draws(augment_seed, epoch, order)
        for number in range(steps):
            if hooks.stop():
                raise StageStopped(f"stopped in epoch {epoch + 1} of {recipe.last}")
            objective.begin_step(number)
            part = slice(number * batch, (number + 1) * batch)
            index = order[part]
            pixels = data.train.batch(index)
            if drawn:
                flip, down, right = drawn
                pixels = views(pixels, kind, flip[part], down[part], right[part])
            rate = learning_rate(recipe.schedule, recipe.lr, epoch * steps + number, steps * recipe.epochs)
            terms = step(index, pixels, data.train.labels[index], rate)
            if number % FINITE_CHECK == FINITE_CHECK - 1:
                _require_finite(step.totals, epoch, recipe.lr)
                now = time.perf_counter()
                if now - last_report > REPORT_SECONDS:
                    last_report = now
                    hooks.report(
                        {
                            "epoch": epoch + 1,
                            "epochs": recipe.last,
                            "step": number + 1,
                            "steps": steps,
                            "loss": float(terms["loss"].detach()),
                            "images_per_second": (number + 1) * batch / (now - epoch_began),
                        }
                    )
        _require_finite(step.totals, epoch, recipe.lr)
        totals = {name: float(total) for name, total in step.totals.items()}
        training_seconds = time.perf_counter() - epoch_began
        progress.rows.append(
            epoch_row(
                epoch,
                totals,
                steps,
                batch,
                validation=accuracy_and_loss(network, data.validation, bf16),
                rate=rate,
                training_seconds=training_seconds,
                seconds=earlier + time.perf_counter() - started,
            )
        )
        progress.momentum = momenta
        hooks.epoch_done(progress)
    return progress


def _forward(network: nn.Module, bf16: bool, device: torch.device) -> Callable[[Tensor], Tensor | Answers]:
    """What is called on a batch while training, compiled where it is."""
    if isinstance(network, Trainee):
        return network.answers if reference_mode() else training_answers(network, bf16, device)
    return network if reference_mode() else training_forward(network, bf16, device)


def _require_finite(totals: dict[str, Tensor], epoch: int, lr: float) -> None:
    if not math.isfinite(float(totals["loss"])):
        raise diverged(epoch, lr)
