"""All trainings as one table, held against the results they come from, and against the board's figures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from takd.analysis.claims import alone
from takd.analysis.trainings import OF_A_PART, trainings_frame
from takd.claims.settings import SETTINGS
from takd.claims.table import CLAIMS
from takd.data.catalogue import available_datasets
from takd.presentation.claims.answers import Reader
from takd.runs.store import Store, open_store


@pytest.fixture(scope="module")
def store() -> Store:
    return open_store(Path("/nowhere"))


@pytest.fixture(scope="module")
def frame(store: Store) -> pd.DataFrame:
    return trainings_frame(store)


def test_every_finished_training_has_one_row_and_its_parts_one_each(store: Store, frame: pd.DataFrame) -> None:
    whole = frame[frame["part"] == ""]
    assert sorted(whole["key"]) == store.stage_keys()
    parts = frame[frame["part"] != ""].groupby("key")["part"].apply(list)
    results = {key: store.result(key) or {} for key in whole["key"]}
    assert parts.to_dict() == {key: [p["name"] for p in r["parts"]] for key, r in results.items() if r.get("parts")}


def test_numbers_and_choices_are_those_of_result_and_stage(store: Store, frame: pd.DataFrame) -> None:
    for row in frame.sample(200, random_state=0).to_dict("records"):
        stage, result = store.stage(row["key"]), store.result(row["key"])
        assert stage is not None and result is not None
        source = next((p for p in result.get("parts", ()) if p["name"] == row["part"]), result)
        for name in OF_A_PART:
            assert row[name] == source[name]
        assert (row["network"], row["seed"], row["noise"]) == (stage.network, stage.seed, stage.data.noise)
        assert row["teacher_keys"].split() == list(stage.teachers)
        if row["part"] == "":
            for number, teacher in enumerate(stage.teachers, 1):
                assert row[f"agreement_{number}"] == result["agreement"][teacher]
                assert row[f"kl_{number}"] == result["kl"][teacher]
            last = f"agreement_{len(stage.teachers) + 1}"
            assert last not in row or pd.isna(row[last])
            assert row["commit"] == result["env"].get("commit") or pd.isna(row["commit"])


def test_a_figure_of_the_board_can_be_worked_out_from_the_table_alone(store: Store, frame: pd.DataFrame) -> None:
    """Claim 4 on noisy tuned digits: one assistant against direct KD, paired by seed."""
    claim, setting = CLAIMS["one-ta"], SETTINGS["digits-noise-tuned"]
    trial = next(trial for trial in claim.trials if trial.setting == setting.name and not trial.variant)
    found, _ = alone(claim, trial, setting, store, available_datasets()["digits"], Reader(store))

    choices = {"dataset": "digits", "noise": 0.2, "lr": 0.01, "loss": "kd", "temperature": 1.0, "lam": 0.5}
    choices |= {"epochs": 60, "options": "", "selection": "", "train_images": 500}
    chosen = frame[(frame[list(choices)] == pd.Series(choices)).all(axis=1) & (frame["seed"] >= setting.spec.seed)]
    paths = ("mlp-256>mlp-16>mlp-8", "mlp-256>mlp-8")
    chain, direct = (chosen[chosen["path"] == path].set_index("seed")["test_acc"] for path in paths)
    gain = (chain - direct).to_numpy()
    assert len(gain) == found.interval.n == 30
    half = stats.t.ppf(0.5 + found.interval.confidence / 2, 29) * gain.std(ddof=1) / 30**0.5
    shown = (found.interval.mean, found.interval.low, found.interval.high)
    assert shown == pytest.approx((gain.mean(), gain.mean() - half, gain.mean() + half), abs=1e-9)


def test_a_store_without_trainings_is_an_empty_table(tmp_path: Path) -> None:
    assert trainings_frame(Store(tmp_path)).empty
