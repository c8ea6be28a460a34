"""A folder of the user's own images: one sub-folder per class, read once into the cache as small RGB squares.

The pictures are decoded here and nowhere else. Either everything is imported or nothing is written.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from takd.data.cache import write_cache
from takd.data.meta import DataError
from takd.data.table import FOLDER_PREFIX

USUAL_SIDE = 32  # what most networks read; it is not written down, so that older imports stay what they are
LEAST_IMAGES = 10  # of the training part and of the test part: fewer tell nothing
LARGEST_PIXELS = 50_000_000  # per image; a small file that claims more is a decompression bomb
_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"))
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")  # decoders that may see a stranger's file
_NAME = re.compile(r"[a-z0-9-]{1,40}")


def import_folder(path: Path, name: str, root: Path | None = None, side: int = 32) -> dict[str, Any]:
    """Import an ImageFolder tree as the data set `folder-NAME` and return its meta.

    `path` holds train/ and test/ with one folder per class, or train/ alone, or the class folders directly: without
    a test folder about a fifth of every class becomes the test part, chosen by the hash of the pixels (equal pictures
    of a class stay together), and meta's note says so. Pictures become RGB, the shorter side `side` pixels, cut square
    in the middle. Importing a name again replaces it. Raises DataError with a sentence, and writes nothing, when the
    tree is not usable.
    """
    if not _NAME.fullmatch(name):
        raise DataError(f"{name[:60]!r} cannot name a data set; use 1 to 40 lower-case letters, digits and hyphens.")
    if not 8 <= side <= 256:
        raise DataError(f"Images of {side} x {side} pixels are not supported; use a side from 8 to 256.")
    top = Path(path).expanduser()
    if not top.is_dir():
        raise DataError(f"There is no folder {top}. Check the path, and unpack a zip file first.")
    top = top.resolve()
    tree = {part: _classes(top / part, top) for part in ("train", "test")}
    if tree["train"] and tree["test"]:
        _require_known(tree["test"], tree["train"])
        names = _require_classes(tree["train"], top / "train")
        train_x, train_y = _read_part(tree["train"], names, top / "train", top, side)
        test_x, test_y = _read_part(tree["test"], names, top / "test", top, side)
        note = ""
    else:
        source = top / "train" if tree["train"] else top
        names = _require_classes(_classes(source, top), source)
        x, y = _read_part(names, names, source, top, side)
        test = carve_test(x, y)
        train_x, train_y, test_x, test_y = x[~test], y[~test], x[test], y[test]
        note = "a fifth of every class was set aside for the test, chosen by the hash of the pixels"
    for part, labels in (("training", train_y), ("test", test_y)):
        if len(labels) < LEAST_IMAGES:
            raise DataError(
                f"The {part} part of {top} has {len(labels)} images; at least {LEAST_IMAGES} are needed. Add images."
            )
    return write_cache(
        f"{FOLDER_PREFIX}{name}",
        train_x,
        train_y,
        test_x,
        test_y,
        names,
        root,
        label=f"Folder: {name}",
        note=note,
        side=None if side == USUAL_SIDE else side,
    )


def carve_test(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mask (N,) of the test part: in every class the fifth of the different pictures whose pixel hashes come first.

    Depends on pixels only, not on file names or order; copies of a picture fall on the same side.
    """
    keys = np.array([hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in images])
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        different = np.unique(keys[labels == label])  # sorted
        first = different[: round(len(different) / 5)]
        mask |= (labels == label) & np.isin(keys, first)
    return mask


def _classes(folder: Path, top: Path) -> list[str]:
    """Names of the class folders in a folder, sorted; hidden ones and links out of the tree are ignored."""
    if not (folder.is_dir() and _inside(folder, top)):
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".") and _inside(p, top))


def _inside(path: Path, top: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(top)
    except (OSError, RuntimeError):  # a broken link, or links in a circle
        return False


def _require_classes(names: list[str], folder: Path) -> list[str]:
    if not names:
        raise DataError(f"{folder} holds no class folders. Put the images of each class into a folder named after it.")
    if len(names) < 2:
        raise DataError(f"{folder} holds one class, {names[0]}; at least two are needed to tell apart. Add a class.")
    return names


def _require_known(test: Iterable[str], train: Iterable[str]) -> None:
    unknown = sorted(set(test) - set(train))
    if unknown:
        raise DataError(
            f"The class {unknown[0]} is in test but not in train, so nothing could learn it. "
            "Add it to train or remove it from test."
        )


def _read_part(
    present: list[str], names: list[str], folder: Path, top: Path, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, side, side, 3) uint8 and labels (N,) int64, the positions of their classes in `names`."""
    images: list[np.ndarray] = []
    labels: list[int] = []
    for name in present:
        files = _images(folder / name, top)
        if not files:
            raise DataError(f"The class folder {folder / name} holds no images. Add some or remove the folder.")
        images.extend(_read_image(file, side) for file in files)
        labels.extend([names.index(name)] * len(files))
    return np.stack(images), np.array(labels, dtype=np.int64)


def _images(folder: Path, top: Path) -> list[Path]:
    """Image files below a class folder, sorted; links that leave the tree are ignored, linked folders not entered."""
    found: list[Path] = []
    for base, _, files in os.walk(folder):  # does not follow links to folders, so it cannot go round in circles
        for file in files:
            path = Path(base, file)
            if path.suffix.lower() in _SUFFIXES and not file.startswith(".") and path.is_file() and _inside(path, top):
                found.append(path)
    return sorted(found)


def _read_image(file: Path, side: int) -> np.ndarray:
    """One picture as (side, side, 3) uint8; DataError that names the file when it cannot be decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes about odd metadata; the size is checked below
            with Image.open(file, formats=_FORMATS) as picture:
                width, height = picture.size
                if width * height > LARGEST_PIXELS:
                    raise DataError(
                        f"{file} is {width} x {height} pixels; more than {LARGEST_PIXELS // 1_000_000} million are "
                        "refused. Make it smaller or remove it."
                    )
                rgb = picture.convert("RGB")
    except DataError:
        raise
    # Pillow raises many kinds for broken files (OSError, SyntaxError, ValueError, struct.error, DecompressionBombError)
    except Exception as error:
        raise DataError(f"{file} cannot be read as an image ({error}). Replace or remove it.") from error
    return np.asarray(_square(rgb, side))


def _square(picture: Image.Image, side: int) -> Image.Image:
    """The middle square after resizing the shorter side to `side`; a picture of that size is kept as it is."""
    width, height = picture.size
    if (width, height) == (side, side):
        return picture
    # Only the middle is computed: the same pixels as resizing first, without a huge strip for a very long picture
    edge = min(width, height)
    left, top = (width - edge) // 2, (height - edge) // 2
    return picture.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + edge, top + edge))
