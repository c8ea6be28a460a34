"""The queue as a list, under the cards of what trains: what waits, in order, when each starts, and how its owner moves
it."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from takd.presentation import live, ui, visitor, words
from takd.runs.errors import RunError
from takd.runs.queue import Queued, move
from takd.runs.store import Store
from takd.runs.submit import cancel

_SHOWN = 10  # rows, and one's own
_MOVES = {
    "front": ("To the front", "vertical_align_top"),
    "up": ("Up", "arrow_upward"),
    "down": ("Down", "arrow_downward"),
    "back": ("To the back", "vertical_align_bottom"),
}


def waiting_list(entries: list[Queued], store: Store) -> None:
    """Nothing where no run waits. `entries` as takd.runs.queue gives them."""
    waiting = [entry for entry in entries if entry.run.position is not None]
    if not waiting:
        return
    st.subheader("Queue", anchor=False)
    who = visitor.person(store).id
    shown = [(n, entry) for n, entry in enumerate(waiting, 1) if n <= _SHOWN or (who and entry.run.owner == who)]
    for place, entry in shown:
        _row(place, entry, store)
    if len(waiting) > len(shown):
        st.caption(f"and {len(waiting) - len(shown)} more; `python -m takd list` shows all.")


def _row(place: int, entry: Queued, store: Store) -> None:
    run = entry.run
    with st.container(border=True, key=f"queued-{run.id}", gap="xsmall"):
        said = words.starts_in(entry.starts_in, (run.position or 1) - 1)
        st.markdown(f"**{place}.** {ui.plain(f'{_told(entry)} · {said}')}")
        if run.reason:
            st.caption(ui.plain(run.reason))
        if not live.may_change(run, store):
            return
        with st.container(horizontal=True):
            for to in entry.moves:
                label, icon = _MOVES[to]
                _button(label, icon, f"{to}-{run.id}", _moving(store, run.id, to))
            if run.state != "cancelling":
                _button("Cancel", "stop", f"cancel-{run.id}", lambda: cancel(store, run.id, visitor.person(store)))


def _moving(store: Store, run_id: str, to: str) -> Callable[[], None]:
    return lambda: move(store, run_id, to, visitor.person(store))


def _button(label: str, icon: str, key: str, action: Callable[[], None]) -> None:
    if st.button(label, icon=f":material/{icon}:", key=f"queue-{key}"):
        try:
            action()
        except RunError as error:
            st.error(ui.plain(str(error)))
        else:
            st.rerun()


def _told(entry: Queued) -> str:
    who = f" · {entry.run.asked_by}" if entry.run.asked_by else ""
    return f"{live.describe(live.spec_of(entry.run))}{who}"
