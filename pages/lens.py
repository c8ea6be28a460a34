"""Look inside: what the networks of a chain answer, where they agree and where they fail. Layout and words only."""

import streamlit as st

from takd.presentation import question, ui

store = ui.store()
st.title("Look inside", anchor=False)
st.caption("What do teacher, assistants and student answer, where do they agree, and where do they fail?")
spec, (shown, differences) = question.bar(store)
