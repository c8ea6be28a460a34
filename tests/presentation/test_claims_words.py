"""Words and figures of claims on findings made by hand: every status says its number, interval and n."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import altair as alt
import pandas as pd
import pytest

from takd.analysis.claims import Finding, Row, judged
from takd.analysis.contrasts import Sample
from takd.analysis.statistics import t_interval
from takd.claims.claim import Claim, Measure, Trial
from takd.claims.measures import AS_LONG
from takd.claims.settings import SETTINGS
from takd.claims.table import CLAIMS
from takd.presentation.claims import map_chart, words
from takd.presentation.claims.board_chart import board_chart, placed
from takd.presentation.claims.claim_chart import _placed, by_unit, claim_chart, of_claim
from takd.presentation.claims.marks import MARKS, colour, mark_name
from takd.presentation.theme import contrast, palette

NOISY = "digits-noise"
POINTS = Measure("effect", ())


def finding(
    values: Sequence[float] = (),
    setting: str = NOISY,
    measure: Measure = POINTS,
    registered: bool = True,
    variant: str = "",
    confidence: float = 0.99,
    missing: int = 0,
    seeds_needed: int | None = None,
    origin: str | None = "cached",
    pair: str = "",
) -> Finding:
    """A finding judged as the board judges it."""
    series = pd.Series(list(values), index=range(len(values)), dtype="float64").rename_axis("seed")
    interval = t_interval(series, confidence)
    status, why = judged(measure, Sample(tuple(series.index), series.to_numpy()[:, None, None], (("",),)), interval)
    trial = Trial(setting, lambda _: measure, registered, variant)
    return Finding(
        "one-ta", SETTINGS[setting], trial, measure, series, pair, interval, status, 0.01, 0.02, seeds_needed, why,
        origin if len(values) else None, missing,
    )  # fmt: skip


def around(mean: float, spread: float, n: int = 30) -> list[float]:
    """n values whose mean and standard deviation (with n - 1) are these; n is even."""
    step = spread * math.sqrt((n - 1) / n)
    return [mean + step, mean - step] * (n // 2)


def row(*findings: Finding, name: str = "one-ta") -> Row:
    return Row(CLAIMS[name], findings)


GOOD = finding(around(0.018, 0.01))
NONE = finding(around(0.0004, 0.002), setting="digits-clean")
BAD = finding(around(-0.01, 0.01), setting="digits-clean")
OPEN = finding(around(0.002, 0.006, 4), setting="cifar10", registered=False, confidence=0.95, missing=1, seeds_needed=9)
LEFT = finding(setting="digits-cnn", missing=30)


def test_a_supported_finding_says_all_it_rests_on() -> None:
    half = 2.7564 * 0.01 / math.sqrt(30)  # t at 99 % and 29 degrees of freedom, from a table
    low, high = 1.8 - 100 * half, 1.8 + 100 * half
    assert words.finding_sentence(GOOD) == (
        f"Supported: +1.8 points (99 % CI {low:.1f} to {high:.1f}, n = 30 chains; {SETTINGS[NOISY].label}; "
        "pre-registered; cached)."
    )
    assert words.number(GOOD) == f"+1.8 points (99 % CI {low:.1f} to {high:.1f}, n = 30 chains)"


def test_refuted_says_which_way() -> None:
    assert words.status_word(NONE) == "refuted, no difference that counts"
    assert words.status_word(BAD) == "refuted, the other way round"
    worse = finding(around(-0.01, 0.002), measure=Measure("effect", (), turn=-0.003))
    assert words.status_word(worse) == "refuted, worse by more than the margin"
    assert [mark_name(f.status, f.why) for f in (GOOD, NONE, BAD, worse, OPEN, LEFT)] == [
        "supported", "nothing", "reversed", "reversed", "undecided", "not run",
    ]  # fmt: skip


def test_undecided_says_what_may_settle_it_and_how_many_chains_are_missing() -> None:
    text = words.finding_sentence(OPEN)
    assert text.startswith("Undecided: +0.2 points (95 % CI \N{MINUS SIGN}0.8 to 1.2, n = 4 of 5 chains; CIFAR-10")
    assert "exploratory" in text and text.endswith("9 chains or more may settle it (an estimate: about even odds).")
    lone = finding([0.02], missing=29, origin="live+cached")
    assert words.number(lone) == "+2.0 points (no interval yet, n = 1 of 30 chains)"
    assert "partly live, partly cached" in words.finding_sentence(lone)


def test_arms_of_unlike_precision_are_named() -> None:
    text = words.finding_sentence(replace(GOOD, precisions=("bf16", "fp32")))
    assert text.endswith("; cached; trained partly in bf16 and partly in fp32).")
    assert words.finding_sentence(replace(GOOD, precisions=("fp32",))) == words.finding_sentence(GOOD)


def test_not_run_names_the_setting_and_no_number() -> None:
    assert words.number(LEFT) == "not run"
    label = "Digits, small CNNs, clean labels, rate 0.1, T 4, lam 0.5, as first chosen"
    assert words.finding_sentence(LEFT) == f"Not run: {label} (pre-registered, 30 chains)."
    assert words.not_run([GOOD, LEFT, finding(variant="as published")]) == (
        "Not run: Digits, CNN; Digits, noisy (as published)."
    )
    assert words.not_run([GOOD]) == ""


@pytest.mark.parametrize(
    ("measure", "mean", "spread", "text"),
    [
        (POINTS, 0.0181, 0.01, "+1.8 points (99 % CI 1.3 to 2.3"),
        (POINTS, 0.0006, 0.001, "+0.06 points (99 % CI 0.01 to 0.11"),  # a bound that is not zero is not told as zero
        (POINTS, -0.0007, 0.004, "−0.07 points (99 % CI −0.27 to 0.13"),  # nor as the margin it lies within
        (Measure("effect", (), margin=0.001), 0.0181, 0.01, "+1.81 points (99 % CI 1.31 to 2.31"),
        (Measure("slope", (), x=(1.0, 2.0), margin=0.001), -0.0016, 0.002, "−0.16 points per further assistant (99"),
        (Measure("slope", (), x=(1.5, 2.7), unit="nats", margin=0.001), 0.0623, 0.005, "+0.062 nats per doubling (99"),
        (Measure("effect", (), unit="kappa", margin=0.01), 0.0637, 0.03, "+0.064 kappa (99 % CI 0.049 to 0.079"),
        (Measure("effect", (), unit="nats", margin=0.02), 0.00011, 0.0001, "+0.0001 nats (99 % CI 0.0001 to 0.0002"),
    ],
)
def test_numbers_have_the_decimals_of_their_unit(measure: Measure, mean: float, spread: float, text: str) -> None:
    assert words.number(finding(around(mean, spread), measure=measure)).startswith(text.replace("−", "\u2212"))


def test_no_status_is_said_without_interval_and_n() -> None:
    for one in (GOOD, NONE, BAD, OPEN):
        for said in (words.finding_sentence(one), words.claim_sentence(row(one))):
            assert "% CI" in said and "n = " in said


def test_a_claim_is_told_by_its_settings_with_the_number_of_the_leading_one() -> None:
    said = words.claim_sentence(row(OPEN, GOOD, NONE, LEFT, finding(around(0.05, 0.01), variant="as published")))
    assert said == (
        "One teacher assistant beats direct KD: supported in 1 of 3 settings (Digits, noisy (+1.8 points, 99 % CI 1.3 "
        "to 2.3, n = 30 chains)); undecided in 1 (CIFAR-10 (exploratory)); refuted, no difference that counts in 1 "
        "(Digits, clean)."
    )
    assert words.claim_sentence(row(LEFT)) == "One teacher assistant beats direct KD: not run."


def test_equal_cost_is_told_with_the_number_of_every_setting() -> None:
    ahead, behind = (finding(around(mean, 0.01), variant=AS_LONG) for mean in (0.05, -0.05))
    known = row(GOOD, ahead, behind, finding(around(0.02, 0.01), variant="as published"))
    said = words.variant_sentence(known, AS_LONG)
    assert said.startswith(
        "The same against direct KD that trains as many epochs as both together: supported in 1 of 2 "
    )
    assert "; refuted, the other way round in 1 (" in said and said.count("% CI") == said.count("n = ") == 2
    assert words.board_sentence([known]).endswith(f" {said}") and words.variant_sentence(row(GOOD), AS_LONG) == ""


def test_the_board_is_told_by_its_sums_and_the_programs_two_questions() -> None:
    weak = finding(around(0.006, 0.01))
    rows = [row(OPEN, weak, LEFT), row(GOOD, name="any-ta"), row(BAD, name="full-path")]
    said = words.board_sentence(rows)
    assert said.startswith("Of 5 tests of 3 claims, 2 support the claim, 1 finds the opposite, 0 find no ")
    assert "difference that counts, 1 is undecided, 1 was not run, all in settings without any run." in said
    assert said.endswith(
        "“One teacher assistant beats direct KD”: supported in 1 of 2 settings; the first pre-registered one says "
        "+0.6 points (99 % CI 0.1 to 1.1, n = 30 chains; Digits, noisy)."
    )
    assert "(1 exploratory)" in words.board_sentence([row(GOOD, finding(around(0.05, 0.01), registered=False))])


def test_an_empty_board_promises_nothing() -> None:
    said = words.board_sentence([row(LEFT), row(LEFT, name="any-ta")])
    assert said == "Nothing is tested yet: 2 claims, 2 tests in 1 setting, none of which has been run."


def test_the_table_holds_every_finding_in_its_unit() -> None:
    rows = [row(GOOD, LEFT, finding(around(0.05, 0.01), variant="as published"))]
    frame = words.board_frame(rows)
    assert list(frame.columns) == list(words.FRAME_COLUMNS) and len(frame) == 3
    first = frame.iloc[0]
    assert first["mean"] == pytest.approx(1.8) and first["unit"] == "points" and first["confidence"] == 0.99
    assert (first["n"], first["status"], first["registered"]) == (30, "supported", True)
    assert list(frame["status"]) == ["supported", "not run", "supported"]
    assert list(frame["variant"])[2] == "as published" and not frame["mean"].isna().iloc[0]


def test_long_settings_are_shown_where_something_is_there() -> None:
    long = finding(setting="cifar10-paper", missing=5)
    assert words.shown_settings([row(GOOD, LEFT, long)]) == ["Digits, noisy", "Digits, CNN"]
    done = finding(around(0.01, 0.01, 4), setting="cifar10-paper")
    assert "CIFAR-10, 160 epochs" in words.shown_settings([row(GOOD, done)])


ROWS = [row(OPEN, GOOD, NONE, LEFT), row(BAD, name="full-path")]


def test_the_text_of_the_board_has_every_claim() -> None:
    said = words.alt_board(ROWS)
    assert "4, One teacher assistant beats direct KD: CIFAR-10 undecided (0.2), Digits, noisy supported (1.8)" in said
    assert "Digits, CNN not run" in said


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("dark", [False, True])
def test_charts_are_valid_and_draw_every_status(dark: bool, compact: bool) -> None:
    board = board_chart(words.cells(ROWS), dark, compact, "one-ta").to_dict()
    alt.LayerChart.from_dict(board)
    assert board["params"][0]["select"]["fields"] == ["claim"]
    shapes = {layer["mark"].get("shape") for layer in _marks(board)}
    assert {mark.shape for mark in MARKS.values()} <= shapes
    run = board_chart(words.cells([row(OPEN, GOOD)]), dark, compact).to_dict()
    assert "stroke" not in {layer["mark"].get("shape") for layer in _marks(run)}  # no legend of what no cell has
    hollow = [m for m in _marks(board) if m["mark"].get("fill") == "transparent" and m["mark"]["shape"] == "circle"]
    assert len(hollow) == 1  # the one exploratory finding
    alt.LayerChart.from_dict(claim_chart(*of_claim(ROWS[0]), dark, compact).to_dict())
    empty = claim_chart(*of_claim(row(LEFT)), dark, compact).to_dict()
    assert "Not run in any setting yet" in str(empty)
    alt.LayerChart.from_dict(map_chart.regimes_chart(map_chart.map_cells(regimes()), "gap", dark).to_dict())


@pytest.mark.parametrize(("compact", "settings", "fits"), [(False, 8, 54), (False, 11, 43), (True, 11, 66)])
def test_no_title_of_the_board_is_cut_and_no_row_lies_on_another(compact: bool, settings: int, fits: int) -> None:
    """318 pixels hold 54 bold letters of the board's size on average, 256 hold 43, 335 hold 66 plain ones."""
    tests = [finding(around(0.018, 0.01), setting=name) for name in list(SETTINGS)[:settings]]
    rows, _, height = placed(words.cells([row(*tests, name=name) for name in CLAIMS]), compact)
    assert len(rows) == len(CLAIMS)
    for one in rows.to_dict("records"):
        lines = one["label"].split("\n")
        assert " ".join(lines).split() == [str(one["number"]), *one["title"].split()]
        assert len(lines) <= (2 if settings < 9 or compact else 3) and max(map(len, lines)) <= fits
        assert one["top"] < one["first_line"] <= one["at"] < one["bottom"] and one["mark_at"] < one["bottom"]
        assert one["at"] - one["first_line"] == 7 * (len(lines) - 1)
    ends, tops = rows["bottom"][:-1].to_numpy(), rows["top"][1:].to_numpy()
    assert (tops >= ends).all() and rows["bottom"].iloc[-1] < height


