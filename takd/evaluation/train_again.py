"""Check stages by training them again: small ones in moments, large ones in hours, where somebody asks for it.

The library leaves weights and answers out of half of the networks for 8x8 images, and of large ones (takd.runs.shelf).
They are trained from nothing, with their teachers, in a store of their own, and the new result is held against the
stored one.

On the kind of machine that trained them (takd.evaluation.twice) most are the same to the last digit, the sums of the
weights and answers that were left out too, and that is said. It is not asked for: another processor adds in another
order, and so may another version of the libraries. All 4,583 of digits were trained on two kinds of processor: 84 %
have the same test accuracy to the image, 99 % differ by 1.1 points at most, and by the most (10.1 points, the next 4.2)
a student that imitates hidden layers; agreement with a teacher by 9.6 points at most, losses, entropies and KL by 0.19,
relative to themselves or to 1. So a difference is what is wrong by more than WITHIN or LOSS_WITHIN.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from takd.data.catalogue import is_ready
from takd.evaluation.notes import ROWS
from takd.evaluation.twice import SHARES, TIMED, kind_of, numbers_of, same_machine, unequal
from takd.runs.copies import other_copies
from takd.runs.layout import EVENTS
from takd.runs.loop import PREDICTIONS, WEIGHTS, train_all
from takd.runs.shelf import trained_again
from takd.runs.stamps import EXACTLY, SAID, Difference, StageReport, stamps_folder
from takd.runs.store import Store
from takd.stage import StageSpec
from takd.training.device import pick_device

AGAIN = "again"  # the folder of large networks that were trained a second time
WITHIN = 0.12  # of an accuracy
LOSS_WITHIN = 0.3  # of a loss, an entropy or a KL in nats, relative to itself or to 1


def check_again(
    store: Store,
    reports: Mapping[str, StageReport],
    should_stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda _: None,
    trained: Callable[[int, int], None] = lambda done, total: None,
    every: bool = False,
) -> dict[str, StageReport]:
    """The reports, with those of small stages that can be trained again completed by what came out.

    Only stages of the library of which nothing differs are trained, and without `every` only those without weights and
    answers; what `should_stop` ends keeps its report. `trained` hears how many of how many are done, teachers included.
    """
    open_ones = [r for r in reports.values() if every or {WEIGHTS, PREDICTIONS} <= set(r.skipped)]
    wanted = {key: stage for key, stage in _of_library(store, open_ones) if trained_again(stage)}
    if not wanted:
        return dict(reports)
    with tempfile.TemporaryDirectory(prefix="takd-again-") as folder:
        return _checked(store, reports, wanted, Store(Path(folder)), "cpu", should_stop, say, trained)


def check_large(
    store: Store,
    reports: Mapping[str, StageReport],
    seconds: float,
    should_stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda _: None,
    trained: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, StageReport]:
    """The same for large stages, seed by seed until `seconds` are over, on a GPU where there is one.

    What is trained is kept in `<store>/verified/again`, a store of its own: asked for again, it goes on there, and
    compares all that is there. Data sets that are not prepared here are passed over.
    """
    until = time.monotonic() + seconds
    large = ((key, stage) for key, stage in _of_library(store, reports.values()) if not trained_again(stage))
    here = [(key, stage) for key, stage in large if is_ready(stage.data.name)]
    wanted = dict(sorted(here, key=lambda pair: pair[1].seed))
    fresh = Store(stamps_folder(store) / AGAIN)

    def over() -> bool:
        return should_stop() or time.monotonic() >= until

    return _checked(store, reports, wanted, fresh, str(pick_device()), over, say, trained)


def _checked(
    store: Store,
    reports: Mapping[str, StageReport],
    wanted: Mapping[str, StageSpec],
    fresh: Store,
    device: str,
    should_stop: Callable[[], bool],
    say: Callable[[str], None],
    trained: Callable[[int, int], None],
) -> dict[str, StageReport]:
    """The reports, those of `wanted` completed by what came out in the store `fresh`."""
    stages, done = _with_teachers(store, wanted), dict(reports)
    if not stages:
        return done

    def between() -> None:
        trained(sum(fresh.is_done(key) for key in stages), len(stages))

    train_all(fresh, stages, device=device, should_stop=should_stop, say=say, between=between)
    for key in wanted.keys() & stages.keys():
        stored, found = store.result(key), fresh.result(key)
        if stored is not None and found is not None:
            done[key] = _compared(reports[key], stored, found, other_copies(store, stored))
    return done


def _of_library(store: Store, reports: Iterable[StageReport]) -> Iterator[tuple[str, StageSpec]]:
    """The stages of those reports that are about the library and found nothing wrong."""
    for report in reports:
        stage = store.stage(report.key)
        if stage is not None and not report.differences and store.origin(report.key) == "cached":
            yield report.key, stage


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


def _compared(
    report: StageReport, stored: Mapping[str, Any], found: Mapping[str, Any], others: Collection[str]
) -> StageReport:
    """`others` are teachers of which another copy than the stored one taught the stored result: what is about them
    cannot come out the same."""
    old, new = numbers_of(stored), numbers_of(found)
    left_out = {key[:8] for key in others}
    names = [name for name in new if name in old and name.partition(" with ")[2] not in left_out]
    apart = {name: (_said(old[name]), _said(new[name])) for name in names if not _near(name, old[name], new[name])}
    exactly = same_machine(stored, found) and not unequal(stored, found, (WEIGHTS, PREDICTIONS))
    differences = [Difference(name, one, f"{other} ({SAID})") for name, (one, other) in apart.items()]
    answered = set(report.skipped) - {*TIMED, ROWS, EVENTS} if exactly else {*names, WEIGHTS, PREDICTIONS}
    left = {what: why for what, why in report.skipped.items() if what not in answered}
    return replace(
        report,
        checked=tuple(dict.fromkeys((*report.checked, SAID, *([EXACTLY] if exactly else []), *names))),
        skipped=left,
        differences=(*report.differences, *differences),
    )


def _near(name: str, old: float, new: float) -> bool:
    if kind_of(name) in SHARES:
        return abs(old - new) <= WITHIN
    return abs(old - new) <= LOSS_WITHIN * max(1.0, abs(new))


def _said(value: float) -> str:
    return "no number" if math.isnan(value) else str(value)
