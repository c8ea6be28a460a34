"""Compare: any arms side by side. Layout and words only."""

import streamlit as st

from takd.presentation import question, ui

store = ui.store()
st.title("Compare", anchor=False)
st.caption("Any arms side by side: what differs, by how much, and how sure that is.")
spec, (shown, differences) = question.bar(store)
