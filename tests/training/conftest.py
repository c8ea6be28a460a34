"""Tiny training problems made from fixed random numbers."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from takd.stage import DataSpec, LossSpec, Recipe, StageSpec
from takd.training.device import Images, TrainingData

torch.set_num_threads(1)


def make_stage(**changes: object) -> StageSpec:
    """A short digits-like stage; changes go to the recipe, or to the stage where the name is one of its fields."""
    recipe = {
        "epochs": 3,
        "batch": 20,
        "lr": 0.05,
        "schedule": "one-cycle",
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "augmentation": "none",
        "precision": "fp32",
    }
    stage: dict[str, object] = {
        "network": "mlp-8",
        "data": DataSpec("digits", "0" * 64, 10, 100, 0.0, 0),
        "loss": LossSpec("ce", None, 0.0),
        "seed": 0,
    }
    for name, value in changes.items():
        (recipe if name in recipe else stage)[name] = value
    return StageSpec(recipe=Recipe(**recipe), **stage)  # type: ignore[arg-type]


@pytest.fixture
def tiny() -> TrainingData:
    """100 training and 40 validation images of 8x8 whose label can be learnt from the pixels."""
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(10, 8, 8, 1, generator=generator)

    def part(count: int) -> Images:
        labels = torch.randint(0, 10, (count,), generator=generator)
        return Images(centres[labels] + 0.5 * torch.randn(count, 8, 8, 1, generator=generator), labels)

    return TrainingData(part(100), part(40), (0.0,), (1.0,), 1.0)


class Compiling:
    """Stands for a module of compiled functions: the first call of each moves a clock on by a minute, as if it were
    compiled then, and nothing else takes any time."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._called, self.seconds = module, set[str](), 0.0
        self.time = SimpleNamespace(perf_counter=self._now)

    def _now(self) -> float:
        self.seconds += 1e-6  # two looks at a clock never show the same
        return self.seconds

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        return self._call(name, found) if callable(found) else found

    def _call(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if name not in self._called:
                self._called.add(name)
                self.seconds += 60.0
            return function(*arguments)

        return call
