"""The final evaluation of a finished stage: the only code that reads test images."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from takd.data.test_part import load_test
from takd.evaluation.metrics import agreement, prediction_metrics
from takd.stage import DataSpec, StageSpec
from takd.training.device import Images, TrainingData, normalise, validation_data
from takd.training.predicting import predict
from takd.training.trainees import Every, Trainee


def evaluate(
    network: nn.Module, stage: StageSpec, data: TrainingData, teachers: Mapping[str, Tensor]
) -> tuple[dict[str, object], bytes]:
    """Metrics on the test part, and the test logits as `predictions.npz` bytes (float16).

    Where several answer (sub-models, heads, a cohort) the metrics are those of the main one, and `parts` holds a row
    for each: name, val_acc and the metrics on the test part.

    Always in fp32, whatever the training used: bf16 logits are so coarse that the two best classes tie on up to half
    a percent of the images. `teachers` maps a teacher's key to its test logits (N, classes).
    """
    images = test_images(stage.data, data, data.train.pixels.device)
    labels = images.labels.cpu()
    if isinstance(network, Trainee) and network.parts:
        every = predict(Every(network), images, bf16=False).cpu()
        validation = data.validation
        if validation.pixels.dtype != torch.float32:  # kept for training in bf16
            validation = validation_data(stage.data.clean, validation.pixels.device).validation
        checked = predict(Every(network), validation, bf16=False)
        logits = every[:, network.main].contiguous()
        result = prediction_metrics(logits, labels, stage.data.classes)
        result["parts"] = [
            {
                "name": name,
                "val_acc": float((checked[:, k].argmax(1) == validation.labels).double().mean()),
                **prediction_metrics(every[:, k].contiguous(), labels, stage.data.classes),
            }
            for k, name in enumerate(network.parts)
        ]
    else:
        every = None
        logits = predict(network, images, bf16=False).cpu()
        result = prediction_metrics(logits, labels, stage.data.classes)
    with_teachers = {key: agreement(logits, teacher) for key, teacher in teachers.items()}
    result["agreement"] = {key: value["agreement"] for key, value in with_teachers.items()}
    result["kl"] = {key: value["kl"] for key, value in with_teachers.items()}
    return result, pack_logits(logits, every)


def test_images(spec: DataSpec, data: TrainingData, device: torch.device) -> Images:
    """The test part, normalised like the training images."""
    return _test_images(spec.clean, data.mean, data.std, data.scale, device)


@lru_cache(maxsize=1)
def _test_images(
    data: DataSpec, mean: tuple[float, ...], std: tuple[float, ...], scale: float, device: torch.device
) -> Images:
    pixels, labels = load_test(data)
    return Images(
        normalise(torch.from_numpy(pixels).to(device), mean, std, scale, torch.float32),
        torch.from_numpy(labels).to(device),
    )


def pack_logits(logits: Tensor, every: Tensor | None = None) -> bytes:
    """Test logits (N, classes) as compressed float16; beside them those of `every` part, (N, parts, classes)."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {"logits": logits} if every is None else {"logits": logits, "parts": every}
    half: dict[str, Any] = {name: array.numpy().astype(np.float16) for name, array in arrays.items()}
    np.savez_compressed(buffer, **half)
    return buffer.getvalue()


def unpack_logits(raw: bytes) -> Tensor:
    """The inverse, as float32; raises ValueError on damage."""
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            return torch.from_numpy(archive["logits"].astype(np.float32))
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"These predictions cannot be read: {error}") from error
