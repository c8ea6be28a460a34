"""Check stored looks (how steep the loss is, the loss along a line) by looking again, where weights and images are.

A plane is not checked, it takes minutes; nor is a map of answers (t-SNE), which follows the last digit of its input and
so the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from takd.evaluation.looking import CannotLook, look
from takd.runs.looking import read_look
from takd.runs.stamps import Difference, StageReport
from takd.runs.store import Store
from takd.runs.strict import is_number

CHECKED = ("rise", "line")
_SHARE, _LEAST = 1e-3, 1e-4  # of a loss in nats: a forward pass on another processor


def check_looks(
    store: Store, reports: Mapping[str, StageReport], should_stop: Callable[[], bool] = lambda: False
) -> dict[str, StageReport]:
    """The reports, completed by what looking again says about each stage's stored looks; what `should_stop` ends keeps
    its report."""
    done = dict(reports)
    for key in reports:
        for what in CHECKED:
            stored = read_look(store, key, what)
            if stored is not None and not should_stop():
                done[key] = _checked(store, done[key], what, stored, should_stop)
    return done


def _checked(
    store: Store, report: StageReport, what: str, stored: Mapping[str, Any], should_stop: Callable[[], bool]
) -> StageReport:
    stage, name = store.stage(report.key), f"look: {what}"
    try:
        found = None if stage is None else look(store, stage, what, lambda _: should_stop())
    except CannotLook as error:
        return replace(report, skipped={**report.skipped, name: str(error)})
    if found is None:
        return report
    apart = [
        Difference(f"{name}{where}", str(one), str(other))
        for where, one, other in _pairs("", stored, found)
        if not _near(one, other)
    ]
    return replace(report, checked=(*report.checked, name), differences=(*report.differences, *apart[:1]))


def _pairs(where: str, stored: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    """Everything that was found, with what is stored in its place."""
    if isinstance(found, Mapping):
        for name, value in found.items():
            yield from _pairs(f"{where}.{name}", stored.get(name) if isinstance(stored, Mapping) else None, value)
    elif isinstance(found, list):
        same = isinstance(stored, list) and len(stored) == len(found)
        for place, value in enumerate(found):
            yield from _pairs(f"{where}[{place}]", stored[place] if same else None, value)
    else:
        yield where, stored, found


def _near(one: Any, other: Any) -> bool:
    if is_number(one) and is_number(other):
        return math.isclose(one, other, rel_tol=_SHARE, abs_tol=_LEAST)
    return type(one) is type(other) and one == other
