"""Which images are for training, validation and test: published, fixed by a seed, never overlapping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from takd.data.meta import DataError
from takd.data.table import Dataset


@dataclass(frozen=True)
class Split:
    """Positions (int64) in the canonical order of the source's training pool.

    `test` is empty where the source brings its own test part: that part is the test set.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(dataset: Dataset, pool: int, split_seed: int) -> Split:
    """Carve `pool` images: a permutation drawn from `split_seed`, first test, then validation, the rest to train.

    Raises DataError when nothing would be left to train on.
    """
    carved = dataset.test + dataset.validation
    if pool <= carved:
        raise DataError(
            f"{dataset.name} has {pool} images but {carved} are set aside for validation and test, so none are left "
            "to train on. Prepare the data set again."
        )
    order = np.random.Generator(np.random.PCG64(split_seed)).permutation(pool).astype(np.int64)
    return Split(train=order[carved:], validation=order[dataset.test : carved], test=order[: dataset.test])
