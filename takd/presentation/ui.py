"""Pieces of Streamlit that pages share: the store, figures with their export menu, notices, small styles."""

from __future__ import annotations

import hashlib
import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa
import streamlit as st

from takd.data.catalogue import available_datasets
from takd.data.table import Dataset
from takd.presentation import figure_menu, view, window
from takd.presentation.plain_text import plain as plain
from takd.presentation.theme import palette
from takd.presentation.vega import Chart
from takd.runs.store import Store, open_store
from takd.spec import ExperimentSpec

_log = logging.getLogger(__name__)
_STYLE = """
.st-key-live-state { flex-wrap: nowrap; white-space: nowrap; }
div:has(> .st-key-live-said) { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.st-key-visitor { margin-bottom: -1.75rem; }
.stApp [data-testid="stHeadingWithActionElements"] h1 { text-wrap: balance; }
.stApp button kbd { color: inherit; opacity: 1; }
.stApp .katex-display { overflow: visible; }
[data-testid=stFullScreenFrame]:has([data-testid=stVegaLiteChart]) [data-testid=stElementToolbar] {
  display: none;
}
"""


def unbroken(text: str) -> str:
    """A sentence whose percentages and numbers of seeds stay on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%").replace("n = ", "n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")


UNBROKEN_HYPHEN = "\N{NON-BREAKING HYPHEN}"  # keeps names such as plain-4 on one line of a heading


def style() -> None:
    """The few rules that Streamlit's theme has no setting for. Its captions, chosen pills and values of sliders are too
    faint to read on some backgrounds (WCAG AA), so they get the page's own colours. Streamlit's bar of buttons over a
    chart lies on the controls above it and takes their clicks; figures have a menu of their own instead."""
    ground = palette(dark())
    rules = f"""
    @media (max-width: {window.NARROW}px) {{
      .stApp [data-testid="stHeadingWithActionElements"] h1 {{ font-size: 1.35rem; }}
    }}
    [data-testid="stCaptionContainer"] {{ opacity: 1 !important; }}
    [data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] p {{ color: {ground.muted}; }}
    [data-testid="stSliderThumbValue"], [data-testid="stSliderThumbValue"] p {{ color: {ground.text} !important; }}
    button[role="radio"][aria-checked="true"] p, button[aria-pressed="true"] p {{
      color: {ground.text} !important;
    }}
    """
    st.html(f"<style>{_STYLE}{rules}</style>")


def fade(key: str, faded: bool) -> None:
    """Draw the figures of a container paler while they answer another question. A rule and not another key: under a
    new key the browser would build every figure again, and the page would jump."""
    st.html(f"<style>.st-key-{key} [data-testid=stVegaLiteChart] {{ opacity: {0.45 if faded else 1}; }}</style>")


@st.cache_resource
def store() -> Store:
    """The store of this server; it keeps parsed results of finished stages in memory."""
    return open_store()


def datasets() -> dict[str, Dataset]:
    """What this machine knows; read anew each time, because a worker may have prepared one."""
    return available_datasets()


def dark() -> bool:
    """Whether the visitor's theme is dark."""
    return st.context.theme.type == "dark"


def notices(sentences: tuple[str, ...], instead: str) -> None:
    """What had to be changed in the choices, one box for all, the question that is shown instead, and its link to copy.
    The URL has been written already."""
    if sentences:
        lines = [*sentences, f"Shown instead: {instead}."]
        st.warning("\n".join(f"- {plain(s)}" for s in lines), icon=":material/build:")
        st.caption("The repaired link:")
        st.code(view.link(), language=None, wrap_lines=True)


def figure(
    name: str,
    draw: Callable[[bool, bool], Chart],
    alt: Callable[[], str],
    data: pd.DataFrame,
    *,
    depends: tuple[Any, ...] = (),
    title: str,
    caption: str,
    pick: Pick | None = None,
    arms: Sequence[ExperimentSpec] = (),
) -> str | None:
    """A figure with caption and export menu, in the form for narrow windows where this one is.

    `draw(compact, dark)` makes the chart and `alt()` its text from `data` and `depends` (frames and plain values) and
    nothing else: while they stay as they are, the server keeps both for everybody. Returns what was picked in it where
    `pick` says what can be, None where nothing is. `arms` are the arms it shows, which its menu offers to compare.
    Where it cannot be drawn, `data` stands there as a table, with the same text, and the error is in the server's log.
    """
    key, compact, is_dark = f"chart-{name}", window.narrow(), dark()
    state = _fingerprint(data, is_dark, *depends)
    try:
        spec, alt_text = _drawn(name, compact, state, partial(draw, compact, is_dark), alt)
    except Exception:  # whatever it is: the numbers are known and one figure is no reason to lose the page
        _log.exception("The figure %s cannot be drawn", name)
        _as_table(name, alt, data, title, caption, pick)
        return picked(name, pick) if pick is not None else None
    with st.container(key=f"figure-{name}", gap="xsmall"):
        if pick is not None:
            clicked = partial(_clicked, name, pick)
            st.vega_lite_chart(spec, theme=None, key=key, on_select=clicked, selection_mode=["box"], alt=alt_text)
        else:
            st.vega_lite_chart(spec, theme=None, key=key, alt=alt_text)
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.caption(caption)
            if pick is not None:
                _menu_of_picks(name, pick)
            figure_menu.menu(name, draw, data, title, caption, arms)
    return picked(name, pick) if pick is not None else None


