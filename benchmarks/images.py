"""Small data sets of real CIFAR images where they are prepared, else of random ones, in a data folder of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from takd.data.cache import read_arrays, write_cache
from takd.data.catalogue import folder_dataset
from takd.data.meta import DataError
from takd.data.table import FOLDER_PREFIX, SPLIT_SEED
from takd.stage import DataSpec

TEST_IMAGES = 100  # the final evaluation is no part of an epoch


@dataclass(frozen=True)
class Source:
    """Where images come from (`prepared`, the user's data folder) and where the small sets are written (`folder`)."""

    prepared: Path
    folder: Path


def small_set(source: Source, classes: int, train: int, validation: int) -> tuple[DataSpec, str]:
    """A data set of `train` training and `validation` validation images (32 x 32) and what its images are.

    A tenth of an imported folder's images validates, so 10 * validation images are written; `train` may be at most
    nine times `validation`.
    """
    if train > 9 * validation:
        raise ValueError(f"{train} training images need at least {-(-train // 9)} validation images")
    pool = 10 * validation
    pixels, labels, what = _images(source.prepared, classes, pool + TEST_IMAGES)
    name = f"{FOLDER_PREFIX}bench-{classes}-{pool}"
    cut, names = len(labels) - TEST_IMAGES, [str(i) for i in range(classes)]
    meta = write_cache(name, pixels[:cut], labels[:cut], pixels[cut:], labels[cut:], names, source.folder)
    dataset = folder_dataset(meta)
    return DataSpec(name, str(dataset.fingerprint), classes, train, 0.0, SPLIT_SEED), what


def _images(prepared: Path, classes: int, count: int) -> tuple[np.ndarray, np.ndarray, str]:
    published = {10: "cifar10", 100: "cifar100"}.get(classes, "")
    try:
        parts = [read_arrays(published, prepared, part) for part in ("train", "test")]
    except DataError:
        parts = []
    if sum(len(labels) for _, labels in parts) >= count:
        pixels = np.concatenate([np.asarray(x) for x, _ in parts])
        labels = np.concatenate([np.asarray(y) for _, y in parts])
        chosen = np.random.default_rng(0).permutation(len(labels))[:count]
        return pixels[chosen], labels[chosen], published
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return pixels, draw.integers(0, classes, count), f"random images ({published or 'real ones'} not prepared)"
