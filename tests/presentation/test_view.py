"""Settings of how a page shows its question: bounds, sentences, and names that nothing else in the URL has."""

from __future__ import annotations

import pytest

from takd.presentation.view import _ROWS, EVERY_PAGE, VIEWS, View, read, unknown
from takd.spec import PARAMETERS

NUMBER = View("k", "", "float", "Margin", 0.5, low=0.1, high=2.0)
WHOLE = View("w", "", "int", "Epoch", 1, low=0, high=9)
CHOICE = View("c", "", "choice", "Axis", "x", {"x": "parameters", "y": "MACs"})
WORDS = View("l", "", "words", "Locked", ())


def test_names_in_the_url_are_unique() -> None:
    assert len(VIEWS) == len(_ROWS)
    assert not set(VIEWS) & {parameter.short for parameter in PARAMETERS.values()}
    assert not any(name.startswith("c-") for name in VIEWS)  # the composer's


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: row.short)
def test_every_row_can_be_shown_and_its_default_read_back(row: View) -> None:
    assert row.label and row.kind in ("choice", "int", "float", "words")
    assert row.page == EVERY_PAGE or row.page in (
        "",
        "gap",
        "chains",
        "lens",
        "compare",
        "learn",
        "methods",
        "runs",
        "claims",
    )
    if row.kind == "words":
        return
    texts = [row.default] if row.kind == "choice" else [f"{row.default:g}"]
    assert read(row, texts) == (row.default, None)
    assert read(row, []) == (row.default, None)


@pytest.mark.parametrize(
    ("row", "text", "value", "said"),
    [
        (NUMBER, "1.5", 1.5, False),
        (NUMBER, "99", 2.0, True),
        (NUMBER, "-1e9", 0.1, True),
        (NUMBER, "nan", 0.5, True),
        (NUMBER, "1e999", 0.5, True),
        (NUMBER, "elephant", 0.5, True),
        (WHOLE, "7", 7, False),
        (WHOLE, "7.6", 8, True),
        (WHOLE, "-3", 0, True),
        (CHOICE, "y", "y", False),
        (CHOICE, "z", "x", True),
    ],
)
def test_what_a_link_says_is_bounded(row: View, text: str, value: object, said: bool) -> None:
    found, problem = read(row, [text])
    assert found == value and (problem is not None) is said
    if problem:
        assert row.label in problem and text[:30] in problem


def test_words_are_few_short_and_said_once() -> None:
    many, _ = read(WORDS, [f"a{i}" for i in range(500)])
    assert len(many) == 24
    assert read(WORDS, ["a", "", "a", "b" * 9000])[0] == ("a", "b" * 400)


def test_a_number_that_stands_for_something_is_said_in_words() -> None:
    for text in ("abc", "-7"):
        assert read(VIEWS["img"], [text]) == (-1, f"Test image cannot be '{text}'; shown is the first that fits.")


def test_what_no_page_reads_is_named() -> None:
    assert unknown(["d", "T", "look", "live", "c-gate"]) == ""
    assert unknown(["d", "budget"]) == "This link says 'budget', which no page knows; it was ignored."
    assert unknown(["as", "budget"]).endswith("'as' and 'budget', which no page knows; they were ignored.")
