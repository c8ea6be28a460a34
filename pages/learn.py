"""Learn: eight steps, each with a guess and what was measured. Layout and words only."""

import streamlit as st

from takd.presentation import panels, ui, view
from takd.presentation.learn import panels as lesson_panels

store = ui.store()
st.title("Learn", anchor=False)
st.caption("Eight steps: guess first, then see what was measured. Made from stored runs; nothing is trained.")
view.segmented("lesson", label_visibility="collapsed")
shown, spec = lesson_panels.study_of_lesson(store)
step = lesson_panels.steps()
if shown is None:
    st.info("No run of this lesson is stored here. Take another lesson, or train it on the Playground.")
elif shown.in_one_network:
    st.info("This question trains sub-models of one network, without a teacher or a chain: take another lesson.")
else:
    st.header(ui.plain(f"{step.number} · {step.title(shown)}"), anchor=False)
    with st.container(width=860):
        if step.kind == "none":
            lesson_panels.your_turn(shown, spec, store)
        else:
            lesson_panels.step_body(step, shown, store, ui.plain(panels.origin_line(shown, store)))
    lesson_panels.note(step)
lesson_panels.instructor_link()
