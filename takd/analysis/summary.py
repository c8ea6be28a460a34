"""What a finished run found, in four numbers: for lists of runs, where looking every question up would take minutes.

A run that is done does not change any more, so its summary is kept beside it. It is worked out again when the rule by
which verdicts are given has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from takd import plan
from takd.analysis import frames, statistics, verdicts
from takd.data.table import Dataset
from takd.plan import build_plan, chosen_arm
from takd.runs import files
from takd.runs.policy import read_only
from takd.runs.states import run_folder
from takd.runs.store import Store
from takd.spec import ExperimentSpec
from takd.stage import canonical_json

FILE = "summary.json"


@dataclass(frozen=True)
class Summary:
    """The verdict on the chosen arm against its control: its word, the mean gain and half the width of its interval
    (fractions; None where there is none), and the number of seeds."""

    kind: str
    mean: float | None
    half: float | None
    n: int


@cache
def rule() -> str:
    """12 hex digits of the source of what decides a verdict: the rule, its statistics, and which chains count."""
    sources = [Path(str(module.__file__)).read_bytes() for module in (verdicts, statistics, frames, plan)]
    return hashlib.sha256(b"\0".join([*sources, Path(__file__).read_bytes()])).hexdigest()[:12]


def look_up(run_id: str, keys: Collection[str], spec: ExperimentSpec, dataset: Dataset, store: Store) -> Summary:
    """The summary of a finished run with these stages, kept beside it. It is not kept where the question would have
    other stages today: its images were exchanged, or an older version planned it. Raises ValueError when the data set
    has no fingerprint, RunError when the run is gone."""
    planned = build_plan(spec, dataset)
    chosen = chosen_arm(spec).name
    every = verdicts.verdicts_for(planned, frames.chain_frame(planned, store))
    verdict = next((v for v in every if v.arm == chosen), None)
    found = Summary("cannot tell yet", None, None, 0)
    if verdict is not None and verdict.n:
        found = Summary(verdict.kind, _finite(verdict.interval.mean), _finite(verdict.interval.half), verdict.n)
    if set(planned.stages) == set(keys):
        keep(store, run_id, found)
    return found


def kept(store: Store, run_id: str) -> Summary | None:
    """The summary beside a run; None where there is none that today's rule made. Raises RunError for no run."""
    found: Summary | None = store.remember(run_folder(store, run_id) / FILE, _parse)
    return found


def keep(store: Store, run_id: str, summary: Summary) -> None:
    """Keep the summary of a run that is done, if it is one of this store that may be written; else nothing happens."""
    folder = run_folder(store, run_id)
    if folder.parent.parent != store.root or read_only():
        return
    values = {"kind": summary.kind, "mean": summary.mean, "half": summary.half, "n": summary.n, "rule": rule()}
    with contextlib.suppress(OSError):  # it is worked out again
        files.write_atomic(folder / FILE, canonical_json(values), durable=False)


def _parse(raw: bytes) -> Summary | None:
    value = files.parse_object(raw)
    if value is None or value.get("rule") != rule():
        return None
    kind, n, numbers = value.get("kind"), value.get("n"), (value.get("mean"), value.get("half"))
    if not isinstance(kind, str) or type(n) is not int or not all(_number_or_none(number) for number in numbers):
        return None
    return Summary(kind, *numbers, n)


def _number_or_none(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
