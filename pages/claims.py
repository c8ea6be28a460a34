"""Claims: what the field says, each tested here by a rule fixed beforehand. Layout and words only."""

import streamlit as st

from takd.presentation import ui, view, window
from takd.presentation.claims import data as claims_data
from takd.presentation.claims import panels as claim_panels

store = ui.store()
st.title("Claims", anchor=False)
known = claims_data.known(store, ui.datasets(), claim_panels.PATIENCE)
claim_panels.head(known)
left, right = st.columns([1.2, 1], gap="medium")
with left:
    if known is None:
        claim_panels.waiting(store)
        claim_panels.texts()
    else:
        claim_panels.board(known)
        if not window.narrow():
            claim_panels.regimes(known)
with right:
    claim_panels.one(None if known is None else known.row(str(view.get("claim"))), store)
if known is not None:
    if window.narrow():  # the claim that was picked comes right after the board there
        claim_panels.regimes(known)
    claim_panels.table(known)
claim_panels.changed()
