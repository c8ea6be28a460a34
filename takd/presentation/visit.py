"""Which page is shown, its address, and how many pages were shown before it in this session."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

PAGES = Path(__file__).resolve().parents[2] / "pages"
PLAYGROUND = PAGES / "playground.py"


def enter(page: str) -> None:
    """Note which page is shown. Going to another one counts as a new visit."""
    state = st.session_state
    if state.get("page-shown") != page:
        state["page-shown"], state["visit"] = page, visit() + 1


def address(query: str) -> str:
    """The whole address of the page that is shown, with these parameters: pasted into a chat it opens this page. The
    browser says where it found the page, so it holds behind a proxy too; where none has said it, only the query."""
    found = (st.context.url or "").rstrip("/")
    home = bool(found) and not st.session_state.get("page-shown")
    return f"{found}{'/' * home}?{query}"


def visit() -> int:
    """The number of this visit to a page. The navigation drops the URL's parameters, so the first run of a visit may
    not read a missing one as a choice."""
    return int(st.session_state.get("visit", 0))
