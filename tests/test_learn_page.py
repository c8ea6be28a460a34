"""Learn: each step asks before it shows, and what it shows is what is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from takd.data.catalogue import available_datasets
from takd.plan import Arm, build_plan
from takd.presentation.formats import TRUE_MINUS
from takd.presentation.learn import kept
from takd.presentation.learn.lesson import CANNOT, STEPS, Measured, holm_in_words, how_close, in_words
from takd.presentation.learn.panels import told
from takd.presentation.learn.report import report
from takd.presentation.plain_text import unescaped
from takd.presentation.study import study
from takd.presets import PRESETS
from takd.runs.store import open_store

from .pages_support import charts_of, link, open_page

PAGE = str(Path(__file__).parents[1] / "pages" / "learn.py")
GUESSED = [step for step in STEPS if step.kind != "none"]


@pytest.fixture(autouse=True)
def cached_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_CACHED", str(Path(PAGE).parents[1] / "cached_runs"))
    st.cache_resource.clear()


def lesson(**query: str | list[str]) -> AppTest:
    at = open_page(page=PAGE)
    for name, value in query.items():
        at.query_params[name] = value
    return at.run()


@pytest.mark.parametrize("which", ["cifar-gap", "digits-noise"])
@pytest.mark.parametrize("step", GUESSED, ids=lambda step: step.name)
def test_nothing_is_shown_before_the_guess(step, which: str) -> None:
    at = lesson(step=str(step.number), lesson=which)
    assert not at.exception and not at.subheader and not charts_of(at)
    assert not any("Measured" in element.value for element in (*at.markdown, *at.caption))
    if step.kind == "choice":
        assert at.button(key="lesson-reveal").disabled
        at.radio[0].set_value(_first(step, at)).run()
    at.button(key="lesson-reveal").click().run()
    assert not at.exception
    assert "Measured\\:" in at.subheader[0].value and at.subheader[0].value.startswith("You guessed")
    assert bool(charts_of(at)) is (step.name != "Cost")
    for _, alt, _ in charts_of(at):
        assert len(alt) > 20 and "nan" not in alt


def _first(step, at: AppTest) -> str:
    """The value of the first option: AppTest lists options by their words."""
    words = at.radio[0].options[0]
    return next((value for value, said in step.options.items() if said == words), words)


def test_the_numbers_are_the_stores() -> None:
    at = lesson(step="1")
    at.slider[0].set_value(40).run()
    at.button(key="lesson-reveal").click().run()
    shown = study(PRESETS["cifar-gap"].spec, available_datasets()["cifar10"], open_store())
    mean = 100 * float(shown.arms.loc[shown.arms["arm"] == "scratch 2", "mean"].iloc[0])
    assert at.subheader[0].value == f"You guessed 40.0 %. Measured\\: {mean:.1f} %."
    _, alt, frames = charts_of(at)[0]
    assert f"{mean:.1f}" in alt and "n = 5" in alt
    assert any(frame["mean"].tolist() == [40.0] for frame in frames if list(frame) == ["mean"])


def test_a_guess_stays_through_other_steps_and_is_in_the_report() -> None:
    at = lesson(step="5")
    at.slider[0].set_value(2.0).run()
    at.button(key="lesson-reveal").click().run()
    at.button(key="lesson-next").click().run()
    assert link(at, "step") == ["6"]
    at.button(key="lesson-back").click().run()
    gain = _gain("cifar-gap", "takd 10>4>2", "kd 10>2")
    assert at.subheader[0].value.startswith(f"You guessed +2.0 points. Measured\\: {gain}; cannot tell yet")
    for _ in range(3):
        at.button(key="lesson-next").click().run()
    assert link(at, "step") == ["8"] and at.button(key="lesson-next").disabled
    table = at.dataframe[0].value
    assert list(table["guessed"]) == ["+2.0 points"] and list(table["measured"]) == [gain]


def _gain(which: str, arm: str, against: str) -> str:
    """The mean of an arm's test accuracy minus another's, from the result files, as the lesson writes it."""
    store, spec = open_store(), PRESETS[which].spec
    chains = build_plan(spec, available_datasets()[spec.dataset]).chains
    one, other = (
        {c.seed: result["test_acc"] for c in chains if c.arm.name == name and (result := store.result(c.student))}
        for name in (arm, against)
    )
    both = [one[seed] - other[seed] for seed in one.keys() & other.keys()]
    return f"{100 * sum(both) / len(both):+.1f} points".translate(TRUE_MINUS)


@pytest.mark.parametrize("which", ["cifar-gap", "digits-noise"])
@pytest.mark.parametrize(("step", "against"), [("3", "the student alone"), ("5", "direct KD")])
def test_a_difference_names_what_it_is_held_against(which: str, step: str, against: str) -> None:
    at = lesson(step=step, lesson=which)
    at.button(key="lesson-show").click().run()
    chart, alt, _ = charts_of(at)[0]
    axes = {str(title) for title in _titles(chart) if str(title).startswith("points over")}
    assert axes == {f"points over {against}"} and alt.startswith(f"Points over {against}, by seed.")
    assert any(f"Zero: {against}, of the same seed." in c.value for c in at.caption)


def _titles(node: object) -> list[object]:
    """Every title in a chart's specification."""
    if isinstance(node, list):
        return [title for item in node for title in _titles(item)]
    if not isinstance(node, dict):
        return []
    return [node["title"] for _ in range("title" in node)] + [t for item in node.values() for t in _titles(item)]


