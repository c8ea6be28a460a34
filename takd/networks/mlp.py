"""The MLP ladder for 8x8 digits: one hidden layer, 64-h-classes."""

from __future__ import annotations

from torch import nn


def mlp(size: int, classes: int) -> nn.Sequential:
    """Build 64 -> `size` -> `classes` with ReLU, for images (B, 1, 8, 8)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, size), nn.ReLU(inplace=True), nn.Linear(size, classes))
