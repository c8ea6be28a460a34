"""Compare: any arms side by side. Layout and words only."""

import streamlit as st

from takd.presentation import basket, ui, view, words
from takd.presentation.compare import panels as compare_panels
from takd.presentation.compare.written import as_shown

store = ui.store()
st.title("Compare", anchor=False)
st.caption("Any arms side by side: what differs, by how much, and how sure that is. The link of this page keeps them.")
table, problems = compare_panels.gathered(store)
if problems:
    st.warning("\n".join(f"- {ui.plain(sentence)}" for sentence in problems), icon=":material/build:")
if not table.specs:
    compare_panels.empty(store)
compare_panels.editor(table, store)
if table.done:
    found = compare_panels.all_contrasts(table)
    caption = ui.plain(compare_panels.origin(table))
    st.subheader(ui.plain(compare_panels.summary(table, found)), anchor=False)
    if len(found) > 1:
        st.caption(words.best_of(len(found)))
    reference, margin = st.columns(2)
    with reference:
        compare_panels.reference_menu(table)
    with margin:
        view.slider("mg", step=0.1)
    left, right = st.columns(2)
    with left:
        compare_panels.reached(table, caption)
    with right:
        compare_panels.apart(table, found, caption)
    if len(table.specs) > 1:
        st.subheader("What differs", anchor=False)
        rows, same = compare_panels.differing(table)
        st.dataframe(rows, hide_index=True)
        st.caption(ui.plain(f"The same in all: {same}."))
    st.subheader("How they learned", anchor=False)
    compare_panels.curves(table, store, caption)
    st.subheader("All numbers", anchor=False)
    st.dataframe(as_shown(compare_panels.numbers(table, found)), hide_index=True, placeholder="–")
if basket.items():
    compare_panels.untrained(table, store)
