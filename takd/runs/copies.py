"""Which copy of a teacher taught a pupil.

A stage's key says what is trained, not where: trained on two machines, or beside other networks, it becomes two copies
whose weights differ by what rounding did. A library can hold one and a pupil of the other: results merge, but agreement
and KL belong to the copy that taught. So a pupil's result names it, by a number that no two copies share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from takd.runs.layout import TAUGHT_BY
from takd.runs.store import Store
from takd.runs.strict import is_number
from takd.stage import StageSpec


def copy_of(store: Store, key: str) -> float | None:
    """What tells a finished stage's copy from others: its loss on the test part, to the last digit; None where its
    result does not say."""
    loss = (store.result(key) or {}).get("test_loss")
    return float(loss) if is_number(loss) else None


def taught_by(store: Store, stage: StageSpec) -> dict[str, Any]:
    """What a pupil's result says: its teachers as they are stored while it is trained; nothing without teachers."""
    return {TAUGHT_BY: {key: copy_of(store, key) for key in stage.teachers}} if stage.teachers else {}


def other_copies(store: Store, result: Mapping[str, Any]) -> set[str]:
    """Teachers that are stored here in another copy than the one that taught this result; null names a copy of which
    nothing is known but that. Results of earlier versions do not say."""
    said = result.get(TAUGHT_BY)
    if not isinstance(said, dict):
        return set()
    return {key for key, loss in said.items() if loss is None or loss != copy_of(store, key)}
