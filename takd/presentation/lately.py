"""What live pages show, worked out once for everybody who watches; how old it may be, shared.py says.

A class that watches one run asks forty times for the same. After a run has ended the page is drawn as a whole, and then
from the functions these call.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import cast
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from takd.analysis.curves import CurveReader, curve_frame
from takd.analysis.pool import Pool, plan_of_paths, pool, settings_of, sizes_of
from takd.analysis.replay import Replayed, is_replayed, timeline
from takd.data.catalogue import available_datasets
from takd.data.table import Dataset
from takd.presentation.boxes import box_frame
from takd.presentation.shared import forget, lately
from takd.presentation.study import Study, plan_of, study
from takd.runs.estimates import Estimate, estimate
from takd.runs.memory import memory_notes
from takd.runs.states import RunInfo, run_or_none
from takd.runs.store import Store
from takd.spec import ExperimentSpec, read_spec, to_query

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
    finished = tuple(store.version(key) for key in whole.stages)
    memory, name = _studies(), (store.root, spec, dataset, finished)
    if (known := memory.get(name)) is None:
        known = memory[name] = study(spec, dataset, store)
        for oldest in list(memory)[:-_KEPT]:
            memory.pop(oldest, None)
    return known


@st.cache_resource
def _pools() -> dict[tuple[object, ...], Pool]:
    return {}


def pooled(spec: ExperimentSpec, dataset: Dataset, store: Store) -> Pool:
    """pool(), kept by this server until another stage of any of its paths has finished."""
    plan = plan_of_paths(spec, dataset)
    finished = tuple(store.version(key) for key in plan.stages)
    memory, name = _pools(), (store.root, settings_of(spec), sizes_of(spec, dataset), dataset, finished)
    if (known := memory.get(name)) is None:
        known = memory[name] = pool(spec, dataset, store)
        for oldest in list(memory)[:-_KEPT]:
            memory.pop(oldest, None)
    return known


def live_study(spec: ExperimentSpec, dataset: Dataset, store: Store) -> Study:
    """looked_up() of a question that is being trained."""
    return lately("study", _name(spec, store), STUDY_SECONDS, lambda: looked_up(spec, dataset, store))


def live_boxes(shown: Study, store: Store) -> pd.DataFrame:
    """box_frame() of a question that is being trained."""
    return lately("boxes", _name(shown.spec, store), SECONDS, lambda: box_frame(shown, store))


def live_curves(shown: Study, store: Store, lines: dict[str, list[str]]) -> pd.DataFrame:
    """curves() of a question that is being trained."""
    name = f"{_name(shown.spec, store)} {'|'.join(lines)}"
    return lately("curves", name, SECONDS, lambda: curves(shown, store, lines))


REPLAY_SECONDS = 60.0


def replayed(shown: Study, store: Store, tick: int) -> tuple[Study, Replayed]:
    """A study as it was at a tick of its replay, and the store as it was then."""
    clock = timeline(shown.plan, shown.chosen)

    def make() -> tuple[Study, Replayed]:
        past = Replayed(store, shown.plan, clock, tick)
        return study(shown.spec, shown.dataset, cast(Store, past)), past

    return lately("replay", f"{_name(shown.spec, store)} {shown.seeds_done} {tick}", REPLAY_SECONDS, make)


def curves(shown: Study, store: Store, lines: dict[str, list[str]]) -> pd.DataFrame:
    """curve_frame() with the server's reader of events: of each file only what is new is read."""
    if is_replayed(store):
        return curve_frame(shown.plan, store, lines)
    guard, readers = _readers()
    with guard:
        reader = readers.get(store.root)
        if reader is None or len(reader) > _STAGES_READ:
            reader = readers[store.root] = CurveReader(store)
        return curve_frame(shown.plan, store, lines, reader)


@st.cache_resource
def _readers() -> tuple[threading.Lock, dict[object, CurveReader]]:
    return threading.Lock(), {}


@dataclass(frozen=True)
class Watched:
    """A run as it is now, its question, what its networks had to do about memory, and the seconds its stages that are
    not begun take (None where nobody can say)."""

    run: RunInfo
    spec: ExperimentSpec
    notes: tuple[str, ...]
    left: Estimate | None


def watched(run_id: str, store: Store) -> Watched | None:
    """A run that a page watches, or None when it is gone."""
    return lately("run", f"{store.root} {run_id}", SECONDS, lambda: look(run_id, store))


def look(run_id: str, store: Store) -> Watched | None:
    """The same, as it is in this moment."""
    run = run_or_none(store, run_id)
    return None if run is None else about(run, store)


def about(run: RunInfo, store: Store) -> Watched:
    """What a card tells of a run."""
    datasets = available_datasets()
    spec = read_spec(run.spec, datasets)[0]
    dataset = datasets.get(spec.dataset)
    left = None
    if run.look.active and dataset is not None and dataset.fingerprint is not None:
        left = estimate(plan_of(spec, dataset), store, dataset.classes)
    return Watched(run, spec, tuple(memory_notes(store, run.keys)), left)


def look_again() -> None:
    """Forget what runs were doing: one of them has just been told something."""
    forget("run")


def _name(spec: ExperimentSpec, store: Store) -> str:
    return f"{store.root} {urlencode(to_query(spec, full=True), doseq=True)}"
