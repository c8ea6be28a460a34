"""Training steps recorded once and replayed: on a GPU a step of a small network is mostly the launching of kernels.

A recorded step reads only tensors that stay where they are: an epoch's order, views and learning rates are copied into
tables, and a counter on the device says which row is next. Views come from counters (takd.data.augment), so no random
generator has to be known to the recording. Only `recording.CudaCapture` and the streams of `Branches` are CUDA's own;
the rest runs anywhere, and the tests replay it on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from takd.runs.errors import StageFailed, StageStopped
from takd.stage import StageSpec
from takd.training.device import Images, TrainingData
from takd.training.feed import Feed, hear_many
from takd.training.predicting import EVALUATION_BATCH
from takd.training.progress import REPORT_SECONDS, Hooks, Progress, diverged
from takd.training.recording import Capture, CaptureFailed, Recording, Unrecorded, kept, record
from takd.training.step import Loss, Step, epoch_row, full, loss_of_many, sgd_, side_by_side, zero_momenta
from takd.training.teachers import TeacherLogits

LOOK = 20  # steps between looks at the loss; each look waits for the device, so no more steps than these lie ahead
MOST_STREAMS = 16

Outcome = Progress | StageFailed


class Learners(Protocol):
    """K networks of one architecture trained side by side. `forward` maps images (K or 1, B, H, W, C) to logits
    (K, B, classes); `parameters` and `buffers` are what a step changes besides momenta."""

    @property
    def networks(self) -> Sequence[nn.Module]: ...

    @property
    def parameters(self) -> Sequence[Tensor]: ...

    @property
    def buffers(self) -> Sequence[Tensor]: ...

    def forward(self, images: Tensor) -> Tensor: ...

    def training(self, mode: bool) -> None: ...

    def update(self, momenta: Sequence[Tensor], rates: Tensor, stage: StageSpec) -> None: ...

    def pieces(self, tensors: Sequence[Tensor], k: int) -> list[Tensor]:
        """Network k's part of tensors that lie as `parameters` do."""

    def adopt(self) -> None:
        """Let the networks' own tensors be parts of these from now on."""


class Session:
    """K networks with all that their steps need, and the recordings of a step and of a validation."""

    def __init__(
        self,
        learners: Learners,
        stages: Sequence[StageSpec],
        data: Sequence[TrainingData],
        teachers: Sequence[Sequence[TeacherLogits]],
        progress: Sequence[Progress],
        bf16: bool,
    ) -> None:
        self.learners, self.bf16 = learners, bf16
        self.validation: Images = data[0].validation
        self.feed = Feed(stages, data)
        self.momenta = zero_momenta(learners.parameters, None)
        for k, each in enumerate(progress):
            if each.momentum is not None:
                for piece, value in zip(learners.pieces(self.momenta, k), each.momentum, strict=True):
                    piece.copy_(value)
        self.taught = [bool(own) for own in teachers]
        like = torch.zeros(0, dtype=full(learners.parameters[0]).dtype, device=self.feed.device)
        loss: Loss = loss_of_many(stages, [len(own) for own in teachers], like)
        self.heard = hear_many(teachers, len(self.feed.sources) == 1)
        self.step = Step(
            learners.forward,
            self.heard.ask,
            loss,
            lambda rates: learners.update(self.momenta, torch.as_tensor(rates), stages[0]),
            learners.parameters,
            bf16,
        )
        self.checked = torch.zeros(2, len(stages), dtype=torch.float64, device=self.feed.device)
        self.training: Recording = Unrecorded(self._one_step)
        self.validating: Recording = Unrecorded(self._validate)

    def record(self, capture: Capture, note: Callable[[str], None]) -> None:
        """Record both; raises CaptureFailed where a step cannot be. A validation that cannot be is called each time."""
        self.feed.begin_epoch(0)
        self.training = record(capture, self._one_step, self._state())
        try:
            self.validating = record(capture, self._validate, ())
        except CaptureFailed as error:
            note(f"the validation is not recorded ({error})")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Undo afterwards what steps do in between."""
        with kept(self._state()):
            yield

    def _state(self) -> list[Tensor]:
        return [*self.learners.parameters, *self.learners.buffers, *self.momenta, self.feed.position]

    def _one_step(self) -> None:
        self.learners.training(True)
        with counters_aside(self.learners.networks):
            self.step(*self.feed.take())

    @torch.no_grad()
    def _validate(self) -> None:
        self.learners.training(False)
        parts = []
        with torch.autocast(self.feed.device.type, torch.bfloat16, enabled=self.bf16):
            for start in range(0, len(self.validation), EVALUATION_BATCH):
                images = self.validation.pixels[None, start : start + EVALUATION_BATCH]
                parts.append(full(self.learners.forward(images)))
        logits, labels = torch.cat(parts, 1), self.validation.labels
        self.checked[0].copy_((logits.argmax(2) == labels).double().mean(1))
        self.checked[1].copy_(torch.stack([F.cross_entropy(each, labels) for each in logits]))

    def close(self) -> None:
        """Free what was recorded."""
        self.training.close()
        self.validating.close()
        for parameter in self.learners.parameters:
            parameter.grad = None


@contextmanager
def counters_aside(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Batch norm without its counters of batches: with a fixed momentum nobody reads them, and each is a launch."""
    norms = [norm for network in networks for norm in _norms(network)]
    counters = [norm.num_batches_tracked for norm in norms]
    for norm in norms:
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, counter in zip(norms, counters, strict=True):
            norm.num_batches_tracked = counter


