"""The Runs page's part about checks: a stamp per run, the button that asks for one, how far it is."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from takd.presentation import ui, visitor
from takd.presentation.formats import count
from takd.presentation.runs.stamp_words import (
    NOT_VERIFIED,
    skipped_sentences,
    stamp_label,
    stamp_sentence,
    ties_sentence,
)
from takd.runs.errors import RunError
from takd.runs.jobs import may_stop
from takd.runs.policy import read_only
from takd.runs.stamps import Stamp, read_stamp, valid_stamp
from takd.runs.states import RunInfo
from takd.runs.store import Store
from takd.runs.verification import Verification, start, stop, verification

_TICK = 1.0  # seconds between looks at a check
_ASKED = "verify-asked"  # the check whose end this visitor waits for


def labels(runs: Sequence[RunInfo], store: Store) -> list[str]:
    """The stamp of each run in a cell. Whether they still hold is looked up once a minute: every file is looked at."""
    return _labels(" ".join([str(store.root), *(f"{run.origin}/{run.id}" for run in runs)]), runs, store)


@st.cache_data(ttl=60.0, show_spinner=False)
def _labels(name: str, _runs: Sequence[RunInfo], _store: Store) -> list[str]:
    return [_label(run, _store) for run in _runs]


def look_again() -> None:
    """Let the labels be looked up anew: a run was checked, brought or removed."""
    _labels.clear()


def _label(run: RunInfo, store: Store) -> str:
    try:
        return stamp_label(valid_stamp(store, run.id))
    except RunError:  # deleted in the meantime
        return NOT_VERIFIED


def section(runs: Sequence[tuple[RunInfo, str]], store: Store) -> None:
    """Choose a run (with what it asks, in words), see its stamp, have it checked."""
    if not runs:
        return
    st.subheader("Are these numbers right?", anchor=False)
    st.caption(
        "A check takes a run's own files and computes every stored number again: the curves' best and last values, the "
        "test accuracy and the other test numbers from the stored answers, and the answers themselves from the stored "
        "weights."
    )
    asked = dict.fromkeys(run.id for run, _ in runs)
    names = {run.id: f"{words} ({run.id})" for run, words in runs}
    chosen = st.selectbox("Run", list(asked), format_func=lambda run_id: names[run_id], key="verify-run")
    now = verification(store)
    st.fragment(_panel, run_every=_TICK if now is not None and now.active else None)(chosen, store)


def _panel(run_id: str, store: Store) -> None:
    """The stamp and the button; while a check goes on, how far it is. When it ends, the whole page is drawn again."""
    now = verification(store)
    state = st.session_state
    if now is not None and now.active:
        state[_ASKED] = now.id
    elif state.pop(_ASKED, None) is not None:
        look_again()
        st.rerun()  # without the timer, and with the new stamp in the table
    with st.container(border=True):
        try:
            _stamp(store, run_id)
        except RunError as error:
            st.caption(ui.plain(str(error)))
            return
        if now is not None and now.active:
            _going_on(now, run_id, store)
            return
        if now is not None and now.what == run_id and now.state in ("failed", "lost"):
            st.caption(f"The last check did not finish. {ui.plain(now.text)} {store.root.name}/verified/log.txt")
        _button(run_id, store)


def _stamp(store: Store, run_id: str) -> None:
    stamp, earlier = valid_stamp(store, run_id), read_stamp(store, run_id)
    if stamp is None:
        st.markdown(f":material/help: **{NOT_VERIFIED}**")
        if earlier is not None:
            st.caption(f"It was checked on {earlier.when[:10]}, but its files have changed since.")
        return
    icon = "error" if stamp.differences else "verified"
    st.markdown(f":material/{icon}: **{ui.plain(stamp_sentence(stamp))}**")
    if stamp.differences:
        with st.expander(f"{count(len(stamp.differences), 'difference')}: what is stored, what was found"):
            st.dataframe(_differences(stamp), hide_index=True)
            st.caption(
                "Something in these files is not what the training left: a file was edited or damaged, or the result "
                "was made by an older version. Training the stage again gives it new files."
            )
    left = [*skipped_sentences(stamp), *filter(None, [ties_sentence(stamp)])]
    if left:
        with st.expander("What could not be decided"):
            st.markdown("\n".join(f"- {ui.plain(sentence)}" for sentence in left))


def _differences(stamp: Stamp) -> pd.DataFrame:
    rows = [(stage.title, one.what, one.stored, one.found, stage.key) for stage, one in stamp.differences]
    return pd.DataFrame(rows, columns=["training", "what", "stored", "found", "stage"])


def _going_on(now: Verification, run_id: str, store: Store) -> None:
    mine = now.what in (run_id, "")
    whose = "everything stored" if not now.what else "this run" if mine else f"run {now.what}"
    where = f"{now.done} of {count(now.total, 'stage')}" if now.total else "the program is starting"
    st.progress(now.share, text=f"Checking {ui.plain(whose)}: {where}")
    if now.text:
        st.caption(ui.plain(now.text))
    person = visitor.person(store)
    if may_stop(now, person) and st.button("Stop the check", icon=":material/stop:", key="verify-stop"):
        try:
            stop(store, person)
        except RunError as error:
            st.error(ui.plain(str(error)))
        else:
            st.rerun()


def _allowed(store: Store) -> bool:
    return not read_only() and not visitor.person(store).refused


def _button(run_id: str, store: Store) -> None:
    if not _allowed(store):
        return
    problem = store.writable()
    help_text = problem or "Takes seconds for digits, a few minutes for CIFAR. You can close the page meanwhile."
    if st.button(
        "Verify", icon=":material/fact_check:", key=f"verify-{run_id}", disabled=bool(problem), help=help_text
    ):
        try:
            st.session_state[_ASKED] = start(store, run_id, visitor.person(store))
        except RunError as error:
            st.error(ui.plain(str(error)))
        else:
            st.rerun()
