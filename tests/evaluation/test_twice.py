"""The numbers of a training done twice, and how far they lie apart."""

from __future__ import annotations

import math
from typing import Any

import pytest

from takd.evaluation.twice import Apart, apart, kind_of, numbers_of

KEY = "1a2b3c4d" + "0" * 24
RESULT: dict[str, Any] = {
    "test_acc": 0.75,
    "val_best_epoch": 3,
    "seconds": 9.0,
    "kl": {KEY: 0.5},
    "agreement": {KEY: 0.9},
    "parts": [{"name": "width 0.5", "test_acc": 0.625, "kl": {KEY: 0.25}}],
}


def test_every_number_is_named_once_and_what_is_none_is_not_a_number() -> None:
    assert numbers_of(RESULT) == {
        "test_acc": 0.75,
        "agreement with 1a2b3c4d": 0.9,
        "kl with 1a2b3c4d": 0.5,
        "width 0.5: test_acc": 0.625,
        "width 0.5: kl with 1a2b3c4d": 0.25,
    }
    assert kind_of("width 0.5: kl with 1a2b3c4d") == "kl"
    odd = numbers_of({"test_acc": "much", "ece": None, "entropy": math.inf, "kl": [], "parts": "none"})
    assert odd.keys() == {"test_acc", "ece", "entropy"} and all(map(math.isnan, odd.values()))
    assert numbers_of({"parts": [None, 3], "agreement": {KEY: True}}).keys() == {"agreement with 1a2b3c4d"}


def test_gaps_are_told_by_number_over_all_trainings_that_have_it_twice() -> None:
    other = {**RESULT, "test_acc": 0.5, "agreement": {KEY: 0.9 + 1e-12}, "kl": {KEY: 0.625}, "parts": []}
    found = list(apart([(RESULT, other), (RESULT, RESULT), ({"test_acc": None}, {"test_acc": 0.5})]))
    assert found == [
        Apart("test_acc", 3, 2, 0.0, 0.25),  # once of the part
        Apart("agreement", 2, 2, pytest.approx(0.0, abs=1e-9), pytest.approx(0.0, abs=1e-9)),
        Apart("kl", 3, 2, 0.0, 0.125),
    ]
    assert not list(apart([]))
