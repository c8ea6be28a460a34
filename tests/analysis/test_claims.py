"""The statistics of the board on simulated truths, and each kind of measure on values worked out by hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from takd.analysis import claims as board_module
from takd.analysis.claims import board, holm_levels, judged, settling_half, t_test
from takd.analysis.contrasts import Sample, interval_of, p_of, plans_of, sample, slopes
from takd.analysis.statistics import holm, t_interval
from takd.claims.amendments import AMENDMENTS
from takd.claims.claim import KINDS, VALUES, Effect, Line, Measure, Trial, exploratory, withdrawn
from takd.claims.measures import one_assistant
from takd.claims.settings import SETTINGS
from takd.claims.table import CLAIMS, find_claim
from takd.data.catalogue import available_datasets
from takd.plan import Arm

PLAIN = Measure("effect", ())
MARGIN = PLAIN.margin
RNG = np.random.default_rng


def several(values: np.ndarray) -> Sample:
    """(seeds,) or (seeds, a, b) differences."""
    table = values if values.ndim == 3 else values[:, None, None]
    return Sample(tuple(range(len(table))), table, tuple(("",) * table.shape[2] for _ in range(table.shape[1])))


def status_of(values: np.ndarray, level: float = 0.05, measure: Measure = PLAIN) -> tuple[str, str]:
    found = several(values)
    return judged(measure, found, interval_of(found, level))


@pytest.mark.parametrize(
    ("mean", "spread", "status", "why"),
    [
        (0.010, 0.001, "supported", ""),
        (0.001, 0.0001, "supported", "by less than what counts"),  # small, but certainly there
        (-0.010, 0.001, "refuted", "the other way round"),
        (-0.001, 0.0001, "refuted", "no difference that counts"),
        (0.0, 0.001, "refuted", "no difference that counts"),
        (0.002, 0.01, "undecided", ""),
        (0.003, 0.003, "undecided", ""),
    ],
)
def test_a_status_follows_from_where_the_interval_lies(mean: float, spread: float, status: str, why: str) -> None:
    values = mean + spread * np.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    assert status_of(values) == (status, why)


def test_fewer_than_three_seeds_decide_nothing() -> None:
    assert status_of(np.array([])) == ("not run", "")
    assert status_of(np.array([0.5])) == ("undecided", "")
    assert status_of(np.array([0.5, 0.5])) == ("undecided", "")
    assert status_of(np.array([0.5, 0.5, 0.5001]))[0] == "supported"


def test_no_worse_than_turns_at_minus_the_margin() -> None:
    measure = Measure("effect", (), turn=-MARGIN)
    tight = 0.0002 * np.array([-1.0, 1.0, -1.0, 1.0])
    assert status_of(tight, measure=measure)[0] == "supported"
    assert status_of(tight - 0.002, measure=measure)[0] == "supported"
    assert status_of(tight - 0.005, measure=measure)[0] == "refuted"
    assert status_of(20 * tight - 0.003, measure=measure)[0] == "undecided"


def test_a_claim_of_what_counts_turns_there() -> None:
    measure = Measure("effect", (), margin=0.001, turn=0.001)
    tight = 0.0002 * np.array([-1.0, 1.0, -1.0, 1.0])
    assert status_of(tight + 0.002, measure=measure) == ("supported", "")
    assert status_of(tight + 0.0005, measure=measure) == ("refuted", "no difference that counts")
    assert status_of(5 * tight + 0.001, measure=measure) == ("undecided", "")


@pytest.mark.parametrize(
    ("mean", "turn", "half"),
    [
        (0.002, 0.0, 0.002),  # to leave zero out
        (0.0005, 0.0, 0.0025),  # to lie within the margin
        (-0.002, 0.0, 0.002),
        (-0.001, -0.003, 0.002),
        (0.0012, 0.001, 0.0002),
    ],
)
def test_what_would_settle_it(mean: float, turn: float, half: float) -> None:
    assert settling_half(Measure("effect", (), turn=turn), mean) == pytest.approx(half)


def test_the_larger_of_two_effects_whichever_way_they_go() -> None:
    measure = CLAIMS["reduction"].trials[1].measure(SETTINGS["digits-noise"])
    (up, down), (tilt, back) = measure.effects, measure.others
    step, balance = np.array([-4.0, -4.1, -3.9]), np.array([0.5, 0.4, 0.6])
    of = {up: step, down: -step, tilt: balance, back: -balance}
    values = np.stack([[of[a] - of[b] for b in measure.others] for a in measure.effects]).transpose(2, 0, 1)
    found = Sample((0, 1, 2), values, (("", ""), ("", "")))
    assert [[weight for weight, _ in effect] for effect in (up, tilt)] == [[1.0, -1.0], [1.0, -1.0]]
    assert interval_of(found).mean == pytest.approx(3.5)  # |-4| - |0.5|


def test_nobody_had_seen_what_is_called_registered() -> None:
    for claim in CLAIMS.values():
        for trial in claim.trials:
            assert not (trial.registered and trial.setting == "cifar10"), claim.name
    late = [
        (name, setting)
        for row in AMENDMENTS
        if not row.before_runs
        for name in row.claims
        for setting in row.settings or ("",)
    ]
    everywhere = {name for name, setting in late if not setting}
    assert everywhere == {"rivals", "flatness", "reduction", "optimism"}  # rules that came or changed after results
    for name, setting in late:
        known = [trial for trial in CLAIMS[name].trials if setting in ("", trial.setting)]
        assert known, (name, setting)
        assert not any(trial.registered for trial in known), (name, setting)


def test_two_rules_that_name_the_same_assistant_say_nothing() -> None:
    status, why = status_of(np.zeros(10), measure=Measure("midpoint", ()))
    assert (status, bool(why)) == ("undecided", True)
    assert status_of(np.zeros(10))[0] == "refuted"  # any other difference that is always nought is none


# Simulated truths. Rates are held to what the theory promises, within four standard errors of the simulation.

RUNS = 1500


def rate(effect: float, spread: float, n: int, wanted: str, level: float = 0.05, why: str | None = None) -> float:
    rng = RNG(7)
    hits = 0
    for _ in range(RUNS):
        found = status_of(effect + spread * rng.standard_normal(n), level)
        hits += found[0] == wanted and why in (None, found[1])
    return hits / RUNS


def near(promised: float) -> Any:
    return pytest.approx(promised, abs=4 * math.sqrt(max(promised * (1 - promised), 0.002) / RUNS))


@pytest.mark.parametrize(("effect", "n"), [(0.004, 10), (0.006, 10), (0.004, 30)])
def test_a_true_effect_is_found_as_often_as_promised(effect: float, n: int) -> None:
    spread = 0.008
    turn = stats.t.ppf(0.975, n - 1)
    promised = float(stats.nct.sf(turn, n - 1, effect / spread * math.sqrt(n)))
    assert rate(effect, spread, n, "supported") == near(promised)


@pytest.mark.parametrize("n", [5, 30])
def test_no_effect_is_called_one_as_often_as_promised(n: int) -> None:
    assert rate(0.0, 0.008, n, "supported") == near(0.025)
    assert rate(0.0, 0.008, n, "refuted", why="the other way round") == near(0.025)


def promises(spread: float, n: int, effect: float = 0.0) -> dict[str, float]:
    """How often each word has to be said of an effect, integrated over the sample's standard deviation. With half width
    h "no difference" needs a mean from h - margin to the smaller of h and margin - h; above h it is supported."""
    error, turn = spread / math.sqrt(n), stats.t.ppf(0.975, n - 1)
    share = (np.arange(20_000) + 0.5) / 20_000
    half = turn * error * np.sqrt(stats.chi2.ppf(share, n - 1) / (n - 1))

    def below(mean: np.ndarray) -> np.ndarray:
        return stats.norm.cdf((mean - effect) / error)  # type: ignore[no-any-return]

    none = np.clip(below(np.minimum(half, MARGIN - half)) - below(half - MARGIN), 0, None)
    found = {
        "supported": float(np.mean(1 - below(half))),
        "no difference that counts": float(np.mean(none)),
        "the other way round": float(np.mean(below(np.minimum(-half, half - MARGIN)))),
    }
    return {**found, "undecided": 1 - sum(found.values())}


@pytest.mark.parametrize(
    ("effect", "spread", "n"),
    [(0.0, 0.004, 100), (0.0, 0.008, 30), (0.0, 0.006, 30), (0.0, 0.02, 5), (0.0, 0.003, 5), (MARGIN, 0.004, 100)],
)
def test_every_word_is_said_as_often_as_promised(effect: float, spread: float, n: int) -> None:
    want = promises(spread, n, effect)
    for why in ("no difference that counts", "the other way round"):
        assert rate(effect, spread, n, "refuted", why=why) == near(want[why])
    assert rate(effect, spread, n, "supported") == near(want["supported"])
    assert rate(effect, spread, n, "undecided") == near(want["undecided"])


def test_those_rates_are_what_the_rule_means() -> None:
    """No effect is mostly called none where seeds suffice and left open where they do not; one as large as the margin
    is called none hardly ever."""
    assert promises(0.004, 100)["no difference that counts"] > 0.9
    assert promises(0.02, 5)["undecided"] > 0.9
    assert promises(0.004, 100, MARGIN)["no difference that counts"] <= 0.025


def test_within_a_family_false_findings_stay_below_five_percent_and_true_ones_are_found() -> None:
    rng = RNG(11)
    false = found = 0
    for _ in range(RUNS):
        null = rng.standard_normal((4, 12)) * 0.008
        real = 0.02 + rng.standard_normal((1, 12)) * 0.008
        samples = np.concatenate([null, real])
        levels = holm_levels([t_test(several(values), PLAIN) for values in samples])
        said = [status_of(values, level) for values, level in zip(samples, levels, strict=True)]
        false += any(word[0] == "supported" or word[1] == "the other way round" for word in said[:4])
        found += said[4][0] == "supported"
    assert false / RUNS <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / RUNS)
    assert found / RUNS > 0.99


def test_an_interval_at_holms_level_leaves_out_zero_exactly_where_holm_rejects() -> None:
    rng = RNG(3)
    for _ in range(200):
        samples = rng.standard_normal((5, 6)) + rng.uniform(-2, 2, (5, 1))
        pvalues = [t_test(several(values), PLAIN) for values in samples]
        for values, level, adjusted in zip(samples, holm_levels(pvalues), holm(pvalues), strict=True):
            interval = t_interval(values, 1 - level)
            assert (interval.low > 0 or interval.high < 0) == (adjusted <= 0.05)


def test_holms_levels_by_hand() -> None:
    assert holm_levels([0.04, 0.001, 0.02]) == pytest.approx([0.05, 0.05 / 3, 0.025])
    assert holm_levels([0.5, 0.001, 0.04]) == pytest.approx([0.025, 0.05 / 3, 0.025])
    assert holm_levels([]) == []


# The best or weakest of several


def test_one_pair_has_students_interval_and_p() -> None:
    values = RNG(1).standard_normal(7) + 0.4
    found, wanted = several(values), t_interval(values, 0.9)
    mine = interval_of(found, 0.1)
    assert (mine.n, mine.confidence) == (7, pytest.approx(0.9))
    assert (mine.mean, mine.low, mine.high) == pytest.approx((wanted.mean, wanted.low, wanted.high))
    assert p_of(found) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)
    assert p_of(found, -0.2) == pytest.approx(stats.ttest_1samp(values, -0.2).pvalue)


def test_the_interval_of_several_pairs_by_hand() -> None:
    """Two a, three b, worked out pair by pair with SciPy: L at alpha / 2, U at alpha / 3."""
    values = RNG(2).standard_normal((6, 2, 3)) + np.array([[1.0, 2.0, 0.0], [0.5, 0.7, 0.9]])
    found = interval_of(several(values), 0.06)

    def end(a: int, b: int, level: float, which: int) -> float:
        return float(stats.ttest_1samp(values[:, a, b], 0.0).confidence_interval(1 - level)[which])

    assert found.low == pytest.approx(max(min(end(a, b, 0.03, 0) for b in range(3)) for a in range(2)))
    assert found.high == pytest.approx(max(min(end(a, b, 0.02, 1) for b in range(3)) for a in range(2)))
    means = values.mean(axis=0)
    assert found.mean == pytest.approx(means.min(axis=1).max())
    a, b = several(values).pair
    assert means[a, b] == found.mean
    assert found.low < found.mean < found.high


def test_p_is_the_level_at_which_the_interval_touches_the_turn() -> None:
    rng = RNG(4)
    for shape in ((5, 1, 1), (8, 3, 1), (8, 1, 4), (6, 3, 2)):
        for shift in (-1.0, 0.3, 1.0):
            found = several(rng.standard_normal(shape) + shift)
            p = p_of(found, 0.1)
            if p < 1:
                inside, outside = interval_of(found, p * 0.999), interval_of(found, min(p * 1.001, 1.0))
                assert inside.low <= 0.1 <= inside.high
                assert not outside.low <= 0.1 <= outside.high


@pytest.mark.parametrize("shape", [(4, 1), (1, 4), (3, 3)])
@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_best_and_weakest_of_equal_ones_are_found_different_in_five_percent_at_most(
    shape: tuple[int, int], shared: float
) -> None:
    """`shared`: how far the arms of one seed go together. A plain interval of the best would err far more often."""
    rng = RNG(8)
    wrong = plain = 0
    for _ in range(RUNS):
        noise = rng.standard_normal((10, *shape)) * math.sqrt(1 - shared**2) + shared * rng.standard_normal((10, 1, 1))
        found = several(noise)
        interval = interval_of(found)
        wrong += interval.low > 0 or interval.high < 0
        unaware = t_interval(found.series().to_numpy())
        plain += unaware.low > 0 or unaware.high < 0
    assert wrong / RUNS <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / RUNS)
    if not shared and 1 in shape:
        assert plain / RUNS > 0.06


def test_a_best_one_that_is_better_is_found() -> None:
    rng = RNG(9)
    truth = np.array([0.0, 0.01, 0.02])[:, None]
    said = [status_of(truth + 0.01 * rng.standard_normal((20, 3, 1)))[0] for _ in range(300)]
    assert said.count("supported") > 290


def test_slopes_by_hand() -> None:
    assert slopes(np.array([1.0, 2.0, 4.0]), np.array([[2.0, 4.0, 8.0], [5.0, 5.0, 5.0]])) == pytest.approx([2.0, 0.0])


# Measures


class Values:
    """Readings with given values: {(arm name, value): {seed: number}}."""

    def __init__(self, known: Mapping[tuple[str, str], Mapping[int, float]], plans: Any = ()) -> None:
        self.known, self.plans = known, plans

    def of(self, line: Line, value: str = "") -> dict[int, float]:
        return dict(self.known.get((line.arm.name, value or line.value), {}))


def line(*path: str, method: str = "") -> Line:
    return Line(Arm(method or ("scratch" if len(path) == 1 else "kd" if len(path) == 2 else "takd"), path))


A, B, C = line("mlp-256", "mlp-8"), line("mlp-16", "mlp-8"), line("mlp-256", "mlp-16", "mlp-8")


def one(found: Line) -> Effect:
    return ((1.0, found),)


def test_only_seeds_at_which_everything_is_finished_count() -> None:
    direct, chain = (A.arm.name, "test_acc"), (C.arm.name, "test_acc")
    values = Values({direct: {0: 0.5, 1: 0.6, 2: 0.7}, chain: {1: 0.65, 2: 0.7, 5: 1.0}})
    found = sample(Measure("effect", (((1.0, C), (-1.0, A)),)), values)  # type: ignore[arg-type]
    assert found.seeds == (1, 2)
    assert found.series().tolist() == pytest.approx([0.05, 0.0])


def test_the_best_of_one_group_against_the_best_of_another_and_the_weakest() -> None:
    known = {
        (A.arm.name, "test_acc"): {0: 0.5, 1: 0.5},
        (B.arm.name, "test_acc"): {0: 0.6, 1: 0.7},
        (C.arm.name, "test_acc"): {0: 0.9, 1: 0.3},
    }
    found = sample(Measure("best against best", (one(B), one(C)), (one(A),)), Values(known))  # type: ignore[arg-type]
    assert found.values[:, :, 0].tolist() == [pytest.approx([0.1, 0.4]), pytest.approx([0.2, -0.2])]
    assert (found.pair, found.name) == ((0, 0), "kd 16>8 against kd 256>8")
    weakest = sample(Measure("least", (one(A), one(B), one(C))), Values(known))  # type: ignore[arg-type]
    assert weakest.values.shape == (2, 1, 3)
    assert (weakest.pair, weakest.name) == ((0, 0), "kd 256>8")


def test_a_slope_over_sizes() -> None:
    known = {(A.arm.name, "test_acc"): {0: 0.5, 1: 0.4}, (B.arm.name, "test_acc"): {0: 0.3, 1: 0.4}}
    measure = Measure("slope", (one(A), one(B)), x=(3.0, 1.0))
    assert sample(measure, Values(known)).series().tolist() == pytest.approx([0.1, 0.0])  # type: ignore[arg-type]


def test_a_measure_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not a kind"):
        sample(Measure("guess", (one(A),)), Values({}))  # type: ignore[arg-type]


# The table


def test_all_claims_of_the_reference_are_there_and_well_formed() -> None:
    assert [claim.number for claim in CLAIMS.values()] == list(range(1, 26))
    for claim in CLAIMS.values():
        assert claim.trials and not claim.trials[0].variant, f"the first trial of {claim.name} decides"
        for trial in claim.trials:
            measure = trial.measure(SETTINGS[trial.setting])
            assert measure.kind in KINDS
            assert measure.effects
            assert {read.value for read in measure.lines()} <= set(VALUES)
            # Weights of accuracies add up to zero, so that a difference is a difference (a slope's constant drops out).
            if measure.kind in ("effect", "least") and measure.unit == "points":
                assert all(sum(w for w, _ in effect) == pytest.approx(0.0) for effect in measure.effects), claim.name
    assert find_claim("4") is find_claim("one-ta") is CLAIMS["one-ta"]
    assert find_claim("26") is None
    assert find_claim("²") is None


class Stored:
    """A store in which every stage is finished with an accuracy drawn from its key and a `salt`, plus what `gain` adds
    to it."""

    def __init__(self, gain: Any = lambda key: 0.0, salt: int = 0) -> None:
        self.gain, self.salt = gain, salt

    def result(self, key: str) -> dict[str, Any]:
        rng = RNG(int(key[:12], 16) + self.salt)
        accuracy = 0.7 + 0.01 * float(rng.standard_normal()) + self.gain(key)
        row: dict[str, Any] = {"test_acc": accuracy, "val_acc": accuracy, "entropy": 0.5}
        row["env"] = {"precision": "bf16" if self.gain(key) else "fp32"}
        return row | {"parts": [row] * 8, "selected_on_test": {"last_test_acc": accuracy}}

    def read_events(self, key: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        return [{"loss_kl": 0.1}], 0

    def origin(self, key: str) -> str:
        return "live"


class Nothing:
    """No answers, and no looks but those of chance."""

    def wrong(self, plan: Any, key: str) -> None:
        return None

    def rise(self, key: str) -> float:
        return float(RNG(int(key[12:24], 16)).standard_normal())


NOTHING_BESIDE = Nothing()


def test_boards_of_noise_support_no_more_than_promised_and_an_empty_one_says_so() -> None:
    """All arms are equal in truth. "No worse than" is true then; everything else that is called supported is false.
    Each topic in each setting has one false finding in 5 % of boards, half of them on the side that supports."""
    datasets, boards = available_datasets(), 4
    false: list[tuple[str, str]] = []
    for salt in range(boards):
        rows = board(Stored(salt=salt << 48), datasets, NOTHING_BESIDE)  # type: ignore[arg-type]
        registered = [found for row in rows for found in row.findings if found.trial.registered and found.interval.n]
        families = {(CLAIMS[found.claim].family, found.setting.name) for found in registered}
        said = [found for found in registered if found.status == "supported" and not found.measure.turn]
        false += [(CLAIMS[found.claim].family, found.setting.name) for found in said]
        open_ = [found for found in registered if found.status == "undecided" and not found.why]
        assert all(found.seeds_needed and found.seeds_needed > found.interval.n for found in open_)
    assert len(registered) > 25
    expected = 0.025 * len(families) * boards
    assert len(false) <= expected + 4 * math.sqrt(expected), false

    class Empty(Stored):
        def result(self, key: str) -> None:  # type: ignore[override]
            return None

    assert {row.status for row in board(Empty(), datasets, NOTHING_BESIDE)} == {"not run"}  # type: ignore[arg-type]


def test_teachers_that_differ_are_part_of_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an assistant does depends on the teacher, by two points more or less and zero in the mean: on five chains
    the board calls that an effect in 2.5 % of draws each way. Five students of one teacher would mostly agree."""
    datasets, setting, draws = available_datasets(), SETTINGS["cifar10"], 400
    trial = exploratory("cifar10", one_assistant)
    monkeypatch.setattr(board_module, "CLAIMS", {"one-ta": replace(CLAIMS["one-ta"], trials=(trial,))})
    taught = Line(Arm("takd", (setting.teacher, setting.assistant, setting.student)))
    (plan,) = plans_of(setting, datasets["cifar10"], [taught]).values()
    chains = plan.chains_of(taught.arm)
    assert len({chain.keys[0] for chain in chains}) == len(chains) == 5  # each has a teacher of its own
    said = Counter[str]()
    for draw in range(draws):
        gains = dict(zip((c.student for c in chains), 0.02 * RNG(draw).standard_normal(5), strict=True))
        store = Stored(lambda key, gains=gains: float(gains.get(key, 0.0)), salt=draw)  # type: ignore[misc]
        (row,) = board(store, datasets, NOTHING_BESIDE)  # type: ignore[arg-type]
        said[row.findings[0].why or row.findings[0].status] += 1
    for word in ("supported", "the other way round"):
        assert said[word] / draws == pytest.approx(0.025, abs=4 * math.sqrt(0.025 * 0.975 / draws))
    shared = (0.02 * RNG(k).standard_normal() + 0.002 * RNG(k + draws).standard_normal(5) for k in range(draws))
    assert sum(status_of(values)[0] != "undecided" for values in shared) > 0.75 * draws


