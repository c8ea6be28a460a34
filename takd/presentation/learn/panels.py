"""The panels of the Learn page: one step at a time, a guess, then what was measured."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from takd.analysis.nearest import differing
from takd.presentation import charts, live, panels, question, ui, view, visit, words
from takd.presentation.choices import carry, current_spec
from takd.presentation.learn import kept, lesson
from takd.presentation.learn.charts import guess_chart, hops_chart, shares_chart
from takd.presentation.learn.kept import RANGES, Guess
from takd.presentation.learn.lesson import STEPS, Measured, Step
from takd.presentation.learn.report import report
from takd.presentation.learn.soft import Soft, soft_question
from takd.presentation.study import Study, assistant_rows
from takd.presets import PRESETS
from takd.runs.store import Store
from takd.spec import PARAMETERS, ExperimentSpec, to_query

_GUESSES = "lesson-guesses"


def study_of_lesson(store: Store) -> tuple[Study | None, ExperimentSpec]:
    """What the chosen lesson is about, as far as it is stored; says so where the nearest stored question stands in."""
    datasets = ui.datasets()
    own, repaired = current_spec(datasets)  # in any lesson: a class's link may bring a question
    chosen = view.get("lesson")
    if repaired:
        st.caption(ui.plain(" ".join(repaired)))
    spec = PRESETS[chosen].spec if chosen in PRESETS else own
    shown, differences = question.answer(spec, datasets, store)
    if shown is not None and differences is not None:
        st.info(
            f"**{ui.plain(live.describe(spec))}** is not trained yet. This lesson is on the nearest stored question: "
            f"{ui.plain(live.describe(shown.spec))}. {ui.plain(differing(differences))}.",
            icon=":material/near_me:",
        )
    return shown, spec


def steps() -> Step:
    """The row of steps, with a way back and on; gives the current one."""
    number = int(view.get("step"))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Back",
            icon=":material/chevron_left:",
            shortcut="Left",
            on_click=_go,
            args=(number - 1,),
            disabled=number == 1,
            key="lesson-back",
        )
        view.segmented("step", label_visibility="collapsed", width="content")
        st.button(
            "Next",
            icon=":material/chevron_right:",
            shortcut="Right",
            on_click=_go,
            args=(number + 1,),
            disabled=number == len(STEPS),
            key="lesson-next",
        )
    return STEPS[int(view.get("step")) - 1]


def _go(number: int) -> None:
    view.put("step", str(number))


def guesses() -> dict[tuple[str, int], Guess]:
    """Every guess of this session, by lesson and step, and those of the URL: a reload begins a new session."""
    found: dict[tuple[str, int], Guess] = st.session_state.setdefault(_GUESSES, {})
    for name, guess in kept.read(view.get("g")).items():
        found.setdefault(name, guess)
    view.put("g", kept.texts(found))
    return found


def step_body(step: Step, shown: Study, store: Store, caption: str) -> None:
    """The question of a step, the guess, and after it the answer with its figure."""
    soft = soft_question(shown, store) if step.name == "Teacher" else None
    options = {name: name for name in soft.options} if soft is not None else step.options
    asked = soft.question if soft is not None else step.ask(shown)
    measured = soft.measured if soft is not None else step.measured(shown)
    if measured is None:
        st.info(_missing(step), icon=":material/hourglass_empty:")
        if step.name == "Teacher" and view.get("lesson") != "cifar-gap" and not view.locked("lesson"):
            st.button("Take the lesson on CIFAR-10", on_click=view.put, args=("lesson", "cifar-gap"))
        return
    name = (view.get("lesson"), step.number)
    guess, revealed = guesses().get(name, (None, False))
    if isinstance(guess, str) and guess not in options:  # from a link
        guess = None
    st.markdown(ui.plain(asked))
    _wrong_labels(shown)
    if not revealed and view.get("lesson") not in kept.LETTERS:
        st.caption("In this lesson, reloading the page loses your guesses.")
    guess = _asked(step, options, guess, revealed)
    if not revealed:
        with st.container(horizontal=True):
            ready = guess is not None
            st.button(
                "Reveal",
                key="lesson-reveal",
                type="primary",
                icon=":material/visibility:",
                disabled=not ready,
                on_click=_reveal,
                args=(name, guess),
                help=None if ready else "Guess first, or show it without a guess.",
            )
            st.button("Show without guessing", key="lesson-show", type="tertiary", on_click=_reveal, args=(name, None))
        return
    _answer(step, guess, measured, options)
    _figure(step, shown, store, guess, measured, soft, caption)


def _wrong_labels(shown: Study) -> None:
    """Under every question: who opens one step only, or compares it with another lesson, has to know it."""
    if told := lesson.wrong_labels(shown):
        st.caption(f":material/warning: {ui.plain(told)}")


def _missing(step: Step) -> str:
    if step.name == "Teacher":
        return "The teachers of this lesson were stored without their answers, so there is nothing to look at."
    return "The runs this step needs are not stored yet. Train them on the Playground, or take another lesson."


def _reveal(name: tuple[str, int], guess: Any) -> None:
    found = guesses()
    found[name] = (guess, True)
    view.put("g", kept.texts(found))  # before the URL is written in the run that follows


_SLIDERS: dict[str, dict[str, Any]] = {
    "percent": {"value": 50, "format": "%d %%", "label": "Your guess, in percent"},
    "points": {"value": 0.0, "step": 0.1, "label": "Your guess, in points"},
    "times": {"value": 1.0, "step": 0.1, "label": "Your guess, how many times"},
}


def _asked(step: Step, options: dict[str, str], known: Any, revealed: bool) -> Any:
    """The widget of a guess; gives the guess in the unit of the answer."""
    if revealed:
        return known
    key = f"lesson-guess-{view.get('lesson')}-{step.number}"
    if step.kind == "choice":
        return st.radio("Your guess", list(options), format_func=options.__getitem__, index=None, key=key)
    low, high = RANGES[step.kind]
    value = st.slider(key=key, min_value=low, max_value=high, **_SLIDERS[step.kind])
    return value if step.kind == "times" else value / 100


def _answer(step: Step, guess: Any, measured: Measured, options: dict[str, str]) -> None:
    said = "" if guess is None else f"You guessed {lesson.in_words(step, guess, options)}. "
    worth = "" if guess is None else lesson.how_close(step, guess, measured)
    answer = lesson.in_words(step, measured.answer, options)
    open_ = f"; {words.CANNOT_TELL} whether it helps" if measured.undecided else ""
    st.subheader(ui.plain(f"{said}Measured: {answer}{open_}."), anchor=False)
    st.markdown(ui.plain(f"{worth} {measured.sentence}".strip()))


def _figure(
    step: Step, shown: Study, store: Store, guess: Any, measured: Measured, soft: Soft | None, caption: str
) -> None:
    """The figure of a revealed step; guesses on a scale stand in it."""
    if soft is not None:
        ui.figure(
            "lesson-soft",
            lambda compact, dark: shares_chart(soft.shares, dark, compact),
            lambda: soft.measured.sentence,
            soft.shares,
            title=f"the teacher's answers on pictures of {soft.asked}",
            # the n of the other steps counts seeds, and not every teacher's answers are stored
            caption=ui.plain(f"{panels.origin_line(shown, store, seeds=False)} Mean over teachers, {soft.who}. ")
            + "Grey: the class itself.",
        )
    elif step.name in ("Alone", "Assistant"):
        _guessed(step, guess, measured, caption)
    if step.name == "Distil":
        direction = replace(measured, answer=sum(measured.dots) / max(1, len(measured.dots)))
        _guessed(replace(step, kind="points"), None, direction, caption)
    elif step.name == "Gap":
        ui.figure(
            "lesson-gap",
            lambda compact, dark: charts.gap_chart(
                shown.gap, shown.gap_seeds, dark, compact, words.teacher_of(shown.gap_verdict.peak, shown.spec.student)
            ),
            lambda: words.alt_gap(shown.gap, shown.gap_verdict, words.gap_sentence(shown.gap_verdict)),
            shown.gap,
            depends=(shown.gap_seeds, shown.gap_verdict),
            title="capacity gap",
            caption=f"{caption} Bars: 95 % intervals; dots: seeds; grey band: the student alone.",
        )
    elif step.name == "Assistant":
        rows, summary = assistant_rows(shown)
        if len(summary) > 1:
            holm = ui.plain(lesson.holm_in_words(shown, summary["arm"]))
            ui.figure(
                "lesson-assistants",
                lambda compact, dark: charts.assistants_chart(rows, summary, dark, compact),
                lambda: words.alt_assistants(summary),
                rows,
                depends=(summary,),
                title="gain of each assistant",
                caption=f"{caption} {words.best_of(len(summary), holm)}",
            )
    elif step.name == "Why":
        _hops(shown, caption)
    elif step.name == "Cost":
        st.caption(ui.plain(caption))


_AGAINST = {"Distil": "the student alone", "Assistant": "direct KD"}
"""What the zero of a step's axis in points is."""


