"""Check stages whose weights and answers were left out by training them again: small ones, in moments.

The library leaves both out of networks for 8x8 images (takd.runs.shelf). They are trained from nothing, with their
teachers, in a store that is thrown away, and every number of the new result is held against the stored one.

A training carries the rounding of its sums on from step to step: which networks are trained side by side changes the
order of additions, and another processor adds in yet another one. All 4,583 of them were trained on two kinds of
processor: 84 % have the same test accuracy to the image, 99 % differ by 1.1 points at most, and by the most (10.1
points, the next 4.2) a student that imitates hidden layers; of losses and entropies by the most 0.19, relative to
themselves or to 1. So this check finds numbers that are wrong by more than WITHIN or LOSS_WITHIN, not every digit. Test
accuracies and agreement need no such room: they are counted from the answered classes.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from takd.runs.loop import PREDICTIONS, WEIGHTS, train_all
from takd.runs.shelf import trained_again
from takd.runs.stamps import Difference, StageReport
from takd.runs.store import Store
from takd.stage import StageSpec

WITHIN = 0.12  # of an accuracy
LOSS_WITHIN = 0.3  # of a loss or an entropy in nats, relative to itself or to 1
_NUMBERS = ("test_acc", "val_acc", "val_best", "train_acc", "test_loss", "ece", "entropy")
_ACCURACIES = frozenset(name for name in _NUMBERS if name not in ("test_loss", "entropy"))
SAID = "trained again"


def check_again(
    store: Store,
    reports: Mapping[str, StageReport],
    should_stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda _: None,
    trained: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, StageReport]:
    """The reports, with those of stages that can be trained again completed by what came out.

    Only stages without weights and answers, of which nothing else differs, are trained; what `should_stop` ends keeps
    its report. `trained` hears how many of how many are done, teachers included.
    """
    wanted = {key: stage for key, report in reports.items() if (stage := _left_out(store, report)) is not None}
    if not wanted:
        return dict(reports)
    stages = _with_teachers(store, wanted)
    wanted = {key: stage for key, stage in wanted.items() if key in stages}
    done = dict(reports)
    with tempfile.TemporaryDirectory(prefix="takd-again-") as folder:
        fresh = Store(Path(folder))

        def between() -> None:
            trained(sum(fresh.is_done(key) for key in stages), len(stages))

        train_all(fresh, stages, device="cpu", should_stop=should_stop, say=say, between=between)
        for key in wanted:
            stored, found = store.result(key), fresh.result(key)
            if stored is not None and found is not None:
                done[key] = _compared(reports[key], stored, found)
    return done


def _left_out(store: Store, report: StageReport) -> StageSpec | None:
    stage = store.stage(report.key)
    if stage is None or report.differences or not {WEIGHTS, PREDICTIONS} <= set(report.skipped):
        return None
    return stage if trained_again(stage) and store.origin(report.key) == "cached" else None


def _with_teachers(store: Store, wanted: Mapping[str, StageSpec]) -> dict[str, StageSpec]:
    """The stages and all they were taught by, teachers first; without those a teacher of which is not here, which would
    be waited for without end."""
    found: dict[str, StageSpec] = {}

    def add(key: str, stage: StageSpec | None) -> bool:
        if stage is None:
            return False
        if key not in found:
            if not all(add(teacher, store.stage(teacher)) for teacher in stage.teachers):
                return False
            found[key] = stage
        return True

    for key, stage in wanted.items():
        add(key, stage)
    return found


def _compared(report: StageReport, stored: Mapping[str, Any], found: Mapping[str, Any]) -> StageReport:
    checked, differences = [SAID], []
    rows = [("", stored, found)]
    old_parts, new_parts = stored.get("parts"), found.get("parts")
    if isinstance(old_parts, list) and isinstance(new_parts, list) and len(old_parts) == len(new_parts):
        pairs = zip(old_parts, new_parts, strict=True)
        rows += [(f"{new.get('name')}: ", old, new) for old, new in pairs if isinstance(old, dict)]
    for name, old, new in rows:
        for number in _NUMBERS:
            if number in new and number in old:
                what, far = f"{name}{number}", _apart(number, old[number], new[number])
                checked.append(what)
                if not far <= WITHIN:
                    differences.append(Difference(what, str(old[number]), f"{new[number]} ({SAID})"))
    left = {what: why for what, why in report.skipped.items() if what not in {*checked, WEIGHTS, PREDICTIONS}}
    return replace(
        report,
        checked=tuple(dict.fromkeys((*report.checked, *checked))),
        skipped=left,
        differences=(*report.differences, *differences),
    )


def _apart(number: str, old: object, new: object) -> float:
    """How far two values lie apart, on the scale of an accuracy."""
    if not isinstance(old, (int, float)) or not isinstance(new, (int, float)) or isinstance(old, bool):
        return math.inf
    apart = abs(float(old) - float(new))
    return apart if number in _ACCURACIES else apart / max(1.0, abs(float(new))) * WITHIN / LOSS_WITHIN
