"""The choice of measurements, on an engine that says how fast it was instead of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from takd.training import calibrate, mlp_batch
from takd.training.mlp_batch import Pupil

CPU = torch.device("cpu")


def engine(monkeypatch: pytest.MonkeyPatch, speed: Callable[[int, int], float]) -> list[int]:
    """Training is replaced: `speed` of (images of the measurement, epoch) is what it says. Returns the measurements'
    images as they come."""
    measured: list[int] = []

    def train_mlps(pupils: Sequence[Pupil], threads: int | None = None) -> None:
        (one,) = pupils
        measured.append(len(one.data.train) * (one.stage.recipe.last - 1))
        one.progress.rows += [
            {"images_per_second": speed(measured[-1], epoch)} for epoch in range(one.stage.recipe.last)
        ]

    monkeypatch.setattr(mlp_batch, "fits", lambda stage, device: True)
    monkeypatch.setattr(mlp_batch, "train_mlps", train_mlps)
    return measured


def test_the_fastest_epoch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    engine(monkeypatch, lambda images, epoch: 50_000.0 if epoch == 2 else 40_000.0)
    assert calibrate.measure("mlp-4", CPU) == 50_000.0


def test_a_measurement_that_was_far_too_short_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = engine(monkeypatch, lambda images, epoch: min(1e6, 100.0 * images))
    assert calibrate.measure("mlp-4", CPU) == 1e6
    assert measured == sorted(measured) and measured[-1] > 1e5


def test_one_measurement_is_enough_where_the_first_was_about_right(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = engine(monkeypatch, lambda images, epoch: 5_000.0 if images > 100 else 4_000.0)
    assert calibrate.measure("mlp-4", CPU) == 5_000.0 and len(measured) == 2


def test_a_slow_network_is_measured_once_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = engine(monkeypatch, lambda images, epoch: 20.0)
    assert calibrate.measure("mlp-4", CPU) == 20.0 and measured == [32]
