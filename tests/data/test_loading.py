from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from takd.data.cache import read_arrays, write_cache
from takd.data.catalogue import available_datasets
from takd.data.loading import channel_statistics, load_training, noisy_labels, scale_of
from takd.data.meta import DataError, data_root
from takd.data.splits import split
from takd.data.table import DATASETS
from takd.data.test_part import load_test
from takd.stage import DataSpec

DIGITS = DataSpec("digits", str(DATASETS["digits"].fingerprint), 10, 500, 0.0, 0)


@pytest.fixture
def folder() -> DataSpec:
    """A prepared folder set with its own test part: 40 training images (4 validate), 15 test images, 4 classes."""
    g = np.random.default_rng(0)
    x = g.integers(0, 256, (55, 8, 8, 3), dtype=np.uint8)
    y = np.arange(55) % 4
    meta = write_cache("folder-toy", x[:40], y[:40], x[40:], y[40:], "abcd")
    return DataSpec("folder-toy", meta["fingerprint"], 4, 36, 0.0, 0)


def test_digits_prepare_themselves_and_split_one_pool() -> None:
    arrays = load_training(DIGITS, 0)
    x, y = read_arrays("digits", None, "train")
    parts = split(DATASETS["digits"], 1797, 0)
    np.testing.assert_array_equal(arrays.train_x, x[parts.train[:500]])
    np.testing.assert_array_equal(arrays.train_y, y[parts.train[:500]])
    np.testing.assert_array_equal(arrays.val_x, x[parts.validation])
    np.testing.assert_array_equal(arrays.val_y, y[parts.validation])
    assert arrays.train_x.shape == (500, 8, 8, 1)
    assert arrays.train_x.max() == 16
    assert arrays.scale == 16
    assert len(arrays.val_y) == 397
    test_x, test_y = load_test(DIGITS)
    np.testing.assert_array_equal(test_x, x[parts.test])
    np.testing.assert_array_equal(test_y, y[parts.test])


def test_own_test_part_is_used_whole(folder: DataSpec) -> None:
    x, y = load_test(folder)
    stored_x, stored_y = read_arrays("folder-toy", None, "test")
    np.testing.assert_array_equal(x, stored_x)
    np.testing.assert_array_equal(y, stored_y)
    assert len(y) == 15
    arrays = load_training(folder, 0)
    assert (len(arrays.train_y), len(arrays.val_y)) == (36, 4)
    pixels = {image.tobytes() for image in np.concatenate([arrays.train_x, arrays.val_x])}
    assert len(pixels) == 40
    assert not pixels & {image.tobytes() for image in x}


def test_fewer_images_are_the_first_of_more() -> None:
    few, many = load_training(replace(DIGITS, train_images=100), 0), load_training(DIGITS, 0)
    np.testing.assert_array_equal(few.train_x, many.train_x[:100])
    np.testing.assert_array_equal(few.val_x, many.val_x)


@pytest.mark.parametrize("noise", [0.1, 0.2, 0.333, 0.4])
def test_noise_touches_exactly_the_asked_training_labels(noise: float) -> None:
    clean, noisy = load_training(DIGITS, 3), load_training(replace(DIGITS, noise=noise), 3)
    assert (noisy.train_y != noisy.clean_y).sum() == round(noise * 500)
    np.testing.assert_array_equal(noisy.clean_y, clean.train_y)
    np.testing.assert_array_equal(noisy.train_x, clean.train_x)
    np.testing.assert_array_equal(noisy.val_y, clean.val_y)
    assert noisy.train_y.min() >= 0
    assert noisy.train_y.max() <= 9
    np.testing.assert_array_equal(load_test(replace(DIGITS, noise=noise))[1], load_test(DIGITS)[1])


