"""The map of where an effect appears: means, seeds and Holm's correction over places, by hand on a made-up store; and
which setting's outcome a claim is known by."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from takd.analysis import regimes
from takd.analysis.claims import Finding, Row
from takd.analysis.statistics import Interval
from takd.claims.claim import Measure, Trial
from takd.claims.library import MAP_SEEDS, Regime, map_arms, map_spec
from takd.claims.settings import SETTINGS
from takd.claims.table import CLAIMS
from takd.data.catalogue import available_datasets
from takd.plan import build_plan
from tests.analysis.fakes import FakeStore

PLACES = (Regime(15, 125, 0.0), Regime(15, 125, 0.2), Regime(60, 500, 0.4), Regime(180, 125, 0.0))
DIRECT, CHAIN, SMALL = (arm.name for arm in map_arms())
WAVE = np.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
# What is added to direct KD from the largest at each seed, in the four places (None: not trained).
GAP = (0.03 + 0.001 * WAVE, 0.004 + 0.005 * WAVE, None, -0.002 + 0.004 * WAVE)
ASSISTANT = (0.001 + 0.0002 * WAVE, -0.02 + 0.002 * WAVE[:5], None, 0.01 + 0.001 * WAVE[:2])


def filled() -> FakeStore:
    dataset, store = available_datasets()["digits"], FakeStore()
    for where, gap, assistant in zip(PLACES, GAP, ASSISTANT, strict=True):
        plan = build_plan(map_spec(where), dataset, map_arms())
        for chain in plan.chains:
            gains = {DIRECT: np.zeros(8), CHAIN: assistant, SMALL: gap}[chain.arm.name]
            at = chain.seed - map_spec(where).seed
            if gains is None or at >= len(gains) or gap is None:
                continue
            for key in chain.keys[:-1]:
                store.finish(plan, key, 0.99)
            store.finish(plan, chain.student, 0.7 + 0.01 * at + float(gains[at]), "live" if at else "cached")
    return store


@pytest.fixture
def frame(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    monkeypatch.setattr(regimes, "REGIMES", PLACES)
    return regimes.regime_frame(available_datasets()["digits"], filled())  # type: ignore[arg-type]


def rows_of(frame: pd.DataFrame, effect: str) -> list[Any]:
    rows = list(frame[frame["effect"] == effect].itertuples())
    assert [Regime(row.epochs, row.images, row.noise) for row in rows] == list(PLACES)
    return rows


def test_every_place_has_its_mean_and_its_seeds(frame: pd.DataFrame) -> None:
    assert len(frame) == 2 * len(PLACES)
    for effect, made in (("gap", GAP), ("assistant", ASSISTANT)):
        for row, values in zip(rows_of(frame, effect), made, strict=True):
            assert row.n == (0 if values is None else len(values))
            if values is None:
                assert row.status == "not run" and math.isnan(row.mean) and pd.isna(row.origin)
            else:
                assert row.mean == pytest.approx(values.mean())
                assert row.origin == "live"  # one of its chains is
                wanted = stats.ttest_1samp(values, 0.0).pvalue if row.n > 2 else math.nan  # two are no test
                assert row.p == pytest.approx(wanted, nan_ok=True)


def test_holm_corrects_over_the_places_of_one_effect(frame: pd.DataFrame) -> None:
    """Four places, of which the one that was not run counts as a test that found nothing."""
    # The smallest is tested at a quarter; the first that is not rejected keeps its level for all that follow.
    levels = {"gap": (0.05 / 4, 0.05 / 3, 0.05 / 3, 0.05 / 3), "assistant": (0.05 / 4, 0.05 / 3, 0.05 / 2, 0.05 / 2)}
    pvalues = {
        effect: [1.0 if v is None or len(v) < 3 else float(stats.ttest_1samp(v, 0.0).pvalue) for v in made]
        for effect, made in (("gap", GAP), ("assistant", ASSISTANT))
    }
    assert pvalues["gap"][0] < 0.05 / 4 and sorted(pvalues["gap"])[1] > 0.05 / 3
    assert pvalues["assistant"][0] < 0.05 / 4 and pvalues["assistant"][0] < pvalues["assistant"][1] < 0.05 / 3
    for effect, made in (("gap", GAP), ("assistant", ASSISTANT)):
        for row, values, level in zip(rows_of(frame, effect), made, levels[effect], strict=True):
            if values is None:
                continue
            assert row.confidence == pytest.approx(1 - level), (effect, row)
            wanted = stats.ttest_1samp(values, 0.0).confidence_interval(1 - level)
            assert (row.low, row.high) == pytest.approx((wanted.low, wanted.high))


def test_the_status_of_a_place_is_read_off_its_interval(frame: pd.DataFrame) -> None:
    said = {effect: [(row.status, row.why) for row in rows_of(frame, effect)] for effect in regimes.EFFECTS}
    assert said["gap"][0] == ("supported", "")
    assert [status for status, _ in said["gap"][1:]] == ["undecided", "not run", "undecided"]
    assert said["assistant"][0] == ("supported", "by less than what counts")
    assert said["assistant"][1] == ("refuted", "the other way round")
    assert [status for status, _ in said["assistant"][2:]] == ["not run", "undecided"]  # two seeds decide nothing


def test_a_place_that_is_a_setting_of_the_claims_is_the_same_trainings() -> None:
    dataset, setting = available_datasets()["digits"], SETTINGS["digits-noise"]
    here = build_plan(map_spec(Regime(60, 500, 0.2)), dataset, map_arms()).stages
    claims = build_plan(replace(setting.spec, seeds=MAP_SEEDS), dataset, map_arms()).stages
    assert set(here) == set(claims)
    assert not set(here) & set(build_plan(map_spec(Regime(15, 500, 0.2)), dataset, map_arms()).stages)


def finding(setting: str, status: Any, n: int, variant: str = "") -> Finding:
    measure, nothing = Measure("effect", ()), float("nan")
    return Finding(
        "one-ta", SETTINGS[setting], Trial(setting, lambda _: measure, variant=variant), measure,
        pd.Series(dtype=float), "", Interval(n, nothing, nothing, nothing, nothing), status, nothing, nothing, None,
        "", None, 0,
    )  # fmt: skip


def test_a_claim_is_known_by_the_first_setting_that_was_run() -> None:
    first, variant = finding("cifar10", "not run", 0), finding("digits-noise", "supported", 9, "a variant")
    second, third = finding("digits-noise", "undecided", 2), finding("digits-clean", "refuted", 30)
    claim = CLAIMS["one-ta"]
    row = Row(claim, (first, variant, second, third))
    assert row.status == "undecided"  # a variant never decides, and a clearer outcome does not come first
    assert (row.elsewhere, row.variants) == ((second, third), (variant,))
    assert Row(claim, (first, second, third)[::-1]).status == "refuted"
    assert Row(claim, (first, variant)).status == Row(claim, ()).status == "not run"
