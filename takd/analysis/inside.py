"""What answers say beyond their accuracy: soft answers, agreement, shared errors, calibration, classes, confusions.

Pure functions of logits (N, C) and labels (N,), float64 inside. Accuracies, shares and calibration errors are
fractions; entropies are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from takd.analysis.statistics import holm, sign_flip_p, t_interval

BINS = 15  # as in takd.evaluation.metrics
_ROUNDING = 1e-12  # accuracies are counts over images; equal differences of them differ in the last bits


def soft_answers(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """softmax(logits / T) along the last axis, float64. Raises ValueError for T that is not above 0."""
    if not temperature > 0:
        raise ValueError(f"a temperature is above 0, not {temperature}")
    scaled = np.asarray(logits, np.float64) / temperature
    raised = np.exp(scaled - scaled.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def entropies(shares: np.ndarray) -> np.ndarray:
    """Entropy in nats along the last axis; a share of 0 adds nothing."""
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(-1)


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Share of images to which two networks (logits (N, C)) give the same answer."""
    return float((one.argmax(1) == other.argmax(1)).mean())


@dataclass(frozen=True)
class Overlap:
    """How far the errors of two networks are the same. `of_first`: share of the first one's errors that the second
    makes too; `of_second` the other way round; `expected_first`, `expected_second`: the same if errors fell
    independently (the other's error rate); `kappa`: Cohen's kappa of the two indicators "wrong" (1960), 0 at chance
    and 1 where the errors are the same images. NaN where there is nothing to divide by."""

    of_first: float
    of_second: float
    expected_first: float
    expected_second: float
    kappa: float


def error_overlap(first: np.ndarray, second: np.ndarray) -> Overlap:
    """Overlap of two indicators "wrong" (N,) bool. DGKD (Son et al. 2021, figure 4) draws the number of shared errors
    over those of one of the two; the paper does not say which, so both are here."""
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    p, q, both = float(a.mean()), float(b.mean()), float((a & b).mean())
    same = float((a == b).mean())
    chance = p * q + (1 - p) * (1 - q)
    kappa = (same - chance) / (1 - chance) if chance < 1 else math.nan
    return Overlap(both / p if p else math.nan, both / q if q else math.nan, q, p, kappa)