def _marks(spec: dict) -> list[dict]:
    if "layer" not in spec:
        return [spec]
    return [mark for layer in spec["layer"] for mark in _marks(layer)]


def test_the_claim_figure_has_a_row_per_finding_and_a_dot_per_seed() -> None:
    late = finding(around(0.03, 0.01, 4), setting="cifar10", measure=POINTS)
    found, dots = of_claim(row(OPEN, finding(around(0.05, 0.01, 6), variant="as published"), late))
    assert list(found["name"]) == ["CIFAR-10", "CIFAR-10", "Digits, noisy: as published"]  # variants last
    assert list(dots.groupby("place").size()) == [4, 4, 6]
    assert dots["value"].max() == pytest.approx(100 * max(around(0.05, 0.01, 6)))


def test_findings_in_another_unit_have_a_figure_of_their_own() -> None:
    nats = finding(around(0.03, 0.01), measure=Measure("effect", (), unit="nats", margin=0.02), variant="surer")
    first, second = by_unit(row(GOOD, nats, BAD))
    assert first.findings == (GOOD, BAD) and second.findings == (nats,)
    assert [set(of_claim(one)[0]["unit"]) for one in (first, second)] == [{"points"}, {"nats"}]
    assert by_unit(row(GOOD)) == (row(GOOD),)


