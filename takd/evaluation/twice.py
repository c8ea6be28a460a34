"""A training done twice: which of its numbers can be held against each other, and how far they lie apart.

On one kind of machine the same training mostly ends with the same weights, byte by byte. Another processor adds
in another order, and a training carries that rounding on from step to step: close, not the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from takd.runs.layout import SELECTED, SUM, environment_of
from takd.runs.strict import is_number

SHARES = ("test_acc", "val_acc", "val_best", "train_acc", "ece", "agreement", "last_test_acc")
IN_NATS = ("test_loss", "entropy", "kl")
_BY_TEACHER = ("agreement", "kl")
_ROUNDS = ("cpu_capability", "device", "device_name", "engine", "precision", "threads", "torch")  # decide the rounding
TIMED = ("env", "finished", "seconds", "images_per_second", "peak_memory_mb", "memory")  # of the moment
_FORM = ("files", "schema", SUM)


@dataclass(frozen=True)
class Apart:
    """One number of some trainings done twice: how many trainings have it, how many of them the same to 1e-9, and the
    median and the largest difference. Shares of images as fractions, the rest in nats."""

    number: str
    trainings: int
    equal: int
    median: float
    largest: float


def numbers_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers a training ended with, by name: `test_acc`, `width 0.5: test_acc` of a part, `kl with 1a2b3c4d` of a
    teacher. What is no finite number is NaN."""
    found: dict[str, float] = {}
    parts = result.get("parts")
    rows = [("", result), *((f"{row.get('name')}: ", row) for row in _rows(parts))]
    for prefix, row in rows:
        for name in (*SHARES, *IN_NATS):
            value = row.get(name)
            if name in _BY_TEACHER and isinstance(value, Mapping):
                found |= {f"{prefix}{name} with {key[:8]}": _finite(of) for key, of in value.items()}
            elif name in row and name not in _BY_TEACHER:
                found[f"{prefix}{name}"] = _finite(value)
    if isinstance(selected := result.get(SELECTED), Mapping):
        found[f"{SELECTED}: last_test_acc"] = _finite(selected.get("last_test_acc"))
    return found


def same_machine(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two results were measured on the same kind of machine with the same engine, as far as they say."""
    ours, theirs = environment_of(one), environment_of(other)
    return all(ours.get(name) is not None and ours.get(name) == theirs.get(name) for name in _ROUNDS)


def unequal(one: Mapping[str, Any], other: Mapping[str, Any], files: Iterable[str]) -> dict[str, tuple[object, object]]:
    """What two results of the same training on one kind of machine do not have in common and should: everything that
    does not tell the time, and the SHA-256 of these files. What only one of them says is left out."""
    names = sorted((one.keys() & other.keys()) - {*TIMED, *_FORM})
    found = {name: (one[name], other[name]) for name in names if one[name] != other[name]}
    for name in files:
        sums = tuple(str((result["files"].get(name) or {}).get("sha256")) for result in (one, other))
        if sums[0] != sums[1]:
            found[name] = sums[0][:12], sums[1][:12]
    return found


def kind_of(name: str) -> str:
    """Which number of the two tuples above a name of `numbers_of` is."""
    return name.rpartition(": ")[2].partition(" with ")[0]


def apart(pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Iterator[Apart]:
    """How far two results of each of these trainings lie apart, number by number."""
    found: dict[str, list[float]] = {}
    for one, other in pairs:
        ours, theirs = numbers_of(one), numbers_of(other)
        for name in ours.keys() & theirs.keys():
            found.setdefault(kind_of(name), []).append(abs(ours[name] - theirs[name]))
    for name in (*SHARES, *IN_NATS):
        if gaps := [gap for gap in found.get(name, []) if not math.isnan(gap)]:
            yield Apart(name, len(gaps), sum(gap <= 1e-9 for gap in gaps), median(gaps), max(gaps))


def _rows(value: object) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _finite(value: object) -> float:
    return float(value) if is_number(value) and math.isfinite(value) else math.nan
