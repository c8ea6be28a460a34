"""The MLP ladder for 8x8 digits: one hidden layer, 64-h-classes."""

from __future__ import annotations

from torch import nn

from takd.networks.staged import Staged, staged


def mlp(size: int, classes: int) -> Staged:
    """Build 64 -> `size` -> `classes` with ReLU, for images (B, 1, 8, 8); its one stage is the hidden layer."""
    return staged(
        [nn.Flatten(), nn.Linear(64, size), nn.ReLU(inplace=True), nn.Linear(size, classes)],
        ends=[2],
    )
