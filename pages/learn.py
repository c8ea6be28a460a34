"""Learn: eight steps, each with a guess and what was measured. Layout and words only."""

import streamlit as st

from takd.presentation import question, ui

store = ui.store()
st.title("Learn", anchor=False)
st.caption("Eight steps: guess first, then see what was measured.")
spec, (shown, differences) = question.bar(store)
