"""Playground: one finding, the choices behind it, and the button that trains for real. Layout and words only."""

import streamlit as st

from takd.analysis.nearest import Difference
from takd.presentation import live, panels, ui
from takd.presentation.choices import choices, current_spec, write_url
from takd.presentation.study import Study, nearest_study, study

store, datasets = ui.store(), ui.datasets()
spec, repaired = current_spec(datasets)
write_url(spec)
run = live.active_run(spec, store)


def what_is_shown() -> tuple[Study | None, tuple[Difference, ...] | None]:
    """What the store knows about the question, or about the nearest stored one and what differs there."""
    dataset = datasets[spec.dataset]
    if dataset.fingerprint is not None:
        own = study(spec, dataset, store)
        if own.seeds_done or (run and run.look.active):
            return own, None
    return nearest_study(spec, panels.library(store), datasets, store) or (None, None)


def results(shown: Study, live_run: bool = False) -> None:
    """Everything under the form."""
    panels.strip_and_charts(shown, store, faded=differences is not None, live_run=live_run)
    panels.story(shown)
    panels.details(shown)


shown, differences = what_is_shown()
head = st.container()
ui.notices(repaired, live.describe(spec))
form = st.container()
with form:
    choices(spec, datasets)
    if run is None:  # a run that stopped early has its own Resume
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            panels.try_next(spec, datasets)
            with st.container(horizontal=True, vertical_alignment="center", width="content"):
                live.run_button(spec, datasets[spec.dataset], store)


@st.fragment(run_every=live.TICK)
def watching(run_id: str) -> None:
    """The live part: redraws itself while the run works, then the whole page once."""
    now = live.still_active(run_id, store)
    if now is None or not now.look.active:
        st.session_state["toast"] = f"Run {now.look.word.lower()}" if now else "Run removed"
        st.rerun()
    live.run_card(now, store, place="playground")
    if shown is not None and differences is None:
        results(study(spec, datasets[spec.dataset], store), live_run=True)


with head:
    if shown is None:
        st.title("Nothing trained yet")
        st.write("No cached run fits this data set. Choose a chain and press **Run for real**.")
    else:
        panels.headline(shown, store, differences)

watched = run is not None and run.look.active
if run and watched:
    watching(run.id)
elif run:  # outside the fragment: a click on Resume must not be lost while the page is still being drawn
    live.run_card(run, store, place="playground")
if shown is not None and not (watched and differences is None):
    results(shown)
if message := st.session_state.pop("toast", None):
    st.toast(message, icon=":material/check_circle:")