def reliability(logits: np.ndarray, labels: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """One row per bin of confidence that holds images: bin (from 0), count, confidence and accuracy (means)."""
    shares = soft_answers(logits)
    confidence = shares.max(1)
    right = shares.argmax(1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    held = np.flatnonzero(count)
    sums = [np.bincount(place, weights=values, minlength=bins)[held] for values in (confidence, right)]
    return pd.DataFrame(
        {"bin": held, "count": count[held], "confidence": sums[0] / count[held], "accuracy": sums[1] / count[held]}
    )


def calibration_error(bins: pd.DataFrame) -> float:
    """ECE of the rows of `reliability` (Guo et al. 2017, equation 5)."""
    gap = (bins["confidence"] - bins["accuracy"]).abs()
    return float((bins["count"] * gap).sum() / bins["count"].sum())


def class_accuracies(logits: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Accuracy on the images of each class (C,); NaN for a class without images."""
    right = logits.argmax(1) == labels
    return class_shares(np.bincount(labels[right], minlength=classes), np.bincount(labels, minlength=classes))


def class_shares(right: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Right answers over images, by class; NaN without images."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(images > 0, np.asarray(right, float) / images, math.nan)


def class_gains(chosen: Mapping[int, np.ndarray], control: Mapping[int, np.ndarray]) -> pd.DataFrame:
    """Gain of each class, paired by seed: {seed: accuracies (C,)} of two arms -> one row per class with number (the
    class), mean, low, high (95 % t interval), n, p (paired t-test) and p_holm (Holm over classes).

    p is that of the interval and not an exact one: with five seeds no exact test survives ten classes. Where all seeds
    differ by the same, which happens with few images of a class, there is no spread to test against, and p is the
    exact sign-flip one.
    """
    seeds = sorted(set(chosen) & set(control))
    differences = np.array([np.asarray(chosen[s]) - np.asarray(control[s]) for s in seeds])
    rows = []
    for number in range(differences.shape[1] if len(seeds) else 0):
        values = differences[:, number]
        if not np.isfinite(values).all():
            continue
        interval = t_interval(values)
        rows.append(
            {"number": number, "mean": interval.mean, "low": interval.low, "high": interval.high}
            | {"n": interval.n, "p": _t_test(values)}
        )
    frame = pd.DataFrame(rows, columns=["number", "mean", "low", "high", "n", "p"])
    return frame.assign(p_holm=holm([float(p) for p in frame["p"]]))


def _t_test(values: np.ndarray) -> float:
    """Two-sided p of a mean of 0, see class_gains; NaN for fewer than two values."""
    if values.size < 2:
        return math.nan
    spread = float(values.std(ddof=1))
    if spread <= _ROUNDING:
        return sign_flip_p(values)
    return float(2 * stats.t.sf(abs(values.mean()) * math.sqrt(values.size) / spread, values.size - 1))


def confusion(logits: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """How often class i is answered with class j, (C, C): counts per 1,000 images of the true class. A class without
    images has a row of NaN."""
    counts = np.bincount(labels * classes + logits.argmax(1), minlength=classes**2).reshape(classes, classes)
    with np.errstate(invalid="ignore"):
        return 1000 * counts / counts.sum(1, keepdims=True)


def similar_classes(logits: np.ndarray, labels: np.ndarray, number: int, temperature: float) -> np.ndarray:
    """The mean soft answer (C,) at a temperature over the test images of one class; NaN without such images."""
    rows = logits[labels == number]
    return soft_answers(rows, temperature).mean(0) if len(rows) else np.full(logits.shape[1], math.nan)


def probes(
    filter_name: str, teacher: np.ndarray, student: np.ndarray, labels: np.ndarray, number: int = 0, most: int = 24
) -> np.ndarray:
    """Places (at most `most`) of test images worth a look, in an order that does not change.

    `rescue`: the teacher is right and the student wrong, the teacher's surest first. `unsure`: the teacher's highest
    entropies. `class`: images of class `number`, `all`: any; both spread evenly over the test part.
    """
    shares = soft_answers(teacher)
    if filter_name == "rescue":
        found = np.flatnonzero((teacher.argmax(1) == labels) & (student.argmax(1) != labels))
        return found[np.argsort(-shares[found].max(1), kind="stable")][:most]
    if filter_name == "unsure":
        return np.argsort(-entropies(shares), kind="stable")[:most]
    found = np.flatnonzero(labels == number) if filter_name == "class" else np.arange(len(labels))
    if len(found) <= most:
        return found
    return found[np.linspace(0, len(found) - 1, most).round().astype(int)]


def mean_frame(values: Mapping[str, Mapping[int, float]]) -> pd.DataFrame:
    """{name: {seed: value}} -> one row per name: name, mean, low, high (95 % t interval), n. Values that are not finite
    are left out, and so are names without any."""
    rows = []
    for name, by_seed in values.items():
        interval = t_interval([value for value in by_seed.values() if math.isfinite(value)])
        if interval.n:
            rows.append((name, interval.mean, interval.low, interval.high, interval.n))
    return pd.DataFrame(rows, columns=["name", "mean", "low", "high", "n"])


def seed_frame(values: Mapping[str, Mapping[int, float]]) -> pd.DataFrame:
    """{name: {seed: value}} -> one row per name and seed: name, seed, value."""
    rows = [(name, seed, value) for name, found in values.items() for seed, value in found.items()]
    frame = pd.DataFrame(rows, columns=["name", "seed", "value"])
    return frame[np.isfinite(frame["value"].astype(float))].reset_index(drop=True)


def leading(shares: Sequence[np.ndarray], truth: int, most: int = 5) -> list[int]:
    """The classes to show beside each other: those with the largest mean share over several soft answers (C,), and
    the true one in any case; most likely first."""
    mean = np.mean(np.array(shares), axis=0)
    order = [int(number) for number in np.argsort(-mean, kind="stable")[:most]]
    return order if truth in order else [*order[: most - 1], truth]
