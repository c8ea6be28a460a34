"""The judge of the table of bad inputs: it finds a row that is taken, writes, raises, or is refused for another reason.
The table itself runs with the other classes of faults (test_faults.py)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.bad_inputs import Place, Row, judge, rows


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_table_is_long_and_names_each_row_once(place: Place) -> None:
    names = Counter((row.where, row.name) for row in rows(place))
    assert len(names) > 200 and set(names.values()) == {1}
    assert {where for where, _ in names} == {
        *("bundle", "weights", "run id", "URL", "JSON spec", "data folder", "note", "text on a page", "CSV")
    }


def test_the_judge_finds_rows_that_do_not_hold(place: Place) -> None:
    said = "This file is bad. Nothing was imported. Ask for another."
    good = Row("bundle", "a row", lambda: said, "bad", lambda: "")
    assert judge(good, place) == ""

    def writes() -> str:
        (place.root / "store" / "left").write_text("behind")
        return said

    def raises() -> str:
        raise KeyError("x")

    for give, problem in (
        (lambda: "", "was taken"),
        (writes, "something was written"),
        (raises, "raised"),
        (lambda: "This file is bad. Ask for another.", "does not say"),
        (lambda: "This file is bad.", "no next action"),
        (lambda: "Ask for another.", "said something else"),
    ):
        assert problem in judge(replace(good, give=give), place)
    assert "sound one" in judge(replace(good, fine=lambda: said), place)


def test_a_check_that_is_left_out_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are not refused by accident: without its check, a row is taken, or refused for another reason."""
    table = {(row.where, row.name): row for row in rows(place)}
    for where, name, check in (
        ("weights", "NaN weights", "takd.runs.arrays._finite"),
        ("bundle", "files that overlap", "takd.runs.archive._require_side_by_side"),
        ("bundle", "other images under the same name", "takd.runs.bundle_check._plan"),
        ("bundle", "a text for a number", "takd.runs.bundle_check.check_result"),
    ):
        row = table[where, name]
        assert judge(row, place) == ""
        with monkeypatch.context() as without:
            without.setattr(check, lambda *_: True)
            assert judge(row, place) != "", name
