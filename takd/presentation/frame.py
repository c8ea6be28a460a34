"""What surrounds every page: navigation, title, and the store and data sets that pages share."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # Streamlit puts only this file's folder on the path
    sys.path.insert(0, str(ROOT))

from takd.presentation import ui, view, visit, visitor, window  # noqa: E402

PAGES = ROOT / "pages"
# A file: Streamlit fetches the image of an emoji or a Material symbol in the tab from the internet.
ICON = Path(__file__).with_name("icon.png")
page = st.navigation(
    [
        st.Page(PAGES / "playground.py", title="Playground", default=True),
        st.Page(PAGES / "gap.py", title="Capacity gap", url_path="gap"),
        st.Page(PAGES / "chains.py", title="Assistants", url_path="chains"),
        st.Page(PAGES / "lens.py", title="Look inside", url_path="lens"),
        st.Page(PAGES / "methods.py", title="Methods", url_path="methods"),
        st.Page(PAGES / "compare.py", title="Compare", url_path="compare"),
        st.Page(PAGES / "claims.py", title="Claims", url_path="claims"),
        st.Page(PAGES / "runs.py", title="Runs", url_path="runs"),
        st.Page(PAGES / "learn.py", title="Learn", url_path="learn"),
    ],
    position="top",
)
st.set_page_config(page_title=f"{page.title} · TAKD Explorer", page_icon=str(ICON), layout="wide")
ui.style()
visit.enter(page.url_path)
view.follow(page.url_path)
visitor.line(ui.store())
if said := " ".join((*view.problems(), view.locks_in_words())).strip():
    st.caption(f":material/lock: {ui.plain(said)}" if view.get("lock") else ui.plain(said))
page.run()
if message := st.session_state.pop("toast", None):
    st.toast(message, icon=":material/check_circle:")
window.watch()  # at the end, where its empty place moves nothing
