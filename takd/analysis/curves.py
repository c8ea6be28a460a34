"""Learning curves: event rows -> a tidy table, read incrementally so that a live page pays only for new lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from takd.analysis.frames import Store, roles, tidy
from takd.plan import Plan

FIELDS = ("val_acc", "train_acc", "loss", "loss_ce", "loss_kl")
CURVE_COLUMNS = {"line": "category", "role": "category", "seed": "int64", "epoch": "int16"} | dict.fromkeys(
    FIELDS, "float32"
)


class CurveReader:
    """Keeps the rows and the byte offset of every stage it was asked for; not safe for threads. Its length counts them.

    A resumed training rewinds its events to a checkpoint. That is noticed (the offset went back, or the next row is
    not the next epoch) and the file is read again from the start.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._offsets: dict[str, int] = {}
        self._seen: dict[str, tuple[object, object]] = {}  # the file and its version

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, key: str, epochs: int | None = None) -> list[dict[str, Any]]:
        """All rows of a stage so far, epochs rising; reads nothing once `epochs` of them are known."""
        known, offset = self._rows.get(key, []), self._offsets.get(key, 0)
        file, version = self.store.events_id(key)
        seen_file, seen_version = self._seen.get(key, (file, None))
        whole = epochs is not None and bool(known) and known[-1]["epoch"] >= epochs
        if whole and (file, version) == (seen_file, seen_version):
            return known
        if whole or file != seen_file:  # trained here after it was imported, or brought again
            known, offset = [], 0
        self._seen[key] = file, version
        fresh, after = self.store.read_events(key, offset)
        fresh = [row for row in fresh if _is_row(row)]
        following = known[-1]["epoch"] + 1 if known else 1
        if offset and (after < offset or (fresh and fresh[0]["epoch"] != following)):
            fresh, after = self.store.read_events(key, 0)
            known, fresh = [], [row for row in fresh if _is_row(row)]
        known = list(known)
        for row in fresh:
            while known and known[-1]["epoch"] >= row["epoch"]:
                known.pop()  # the same epoch trained again after a resume: the later row is the one that counts
            known.append({"epoch": row["epoch"]} | {name: row.get(name) for name in FIELDS})
        self._rows[key], self._offsets[key] = known, after
        return known


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and type(row.get("epoch")) is int and row["epoch"] > 0


def curve_frame(
    plan: Plan, store: Store, keys: Mapping[str, Sequence[str]], reader: CurveReader | None = None
) -> pd.DataFrame:
    """One row per line, seed and epoch (CURVE_COLUMNS): line, role, seed, epoch, val_acc, train_acc, loss, loss_ce,
    loss_kl.

    `keys` maps the label of a line to the stages (one per seed) it shows; a key outside the plan is a KeyError. Pass
    the same `reader` again on a live page.
    """
    reader = CurveReader(store) if reader is None else reader
    role = roles(plan)
    rows = [
        {"line": line, "role": role[key], "seed": plan.stages[key].seed} | row
        for line, members in keys.items()
        for key in members
        for row in reader.read(key, plan.stages[key].recipe.last)
    ]
    return tidy(rows, CURVE_COLUMNS)
