from __future__ import annotations

import time
import urllib.error
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets

from takd.data import sources
from takd.data.cache import read_arrays
from takd.data.meta import DataError, read_meta
from takd.data.sources import DOWNLOADS, grey_to_rgb32, import_npz, prepare
from takd.data.table import DATASETS

CLASSES = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "fashion-mnist": "FashionMNIST",
    "svhn": "SVHN",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision asks the network through urllib; here that is unplugged."""

    def offline(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.URLError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr(sources, "_POLL", 0.01)


def shrink(monkeypatch: pytest.MonkeyPatch, name: str, **change: Any) -> None:
    monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], **change))


def toy(seed: int, count: int, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    g = np.random.default_rng(seed)
    return g.integers(0, 256, (count, side, side, 3), dtype=np.uint8), np.arange(count) % 10


def fake_cifar(root: Path, train: bool, download: bool) -> SimpleNamespace:
    assert download
    x, y = toy(int(train), 20 if train else 10)
    return SimpleNamespace(data=x, targets=y.tolist(), classes=[f"class {i}" for i in range(10)])


def test_digits_have_the_published_fingerprint(tmp_path: Path) -> None:
    seen: list[str] = []
    prepare("digits", tmp_path, lambda what, share: seen.append(what))
    meta = read_meta("digits", tmp_path)
    assert meta is not None
    assert meta["fingerprint"] == DATASETS["digits"].fingerprint
    assert (meta["train"], meta["test"], meta["classes"]) == (1797, 0, 10)
    x, _ = read_arrays("digits", tmp_path, "train")
    assert (x.shape, str(x.dtype), int(x.max())) == ((1797, 8, 8, 1), "uint8", 16)
    assert seen[-1] == "Digits 8x8 (built in) is ready"


@pytest.mark.parametrize("name", CLASSES)
def test_offline_names_the_files_and_their_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        prepare(name, tmp_path)
    for file in DOWNLOADS[name].files:
        assert str(tmp_path / "downloads" / file) in str(caught.value)
    assert "Check the network" in str(caught.value)
    assert read_meta(name, tmp_path) is None
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_offline_names_only_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / "train_32x32.mat").write_bytes(b"mine")
    with pytest.raises(DataError) as caught:
        prepare("svhn", tmp_path)
    assert str(folder / "test_32x32.mat") in str(caught.value)
    assert str(folder / "train_32x32.mat") not in str(caught.value)
    assert (folder / "train_32x32.mat").read_bytes() == b"mine"  # what the user put there is not ours to delete


@pytest.mark.parametrize("name", CLASSES)
def test_file_names_are_the_ones_torchvision_looks_for(name: str) -> None:
    reader = getattr(torchvision.datasets, CLASSES[name])
    if name == "svhn":
        expected = {reader.split_list[part][1] for part in ("train", "test")}
    elif name == "fashion-mnist":
        expected = {f"FashionMNIST/raw/{file}" for file, _ in reader.resources}
    else:
        expected = {reader.filename}
    assert set(DOWNLOADS[name].files) == expected


def test_a_broken_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(root: Path, train: bool, download: bool) -> None:
        (Path(root) / "cifar-10-python.tar.gz").write_bytes(b"half")
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", half)
    with pytest.raises(DataError, match=r"File not found or corrupted.*cifar-10-python\.tar\.gz"):
        prepare("cifar10", tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_growth_of_the_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float | None] = []

    def slow(root: Path, train: bool, download: bool) -> SimpleNamespace:
        if train:
            (Path(root) / "cifar-10-python.tar.gz").write_bytes(b"x" * 50)
            for _ in range(500):
                if 0.5 in shares:
                    break
                time.sleep(0.01)
        return fake_cifar(root, train, download)

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", slow)
    monkeypatch.setitem(DOWNLOADS, "cifar10", replace(DOWNLOADS["cifar10"], size=100))
    shrink(monkeypatch, "cifar10", train_pool=20, fingerprint=None)
    prepare("cifar10", tmp_path, lambda what, share: shares.append(share))
    assert 0.5 in shares
    assert shares[-1] == 1.0


def test_ready_sets_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []

    def counting(root: Path, train: bool, download: bool) -> SimpleNamespace:
        calls.append(train)
        return fake_cifar(root, train, download)

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", counting)
    shrink(monkeypatch, "cifar10", train_pool=20, fingerprint=None)
    prepare("cifar10", tmp_path)
    prepare("cifar10", tmp_path)
    assert calls == [True, False]
    (tmp_path / "cifar10" / "meta.json").write_text("damaged")
    prepare("cifar10", tmp_path)
    assert len(calls) == 4
    assert read_meta("cifar10", tmp_path) is not None


def test_images_that_are_not_the_published_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fake_cifar)
    shrink(monkeypatch, "cifar10", train_pool=20)
    with pytest.raises(DataError, match="not the published ones"):
        prepare("cifar10", tmp_path)
    assert read_meta("cifar10", tmp_path) is None


def test_cifar_classes_and_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets, "CIFAR100", fake_cifar)
    shrink(monkeypatch, "cifar100", train_pool=20, classes=10, fingerprint=None)
    prepare("cifar100", tmp_path)
    meta = read_meta("cifar100", tmp_path)
    assert meta is not None
    assert (meta["train"], meta["test"], meta["label"]) == (20, 10, "CIFAR-100")
    assert meta["class_names"][:2] == ["class 0", "class 1"]
    x, y = read_arrays("cifar100", tmp_path, "test")
    test_x, test_y = toy(0, 10)
    assert {(image.tobytes(), int(label)) for image, label in zip(x, y, strict=True)} == {
        (image.tobytes(), int(label)) for image, label in zip(test_x, test_y, strict=True)
    }


def test_fashion_mnist_is_padded_and_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = np.random.default_rng(0).integers(1, 256, (20, 28, 28), dtype=np.uint8)

    def fake(root: Path, train: bool, download: bool) -> SimpleNamespace:
        count = 20 if train else 4
        names = [str(i) for i in range(10)]
        return SimpleNamespace(data=torch.from_numpy(grey[:count]), targets=torch.arange(count) % 10, classes=names)

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fake)
    shrink(monkeypatch, "fashion-mnist", train_pool=20)
    prepare("fashion-mnist", tmp_path)
    x, _ = read_arrays("fashion-mnist", tmp_path, "train")
    assert x.shape == (20, 32, 32, 3)
    assert {image[2:30, 2:30, 1].tobytes() for image in x} == {image.tobytes() for image in grey}


def test_grey_to_rgb32_by_hand() -> None:
    grey = np.zeros((1, 28, 28), np.uint8)
    grey[0, 0, 27] = 9
    rgb = grey_to_rgb32(grey)
    assert rgb.shape == (1, 32, 32, 3)
    assert rgb[0, 2, 29].tolist() == [9, 9, 9]
    assert rgb.sum() == 27


def test_svhn_is_turned_to_channels_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = toy(0, 20)

    def fake(root: Path, split: str, download: bool) -> SimpleNamespace:
        count = {"train": 20, "test": 5}[split]
        return SimpleNamespace(data=x[:count].transpose(0, 3, 1, 2), labels=y[:count])

    monkeypatch.setattr(torchvision.datasets, "SVHN", fake)
    shrink(monkeypatch, "svhn", train_pool=20)
    prepare("svhn", tmp_path)
    stored, labels = read_arrays("svhn", tmp_path, "train")
    assert {(i.tobytes(), int(n)) for i, n in zip(stored, labels, strict=True)} == {
        (i.tobytes(), int(n)) for i, n in zip(x, y, strict=True)
    }
    assert len(read_arrays("svhn", tmp_path, "test")[1]) == 5


@pytest.mark.parametrize(
    ("name", "says"),
    [("mnist", "No published data set.*cifar10"), ("folder-cats", "has not been imported.*data import PATH cats")],
)
def test_unknown_names(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        prepare(name, tmp_path)


def save_npz(path: Path, **change: Any) -> Path:
    train_x, train_y = toy(1, 20)
    test_x, test_y = toy(0, 10)
    classes = np.array([str(i) for i in range(10)])
    fields = {"train_x": train_x, "train_y": train_y, "test_x": test_x, "test_y": test_y, "classes": classes} | change
    np.savez(path, **{name: value for name, value in fields.items() if value is not None})
    return path


def test_npz_gives_what_torchvision_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fake_cifar)
    shrink(monkeypatch, "cifar10", train_pool=20, fingerprint=None)
    prepare("cifar10", tmp_path / "a")
    meta = import_npz(save_npz(tmp_path / "x.npz"), "cifar10", tmp_path / "b")
    assert meta == read_meta("cifar10", tmp_path / "b")
    other = read_meta("cifar10", tmp_path / "a")
    assert other is not None
    assert meta["fingerprint"] == other["fingerprint"]


@pytest.mark.parametrize(
    "change",
    [{"classes": None}, {"train_y": None}, {"train_y": np.array([{}] * 20, dtype=object)}],
    ids=["no classes", "no labels", "objects"],
)
def test_npz_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict) -> None:
    shrink(monkeypatch, "cifar10", train_pool=20, fingerprint=None)
    with pytest.raises(DataError, match="cannot be read as an"):
        import_npz(save_npz(tmp_path / "x.npz", **change), "cifar10", tmp_path)
    assert read_meta("cifar10", tmp_path) is None


@pytest.mark.parametrize("kind", ["absent", "text", "npy", "folder"])
def test_not_an_npz(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.npz"
    if kind == "text":
        path.write_text("hello")
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(DataError, match="cannot be read as an"):
        import_npz(path, "cifar10", tmp_path)


def test_npz_with_other_images_or_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save_npz(tmp_path / "x.npz")
    with pytest.raises(DataError, match="50000 training images of 10 classes, but the files hold 20 of 10"):
        import_npz(file, "cifar10", tmp_path)
    shrink(monkeypatch, "cifar10", train_pool=20)
    with pytest.raises(DataError, match="not the published ones"):
        import_npz(file, "cifar10", tmp_path)
    assert read_meta("cifar10", tmp_path) is None
