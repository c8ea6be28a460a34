"""Pieces of Streamlit that pages share: the store, figures with their export menu, notices, small styles."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa
import streamlit as st

from takd.data.catalogue import available_datasets
from takd.data.table import Dataset
from takd.presentation.exports import chart_bytes, table_bytes
from takd.presentation.theme import palette
from takd.presentation.vega import Chart
from takd.runs.store import Store, open_store

# Two versions of a figure are drawn and the narrower one is shown on small screens: the server cannot know the width.
_STYLE = """
[class*="st-key-narrow-"] { display: none; }
@media (max-width: 640px) {
  [class*="st-key-wide-"] { display: none; }
  [class*="st-key-narrow-"] { display: flex; }
}
.st-key-live-state { flex-wrap: nowrap; white-space: nowrap; }
div:has(> .st-key-live-said) { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.st-key-visitor { margin-bottom: -1.75rem; }
.stApp [data-testid="stHeadingWithActionElements"] h1 { text-wrap: balance; }
"""


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
    for mark in "\\`*_[]<>$:#~|!":
        text = text.replace(mark, f"\\{mark}")
    return text


def figure(
    name: str,
    draw: Callable[[bool, bool], Chart],
    alt_text: str,
    data: pd.DataFrame,
    *,
    later: list[Callable[[], None]],
    depends: tuple[Any, ...] = (),
    hold: float = 0.0,
    title: str,
    caption: str,
    select: bool = False,
) -> str | None:
    """A figure in its wide and narrow form, with caption and export menu.

    `draw(compact, dark)` makes the chart from `data` and `depends` (frames and plain values) and nothing else: while
    they stay as they are, the session keeps the drawing. A live page may `hold` a drawing for some seconds even if
    they change. The narrow form is added to `later`, to be drawn when every wide one stands: most windows show those.
    Returns the field `network` of the box that was clicked where `select` is set.
    """
    is_dark = dark()
    state = _fingerprint(data, is_dark, *depends)

    def place(form: str) -> None:
        key = _chart_key(form, name)
        spec = _drawn(f"{name}-{form}", state, partial(draw, form == "narrow", is_dark), hold)
        if select:
            st.vega_lite_chart(spec, theme=None, key=key, on_select="rerun", selection_mode=["box"], alt=alt_text)
        else:
            st.vega_lite_chart(spec, theme=None, key=key, alt=alt_text)

    with st.container(key=f"wide-{name}", gap="xsmall"):
        place("wide")
    narrow = st.container(key=f"narrow-{name}", gap="xsmall")

    def place_narrow() -> None:
        with narrow:
            place("narrow")

    later.append(place_narrow)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(caption)
        _export_menu(name, draw, data, title, caption)
    if not select:
        return None
    return next(
        filter(None, (_picked(st.session_state.get(_chart_key(form, name))) for form in ("wide", "narrow"))), None
    )


def _chart_key(form: str, name: str) -> str:
    return f"chart-{form}-{name}"


@dataclass(frozen=True)
class _Drawing:
    state: str
    made: float
    spec: dict[str, Any]


def _drawn(name: str, state: str, draw: Callable[[], Chart], hold: float) -> dict[str, Any]:
    """The Vega-Lite specification of a figure, from the session's memory where nothing it depends on has changed."""
    memory: dict[str, _Drawing] = st.session_state.setdefault("drawings", {})
    known, now = memory.get(name), time.monotonic()
    if known is None or (known.state != state and now - known.made >= hold):
        spec, tables = draw().parts()
        data = {table: pa.Table.from_pandas(frame, preserve_index=False) for table, frame in tables.items()}
        known = memory[name] = _Drawing(state, now, {**spec, "datasets": data})
    return known.spec


def _fingerprint(*things: Any) -> str:
    """A short text that changes when a frame or a plain value does."""
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, pd.DataFrame):
            digest.update(repr(list(thing.columns)).encode())
            digest.update(pd.util.hash_pandas_object(thing, index=False).to_numpy().tobytes())
        else:
            digest.update(repr(thing).encode())
    return digest.hexdigest()


def _picked(event: Any) -> str | None:
    try:
        rows = event["selection"]["box"]
        return str(rows[0]["network"]) if rows else None
    except (KeyError, IndexError, TypeError):
        return None


def _export_menu(name: str, draw: Callable[[bool, bool], Chart], data: pd.DataFrame, title: str, source: str) -> None:
    with st.popover("Export", icon=":material/download:", help=f"Save “{title}”"):
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
    return chart_bytes(draw(False, False), kind, title[:1].upper() + title[1:], source.replace("\\", ""))
