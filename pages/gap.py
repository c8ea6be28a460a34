"""Capacity gap: is a bigger teacher still a better one for this student? Layout and words only."""

import streamlit as st

from takd.presentation import question, ui

store = ui.store()
st.title("Capacity gap", anchor=False)
st.caption("A bigger teacher is a better network. Is it also a better teacher for a small student?")
spec, (shown, differences) = question.bar(store)