def _guessed(step: Step, guess: Any, measured: Measured, caption: str) -> None:
    value = float(measured.answer)
    method = "scratch" if step.name == "Alone" else "kd" if step.name == "Distil" else "takd"
    against = _AGAINST.get(step.name, "")
    told = f"Points over {against}, by seed. {measured.sentence}" if against else measured.sentence
    zero = f" Zero: {against}, of the same seed." if against else ""
    n = len(measured.dots)
    ui.figure(
        f"lesson-{step.number}",
        lambda compact, dark: guess_chart(
            measured.dots, value, measured.low, measured.high, guess, step.kind, method, against, dark, compact
        ),
        lambda: told,
        pd.DataFrame({"seed": range(n), "value": measured.dots}),
        depends=(guess, value, step.kind, told),
        title=f"points over {against}" if against else "test accuracy of the student alone",
        caption=f"{caption} Dots: seeds; diamond and line: their mean and its 95 % interval.{zero}",
    )


def _hops(shown: Study, caption: str) -> None:
    hops = lesson.hop_frame(shown)
    for column, title, name in (
        ("entropy", "entropy of the answers on test images, nats (less is surer)", "lesson-entropy"),
        ("agreement", "share of test images answered as its teacher does", "lesson-agreement"),
    ):
        means = hops.dropna(subset=[column]).groupby("label", sort=False)[column].mean()
        told = "; ".join(f"{label} {value:.3f}" for label, value in means.items())
        ui.figure(
            name,
            partial(lambda column, title, compact, dark: hops_chart(hops, column, title, dark, compact), column, title),
            partial("{}: {}.".format, title, told),
            hops[["label", "role", "seed", column]],
            depends=(column,),
            title=title,
            caption=f"{caption} Dots: seeds; marks and lines: means and 95 % t intervals.",
        )


