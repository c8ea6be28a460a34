"""Recompute every number of a stage from what is stored with it, and say what does not agree.

Three sources are asked, each independent of the number it checks: the rows of the epochs, the test answers with the
test labels, and the weights, which answer the test images again. Where the test answers were left out, those of the
weights take their place: of many small stages only the smaller of the two files is kept (runs/publish.py). Where both
were, the answered classes still say how many answers were right, and agreed with a teacher's (classes_check). What
cannot be asked (a data set that is not prepared here, weights that were left out) is named and never counted as
checked. Nobody can recompute how much memory a training took, what it ran on and when it ended.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from takd.data.meta import DataError
from takd.evaluation.answers_check import Stored, check_metrics, check_teachers, read_stored
from takd.evaluation.answers_read import labels_that_travel
from takd.evaluation.classes_check import check_classes
from takd.evaluation.notes import ROWS, Notes
from takd.evaluation.weights_check import LOGITS, Asked, answers_of_weights, ask_weights, check_weights, material
from takd.methods.parts import part_names
from takd.runs import files
from takd.runs.layout import CLASSES, EVENTS, RESULT, RESULT_SCHEMA, SELECTED, STAGE, SUM, TAUGHT_BY, sha256
from takd.runs.loop import PREDICTIONS, WEIGHTS, title
from takd.runs.shelf import trained_again
from takd.runs.stamps import StageReport, files_of, place_of
from takd.runs.store import Store
from takd.runs.sums import MISSING, SUMS, wrong_of_stage
from takd.stage import StageSpec, canonical_json
from takd.training.schedules import learning_rate

_MAY_BE_LEFT_OUT = (WEIGHTS, PREDICTIONS)  # of what travels with the program, to keep it small
_ROUNDED = 6e-7  # events keep six decimals; half a unit of the last one, and a little for the binary fraction
_FOREIGN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_LOSS = 2e-4  # of a mean of fp32 terms against the mean of their sum


def verify_stage(store: Store, key: str, *, expected: bool = True) -> StageReport:
    """Check one stage. One that is not trained is a difference only where it is `expected` to be."""
    notes, folder = Notes(), place_of(store, key)
    package = "" if folder == store.own_folder(key) else "what comes with the program"
    if store.imported is not None and folder.is_relative_to(store.imported):
        package = "the bundle it came in"
    stage = _stage(notes, store, folder, key, expected)
    result = _result(notes, folder, key, expected)
    name = _title(store, stage) if stage is not None else f"stage {key[:8]}"
    if result is not None:
        try:
            _contents(notes, store, folder, stage, result, package)
        except _FOREIGN as error:  # edited by somebody: a list for a number, a text for a list
            traceback.print_exc()
            notes.differs(RESULT, "values of the right kind", f"{type(error).__name__}: {error}")
    return notes.report(key, name, files_of(store, key))


def _contents(
    notes: Notes, store: Store, folder: Path, stage: StageSpec | None, result: Mapping[str, Any], package: str
) -> None:
    left_out = (EVENTS,) if package and stage is not None and trained_again(stage) else ()
    raws = _files(notes, folder, result, package, (*_MAY_BE_LEFT_OUT, *left_out))
    _library(notes, store, folder, result["key"])
    if stage is not None:
        _events(notes, stage, result, raws.get(EVENTS))
        _test_numbers(notes, store, stage, result, raws, files.read_bytes_or_none(folder / CLASSES))


def _title(store: Store, stage: StageSpec) -> str:
    return title(stage, {key: found for key in stage.teachers if (found := store.stage(key)) is not None})


# Files


def _stage(notes: Notes, store: Store, folder: Path, key: str, expected: bool) -> StageSpec | None:
    raw = files.read_bytes_or_none(folder / STAGE)
    if raw is None:
        if expected or files.version(str(folder / RESULT)) is not None:
            notes.differs(STAGE, f"the stage {key}", "missing")
        else:
            notes.skip(STAGE, "not trained yet")
        return None
    notes.same("key", key, sha256(raw)[:32])
    try:
        return StageSpec.from_bytes(raw)
    except ValueError as error:
        notes.differs(STAGE, "a stage in canonical form", str(error))
    return store.stage(key)  # a sound copy elsewhere says what this one should


def _result(notes: Notes, folder: Path, key: str, expected: bool) -> dict[str, Any] | None:
    raw = files.read_bytes_or_none(folder / RESULT)
    if raw is None:
        if expected:
            notes.differs(RESULT, "the result of a finished training", "missing")
        else:
            notes.skip("result", "not trained yet")
        return None
    value = files.parse_object(raw)
    if value is None or not isinstance(value.get("files"), dict) or value.get("schema") != RESULT_SCHEMA:
        notes.differs(RESULT, "a result", "cannot be read")
        return None
    notes.same("key in result.json", value.get("key"), key)
    if (said := value.pop(SUM, None)) is not None:
        found = sha256(canonical_json(value))
        notes.same("result.json's own sum", f"SHA-256 {str(said)[:12]}...", f"{found[:12]}...", equal=said == found)
    return value


def _files(
    notes: Notes, folder: Path, result: Mapping[str, Any], package: str, left_out: tuple[str, ...]
) -> dict[str, bytes]:
    """The bytes of the stage's files, each compared with its sum; also of those that differ: their content counts.
    `package` names what a stage came in that was not trained here: those of `left_out` may be missing in it."""
    found: dict[str, bytes] = {}
    listed: dict[str, Any] = result["files"]
    for name in sorted({*listed, EVENTS, *_MAY_BE_LEFT_OUT}):
        row = listed.get(name)
        raw = files.read_bytes_or_none(folder / name) if "/" not in name and os_safe(name) else None
        if raw is None and package and name in left_out:
            notes.skip(name, f"left out of {package}")
        elif raw is None and row is None:
            notes.differs(name, "not listed in result.json", "missing")
        elif raw is None:
            notes.differs(name, "a file", "missing")
        elif not isinstance(row, dict):
            notes.differs(name, "not listed in result.json", f"SHA-256 {sha256(raw)[:12]}...")
            found[name] = raw
        else:
            notes.same(name, _sum(row), f"SHA-256 {sha256(raw)[:12]}..., {len(raw)} bytes", equal=_is(row, raw))
            found[name] = raw
    return found


def _library(notes: Notes, store: Store, folder: Path, key: str) -> None:
    """Where it came with the program: the files it is in against the library's list of sums."""
    library = next((root for root in store.cached if folder.is_relative_to(root)), None)
    if library is not None and (library / SUMS).exists():
        wrong = wrong_of_stage(library, folder, key)
        for path, (listed, found) in wrong.items():
            notes.differs(path, f"SHA-256 {listed[:12]}...", found if found == MISSING else f"SHA-256 {found[:12]}...")
        if not wrong:
            notes.checked(SUMS)


