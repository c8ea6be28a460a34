"""How wide the visitor's window is: the server cannot know, so the browser tells it."""

from __future__ import annotations

from typing import Any

import streamlit as st

NARROW = 640  # pixels; narrower windows get the compact form of figures
_KEY = "window"
# Told once when the page opens, and again only when the window crosses the limit.
_WATCH = """
export default function ({ data, setStateValue }) {
  const query = window.matchMedia(`(max-width: ${data.limit}px)`);
  const tell = () => { if (query.matches !== data.narrow) setStateValue("narrow", query.matches); };
  query.addEventListener("change", tell);
  tell();
  return () => query.removeEventListener("change", tell);
}
"""


def narrow() -> bool:
    """Whether the window is narrow. Until the browser has said so, phones are known by the name of their browser."""
    told = st.session_state.get(_KEY)
    known = told.get("narrow") if told is not None else None
    return "Mobi" in (st.context.headers.get("User-Agent") or "") if known is None else bool(known)


def watch() -> None:
    """Ask the browser; to be called once in every run of a page, whatever page it is."""
    ask: Any = st.components.v2.component("takd_window", js=_WATCH)
    ask(key=_KEY, data={"limit": NARROW, "narrow": narrow()}, height=0, on_narrow_change=lambda: None)