class Branches:
    """K ordinary networks. On CUDA each runs on a stream of its own, which a recording keeps as a parallel branch:
    autograd walks every branch backwards on the stream it came by."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.networks = networks
        self.each = [list(network.parameters()) for network in networks]
        self.parameters = [parameter for own in self.each for parameter in own]
        self.buffers = [buffer for network in networks for buffer in network.buffers()]
        self.device = self.parameters[0].device
        alone = len(networks) == 1 or self.device.type != "cuda"
        self.streams = [] if alone else [torch.cuda.Stream(self.device) for _ in networks[:MOST_STREAMS]]

    def forward(self, images: Tensor) -> Tensor:
        batches = [images[min(k, len(images) - 1)].permute(0, 3, 1, 2) for k in range(len(self.networks))]
        if not self.streams:
            return side_by_side([network(batch) for network, batch in zip(self.networks, batches, strict=True)])
        here = torch.cuda.current_stream(self.device)
        for stream in self.streams:
            stream.wait_stream(here)
            images.record_stream(stream)
        answers = []
        for k, (network, batch) in enumerate(zip(self.networks, batches, strict=True)):
            with torch.cuda.stream(self.streams[k % len(self.streams)]):
                answers.append(network(batch))
        for stream in self.streams:
            here.wait_stream(stream)
        for answer in answers:
            answer.record_stream(here)
        return torch.stack(answers)

    def training(self, mode: bool) -> None:
        for network in self.networks:
            network.train(mode)

    def update(self, momenta: Sequence[Tensor], rates: Tensor, stage: StageSpec) -> None:
        if len(rates) == 1:
            sgd_(self.parameters, momenta, rates, stage.recipe)
            return
        for k, own in enumerate(self.each):
            sgd_(own, self.pieces(momenta, k), rates[k : k + 1], stage.recipe)

    def pieces(self, tensors: Sequence[Tensor], k: int) -> list[Tensor]:
        each = len(self.each[0])
        return list(tensors[k * each : (k + 1) * each])

    def adopt(self) -> None: ...


def prepare(build: Callable[[], Session], capture: Capture, note: Callable[[str], None]) -> Session:
    """A session whose step is recorded; raises CaptureFailed, with all networks as they were."""
    try:
        session = build()
    except Exception as error:
        raise CaptureFailed.because(error) from error
    session.record(capture, note)
    return session


def train_recorded(
    session: Session, hooks: Sequence[Hooks], progress: Sequence[Progress], epochs: int, started: float
) -> list[Outcome]:
    """Train all networks of a session from the epoch they stand at to `epochs`, carrying `progress` on in place.

    A network whose loss is no longer finite ends with a StageFailed and the others go on. Raises StageStopped when a
    hook asks to stop: asked before every step, but the device may still have up to LOOK recorded steps to do. The time
    since `started` (time.perf_counter) is shared out evenly among the networks.
    """
    run = _Run(session, hooks, progress, started, started, {})
    for epoch in range(progress[0].epochs, epochs):
        run.train(epoch)
        run.write(epoch)
        if len(run.failed) == len(progress):
            break
    return [run.failed.get(k, each) for k, each in enumerate(progress)]


@dataclass
class _Run:
    session: Session
    hooks: Sequence[Hooks]
    progress: Sequence[Progress]
    lap_began: float
    epoch_began: float
    failed: dict[int, StageFailed]
    last_report: float = 0.0

    def train(self, epoch: int) -> None:
        """The steps of one epoch."""
        feed = self.session.feed
        stops = list({id(each.stop): each.stop for each in self.hooks}.values())
        self.epoch_began = time.perf_counter()
        feed.begin_epoch(epoch)
        self.session.heard.begin_epoch(epoch)
        self.session.step.begin_epoch()
        for number in range(feed.steps):
            if any(stop() for stop in stops):
                raise StageStopped(f"stopped in epoch {epoch + 1} of {feed.stages[0].recipe.last}")
            self.session.training.replay()
            if number % LOOK == LOOK - 1:
                losses = self.session.step.totals["loss"].tolist()
                self._look(epoch, losses)
                if time.perf_counter() - self.last_report > REPORT_SECONDS:
                    self.last_report = time.perf_counter()
                    self._report(epoch, number + 1, losses)

    def write(self, epoch: int) -> None:
        """Validate, and write the rows of those that have not failed."""
        session, feed = self.session, self.session.feed
        totals = {name: total.tolist() for name, total in session.step.totals.items()}
        self._look(epoch, totals["loss"])
        training_seconds = self._share(self.epoch_began)
        session.validating.replay()
        count_batches(session.learners.networks, feed.steps)
        accuracies, losses = session.checked.tolist()
        lap, self.lap_began = self._share(self.lap_began), time.perf_counter()
        for k, progress in enumerate(self.progress):
            if k in self.failed:
                continue
            row = epoch_row(
                epoch,
                {name: values[k] for name, values in totals.items() if name != "kl" or session.taught[k]},
                feed.steps,
                feed.batch,
                validation=(accuracies[k], losses[k]),
                rate=feed.last_rates[k],
                training_seconds=training_seconds,
                seconds=progress.seconds + lap,
            )
            progress.rows.append(row)
            progress.momentum = session.learners.pieces(session.momenta, k)
            try:
                self.hooks[k].epoch_done(progress)
            except StageFailed as error:  # ends this network only
                self.failed[k] = error

    def _look(self, epoch: int, losses: Sequence[float]) -> None:
        for k, loss in enumerate(losses):
            if k not in self.failed and not math.isfinite(loss):
                self.failed[k] = diverged(epoch, self.session.feed.stages[k].recipe.lr)

    def _report(self, epoch: int, done: int, losses: Sequence[float]) -> None:
        feed = self.session.feed
        for k, hooks in enumerate(self.hooks):
            hooks.report(
                {
                    "epoch": epoch + 1,
                    "epochs": feed.stages[k].recipe.last,
                    "step": done,
                    "steps": feed.steps,
                    "loss": losses[k] / done,
                    "images_per_second": done * feed.batch / self._share(self.epoch_began),
                }
            )

    def _share(self, since: float) -> float:
        """Each network's part of the time since then."""
        return (time.perf_counter() - since) / len(self.hooks)


def count_batches(networks: Sequence[nn.Module], steps: int) -> None:
    """Give batch norms the counts that steps with `counters_aside` left out."""
    counters = [norm.num_batches_tracked for network in networks for norm in _norms(network)]
    if counters:
        torch._foreach_add_([counter for counter in counters if counter is not None], steps)


def _norms(network: nn.Module) -> list[_BatchNorm]:
    norms = (module for module in network.modules() if isinstance(module, _BatchNorm))
    return [norm for norm in norms if norm.momentum and norm.num_batches_tracked is not None]
