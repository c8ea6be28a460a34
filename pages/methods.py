"""Methods: put one together from five choices, see who teaches whom and what it costs. Layout and words only."""

import streamlit as st

from takd.presentation import ui
from takd.presentation.choices import current_spec, write_url
from takd.presentation.live import describe
from takd.presentation.methods import composer_panel, method_table
from takd.presentation.methods.composition import described

datasets = ui.datasets()
spec, repaired = current_spec(datasets)
write_url(spec)
composition, bad_answers = composer_panel.current(spec)
composer_panel.write_url(composition)

st.title("Methods", anchor=False)
st.caption(
    "Every way to distil is five choices: what is looked at, who teaches, what is handed over, in what order, and when "
    "it is heard (after Abbasi et al. 2019, arXiv 1912.13179). Combine them, or start from a method."
)
ui.notices(repaired, describe(spec))
ui.notices(bad_answers, described(composition))
composer_panel.controls(composition)
composer_panel.result(composition, spec, datasets)
st.divider()
st.subheader("All methods", anchor=False)
method_table.overview()
method_table.details()