@pytest.mark.parametrize("which", ["cifar-gap", "digits-noise"])
def test_corrected_p_values_stand_where_the_lesson_speaks_of_them(which: str) -> None:
    at = lesson(step="5", lesson=which)
    at.button(key="lesson-show").click().run()
    warning = next(c.value for c in at.caption if "choices were compared" in c.value)
    assert not at.dataframe and "table" not in warning
    spec = PRESETS[which].spec
    shown = study(spec, available_datasets()[spec.dataset], open_store())
    family = [v for v in shown.verdicts if v.p_holm is not None and v.arm.startswith("takd ")]
    assert len(family) > 1
    compared = sorted(v.p for v in shown.verdicts if v.p_holm is not None)
    steps = [min(1.0, (len(compared) - place) * p) for place, p in enumerate(compared)]
    by_hand = {v.arm: max(steps[: compared.index(v.p) + 1]) for v in family}
    told = {f"{p:.2g} via {arm.split('>')[1]}" for arm, p in by_hand.items()}
    if len(said := {text.partition(" ")[0] for text in told}) == 1:
        told = {f"Holm's p is {said.pop()} for each of them"}
    assert all(text in unescaped(warning) for text in told)
    apart = replace(shown, verdicts=tuple(replace(v, p_holm=0.0002) if v is family[0] else v for v in shown.verdicts))
    assert holm_in_words(apart, [v.arm for v in family]).startswith("is < 0.001 via ")
    assert holm_in_words(replace(shown, verdicts=()), []) == "needs at least 3 seeds"


@pytest.mark.parametrize("which", ["cifar-gap", "digits-noise"])
def test_answers_and_figure_count_the_same_teachers(which: str) -> None:
    store, spec = open_store(), PRESETS[which].spec
    chains = build_plan(spec, available_datasets()[spec.dataset]).chains
    teachers = {chain.keys[0] for chain in chains if chain.arm.name == Arm("kd", (spec.teacher, spec.student)).name}
    stored = sum(store.has_file(key, "predictions.npz") for key in teachers)
    assert 0 < stored <= len(teachers) == spec.seeds
    n = f"n = {stored} teachers" + (
        ", one a seed" if stored == spec.seeds else f" of {spec.seeds}, those whose answers are stored"
    )
    at = lesson(step="2", lesson=which)
    at.button(key="lesson-show").click().run()
    said = unescaped(next(m.value for m in at.markdown if "On pictures of class" in m.value))
    caption = unescaped(next(c.value for c in at.caption if "Grey: the class itself" in c.value))
    for text in (said, caption, charts_of(at)[0][1]):
        assert n in text and text.count("n = ") == 1


