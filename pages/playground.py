"""Playground: one finding, the choices behind it, and the button that trains for real. Layout and words only."""

import streamlit as st

from takd.presentation import lately, live, panels, question, ui
from takd.presentation.choices import choices, current_spec, write_url
from takd.presentation.playground import live_mode, replay
from takd.presentation.playground.proposals import try_next
from takd.presentation.study import Study
from takd.runs.store import Store

store, datasets = ui.store(), ui.datasets()
spec, repaired = current_spec(datasets)
write_url(spec)
dataset = datasets[spec.dataset]
mode = live_mode.follow(spec, dataset, store)
run, training = mode.run, mode.training


def results(shown: Study, live_run: bool = False) -> None:
    """Everything under the form."""
    panels.strip_and_charts(shown, store, faded=training or differences is not None, live_run=live_run)
    panels.story(shown)
    panels.details(shown)


def past(shown: Study, then: Store) -> None:
    """The same of a replay: the figures as they were then."""
    panels.strip_and_charts(shown, then, faded=False, live_run=False)


before = live_mode.kept(spec) if training else None  # while live mode trains: what stood here before
watches = run is not None and run.look.active and not training
shown, differences = (before, None) if before is not None else question.answer(spec, datasets, store, live=watches)
replays = replay.offered(shown, differences, busy=training or watches)
replaying = replays and replay.on()


def headline() -> None:
    """The finding, or that there is none yet."""
    press = "" if training else live.way_on(run, store)
    if shown is None:
        st.title("Nothing trained yet")
        st.write(f"No stored run is near these choices. {press}".strip())
        question.first_run(spec, store)
    else:
        meanwhile = live_mode.stand_in(spec, shown, nearest=differences is not None) if training else ""
        beside = replay.begin_button if replays else lambda: None
        expected = question.estimated(spec, datasets, store) if differences is not None else ""
        panels.headline(shown, store, differences, stand_in=meanwhile, expected=expected, way_on=press, beside=beside)


def form() -> None:
    """The choices, and what can be done with them."""
    choices(spec, datasets)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        try_next(spec, datasets, shown if differences is None else None, store)
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            live_mode.switch(mode, answered=run is None and shown is not None and differences is None)
            if training:
                live_mode.watch(mode, store)
            elif run is None:  # a run that stopped early has its own Resume
                live.run_button(spec, dataset, store)
    if mode.problem:
        st.warning(ui.plain(mode.problem), icon=":material/pause_circle:")


def below_the_card() -> None:
    """What is known so far, while a run works."""
    if shown is not None and differences is None:
        results(lately.live_study(spec, dataset, store), live_run=True)


def runs_and_results() -> None:
    """The card of a run that answers the question, and what is known so far."""
    if run and watches:
        live.watching(run.id, store, place="playground", below=below_the_card)
    elif run and not training:  # outside the fragment: a click on Resume must not be lost while the page is being drawn
        live.run_card(lately.about(run, store), store, place="playground")
    if shown is not None and not (watches and differences is None):
        results(shown)


if shown is not None and replaying:
    ui.notices(repaired, live.describe(spec))
    replay.player(shown, store, past)
else:
    headline()
    ui.notices(repaired, live.describe(spec))
    form()
    runs_and_results()
if shown is not None and differences is None and not training:
    live_mode.keep(shown)
