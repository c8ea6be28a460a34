"""How good the estimates were: for each of the last runs, what was expected at its start and what it took."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from filelock import Timeout

from takd.runs import files
from takd.runs.locks import history_lock
from takd.runs.store import Store
from takd.stage import canonical_json

_FILE = "history.json"
_KEPT = 50
_SCHEMA = 1


@dataclass(frozen=True)
class Kept:
    """One finished run. Seconds are from the first training to the last word; memory is that of one process in MB
    (on a GPU: of the device), the peak the largest that one of its trainings recorded. Trainings that were stored
    already do not count in `trainings`."""

    run: str
    device: str
    trainings: int
    expected_seconds: float
    seconds: float
    expected_mb: float
    peak_mb: float

    @property
    def ratio(self) -> float:
        """1 for a perfect estimate, 2 when the run took twice as long."""
        return self.seconds / self.expected_seconds


def keep(store: Store, row: Kept) -> None:
    """Add a run; the oldest of more than fifty is forgotten. A file that is busy for a second is left as it is.
    Raises OSError."""
    try:
        with history_lock(store.root).acquire(timeout=1.0):
            rows = [*kept(store), row][-_KEPT:]
            value = {"schema": _SCHEMA, "runs": [asdict(one) for one in rows]}
            files.write_atomic(store.root / _FILE, canonical_json(value), durable=False)
    except Timeout:
        return


def kept(store: Store) -> list[Kept]:
    """The last runs, oldest first; rows that are not well-formed are left out."""
    value = files.read_json_or_none(store.root / _FILE) or {}
    rows = value.get("runs") if value.get("schema") == _SCHEMA else None
    return [found for row in (rows if isinstance(rows, list) else []) if (found := _read(row)) is not None]


def _read(row: Any) -> Kept | None:
    kinds: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float)}
    try:
        if any(not isinstance(row[field.name], kinds[str(field.type)]) for field in fields(Kept)):
            return None
        found = Kept(**{field.name: row[field.name] for field in fields(Kept)})
    except (KeyError, TypeError):
        return None
    return found if min(found.expected_seconds, found.seconds) > 0 else None


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """(lower quartile, median, upper quartile), interpolated; NaN without values."""
    if len(values) < 2:
        return (values[0],) * 3 if values else (math.nan,) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
