"""One stage of a bundle, checked from its bytes: whether this is what a training of this program leaves.

That its numbers are right nobody can see here; that is recomputed by the check of stored numbers (takd.evaluation).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from takd.methods.parts import part_names
from takd.methods.table import LOSSES
from takd.networks.own import is_own
from takd.networks.table import NETWORKS, capacity
from takd.runs.arrays import check_answers, check_weights
from takd.runs.bundle import LARGEST, LISTED, PREDICTIONS, WEIGHTS
from takd.runs.classes import TIED, classes_of
from takd.runs.layout import CLASSES, EVENTS, RESULT, RESULT_SCHEMA, STAGE, SUM, TAUGHT_BY, is_key, parse_result, sha256
from takd.runs.memory import SPARED
from takd.runs.strict import Unfit, is_number, is_plain_text, strict_object
from takd.stage import STAGE_SCHEMA, StageSpec

_NEWER = "was made by a newer version of this program; update this copy and import it again"
_COLUMN = re.compile(r"[a-z][a-z0-9_]{0,39}")
_ROW_NUMBERS = ("loss", "val_acc", "train_acc", "seconds", "images_per_second")  # every row has them
_SHARES = ("test_acc", "val_acc", "train_acc", "val_best")
_UTC = re.compile(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(\+00:00|Z)?")
_GRACE = timedelta(days=1)  # by which the clock of another machine may be ahead
# Sizes no training comes to. What is drawn and printed is computed from these numbers, so that it stays finite too.
_MOST_LOSS, _MOST_SPEED = 1e6, 1e9


def check_stage_spec(raw: bytes, key: str) -> StageSpec:
    """The stage in stage.json, whose hash is the key. Raises Unfit."""
    value = strict_object(raw, LARGEST[STAGE])
    if newer(value, STAGE_SCHEMA):
        raise Unfit(_NEWER)
    if sha256(raw)[:32] != key:
        raise Unfit("does not have the hash that its folder is named after")
    try:
        stage = StageSpec.from_bytes(raw)
    except ValueError as error:
        raise Unfit("does not describe a training of this program") from error
    if stage.network not in NETWORKS or any(name not in NETWORKS for name in stage.peers):
        raise Unfit(f"trains a network this version does not know, {quoted(stage.network)}; update this copy")
    if stage.loss.name not in LOSSES:
        raise Unfit(f"uses a loss this version does not know, {quoted(stage.loss.name)}; update this copy")
    if key in stage.teachers or not all(is_key(teacher) for teacher in stage.teachers):
        raise Unfit("names itself or no stage at all as its teacher")
    return stage


def check_result(stage: StageSpec, raw: bytes, there: Mapping[str, bytes]) -> None:
    """What result.json says of a stage and of its files, which are `there` but for some that were left out. Raises
    Unfit."""
    value = strict_object(raw, LARGEST[RESULT])
    if newer(value, RESULT_SCHEMA):
        raise Unfit(f"{RESULT} {_NEWER}")
    if parse_result(raw, stage.key) is None:
        raise Unfit(f"{RESULT} is not a result of this stage")
    value.pop(SUM, None)  # parse_result has compared it
    unknown = sorted(set(value) - set(_KINDS))
    missing = sorted(name for name in _REQUIRED if name not in value)
    if unknown or missing:
        raise Unfit(f"{RESULT} has a field too many or too few, {quoted((*unknown, *missing)[0])}")
    wrong = next((name for name, item in value.items() if not _KINDS[name](item)), None)
    if wrong is not None:
        raise Unfit(f"{RESULT} has an impossible value for {wrong}")
    if value["epochs"] != stage.recipe.last or len(value.get("correct_classes", ())) != stage.data.classes:
        raise Unfit(f"{RESULT} does not fit its stage: another number of epochs or classes")
    if len(value.get("parts", ())) != len(part_names(stage)[0]):
        raise Unfit(f"{RESULT} has another number of parts than answer in its stage")
    if {*value.get("agreement", ()), *value.get("kl", ())} - set(stage.teachers):
        raise Unfit(f"{RESULT} names a teacher that is not one of its stage")
    _check_sums(value["files"], there)


def _check_sums(table: Mapping[str, Any], there: Mapping[str, bytes]) -> None:
    if EVENTS not in table or not set(table) <= {EVENTS, *LISTED}:
        raise Unfit(f"{RESULT} lists other files than a training leaves")
    for name, raw in there.items():
        row = table.get(name, {})
        if row.get("sha256") != sha256(raw) or row.get("bytes") != len(raw):
            raise Unfit(f"{name} is not the file that its result.json names: it was changed, or damaged on the way")


def check_events(stage: StageSpec, raw: bytes) -> None:
    """One row of numbers a training can come to for every epoch, in order. Raises Unfit."""
    lines = raw.split(b"\n")
    if len(lines) - 1 != stage.recipe.last or lines[-1]:
        raise Unfit(f"{EVENTS} has {len(lines) - 1:,} rows, and its stage is trained for {stage.recipe.last} epochs")
    for number, line in enumerate(lines[:-1], 1):
        row = strict_object(line, 4_000, canonical=False)
        if row.get("epoch") != number or type(row["epoch"]) is not int:
            raise Unfit(f"{EVENTS} has another epoch in the place of epoch {number}")
        if not all(_COLUMN.fullmatch(name) and is_number(value) for name, value in row.items()):
            raise Unfit(f"{EVENTS} has something else than numbers in epoch {number}")
        if not all(name in row for name in _ROW_NUMBERS):
            raise Unfit(f"{EVENTS} lacks a number in epoch {number}")
        wrong = next((name for name, value in row.items() if not _COLUMNS.get(name, _loss)(value)), None)
        if wrong is not None:
            raise Unfit(f"{EVENTS} has an impossible value for {wrong} in epoch {number}")


def check_arrays(stage: StageSpec, there: Mapping[str, bytes], images: int) -> int:
    """The test answers, their classes and the weights that are `there`; returns the number of test images, 0 where
    there is neither of the first two. `images` is how many there must be, 0 where that is not known. Raises Unfit."""
    found = 0
    if PREDICTIONS in there:
        try:
            found = check_answers(there[PREDICTIONS], stage.data.classes, len(part_names(stage)[0]))
        except Unfit as error:
            raise Unfit(f"{PREDICTIONS} {error}") from error
        if images and found != images:
            raise Unfit(f"{PREDICTIONS} holds answers for {found:,} images, and there are {images:,}")
    if CLASSES in there:
        found = _check_classes(stage, there[CLASSES], found or images)
        if PREDICTIONS in there and classes_of(there[PREDICTIONS]) != there[CLASSES]:
            raise Unfit(f"{CLASSES} holds other answers than {PREDICTIONS}")
    if WEIGHTS in there:
        try:
            count = check_weights(there[WEIGHTS])
        except Unfit as error:
            raise Unfit(f"{WEIGHTS} {error}") from error
        row = NETWORKS[stage.network]
        usual = stage.loss.name in ("ce", "kd") and not stage.peers and not row.subs and not row.part
        if usual and not is_own(stage.network) and count != capacity(stage.network, stage.data.classes).params:
            raise Unfit(f"{WEIGHTS} holds {count:,} weights, and {stage.network} has another number of them")
    return found


def _check_classes(stage: StageSpec, raw: bytes, images: int) -> int:
    """The number of images in classes.bin, as takd.runs.classes has it. Raises Unfit."""
    found, rest = divmod(len(raw), 1 + len(part_names(stage)[0]))
    if not found or rest or any(byte % TIED >= stage.data.classes for byte in set(raw)):
        raise Unfit(f"{CLASSES} holds something else than the class that was answered to each image")
    if images and found != images:
        raise Unfit(f"{CLASSES} holds answers for {found:,} images, and there are {images:,}")
    return found


def newer(value: Mapping[str, Any], known: int) -> bool:
    """Whether the schema of a file is one of the future."""
    return type(value.get("schema")) is int and value["schema"] > known


def quoted(value: str) -> str:
    """A name from the bundle as it is quoted back."""
    return f"'{value[:40]}'" if is_plain_text(value) else "one whose name cannot be shown"


def _within(least: float, most: float, value: Any) -> bool:
    return is_number(value) and least <= value <= most


_share, _speed = partial(_within, 0, 1), partial(_within, 0, _MOST_SPEED)
_loss = partial(_within, -_MOST_LOSS, _MOST_LOSS)


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 10**9


def _by_key(fits: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, dict) and all(is_key(key) and fits(number) for key, number in value.items())


def _flat(value: Any) -> bool:
    """A mapping of names to texts and numbers."""
    return (
        isinstance(value, dict)
        and len(value) <= 40
        and all(map(is_plain_text, value))
        and all(is_plain_text(v) or _speed(v) or v is None or type(v) is bool for v in value.values())
    )


def _counts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 10_000 and all(_count(number) for number in value)


def _parts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 64 and all(map(_part, value))


def _part(row: Any) -> bool:
    return isinstance(row, dict) and set(row) == set(_PART) and all(fits(row[name]) for name, fits in _PART.items())


def _files(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(row, dict)
        and set(row) == {"sha256", "bytes"}
        and isinstance(row["sha256"], str)
        and re.fullmatch(r"[0-9a-f]{64}", row["sha256"]) is not None
        and _count(row["bytes"])
        for row in value.values()
    )


def is_utc(value: Any) -> bool:
    """Whether something is a time as this program writes it, and one that has been."""
    if not isinstance(value, str) or _UTC.fullmatch(value) is None or not value.isascii():
        return False
    try:
        return datetime.fromisoformat(value).replace(tzinfo=UTC) <= datetime.now(UTC) + _GRACE
    except ValueError:
        return False


_COLUMNS: dict[str, Callable[[Any], bool]] = {  # of a row of events; every other one is a term of the loss
    **dict.fromkeys(("val_acc", "train_acc"), _share),
    **dict.fromkeys(("seconds", "images_per_second"), _speed),
}
_PART: dict[str, Callable[[Any], bool]] = {
    "name": is_plain_text,
    **dict.fromkeys(("val_acc", "test_acc"), _share),
    "ece": _share,
    **dict.fromkeys(("test_loss", "entropy"), _loss),
    "correct_classes": _counts,
}
_REQUIRED = ("schema", "key", "files", "epochs", "seconds", *_SHARES)
_KINDS: dict[str, Callable[[Any], bool]] = {
    "schema": _count,
    "key": is_key,
    "files": _files,
    "epochs": _count,
    "val_best_epoch": _count,
    **dict.fromkeys((*_SHARES, "ece"), _share),
    **dict.fromkeys(("test_loss", "entropy"), _loss),
    **dict.fromkeys(("seconds", "images_per_second"), _speed),
    "peak_memory_mb": lambda value: value is None or _speed(value),
    "memory": lambda value: isinstance(value, str) and value in SPARED,
    "agreement": partial(_by_key, _share),
    "kl": partial(_by_key, _loss),
    "env": _flat,
    TAUGHT_BY: partial(_by_key, lambda loss: loss is None or _loss(loss)),
    "correct_classes": _counts,
    "parts": _parts,
    "selected_on_test": _flat,
    "note": is_plain_text,
    "finished": is_utc,
}
