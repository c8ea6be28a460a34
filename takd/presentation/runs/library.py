"""The library of runs as the Runs page shows it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from takd.data.catalogue import damaged
from takd.networks.own import gone, gone_sentence
from takd.presentation import lately, live, window, words
from takd.presentation.runs import library_rows, verifying
from takd.runs.states import RunInfo
from takd.runs.store import Store


def attention(runs: Sequence[RunInfo], store: Store) -> None:
    """Runs that stopped early: each says why and what can be done."""
    stopped = [r for r in runs if r.state in ("failed", "lost", "cancelled") and r.origin == "live"]
    if stopped:
        st.subheader("Stopped early", anchor=False)
        for run in stopped[:5]:
            live.run_card(lately.about(run, store), store, place="attention")
        if len(stopped) > 5:
            st.caption(f"and {len(stopped) - 5} older ones; `python -m takd list` shows all.")


_HIGH, _HIGHER = 66, 96  # pixels, from 65 on text is wrapped: a question is longer than a line, on phones than three
_LOOKS = 0.3  # seconds between looks while runs that were not met before are looked up


def table(runs: Sequence[RunInfo], store: Store) -> None:
    """Every finished run, newest first; a row opens on the Playground."""
    every = [run for run in runs if run.state == "done"]
    done = [run for run in every if not gone(run.spec)]
    st.subheader("Library", anchor=False)
    for run in every:
        if missing := gone(run.spec):
            st.caption(f"Run {run.id} is not shown. {gone_sentence(missing)}")
    if not done:
        st.info("No finished run yet.", icon=":material/inventory_2:")
        return
    waits = library_rows.unmet(done, store) > 0
    st.fragment(_table, run_every=_LOOKS if waits else None)(done, store, waits)
    st.caption(
        "Gain is the chosen arm minus its control (direct KD for a chain, the student alone for direct KD, joint "
        "training for the smallest sub-model of a network), paired by seed; n counts seeds. ■ cached runs come with "
        "the program, ● live ones were trained here, ◆ imported ones somewhere else."
    )
    verifying.section(library_rows.named(done, store), store)


def _table(done: Sequence[RunInfo], store: Store, waits: bool) -> None:
    """The table; while runs are looked up for the first time it is drawn again and again, then the page once."""
    rows = library_rows.rows(done, store)
    missing = library_rows.unmet(done, store)
    if waits and not missing:
        st.rerun()  # without the timer
    if missing:
        st.caption(f"{words.count(missing, 'run')} of {len(done)} are being looked up for the first time.")
    st.dataframe(
        pd.DataFrame(
            [{**row, "numbers": label} for row, label in zip(rows, verifying.labels(done, store), strict=True)],
            columns=library_rows.COLUMNS,
        ),
        hide_index=True,
        row_height=_HIGHER if window.narrow() else _HIGH,
        column_config={
            "open": st.column_config.LinkColumn("open", display_text="Open", width=50),
            "question": st.column_config.TextColumn("question", width=230 if window.narrow() else 430),
            "gain": st.column_config.NumberColumn("gain, points", format="%+.2f", help="over its control, on test"),
            "±": st.column_config.NumberColumn("± 95 %", format="%.2f"),
            "numbers": st.column_config.TextColumn("numbers", help="whether they were computed again; see below"),
        },
    )


@st.cache_data(ttl=60.0, show_spinner=False)  # every folder of the store is looked at
def _unreadable(name: str, _store: Store) -> list[tuple[str, str]]:
    return [(f"{root.name}/{folder}", why) for root in _store.roots for folder, why in _store.broken(root)]


def broken(store: Store) -> None:
    """Folders that could not be read: skipped everywhere else, listed here with the reason."""
    found = _unreadable("|".join(map(str, store.roots)), store)
    found += [(f"data set {name}", why) for name, why in damaged()]
    if found:
        with st.expander(f"{words.count(len(found), 'folder')} could not be read", icon=":material/folder_off:"):
            st.dataframe(pd.DataFrame(found, columns=["folder", "reason"]), hide_index=True)