@pytest.mark.parametrize(("compact", "fits"), [(False, 77), (True, 52)])
def test_words_above_a_claims_marks_are_whole_and_do_not_lie_on_them(compact: bool, fits: int) -> None:
    """520 pixels hold 77 letters of that size and weight on average, 330 hold 52."""
    tests = [finding(around(-0.018, 0.01), variant=AS_LONG), finding(around(0.0, 0.001), setting="cifar10"), LEFT]
    table, heading, height = _placed(of_claim(row(*tests))[0], compact)
    for one in table.to_dict("records"):
        lines = one["line"].split("\n")
        assert " ".join(lines) == f"{one['name']} \u00b7 {one['status']}" and max(map(len, lines)) <= fits
        end = one["words_at"] + 15 * (len(lines) - 1) + 12
        assert end <= one["top"] < one["at"] < one["bottom"] if one["n"] else end <= one["bottom"]
    assert any("\n" in line for line in table["line"]) and len(heading) == 1 and table["bottom"].max() < height


def test_marks_differ_in_shape_and_colour_and_can_be_seen() -> None:
    assert len({mark.shape for mark in MARKS.values()}) == len({mark.light for mark in MARKS.values()}) == len(MARKS)
    for name in MARKS:
        for dark in (False, True):
            assert contrast(colour(name, dark), palette(dark).background) >= 3.0, name


