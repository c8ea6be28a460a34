"""The library of runs as the Runs page shows it."""

from __future__ import annotations

from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from takd.data.catalogue import damaged
from takd.networks.own import gone, gone_sentence
from takd.presentation import live, ui, verifying, words
from takd.presentation.captions import ORIGINS
from takd.presentation.study import Study, study
from takd.runs.states import RunInfo, list_runs
from takd.runs.store import Store
from takd.spec import to_query


def attention(store: Store) -> None:
    """Runs that stopped early: each says why and what can be done."""
    stopped = [r for r in list_runs(store) if r.state in ("failed", "lost", "cancelled") and r.origin == "live"]
    if stopped:
        st.subheader("Stopped early", anchor=False)
        for run in stopped[:5]:
            live.run_card(run, store, place="attention")
        if len(stopped) > 5:
            st.caption(f"and {len(stopped) - 5} older ones; `python -m takd list` shows all.")


def table(store: Store) -> None:
    """Every finished run, newest first; a row opens on the Playground."""
    every = [run for run in list_runs(store) if run.state == "done"]
    done = [run for run in every if not gone(run.spec)]
    st.subheader("Library", anchor=False)
    for run in every:
        if missing := gone(run.spec):
            st.caption(f"Run {run.id} is not shown. {gone_sentence(missing)}")
    if not done:
        st.info("No finished run yet.", icon=":material/inventory_2:")
        return
    st.dataframe(
        pd.DataFrame([_row(run, store) for run in done]),
        hide_index=True,
        column_config={
            "open": st.column_config.LinkColumn("open", display_text="Open", width="small"),
            "gain": st.column_config.NumberColumn("gain, points", format="%+.2f", help="over its control, on test"),
            "±": st.column_config.NumberColumn("± 95 %", format="%.2f"),
            "numbers": st.column_config.TextColumn("numbers", help="whether they were computed again; see below"),
        },
    )
    st.caption(
        "Gain is the chosen arm minus its control (direct KD for a chain, the student alone for direct KD, joint "
        "training for the smallest sub-model of a network), paired by seed; n counts seeds. ■ cached runs come with "
        "the program, ● live ones were trained here, ◆ imported ones somewhere else."
    )
    verifying.section([(run, live.describe(live.spec_of(run))) for run in done], store)


def _row(run: RunInfo, store: Store) -> dict[str, object]:
    spec = live.spec_of(run)
    shown = _study(run, store)
    verdict = shown.verdict if shown else None
    return {
        "open": f"./?{urlencode(to_query(spec, full=True), doseq=True)}",
        "verdict": words.verdict_label(verdict),
        "gain": 100 * verdict.interval.mean if verdict and verdict.n else None,
        "±": 100 * verdict.interval.half if verdict and verdict.n > 1 else None,
        "n": verdict.n if verdict else 0,
        "numbers": verifying.label(run, store),
        "question": live.describe(spec),
        "stages": run.stages_total,
        "origin": ORIGINS[run.origin],
        "created": run.created[:16].replace("T", " "),
    }


def _study(run: RunInfo, store: Store) -> Study | None:
    spec = live.spec_of(run)
    dataset = ui.datasets().get(spec.dataset)
    return study(spec, dataset, store) if dataset is not None and dataset.fingerprint is not None else None


def broken(store: Store) -> None:
    """Folders that could not be read: skipped everywhere else, listed here with the reason."""
    found = [(f"{root.name}/{name}", why) for root in store.roots for name, why in store.broken(root)]
    found += [(f"data set {name}", why) for name, why in damaged()]
    if found:
        with st.expander(f"{words.count(len(found), 'folder')} could not be read", icon=":material/folder_off:"):
            st.dataframe(pd.DataFrame(found, columns=["folder", "reason"]), hide_index=True)
