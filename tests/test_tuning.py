"""Rate, T and lam: what is said to be the best of a published grid is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tune import GRIDS
from takd.claims.settings import FIRST_FRESH, SETTINGS
from takd.data.catalogue import available_datasets
from takd.presets import PRESETS
from takd.spec import ExperimentSpec
from takd.wiring import schedule_of

TUNING = Path(__file__).parents[1] / "cached_runs" / "tuning"
CHOSEN = {
    "cifar10-plain-standard": SETTINGS["cifar10"].spec,
    "digits-mlp-noise": SETTINGS["digits-noise-tuned"].spec,
    "digits-mlp-clean": SETTINGS["digits-clean-tuned"].spec,
    "cifar100-plain-standard": SETTINGS["cifar100-tuned"].spec,
    "digits-cnn-clean": SETTINGS["digits-cnn-tuned"].spec,
    "cifar10-resnet-4-epochs": SETTINGS["resnet-tuned"].spec,
}


def grid(name: str) -> dict[str, Any]:
    found = json.loads((TUNING / f"{name}.json").read_text())
    assert isinstance(found, dict)
    return found


def test_every_grid_that_is_stored_chooses_something() -> None:
    assert {path.stem for path in TUNING.iterdir()} == set(CHOSEN)


@pytest.mark.parametrize("name", CHOSEN)
def test_settings_are_what_their_grid_chooses(name: str) -> None:
    found, spec, tried = grid(name), CHOSEN[name], GRIDS[name]
    assert {float(rate) for rate in found["rates"]["mean"]} == set(tried.rates)
    pairs = {f"T={t:g} lam={lam:g}" for t in tried.temperatures for lam in tried.lams}
    assert set(found["softening"]["mean"]) == pairs
    for part in ("rates", "softening"):
        mean = found[part]["mean"]
        arms = found[part]["scores"].values()
        assert mean == pytest.approx({cell: sum(arm[cell] for arm in arms) / len(arms) for cell in mean})
        assert str(found[part]["chosen"]) == max(mean, key=mean.__getitem__)
    recipe, _ = schedule_of(spec.student, spec, available_datasets()[spec.dataset])
    assert recipe.lr == float(found["rates"]["chosen"])
    assert f"T={spec.temperature:g} lam={spec.lam:g}" == found["softening"]["chosen"]
    assert found.get("noise", 0.0) == spec.noise


@pytest.mark.parametrize("name", CHOSEN)
def test_no_reported_run_uses_a_seed_of_the_grid(name: str) -> None:
    found = grid(name)
    tuned = set(range(found["seed"], found["seed"] + found.get("seeds", 1)))

    def seeds(spec: ExperimentSpec) -> set[int]:
        return set(range(spec.seed, spec.seed + spec.seeds))

    reported = [*(s.spec for s in SETTINGS.values()), *(p.spec for p in PRESETS.values())]
    assert all(not tuned & seeds(spec) for spec in reported) and FIRST_FRESH not in tuned
