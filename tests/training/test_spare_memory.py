"""A training for which the memory does not suffice: the same result in less of it, or a failure with a name."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor, nn

from takd.data.catalogue import available_datasets
from takd.methods.losses.answers import Answers
from takd.methods.losses.features import build_regressor
from takd.methods.shapes import Regressor
from takd.methods.table import LOSSES, METHODS
from takd.networks.table import FAMILIES, OWN, build, ladder
from takd.plan import build_plan
from takd.runs.causes import is_out_of_memory
from takd.runs.errors import StageFailed
from takd.runs.memory import HALF_BATCH, MAIN_MEMORY, SPARED, memory_notes
from takd.runs.store import Store
from takd.spec import require_spec
from takd.stage import LossSpec, StageSpec
from takd.training import loop, spare_memory
from takd.training import run_stage as run_stage_module
from takd.training.device import TrainingData
from takd.training.loop import train
from takd.training.objective import Objective
from takd.training.predicting import predict
from takd.training.progress import Hooks
from takd.training.run_stage import run_stage, run_stages
from takd.training.spare_memory import SparingStep, way_to_spare
from takd.training.step import Step
from takd.training.streams import initial_network
from takd.training.trainees import trainee_for
from tests.training.conftest import make_stage

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
KD = LossSpec("kd", 2.0, 0.5)


# The properties in the tables


def answers(name: str, count: int, seed: int) -> Answers:
    """What a stage with this loss looks at, of `count` images."""
    generator = torch.Generator().manual_seed(seed)
    form = LOSSES[name][0].form
    many = {"sub-models": 3, "cohort": 2, "heads": 2}.get(form, 1)
    logits = [torch.randn(count, 10, generator=generator) for _ in range(many)]
    features = (torch.randn(count, 4, 6, 6, generator=generator),) if form == "features" else ()
    return Answers(tuple(logits), features, main=0)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_by_image_is_the_mean_of_its_halves(name: str) -> None:
    loss, method = LOSSES[name]
    temperature = 2.0 if "temperature" in loss.uses else None
    stage = make_stage(loss=LossSpec(name, temperature, 0.5 if "lam" in loss.uses else 0.0))
    own = answers(name, 12, 1)
    alone = loss.form in ("sub-models", "cohort", "heads") or name == "ce"
    teachers = [] if alone else [answers(name, 12, 2 + k) for k in range(2 if name in ("dgkd", "dih") else 1)]
    labels = torch.randint(0, 10, (12,), generator=torch.Generator().manual_seed(9))
    objective = Objective(stage, len(teachers), len(own.logits))
    objective.begin_epoch(0, 1)
    objective.begin_step(0)

    def part(of: Answers, where: slice) -> Answers:
        return replace(of, logits=tuple(x[where] for x in of.logits), features=tuple(x[where] for x in of.features))

    def value(where: slice) -> float:
        return float(objective(part(own, where), labels[where], [part(one, where) for one in teachers])["loss"])

    whole, halves = value(slice(None)), (value(slice(0, 6)) + value(slice(6, None))) / 2
    # FitNets' loss is a mean over images; it is the regressors under it that are not
    assert (abs(whole - halves) < 1e-5) == (loss.by_image or name == "fitnets"), method
    assert METHODS[method].label


def test_regressors_look_at_the_whole_batch() -> None:
    kinds = [build_regressor(Regressor("linear", 4, 4)), build_regressor(Regressor("conv", 4, 4))]
    assert all(mixes(module) for module in kinds) and not LOSSES["fitnets"][0].by_image


def mixes(network: nn.Module) -> bool:
    """Whether what it says about an image while it learns depends on other images, or on chance."""
    known = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    return any(isinstance(module, known) for module in network.modules())


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != OWN and "pretrained" not in name])
def test_a_family_by_image_has_no_layer_that_mixes_images(family: str) -> None:
    network = build(ladder(family)[0], 10)
    assert FAMILIES[family].by_image == (not mixes(network)) and not FAMILIES[OWN].by_image


@pytest.mark.parametrize(
    ("changes", "on_cpu", "on_gpu"),
    [
        ({"network": "mlp-8", "loss": KD}, HALF_BATCH, HALF_BATCH),
        ({"network": "mlp-8", "loss": LossSpec("dist", 1.0, 0.0)}, "", MAIN_MEMORY),
        ({"network": "cnn8-2", "loss": KD}, "", MAIN_MEMORY),
        ({"network": "mlp-8", "loss": LossSpec("dml", 1.0, 0.0), "peers": ("mlp-16",)}, HALF_BATCH, HALF_BATCH),
        ({"network": "mlp-8", "loss": LossSpec("dml", 1.0, 0.0), "peers": ("cnn8-2",)}, "", MAIN_MEMORY),
    ],
)
def test_the_tables_say_which_way(changes: dict[str, Any], on_cpu: str, on_gpu: str) -> None:
    stage = make_stage(**changes)
    assert (way_to_spare(stage, CPU), way_to_spare(stage, GPU)) == (on_cpu, on_gpu)
    assert {HALF_BATCH, MAIN_MEMORY} == set(SPARED)


def test_running_out_of_memory_has_many_words() -> None:
    assert all(map(is_out_of_memory, (FULL, MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"))))
    assert not is_out_of_memory(RuntimeError("boom")) and not is_out_of_memory(OSError("out of memory"))


# The steps


def trained(stage: StageSpec, data: TrainingData, spare: str, teachers: int = 1) -> tuple[nn.Module, list[Any]]:
    table = torch.randn(2, len(data.train), 10, generator=torch.Generator().manual_seed(7))
    heard = [lambda index, _, k=k: table[k][index] for k in range(teachers)]
    network = trainee_for(stage, lambda: nn.Identity(), "")
    return network, train(network, stage, data, heard, bf16=False, hooks=Hooks(), spare=spare).rows


HALVES = {
    "kd": (make_stage(loss=KD), 1),
    "an odd batch": (make_stage(loss=KD, batch=33), 1),
    "a batch of one": (make_stage(loss=KD, batch=1, epochs=1), 1),
    "gates": (make_stage(loss=LossSpec("dgkd", 2.0, 0.5, (("gate", "bernoulli"),))), 2),
    "sub-models": (make_stage(network="slim-mlp-64", loss=LossSpec("ipkd", 2.0, 0.0)), 0),
    "in turn": (make_stage(loss=LossSpec("dml", 1.0, 0.0, (("order", "in turn"),)), peers=("mlp-16",)), 0),
}


@pytest.mark.parametrize("name", HALVES)
def test_two_halves_train_like_the_whole_batch(name: str, tiny: TrainingData) -> None:
    stage, teachers = HALVES[name]
    whole, rows = trained(stage, tiny, "", teachers)
    halves, others = trained(stage, tiny, HALF_BATCH, teachers)
    for (key, one), other in zip(whole.state_dict().items(), halves.state_dict().values(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5, msg=key)
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys() and other["loss"] == pytest.approx(row["loss"], rel=1e-5)
        assert other["train_acc"] == pytest.approx(row["train_acc"], abs=0.02)


def test_the_gradient_of_the_halves_is_that_of_the_whole(tiny: TrainingData) -> None:
    index = torch.arange(20)
    found = []
    for kind in (Step, SparingStep):
        network = initial_network("mlp-8", 10, 0)
        objective = Objective(make_stage(), 0)
        objective.begin_epoch(0, 1)
        step = kind(network, lambda *_: [], objective, lambda _: None, list(network.parameters()), False)
        step(index, tiny.train.batch(index), tiny.train.labels[index], 0.1)
        found.append([parameter.grad for parameter in network.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-7)


def test_activations_in_main_memory_change_no_bit(tiny: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU they are only copied, but by the same hooks as on a GPU."""
    stage, used = make_stage(network="cnn8-2", loss=KD, augmentation="crop-flip"), []
    real = spare_memory.save_on_cpu
    monkeypatch.setattr(spare_memory, "save_on_cpu", lambda **options: used.append(options) or real(**options))
    whole, rows = trained(stage, tiny, "")
    spared, others = trained(stage, tiny, MAIN_MEMORY)
    assert len(used) == 15 and [row["loss"] for row in rows] == [row["loss"] for row in others]
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), spared.state_dict().values(), strict=True)
    )


