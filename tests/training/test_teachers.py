"""What a student hears: the teacher's own answers on the very views it is shown, from the store or asked anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from takd.runs.store import Store
from takd.stage import LossSpec, StageSpec
from takd.training import teachers
from takd.training.checkpoints import weights_bytes
from takd.training.device import Images, TrainingData
from takd.training.fold import folded
from takd.training.streams import initial_network, stream_seed
from takd.training.teachers import StoredTeacher, TeacherLogits, begin_epoch, freeze, teachers_of
from tests.augmented import augment

from .conftest import make_stage

CPU, COUNT = torch.device("cpu"), 30


def seen(stage: StageSpec) -> nn.Module:
    """A network whose batch norms have a past."""
    network = initial_network(stage.network, stage.data.classes, stage.seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    network.train()(torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(4)))
    return freeze(network)


@pytest.fixture
def data() -> TrainingData:
    generator = torch.Generator().manual_seed(0)
    part = Images(torch.randn(COUNT, 32, 32, 3, generator=generator), torch.zeros(COUNT, dtype=torch.int64))
    return TrainingData(part, part, (0.0,) * 3, (1.0,) * 3, 1.0)


@pytest.fixture
def family(tmp_path: Path) -> tuple[Store, StageSpec, StageSpec, nn.Module]:
    """A store with a trained teacher, its stage, a pupil's and the teacher's network."""
    store, teacher = Store(tmp_path), make_stage(network="plain-2", loss=LossSpec("ce", None, 0.0), seed=1)
    network = seen(teacher)
    store.ensure(teacher)
    store.commit(
        teacher.key, {"test_acc": 0.5}, {"weights.safetensors": weights_bytes(network), "predictions.npz": b""}
    )
    pupil = make_stage(network="plain-2", loss=LossSpec("kd", 4.0, 0.9), seed=1, epochs=3)
    return store, teacher, replace(pupil, teachers=(teacher.key,)), network


def with_views(pupil: StageSpec, kind: str) -> StageSpec:
    return replace(pupil, recipe=replace(pupil.recipe, augmentation=kind))


def shown(pupil: StageSpec, data: TrainingData, epoch: int, index: Tensor) -> Tensor:
    seed = stream_seed(pupil.seed, "shared", "augment")
    return augment(data.train.batch(index), pupil.recipe.augmentation, seed, epoch, index)


@pytest.mark.parametrize("kind", ["none", "flip", "crop-flip"])
@pytest.mark.parametrize("pupils", [1, 3])
def test_looked_up_answers_are_the_live_ones_on_the_same_views(
    family: tuple[Store, StageSpec, StageSpec, nn.Module], data: TrainingData, kind: str, pupils: int
) -> None:
    """To float16 and the folding of batch norm, in every epoch and whatever the order of the samples."""
    store, _, pupil, network = family
    pupil = with_views(pupil, kind)
    stored = teacher_of(store, pupil, data, pupils=pupils)
    live = teacher_of(store, pupil, data, live=True)
    assert isinstance(stored, StoredTeacher)
    index, before = torch.tensor([7, 3, 29, 0]), stored.logits.data_ptr()
    heard = []
    for epoch in (0, 2, 1):
        begin_epoch([stored], epoch)
        images = shown(pupil, data, epoch, index)
        heard.append(stored(index, images))
        assert torch.allclose(heard[-1], network(images), rtol=2e-3, atol=5e-3)
        assert torch.equal(live(index, images), network(images))
    assert torch.equal(heard[0], heard[1]) is (kind == "none")
    assert stored.logits.data_ptr() == before  # a recorded step reads this memory


def teacher_of(
    store: Store, pupil: StageSpec, data: TrainingData, pupils: int = 1, live: bool = False
) -> TeacherLogits:
    (heard,) = teachers_of(store, pupil, data, CPU, False, pupils=dict.fromkeys(pupil.teachers, pupils), live=live)
    return heard


def count_asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    asked: list[int] = []
    real = teachers.predict
    monkeypatch.setattr(teachers, "predict", lambda *a, **k: (asked.append(1), real(*a, **k))[1])
    return asked


@pytest.mark.parametrize(("kind", "often"), [("none", 1), ("flip", 2), ("crop-flip", 3)])
def test_students_of_one_seed_ask_once_between_them(
    family: tuple[Store, StageSpec, StageSpec, nn.Module],
    data: TrainingData,
    kind: str,
    often: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, _, pupil, _ = family
    asked, heard = count_asked(monkeypatch), []
    for temperature in (1.0, 4.0):
        one = with_views(replace(pupil, loss=LossSpec("kd", temperature, 0.9)), kind)
        teacher = teacher_of(store, one, data, pupils=2)
        assert isinstance(teacher, StoredTeacher)
        for epoch in range(3):
            begin_epoch([teacher], epoch)
            heard.append(teacher.logits.clone())
    assert len(asked) == often
    assert all(torch.equal(a, b) for a, b in zip(heard[:3], heard[3:], strict=True))


def test_answers_nobody_else_wants_are_not_kept_and_are_the_same(
    family: tuple[Store, StageSpec, StageSpec, nn.Module], data: TrainingData
) -> None:
    store, teacher, pupil, _ = family
    pupil = with_views(pupil, "crop-flip")
    alone = teacher_of(store, pupil, data, pupils=1)
    begin_epoch([alone], 1)
    assert not (store.own_folder(teacher.key) / "extra").exists()
    shared = teacher_of(store, pupil, data, pupils=2)
    begin_epoch([shared], 1)
    assert isinstance(alone, StoredTeacher) and isinstance(shared, StoredTeacher)
    assert torch.equal(alone.logits, shared.logits)


def test_other_seeds_see_other_views(family: tuple[Store, StageSpec, StageSpec, nn.Module], data: TrainingData) -> None:
    store, _, pupil, _ = family
    found = []
    for seed in (1, 2):
        teacher = teacher_of(store, with_views(replace(pupil, seed=seed), "crop-flip"), data, pupils=2)
        assert isinstance(teacher, StoredTeacher)
        teacher.begin_epoch(0)
        found.append(teacher.logits.clone())
    assert not torch.allclose(found[0], found[1], atol=1e-2)


@pytest.mark.parametrize("name", ["plain-4", "resnet-8"])
def test_folding_leaves_the_answers_and_the_network_as_they_are(name: str) -> None:
    network = seen(make_stage(network=name))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    twin, images = folded(network), torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in twin.modules())
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    assert torch.allclose(twin(images), network(images), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
