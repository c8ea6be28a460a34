"""What is said about sub-models of one network: nothing about teachers, assistants or direct KD, and no lost number."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pandas as pd
import pytest

from takd.analysis.verdicts import Verdict, judge
from takd.presentation import phrases, sub_words, words
from tests.presentation import samples
from tests.presentation.test_words import KINDS, assert_clean

NETWORK = "slim-plain-4"
FOREIGN = re.compile(r"direct KD|assistants? \(|teacher plain|bigger teacher| > |chains?\b(?<!TA chain)(?! minus)")


def frames(chosen: str = "ipkd-ta", seeds: int = 5) -> pd.DataFrame:
    return samples.part_frames(seeds=seeds, chosen=chosen)[0]


def verdict(kind: str, n: int = 5, arm: str = "ipkd-ta", against: str = "joint") -> Verdict:
    made = samples.verdict(kind, n)
    other = f"scratch {NETWORK}@1" if against == "scratch" else f"{against} {NETWORK}"
    return judge(_values(made, n), arm=f"{arm} {NETWORK}", against=other)


def _values(made: Verdict, n: int) -> list[float]:
    """Differences with the sample's mean and half-width (any three or more numbers would do)."""
    half = made.interval.half if n > 1 else 0.0
    return [made.interval.mean] if n == 1 else [made.interval.mean + half * (i - (n - 1) / 2) / n for i in range(n)]


def check(text: str) -> None:
    assert_clean(text)
    assert not FOREIGN.search(text), text


@pytest.mark.parametrize(
    ("kind", "n", "chosen"), [*itertools.product(KINDS, [1, 2, 3, 8], ["ipkd-ta", "ipkd", "joint"])]
)
def test_headline_says_what_was_found_on_the_smallest(kind: str, n: int, chosen: str) -> None:
    control = "scratch" if chosen == "joint" else "joint"
    first = verdict(kind, n, chosen, control)
    text = sub_words.headline(frames(chosen), [first, verdict("no real difference", n, chosen, "scratch")])
    check(text)
    assert "width 0.25" in text
    assert f"n = {n}" in text and "chains" not in text
    found = phrases.kind_of(first)
    assert ("helps width" in text) == (found in ("helps", "slightly helps") or "whether" in text.lower())
    assert ("cannot be told yet" in text) == (found == "cannot tell yet")
    assert ("hurts" in text) == (found in ("hurts", "slightly hurts"))


def test_headline_golden() -> None:
    beside = [verdict("no real difference", against="ipkd"), verdict("cannot tell yet", against="scratch")]
    text = sub_words.headline(frames(), [verdict("helps"), *beside])
    assert re.fullmatch(
        r"The in-place TA chain helps width 0\.25, the smallest sub-model: \+0\.9 points over joint training \(95 % CI "
        r"0\.\d+ to 1\.\d+, n = 5 seeds\)\. No real difference to in-place KD\. Not yet told apart from width 0\.25 "
        r"alone\.",
        text,
    )


def test_nothing_trained_is_said() -> None:
    none = frames().assign(n=0)
    assert sub_words.headline(none, []).startswith("Nothing to compare yet")
    assert sub_words.reading(none, []).startswith("Nothing to compare yet")
    assert "nothing trained yet" in sub_words.alt_parts(none)
    for text in sub_words.story(none, None, None, {}):
        check(text)


def test_reading_and_story_quote_their_numbers() -> None:
    means = frames()
    found = [verdict("helps"), verdict("cannot tell yet", against="ipkd"), verdict("hurts", against="scratch")]
    text = sub_words.reading(means, found)
    check(text)
    assert text.count("n = 5 seeds") == 3 and "helps against joint training" in text
    story = sub_words.story(means, found[0], verdict("hurts"), {"ipkd-ta": 12.0, "scratch": 3.0})
    for part in story:
        check(part)
    assert "joint training, " in story.happened and "the in-place TA chain" in story.happened
    assert "On the largest, width 1, the in-place TA chain against joint training: hurts" in story.why
    assert "all four sub-models" in story.next and "~10 s" in story.next


@pytest.mark.parametrize("who", ["", "largest", "next-larger", "all-larger", "mean-of-larger"])
def test_who_teaches_is_one_plain_sentence(who: str) -> None:
    check(sub_words.teaching(who))
    assert ("labels too" in sub_words.teaching(who, hard=True)) == bool(who)


def test_alt_texts_have_every_number() -> None:
    means = frames()
    text = sub_words.alt_parts(means, "Read.")
    check(text)
    assert text.count(" ± ") == 13 and text.endswith("Read.")
    boxes = samples.chain_boxes(("plain-10", "plain-4", "plain-2")).assign(title="Sub-model")
    check(sub_words.alt_boxes(boxes, NETWORK, sub_words.teaching("largest")))


@pytest.mark.parametrize(
    ("arm", "label"),
    [
        (f"ipkd-ta {NETWORK}", "in-place TA chain"),
        (f"ipkd[hard=True] {NETWORK}", "in-place KD (hard True)"),
        (f"scratch {NETWORK}@1", "width 0.25 alone"),
        ("scratch msdnet-4@1", "exit 1 alone"),
        ("dml 32>8", "mutual learning 32 + 8"),
        ("dml[peers=copies] 32>8", "mutual learning (peers copies) 8"),
        ("takd 10>4>2", "TA chain 10 → 4 → 2"),
    ],
)
def test_arms_are_named_as_a_student_would(arm: str, label: str) -> None:
    assert phrases.arm_label(arm) == label


def test_peers_do_not_teach_in_a_row() -> None:
    boxes: Any = samples.chain_boxes(("mlp-32", "mlp-8")).assign(role=["peer", "student"], title=["Peer", "Student"])
    text = words.alt_chain(boxes)
    assert "at the same time" in text and "teaches" not in text


def test_noise_is_explained_without_chains() -> None:
    assert sub_words.noise_caveat(0) == ""
    check(sub_words.noise_caveat(0.2))
