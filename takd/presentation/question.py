"""The question of a page: the line that says it, the form that changes it, and what the store answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from takd.analysis.nearest import Difference
from takd.data.table import Dataset
from takd.presentation import lately, live, panels, ui
from takd.presentation.choices import carry, choices, current_spec, write_url
from takd.presentation.study import Study, nearest_study
from takd.runs.policy import read_only
from takd.runs.store import Store
from takd.spec import ExperimentSpec

PLAYGROUND = Path(__file__).resolve().parents[2] / "pages" / "playground.py"
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
    elif differences is not None:
        st.info(
            f"**Not trained yet.** Shown is the nearest stored question: {ui.plain(live.describe(shown.spec))}."
            + ("" if read_only() else _GO),
            icon=":material/near_me:",
        )
    return spec, found


def open_on_playground(spec: ExperimentSpec) -> None:
    """Go to the Playground with this question; ends the run of the page."""
    st.switch_page(PLAYGROUND, query_params=carry(spec))


def source(shown: Study, store: Store, *, seeds: bool = True) -> str:
    """Where the numbers of a study come from, for the captions of its figures; `seeds`: with how many seeds are
    done."""
    return panels.origin_line(shown, store, seeds=seeds)


_NOTHING = "No stored run is near these choices, so there is nothing to show yet."
_GO = " Train it with **Run for real** on the Playground."
