"""What a resumed training reads, step by step: the same samples, views, teachers' weights and rates as an uninterrupted
one, and layers that draw the same. (tests/faults/resume.py holds the weights of killed processes to it.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from takd.runs.errors import StageStopped
from takd.stage import LossSpec, StageSpec
from takd.training import loop
from takd.training.device import TrainingData
from takd.training.loop import train
from takd.training.progress import Hooks, Progress
from takd.training.step import Step
from takd.training.streams import initial_network
from tests.training.conftest import make_stage

GATED = LossSpec("dgkd", 2.0, 0.5, (("gate", "bernoulli"),))
Row = tuple[Any, ...]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Everything steps read, in order."""
    rows: list[Row] = []

    class Noted(Step):
        def __call__(self, index: Any, images: Any, labels: Any, rate: Any) -> Any:
            state = self.loss._state  # type: ignore[attr-defined]
            gates = None if state.gates is None else tuple(state.gates.tolist())
            drawn = torch.random.get_rng_state().sum().item()
            rows.append((tuple(index.tolist()), images.clone(), tuple(labels.tolist()), gates, rate, drawn))
            return super().__call__(index, images, labels, rate)

    monkeypatch.setattr(loop, "Step", Noted)
    return rows


def teach(stage: StageSpec, data: TrainingData, stop: Callable[[], bool], progress: Progress) -> None:
    generator = torch.Generator().manual_seed(7)
    answers = torch.randn(2, len(data.train), 10, generator=generator)
    teachers = [lambda index, _, k=k: answers[k][index] for k in range(2)]
    network = initial_network(stage.network, 10, stage.seed)
    train(network, stage, data, teachers, bf16=False, hooks=Hooks(stop), progress=progress)


@pytest.mark.parametrize("augmentation", ["none", "flip", "crop-flip"])
@pytest.mark.parametrize("stopped_at", [5, 8, 13])
def test_a_resumed_training_reads_what_an_uninterrupted_one_reads(
    tiny: TrainingData, read: list[Row], augmentation: str, stopped_at: int
) -> None:
    stage = make_stage(network="cnn8-2", loss=GATED, augmentation=augmentation)
    teach(stage, tiny, lambda: False, Progress())
    whole = list(read)
    steps = len(whole) // stage.recipe.epochs
    assert len({row[0] for row in whole}) == len(whole) == 15, "no batch comes twice"
    assert len({row[3] for row in whole}) > 1, "the gates differ between steps"
    read.clear()
    asked, progress = iter(range(100)), Progress()
    with pytest.raises(StageStopped):
        teach(stage, tiny, lambda: next(asked) >= stopped_at, progress)
    assert len(read) == stopped_at
    kept = progress.epochs * steps  # of the epoch in which it was stopped, nothing counts
    read[kept:] = []
    teach(stage, tiny, lambda: False, progress)
    assert len(read) == len(whole)
    for number, (one, other) in enumerate(zip(read, whole, strict=True)):
        assert torch.equal(one[1], other[1]), f"the images of step {number}"
        assert (one[0], *one[2:]) == (other[0], *other[2:]), f"step {number}"


def test_views_change_between_epochs(tiny: TrainingData, read: list[Row]) -> None:
    """Else the test above would not tell resumed views from repeated ones."""
    stage = make_stage(network="cnn8-2", loss=GATED, augmentation="crop-flip")
    teach(stage, tiny, lambda: False, Progress())
    first: dict[int, Any] = {}
    changed = 0
    for row in read:
        for place, sample in enumerate(row[0]):
            changed += sample in first and not torch.equal(first[sample], row[1][place])
            first.setdefault(sample, row[1][place])
    assert changed > 100
