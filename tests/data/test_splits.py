from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from takd.data.meta import DataError
from takd.data.splits import split
from takd.data.table import DATASETS

DIGITS, CIFAR = DATASETS["digits"], DATASETS["cifar10"]


@pytest.mark.parametrize("row", DATASETS.values(), ids=lambda row: row.name)
def test_parts_are_disjoint_and_cover_the_pool(row) -> None:
    parts = split(row, row.train_pool, 0)
    assert (len(parts.test), len(parts.validation)) == (row.test, row.validation)
    together = np.concatenate([parts.train, parts.validation, parts.test])
    np.testing.assert_array_equal(np.sort(together), np.arange(row.train_pool))
    assert together.dtype == np.int64


def test_first_test_then_validation_then_train() -> None:
    row = replace(DIGITS, test=2, validation=3)
    order = np.random.Generator(np.random.PCG64(5)).permutation(9)
    parts = split(row, 9, 5)
    assert [list(p) for p in (parts.test, parts.validation, parts.train)] == [
        list(order[:2]),
        list(order[2:5]),
        list(order[5:]),
    ]


def test_published_split_never_changes() -> None:
    parts = split(DIGITS, 1797, 0)
    assert [p[:3].tolist() for p in (parts.test, parts.validation, parts.train)] == [
        [360, 1773, 1482],
        [432, 1116, 1473],
        [745, 52, 338],
    ]


def test_seed_matters_and_repeats() -> None:
    one, two, other = split(CIFAR, 50_000, 0), split(CIFAR, 50_000, 0), split(CIFAR, 50_000, 1)
    np.testing.assert_array_equal(one.train, two.train)
    assert not np.array_equal(one.validation, other.validation)


def test_nothing_left_to_train_on() -> None:
    assert len(split(DIGITS, 1298, 0).train) == 1
    with pytest.raises(DataError, match="none are left"):
        split(DIGITS, 1297, 0)