def test_an_effect_that_is_there_reaches_the_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chain through one assistant gains two points; the claim about one assistant is supported, with its n."""
    datasets = available_datasets()
    only = {"one-ta": CLAIMS["one-ta"]}
    monkeypatch.setattr(board_module, "CLAIMS", only)
    setting = SETTINGS["digits-noise"]
    taught = Line(Arm("takd", (setting.teacher, setting.assistant, setting.student)))
    (plan,) = plans_of(setting, datasets["digits"], [taught]).values()
    students = {chain.student for chain in plan.chains}
    (row,) = board(Stored(lambda key: 0.02 * (key in students)), datasets, NOTHING_BESIDE)  # type: ignore[arg-type]
    finding = next(f for f in row.findings if f.setting is setting and f.decides)
    assert (finding.status, finding.interval.n, finding.origin) == ("supported", 30, "live")
    assert finding.interval.mean == pytest.approx(0.02, abs=0.008)
    assert finding.precisions == ("bf16", "fp32")


def test_exploratory_trials_are_corrected_for_all_of_their_topic() -> None:
    claim = CLAIMS["one-ta"]
    registered, seen = Trial("digits-noise", lambda _: PLAIN), exploratory("digits-noise", lambda _: PLAIN, "seen")
    trials = [(claim, registered), (claim, seen)]
    values = {("one-ta", trial): several(0.01 + 0.001 * np.array([-1.0, 1.0, -1.0, 1.0])) for _, trial in trials}
    measures = {("one-ta", trial): PLAIN for _, trial in trials}
    levels = board_module._levels(trials, measures, values)
    assert levels["one-ta", registered][0] == 0.05  # alone among the registered
    assert levels["one-ta", seen][0] == 0.05  # the second of two, and the first is rejected
    open_ = values | {("one-ta", seen): several(0.01 * np.array([-1.0, 1.0, -1.0, 1.0]))}
    worse = values | {("one-ta", registered): open_["one-ta", seen]}
    assert board_module._levels(trials, measures, worse)["one-ta", seen][0] == 0.025
    assert board_module._levels(trials, measures, open_)["one-ta", registered][0] == 0.05
    left = withdrawn("digits-noise", lambda _: PLAIN)  # its runs were made beside the registered one's
    both = {("one-ta", trial): PLAIN for trial in (registered, left)}
    nothing = {("one-ta", registered): values["one-ta", registered], ("one-ta", left): open_["one-ta", seen]}
    assert board_module._levels([(claim, registered), (claim, left)], both, nothing)["one-ta", registered][0] == 0.025


def test_a_trial_that_was_not_run_counts_as_one_that_found_nothing() -> None:
    claim = CLAIMS["one-ta"]
    run, left = (Trial("digits-noise", lambda _: PLAIN, variant=name) for name in ("", "not run"))
    values = {
        ("one-ta", run): several(0.01 + 0.001 * np.array([-1.0, 1.0, -1.0, 1.0])),
        ("one-ta", left): several(np.empty(0)),
    }
    levels = board_module._levels([(claim, run), (claim, left)], dict.fromkeys(values, PLAIN), values)
    assert levels["one-ta", run][0] == 0.025  # one of two, whatever came of the other
    assert levels["one-ta", left] == (0.05, 1.0)


def test_what_an_open_test_needs_is_worked_out_from_its_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a point with an sd of 2.11 points (ten seeds, one above and one below): (t * 2.11 / 0.5)**2 chains at 95 %,
    by hand 71: t(70) = 1.9944, (1.9944 * 4.216)**2 = 70.7."""
    claim, setting = CLAIMS["one-ta"], SETTINGS["digits-noise"]
    values = 0.005 + 0.02 * np.tile([1.0, -1.0], 5)
    found = board_module._finding(claim, claim.trials[3], setting, PLAIN, several(values), (0.05, math.nan), None)
    assert float(values.std(ddof=1)) == pytest.approx(0.02108, abs=1e-5)
    assert (found.status, found.seeds_needed) == ("undecided", 71)


