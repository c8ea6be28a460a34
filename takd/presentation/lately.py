"""What live pages show, worked out once for everybody who watches: no answer is older than its seconds.

A class that watches one run asks forty times for the same. After a run has ended the page is drawn as a whole, and then
from the functions these call.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from takd.analysis.curves import CurveReader, curve_frame
from takd.data.table import Dataset
from takd.presentation.boxes import box_frame
from takd.presentation.study import Study, plan_of, study
from takd.runs.errors import RunError
from takd.runs.estimates import Estimate, estimate
from takd.runs.states import RunInfo, run_info
from takd.runs.store import Store
from takd.spec import ExperimentSpec, to_query

STUDY_SECONDS = 5.0  # trainings of small networks end several times a second, and each one changes every figure
SECONDS = 2.0
_KEPT = 24  # questions
_STAGES_READ = 4000  # stages of which the rows of events are kept


@st.cache_resource
def _studies() -> dict[tuple[object, ...], Study]:
    return {}


def looked_up(spec: ExperimentSpec, dataset: Dataset, store: Store) -> Study:
    """study(), kept by this server until another stage of the question has finished."""
    whole = plan_of(replace(spec, scope="ladder"), dataset)
    # The accuracy too: what was imported may be removed and brought again with other numbers.
    finished = tuple((store.origin(key), (store.result(key) or {}).get("test_acc")) for key in whole.stages)
    memory, name = _studies(), (store.root, spec, dataset, finished)
    if (known := memory.get(name)) is None:
        known = memory[name] = study(spec, dataset, store)
        for oldest in list(memory)[:-_KEPT]:
            memory.pop(oldest, None)
    return known


def live_study(spec: ExperimentSpec, dataset: Dataset, store: Store) -> Study:
    """looked_up() of a question that is being trained."""
    return _study(_name(spec, store), spec, dataset, store)


@st.cache_resource(ttl=STUDY_SECONDS, max_entries=_KEPT, show_spinner=False)
def _study(name: str, _spec: ExperimentSpec, _dataset: Dataset, _store: Store) -> Study:
    return looked_up(_spec, _dataset, _store)


def live_boxes(shown: Study, store: Store) -> pd.DataFrame:
    """box_frame() of a question that is being trained."""
    return _boxes(_name(shown.spec, store), shown, store)


@st.cache_resource(ttl=SECONDS, max_entries=_KEPT, show_spinner=False)
def _boxes(name: str, _shown: Study, _store: Store) -> pd.DataFrame:
    return box_frame(_shown, _store)


def live_curves(shown: Study, store: Store, lines: dict[str, list[str]]) -> pd.DataFrame:
    """curves() of a question that is being trained."""
    return _curves(f"{_name(shown.spec, store)} {'|'.join(lines)}", shown, store, lines)


@st.cache_resource(ttl=SECONDS, max_entries=4 * _KEPT, show_spinner=False)
def _curves(name: str, _shown: Study, _store: Store, _lines: dict[str, list[str]]) -> pd.DataFrame:
    return curves(_shown, _store, _lines)


def curves(shown: Study, store: Store, lines: dict[str, list[str]]) -> pd.DataFrame:
    """curve_frame() with the server's reader of events: of each file only what is new is read."""
    guard, readers = _readers()
    with guard:
        reader = readers.get(store.root)
        if reader is None or len(reader) > _STAGES_READ:
            reader = readers[store.root] = CurveReader(store)
        return curve_frame(shown.plan, store, lines, reader)


@st.cache_resource
def _readers() -> tuple[threading.Lock, dict[object, CurveReader]]:
    return threading.Lock(), {}


def live_run(run_id: str, store: Store) -> RunInfo | None:
    """A run that a page watches, or None when it is gone."""
    return _run(f"{store.root} {run_id}", run_id, store)


@st.cache_resource(ttl=SECONDS, max_entries=4 * _KEPT, show_spinner=False)
def _run(name: str, _run_id: str, _store: Store) -> RunInfo | None:
    try:
        return run_info(_store, _run_id)
    except RunError:
        return None


def live_cost(spec: ExperimentSpec, dataset: Dataset, store: Store) -> Estimate:
    """What is left to train of a question that is being trained; its data set is prepared."""
    return _cost(_name(spec, store), spec, dataset, store)


@st.cache_resource(ttl=SECONDS, max_entries=_KEPT, show_spinner=False)
def _cost(name: str, _spec: ExperimentSpec, _dataset: Dataset, _store: Store) -> Estimate:
    return estimate(plan_of(_spec, _dataset), _store, _dataset.classes)


def look_again() -> None:
    """Forget what runs were doing: one of them has just been told something."""
    _run.clear()
    _cost.clear()


def _name(spec: ExperimentSpec, store: Store) -> str:
    return f"{store.root} {urlencode(to_query(spec, full=True), doseq=True)}"