def note(step: Step) -> None:
    """What a teacher may want to say, in a closed box; a link can leave it out."""
    if view.get("notes") != "hidden":
        with st.expander("Note for teachers", icon=":material/school:"):
            st.markdown(ui.plain(step.note))


def your_turn(shown: Study, spec: ExperimentSpec, store: Store) -> None:
    """The last step: an open task, what was guessed, and the report."""
    st.markdown(
        "Find a question of your own. A checklist:\n\n"
        "1. Write down what you expect, and why.\n"
        "2. Choose teacher, assistant and student on the Playground, and at least three seeds.\n"
        "3. Run it for real, and watch the curves.\n"
        "4. Read the verdict with its interval. Would more seeds change it?\n"
        "5. Say what it cost."
    )
    if st.button("Open the Playground with this lesson's question", icon=":material/open_in_new:", type="primary"):
        st.switch_page(visit.PLAYGROUND, query_params=carry(spec))
    _wrong_labels(shown)
    rows = told(shown, store)
    if not rows:
        st.caption("Nothing was guessed yet: your guesses and the answers will be listed here and make up your report.")
        return
    st.subheader("What you guessed", anchor=False)
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    st.download_button(
        "Download the report",
        data=partial(report, shown, rows, panels.origin_line(shown, store)),
        file_name="takd-lesson.html",
        mime="text/html",
        icon=":material/download:",
        on_click="ignore",
    )


def told(shown: Study, store: Store) -> list[dict[str, str]]:
    """One row per revealed step: question, guess, what was measured."""
    rows = []
    for step in STEPS:
        guess, revealed = guesses().get((view.get("lesson"), step.number), (None, False))
        soft = soft_question(shown, store) if step.name == "Teacher" and revealed else None
        measured = soft.measured if soft is not None else step.measured(shown)
        if not revealed or measured is None:
            continue
        options = {name: name for name in soft.options} if soft is not None else step.options
        if isinstance(guess, str) and guess not in options:  # from a link
            guess = None
        rows.append(
            {
                "step": f"{step.number} {step.title(shown)}",
                "guessed": "nothing" if guess is None else lesson.in_words(step, guess, options),
                "measured": lesson.in_words(step, measured.answer, options),
                "in words": measured.sentence,
            }
        )
    return rows


def instructor_link() -> None:
    """A link for a class: what it opens, and what nobody can change there."""
    with st.expander("For instructors: a link for your class", icon=":material/link:", key="instructor"):
        locks = st.multiselect(
            "Locked for whoever opens it",
            list(_LOCKS),
            format_func=_LOCKS.__getitem__,
            key="lesson-locks",
            help="Locked choices are shown but cannot be changed on any page.",
        )
        hidden = st.toggle("Leave the notes for teachers out", key="lesson-hide-notes")
        parts = [f"lesson={view.get('lesson')}", f"step={view.get('step')}", *(f"lock={name}" for name in locks)]
        parts += ["notes=hidden"] if hidden else []
        if view.get("lesson") == "mine" or {"all", *_SHORTS} & set(locks):
            parts.append(urlencode(to_query(current_spec(ui.datasets())[0], full=True), doseq=True))
        st.code(visit.address("&".join(parts)), language=None, wrap_lines=True)
        st.caption(
            "Where choices are locked, or the lesson is on the Playground's question, the link holds that question as "
            "it stands now."
        )


_SHORTS = [parameter.short for parameter in PARAMETERS.values()]
_LOCKS = {
    "all": "everything",
    "lesson": "the lesson",
    "step": "the step",
    "d": "data",
    "t": "teacher",
    "ta": "assistants",
    "s": "student",
    "m": "method",
    "b": "budget",
    "n": "seeds",
    "T": "temperature",
    "lam": "lam",
}
