"""A result's sum of its own: no flipped bit changes a number unnoticed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from takd.runs.files import parse_object
from takd.runs.layout import environment_of, is_sum_of_the_rest, parse_result, with_sum
from takd.stage import canonical_json

KEY = "ab" * 16
VALUE = {
    "schema": 1,
    "key": KEY,
    "files": {"events.jsonl": {"sha256": "0" * 64, "bytes": 12}},
    "test_acc": 0.9123,
    "seconds": 1.25,
}


def test_every_flipped_bit_is_noticed_or_changes_no_value() -> None:
    raw = with_sum(VALUE)
    assert parse_result(raw, KEY) == VALUE
    unnoticed = 0
    for place in range(len(raw)):
        for bit in range(8):
            found = parse_result(raw[:place] + bytes([raw[place] ^ (1 << bit)]) + raw[place + 1 :], KEY)
            if found is not None:  # a flip in the name of the sum itself: without one it counts as an older result
                unnoticed += 1
                assert {name: found[name] for name in VALUE} == VALUE
    assert unnoticed <= 24


def test_results_of_earlier_versions_have_none() -> None:
    assert parse_result(canonical_json(VALUE), KEY) == VALUE


def test_the_sum_is_found_in_the_bytes_wherever_its_line_stands() -> None:
    """The short way and the long one agree: on results as they are written, and on every single changed byte of one."""
    results = [{"aa": 1, "test_acc": 0.5}, {"aa": [1, {"sum": "x"}], "zz": "\n"}, {"zz": {}}]
    for result in results:
        raw = with_sum(result)
        assert is_sum_of_the_rest(json.loads(raw)["sum"], raw)
    raw = with_sum(results[0])
    said = json.loads(raw)["sum"]
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        assert not is_sum_of_the_rest(said, changed), place
    hidden = raw.replace(f'"{said}"'.encode(), f'"{said}", "test_acc": 0.9'.encode())
    assert json.loads(hidden)["test_acc"] == 0.5 and not is_sum_of_the_rest(said, hidden)
    assert not is_sum_of_the_rest(None, raw) and not is_sum_of_the_rest("x" * 64, raw)


VALUES = [
    {}, [], (), {"a": {}}, {"b": [], "a": [[]]}, (1, [()]), {"é\ud800\n": "\u2028"}, {"x": None, "y": True, "z": False},
    1e300, -0.0, 0.1 + 0.2, 10**30, np.float64(0.1), {2: 1, 1: 2}, {"a": np.float64(3)}, "text", None,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_canonical_json_is_what_json_writes(value: object) -> None:
    assert canonical_json(value) == (json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": {"b": -float("inf")}}])
def test_canonical_json_refuses_what_is_not_finite(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(value)


@pytest.mark.parametrize("text", ["1e400", "[1, [2, -1e400]]", '{"a": [{"b": 1e999}]}'])
def test_numbers_that_parse_as_infinity_are_refused(text: str) -> None:
    assert parse_object(b'{"x": ' + text.encode() + b"}") is None
    assert parse_object(b'{"x": ' + text.replace("e400", "e40").replace("e999", "e99").encode() + b"}") is not None


@pytest.mark.parametrize("said", [None, {}, {"env": None}, {"env": "a machine"}, {"env": ["cuda"]}, {"env": 3}])
def test_what_foreign_results_call_their_machine_is_no_machine(said: dict[str, Any] | None) -> None:
    assert environment_of(said) == {}


def test_a_result_says_what_it_was_trained_on() -> None:
    assert environment_of({"env": {"precision": "bf16"}}) == {"precision": "bf16"}
