"""The Runs page's part about runs as files: bring one along, take one away, remove an imported one."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial

import streamlit as st

from takd.networks.own import gone
from takd.presentation import ui, visitor
from takd.presentation.captions import ORIGINS
from takd.presentation.formats import count
from takd.presentation.runs import library_rows, verifying
from takd.presentation.runs.bundle_words import imported_sentences
from takd.runs.bundle import MOST_DOWNLOADED, MOST_OF_STAGES, MOST_UPLOADED, Contents, contents, write_bundle
from takd.runs.bundle_import import Imported, import_bundle
from takd.runs.errors import RunError
from takd.runs.people import Person
from takd.runs.policy import may_import, public, read_only
from takd.runs.states import RunInfo
from takd.runs.store import Store
from takd.runs.submit import delete

_SAID = "bundle-said"  # what the last import or removal of this visitor came to


def section(runs: Sequence[RunInfo], store: Store) -> None:
    """Download a finished run as one file, import such a file. A server that only shows results has neither."""
    if read_only():
        return
    st.fragment(_panel)(runs, store)  # a file that is chosen or refused draws this part anew, not the page


def _panel(runs: Sequence[RunInfo], store: Store) -> None:
    who = visitor.person(store)
    done = [run for run in runs if run.state == "done" and not gone(run.spec)]
    st.subheader("Runs as files", anchor=False)
    if said := st.session_state.pop(_SAID, None):
        st.info(ui.plain(" ".join(said)), icon=":material/inventory_2:")
    if done:
        with st.expander("Download a run", icon=":material/download:"):
            _download(done, store, who)
    if may_import() and not who.refused:
        with st.expander("Import a run", icon=":material/upload:"):
            _upload(store, who)


def _download(runs: Sequence[RunInfo], store: Store, who: Person) -> None:
    by_id = {run.id: run for run in runs}
    names = {run.id: f"{asked} ({run.id}, {run.origin})" for run, asked in library_rows.named(runs, store)}
    chosen = st.selectbox(
        "Run to download",
        list(by_id),
        format_func=lambda run_id: names[run_id],
        key="bundle-run",
    )
    run = by_id[chosen]
    try:
        inside = contents(store, run.id)
    except RunError as error:
        st.caption(ui.plain(str(error)))
        return
    weights = False
    if inside.bytes > inside.bytes_without_weights:
        weights = st.toggle("With the networks' weights", value=True, key=f"bundle-weights-{run.id}")
    st.caption(ui.plain(_about(inside, weights)))
    if _size(inside, weights) <= _most():
        st.download_button(
            "Download bundle",
            data=partial(_bundle, store, run.id, weights),
            file_name=f"takd-{run.id}.zip",
            mime="application/zip",
            icon=":material/folder_zip:",
            key=f"bundle-{run.id}",
            on_click="ignore",
        )
    else:
        st.caption(
            f"This page makes bundles of at most {_most() // 1_000_000:,} MB. On the machine itself: "
            f"`python -m takd bundle {run.id}`"
        )
    if run.origin != "imported" or not who.owns({}):  # nobody owns an imported run but the machine's own person
        return
    if st.button("Remove this imported run", icon=":material/delete:", key="bundle-remove"):
        try:
            verifying.look_again()
            st.session_state[_SAID] = [delete(store, run.id, who)]
        except RunError as error:
            st.error(ui.plain(str(error)))
        else:
            st.rerun()


def _about(inside: Contents, weights: bool) -> str:
    size = _size(inside, weights)
    left = inside.bytes - inside.bytes_without_weights
    text = f"{count(inside.stages, 'training')}, about {_bytes(size)}"
    text += f"; {_bytes(left)} of it are weights." if weights else ", without weights."
    if size > MOST_UPLOADED:
        text += (
            f" The page takes files up to {MOST_UPLOADED // 1_000_000} MB; larger ones are imported with: "
            "python -m takd import FILE"
        )
    return text


def _size(inside: Contents, weights: bool) -> int:
    return inside.bytes if weights else inside.bytes_without_weights


def _most() -> int:
    """Bytes of the largest bundle the page makes: it is made in memory, for strangers too."""
    return MOST_DOWNLOADED if public() else MOST_OF_STAGES


def _bytes(number: int) -> str:
    return f"{number / 1e6:,.1f} MB" if number >= 1e6 else f"{number / 1e3:,.0f} kB"


def _bundle(store: Store, run_id: str, weights: bool) -> bytes:
    """Made when the button is pressed, not on every run of the page."""
    file = io.BytesIO()
    write_bundle(store, run_id, file, weights=weights)
    return file.getvalue()


def _upload(store: Store, who: Person) -> None:
    st.caption(
        "A file from this page of another copy of the program, or from `python -m takd bundle`. Everything in it is "
        f"checked first. What comes is marked {ORIGINS['imported']} and never used for training."
    )
    file = st.file_uploader("Bundle", type="zip", max_upload_size=MOST_UPLOADED // 1_000_000, key="bundle-file")
    if not st.button("Import", icon=":material/upload:", key="bundle-import", disabled=file is None) or file is None:
        return
    try:
        found: Imported = import_bundle(store, file, most=MOST_UPLOADED, person=who)
    except RunError as error:
        st.error(ui.plain(str(error)), icon=":material/block:")
        return
    verifying.look_again()
    st.session_state[_SAID] = [*imported_sentences(found), "It stands in the library above: Open shows it."]
    st.rerun()
