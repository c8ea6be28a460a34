"""Capacity gap: is a bigger teacher still a better one for this student? Layout and words only."""

import streamlit as st

from takd.presentation import question, ui
from takd.presentation.gap import panels as gap_panels

store = ui.store()
st.title("Capacity gap", anchor=False)
head = st.container()
spec, (shown, differences) = question.bar(store)
if shown is None or differences is not None:
    gap_panels.going_on(spec, store)
if shown is None or shown.in_one_network:
    head.caption("A bigger teacher is a better network. Is it also a better teacher for a small student?")
if shown is not None and shown.in_one_network:
    gap_panels.inside_one_network(shown, store)
elif shown is not None:
    with head if differences is None else st.container():  # a claim about another question stands below the notice
        gap_panels.verdict(shown)
    gap_panels.settings()
    with st.container(key="gap-figures"):
        gap_panels.figures(shown, store)
    ui.fade("gap-figures", differences is not None)
    gap_panels.numbers(shown, store)