@pytest.mark.parametrize("step", [str(step.number) for step in STEPS])
def test_every_step_says_that_labels_are_wrong(step: str) -> None:
    told = "20 % of the training labels were made wrong on purpose"
    at = lesson(step=step, lesson="digits-noise")
    assert any(told in unescaped(c.value) for c in at.caption)
    if step in ("1", "3"):
        assert ", 20 % of them wrong" in unescaped(" ".join(m.value for m in at.markdown))
    clean = lesson(step=step, lesson="cifar-gap")
    assert not any("wrong" in text.value for text in (*clean.caption, *clean.markdown))


def test_the_report_says_that_labels_are_wrong() -> None:
    for which, wrong in (("digits-noise", True), ("cifar-gap", False)):
        spec = PRESETS[which].spec
        shown = study(spec, available_datasets()[spec.dataset], open_store())
        assert ("were made wrong on purpose" in report(shown, [], "here").decode()) is wrong


def test_a_reload_keeps_the_guesses_of_both_lessons() -> None:
    at = lesson(step="1", lesson="digits-noise")
    at.slider[0].set_value(40).run()
    at.button(key="lesson-reveal").click().run()
    for step, lessons in (("4", "digits-noise"), ("5", "cifar-gap"), ("2", "digits-noise"), ("7", "digits-noise")):
        at.session_state["views"] = {**at.session_state["views"], "step": step, "lesson": lessons}
        at.run()
        if step == "4":
            at.radio[0].set_value("down")
        elif step == "5":
            at.slider[0].set_value(-1.5)
        elif step == "2":
            at.radio[0].set_value("9")
        at.run()
        at.button(key="lesson-show" if step == "7" else "lesson-reveal").click().run()
    assert link(at, "g") == ["c5~-1.5", "d1~40", "d2~9", "d4~down", "d7~"]
    again = lesson(**{name: link(at, name) for name in at.query_params} | {"step": "8"})
    assert list(again.dataframe[0].value["guessed"]) == ["40.0 %", "9", "worse with the biggest", "nothing"]
    assert again.dataframe[0].value.equals(_at_step(at, "8").dataframe[0].value)


def _at_step(at: AppTest, step: str) -> AppTest:
    at.session_state["views"] = {**at.session_state["views"], "step": step}
    return at.run()


def test_going_back_in_the_browser_takes_no_guess_away_and_links_for_others_have_none() -> None:
    at = lesson(step="5")
    at.button(key="lesson-show").click().run()
    assert link(at, "g") == ["c5~"]
    at.session_state["export-lesson-5"] = True
    at.run()
    copied = [block.value for block in at.code]
    assert len(copied) == 2 and not any("g" in parse_qs(text[1:]) for text in copied)
    del at.query_params["g"]
    at.run()
    assert link(at, "g") == ["c5~"] and at.subheader[0].value.startswith("Measured")


@pytest.mark.parametrize(
    "text", ["", "d", "d1", "x1~4", "d9~4", "d8~", "d1~nan", "d1~101", "d1~-1", "d4~elephant", "m1~4"]
)
def test_what_is_no_guess_is_left_out_of_a_link(text: str) -> None:
    assert kept.read([text]) == {}


def test_every_guess_can_be_read_back() -> None:
    some = {"percent": 0.4, "points": -0.013, "times": 1.2, "choice": "down"}
    found = {
        (which, step.number): (next(iter(step.options), some[step.kind]), True)
        for which in kept.LETTERS
        for step in GUESSED
    }
    written = kept.texts(found)
    assert len(written) == 14 and sum(map(len, written)) < 120 and len(set(kept.LETTERS.values())) == 2
    for name, (guess, shown) in kept.read(written).items():
        assert (pytest.approx(found[name][0]) if isinstance(guess, float) else found[name][0]) == guess and shown
    assert kept.texts({("mine", 1): (0.4, True), ("cifar-gap", 1): (0.4, False)}) == ()


def test_a_guess_that_a_reload_would_forget_says_so_before() -> None:
    said = "In this lesson, reloading the page loses your guesses."
    assert any(c.value == said for c in lesson(lesson="mine").caption)
    assert not any(c.value == said for c in lesson().caption)