def test_the_assistant_in_the_middle_is_picked_on_validation_images() -> None:
    """The middle by validation accuracy is mlp-16; by test accuracy it would be mlp-32. By size it is mlp-64: of
    19,210 and 610 parameters the geometric mean is 3,423; 4,810 is 1.41 times that, 2,410 1/1.42."""
    setting = SETTINGS["digits-noise"]
    measure = CLAIMS["midpoint"].trials[-1].measure(setting)
    sizes = [line.arm.path[-1] for line in measure.alone]
    validation = dict(zip(sizes, (0.90, 0.89, 0.88, 0.87, 0.80, 0.70), strict=True))
    test = dict(zip(sizes, (0.90, 0.89, 0.88, 0.80, 0.72, 0.70), strict=True))
    known = {}
    for row in measure.alone:
        known[row.arm.name, "val_acc"] = {0: validation[row.arm.path[-1]]}
        known[row.arm.name, "test_acc"] = {0: test[row.arm.path[-1]]}
    gains = {"mlp-128": 0.1, "mlp-64": 0.2, "mlp-32": 0.3, "mlp-16": 0.5}
    for effect in measure.effects:
        known[effect[0][1].arm.name, "test_acc"] = {0: gains[effect[0][1].arm.path[1]]}
    plans = tuple(plans_of(setting, available_datasets()["digits"], list(measure.lines())).values())
    found = sample(measure, Values(known, plans))  # type: ignore[arg-type]
    assert found.series().tolist() == [pytest.approx(0.5 - 0.2)]
