"""The class a network answered to every test image: what the library keeps of answers whose logits and weights it
leaves out, a fiftieth of their size. Accuracies and agreement follow from it to the image.

`classes.bin` holds one byte per image, in the order of the test part: first those of the stage, then those of each of
its parts where several answer. Packs keep these files end to end, as networks of one question answer much alike.
"""

from __future__ import annotations

import io
import zipfile

import numpy as np

from takd.runs import files
from takd.runs.errors import StoreError
from takd.runs.layout import CLASSES
from takd.runs.loop import PREDICTIONS
from takd.runs.store import Store

TIED = 128  # added where the largest logits are equal in half precision: another of them may have been counted
_KIND = np.uint8


def classes_of(predictions: bytes) -> bytes | None:
    """The content of classes.bin for the answers in predictions.npz; None for more than 128 classes. Raises ValueError
    where they cannot be read."""
    try:
        with np.load(io.BytesIO(predictions), allow_pickle=False) as archive:
            logits = archive["logits"][:, None]
            parts = archive["parts"] if "parts" in archive.files else logits[:, :0]
        every = np.concatenate([logits, parts], axis=1)  # (images, answers, classes)
    except (OSError, EOFError, KeyError, IndexError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError("These predictions cannot be read: they are no archive of logits") from error
    if every.shape[2] > TIED:
        return None
    several = (every == every.max(-1, keepdims=True)).sum(-1) > 1
    return (every.argmax(-1) + TIED * several).astype(_KIND).T.tobytes()


def read_classes(raw: bytes, images: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The first largest class and whether it ties, (answers, images) each, in classes.bin. Raises ValueError where the
    bytes are something else."""
    found = np.frombuffer(raw, _KIND)
    if not found.size or found.size % images:
        raise ValueError(f"{found.size} answers to {images} images")
    best = found % TIED
    if (best >= classes).any():
        raise ValueError(f"a class above {classes - 1}")
    return best.reshape(-1, images), (found >= TIED).reshape(-1, images)


def answered(store: Store, key: str, images: int, classes: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The classes (images,) a finished stage answered and whether each ties, from its logits or its classes.bin; None
    where neither is stored or what is does not fit."""
    try:
        raw = files.read_bytes_or_none(store.folder(key) / CLASSES) or classes_of(store.read_file(key, PREDICTIONS))
        every = None if raw is None else read_classes(raw, images, classes)
    except (StoreError, ValueError):
        return None
    return None if every is None else (every[0][0], every[1][0])
