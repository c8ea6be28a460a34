"""The arrays one training learns from: training part, label noise, validation part, channel statistics.

numpy only. Test images are not reachable from here; see `test_part.py`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from takd.data.cache import read_arrays
from takd.data.catalogue import find_dataset
from takd.data.meta import DataError, not_prepared
from takd.data.splits import split
from takd.data.table import Dataset
from takd.stage import DataSpec

_CHUNK = 4096  # images summed at once, to keep memory flat


@dataclass(frozen=True)
class TrainingArrays:
    """What a stage may look at while it trains.

    Images are (N, H, W, C) uint8, labels (N,) int64. `train_y` carries the label noise, `clean_y` does not.
    `mean` and `std` have one float per channel, of the training images divided by `scale` (255; 16 for digits), so
    a network reads (image / scale - mean) / std.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    clean_y: np.ndarray
    val_x: np.ndarray
    val_y: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float


def load_training(data: DataSpec, seed: int, root: Path | None = None) -> TrainingArrays:
    """The first `data.train_images` images of the training part behind `data.skip`, with `data.noise` of their labels
    made wrong.

    Raises DataError when the set is not prepared, is not the one `data` names, or has fewer images than asked.
    """
    dataset = prepared(data, root)
    x, y = read_arrays(data.name, root, "train")
    parts = split(dataset, len(y), data.split_seed)
    end = data.skip + data.train_images
    if data.skip < 0 or data.train_images < 1 or end > len(parts.train):
        raise DataError(
            f"{end} training images were asked of {data.name}, which has {len(parts.train)}; ask for fewer."
        )
    chosen = parts.train[data.skip : end]
    train_x, clean_y = x[chosen], y[chosen]
    scale = scale_of(data.name)
    mean, std = channel_statistics(train_x, scale)
    return TrainingArrays(
        train_x=train_x,
        train_y=noisy_labels(clean_y, data.classes, data.noise, seed),
        clean_y=clean_y,
        val_x=x[parts.validation],
        val_y=y[parts.validation],
        mean=mean,
        std=std,
        scale=scale,
    )


def prepared(data: DataSpec, root: Path | None = None) -> Dataset:
    """The row of a prepared data set that is the one `data` names; digits is prepared on first use.

    Raises DataError when it is not prepared, is damaged, or holds other images.
    """
    dataset, meta = find_dataset(data.name, root)
    if meta is None and data.name == "digits":
        from takd.data.sources import prepare  # only here: scikit-learn is slow to import

        prepare("digits", root)
        dataset, meta = find_dataset(data.name, root)
    if meta is None:
        raise not_prepared(data.name)
    if meta["fingerprint"] != data.fingerprint or meta["classes"] != data.classes:
        raise DataError(
            f"The images of {data.name} on this machine are not the ones this experiment was planned with "
            f"(fingerprint {meta['fingerprint'][:12]}..., planned {data.fingerprint[:12]}...). "
            "Bring the original images back, or plan the experiment again."
        )
    return dataset


def scale_of(name: str) -> float:
    """The brightest pixel value: digits count 0 to 16, everything else 0 to 255."""
    return 16.0 if name == "digits" else 255.0


def noisy_labels(labels: np.ndarray, classes: int, noise: float, seed: int) -> np.ndarray:
    """A copy of `labels` (N,) in which exactly round(noise * N) are another class, each other class equally likely.

    Everything is drawn before it is cut to size, so the labels wrong at a lower noise are wrong in the same way at a
    higher one. Raises DataError when noise is not in [0, 1] or there is no other class.
    """
    if not 0.0 <= noise <= 1.0 or (noise > 0 and classes < 2):
        raise DataError(f"Label noise {noise} with {classes} classes is not possible; use a share from 0 to 1.")
    digest = hashlib.sha256(f"{seed}/label-noise".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
    order = generator.permutation(len(labels))
    shift = generator.integers(1, max(classes, 2), size=len(labels))
    wrong = order[: round(noise * len(labels))]
    result = labels.copy()
    result[wrong] = (labels[wrong] + shift[wrong]) % classes
    return result


def channel_statistics(images: np.ndarray, scale: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and (population) standard deviation of each channel of images (N, H, W, C) uint8 divided by `scale`.

    Sums are of whole numbers, hence exact and the same on every machine. A constant channel gets standard
    deviation 1, so that dividing by it is harmless.
    """
    channels = images.shape[-1]
    total = [0] * channels
    squares = [0] * channels
    for start in range(0, len(images), _CHUNK):
        block = images[start : start + _CHUNK].astype(np.uint32)
        for c in range(channels):
            total[c] += int(block[..., c].sum(dtype=np.int64))
            squares[c] += int((block[..., c] ** 2).sum(dtype=np.int64))
    count = images[..., 0].size
    mean = tuple(t / count / scale for t in total)
    # count * squares - total**2 in Python integers: no cancellation
    std = tuple(math.sqrt(count * q - t * t) / count / scale or 1.0 for t, q in zip(total, squares, strict=True))
    return mean, std
