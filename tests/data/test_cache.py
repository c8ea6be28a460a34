from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import struct
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from takd.data import cache
from takd.data.cache import digests, fingerprint, read_arrays
from takd.data.meta import DataError, data_root, read_meta
from takd.data.table import DATASETS

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def arrays(seed: int = 0, train: int = 12, test: int = 5) -> Arrays:
    g = np.random.default_rng(seed)
    x = g.integers(0, 256, (train + test, 4, 4, 3), dtype=np.uint8)
    y = g.integers(0, 3, train + test)
    return x[:train], y[:train], x[train:], y[train:]


def write(root: Path, seed: int = 0, label: str | None = None, expected: str | None = None) -> dict:
    return cache.write_cache("svhn", *arrays(seed), ("a", "b", "c"), root, label=label, expected_fingerprint=expected)


def leftovers(root: Path) -> list[str]:
    return [p.name for p in root.iterdir() if p.name.startswith(".")]


def test_data_root_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_DATA", str(tmp_path / "env"))
    assert data_root(tmp_path) == tmp_path
    assert data_root() == tmp_path / "env"
    monkeypatch.delenv("TAKD_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root() == tmp_path / ".cache" / "takd" / "data"


def test_digest_is_image_bytes_then_little_endian_label() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    assert digests(image, np.array([258])) == [hashlib.sha256(bytes(range(12)) + struct.pack("<q", 258)).digest()]


def test_fingerprint_by_hand() -> None:
    a, b, c = b"a" * 32, b"b" * 32, b"c" * 32
    assert fingerprint([b, a], [c]) == hashlib.sha256(a + b + b"|test|" + c).hexdigest()
    assert fingerprint([a, b], [c]) != fingerprint([a], [b, c])  # the separator keeps the parts apart


def test_order_of_the_source_does_not_matter(tmp_path: Path) -> None:
    train_x, train_y, test_x, test_y = arrays()
    train_x = np.concatenate([train_x, train_x[:2]])  # two samples occur twice
    train_y = np.concatenate([train_y, train_y[:2]])
    p, q = np.random.default_rng(1).permutation(14), np.random.default_rng(2).permutation(5)
    first = cache.write_cache("svhn", train_x, train_y, test_x, test_y, "abc", tmp_path / "1")
    second = cache.write_cache("svhn", train_x[p], train_y[p], test_x[q], test_y[q], "abc", tmp_path / "2")
    assert first == second
    for part in ("train", "test"):
        for one, two in zip(
            read_arrays("svhn", tmp_path / "1", part), read_arrays("svhn", tmp_path / "2", part), strict=True
        ):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("what", ["pixel", "label"])
def test_any_change_changes_the_fingerprint(tmp_path: Path, what: str) -> None:
    train_x, train_y, test_x, test_y = arrays()
    before = write(tmp_path / "1")["fingerprint"]
    if what == "pixel":
        test_x = test_x.copy()
        test_x[3, 1, 2, 0] ^= 1
    else:
        train_y = (train_y + (np.arange(12) == 7)) % 3
    after = cache.write_cache("svhn", train_x, train_y, test_x, test_y, "abc", tmp_path / "2")["fingerprint"]
    assert before != after


def test_round_trip(tmp_path: Path) -> None:
    meta = write(tmp_path, label="Houses")
    assert read_meta("svhn", tmp_path) == meta
    assert {k: meta[k] for k in ("schema", "name", "label", "class_names", "classes", "train", "test")} == {
        "schema": 1,
        "name": "svhn",
        "label": "Houses",
        "class_names": ["a", "b", "c"],
        "classes": 3,
        "train": 12,
        "test": 5,
    }
    train_x, train_y, test_x, test_y = arrays()
    for part, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        got_x, got_y = read_arrays("svhn", tmp_path, part)
        keys = digests(x, y)
        order = sorted(range(len(keys)), key=keys.__getitem__)
        np.testing.assert_array_equal(got_x, x[order])
        np.testing.assert_array_equal(got_y, y[order])
        assert (str(got_x.dtype), str(got_y.dtype)) == ("uint8", "int64")
        assert isinstance(got_x, np.memmap)
        assert not got_x.flags.writeable
    assert leftovers(tmp_path) == []


def test_empty_test_part(tmp_path: Path) -> None:
    train_x, train_y, _, _ = arrays()
    cache.write_cache("digits", train_x, train_y, train_x[:0], train_y[:0], "abc", tmp_path)
    x, y = read_arrays("digits", tmp_path, "test")
    assert x.shape == (0, 4, 4, 3)
    assert y.shape == (0,)


def test_absent_is_none_and_says_what_to_run(tmp_path: Path) -> None:
    assert read_meta("cifar10", tmp_path) is None
    with pytest.raises(DataError, match=r"python -m takd data prepare cifar10"):
        read_arrays("cifar10", tmp_path, "train")
    with pytest.raises(DataError, match=r"python -m takd data import PATH cats"):
        read_arrays("folder-cats", tmp_path, "train")


@pytest.mark.parametrize("name", ["../other", "a/b", "", ".hidden", "A", "x" * 61])
def test_names_stay_inside_the_cache(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot name a data set"):
        read_meta(name, tmp_path / "data")
    with pytest.raises(DataError, match="cannot name a data set"):
        cache.write_cache(name, *arrays(), "abc", tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_unexpected_fingerprint_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the published ones"):
        write(tmp_path, expected="0" * 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", ["float", "flat", "count", "label", "negative"])
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, bad: str) -> None:
    train_x, train_y, test_x, test_y = arrays()
    if bad == "float":
        train_x = train_x / 255
    elif bad == "flat":
        train_x = train_x.reshape(12, -1)
    elif bad == "count":
        train_y = train_y[:-1]
    else:
        train_y = train_y + (3 if bad == "label" else -3)
    with pytest.raises(DataError, match="svhn"):
        cache.write_cache("svhn", train_x, train_y, test_x, test_y, "abc", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stop", ["train_x", "test_y", "meta"])
def test_a_stop_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str) -> None:
    save = np.save

    def broken(file: Path, array: np.ndarray, **more: bool) -> None:
        assert read_meta("svhn", tmp_path) is None  # not visible while it grows
        if Path(file).stem == stop:
            raise OSError("No space left on device")
        save(file, array, **more)

    monkeypatch.setattr(cache.np, "save", broken)

    def broken_text(*args: object, **more: object) -> None:
        raise OSError("No space left on device")

    if stop == "meta":
        monkeypatch.setattr(cache.Path, "write_text", broken_text)
    with pytest.raises(DataError, match=r"No space left.*TAKD_DATA"):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_losing_a_race_keeps_the_first_copy(tmp_path: Path) -> None:
    write(tmp_path)
    inode = (tmp_path / "svhn" / "train_x.npy").stat().st_ino
    write(tmp_path)
    assert (tmp_path / "svhn" / "train_x.npy").stat().st_ino == inode
    assert leftovers(tmp_path) == []


def test_other_images_under_the_same_name_replace(tmp_path: Path) -> None:
    write(tmp_path, seed=0)
    x, _ = read_arrays("svhn", tmp_path, "train")
    kept = np.array(x)
    meta = write(tmp_path, seed=1)
    assert read_meta("svhn", tmp_path) == meta
    np.testing.assert_array_equal(x, kept)  # who has it open keeps reading the old one
    assert leftovers(tmp_path) == []


def test_a_damaged_copy_is_replaced(tmp_path: Path) -> None:
    meta = write(tmp_path)
    (tmp_path / "svhn" / "meta.json").write_text("{")
    write(tmp_path)
    assert read_meta("svhn", tmp_path) == meta


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"name": "other"},
        {"classes": 4},
        {"class_names": "abc"},
        {"fingerprint": "zz"},
        {"train": -1},
        {"test": True},
        {"label": None},
    ],
)
def test_meta_that_cannot_be_trusted(tmp_path: Path, change: dict) -> None:
    meta = write(tmp_path)
    (tmp_path / "svhn" / "meta.json").write_text(json.dumps(meta | change))
    with pytest.raises(DataError, match=r"damaged.*Delete"):
        read_meta("svhn", tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", "{", "\xff", "[" * 100_000])
def test_meta_that_is_no_object(tmp_path: Path, text: str) -> None:
    write(tmp_path)
    (tmp_path / "svhn" / "meta.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="damaged"):
        read_meta("svhn", tmp_path)


def test_missing_array_is_noticed_by_meta(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "svhn" / "test_y.npy").unlink()
    with pytest.raises(DataError, match=r"test_y\.npy is missing"):
        read_meta("svhn", tmp_path)


@pytest.mark.parametrize("kind", ["cut", "shape", "dtype", "objects"])
def test_damaged_arrays(tmp_path: Path, kind: str) -> None:
    write(tmp_path)
    file = tmp_path / "svhn" / "train_x.npy"
    if kind == "cut":
        os.truncate(file, file.stat().st_size - 1)
    elif kind == "shape":
        np.save(file, np.zeros((11, 4, 4, 3), np.uint8))
    elif kind == "dtype":
        np.save(file, np.zeros((12, 4, 4, 3), np.float32))
    else:
        np.save(file, np.array([{}] * 12, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="damaged"):
        read_arrays("svhn", tmp_path, "train")


def test_unknown_part(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train or test"):
        read_arrays("svhn", tmp_path, "validation")


def shared_loader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shared_cifar", SHARED / "cifar.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_published_cifar_fingerprints(name: str) -> None:
    if not (SHARED / "cifar.py").is_file():
        pytest.skip(f"no shared data in {SHARED}")
    loader = shared_loader()
    parts = [digests(*loader.load(name, part)[:2]) for part in ("train", "test")]
    assert [len(part) for part in parts] == [DATASETS[name].train_pool, 10_000]
    assert fingerprint(*parts) == DATASETS[name].fingerprint
