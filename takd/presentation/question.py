"""The question of a page: the line that says it, the form that changes it, and what the store answers."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from takd.analysis.nearest import Difference, differing
from takd.analysis.whatif import guesses
from takd.data.table import Dataset
from takd.methods.table import METHODS
from takd.plan import chosen_arm
from takd.presentation import lately, live, panels, ui, visitor, words
from takd.presentation.choices import carry, choices, current_spec, write_url
from takd.presentation.study import Study, nearest_study
from takd.presentation.visit import PLAYGROUND
from takd.runs.errors import RunError
from takd.runs.limits import refusal
from takd.runs.policy import read_only
from takd.runs.store import Store
from takd.runs.submit import submit
from takd.spec import ExperimentSpec, start_for

Answer = tuple[Study | None, tuple[Difference, ...] | None]
"""What is shown, and where it answers another question than the one asked, what differs."""


def answer(spec: ExperimentSpec, datasets: Mapping[str, Dataset], store: Store, *, live: bool = False) -> Answer:
    """What the store knows about a question, or about the nearest stored one and what differs there. `live`: a run
    answers it now, so that what there is of it is shown however little."""
    dataset = datasets[spec.dataset]
    if dataset.fingerprint is not None:
        own = (lately.live_study if live else lately.looked_up)(spec, dataset, store)
        if own.seeds_done or live:
            return own, None
    return nearest_study(spec, panels.library(store), datasets, store) or (None, None)


def bar(store: Store) -> tuple[ExperimentSpec, Answer]:
    """The question in one line with its form in a closed box, and what is known about it: the head of every page that
    looks at a question. Writes the URL."""
    datasets = ui.datasets()
    spec, repaired = current_spec(datasets)
    write_url(spec)
    found = answer(spec, datasets, store)
    shown, differences = found
    ui.notices(repaired, live.describe(spec))
    box = st.expander(ui.plain(live.describe(spec)), icon=":material/tune:", key="question", on_change="rerun")
    if box.open:
        with box:
            choices(spec, datasets)
    if shown is None:
        st.info(_NOTHING + ("" if read_only() else _GO), icon=":material/hourglass_empty:")
        first_run(spec, store)
    elif differences is not None:
        expected = estimated(spec, datasets, store)
        st.info(
            f"**Not trained yet.** The nearest stored question is shown: {ui.plain(live.describe(shown.spec))}. "
            f"{ui.plain(differing(differences))}."
            + (f" {ui.plain(expected)}" if expected else "")
            + ("" if read_only() else _GO),
            icon=":material/near_me:",
        )
    return spec, found


def first_run(spec: ExperimentSpec, store: Store) -> None:
    """A way out where nothing is stored: the question on digits, which needs no download, is trained with one click and
    watched on the Playground. Nothing where this is that question already, or nobody may train here."""
    first = start_for("digits")
    if read_only() or spec.dataset == first.dataset:
        return
    dataset = ui.datasets()[first.dataset]
    left = live.cost(first, dataset, store)
    time = f" · {words.duration(left.seconds)}" if left is not None else ""
    seconds = left.seconds if left is not None else None
    problem = store.writable() or refusal(store, visitor.person(store), seconds)
    told = ui.plain(problem) if problem else "8x8-pixel images that come with the program: nothing to download."
    if st.button(
        f"Train digits first{time}", key="first-run", icon=":material/bolt:", disabled=bool(problem), help=told
    ):
        try:
            submit(store, first, person=visitor.person(store))
        except RunError as error:
            st.error(ui.plain(str(error)))
        else:
            open_on_playground(first)


def estimated(spec: ExperimentSpec, datasets: Mapping[str, Dataset], store: Store) -> str:
    """What the stored runs let one expect of a question that was never trained, in a sentence with its error; empty
    where they say nothing."""
    dataset = datasets[spec.dataset]
    if dataset.fingerprint is None or METHODS[spec.method].in_one_network:
        return ""
    guess = guesses(lately.pooled(spec, dataset, store)).get(chosen_arm(spec).name)
    if guess is None:
        return ""
    off = f"{100 * guess.error:.1f}".rstrip("0").rstrip(".")
    return (
        f"◌ Estimated, not run: {spec.student} at {words.percent(guess.mean)} on test images; such estimates are off "
        f"by {off} points on average ({words.count(guess.n, 'measured arm')})."
    )


def open_on_playground(spec: ExperimentSpec) -> None:
    """Go to the Playground with this question; ends the run of the page."""
    st.switch_page(PLAYGROUND, query_params=carry(spec))


_NOTHING = "No stored run is near these choices, so there is nothing to show yet."
_GO = " Train it with **Run for real** on the Playground."
