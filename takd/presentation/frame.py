"""What surrounds every page: navigation, title, and the store and data sets that pages share."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # Streamlit puts only this file's folder on the path
    sys.path.insert(0, str(ROOT))

from takd.presentation import ui, visitor  # noqa: E402

PAGES = ROOT / "pages"
# A file: Streamlit fetches the image of an emoji or a Material symbol in the tab from the internet.
ICON = Path(__file__).with_name("icon.png")
page = st.navigation(
    [
        st.Page(PAGES / "playground.py", title="Playground", default=True),
        st.Page(PAGES / "methods.py", title="Methods", url_path="methods"),
        st.Page(PAGES / "runs.py", title="Runs", url_path="runs"),
    ],
    position="top",
)
st.set_page_config(page_title=f"{page.title} · TAKD Explorer", page_icon=str(ICON), layout="wide")
ui.style()
ui.enter(page.url_path)
visitor.line(ui.store())
page.run()
