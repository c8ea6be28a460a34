"""Pieces of Streamlit that pages share: the store, figures with their export menu, notices, small styles."""

from __future__ import annotations

import hashlib
import re
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa
import streamlit as st

from takd.data.catalogue import available_datasets
from takd.data.table import Dataset
from takd.presentation import window
from takd.presentation.exports import chart_bytes, table_bytes
from takd.presentation.theme import palette
from takd.presentation.vega import Chart
from takd.runs.store import Store, open_store

_STYLE = """
.st-key-live-state { flex-wrap: nowrap; white-space: nowrap; }
div:has(> .st-key-live-said) { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.st-key-visitor { margin-bottom: -1.75rem; }
.stApp [data-testid="stHeadingWithActionElements"] h1 { text-wrap: balance; }
"""


_WORD_JOINER = "\N{WORD JOINER}"  # no letter and no room
# The browser makes links of bare addresses (GFM), also after the signs in them were escaped: it looks at the text that
# is left. With a joiner inside them they are no addresses.
_IN_ADDRESSES = re.compile(r"(?<=www)(?=\.)|(?<=:)(?=//)|(?<=@)", re.IGNORECASE)
UNBROKEN_HYPHEN = "\N{NON-BREAKING HYPHEN}"  # keeps names such as plain-4 on one line of a heading


def style() -> None:
    """The few rules that Streamlit's theme has no setting for. Its captions and chosen pills are too faint to read on
    some backgrounds (WCAG AA), so they get the page's own colours."""
    ground = palette(dark())
    rules = f"""
    [data-testid="stCaptionContainer"] {{ opacity: 1 !important; }}
    [data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] p {{ color: {ground.muted}; }}
    button[role="radio"][aria-checked="true"] p, button[aria-pressed="true"] p {{
      color: {ground.text} !important;
    }}
    """
    st.html(f"<style>{_STYLE}{rules}</style>")


def fade(key: str, faded: bool) -> None:
    """Draw the figures of a container paler while they answer another question. A rule and not another key: under a
    new key the browser would build every figure again, and the page would jump."""
    st.html(f"<style>.st-key-{key} [data-testid=stVegaLiteChart] {{ opacity: {0.45 if faded else 1}; }}</style>")


def enter(page: str) -> None:
    """Note which page is shown. Going to another one counts as a new visit."""
    state = st.session_state
    if state.get("page-shown") != page:
        state["page-shown"], state["visit"] = page, visit() + 1


def visit() -> int:
    """The number of this visit to a page. The navigation drops the URL's parameters, so the first run of a visit may
    not read a missing one as a choice."""
    return int(st.session_state.get("visit", 0))


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
    """What had to be changed in the choices, one box for all, and the question that is shown instead."""
    if sentences:
        lines = [*sentences, f"Shown instead: {instead}."]
        st.warning("\n".join(f"- {plain(s)}" for s in lines), icon=":material/build:")


def plain(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no links, no images, no formulas."""
    text = _IN_ADDRESSES.sub(_WORD_JOINER, text)
    for mark in "\\`*_[]<>$:#~|!":
        text = text.replace(mark, f"\\{mark}")
    return text


def figure(
    name: str,
    draw: Callable[[bool, bool], Chart],
    alt: Callable[[], str],
    data: pd.DataFrame,
    *,
    depends: tuple[Any, ...] = (),
    title: str,
    caption: str,
    select: bool = False,
) -> str | None:
    """A figure with caption and export menu, in the form for narrow windows where this one is.

    `draw(compact, dark)` makes the chart and `alt()` its text from `data` and `depends` (frames and plain values) and
    nothing else: while they stay as they are, the server keeps both for everybody. Returns the field `network` of the
    box that was clicked where `select` is set.
    """
    key, compact, is_dark = f"chart-{name}", window.narrow(), dark()
    state = _fingerprint(data, is_dark, *depends)
    spec, alt_text = _drawn(name, compact, state, partial(draw, compact, is_dark), alt)
    with st.container(key=f"figure-{name}", gap="xsmall"):
        if select:
            st.vega_lite_chart(spec, theme=None, key=key, on_select="rerun", selection_mode=["box"], alt=alt_text)
        else:
            st.vega_lite_chart(spec, theme=None, key=key, alt=alt_text)
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.caption(caption)
            _export_menu(name, draw, data, title, caption)
    return _picked(st.session_state.get(key)) if select else None


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


def _picked(event: Any) -> str | None:
    try:
        rows = event["selection"]["box"]
        return str(rows[0]["network"]) if rows else None
    except (KeyError, IndexError, TypeError):
        return None


def _export_menu(name: str, draw: Callable[[bool, bool], Chart], data: pd.DataFrame, title: str, source: str) -> None:
    menu = st.popover(
        "Export", icon=":material/download:", help=f"Save “{title}”", key=f"export-{name}", on_change="rerun"
    )
    if not menu.open:  # a live page would send the buttons of every figure with each tick
        return
    with menu:
        for kind in ("png", "svg"):
            st.download_button(
                kind.upper(),
                data=partial(_picture, draw, kind, title, source),
                file_name=f"takd-{name}.{kind}",
                key=f"{kind}-{name}",
                on_click="ignore",
                width="stretch",
            )
        st.download_button(
            "CSV",
            data=partial(table_bytes, data),
            file_name=f"takd-{name}.csv",
            mime="text/csv",
            key=f"csv-{name}",
            on_click="ignore",
            width="stretch",
        )


def _picture(draw: Callable[[bool, bool], Chart], kind: str, title: str, source: str) -> bytes:
    """Made when the button is pressed, not on every run of the page."""
    said = source.replace("\\", "").replace(_WORD_JOINER, "")
    return chart_bytes(draw(False, False), kind, title[:1].upper() + title[1:], said)
