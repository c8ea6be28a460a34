"""The live part of the Assistants page: which run trains something of a ladder, and its sections while it works."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st

from takd.analysis.pool import Pool, plan_of_paths
from takd.data.table import Dataset
from takd.presentation import lately, live, ui
from takd.presentation.chains.panels import Subject
from takd.presentation.choices import carry
from takd.presentation.shared import lately as shared_lately
from takd.presentation.study import Study
from takd.presentation.visit import PAGES, PLAYGROUND
from takd.runs.states import RunInfo
from takd.runs.store import Store
from takd.spec import ExperimentSpec, start_for


def pool_of(shown: Study, store: Store) -> Pool:
    """Every path of the question's ladder."""
    return lately.pooled(shown.spec, shown.dataset, store)


def _lately_pooled(shown: Study, store: Store) -> Pool:
    name = f"{store.root} {shown.spec}"
    return shared_lately("pool", name, lately.STUDY_SECONDS, lambda: pool_of(shown, store))


def run_of(shown: Study, store: Store) -> RunInfo | None:
    """The newest run that trains or waits and holds a stage of the question's ladder or of the question itself."""
    runs = live.active_runs(store)
    if not runs:  # the keys of every path take a while to work out
        return None
    keys = {*plan_of_paths(shown.spec, shown.dataset).stages, *shown.plan.stages}
    return next((run for run in runs if not keys.isdisjoint(run.keys)), None)


def being_trained(spec: ExperimentSpec, dataset: Dataset, store: Store) -> Study | None:
    """What there is of a question that has no result yet and is being trained; None where no run answers it."""
    if dataset.fingerprint is None:
        return None
    run = live.active_run(spec, store)
    return lately.live_study(spec, dataset, store) if run is not None and run.look.active else None


def watching(run_id: str, shown: Study, store: Store, section: Callable[[Subject], None]) -> None:
    """A section while a run works."""

    def below() -> None:
        fresh = lately.live_study(shown.spec, shown.dataset, store)
        with st.container():
            section(Subject(fresh, store, partial(_lately_pooled, shown, store), live=True))

    live.watching(run_id, store, place="chains", below=below)


def at_rest(shown: Study, store: Store, section: Callable[[Subject], None]) -> None:
    """A section without a run, in the same places as with one, so that the browser keeps its figures."""
    with st.container():
        st.container()
        with st.container():
            section(Subject(shown, store, partial(pool_of, shown, store)))


def no_row_of_networks(spec: ExperimentSpec) -> None:
    """Sub-models of one network have nobody in between."""
    st.info(
        f"{ui.plain(live.describe(spec))} trains the sub-models of one network together: there is no ladder of "
        "separate networks, and so no assistant to compare. Choose another method above, or look at it on the "
        "Playground.",
        icon=":material/info:",
    )
    with st.container(horizontal=True):
        if st.button("Open on the Playground", key="chains-back", icon=":material/arrow_back:"):
            st.switch_page(PLAYGROUND, query_params=carry(spec))
        if st.button("Show a ladder of separate networks", key="chains-start", icon=":material/linear_scale:"):
            st.switch_page(PAGES / "chains.py", query_params=carry(start_for(spec.dataset)))
