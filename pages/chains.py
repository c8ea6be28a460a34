"""Assistants: does a network in between help, which one, how many, and what does it cost? Layout and words only."""

import streamlit as st

from takd.methods.table import METHODS
from takd.presentation import question, ui, view
from takd.presentation.chains import cost_panels
from takd.presentation.chains import live as chains_live
from takd.presentation.chains import panels as chains_panels
from takd.presentation.study import Study

SECTIONS = {
    "help": chains_panels.does_one_help,
    "map": chains_panels.every_teacher,
    "many": chains_panels.how_many,
    "paths": chains_panels.all_paths,
    "worth": cost_panels.is_it_worth_it,
    "rule": cost_panels.which_rule,
}
store = ui.store()
st.title("Assistants", anchor=False)
st.caption("Does a network in between win something back? Which one, how many, and is it worth the time?")
spec, (shown, differences) = question.bar(store)


def page(study: Study) -> None:
    """The chosen section; while a run trains any of its networks it redraws itself."""
    view.segmented("show", label_visibility="collapsed")
    section = SECTIONS[view.get("show")]
    run = chains_live.run_of(study, store)
    if run is None:
        chains_live.at_rest(study, store, section)
    else:
        chains_live.watching(run.id, study, store, section)


if METHODS[spec.method].in_one_network:
    chains_live.no_row_of_networks(spec)
elif shown is not None and not shown.in_one_network:
    page(shown)
else:
    asked = chains_live.being_trained(spec, ui.datasets()[spec.dataset], store)
    if asked is not None:
        page(asked)