def _as_table(
    name: str, alt: Callable[[], str], data: pd.DataFrame, title: str, caption: str, pick: Pick | None
) -> None:
    """What stands in the place of a figure that cannot be drawn: its sentence, its numbers, and their file."""
    try:
        said = alt()
    except Exception:
        _log.exception("The figure %s cannot be told", name)
        said = ""
    with st.container(key=f"figure-{name}", gap="xsmall"):
        st.warning(
            f"The figure “{plain(title)}” cannot be drawn; these are its numbers. The server's log says why.",
            icon=":material/table:",
        )
        if said:
            st.markdown(plain(said))
        st.dataframe(data, hide_index=True)
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.caption(caption)
            if pick is not None:
                _menu_of_picks(name, pick)
            figure_menu.table_button(name, data, icon=":material/download:")


@dataclass(frozen=True)
class Pick:
    """What can be picked in a figure: the field of its marks that a click hands over, and every value it can have with
    its words. The same choice stands beside the figure as a menu, for keyboards and screen readers.

    The chart makes its marks clickable with `selectable("box", [field])`. `then` is for picks that are commands: it is
    called with what was picked, before the page is drawn again, and nothing stays picked.
    """

    field: str
    values: Mapping[str, str]
    label: str = "Look at"
    nothing: str = "all"
    then: Callable[[str], None] | None = None


def picked(name: str, pick: Pick) -> str | None:
    """What is picked in a figure, before or after it is drawn."""
    value = st.session_state.get(f"pick-{name}")
    return value if value in pick.values else None


def _menu_of_picks(name: str, pick: Pick) -> None:
    key = f"pick-{name}"
    st.session_state[key] = picked(name, pick)
    st.selectbox(
        pick.label,
        list(pick.values),
        format_func=pick.values.__getitem__,
        key=key,
        placeholder=f"{pick.label}: {pick.nothing}",
        label_visibility="collapsed",
        width=200,
        on_change=_told,
        args=(name, pick),
    )


def _clicked(name: str, pick: Pick) -> None:
    """Callback of a figure: a click on a mark picks it, one beside all marks picks nothing."""
    try:
        rows = st.session_state[f"chart-{name}"]["selection"]["box"]
        value = str(rows[0][pick.field]) if rows else None
    except (KeyError, IndexError, TypeError):
        value = None
    st.session_state[f"pick-{name}"] = value if value in pick.values else None
    _told(name, pick)


def _told(name: str, pick: Pick) -> None:
    if pick.then is not None and (value := picked(name, pick)) is not None:
        st.session_state[f"pick-{name}"] = None
        pick.then(value)


@st.cache_resource(max_entries=200, show_spinner=False)  # some tens of kilobytes each
def _drawn(
    name: str, compact: bool, state: str, _draw: Callable[[], Chart], _alt: Callable[[], str]
) -> tuple[dict[str, Any], str]:
    """The Vega-Lite specification of a figure and its text. Kept by the server: while what the figure depends on
    (`state`) stays the same it is drawn once, however many people look at it."""
    spec, tables = _draw().parts()
    data = {table: pa.Table.from_pandas(frame, preserve_index=False) for table, frame in tables.items()}
    return {**spec, "datasets": data}, _alt()


def _fingerprint(*things: Any) -> str:
    """A short text that changes when a frame or a plain value does."""
    digest = hashlib.sha256()
    for thing in things:
        digest.update(_of_frame(thing) if isinstance(thing, pd.DataFrame) else repr(thing).encode())
    return digest.hexdigest()


_KNOWN: dict[int, tuple[weakref.ref[pd.DataFrame], bytes]] = {}


def _of_frame(frame: pd.DataFrame) -> bytes:
    """Its columns and rows; remembered with the frame, which nobody changes once a figure shows it."""
    known = _KNOWN.get(id(frame))
    if known is not None and known[0]() is frame:
        return known[1]
    rows = pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes()
    found = hashlib.sha256(repr(list(frame.columns)).encode() + rows).digest()
    name = id(frame)
    _KNOWN[name] = weakref.ref(frame, lambda _: _KNOWN.pop(name, None)), found
    return found
