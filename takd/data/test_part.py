"""The test images. Only takd.evaluation may import this module: nothing that trains or chooses may see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from takd.data.cache import read_arrays
from takd.data.loading import prepared
from takd.data.splits import split
from takd.stage import DataSpec

__test__ = False  # the name starts with test_, but pytest has nothing to collect here


def load_test(data: DataSpec, root: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Test images (N, H, W, C) uint8 and labels (N,) int64, whole and without label noise.

    The source's own test part, or the part carved from the training pool where the source has none (digits).
    Raises DataError like `load_training`.
    """
    dataset = prepared(data, root)
    if dataset.test:
        x, y = read_arrays(data.name, root, "train")
        carved = split(dataset, len(y), data.split_seed).test
        return x[carved], y[carved]
    x, y = read_arrays(data.name, root, "test")
    return np.array(x), np.array(y)