def test_answers_are_asked_in_smaller_parts(tiny: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    network = initial_network("cnn8-2", 10, 0)
    wanted, sizes = predict(network, tiny.train, False), []

    class Small(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            sizes.append(len(images))
            if len(images) > 30:
                raise FULL
            answers: Tensor = network(images)
            return answers

    torch.testing.assert_close(predict(Small().eval(), tiny.train, False), wanted)
    assert sizes == [100, 50, 25, 25, 50, 25, 25]

    class Full(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise FULL

    with pytest.raises(torch.OutOfMemoryError):
        predict(Full(), tiny.train, False)


# A stage


def stage_of(network: str) -> StageSpec:
    """A short one that the loop trains."""
    values = {"dataset": "digits", "teacher": network, "student": network, "assistants": [], "method": "scratch"}
    plan = build_plan(require_spec({**values, "seeds": 1}), available_datasets()["digits"])
    stage = next(iter(plan.stages.values()))
    return replace(stage, recipe=replace(stage.recipe, epochs=3, augmentation="flip"))


@pytest.fixture
def full_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the memory not suffice for so many calls from the k-th step on; `halves_too` does not spare the retry."""

    def set_up(k: int, halves_too: bool = False) -> None:
        calls = iter(range(1, 10_000))

        def raising(kind: type[Step]) -> type[Step]:
            class Short(kind):  # type: ignore[misc, valid-type]
                def __call__(self, *args: Any) -> Any:
                    if next(calls) >= k:
                        raise torch.OutOfMemoryError(*FULL.args)  # a new one: an error keeps the frames it went through
                    return super().__call__(*args)

            return Short

        monkeypatch.setattr(loop, "Step", raising(Step))
        if halves_too:
            monkeypatch.setattr(loop, "SparingStep", raising(SparingStep))

    return set_up


@pytest.mark.parametrize("k", [1, 7, 25])
def test_a_stage_goes_on_with_half_the_batch(
    k: int, tmp_path: Path, full_at: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    stage, stores = stage_of("mlp-8"), [Store(tmp_path / name) for name in ("whole", "short")]
    for store in stores:
        store.ensure(stage)
    run_stage(stores[0], stage.key, device="cpu")
    full_at(k)
    said: list[dict[str, Any]] = []
    run_stage(stores[1], stage.key, device="cpu", report=said.append)
    whole, short = (store.result(stage.key) or {} for store in stores)
    assert "memory" not in whole and short["memory"] == HALF_BATCH and short["epochs"] == 3
    one, other = (load(store.read_file(stage.key, "weights.safetensors")) for store in stores)
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=1e-3, atol=1e-4)
    assert [row["epoch"] for row in stores[1].read_events(stage.key)[0]] == [1, 2, 3]
    assert memory_notes(stores[0], [stage.key]) == []
    (note,) = memory_notes(stores[1], [stage.key])
    assert note.startswith("mlp-8, seed 0: there was not enough memory") and "halves" in capsys.readouterr().out
    assert all("halves" in row["note"] for row in said if row.get("note"))


def test_the_second_try_has_the_memory_of_the_first(
    tmp_path: Path, full_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, stages = Store(tmp_path / "store"), [stage_of("mlp-8"), stage_of("mlp-4")]
    for stage in stages:
        store.ensure(stage)
    first, alive = [], []
    real = run_stage_module._job

    def noted(*args: Any) -> Any:
        alive.append([reference() is not None for reference in first])
        job = real(*args)
        first.append(weakref.ref(job.network))
        return job

    monkeypatch.setattr(run_stage_module, "_job", noted)
    full_at(1)
    assert run_stages(store, [stage.key for stage in stages], device="cpu", pupils={}) == {}
    assert alive == [[], [True], [False, True], [False, False, False]]


def test_where_that_does_not_help_the_failure_has_a_name(tmp_path: Path, full_at: Callable[..., None]) -> None:
    store, stage = Store(tmp_path / "store"), stage_of("mlp-8")
    store.ensure(stage)
    full_at(5, halves_too=True)
    with pytest.raises(StageFailed) as caught:
        run_stage(store, stage.key, device="cpu")
    assert caught.value.cause_class == "out-of-memory" and "half batch" in caught.value.sentence
    assert "resume" in caught.value.sentence and not store.is_done(stage.key)


def test_batch_norm_on_a_cpu_fails_at_once_with_a_name(tmp_path: Path, full_at: Callable[..., None]) -> None:
    store, stage = Store(tmp_path / "store"), stage_of("cnn8-2")
    store.ensure(stage)
    full_at(5)
    with pytest.raises(StageFailed, match="smaller network, then resume") as caught:
        run_stage(store, stage.key, device="cpu")
    assert caught.value.cause_class == "out-of-memory"
