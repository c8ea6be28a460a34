"""What the machine offers, and the training images in the form the loop wants them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from takd.data.loading import load_training, noisy_labels
from takd.machine import machine
from takd.stage import DataSpec


def pick_device(wish: str = "auto") -> torch.device:
    """`auto` takes the first GPU if there is one."""
    if wish == "auto":
        wish = "cuda:0" if torch.cuda.is_available() else "cpu"
    return torch.device(wish)


def on_device(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on the device, its weights channels-last as the images are."""
    return network.to(device).to(memory_format=torch.channels_last)


def uses_bf16(device: torch.device, precision: str) -> bool:
    """bf16 only where the hardware multiplies it: elsewhere it is emulated and slower than fp32."""
    if precision != "mixed":
        return False
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in checks)


def environment(device: torch.device, bf16: bool) -> dict[str, str | int]:
    """What the numbers were made on: recorded with every result, never part of a stage's key."""
    found: dict[str, str | int] = {
        "device": device.type,
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "precision": "bf16" if bf16 else "fp32",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    if device.type == "cuda":
        found["device_name"] = torch.cuda.get_device_name(device)
    return {**machine(), **found}


@dataclass(frozen=True)
class Images:
    """Normalised images on the device, stored (N, H, W, C) so that an indexed batch is channels-last for free."""

    pixels: Tensor
    labels: Tensor

    def batch(self, index: Tensor) -> Tensor:
        """(B, C, H, W), channels-last in memory."""
        return self.pixels[index].permute(0, 3, 1, 2)

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class TrainingData:
    """The two parts a stage may look at while it learns. Test images are not here: see takd.evaluation."""

    train: Images
    validation: Images
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float


def normalise(
    pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...], scale: float, dtype: torch.dtype
) -> Tensor:
    """uint8 (N, H, W, C) to zero mean and unit deviation per channel."""
    out = torch.empty(pixels.shape, dtype=dtype, device=pixels.device)
    centre, spread = torch.tensor(mean, device=pixels.device), torch.tensor(std, device=pixels.device)
    for start in range(0, len(pixels), 4096):  # in slices: a float copy of everything at once would triple the memory
        part = pixels[start : start + 4096].float() / scale
        out[start : start + 4096] = ((part - centre) / spread).to(dtype)
    return out


@dataclass(frozen=True)
class _Prepared:
    train: Tensor
    validation: Tensor
    clean_y: np.ndarray
    val_y: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float


@lru_cache(maxsize=2)
def _prepared(data: DataSpec, device: torch.device, dtype: torch.dtype) -> _Prepared:
    arrays = load_training(data, seed=0)
    train, validation = (
        normalise(torch.from_numpy(np.ascontiguousarray(part)).to(device), arrays.mean, arrays.std, arrays.scale, dtype)
        for part in (arrays.train_x, arrays.val_x)
    )
    return _Prepared(train, validation, arrays.clean_y, arrays.val_y, arrays.mean, arrays.std, arrays.scale)


@lru_cache(maxsize=1)
def validation_data(data: DataSpec, device: torch.device) -> TrainingData:
    """The validation images in fp32, whatever training keeps its images in, with what normalises them; no training
    images. `data` without label noise."""
    arrays = load_training(data, seed=0)
    pixels = torch.from_numpy(np.ascontiguousarray(arrays.val_x)).to(device)
    numbers = (arrays.mean, arrays.std, arrays.scale)
    validation = Images(normalise(pixels, *numbers, torch.float32), torch.from_numpy(arrays.val_y).to(device))
    return TrainingData(Images(validation.pixels[:0], validation.labels[:0]), validation, *numbers)


def training_data(data: DataSpec, seed: int, device: torch.device, bf16: bool) -> TrainingData:
    """Load, normalise and keep a stage's images on the device; `seed` is what label noise is drawn from.

    Pixels stay in memory for the stages that follow: only labels differ between seeds.
    """
    kept = _prepared(data.clean, device, torch.bfloat16 if bf16 else torch.float32)
    labels = noisy_labels(kept.clean_y, data.classes, data.noise, seed)
    return TrainingData(
        Images(kept.train, torch.from_numpy(labels).to(device)),
        Images(kept.validation, torch.from_numpy(kept.val_y).to(device)),
        kept.mean,
        kept.std,
        kept.scale,
    )