def test_a_made_up_class_of_a_link_is_not_repeated() -> None:
    at = lesson(lesson="digits-noise", step="2", g="d2~elephant")
    assert at.subheader[0].value.startswith("Measured")
    assert "elephant" not in " ".join(text.value for text in (*at.markdown, *at.caption, *at.subheader))


def test_showing_without_a_guess() -> None:
    at = lesson(step="4")
    at.button(key="lesson-show").click().run()
    assert at.subheader[0].value == "Measured\\: nobody can tell yet."


def test_the_report_stands_alone_and_escapes_what_was_said() -> None:
    shown = study(PRESETS["cifar-gap"].spec, available_datasets()["cifar10"], open_store())
    rows = [{"step": "1", "guessed": "<script>alert(1)</script>", "measured": "x", "in words": "y"}]
    text = report(shown, rows, "from <here>").decode()
    assert "<script>" not in text and "&lt;script&gt;" in text and "from &lt;here&gt;" in text
    assert text.count("<svg") == 2 and "http://" not in text.replace("http://www.w3.org", "")
    assert told(replace(shown), open_store()) == []


def test_a_link_locks_what_the_instructor_chose() -> None:
    at = open_page(page=PAGE)
    at.query_params["lock"] = ["lesson", "t", "d"]
    at.query_params["notes"] = "hidden"
    at.run()
    assert not [box for box in at.expander if box.label == "Note for teachers"]
    assert any("Fixed by the link" in c.value and "Teacher" in c.value for c in at.caption)
    at.switch_page(str(Path(PAGE).with_name("playground.py"))).run()
    assert at.selectbox(key="w-teacher").disabled and at.selectbox(key="w-dataset").disabled
    assert not at.selectbox(key="w-student").disabled and at.selectbox(key="w-preset").disabled


def test_a_link_for_a_class_holds_the_question_it_locks() -> None:
    at = lesson(lesson="mine", step="3", s="plain-4", n="3")
    link = at.code[0].value
    assert parse_qs(link[1:])["s"] == ["plain-4"] and parse_qs(link[1:])["n"] == ["3"]
    at = lesson(step="3", s="plain-4")
    assert "s=" not in at.code[0].value.replace("lesson=", "")
    at.multiselect(key="lesson-locks").set_value(["s"]).run()
    query = parse_qs(at.code[0].value[1:])
    assert query["lock"] == ["s"] and query["s"] == ["plain-4"]
    there = open_page(page=PAGE)
    for name, values in query.items():
        there.query_params[name] = values
    there.run()
    there.switch_page(str(Path(PAGE).with_name("playground.py"))).run()
    assert there.selectbox(key="w-student").value == "plain-4" and there.selectbox(key="w-student").disabled


def test_the_nearest_question_is_never_passed_off_as_the_one_asked() -> None:
    at = lesson(lesson="mine", T="3")
    assert any("is not trained yet" in box.value and "nearest stored" in box.value for box in at.info)
    assert not lesson(lesson="mine").info


def test_words_about_a_guess() -> None:
    points, choice = STEPS[4], STEPS[2]
    found = Measured(0.012, "", (), 0.004, 0.02)
    assert how_close(points, 0.015, found).startswith("Inside the interval")
    assert how_close(points, 0.05, found) == "You were off by 3.8 points."
    assert how_close(choice, "up", Measured(CANNOT, "")).startswith("Nobody can tell yet")
    assert how_close(choice, "up", Measured("down", "")) == "The measurement says otherwise. Why?"
    assert in_words(choice, "down", choice.options) == "worse" and in_words(points, -0.012, {}) == "−1.2 points"


@pytest.mark.parametrize("query", [{"step": "9"}, {"step": "x"}, {"lesson": "nothing"}])
def test_bad_links_end_in_a_sentence(query: dict[str, str]) -> None:
    at = lesson(**query)
    assert not at.exception and any("cannot be" in c.value for c in at.caption)


def test_without_stored_runs_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAKD_CACHED", str(tmp_path))
    at = lesson()
    assert not at.exception and at.info
