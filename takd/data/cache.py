"""The data cache: one folder per prepared data set, in canonical order, written whole or not at all. Imports no torch.

See "Data cache" in ARCHITECTURE.md for the layout. Nothing here knows where images come from.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from takd.data.meta import (
    CACHE_SCHEMA,
    PARTS,
    DataError,
    damaged_copy,
    data_root,
    folder_of,
    not_prepared,
    read_meta,
)


def digests(images: np.ndarray, labels: np.ndarray) -> list[bytes]:
    """The identity of each sample: SHA-256 of its pixel bytes (uint8, HWC) and its label (8 little-endian bytes)."""
    little = labels.astype("<i8")
    return [
        hashlib.sha256(np.ascontiguousarray(image).tobytes() + label.tobytes()).digest()
        for image, label in zip(images, little, strict=True)
    ]


def fingerprint(train: Iterable[bytes], test: Iterable[bytes]) -> str:
    """64 hex digits that name a data set: SHA-256 over sorted train digests, a separator and sorted test digests."""
    total = hashlib.sha256()
    for digest in sorted(train):
        total.update(digest)
    total.update(b"|test|")
    for digest in sorted(test):
        total.update(digest)
    return total.hexdigest()


def write_cache(
    name: str,
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    class_names: Sequence[str],
    root: Path | None = None,
    *,
    label: str | None = None,
    expected_fingerprint: str | None = None,
    note: str = "",
    side: int | None = None,
) -> dict[str, Any]:
    """Put a data set into the cache and return its meta.

    Images are (N, H, W, C) uint8, labels (N,) integers in [0, len(class_names)). The folder appears complete by one
    rename. If another process prepared the same images meanwhile, its folder is kept; different or damaged content
    under the same name is replaced. Raises DataError when arrays do not fit together, when the fingerprint is not the
    expected one, or when the disk refuses. `side` is written down where a reader cannot know it from the name.
    """
    target = folder_of(name, data_root(root))
    arrays: dict[str, np.ndarray] = {}
    sorted_digests: dict[str, list[bytes]] = {}
    for part, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        x, y = _checked(name, part, x, y, len(class_names))
        keys = digests(x, y)
        order = _order(keys)
        arrays[f"{part}_x"], arrays[f"{part}_y"] = x[order], y[order]
        sorted_digests[part] = [keys[i] for i in order]
    found = fingerprint(sorted_digests["train"], sorted_digests["test"])
    if expected_fingerprint is not None and found != expected_fingerprint:
        raise DataError(
            f"The images given for {name} are not the published ones (fingerprint {found[:12]}..., expected "
            f"{expected_fingerprint[:12]}...). Delete the source files and fetch them again."
        )
    meta: dict[str, Any] = {
        "schema": CACHE_SCHEMA,
        "name": name,
        "label": label or name,
        "class_names": list(class_names),
        "classes": len(class_names),
        "fingerprint": found,
        "train": len(train_y),
        "test": len(test_y),
    }
    if note:
        meta["note"] = note
    if side is not None:
        meta["side"] = side
    try:
        _write_folder(target, arrays, meta)
    except OSError as error:
        raise DataError(
            f"{name} could not be written to {target.parent} ({error}). Free some space or set TAKD_DATA to a folder "
            "you can write to, then prepare it again."
        ) from error
    return meta


def read_arrays(name: str, root: Path | None = None, part: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, C) uint8 and labels (N,) int64 of one part, `train` or `test`, memory-mapped read-only.

    Raises DataError when the data set is not prepared or its arrays do not match its meta.
    """
    if part not in PARTS:
        raise ValueError(f"part is train or test, not {part!r}")
    meta = read_meta(name, root)
    if meta is None:
        raise not_prepared(name)
    folder = folder_of(name, data_root(root))
    try:
        x = np.load(folder / f"{part}_x.npy", mmap_mode="r", allow_pickle=False)
        y = np.load(folder / f"{part}_y.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise damaged_copy(name, folder, f"the {part} arrays cannot be read: {error}") from error
    if x.dtype != np.uint8 or x.ndim != 4 or y.dtype != np.int64 or y.shape != (meta[part],) or len(x) != len(y):
        raise damaged_copy(name, folder, f"the {part} arrays do not match meta.json")
    return x, y


def _order(keys: Sequence[bytes]) -> np.ndarray:
    """Positions (N,) int64 that sort samples by digest. Samples with equal digests are equal, so the sorted arrays do
    not depend on the order they came in."""
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def _checked(name: str, part: str, x: np.ndarray, y: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x), np.asarray(y)
    if x.dtype != np.uint8 or x.ndim != 4:
        raise DataError(f"The {part} images of {name} must be uint8 (N, H, W, C), not {x.dtype} {x.shape}.")
    if y.shape != (len(x),) or not (np.issubdtype(y.dtype, np.integer) or len(y) == 0):
        raise DataError(f"{name} has {len(x)} {part} images but labels {y.dtype} {y.shape}; give one number per image.")
    y = y.astype(np.int64)
    if len(y) and (y.min() < 0 or y.max() >= classes):
        raise DataError(f"{name} has {part} labels from {y.min()} to {y.max()} but {classes} class names.")
    return x, y


def _write_folder(target: Path, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # The dot keeps unfinished folders out of every listing: a data set's name never starts with one.
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        work.chmod(0o755)  # mkdtemp makes it private; the cache may be shared by the users of one machine
        for file, array in arrays.items():
            np.save(work / f"{file}.npy", array, allow_pickle=False)
        (work / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
        _place(work, target, meta)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _place(work: Path, target: Path, meta: dict[str, Any]) -> None:
    """Rename `work` to `target`; a folder that already holds the same data set wins, any other is replaced."""
    for _ in range(5):
        try:
            work.rename(target)
            return
        except OSError:
            if not target.exists():
                raise
        try:
            existing = read_meta(target.name, target.parent)
        except DataError:
            existing = None
        if existing == meta:
            return
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
        try:
            target.rename(aside / target.name)
        except FileNotFoundError:
            pass  # another process moved it first; try again
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    raise OSError(f"other processes keep replacing {target}")
