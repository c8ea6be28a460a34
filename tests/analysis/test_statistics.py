"""Golden values from textbooks and by hand, and the promised error rates on simulated seeds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from takd.analysis.statistics import Interval, holm, seeds_needed, sign_flip_p, spearman, t_interval


def test_interval_by_hand() -> None:
    # 1..5: mean 3, sd sqrt(2.5), t(4, 97.5 %) = 2.776445 in every printed table; half = t * sqrt(2.5 / 5).
    interval = t_interval([1, 2, 3, 4, 5])
    assert (interval.n, interval.mean) == (5, 3.0)
    assert interval.half == pytest.approx(2.776445 * math.sqrt(0.5), abs=1e-6)
    assert (interval.low, interval.high) == pytest.approx((3 - interval.half, 3 + interval.half))


def test_interval_on_students_own_sleep_data() -> None:
    # Student (1908): extra sleep, paired differences of ten patients; mean 1.58, 95 % interval 0.70 to 2.46.
    interval = t_interval([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert interval.mean == pytest.approx(1.58)
    assert (interval.low, interval.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)


def test_interval_confidence_is_used() -> None:
    # t(2) has a closed form: quantile(p) = (2p - 1) * sqrt(2 / (4 p (1 - p))).
    p = 0.995
    t = (2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p)))
    assert t_interval([0, 1, 2], 0.99).half == pytest.approx(t / math.sqrt(3))


@pytest.mark.parametrize(("values", "mean"), [([], math.nan), ([0.5], 0.5)])
def test_interval_of_less_than_two(values: list[float], mean: float) -> None:
    interval = t_interval(values)
    assert interval.n == len(values)
    assert interval.mean == pytest.approx(mean, nan_ok=True)
    assert all(math.isnan(x) for x in (interval.low, interval.high, interval.half))


def test_float32_input_is_computed_in_float64() -> None:
    values = np.array([0.8501, 0.8502, 0.8504], dtype=np.float32)
    assert t_interval(values) == t_interval(values.astype(np.float64))


@pytest.mark.parametrize("function", [t_interval, sign_flip_p, seeds_needed])
def test_missing_values_are_refused(function) -> None:
    with pytest.raises(ValueError, match="finite"):
        function([0.1, math.nan, 0.2])


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3, 4, 5], 2 / 32),
        ([-1, -2, -3, -4, -5], 2 / 32),
        ([0.1], 1.0),
        ([1, 1, 1], 2 / 8),
        ([1, 2, -3], 1.0),  # the sum is 0: nothing is less extreme
        ([1, 2, -1], 6 / 8),  # |sum| = 2; of 1, 2, 1 with signs: 4, 2, 2, 0 and their mirrors
        ([0, 0, 0], 1.0),
        ([0.1, 0.2, -0.3 + 0.6], 2 / 8),
    ],
)
def test_sign_flip_by_hand(differences: list[float], p: float) -> None:
    assert sign_flip_p(differences) == p


def test_sign_flip_ties_survive_rounding() -> None:
    # In exact arithmetic all orders of these give |sum| = 0.6 for many patterns; scaling must not change p.
    whole = np.array([1, 2, 3, -1, 4, -3])
    assert sign_flip_p(whole * 0.1) == sign_flip_p(whole)


def test_sign_flip_against_plain_enumeration() -> None:
    d = np.random.default_rng(3).normal(0.4, 1, 9)
    sums = [abs(np.dot(signs, d)) for signs in itertools.product((-1, 1), repeat=9)]
    assert sign_flip_p(d) == np.mean(np.array(sums) >= abs(d.sum()) - 1e-9)


def test_sign_flip_monte_carlo_agrees_with_the_normal_limit_and_repeats() -> None:
    # 60 differences of size 1, 40 up: the number of ups is Binomial(60, 1/2); P(>= 40 or <= 20) = 0.01349.
    d = np.array([1.0] * 40 + [-1.0] * 20)
    exact = sum(math.comb(60, i) for i in range(60 + 1) if abs(i - 30) >= 10) / 2**60
    assert sign_flip_p(d) == pytest.approx(exact, abs=4 * math.sqrt(exact / 100_000))
    assert sign_flip_p(d) == sign_flip_p(d)
    assert sign_flip_p(np.ones(100)) == pytest.approx(1 / 100_001)


def test_sign_flip_of_nothing() -> None:
    assert math.isnan(sign_flip_p([]))


def test_holm_textbook() -> None:
    # Wikipedia's and many textbooks' example at alpha 0.05: H1 and H4 are rejected, H2 and H3 are not.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_caps_keeps_order_and_skips_missing() -> None:
    assert holm([0.9, math.nan, 0.6]) == pytest.approx([1.0, math.nan, 1.0], nan_ok=True)
    assert holm([0.02, 0.011, 0.012]) == pytest.approx([0.033, 0.033, 0.033])  # 3 x 0.011 carries down
    assert holm([]) == []


def test_seeds_needed_is_the_least_number_that_reaches_the_margin() -> None:
    rng = np.random.default_rng(0)
    for sd in (0.001, 0.004, 0.01, 0.03):
        d = rng.normal(0, sd, 5)
        d = (d - d.mean()) / d.std(ddof=1) * sd
        n = seeds_needed(d, 0.005)
        assert n is not None

        def half(n: int, sd: float = sd) -> float:
            unit = t_interval(np.arange(n))  # only its t is used: half / (sd / sqrt n)
            return unit.half / np.arange(n).std(ddof=1) * sd

        assert half(n) <= 0.005 * (1 + 1e-9)
        assert n == 3 or half(n - 1) > 0.005


def test_seeds_needed_golden_and_limits() -> None:
    # sd = 2 margins: 18 seeds need t(17) = 2.1098, (2.1098 * 2)^2 = 17.8; 17 would need (2.1199 * 2)^2 = 17.98.
    d = np.array([-1.0, 0.0, 1.0]) * 0.01
    assert seeds_needed(d, 0.005) == 18
    assert seeds_needed([0.1], 0.005) is None
    assert seeds_needed(d, 0.0) is None
    assert seeds_needed([0.01, 0.01, 0.01], 0.005) == 3


def test_spearman() -> None:
    # Ranks 1 2 3 4 5 against 2 1 4 3 5: 1 - 6 * 4 / (5 * 24) = 0.8.
    assert spearman([1, 2, 3, 4, 5], [20, 10, 40, 30, 50]) == pytest.approx(0.8)
    assert math.isnan(spearman([1, 2], [1, 2]))
    assert math.isnan(spearman([1, 2, 3], [1, 1, 1]))
    assert math.isnan(spearman([1, 2, 3], [1, math.nan, 2]))


@pytest.mark.parametrize("n", [3, 5, 8])
def test_coverage_of_the_interval(n: int) -> None:
    draws = np.random.default_rng(n).normal(0.3, 1.7, (4000, n))
    intervals: list[Interval] = [t_interval(row) for row in draws]
    coverage = np.mean([i.low <= 0.3 <= i.high for i in intervals])
    assert 0.93 <= coverage <= 0.97


def test_sign_flip_holds_its_level() -> None:
    rng = np.random.default_rng(5)
    p = np.array([sign_flip_p(row) for row in rng.normal(0, 1, (3000, 7))])
    # Under no effect every sign pattern is equally likely: P(p <= 6/128) is exactly 6/128 = 0.047.
    assert np.mean(p <= 6 / 128 + 1e-9) == pytest.approx(6 / 128, abs=0.013)
