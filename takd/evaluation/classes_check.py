"""What follows from the class a network answered to each test image, where nothing else of its answers is stored: right
answers, all and per class, of the stage and each of its parts, and agreement with its teachers. Losses, calibration and
KL need the logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from takd.evaluation.answers_check import ANOTHER_COPY, check_right_answers
from takd.evaluation.notes import Notes
from takd.evaluation.weights_check import answers_of_weights
from takd.methods.parts import part_names
from takd.runs.classes import answered, read_classes
from takd.runs.copies import other_copies
from takd.runs.layout import CLASSES
from takd.runs.store import Store
from takd.stage import StageSpec


def check_classes(
    notes: Notes, store: Store, stage: StageSpec, result: Mapping[str, Any], raw: bytes, labels: np.ndarray
) -> None:
    """Compare test_acc, correct_classes and agreement of a result, and those of its parts, with its classes.bin."""
    names = part_names(stage)[0]
    try:
        best, tied = read_classes(raw, len(labels), stage.data.classes)
    except ValueError as error:
        notes.differs(CLASSES, f"classes of {len(labels)} images", str(error))
        return
    rows = [row for row in result.get("parts") or () if isinstance(row, dict)]
    notes.same(f"answers in {CLASSES}", 1 + len(rows), len(best))
    notes.same("parts", [row.get("name") for row in rows], names)
    titles = ("", *(f"{name}: " for name in names))
    for title, row, own, ties in zip(titles, (result, *rows), best, tied, strict=False):
        notes.ties += int(ties.sum())
        check_right_answers(notes, title, row, (own == labels) & ~ties, ties, labels, stage.data.classes)
    _agreement(notes, store, stage, result, best[0], tied[0])


def _agreement(
    notes: Notes, store: Store, stage: StageSpec, result: Mapping[str, Any], own: np.ndarray, ties: np.ndarray
) -> None:
    others = other_copies(store, result)
    for key in stage.teachers:
        name, told = f"agreement with {key[:8]}", (result.get("agreement") or {}).get(key)
        heard = None if key in others else _heard(store, key, len(own), stage.data.classes)
        if heard is None:
            notes.skip(name, ANOTHER_COPY if key in others else "what its teacher answered is not stored here")
            continue
        same, maybe = own == heard[0], ties | heard[1]
        notes.share(name, told, float(same.mean()), (same & ~maybe).mean(), (same | maybe).mean())


def _heard(store: Store, key: str, images: int, classes: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The classes (images,) a teacher answered and whether each ties, from whatever is stored of its answers; None
    where nothing is."""
    found = answered(store, key, images, classes)
    if found is not None:
        return found
    asked = answers_of_weights(store, key)
    if asked is None or asked.half.shape != (images, classes):
        return None
    return asked.half.argmax(1), asked.heard.sum(1) > 1