def regimes() -> pd.DataFrame:
    """A little map: the gap is seen at one place, not at another, undecided at the third and open at the last."""
    rows = []
    told = {
        (15, 0.0): (0.0002, -0.001, 0.0012, "refuted", "no difference that counts"),
        (15, 0.2): (0.031, 0.02, 0.042, "supported", ""),
        (60, 0.0): (0.004, -0.01, 0.018, "undecided", ""),
    }
    for effect in ("gap", "assistant"):
        for epochs in (15, 60):
            for noise in (0.0, 0.2):
                mean, low, high, status, why = told.get((epochs, noise), (math.nan, math.nan, math.nan, "not run", ""))
                if effect == "assistant":
                    mean, low, high, status, why = math.nan, math.nan, math.nan, "not run", ""
                place = {"effect": effect, "epochs": epochs, "images": 125, "noise": noise, "confidence": 0.998}
                place |= {"mean": mean, "low": low, "high": high, "status": status, "why": why}
                n = 0 if status == "not run" else 8
                rows.append(place | {"n": n, "p": 0.5, "origin": "cached" if n else None})
    return pd.DataFrame(rows)


def test_the_map_says_where_it_is_seen_and_where_not() -> None:
    said = map_chart.map_sentence(regimes())
    assert said.startswith(
        "The gap is seen in 1 of 3 places that were run (0 of 2 with clean labels and 1 of 1 with 20 % wrong labels); "
        "of the others, 1 no difference and 1 undecided. Largest at 15 epochs, 125 images, 20 % wrong labels: "
        "+3.1 points (99.8 % CI 2.0 to 4.2, n = 8 chains)."
    )
    assert said.endswith("The assistant: none of 4 places has been run.")
    cells = map_chart.map_cells(regimes())
    assert list(cells["first"])[:4] == ["■ 0.0", "▲ +3.1", "● +0.4", "–"]
    assert "n = 8 chains a place; marks at 99.8 % CI" in map_chart.map_caption(cells, "gap")
    assert "1 place not run" in map_chart.alt_regimes(cells, "gap") and "+3.1 points" in map_chart.alt_regimes(
        cells, "gap"
    )
    assert "no place has been run" in map_chart.alt_regimes(cells, "assistant")