def test_noise_is_nested_and_drawn_from_the_seed() -> None:
    labels = np.arange(1000) % 10
    low, high = noisy_labels(labels, 10, 0.1, 7), noisy_labels(labels, 10, 0.2, 7)
    wrong = low != labels
    np.testing.assert_array_equal(high[wrong], low[wrong])
    assert (high != labels).sum() == 200
    np.testing.assert_array_equal(low, noisy_labels(labels, 10, 0.1, 7))
    other = noisy_labels(labels, 10, 0.1, 8)
    # Independent tenths share about 10 of 100 places
    assert ((other != labels) & wrong).sum() < 30
    np.testing.assert_array_equal(labels, np.arange(1000) % 10)  # the caller's array is left alone


def test_noise_is_uniform_over_the_other_classes() -> None:
    wrong = noisy_labels(np.full(9000, 4), 10, 1.0, 0)
    counts = np.bincount(wrong, minlength=10)
    assert counts[4] == 0
    assert (np.abs(np.delete(counts, 4) - 1000) < 150).all()  # five standard deviations


def test_noise_stream_never_changes() -> None:
    digest = hashlib.sha256(b"5/label-noise").digest()
    g = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))
    first = set(g.permutation(20)[:4])
    labels = np.zeros(20, dtype=np.int64)
    assert set(np.flatnonzero(noisy_labels(labels, 3, 0.2, 5))) == first


@pytest.mark.parametrize(("classes", "noise"), [(10, -0.1), (10, 1.1), (10, float("nan")), (1, 0.1)])
def test_impossible_noise(classes: int, noise: float) -> None:
    with pytest.raises(DataError, match="not possible"):
        noisy_labels(np.zeros(5, dtype=np.int64), classes, noise, 0)


def test_channel_statistics() -> None:
    x = np.random.default_rng(0).integers(0, 256, (5000, 4, 4, 3), dtype=np.uint8)  # more than one block
    x[..., 2] = 51
    mean, std = channel_statistics(x, 255.0)
    scaled = x / 255.0
    np.testing.assert_allclose(mean, scaled.mean((0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(std[:2], scaled.std((0, 1, 2))[:2], rtol=1e-9)
    assert std[2] == 1.0  # a constant channel: nothing to divide by
    assert channel_statistics(np.array([0, 16], np.uint8).reshape(2, 1, 1, 1), 16.0) == ((0.5,), (0.5,))


def test_statistics_see_only_the_used_training_images(folder: DataSpec) -> None:
    arrays = load_training(replace(folder, train_images=7), 0)
    assert (arrays.mean, arrays.std) == channel_statistics(arrays.train_x, 255.0)
    assert arrays.mean != load_training(folder, 0).mean
    assert arrays.scale == scale_of("cifar10") == 255


def test_not_prepared() -> None:
    data = DataSpec("cifar10", str(DATASETS["cifar10"].fingerprint), 10, 100, 0.0, 0)
    for load in (lambda: load_training(data, 0), lambda: load_test(data)):
        with pytest.raises(DataError, match=r"python -m takd data prepare cifar10"):
            load()


@pytest.mark.parametrize("change", [{"fingerprint": "0" * 64}, {"classes": 3}])
def test_other_images_than_planned(folder: DataSpec, change: dict) -> None:
    for load in (lambda d: load_training(d, 0), load_test):
        assert load(folder) is not None
        with pytest.raises(DataError, match="not the ones this experiment was planned with"):
            load(replace(folder, **change))


@pytest.mark.parametrize("count", [0, 37])
def test_more_images_than_there_are(folder: DataSpec, count: int) -> None:
    with pytest.raises(DataError, match="which has 36"):
        load_training(replace(folder, train_images=count), 0)


def test_unknown_name() -> None:
    data = DataSpec("mnist", "0" * 64, 10, 100, 0.0, 0)
    with pytest.raises(DataError, match=r"No data set is called 'mnist'.*digits"):
        load_training(data, 0)


def test_explicit_root_is_used(tmp_path: Path) -> None:
    load_training(DIGITS, 0, tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "digits" / "meta.json").is_file()
    assert not (data_root() / "digits").exists()
    assert available_datasets(tmp_path / "elsewhere")["digits"].fingerprint == DIGITS.fingerprint
