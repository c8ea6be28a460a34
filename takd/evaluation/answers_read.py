"""What finished networks answered on test images, to be looked at: stored logits, true labels, pixels of single images.

Pages show it after the final evaluation is over; nothing is selected or trained from it. The only module of this room
that the web process imports, so it imports no torch. Labels travel with the cached runs (`labels/` beside their
stages), so that answers can be read without the data set; pixels are read from the data cache and never stored.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from takd.data.cache import read_arrays
from takd.data.catalogue import find_dataset
from takd.data.meta import DataError
from takd.data.splits import split
from takd.runs import files
from takd.runs.errors import StoreError
from takd.runs.store import Store
from takd.stage import DataSpec

ANSWERS = "predictions.npz"
_LABELS = "labels"
_KEPT = 48  # stages; 0.2 MB each on CIFAR-10, 2 MB on CIFAR-100


@dataclass(frozen=True)
class Answers:
    """Test logits (N, classes) as stored (float16), those of the main network, and (N, parts, classes) where several
    answer. Images are in the canonical order of the data set's test part."""

    logits: np.ndarray
    parts: np.ndarray | None = None

    def of(self, part: int | None) -> np.ndarray | None:
        """Logits (N, classes) of one part, of the main network for None; None where there is no such part."""
        if part is None:
            return self.logits
        if self.parts is None or not 0 <= part < self.parts.shape[1]:
            return None
        return self.parts[:, part]


def answers(store: Store, key: str) -> Answers | None:
    """The stored answers of a finished stage; None where they were left out, or are damaged."""
    result = store.result(key)
    row = None if result is None else result["files"].get(ANSWERS)
    return None if row is None else _read(_Place(store, key), str(row["sha256"]))


@dataclass(frozen=True)
class _Place:
    store: Store
    key: str

    def __hash__(self) -> int:
        return hash((self.store.root, self.key))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Place) and (self.store.root, self.key) == (other.store.root, other.key)


def _read(place: _Place, sha: str) -> Answers | None:
    try:
        return _unpacked(place, sha)
    except (StoreError, OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None  # left out or damaged, which may change: not remembered


@lru_cache(maxsize=_KEPT)
def _unpacked(place: _Place, sha: str) -> Answers:
    raw = place.store.read_file(place.key, ANSWERS)
    with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
        logits = archive["logits"]
        parts = archive["parts"] if "parts" in archive.files else None
    for array, axes in ((logits, 2), (parts, 3)):
        if array is not None and (array.ndim != axes or not array.size or not np.isfinite(array).all()):
            raise ValueError(f"answers of shape {array.shape}")
    return Answers(logits, parts)


def labels(store: Store, data: DataSpec) -> np.ndarray | None:
    """True test labels (N,) int64 in the order of the stored answers: those that travel with the cached runs, else
    those of the prepared data set; None where neither is here."""
    known = labels_that_travel(store, data)
    if known is not None:
        return known
    part = _part(data)
    if part is None:
        return None
    _, y, carved = part
    return np.asarray(y if carved is None else y[carved], dtype=np.int64)


def labels_that_travel(store: Store, data: DataSpec) -> np.ndarray | None:
    """The true test labels (N,) int64 that lie beside the cached runs; None where there are none of this data set."""
    for root in store.cached:
        path = root / _LABELS / f"{data.fingerprint}.npy"
        if path.is_file() and (known := _stored_labels(path, data.classes)) is not None:
            return known
    return None


@lru_cache(maxsize=4)
def _stored_labels(path: Path, classes: int) -> np.ndarray | None:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = found.ndim == 1 and found.dtype == np.uint8 and found.size
    return found.astype(np.int64) if whole and int(found.max()) < classes else None


def class_names(store: Store, data: DataSpec) -> tuple[str, ...]:
    """The names of the classes, else their numbers."""
    rows = [files.read_json_or_none(root / _LABELS / f"{data.fingerprint}.json") for root in store.cached]
    meta = _meta(data)
    for row in (*rows, meta):
        names = (row or {}).get("class_names")
        if isinstance(names, list) and len(names) == data.classes and all(isinstance(name, str) for name in names):
            return tuple(names)
    return tuple(str(number) for number in range(data.classes))


def pictures(data: DataSpec, images: Sequence[int]) -> np.ndarray | None:
    """Pixels (len(images), H, W, C) uint8 of test images by their place, brightest 255; None where the data set is not
    here. Raises IndexError for a place that is none."""
    part = _part(data)
    if part is None:
        return None
    x, _, carved = part
    places = [int(i) if carved is None else int(carved[i]) for i in images]
    pixels = np.stack([np.asarray(x[place]) for place in places]) if places else np.empty((0, *x.shape[1:]), np.uint8)
    scale = 255 // 16 if data.name == "digits" else 1  # digits count 0 to 16
    return (pixels.astype(np.uint16) * scale).clip(0, 255).astype(np.uint8)


def _meta(data: DataSpec) -> dict[str, object] | None:
    try:
        _, meta = find_dataset(data.name)
    except DataError:
        return None
    return meta if meta is not None and meta["fingerprint"] == data.fingerprint else None


def _part(data: DataSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray | None] | None:
    """(images, labels, which of them are the test part: None for all), or None where the data set is not here. Nothing
    is prepared for it: that is a worker's job."""
    try:
        dataset, meta = find_dataset(data.name)
        if meta is None or meta["fingerprint"] != data.fingerprint:
            return None
        if dataset.test:
            x, y = read_arrays(data.name)
            return x, y, split(dataset, len(y), data.split_seed).test
        return (*read_arrays(data.name, part="test"), None)
    except DataError:
        return None
