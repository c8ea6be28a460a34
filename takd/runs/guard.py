"""Crash loops: a stage at which its worker died again and again is not tried for ever.

A worker that ends a training in any orderly way removes its progress.json, so one that is there when the stage's lock
is free was left by a worker that died. `attempts.json` beside it counts these deaths until there is a new epoch.
"""

from __future__ import annotations

from takd.runs import files
from takd.runs.errors import StageFailed
from takd.runs.layout import ATTEMPTS
from takd.runs.store import Store
from takd.stage import canonical_json

MOST_DEATHS = 3
SUSPECT = 2  # from this many on a stage is trained alone: one of several may have brought death on the others


def deaths(store: Store, key: str) -> int:
    """How many workers have died at this stage without finishing an epoch in between; the caller holds its lock."""
    path = store.own_folder(key) / ATTEMPTS
    died = store.progress(key) is not None
    row = files.read_json_or_none(path) or {}
    known, epoch = row.get("deaths"), row.get("epoch")
    if not isinstance(known, int) or not isinstance(epoch, int):
        known, epoch = 0, 0
    if not died:
        return known
    reached = len(store.read_events(key)[0])
    known = known + 1 if reached <= epoch else 1
    files.write_atomic(path, canonical_json({"deaths": known, "epoch": max(reached, epoch)}), durable=False)
    store.clear_progress(key)  # this death is counted
    return known


def crash_loop(store: Store, key: str, count: int) -> StageFailed:
    """What to say about a stage that is not tried any more."""
    row = files.read_json_or_none(store.own_folder(key) / ATTEMPTS) or {}
    return StageFailed(
        "crash-loop",
        f"The training program died {count} times in epoch {int(row.get('epoch', 0)) + 1} of this training without "
        "saying why (often too little memory, or a crash inside a library; the last lines of the log may tell). Close "
        "other programs or choose a smaller network, then resume: it is tried again from its checkpoint.",
    )
