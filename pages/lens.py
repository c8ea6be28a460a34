"""Look inside: what the networks of a chain answer, where they agree and where they fail. Layout and words only."""

import streamlit as st

from takd.presentation import question, ui, view
from takd.presentation.lens import sections as lens

store = ui.store()
st.title("Look inside", anchor=False)
spec, (shown, differences) = question.bar(store)
if shown is not None:
    view.segmented("look", label_visibility="collapsed")
    lens.section(view.get("look"), shown, store)
