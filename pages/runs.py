"""Runs: what trains now, what waits, and the library of everything trained. Layout and words only."""

import streamlit as st

from takd.presentation import bundles, lately, library, live, queue_list, ui, visitor
from takd.runs.policy import read_only
from takd.runs.queue import queue
from takd.runs.states import list_runs

store = ui.store()
st.title("Runs", anchor=False)
runs = list_runs(store)
active = [run for run in runs if run.look.active]


@st.fragment(run_every=live.TICK if active else None)
def now() -> None:
    """Live cards; when a run ends the whole page is drawn again, so that it moves to the library."""
    watched = [lately.live_run(run.id, store) for run in active]
    if any(run is None or not run.look.active for run in watched):
        st.rerun()
    for run in watched:
        if run is not None and run.position is None:
            live.run_card(run, store, place="runs")
    queue_list.waiting_list(queue(store, visitor.person(store)), store)


if active:
    now()
elif read_only():
    st.caption(live.SHOWS_ONLY)
else:
    st.caption("Nothing is training. Start something on the Playground, or with `python -m takd run`.")
library.attention(runs, store)
library.table(runs, store)
library.broken(store)
bundles.section(runs, store)
