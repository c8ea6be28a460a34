"""A result's sum of its own: no flipped bit changes a number unnoticed."""

from __future__ import annotations

from takd.runs.layout import parse_result, with_sum
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
