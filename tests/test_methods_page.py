"""The Methods page: every answer of every control, links, refusals, and the way to the Playground."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from takd.methods.composer import CONTROLS, Composition, refusal
from takd.methods.table import METHODS
from takd.presentation.methods.composition import SHORT, STARTS, to_query

from .pages_support import charts_of, link, open_page

PAGE = str(Path(__file__).parents[1] / "pages" / "methods.py")
DIGITS = {"d": ["digits"]}


def composer(composition: Composition | None = None, query: dict[str, list[str]] = DIGITS) -> Any:
    """The page as a link to it opens it (AppTest keeps the URL's parameters on a change of page)."""
    return open_page(query | (to_query(composition) if composition else {}), page=PAGE)


def said(at: Any) -> str:
    parts = (*at.markdown, *at.caption, *at.info, *at.subheader)
    return " ".join(part.value for part in parts).replace("\\", "")


def answers(at: Any) -> Composition:
    return Composition(**{name: at.selectbox(key=f"c-w-{name}").value for name in CONTROLS})


def test_it_opens_as_the_method_of_the_current_question() -> None:
    at = composer()
    assert not at.exception
    assert at.title[0].value == "Methods"
    assert answers(at) == Composition("assistants", "logits")
    assert at.selectbox(key="c-w-start").value == "takd"
    assert (link(at, "c-from"), link(at, "c-when"), link(at, "d")) == (["assistants"], ["one-by-one"], ["digits"])
    at = composer(query=DIGITS | {"m": ["dgkd"], "ta": ["mlp-64", "mlp-16"], "o": ["gate:bernoulli"]})
    assert answers(at).gate == "bernoulli"
    assert "3 trainings besides the student's own, 2 more than direct KD" in said(at)


def test_every_answer_of_every_control_renders() -> None:
    at = composer()
    for name, control in CONTROLS.items():
        for answer, sentence in control.choices.items():
            at.selectbox(key=f"c-w-{name}").set_value(answer).run()
            assert not at.exception, (name, answer)
            assert sentence[1:] in said(at)
            assert link(at, SHORT[name]) == [answer.replace(" ", "-")]
            reason = refusal(answers(at))
            assert bool(charts_of(at)) == (reason is None)
            assert reason is None or reason in said(at)


@pytest.mark.parametrize("name", STARTS)
def test_every_method_is_a_start_with_its_formula(name: str) -> None:
    at = composer()
    at.selectbox(key="c-w-start").set_value(name).run()
    assert not at.exception
    start = STARTS[name]
    assert answers(at) == start.composition
    assert at.selectbox(key="c-w-start").value == name
    formulas = [block.value for block in at.code]
    assert formulas[0] == METHODS[start.method].formula  # the one that was started from comes first
    alts = [alt for _, alt, _ in charts_of(at)]
    assert len(alts) == 1 and all(alt.startswith("Who teaches whom: ") for alt in alts)
    buttons = [b for b in at.button if b.key == f"c-use-{start.method}-0"]
    assert bool(buttons) == (start.method in METHODS)


def test_a_refusal_offers_the_smallest_changes() -> None:
    at = composer()
    at.selectbox(key="c-w-sources").set_value("heads").run()
    assert "choose 'all at once'" in said(at)
    at.button(key="c-to-Schedule: all at once").click().run()
    assert not at.exception
    assert answers(at) == Composition("heads", "logits", "all at once")
    assert "Intermediate heads" in said(at)


def test_a_sensible_combination_without_a_method_names_the_nearest() -> None:
    at = composer(Composition("trajectory", "logits", "all at once"))
    assert "no method of the table" in said(at)
    assert len(charts_of(at)) == 1
    at.button(key="c-to-Sources: assistants").click().run()
    assert "Dense guidance (DGKD)" in said(at)


def test_another_view_goes_along_to_the_playground() -> None:
    at = composer(Composition("teacher", "logits", view="own"))
    assert "goes along to the Playground" in said(at)
    assert at.button(key="c-use-kd-0")


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"c-from": ["wizard"]}, "wizard"),
        ({"c-view": ["<img src=x onerror=alert(1)>"]}, "img src"),
        ({"c-gate": ["![x](http://evil.example/a.png)"]}, "evil.example"),
        ({"c-when": [""]}, "Schedule ''"),
    ],
)
def test_bad_links_are_repaired_with_a_sentence(query: dict[str, list[str]], named: str) -> None:
    at = composer(query=DIGITS | query)
    assert not at.exception
    text = at.warning[0].value
    assert named in text.replace("\\", "")
    assert "<" not in text.replace("\\<", "") and "](" not in text
    assert all(link(at, name) != values for name, values in query.items())
    at.run()
    assert not at.warning


def test_a_method_goes_to_the_playground_with_its_options() -> None:
    at = composer(Composition("assistants", "logits", "all at once", "drop-one"))
    at.button(key="c-use-dgkd-0").click().run()
    assert not at.exception
    spec = at.session_state["spec"]
    assert (spec.method, spec.options, spec.dataset) == ("dgkd", (("gate", "drop-one"),), "digits")
    assert link(at, "m") == ["dgkd"] and link(at, "o") == ["gate:drop-one"]
    assert at.selectbox(key="w-method").value == "dgkd"
    assert not at.warning


def test_a_method_without_assistants_leaves_them_out_and_back_again() -> None:
    at = composer(Composition("teacher", "logits"))
    at.button(key="c-use-ls-2").click().run()
    assert not at.exception
    spec = at.session_state["spec"]
    assert (spec.method, spec.assistants) == ("ls", ())
    at.switch_page(PAGE).run()
    at.selectbox(key="c-w-start").set_value("takd").run()
    at.button(key="c-use-takd-0").click().run()
    assert not at.exception
    assert at.session_state["spec"].assistants == ("mlp-16",)


def test_neighbours_leave_no_room_for_an_assistant() -> None:
    at = composer(Composition("assistants", "logits"), DIGITS | {"t": ["mlp-8"], "s": ["mlp-4"], "m": ["kd"]})
    assert not at.exception
    assert at.button(key="c-use-takd-0").disabled
    assert "no size between" in said(at)


def test_choices_survive_the_way_through_other_pages() -> None:
    """The navigation empties the URL, which does not mean the starting choices."""
    at = open_page(DIGITS | {"s": ["mlp-4"]})
    for page in (PAGE, str(Path(PAGE).with_name("runs.py")), str(Path(PAGE).with_name("playground.py"))):
        for name in list(at.query_params):
            del at.query_params[name]
        at.switch_page(page).run()
        assert not at.exception
    assert at.session_state["spec"].student == "mlp-4"
    assert link(at, "s") == ["mlp-4"]
    for name in list(at.query_params):
        del at.query_params[name]
    at.run()  # back to the first address on the same page
    assert at.session_state["spec"].dataset == "cifar10"


def test_the_table_lists_every_method_in_full() -> None:
    at = composer()
    table = at.dataframe[0].value
    assert list(table["method"]) == [row.label for row in METHODS.values()]
    details = {e.label.split(" · ")[0].replace("\\", ""): e for e in at.expander}
    for row in METHODS.values():
        shown = details[row.label]
        text = " ".join(part.value for part in shown.markdown).replace("\\", "")
        assert shown.code[0].value == row.formula
        assert row.reference in text and row.cost in text
        assert all(reading.why in text for reading in row.readings)
        assert ("Published with" in text) == bool(row.published)
