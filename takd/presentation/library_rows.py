"""The rows of the list of runs, remembered: what a finished run asked and found does not change any more."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import streamlit as st

from takd.analysis.summary import Summary, keep, kept, work_out
from takd.analysis.verdicts import LEAST_SEEDS
from takd.data.table import Dataset
from takd.presentation import live, ui
from takd.presentation.captions import ORIGINS
from takd.presentation.phrases import CANNOT_TELL
from takd.runs.states import RunInfo
from takd.runs.store import Store
from takd.spec import ExperimentSpec, read_spec, to_query

BUDGET = 0.1  # seconds that one look at the list may spend on runs it has not met
WORKING = "…"  # stands where a verdict comes with one of the next looks

Row = dict[str, object]


@st.cache_resource
def _rows() -> dict[tuple[object, ...], Row]:
    return {}


@st.cache_resource
def _specs() -> dict[tuple[object, ...], ExperimentSpec]:
    return {}


def _name(run: RunInfo, store: Store) -> tuple[object, ...]:
    return store.root, run.origin, run.id, run.created


def spec_of(run: RunInfo, store: Store, datasets: Mapping[str, Dataset]) -> ExperimentSpec:
    """A run's question, read once."""
    known, name = _specs(), _name(run, store)
    if name not in known:
        known[name] = read_spec(run.spec, datasets)[0]
    return known[name]


def rows(runs: Sequence[RunInfo], store: Store) -> tuple[list[Row], int]:
    """(a row for each run, how many of them still lack what they found). Runs that were met before cost nothing; the
    others are looked up until BUDGET is spent."""
    memory, datasets, until = _rows(), ui.datasets(), time.monotonic() + BUDGET
    found: list[Row] = []
    missing = 0
    for run in runs:
        name = _name(run, store)
        row = memory.get(name)
        if row is None and time.monotonic() < until:
            row = memory[name] = _row(run, store, datasets)
        missing += row is None
        found.append({**(row or {"question": WORKING, "verdict": WORKING}), **_plain_facts(run)})
    return found, missing


def _plain_facts(run: RunInfo) -> Row:
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
        summary = work_out(spec, dataset, store)
        keep(store, run.id, summary)
    summary = summary or Summary(CANNOT_TELL, None, None, 0)
    told = summary.n >= LEAST_SEEDS and summary.half is not None
    return {
        "open": f"./?{urlencode(to_query(spec, full=True), doseq=True)}",
        "verdict": (summary.kind if told else CANNOT_TELL).capitalize(),
        "gain": None if summary.mean is None else 100 * summary.mean,
        "±": None if summary.half is None else 100 * summary.half,
        "n": summary.n,
        "question": live.describe(spec),
    }
