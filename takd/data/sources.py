"""Where published images come from: scikit-learn, torchvision, or an .npz file already on this machine.

Every reader ends in `write_cache`, which sorts the images, so it does not matter which of them was used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from takd.data.cache import write_cache
from takd.data.catalogue import is_ready
from takd.data.meta import DataError, data_root, not_prepared
from takd.data.table import DATASETS, Dataset

Progress = Callable[[str, float | None], None]  # what is happening, and the share done where it is known

_POLL = 0.5  # seconds between two looks at a growing download


@dataclass(frozen=True)
class Raw:
    """Images as a source gives them: uint8 (N, H, W, C), integer labels (N,)."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Download:
    """How torchvision gets one data set: the files it looks for under `downloads`, their bytes in all, the reader."""

    files: tuple[str, ...]
    size: int
    read: Callable[[Path], Raw]


def prepare(name: str, root: Path | None = None, progress: Progress | None = None) -> None:
    """Put a published data set into the cache, downloading it when its files are not there yet.

    Does nothing when it is prepared already; a damaged copy is replaced. Raises DataError when the name is unknown,
    when the download fails (naming the files to fetch by hand and their folder), or when the images are not the
    published ones. Nothing half-built is left behind.
    """
    tell = progress or _silent
    row = _row(name)
    # is_ready is always true for digits, and reading scikit-learn's copy costs less than a second look at the cache
    if name != "digits" and is_ready(name, root):
        tell(f"{row.label} is ready", 1.0)
        return
    if name == "digits":
        tell("Reading the digits from scikit-learn", None)
        raw = _read_digits()
    else:
        raw = _fetch(row, data_root(root) / "downloads", tell)
    tell(f"Sorting and checking {len(raw.train_y) + len(raw.test_y)} images", None)
    _store(row, raw, root)
    tell(f"{row.label} is ready", 1.0)


def import_npz(path: Path, name: str, root: Path | None = None) -> dict[str, Any]:
    """Prepare a published data set from an .npz file with train_x, train_y, test_x, test_y and classes.

    Returns the meta. Raises DataError when the file cannot be read, lacks an array, holds Python objects, or does
    not hold the published images.
    """
    row = _row(name)
    try:
        with np.load(path, allow_pickle=False) as file:
            raw = Raw(
                file["train_x"],
                file["train_y"],
                file["test_x"],
                file["test_y"],
                tuple(str(c) for c in file["classes"]),
            )
    # np.load raises what zipfile, zlib and the header parser raise; AttributeError and TypeError for a lone .npy
    except Exception as error:
        raise DataError(
            f"{path} cannot be read as an .npz file with train_x, train_y, test_x, test_y and classes ({error}). "
            "Export it again."
        ) from error
    return _store(row, raw, root)


def _row(name: str) -> Dataset:
    if name.startswith("folder-"):  # imported once and gone since
        raise not_prepared(name)
    if name not in DATASETS:
        raise DataError(
            f"No published data set is called {name[:60]!r}; choose one of {', '.join(DATASETS)}. "
            "A folder of your own images is imported with: python -m takd data import PATH NAME"
        )
    return DATASETS[name]


def _store(row: Dataset, raw: Raw, root: Path | None) -> dict[str, Any]:
    if len(raw.train_y) != row.train_pool or len(raw.class_names) != row.classes:
        raise DataError(
            f"{row.label} has {row.train_pool} training images of {row.classes} classes, but the files hold "
            f"{len(raw.train_y)} of {len(raw.class_names)}. Delete the source files and fetch them again."
        )
    return write_cache(
        row.name,
        raw.train_x,
        raw.train_y,
        raw.test_x,
        raw.test_y,
        raw.class_names,
        root,
        label=row.label,
        expected_fingerprint=row.fingerprint,
    )


def _read_digits() -> Raw:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[..., None]  # (1797, 8, 8, 1), whole numbers 0 to 16
    # One pool: the split carves validation and test from it
    return Raw(images, bunch.target, images[:0], bunch.target[:0], tuple(str(n) for n in bunch.target_names))


