"""How a student hears its teacher: frozen networks asked live, or their stored answers looked up."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from takd.networks.table import build
from takd.runs.errors import StageFailed
from takd.runs.store import Store
from takd.stage import StageSpec, answers_file, answers_suffice
from takd.training.checkpoints import load_weights
from takd.training.device import TrainingData, on_device
from takd.training.predicting import predict

TeacherLogits = Callable[[Tensor, Tensor], Tensor]
"""(sample index (B,), images (B, C, H, W) as the student sees them) -> teacher logits (B, classes)."""


def teacher_of(
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
    return freeze(on_device(network, device))


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


def freeze(network: nn.Module) -> nn.Module:
    """A teacher: evaluation mode, no gradients, ever."""
    network.eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network


def live_teacher(networks: Sequence[nn.Module], bf16: bool) -> TeacherLogits:
    """Ask the frozen teacher for every batch: the reference mode, and the only one when views are random."""
    (network,) = networks

    def logits(_: Tensor, images: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            answer = network(images).float()
        return answer.clone()  # a normal tensor: autograd refuses to keep inference tensors for the student's backward

    return logits


def stored_teacher(logits: Tensor) -> TeacherLogits:
    """Look answers up: exact when every view of an image is the same (no augmentation)."""
    return lambda index, _: logits[index]
