"""The test metrics of a stage, recomputed from its stored answers.

Answers are stored as float16 and the metrics were computed before, from fp32. What follows from that, and nothing more,
is tolerated:

- Rounding keeps order or makes a tie, so an image's answer can differ only where its two best logits are *equal* as
  stored. Accuracy, right answers per class and agreement must lie between what they are with every such tie lost and
  with every one won; the ties are counted and reported.
- A logit moves by at most half of float16's spacing there, by chance up or down. To first order a mean over images
  moves by the sum of (derivative x error) / N, with a standard deviation of spacing / sqrt(12) per logit. SIGMAS of
  them are allowed (one in a thousand million correct results is farther off), and the second-order term on top.
- Where the weights answer again instead, the same holds of what two machines make of one logit (see weights_check).
- Calibration error sorts images into bins by confidence: those that rounding can carry over a bin's edge may do so.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from takd.evaluation.metrics import CALIBRATION_BINS, agreement, prediction_metrics
from takd.evaluation.notes import Notes
from takd.runs.copies import other_copies
from takd.runs.errors import StoreError
from takd.runs.store import Store
from takd.stage import StageSpec

ANOTHER_COPY = "another copy of this teacher is stored here than the one that taught it"
SIGMAS = 6.0
_FLOOR = 1e-6  # fp32 on another machine


@dataclass(frozen=True)
class Stored:
    """Test answers as stored: `half` (N, classes) float16, and those of each part where several answer.

    Where they are not stored, the weights answer again: `again` (N, classes) float64, each logit `off` (N, 1) at most
    from what the machine that trained the network had. Then nothing was rounded, and that takes the rounding's place.
    """

    half: np.ndarray
    parts: tuple[Stored, ...] | None = None
    again: np.ndarray | None = None
    off: np.ndarray | None = None

    @cached_property
    def logits(self) -> np.ndarray:
        """As float64."""
        return self.half.astype(np.float64) if self.again is None else self.again

    @cached_property
    def spacing(self) -> np.ndarray:
        """How far apart two logits are that may have been one: neighbouring float16 numbers, or two machines' fp32."""
        if self.off is not None:
            return np.broadcast_to(2 * self.off, self.half.shape)
        return np.spacing(np.abs(self.half)).astype(np.float64)

    @cached_property
    def share(self) -> np.ndarray:
        """Softmax (N, classes)."""
        raised = np.exp(self.logits - self.logits.max(1, keepdims=True))
        return raised / raised.sum(1, keepdims=True)

    @cached_property
    def best(self) -> np.ndarray:
        """Which answers of an image may be its best (N, classes): more than one where they tie."""
        if self.again is not None:
            return self.again >= self.again.max(1, keepdims=True) - self.spacing
        return self.half == self.half.max(1, keepdims=True)

    @cached_property
    def heard(self) -> np.ndarray:
        """Which answer of an image its pupils were compared with (N, classes), as float16: the first of equal ones.
        Where the weights answered again, it may have been any of those marked."""
        if self.again is not None:
            return self.half >= self.half.max(1, keepdims=True) - self.rounded
        return np.eye(self.half.shape[1], dtype=bool)[self.half.argmax(1)]

    @cached_property
    def rounded(self) -> np.ndarray:
        """How far apart two logits are that may have been one after they were rounded to float16."""
        width = np.spacing(np.abs(self.half)).astype(np.float64)
        return width if self.off is None else width + self.spacing

    @cached_property
    def tied(self) -> np.ndarray:
        """Images with more than one best answer (N,)."""
        return self.best.sum(1) > 1

    @cached_property
    def bent(self) -> float:
        """The second-order term: Var(error) / 2 under softmax is at most spacing**2 / 8 per image."""
        return float((self.spacing.max(1) ** 2).mean() / 8)

    def within(self, slope: np.ndarray) -> float:
        """How far rounding may carry a mean over images whose derivative by each logit is `slope` (N, classes)."""
        return self._carried(slope, self.spacing) + self.bent + _FLOOR

    def as_teacher(self, slope: np.ndarray) -> float:
        """The same for what pupils were compared with: nothing where it is stored."""
        return 0.0 if self.again is None else self._carried(slope, self.rounded) + float((self.rounded**2).mean() / 8)

    def _carried(self, slope: np.ndarray, width: np.ndarray) -> float:
        return SIGMAS * math.sqrt(float(((slope * width) ** 2).sum() / 12)) / len(self.half)


def read_stored(raw: bytes) -> Stored:
    """The answers in predictions.npz; raises ValueError where there are none, or some are not finite."""
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            logits = archive["logits"]
            parts = archive["parts"] if "parts" in archive.files else None
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot be read: {error}") from error
    for array, axes in ((logits, 2), (parts, 3)):
        if array is not None and (array.ndim != axes or array.dtype != np.float16 or not array.size):
            raise ValueError(f"are {array.dtype} {array.shape}")
        if array is not None and not np.isfinite(array).all():
            raise ValueError("hold numbers that are not finite")
    each = None if parts is None else tuple(Stored(np.ascontiguousarray(parts[:, k])) for k in range(parts.shape[1]))
    return Stored(logits, each)


