"""Pieces of Streamlit that pages share: the store, figures with their export menu, notices, small styles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from takd.data.catalogue import available_datasets
from takd.data.table import Dataset
from takd.presentation.exports import chart_bytes, table_bytes
from takd.runs.store import Store, open_store

# Two versions of a figure are drawn and the narrower one is shown on small screens: the server cannot know the width.
_STYLE = """
<style>
[class*="st-key-narrow-"] { display: none; }
@media (max-width: 640px) {
  [class*="st-key-wide-"] { display: none; }
  [class*="st-key-narrow-"] { display: flex; }
}
.st-key-faded [data-testid="stVegaLiteChart"] { opacity: 0.45; }
.stApp [data-testid="stHeadingWithActionElements"] h1 { text-wrap: balance; }
</style>
"""


UNBROKEN_HYPHEN = "\N{NON-BREAKING HYPHEN}"  # keeps names such as plain-4 on one line of a heading


def style() -> None:
    """The few rules that Streamlit's theme has no setting for."""
    st.html(_STYLE)


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


def notices(sentences: tuple[str, ...]) -> None:
    """What had to be changed in the choices, one box for all."""
    if sentences:
        st.warning("\n".join(f"- {plain(s)}" for s in sentences), icon=":material/build:")


def plain(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no links, no images, no formulas."""
    for mark in "\\`*_[]<>$:#~|!":
        text = text.replace(mark, f"\\{mark}")
    return text


def figure(
    name: str,
    draw: Callable[[bool], Any],
    alt_text: str,
    data: pd.DataFrame,
    *,
    title: str,
    caption: str,
    select: bool = False,
) -> str | None:
    """A figure in its wide and narrow form, with caption and export menu.

    `draw(compact)` makes the chart. Returns the field `network` of the box that was clicked where `select` is set.
    """
    picked = None
    for form, compact in (("wide", False), ("narrow", True)):
        with st.container(key=f"{form}-{name}", gap="xsmall"):
            chart = draw(compact)
            if select:
                event = st.altair_chart(
                    chart,
                    theme=None,
                    key=f"chart-{form}-{name}",
                    on_select="rerun",
                    selection_mode=["box"],
                    alt=alt_text,
                )
                picked = picked or _picked(event)
            else:
                st.altair_chart(chart, theme=None, key=f"chart-{form}-{name}", alt=alt_text)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(caption)
        _export_menu(name, draw, data, title)
    return picked


def _picked(event: Any) -> str | None:
    try:
        rows = event["selection"]["box"]
        return str(rows[0]["network"]) if rows else None
    except (KeyError, IndexError, TypeError):
        return None


def _export_menu(name: str, draw: Callable[[bool], Any], data: pd.DataFrame, title: str) -> None:
    is_dark = dark()
    with st.popover("Export", icon=":material/download:", help=f"Save “{title}”"):
        for kind in ("png", "svg"):
            st.download_button(
                kind.upper(),
                data=partial(_picture, draw, kind, is_dark),
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


def _picture(draw: Callable[[bool], Any], kind: str, is_dark: bool) -> bytes:
    """Made when the button is pressed, not on every run of the page."""
    return chart_bytes(draw(False), kind, is_dark)
