"""How a student hears its teacher: frozen networks asked live, or their answers looked up."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from takd.answers import answers_file, answers_suffice, keeps_random
from takd.data.augment import draws, views
from takd.networks.table import build
from takd.runs.errors import StageFailed
from takd.runs.store import Store
from takd.stage import StageSpec
from takd.training.checkpoints import load_weights
from takd.training.device import TrainingData, on_device
from takd.training.fold import folded
from takd.training.predicting import View, as_they_are, predict
from takd.training.streams import stream_seed

TeacherLogits = Callable[[Tensor, Tensor], Tensor]
"""(sample index (B,), images (B, C, H, W) as the student sees them) -> teacher logits (B, classes)."""


@dataclass
class StoredTeacher:
    """Answers looked up by sample. `logits` (N, classes) belong to the views of one epoch and stay where they are in
    memory; `answers` gives those of another epoch (0-based), None where every epoch shows the same."""

    logits: Tensor
    answers: Callable[[int], Tensor] | None = None

    def begin_epoch(self, epoch: int) -> None:
        if self.answers is not None:
            self.logits.copy_(self.answers(epoch))

    def __call__(self, index: Tensor, _: Tensor) -> Tensor:
        return self.logits[index]


def begin_epoch(teachers: Sequence[TeacherLogits], epoch: int) -> None:
    """Let those teachers whose answers are looked up know which epoch (0-based) comes."""
    for teacher in teachers:
        if isinstance(teacher, StoredTeacher):
            teacher.begin_epoch(epoch)


def teachers_of(
    store: Store,
    stage: StageSpec,
    data: TrainingData,
    device: torch.device,
    bf16: bool,
    *,
    pupils: Mapping[str, int],
    live: bool = False,
) -> list[TeacherLogits]:
    """How this stage hears its teachers, in order: takd.answers has the rule, and `live` asks them for every batch all
    the same.

    `pupils` says how many stages of the run learn from each. How a student hears its teacher never depends on who else
    does: only whether answers are kept.
    """
    if live:
        return [live_teacher([load_teacher(store, key, device)], bf16) for key in stage.teachers]
    return [
        _stored_teacher(_Source(store, key, stage, data, device, bf16), pupils.get(key, 1)) for key in stage.teachers
    ]


def _stored_teacher(source: _Source, pupils: int) -> StoredTeacher:
    stage, data = source.stage, source.data
    if answers_suffice(stage):
        return StoredTeacher(source.on_images())
    empty = torch.zeros(len(data.train), stage.data.classes, device=source.device)
    if stage.recipe.augmentation == "flip":
        return StoredTeacher(empty, source.mirrored_or_not())
    return StoredTeacher(empty, lambda epoch: source.on_views(epoch, keeps_random(stage, pupils)))


def teacher_logits(
    store: Store, key: str, stage: StageSpec, data: TrainingData, device: torch.device, bf16: bool
) -> Tensor:
    """A teacher's logits (N, classes) on the training images as they are, computed once and kept beside the teacher."""
    return _Source(store, key, stage, data, device, bf16).on_images()


@dataclass
class _Source:
    """A teacher's answers for one student, from the store or asked now.

    They are rounded to float16 before first use, so the first student and the hundredth hear the same numbers,
    whether the teacher's stage is live or cached.
    """

    store: Store
    key: str
    stage: StageSpec
    data: TrainingData
    device: torch.device
    bf16: bool
    network: nn.Module | None = None

    def on_images(self) -> Tensor:
        return self._stored(answers_file(self.stage.data))

    def mirrored_or_not(self) -> Callable[[int], Tensor]:
        plain, mirrored = (
            self._stored(answers_file(self.stage.data, name), view)
            for name, view in (("", as_they_are), ("mirrored", lambda _, batch: batch.flip(-1)))
        )
        return lambda epoch: torch.where(self._draws(epoch)[0][:, None], mirrored, plain)

    def on_views(self, epoch: int, keep: bool) -> Tensor:
        kind = self.stage.recipe.augmentation
        flip, down, right = self._draws(epoch)

        def view(index: Tensor, batch: Tensor) -> Tensor:
            return views(batch, kind, flip[index], down[index], right[index])

        if not keep:
            return torch.from_numpy(self._ask(view).astype(np.float32)).to(self.device)
        return self._stored(answers_file(self.stage.data, f"{kind}/{self.stage.seed}/{epoch}"), view)

    def _draws(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        everything = torch.arange(len(self.data.train), device=self.device)
        return draws(stream_seed(self.stage.seed, "shared", "augment"), epoch, everything)

    def _stored(self, name: str, view: View = as_they_are) -> Tensor:
        raw = self.store.read_extra(self.key, name)
        if raw is None:
            buffer = io.BytesIO()
            np.save(buffer, self._ask(view))
            raw = buffer.getvalue()
            self.store.write_extra(self.key, name, raw)
        return _unpacked(raw, self.device)

    def _ask(self, view: View) -> np.ndarray:
        if self.network is None:
            self.network = folded(load_teacher(self.store, self.key, self.device))
        return predict(self.network, self.data.train, self.bf16, view).cpu().numpy().astype(np.float16)


@lru_cache(maxsize=4)
def _unpacked(raw: bytes, device: torch.device) -> Tensor:
    return torch.from_numpy(np.load(io.BytesIO(raw), allow_pickle=False).astype(np.float32)).to(device)


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
    return freeze(on_device(network, device))


def freeze(network: nn.Module) -> nn.Module:
    """A teacher: evaluation mode, no gradients, ever."""
    network.eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network


def live_teacher(networks: Sequence[nn.Module], bf16: bool) -> TeacherLogits:
    """Ask the frozen teacher for every batch: what the reference mode does."""
    (network,) = networks

    def logits(_: Tensor, images: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            answer = network(images).float()
        return answer.clone()  # a normal tensor: autograd refuses to keep inference tensors for the student's backward

    return logits