def check_metrics(
    notes: Notes, prefix: str, row: Mapping[str, Any], stored: Stored, labels: np.ndarray, classes: int
) -> int:
    """Compare test_acc, test_loss, ece, entropy and correct_classes of a result, or of one of its parts; returns how
    many images tie."""
    found = prediction_metrics(torch.from_numpy(stored.logits), torch.from_numpy(labels), classes)
    hit = stored.best[np.arange(len(labels)), labels]
    maybe = hit & stored.tied
    check_right_answers(notes, prefix, row, hit & ~stored.tied, maybe, labels, classes)
    share, truth = stored.share, np.eye(classes)[labels]
    notes.same(f"{prefix}test_loss", row.get("test_loss"), found["test_loss"], within=stored.within(share - truth))
    surprise = np.log(np.maximum(share, 1e-300))
    mean = -(share * surprise).sum(1, keepdims=True)
    within = stored.within(share * (surprise + mean)) + 8 * math.log(classes) * stored.bent
    notes.same(f"{prefix}entropy", row.get("entropy"), found["entropy"], within=within)
    notes.same(f"{prefix}ece", row.get("ece"), found["ece"], within=_ece_within(stored, hit, maybe))
    return int(stored.tied.sum())


def check_right_answers(
    notes: Notes,
    prefix: str,
    row: Mapping[str, Any],
    sure: np.ndarray,
    maybe: np.ndarray,
    labels: np.ndarray,
    classes: int,
) -> None:
    """Compare correct_classes and test_acc: images that are `sure` to be right count, those that are `maybe` may."""
    counts, accuracy = row.get("correct_classes"), row.get("test_acc")
    least = np.bincount(labels[sure], minlength=classes)
    most = least + np.bincount(labels[maybe], minlength=classes)
    fits = _whole(counts, classes) and bool((least <= np.array(counts)).all() and (np.array(counts) <= most).all())
    notes.same(f"{prefix}correct_classes", counts, least.tolist(), equal=fits)
    low, high = least.sum() / len(labels), most.sum() / len(labels)
    notes.share(f"{prefix}test_acc", accuracy, float(low), low, high)


def _ece_within(stored: Stored, hit: np.ndarray, maybe: np.ndarray) -> float:
    """How far rounding may carry the calibration error."""
    share, count = stored.share, len(stored.half)
    top = share.max(1)
    first = np.zeros_like(share)
    first[np.arange(count), share.argmax(1)] = 1
    inside = math.sqrt(CALIBRATION_BINS) * stored.within(top[:, None] * (first - share))  # of a sum over bins
    reach = top * (1 - top) * stored.spacing.max(1) + 1e-7
    edge = np.clip(np.round(top * CALIBRATION_BINS), 1, CALIBRATION_BINS - 1) / CALIBRATION_BINS
    carried = 2 * np.abs(top - hit)[np.abs(top - edge) <= reach].sum()
    return inside + float(carried + maybe.sum()) / count


def check_teachers(
    notes: Notes,
    store: Store,
    stage: StageSpec,
    result: Mapping[str, Any],
    stored: Stored,
    ask: Callable[[str], Stored | None],
) -> None:
    """Compare agreement and kl with each teacher. Its answers are those the student was compared with: float16 too.
    `ask` has them from the weights of a teacher (by its key) whose answers are not stored, None where it cannot."""
    others = other_copies(store, result)
    for key in stage.teachers:
        names = [f"{what} with {key[:8]}" for what in ("agreement", "kl")]
        if key in others:
            notes.skip_all(names, ANOTHER_COPY)
            continue
        told, far = ((result.get(what) or {}).get(key) for what in ("agreement", "kl"))
        try:
            teacher: Stored | None = read_stored(store.read_file(key, "predictions.npz"))
        except (StoreError, ValueError):
            teacher = ask(key)
        if teacher is None:
            notes.skip_all(names, "the test answers of its teacher are not stored here, or damaged")
            continue
        if teacher.half.shape != stored.half.shape:
            notes.differs(names[0], f"{len(stored.half)} images", f"{len(teacher.half)} images of the teacher")
            continue
        heard = teacher.half.astype(np.float64)
        found = agreement(torch.from_numpy(stored.logits), torch.from_numpy(heard))
        said = (stored.best & teacher.heard).any(1)
        low, high = (said & ~stored.tied & (teacher.heard.sum(1) == 1)).mean(), said.mean()
        notes.share(names[0], told, found["agreement"], low, high)
        share = Stored(teacher.half).share
        surprise = np.log(np.maximum(share, 1e-300)) - np.log(np.maximum(stored.share, 1e-300))
        slope = share * (surprise - (share * surprise).sum(1, keepdims=True))
        within = stored.within(stored.share - share) + teacher.as_teacher(slope)
        notes.same(names[1], far, found["kl"], within=within)


def _whole(counts: Any, classes: int) -> bool:
    return isinstance(counts, list) and len(counts) == classes and all(type(n) is int for n in counts)
