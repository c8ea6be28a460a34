"""Assistants: does a network in between help, which one, how many, and what does it cost? Layout and words only."""

import streamlit as st

from takd.presentation import question, ui

store = ui.store()
st.title("Assistants", anchor=False)
st.caption("Does a network in between win something back? Which one, how many, and is it worth the time?")
spec, (shown, differences) = question.bar(store)
