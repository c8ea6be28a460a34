"""Random views of training images, drawn from counters: a view depends on (seed, epoch, sample) and nothing else.

No generator state exists, so views do not depend on batch size, order, device or a restart in the middle.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PAD = 4  # pixels of zeros around the image before a crop of the original size

_WORD = 1 << 64
_GAMMA = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # splitmix64 (Steele, Lea, Flood 2014)


def views(batch: Tensor, kind: str, flip: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """The views of a batch (B, C, H, W) that `draws` (B,) describe, of the same shape, type and device.

    `kind` is flip, which mirrors left-right with probability 1/2, or crop-flip, which first shifts by -4..4 pixels each
    way and fills with zeros: give it normalised images, so that the filling is the mean colour.
    """
    if kind == "flip":
        return torch.where(flip[:, None, None, None], batch.flip(-1), batch)
    count, _, height, width = batch.shape
    padded = F.pad(batch, (PAD, PAD, PAD, PAD)).permute(0, 2, 3, 1)
    rows = torch.arange(height, device=batch.device) + down[:, None]  # (B, H) in the padded image
    cols = torch.arange(width, device=batch.device).expand(count, width)
    cols = torch.where(flip[:, None], width - 1 - cols, cols) + right[:, None]  # the crop is mirrored, not the source
    samples = torch.arange(count, device=batch.device)[:, None, None]
    # Whole pixels are gathered, so the result is channels-last in memory, as the training loop's batches are
    return padded[samples, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)


def draws(seed: int, epoch: int, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(flip bool, down int64, right int64), each (B,): whether to mirror, and the crop's corner, 0 to 2 * PAD.
    `indices` (B,) int64 are the samples' positions in the training part."""
    word = _hash(_key(seed, epoch), indices.to(torch.int64))
    corners = 2 * PAD + 1
    return (
        (word & 1).bool(),
        (_shift(word, 8) & 0xFFFFFF) % corners,
        (_shift(word, 32) & 0xFFFFFF) % corners,
    )


def _key(seed: int, epoch: int) -> int:
    """One 64-bit word for (seed, epoch): a round of splitmix64 after each."""
    return _mix((_mix((seed + _GAMMA) % _WORD) + epoch + _GAMMA) % _WORD)


def _mix(word: int) -> int:
    """The splitmix64 finaliser on a Python integer in [0, 2**64)."""
    for bits, factor in _MIX:
        word = (word ^ (word >> bits)) * factor % _WORD
    return word ^ (word >> 31)


def _hash(key: int, indices: Tensor) -> Tensor:
    """The same finaliser on int64 tensors, whose products wrap modulo 2**64 on every device."""
    word = indices * _signed(_GAMMA) + _signed(key)
    for bits, factor in _MIX:
        word = (word ^ _shift(word, bits)) * _signed(factor)
    return word ^ _shift(word, 31)


def _shift(word: Tensor, bits: int) -> Tensor:
    """Shift right filling with zeros; >> alone would copy the sign bit."""
    return (word >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    """The int64 with the same bits as an unsigned 64-bit word."""
    return word - _WORD if word >= _WORD // 2 else word
