"""What is said must follow from the numbers, in every combination, and never print a number that is not there."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace

import pytest

from takd.analysis.verdicts import GapVerdict, Verdict, judge
from takd.presentation import formats, words
from tests.presentation import samples

KINDS = ["helps", "slightly helps", "no real difference", "slightly hurts", "hurts", "cannot tell yet"]
GAPS = ["gap", "no gap", "flat", "cannot tell yet"]
COMBINATIONS = list(itertools.product([None, *GAPS], [None, *KINDS], [1, 2, 3, 8]))
UNKNOWN = words.Facts("plain-10", "plain-2", ("plain-4",))
FACTS = words.Facts(
    teacher="plain-10", student="plain-2", assistants=("plain-4",), teacher_accuracy=0.83, peak_accuracy=0.79,
    alone=0.63, direct=0.64, direct_peak=0.66, chain=0.65, teacher_entropy=0.12, peak_entropy=0.45, agreement=0.66,
    extra_trainings=1, extra_seconds=41.0,
)  # fmt: skip
BROKEN = re.compile(r"\bnan\b|\bNone\b|\binf\b|percent better|% better|  |\(\)|\.\.", re.IGNORECASE)


def assert_clean(text: str) -> None:
    assert text
    assert not BROKEN.search(text), text


def test_samples_have_the_kind_they_are_named_after() -> None:
    for kind in KINDS:
        assert samples.verdict(kind, 5).kind == kind
        assert samples.verdict(kind, 8).kind == kind
        assert samples.verdict(kind, 1).kind == "cannot tell yet"


@pytest.mark.parametrize(("gap", "kind", "n"), COMBINATIONS)
def test_headline_is_true_in_every_combination(gap: str | None, kind: str | None, n: int) -> None:
    chain = None if kind is None else samples.verdict(kind, n)
    verdict = None if gap is None else samples.gap_verdict(gap, n)
    text = words.headline(verdict, chain, FACTS)
    assert_clean(text)
    shown = chain or (verdict.verdict if verdict else None)
    if shown is None:
        assert text.startswith("Nothing to compare yet")
        return
    if n == 1:
        assert "one run, no interval" in text
    else:
        assert "95 % CI" in text and f"n = {n}" in text
    if chain is not None:
        mean, effective = chain.interval.mean, chain.kind
        last = text[text.lower().index("one assistant") :]
        positive, negative = ("gave back", "added"), ("made it", "worse")
        assert any(word in last for word in positive) == (effective in ("helps", "slightly helps"))
        assert any(word in last for word in negative) == (effective in ("hurts", "slightly hurts"))
        told_apart = "helps cannot be told" in text or "Too early to tell" in text
        assert told_apart == (effective == "cannot tell yet")
        sign = "+" if mean > 0 else formats.MINUS
        assert f"{sign}{100 * abs(mean):.1f}" in last or f"{sign}{100 * abs(mean):.2f}" in last
    if n < 3 or gap == "cannot tell yet":
        assert "stopped helping." not in text and "still helps" not in text and "no real difference here" not in text
    elif gap == "gap":
        assert "A bigger teacher stopped helping" in text


def test_headline_golden() -> None:
    text = words.headline(samples.gap_verdict("gap"), samples.verdict("helps"), FACTS)
    assert re.fullmatch(
        r"A bigger teacher stopped helping: \+0\.9 points for the best smaller one \(95 % CI 0\.\d to 1\.\d, "
        r"n = 5 seeds\)\. One assistant \(plain-4\) gave back \+0\.9 points \(95 % CI 0\.\d to 1\.\d, n = 5 chains\)\.",
        text,
    )


@pytest.mark.parametrize(
    ("kind", "says"),
    [("helps", "does less"), ("no real difference", "cannot be told apart"), ("hurts", "does better")],
)
def test_a_chain_that_helps_is_held_against_direct_kd_from_its_own_assistant(kind: str, says: str) -> None:
    shortcut = replace(samples.verdict(kind), arm="takd 10>4>2", against="kd 4>2")
    text = words.headline(None, samples.verdict("helps"), FACTS, shortcut)
    assert f"Direct KD from size 4, without a chain, {says}" in text
    assert "without a chain" not in words.headline(None, samples.verdict("hurts"), FACTS, shortcut)


def test_nothing_is_given_back_where_nothing_was_taken() -> None:
    helps = samples.verdict("helps")
    for gap in (None, *(samples.gap_verdict(k) for k in GAPS if k != "gap")):
        assert "gave back" not in words.headline(gap, helps, FACTS)
    smaller_start = words.Facts(teacher="plain-8", student="plain-2", assistants=("plain-4",))
    assert "gave back" not in words.headline(samples.gap_verdict("gap"), helps, smaller_start)


def test_headline_without_assistants_speaks_of_direct_kd() -> None:
    chain = judge([0.01, 0.011, 0.012, 0.011], arm="kd 10>2", against="scratch 2")
    text = words.headline(None, chain, words.Facts(teacher="plain-10", student="plain-2"))
    assert text.startswith("Direct KD from plain-10 added +1.1 points over the student alone (95 % CI")


def test_several_assistants_are_counted() -> None:
    facts = words.Facts(teacher="plain-10", student="plain-2", assistants=("plain-6", "plain-4"))
    assert "Two assistants (plain-6, plain-4)" in words.headline(None, samples.verdict("hurts"), facts)
    open_ = samples.verdict("cannot tell yet")
    for gap in (None, samples.gap_verdict("cannot tell yet")):
        assert "whether two assistants (plain-6, plain-4) help" in words.headline(gap, open_, facts).lower()
        assert "whether one assistant (plain-4) helps" in words.headline(gap, open_, FACTS).lower()


def test_a_verdict_above_its_n_is_not_believed() -> None:
    two = judge([0.01, 0.0101], arm="takd 10>4>2", against="kd 10>2")
    boast = Verdict("helps", two.arm, two.against, 2, two.interval, two.p, two.margin)
    assert words.kind_of(boast) == "cannot tell yet"
    assert words.verdict_label(boast) == "Cannot tell yet"
    assert "cannot be told yet" in words.headline(None, boast, FACTS)


@pytest.mark.parametrize(("gap", "kind", "n"), COMBINATIONS)
@pytest.mark.parametrize("facts", [FACTS, UNKNOWN, words.Facts("mlp-64", "mlp-8")])
def test_story_never_invents(gap: str | None, kind: str | None, n: int, facts: words.Facts) -> None:
    chain = None if kind is None else samples.verdict(kind, n)
    for text in words.three_sentences(None if gap is None else samples.gap_verdict(gap, n), chain, facts):
        assert_clean(text)
    if facts.teacher_accuracy is None:
        story = words.three_sentences(None, chain, facts)
        assert "not measured" in story.happened
        assert "not measured" in story.why


def test_story_quotes_the_numbers_on_screen() -> None:
    story = words.three_sentences(samples.gap_verdict("gap"), samples.verdict("helps"), FACTS)
    for number in ("83.0 %", "79.0 %", "64.0 %", "66.0 %", "65.0 %", "+0.9 points"):
        assert number in story.happened
    assert "0.12 against 0.45 nats" in story.why
    assert "1 more training" in story.next and "~40 s" in story.next


def test_entropy_is_told_in_its_own_direction() -> None:
    gap = samples.gap_verdict("gap")
    softer = words.Facts("plain-10", "plain-2", teacher_entropy=0.5, peak_entropy=0.2)
    even = words.Facts("plain-10", "plain-2", teacher_entropy=0.2, peak_entropy=0.2)
    assert "less sure" in words.three_sentences(gap, None, softer).why
    assert "equally sure" in words.three_sentences(gap, None, even).why


@pytest.mark.parametrize(("kind", "n"), list(itertools.product(KINDS, [1, 2, 3, 8])))
def test_verdict_sentences(kind: str, n: int) -> None:
    verdict = samples.verdict(kind, n)
    text = words.verdict_sentence(verdict)
    assert_clean(text)
    assert "TA chain 10 → 4 → 2 against direct KD 10 → 2" in text
    assert ("seed" in text) == (verdict.kind == "cannot tell yet")
    assert ("sign-flip p" in text) == (n >= 3)
    color = "green" if "helps" in verdict.kind else "orange" if "hurts" in verdict.kind else "gray"
    assert words.verdict_badge(verdict)[0] == color


def test_a_p_that_few_seeds_cannot_undercut_says_so() -> None:
    gains = [0.006, 0.007, 0.008, 0.009, 0.01]
    assert "sign-flip p = 0.062, the smallest that n = 5 can give)" in words.verdict_sentence(judge(gains))
    assert "the smallest" not in words.verdict_sentence(judge([-0.006, *gains[1:]]))
    assert "the smallest" not in words.verdict_sentence(judge([*gains, 0.011]))


def test_nothing_finished() -> None:
    empty = judge([], arm="takd 10>4>2", against="kd 10>2")
    gap = GapVerdict("cannot tell yet", empty, None, None, 0, math.nan, math.nan, None, "")
    for text in (
        words.verdict_sentence(empty), words.verdict_sentence(None), words.headline(gap, empty, FACTS),
        words.headline(None, None, FACTS), words.gap_sentence(gap), words.gap_sentence(None),
        words.interval_text(empty), words.gain_text(empty), *words.three_sentences(gap, empty, FACTS),
    ):  # fmt: skip
        assert_clean(text)


def test_the_interval_names_its_own_confidence() -> None:
    wide = judge([0.01, 0.02, 0.015], confidence=0.975)
    assert words.interval_text(wide).startswith("97.5 % CI")


def test_small_numbers_are_never_rounded_to_zero() -> None:
    close = judge([0.0016, 0.0018, 0.0017, 0.0003], arm="takd 10>4>2", against="kd 10>2")
    text = words.interval_text(close)
    assert " 0.0 to" not in text and "-0" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0065, "+0.65"), (-0.0123, "−1.23"), (0.0, "0.00"), (-0.00001, "0.00"), (math.nan, "not measured"),
     (None, "not measured")],
)  # fmt: skip
def test_points(value: float | None, text: str) -> None:
    assert words.points(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "under 1 s"), (4.2, "~4 s"), (41, "~40 s"), (88, "~90 s"), (100, "~2 min"), (185, "~3 min"),
     (5400, "~1.5 h"), (200_000, "~2.3 days"), (None, "time not known"), (math.nan, "time not known")],
)  # fmt: skip
def test_duration(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


def test_other_formats() -> None:
    assert words.percent(0.6244) == "62.4 %"
    assert words.percent(None) == "not measured"
    assert words.accuracy(0.831, 0.004) == "83.1 ± 0.4 %"
    assert words.accuracy(0.831, math.nan) == "83.1 %"
    assert [words.size(v) for v in (2_487_850, 13_082, 310, 999_900, None)] == [
        "2.49 M", "13.1 k", "310", "1.00 M", "not measured",
    ]  # fmt: skip
    assert [words.ratio(v) for v in (68.9, 1.43, math.nan)] == ["÷69", "÷1.4", ""]
    assert [words.count(v, "chain") for v in (0, 1, 3)] == ["0 chains", "1 chain", "3 chains"]
    assert words.arm_label("takd 10>4>2") == "TA chain 10 → 4 → 2"
    assert words.arm_label("scratch 2") == "the student alone"
    assert [words.via_label(a) for a in ("takd 10>6>4>2", "10>4>2", "kd 10>2")] == ["via 6, 4", "via 4", "direct"]


def test_noise_is_explained_only_where_there_is_some() -> None:
    assert words.noise_caveat(0.0) == ""
    text = words.noise_caveat(0.2)
    assert text.startswith("20 % of the training labels were made wrong on purpose") and "clean labels" in text
    assert words.best_of(1) == "" and words.best_of(4).startswith("Four choices")


def test_gap_sentences_claim_only_what_was_compared() -> None:
    """The rule compares the largest teacher with the smaller one that validation images prefer, and nothing else."""
    for kind in ("no gap", "flat"):
        gap = samples.gap_verdict(kind)
        text = words.gap_sentence(gap)
        assert "best smaller one" in text
        assert "best student" not in text and "size of the teacher makes no" not in text
        assert "sign-flip" not in text


def test_reasons_are_given_only_where_there_is_a_gap_and_as_somebodys() -> None:
    facts = words.Facts("plain-10", "plain-2", ("plain-4",), teacher_entropy=0.1, peak_entropy=0.5)
    assert "Mirzadeh" in words.three_sentences(samples.gap_verdict("gap"), None, facts).why
    for kind in ("no gap", "flat", "cannot tell yet"):
        assert "Mirzadeh" not in words.three_sentences(samples.gap_verdict(kind), None, facts).why


def test_memorised_labels_are_quoted_from_a_measurement() -> None:
    facts = words.Facts("mlp-256", "mlp-8", ("mlp-16",), noise=0.2, teacher_train=0.992)
    why = words.three_sentences(None, None, facts).why
    assert "99.2 %" in why and "80 %" in why
    unmeasured = words.three_sentences(None, None, words.Facts("mlp-256", "mlp-8", (), noise=0.2)).why
    assert "by heart" not in unmeasured


def test_provenance() -> None:
    assert words.provenance("live", device="H200", n=3) == "● live on H200 · n = 3"
    assert words.provenance("cached", "2026-11-20", "H200", 5) == "■ cached 2026-11-20 on H200 · n = 5"
    assert words.provenance("cached") == "■ cached (date not recorded) on a device not recorded"
    assert words.provenance("imported", "2026-11-20", "H200") == "◆ imported 2026-11-20 on H200"
    assert words.provenance("live+imported", n=2) == "◐ part live, part imported · n = 2"
    assert words.provenance("estimated") == "◌ estimated, not run"
    assert words.provenance(None) == "○ not trained yet"


def test_run_sentence() -> None:
    assert words.run_sentence("queued", position=1) == "Next in the queue."
    assert words.run_sentence("queued", position=3) == "Place 3 in the queue."
    assert words.run_sentence("running", 1, 3, left=41) == "Running, 1 of 3 trained. ~40 s left."
    assert words.run_sentence("lost", 1, 3) == "Interrupted, 1 of 3 trained."


def test_alternative_texts() -> None:
    gap, _ = samples.gap_frames()
    boxes = samples.chain_boxes(("plain-10", "plain-4", "plain-2"), ("done", "training", "waiting"))
    _, summary = samples.assistant_frames(1)
    texts = [
        words.alt_gap(gap, samples.gap_verdict("gap")), words.alt_gap(samples.empty_gap()[0]),
        words.alt_chain(boxes, samples.verdict("helps")), words.alt_chain(boxes.head(0)),
        words.alt_assistants(summary), words.alt_assistants(summary.head(0)),
        words.alt_curves(samples.curve_rows()), words.alt_curves(samples.curve_rows(0)),
    ]  # fmt: skip
    for text in texts:
        assert_clean(text)
    assert "training now" in texts[2] and "not trained yet" in texts[2]
    assert "one run, no interval" in texts[4]


@pytest.mark.parametrize(
    ("chain", "alone", "wrong"), [(0.09, 0.9, True), (0.44, 0.9, True), (0.5, 0.9, False), (None, 0.9, False)]
)
def test_a_training_far_below_the_student_alone_is_called_failed(
    chain: float | None, alone: float, wrong: bool
) -> None:
    """A weight that drowns the labels says nothing about the method."""
    assert (
        words.failed(words.Facts("cnn8-16", "cnn8-2", method="Attention transfer", chain=chain, alone=alone)) is wrong
    )
