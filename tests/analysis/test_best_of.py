"""The expected best of several equal trainings, by hand and against draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from takd.analysis.best_of import DRAWS, BestOf, best_above_mean, best_of
from takd.claims.settings import SETTINGS
from takd.data.catalogue import available_datasets
from takd.plan import Arm, build_plan
from takd.presentation.claims.answers import Reader
from takd.presentation.claims.best_words import best_of_sentence
from takd.runs.store import Store

CACHED = Path(__file__).parents[2] / "cached_runs"


def test_the_best_of_two_by_hand() -> None:
    """Of 1, 2, 4: nine pairs, of which five have 4 as the larger, three 2, one 1: 27/9 - 7/3."""
    assert best_above_mean([4.0, 1.0, 2.0], 2) == pytest.approx(27 / 9 - 7 / 3)
    assert best_above_mean([4.0, 1.0, 2.0], 1) == pytest.approx(0.0)
    assert best_above_mean([0.7], 100) == 0.0


def test_it_is_what_draws_give() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(0.7, 0.01, 30)
    drawn = rng.choice(values, (200_000, 5)).max(1) - values.mean()
    assert best_above_mean(list(values), 5) == pytest.approx(drawn.mean(), abs=4 * drawn.std() / 200_000**0.5)
    assert best_above_mean(list(values), 10_000) == pytest.approx(values.max() - values.mean())


@pytest.mark.parametrize(("values", "n"), [([], 3), ([1.0], 0)])
def test_what_makes_no_sense_is_refused(values: list[float], n: int) -> None:
    with pytest.raises(ValueError, match="needed"):
        best_above_mean(values, n)


def test_the_stored_students_of_direct_kd_are_what_is_drawn_from(tmp_path: Path) -> None:
    store, datasets = Store(tmp_path, [CACHED]), available_datasets()
    found = {one.setting.name: one for one in best_of(store, datasets, Reader(store))}
    assert "cifar10" not in found  # five are too few
    setting = SETTINGS["digits-noise-tuned"]
    arm = Arm("kd", (setting.teacher, setting.student))
    plan = build_plan(setting.spec, datasets["digits"], (arm,))
    accuracies = np.sort([(store.result(chain.student) or {})["test_acc"] for chain in plan.chains_of(arm)])
    one = found[setting.name]
    assert one.stored == len(accuracies) == 30 and tuple(one.above) == DRAWS
    share = np.arange(31) / 30
    for n, above in one.above.items():
        assert above == pytest.approx((accuracies * np.diff(share**n)).sum() - accuracies.mean())
    text = best_of_sentence([one])
    assert f"{setting.short} (30 stored) +{100 * one.above[5]:.1f} for the best of 5" in text
    assert best_of_sentence([]) == ""


def test_of_more_draws_the_best_is_better() -> None:
    one = BestOf(SETTINGS["digits-noise"], 30, {n: best_above_mean(list(np.linspace(0, 1, 30)), n) for n in DRAWS})
    assert sorted(one.above.values()) == list(one.above.values())