def test_every_claim_has_what_the_page_shows() -> None:
    for claim in CLAIMS.values():
        assert isinstance(claim, Claim) and claim.published and claim.rule and claim.trials


def test_the_best_or_weakest_of_several_is_named() -> None:
    """The number alone does not say which smaller teacher it belongs to."""
    said = words.finding_sentence(finding(around(0.018, 0.01), pair="kd 16>8 against kd 256>8"))
    assert "kd 16>8 against kd 256>8" in said
    assert "()" not in words.finding_sentence(GOOD)


def test_the_first_registered_test_that_was_run_leads() -> None:
    exploratory = finding(around(0.05, 0.01), setting="cifar10", registered=False)
    assert row(exploratory, LEFT, GOOD).leading == GOOD
    assert row(LEFT, exploratory).leading == exploratory
    assert row(LEFT).leading == LEFT


def test_what_is_small_says_so() -> None:
    assert words.status_word(finding(around(0.001, 0.001))) == "supported by less than what counts"


def test_what_counts_is_said_in_the_claims_unit() -> None:
    said = {name: words.counts_words(claim) for name, claim in CLAIMS.items()}
    assert said["one-ta"] == "0.3 points" and said["more-tas"] == "0.1 points per further assistant"
    assert said["earlier"] == "0.3 points; the claim turns at \N{MINUS SIGN}0.3"
    assert said["optimism"] == "0.1 points; the claim turns at 0.1"
    assert said["mimic"] == "0.001 nats per doubling" and said["avalanche"] == "0.01 kappa"


def test_how_a_claim_came_out_over_its_settings() -> None:
    assert words.spread_sentence(row(GOOD, BAD, LEFT, replace(GOOD, setting=SETTINGS["cifar10"]))) == (
        "In all: supported in 2 of 3 settings; refuted, the other way round in 1."
    )
    assert words.spread_sentence(row(GOOD, LEFT)) == ""