def os_safe(name: str) -> bool:
    """Whether a listed name is a plain file name."""
    return bool(name) and not name.startswith(".") and "\\" not in name and "\0" not in name


def _sum(row: Mapping[str, Any]) -> str:
    return f"SHA-256 {str(row.get('sha256'))[:12]}..., {row.get('bytes')} bytes"


def _is(row: Mapping[str, Any], raw: bytes) -> bool:
    return row.get("sha256") == sha256(raw) and row.get("bytes") == len(raw)


# Epochs


def _events(notes: Notes, stage: StageSpec, result: Mapping[str, Any], raw: bytes | None) -> None:
    names = ("val_acc", "train_acc", "val_best", "val_best_epoch", "seconds", "images_per_second")
    rows = [] if raw is None else [files.parse_object(line) or {} for line in raw.split(b"\n")[:-1]]
    last = stage.recipe.last
    notes.same("epochs", result.get("epochs"), last)
    if raw is None:
        chosen = [f"{SELECTED}: last_test_acc", f"{SELECTED}: epoch"] if stage.recipe.selection else []
        notes.skip_all((*names, *chosen, ROWS), "its rows of epochs are missing")
        return
    epochs = [row.get("epoch") for row in rows]
    wanted = list(range(1, last + 1))
    wrong = next((i for i, (a, b) in enumerate(zip(epochs, wanted, strict=False)) if a != b), min(len(epochs), last))
    notes.same(
        ROWS,
        f"epochs 1 to {last}",
        f"{len(rows)} rows" + (f", epoch {wrong + 1} is not in its place" if epochs != wanted else ""),
        equal=epochs == wanted and raw.endswith(b"\n"),
    )
    needed = ("val_acc", "train_acc", "seconds", "images_per_second")
    if not rows or not all(_number(row.get(name)) for row in rows for name in needed):
        notes.differs(ROWS, "numbers in every row", "a row without them")
        return
    for name in ("val_acc", "train_acc", "seconds"):
        notes.same(name, result.get(name), rows[-1][name], within=_ROUNDED)
    best = max(rows, key=lambda row: row["val_acc"])
    notes.same("val_best", result.get("val_best"), best["val_acc"], within=_ROUNDED)
    notes.same("val_best_epoch", result.get("val_best_epoch"), best.get("epoch"))
    speeds = sorted(row["images_per_second"] for row in rows)
    notes.same("images_per_second", result.get("images_per_second"), speeds[len(speeds) // 2], within=_ROUNDED)
    _rows_in_themselves(notes, stage, rows)
    _selection(notes, stage, result, rows)


def _rows_in_themselves(notes: Notes, stage: StageSpec, rows: list[dict[str, Any]]) -> None:
    """The loss of a row from its terms, the rate from the schedule, the time that only grows."""
    recipe, images = stage.recipe, stage.data.train_images
    steps = images // max(1, min(recipe.batch, images))
    rates = [
        learning_rate(recipe.schedule, recipe.lr, n * steps - 1, steps * recipe.epochs) for n in range(1, len(rows) + 1)
    ]
    _first_wrong(notes, "lr of the epochs", rows, "lr", rates, 1e-6, 1e-5)
    if stage.loss.name in ("ce", "kd") and not stage.loss.options:
        lam = stage.loss.lam
        terms: list[tuple[Any, Any]] = [(row.get("loss_ce"), row.get("loss_kl")) for row in rows]
        sums = [float("nan") if not (_number(a) and _number(b)) else (1 - lam) * a + lam * b for a, b in terms]
        _first_wrong(notes, "loss of the epochs", rows, "loss", sums, 1e-5, _LOSS)
    times = [row["seconds"] for row in rows]
    back = next((i for i in range(1, len(times)) if times[i] < times[i - 1]), None)
    if back is not None:
        notes.differs("seconds of the epochs", f"{times[back - 1]} after epoch {back}", f"{times[back]} an epoch later")


def _first_wrong(
    notes: Notes, what: str, rows: list[dict[str, Any]], name: str, found: list[float], small: float, share: float
) -> None:
    for number, (row, value) in enumerate(zip(rows, found, strict=True), 1):
        if not _number(row.get(name)) or not abs(row[name] - value) <= small + share * abs(value):
            notes.differs(f"{what} (epoch {number})", str(row.get(name)), f"{value:.6g}")
            return
    notes.checked(what)


def _selection(notes: Notes, stage: StageSpec, result: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
    """A stage that was to be looked at on test images was, in every epoch, and no other stage ever."""
    from takd.evaluation.selection import COLUMN

    name, said = SELECTED, result.get(SELECTED)
    looked = [COLUMN in row for row in rows]
    if not stage.recipe.selection:
        notes.same(name, said, None)
        if any(looked):
            notes.differs(f"{COLUMN} in the events", f"in epoch {looked.index(True) + 1}", "this stage may not look")
        return
    if not all(_number(row.get(COLUMN)) for row in rows) or not isinstance(said, dict):
        notes.differs(name, str(said), "rows with and without a look at test images")
        return
    best = max(rows, key=lambda row: row[COLUMN])
    notes.same(f"{name}: epoch", said.get("epoch"), best.get("epoch"))
    notes.same(f"{name}: last_test_acc", said.get("last_test_acc"), rows[-1][COLUMN], within=_ROUNDED)
    notes.same(f"{name}: looks", said.get("looks"), len(rows))
    notes.same(f"{name}: test_acc of that epoch", result.get("test_acc"), best[COLUMN], within=_ROUNDED)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# Test part

_LEFT = "its test answers (predictions.npz) are not stored here"
_METRICS = ("test_acc", "test_loss", "ece", "entropy", "correct_classes")


def _test_numbers(
    notes: Notes,
    store: Store,
    stage: StageSpec,
    result: Mapping[str, Any],
    raws: Mapping[str, bytes],
    classes: bytes | None,
) -> None:
    """Everything that needs the test labels; `classes` are the answered ones, where they are stored by themselves."""
    names = [*_METRICS, *(["parts"] if result.get("parts") else [])]
    taught = [f"{what} with {key[:8]}" for key in stage.teachers for what in ("agreement", "kl")]
    listed = {what: result.get(what) for what in ("agreement", "kl")}
    if TAUGHT_BY in result:
        listed[TAUGHT_BY] = result[TAUGHT_BY]
        losses = list(result[TAUGHT_BY].values())
        notes.same(TAUGHT_BY, losses, losses, equal=all(loss is None or _number(loss) for loss in losses))
    for what, row in listed.items():
        told = sorted(row) if isinstance(row, dict) else row
        notes.same(f"teachers of {what}", told, sorted(set(stage.teachers)))
    labels: np.ndarray | None
    try:
        labels = material(stage.data).labels()
    except DataError as error:
        labels = labels_that_travel(store, stage.data)
        notes.skip_all([*names, LOGITS] if labels is None else [LOGITS], _short(error))
    asked = None if labels is None else ask_weights(notes, store, stage, result, raws.get(WEIGHTS))
    stored = _answers(notes, stage, raws.get(PREDICTIONS), asked, [*names, *taught])
    if labels is not None:
        _in_itself(notes, result, labels)
    if stored is not None and labels is not None:
        if stored.logits.shape != (len(labels), stage.data.classes):
            notes.differs(PREDICTIONS, f"{len(labels)} images, {stage.data.classes} classes", _shape(stored))
            return
        notes.ties = check_metrics(notes, "", result, stored, labels, stage.data.classes)
        _parts(notes, stage, result, stored, labels)
    if stored is not None:
        check_teachers(notes, store, stage, result, stored, partial(answers_of_weights, store))
    if labels is not None and classes is not None:
        check_classes(notes, store, stage, result, classes, labels)
    if asked is not None:
        check_weights(notes, stage, result, stored, asked)


def _answers(
    notes: Notes, stage: StageSpec, raw: bytes | None, asked: Asked | None, needing: list[str]
) -> Stored | None:
    """The stored test answers, or those of the weights where none are stored."""
    if raw is None and asked is not None:
        several = asked.answers.shape[1] > 1
        again = asked.stored(part_names(stage)[1] if several else 0)
        if again is None:
            notes.differs(WEIGHTS, f"weights of {stage.network}", "answers that are no finite float16")
            notes.skip_all(needing, "its weights give no answers")
        elif several or not stage.peers:  # every answer of the stage: nothing is missed by what was left out
            notes.made_up_for(PREDICTIONS)
        return again
    if raw is None:
        notes.skip_all(needing, _LEFT)
        return None
    try:
        return read_stored(raw)
    except ValueError as error:
        notes.differs(PREDICTIONS, "test answers", _short(error))
        notes.skip_all(needing, "its test answers cannot be read")
        return None


def _in_itself(notes: Notes, result: Mapping[str, Any], labels: np.ndarray) -> None:
    """The accuracy and the right answers per class say the same, which needs no answers at all."""
    for prefix, row in (("", result), *((f"{r.get('name')}: ", r) for r in _rows(result.get("parts")))):
        counts = row.get("correct_classes")
        if isinstance(counts, list) and all(_number(n) for n in counts) and _number(row.get("test_acc")):
            notes.same(f"{prefix}test_acc of correct_classes", row["test_acc"], sum(counts) / len(labels), within=1e-9)


def _parts(notes: Notes, stage: StageSpec, result: Mapping[str, Any], stored: Stored, labels: np.ndarray) -> None:
    """What each of several answers, where several do: their names, and the numbers of each."""
    names, main = part_names(stage)
    rows = _rows(result.get("parts"))
    notes.same("parts", [row.get("name") for row in rows], names)
    if stored.again is not None and stored.parts is None:  # those of peers went with them
        if names:
            notes.skip_all(["parts in predictions.npz", *(f"{name}: test_acc" for name in names)], _LEFT)
        return
    count = 0 if stored.parts is None else len(stored.parts)
    notes.same("parts in predictions.npz", count, len(names))
    if not names or stored.parts is None or len(rows) != len(names) or count != len(names):
        return
    for row, part in zip(rows, stored.parts, strict=True):
        notes.ties += check_metrics(notes, f"{row.get('name')}: ", row, part, labels, stage.data.classes)
    alike = np.array_equal(stored.parts[main].half, stored.half)
    notes.same("main answer", "logits of the stage", f"those of {names[main]}", equal=alike)
    for name in _METRICS:
        notes.same(f"{names[main]}: {name} is the stage's", rows[main].get(name), result.get(name))


def _rows(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _shape(stored: Stored) -> str:
    return f"{stored.logits.shape[0]} images, {stored.logits.shape[-1]} classes"


def _short(error: Exception) -> str:
    return str(error)[:300]
