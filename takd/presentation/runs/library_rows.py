"""The rows of the list of runs, remembered: what a finished run asked and found does not change any more."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import streamlit as st

from takd.analysis.summary import Summary, kept, look_up
from takd.analysis.verdicts import LEAST_SEEDS
from takd.data.table import Dataset
from takd.presentation import live, ui
from takd.presentation.captions import ORIGINS
from takd.presentation.phrases import CANNOT_TELL
from takd.runs.errors import RunError
from takd.runs.states import RunInfo, run_folder, seen_by
from takd.runs.store import Store
from takd.spec import ExperimentSpec, read_spec, to_query

BUDGET = 0.1  # seconds that one look at the list may spend on runs it has not met
WORKING = "…"  # stands where a verdict comes with one of the next looks

Row = dict[str, object]
COLUMNS = ("open", "question", "verdict", "gain", "±", "n", "created", "origin", "numbers", "stages")


@st.cache_resource
def _rows() -> dict[tuple[object, ...], Row]:
    return {}


@st.cache_resource
def _specs() -> dict[tuple[object, ...], ExperimentSpec]:
    return {}


def _name(run: RunInfo, store: Store, datasets: Mapping[str, Dataset]) -> tuple[object, ...]:
    """What a row is remembered under. An imported run may be removed and another one brought under its id, and the
    images of a data set may be exchanged."""
    brought, images = 0, datasets.get(str(run.spec.get("dataset")))
    if run.origin == "imported":
        with contextlib.suppress(RunError, OSError):  # removed in this moment
            brought = run_folder(store, run.id).stat().st_mtime_ns
    return store.root, run.origin, run.id, run.created, brought, images and images.fingerprint


def spec_of(run: RunInfo, store: Store, datasets: Mapping[str, Dataset]) -> ExperimentSpec:
    """A run's question, read once."""
    known, name = _specs(), _name(run, store, datasets)
    if name not in known:
        known[name] = read_spec(run.spec, datasets)[0]
    return known[name]


def rows(runs: Sequence[RunInfo], store: Store) -> list[Row]:
    """A row for each run (COLUMNS, without `numbers`, which verifying.py tells). Runs that were met before cost
    nothing; the others are looked up until BUDGET is spent, and what is left then has only what needs no looking up."""
    memory, datasets, until = _rows(), ui.datasets(), time.monotonic() + BUDGET
    found: list[Row] = []
    for run in runs:
        name = _name(run, store, datasets)
        if name not in memory and time.monotonic() < until:
            try:
                memory[name] = _row(run, store, datasets)
            except RunError:  # somebody forgot it in this moment
                memory[name] = _facts(run)
        found.append(memory.get(name) or {**_facts(run), "question": WORKING, "verdict": WORKING})
    return found


def unmet(runs: Sequence[RunInfo], store: Store) -> int:
    """How many runs have not been looked up yet."""
    memory, datasets = _rows(), ui.datasets()
    return sum(_name(run, store, datasets) not in memory for run in runs)


def named(runs: Sequence[RunInfo], store: Store) -> list[tuple[RunInfo, str]]:
    """Each run with what it asks, in words; its date alone where that has not been read yet."""
    memory, datasets = _rows(), ui.datasets()
    return [
        (run, str((memory.get(_name(run, store, datasets)) or _facts(run)).get("question", run.created)))
        for run in runs
    ]


def _facts(run: RunInfo) -> Row:
    return {
        "stages": run.stages_total,
        "origin": ORIGINS[run.origin],
        "created": run.created[:16].replace("T", " "),
    }


def _row(run: RunInfo, store: Store, datasets: Mapping[str, Dataset]) -> Row:
    spec = spec_of(run, store, datasets)
    summary = kept(store, run.id)
    dataset = datasets.get(spec.dataset)
    if summary is None and dataset is not None and dataset.fingerprint is not None:
        summary = look_up(run.id, run.keys, spec, dataset, seen_by(store, run.origin))
    summary = summary or Summary(CANNOT_TELL, None, None, 0)
    told = summary.n >= LEAST_SEEDS and summary.half is not None
    return _facts(run) | {
        "open": f"./?{urlencode(to_query(spec, full=True), doseq=True)}",
        "verdict": (summary.kind if told else CANNOT_TELL).capitalize(),
        "gain": None if summary.mean is None else 100 * summary.mean,
        "±": None if summary.half is None else 100 * summary.half,
        "n": summary.n,
        "question": live.describe(spec),
    }