def _fetch(row: Dataset, downloads: Path, tell: Progress) -> Raw:
    """Let torchvision find or download the files, and read them; files it left unfinished are removed."""
    source = DOWNLOADS[row.name]
    wanted = [downloads / file for file in source.files]
    before = {path for path in wanted if path.exists()}
    missing = len(before) < len(wanted)
    what = f"Downloading {row.label} ({row.download})" if missing else f"Reading {row.label} from {downloads}"
    tell(what, 0.0 if missing else None)
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        return _watched(lambda: source.read(downloads), wanted, source.size if missing else 0, what, tell)
    # torchvision raises what urllib, tarfile, gzip, pickle and scipy raise; all mean the same to the reader
    except Exception as error:
        for path in set(wanted) - before:
            path.unlink(missing_ok=True)
        places = ", ".join(str(path) for path in wanted if not (missing and path in before))
        lines = str(error).splitlines()
        reason = f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
        raise DataError(
            f"{row.label} could not be downloaded or read ({reason}). Check the network and try again, or fetch it on "
            f"another machine and put it here: {places}. Damaged files that are there already must go first. "
            "Questions on the digits need no download."
        ) from error


def _watched(read: Callable[[], Raw], files: list[Path], size: int, what: str, tell: Progress) -> Raw:
    """Run `read` in a thread and report the growth of `files` (of `size` bytes in all) from the calling thread."""
    results: list[Raw] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(read())
        except BaseException as error:  # raised again below, in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True, name="takd-download")
    thread.start()
    while thread.is_alive():
        thread.join(_POLL)
        if size and thread.is_alive():
            tell(what, min(1.0, sum(path.stat().st_size for path in files if path.exists()) / size))
    if errors:
        raise errors[0]
    return results[0]


def _read_cifar10(downloads: Path) -> Raw:
    from torchvision.datasets import CIFAR10

    return _from_cifar(CIFAR10(downloads, train=True, download=True), CIFAR10(downloads, train=False, download=True))


def _read_cifar100(downloads: Path) -> Raw:
    from torchvision.datasets import CIFAR100

    return _from_cifar(CIFAR100(downloads, train=True, download=True), CIFAR100(downloads, train=False, download=True))


def _from_cifar(train: Any, test: Any) -> Raw:
    return Raw(train.data, np.asarray(train.targets), test.data, np.asarray(test.targets), tuple(train.classes))


def _read_fashion_mnist(downloads: Path) -> Raw:
    from torchvision.datasets import FashionMNIST

    train = FashionMNIST(downloads, train=True, download=True)
    test = FashionMNIST(downloads, train=False, download=True)
    return Raw(
        grey_to_rgb32(train.data.numpy()),
        train.targets.numpy(),
        grey_to_rgb32(test.data.numpy()),
        test.targets.numpy(),
        tuple(train.classes),
    )


def _read_svhn(downloads: Path) -> Raw:
    from torchvision.datasets import SVHN

    train = SVHN(downloads, split="train", download=True)  # 10, which the files write for the digit 0, is already 0
    test = SVHN(downloads, split="test", download=True)
    names = tuple(str(digit) for digit in range(10))
    return Raw(train.data.transpose(0, 2, 3, 1), train.labels, test.data.transpose(0, 2, 3, 1), test.labels, names)


def grey_to_rgb32(images: np.ndarray) -> np.ndarray:
    """Grey images (N, 28, 28) padded with black to (N, 32, 32) and repeated to (N, 32, 32, 3)."""
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    return np.repeat(padded[..., None], 3, axis=-1)


def _silent(what: str, share: float | None) -> None:
    """For callers that do not watch."""


_FASHION = "FashionMNIST/raw"

# File names are the ones torchvision looks for; it checks their published checksums itself.
DOWNLOADS: dict[str, Download] = {
    "cifar10": Download(("cifar-10-python.tar.gz",), 170_498_071, _read_cifar10),
    "cifar100": Download(("cifar-100-python.tar.gz",), 169_001_437, _read_cifar100),
    "fashion-mnist": Download(
        tuple(
            f"{_FASHION}/{part}-{kind}-ubyte.gz"
            for part in ("train", "t10k")
            for kind in ("images-idx3", "labels-idx1")
        ),
        30_878_645,
        _read_fashion_mnist,
    ),
    "svhn": Download(("train_32x32.mat", "test_32x32.mat"), 246_345_786, _read_svhn),
}
