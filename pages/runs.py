"""Runs: what trains now, what waits, and the library of everything trained. Layout and words only."""

import streamlit as st

from takd.presentation import lately, live, ui, visitor
from takd.presentation.runs import bundles, library, queue_list
from takd.presentation.shared import tick
from takd.runs.policy import read_only
from takd.runs.queue import queue
from takd.runs.states import list_runs

store = ui.store()
st.title("Runs", anchor=False)
runs = list_runs(store)
active = [run for run in runs if run.look.active]


@st.fragment(run_every=tick() if active else None)
def now() -> None:
    """Live cards; when a run ends the whole page is drawn again, so that it moves to the library."""
    watched = [lately.watched(run.id, store) for run in active]
    if any(seen is None or not seen.run.look.active for seen in watched):
        st.rerun()
    for seen in watched:
        if seen is not None and seen.run.position is None:
            live.run_card(seen, store, place="runs")
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
