"""Stages that train more than one plain network: heads, sub-models, cohorts, hidden layers, earlier teachers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from takd.data.catalogue import available_datasets
from takd.evaluation.final import unpack_logits
from takd.evaluation.weights_check import stored_network
from takd.methods.losses.heads import Heads
from takd.networks.table import build
from takd.plan import Plan, build_plan
from takd.presentation.boxes import who_else_teaches
from takd.presentation.learn.lesson import entropies
from takd.presentation.study import study
from takd.runs.errors import StageFailed, StageStopped
from takd.runs.loop import train_all
from takd.runs.store import Store
from takd.spec import require_spec
from takd.stage import LossSpec, StageSpec
from takd.training import run_stage as runner
from takd.training.checkpoints import checkpoint_bytes, load_checkpoint, load_weights
from takd.training.device import TrainingData
from takd.training.loop import train, why_step_by_step
from takd.training.progress import Hooks
from takd.training.streams import initial_network
from takd.training.teachers import load_teacher, observed_teachers_of, teachers_of
from takd.training.trainees import Cohort, Every, Headed, Observed, kept, trainee_for
from tests.training.conftest import make_stage

CPU = torch.device("cpu")


def nobody() -> nn.Module:
    raise AssertionError("this stage has no teacher")


def plan_for(method: str, teacher: str = "mlp-32", student: str = "mlp-8", **options: object) -> Plan:
    asked = {"dataset": "digits", "budget": "taste", "seeds": 1, "scope": "chain", "method": method}
    asked |= {"teacher": teacher, "student": student, "assistants": [], "options": options}
    return build_plan(require_spec(asked), available_datasets()["digits"])


def run(store: Store, plan: Plan) -> list[str]:
    said: list[str] = []
    assert train_all(store, plan.stages, device="cpu", should_stop=lambda: False, say=said.append)
    return said


def stages_of(plan: Plan, loss: str) -> list[StageSpec]:
    return [stage for stage in plan.stages.values() if stage.loss.name == loss]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(Path(tmp_path_factory.mktemp("trainees")))


def test_heads_are_a_stage_of_their_own_and_shared(store: Store) -> None:
    plan, other = plan_for("dih"), plan_for("dih", student="mlp-4", sum="paper")
    (heads,) = stages_of(plan, "heads")
    assert stages_of(other, "heads") == [heads] and len(heads.teachers) == 1
    assert stages_of(plan_for("dih", pooling="average"), "heads") != [heads]
    run(store, plan)
    before = store.read_file(heads.key, "weights.safetensors")
    teacher_before = store.read_file(heads.teachers[0], "weights.safetensors")
    said = run(store, other)
    assert not any("heads" in line and "training" in line for line in said)
    assert store.read_file(heads.key, "weights.safetensors") == before
    assert store.read_file(heads.teachers[0], "weights.safetensors") == teacher_before, "the teacher stays as it was"
    chain = plan.chains_of(plan.chosen)[0]
    assert chain.beside == (heads.key,) and plan.stages[chain.student].teachers == (chain.keys[0], heads.key)


def test_stored_heads_stand_with_their_network_on_the_device_they_are_asked_on(store: Store) -> None:
    plan = plan_for("dih")
    run(store, plan)
    (heads,) = stages_of(plan, "heads")
    meta = torch.device("meta")  # in place of a GPU
    network = stored_network(store, heads, store.read_file(heads.key, "weights.safetensors"), meta)
    assert isinstance(network, Every) and isinstance(network.trainee, Headed)
    below = network.trainee._network[0]
    assert {p.device for p in (*network.parameters(), *below.parameters(), *below.buffers())} == {meta}


def test_heads_really_load_and_teach(store: Store) -> None:
    """The released code loads no head at all when files lack an ending, and so trains plain KD in silence."""
    plan = plan_for("dih", teacher="cnn8-8", student="cnn8-2")
    run(store, plan)
    (heads,) = stages_of(plan, "heads")
    student = plan.stages[plan.chains_of(plan.chosen)[0].student]
    data = runner.training_data(student.data, 0, CPU, False)
    heard = teachers_of(store, student, data, CPU, False, pupils={}, live=False)
    asked = teachers_of(store, student, data, CPU, False, pupils={}, live=True)
    assert len(heard) == len(asked) == 1 + 2, "the teacher and a head on each of its two stages"
    index = torch.arange(8)
    images = data.train.batch(index)
    network = build("cnn8-8", 10)
    load_weights(network, store.read_file(heads.teachers[0], "weights.safetensors"))
    own = Heads([(8, 4, 4), (16, 2, 2)], 10)
    load_weights(own, store.read_file(heads.key, "weights.safetensors"))
    network.eval()
    with torch.no_grad():
        logits, outputs = network.forward_stages(images)
        wanted = [logits, *own(outputs)]
    for one, other, right in zip(heard, asked, wanted, strict=True):
        torch.testing.assert_close(other(index, images), right)
        torch.testing.assert_close(one(index, images), right, atol=0.02, rtol=0.01)  # rounded to float16, folded
    random_heads = Heads([(8, 4, 4), (16, 2, 2)], 10)
    assert not torch.allclose(random_heads(outputs)[0], heard[1](index, images), atol=0.5)
    result = store.result(heads.key) or {}
    assert [part["name"] for part in result["parts"]] == ["head 1", "head 2"]
    assert result["test_acc"] == result["parts"][-1]["test_acc"] > 0.5


def test_the_page_says_who_teaches_beside_the_strip(store: Store) -> None:
    digits = available_datasets()["digits"]
    for method, words in (
        ("dih", "first stage to last, teach beside it"),
        ("rco", "epoch 15, 30 and 45"),
        ("ensemble", "3 more mlp-32 teach, each from another seed"),
    ):
        plan = plan_for(method)
        run(store, plan)
        assert words in who_else_teaches(study(plan.spec, digits, store), store)
    assert who_else_teaches(study(plan_for("kd").spec, digits, store), store) == ""


@pytest.mark.parametrize("method", ["rco", "ensemble"])
def test_a_lesson_reads_one_finished_teacher_of_a_seed(store: Store, method: str) -> None:
    """And not what stands beside the path: the same teacher at earlier epochs, or more like it."""
    plan = plan_for(method)
    run(store, plan)
    shown = study(plan.spec, available_datasets()["digits"], store)
    (chain,) = shown.plan.chains_of(shown.chosen)
    assert len(shown.stages[shown.stages["path"] == "32"]) > 1
    (entropy,) = entropies(shown, ("mlp-32",))
    assert entropy == (store.result(chain.keys[0]) or {})["entropy"]


@pytest.mark.parametrize("damage", [b"", b"not weights"])
def test_heads_that_cannot_be_read_are_an_error(store: Store, damage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_for("dih")
    run(store, plan)
    (heads,) = stages_of(plan, "heads")
    read = Store.read_file

    def damaged(self: Store, key: str, name: str) -> bytes:
        return damage if key == heads.key and name == "weights.safetensors" else read(self, key, name)

    monkeypatch.setattr(Store, "read_file", damaged)
    with pytest.raises(StageFailed, match="unusable"):
        load_teacher(store, heads.key, CPU)


def test_an_earlier_teacher_is_the_first_part_of_the_same_training(tmp_path: Path) -> None:
    """And the whole training, going on from there, has the bits of one that was never interrupted."""
    apart, along = Store(tmp_path / "apart"), Store(tmp_path / "along")
    plan = plan_for("rco", "cnn8-4", "cnn8-2")
    student = plan.stages[plan.chains_of(plan.chosen)[0].student]
    anchors = [plan.stages[key] for key in student.teachers]
    assert [stage.recipe.last for stage in anchors] == [8, 15, 23, 30]
    whole = anchors[-1]
    assert whole.recipe.until == 0 and whole.key == plan_for("kd", "cnn8-4", "cnn8-2").chains[-1].keys[0]
    for stage in (whole, anchors[0]):
        apart.ensure(stage)
        runner.run_stage(apart, stage.key, device="cpu")
    for stage in anchors:
        along.ensure(stage)
        runner.run_stage(along, stage.key, device="cpu")
    for stage in (anchors[0], whole):
        assert apart.read_file(stage.key, "weights.safetensors") == along.read_file(stage.key, "weights.safetensors")
    rows = {stage.recipe.last: along.read_events(stage.key)[0] for stage in anchors}
    assert [len(rows[last]) for last in (8, 15, 23, 30)] == [8, 15, 23, 30]
    assert [row["loss"] for row in rows[30][:8]] == [row["loss"] for row in rows[8]]
    direct = apart.read_events(whole.key)[0]
    assert [row["val_acc"] for row in rows[30]] == [row["val_acc"] for row in direct]
    assert [row["seconds"] for row in rows[30][:8]] == [row["seconds"] for row in rows[8]], "it went on from there"


def test_what_an_earlier_stage_left_is_not_trusted_when_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    plan = plan_for("early-teacher", "cnn8-4", "cnn8-2", stop=0.1)
    early = plan.stages[plan.chains_of(plan.chosen)[0].keys[0]]
    whole = replace(early, recipe=replace(early.recipe, until=0))
    for stage in (early, whole):
        store.ensure(stage)
    runner.run_stage(store, early.key, device="cpu")
    store.write_extra(early.key, "continue.safetensors", b"torn")
    runner.run_stage(store, whole.key, device="cpu")
    assert len(store.read_events(whole.key)[0]) == 30 and early.recipe.last == 3


def test_one_teacher_after_the_other_is_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """RCO: each anchor teaches its share of the epochs, and only that one is asked."""
    plan = plan_for("rco")
    run(store, plan)
    student = plan.stages[plan.chains_of(plan.chosen)[0].student]
    data = runner.training_data(student.data, 0, CPU, False)
    called: list[list[int]] = []

    def listening(number: int, teacher: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def ask(index: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
            called[-1].append(number)
            return teacher(index, images)

        return ask

    teachers = teachers_of(store, student, data, CPU, False, pupils={}, live=False)
    listeners = [listening(number, teacher) for number, teacher in enumerate(teachers)]
    called.append([])
    hooks = Hooks(epoch_done=lambda _: called.append([]))
    train(initial_network("mlp-8", 10, 0), student, data, listeners, bf16=False, hooks=hooks)
    heard = [set(numbers) for numbers in called[:-1]]
    assert heard == [{0}] * 15 + [{1}] * 15 + [{2}] * 15 + [{3}] * 15


SPECIAL = {
    "ipkd": make_stage(network="slim-mlp-64", loss=LossSpec("ipkd", 2.0, 0.0)),
    "dml": make_stage(loss=LossSpec("dml", 1.0, 0.0), peers=("mlp-16",)),
    "dml in turn": make_stage(loss=LossSpec("dml", 1.0, 0.0, (("order", "in turn"),)), peers=("mlp-16", "mlp-8")),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_resume_is_bit_identical(name: str, tiny: TrainingData) -> None:
    stage = SPECIAL[name]
    straight = trainee_for(stage, nobody, "")
    rows = train(straight, stage, tiny, (), bf16=False, hooks=Hooks()).rows
    network, saved, asked = trainee_for(stage, nobody, ""), [], iter(range(100))
    hooks = Hooks(lambda: next(asked) >= 7, epoch_done=lambda p: saved.append(checkpoint_bytes(network, p)))
    with pytest.raises(StageStopped):
        train(network, stage, tiny, (), bf16=False, hooks=hooks)
    resumed = trainee_for(stage, nobody, "")
    progress = load_checkpoint(resumed, saved[-1])
    again = train(resumed, stage, tiny, (), bf16=False, hooks=Hooks(), progress=progress).rows
    assert [row["loss"] for row in again] == [row["loss"] for row in rows]
    for (key, one), other in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), key


def test_a_student_among_peers_starts_as_it_always_does() -> None:
    stage = make_stage(loss=LossSpec("dml", 1.0, 0.0), peers=("mlp-8",))
    cohort = trainee_for(stage, nobody, "")
    assert isinstance(cohort, Cohort) and cohort.parts == ("mlp-8", "mlp-8")
    alone = initial_network("mlp-8", 10, 0).state_dict()
    first, second = (network.state_dict() for network in cohort.networks)
    assert all(torch.equal(alone[name], first[name]) for name in alone)
    assert not torch.equal(first["1.weight"], second["1.weight"]), "a copy starts elsewhere"
    assert list(kept(cohort).state_dict()) == list(alone), "what is stored is a plain network"


def test_in_turn_and_together_are_different_trainings(tiny: TrainingData) -> None:
    """One step of a cohort in turn, by hand: the first network steps, then the second hears its new answers. A first
    step with Nesterov momentum 0.9 goes 1.9 gradients far."""
    stages = {
        order: make_stage(
            loss=LossSpec("dml", 1.0, 0.0, (("order", "in turn"),) if order == "in turn" else ()),
            peers=("mlp-8",), epochs=1, batch=100, weight_decay=0.0, schedule="constant",
        )
        for order in ("together", "in turn")
    }  # fmt: skip
    trained = {}
    for order, stage in stages.items():
        cohort = trainee_for(stage, nobody, "")
        train(cohort, stage, tiny, (), bf16=False, hooks=Hooks())
        trained[order] = cohort
    one, other = trained["together"], trained["in turn"]
    assert isinstance(one, Cohort) and isinstance(other, Cohort)
    torch.testing.assert_close(one.networks[0].state_dict(), other.networks[0].state_dict())
    with pytest.raises(AssertionError):
        torch.testing.assert_close(one.networks[1].state_dict(), other.networks[1].state_dict(), rtol=1e-6, atol=1e-7)
    fresh = trainee_for(stages["in turn"], nobody, "")
    assert isinstance(fresh, Cohort)
    second, first_after = fresh.networks[1], other.networks[0]
    images, labels = tiny.train.pixels.permute(0, 3, 1, 2), tiny.train.labels
    with torch.no_grad():
        target = torch.softmax(first_after(images), 1)
    logits = second(images)
    log_p = torch.log_softmax(logits, 1)
    loss = nn.functional.cross_entropy(logits, labels) + (target * (target.log() - log_p)).sum(1).mean()
    loss.backward()
    for trained_weight, weight in zip(other.networks[1].parameters(), second.parameters(), strict=True):
        assert weight.grad is not None
        torch.testing.assert_close(trained_weight, weight - 0.05 * 1.9 * weight.grad, rtol=1e-5, atol=1e-6)


def test_sub_models_are_evaluated_each(store: Store) -> None:
    plan = plan_for("ipkd-ta", "slim-mlp-64", "slim-mlp-64")
    run(store, plan)
    (key,) = plan.chains_of(plan.chosen)[0].keys
    result = store.result(key) or {}
    assert [part["name"] for part in result["parts"]] == ["width 0.25", "width 0.5", "width 0.75", "width 1"]
    assert result["test_acc"] == result["parts"][-1]["test_acc"], "the largest is the network's own answer"
    network = load_teacher(store, key, CPU)
    logits = unpack_logits(store.read_file(key, "predictions.npz"))
    with np.load(Path(store.root) / "stages" / key[:2] / key / "predictions.npz") as archive:
        parts = torch.from_numpy(archive["parts"].astype(np.float32))
    assert torch.equal(parts[:, -1], logits) and parts.shape[1] == 4
    from takd.data.test_part import load_test

    stage = plan.stages[key]
    pixels, labels = load_test(stage.data)
    data = runner.training_data(stage.data, 0, CPU, False)
    images = (torch.from_numpy(pixels).float() / data.scale - data.mean[0]) / data.std[0]
    with torch.no_grad():
        smallest = network.answer(images.permute(0, 3, 1, 2), 0)
    assert float((smallest.argmax(1).numpy() == labels).mean()) == pytest.approx(result["parts"][0]["test_acc"])


def test_a_hint_leaves_the_teacher_alone_and_is_thrown_away(store: Store) -> None:
    plan = plan_for("fitnets", "cnn8-8", "cnn8-2")
    run(store, plan)
    chain = plan.chains_of(plan.chosen)[0]
    stage = plan.stages[chain.student]
    network = trainee_for(stage, nobody, "cnn8-8")
    assert isinstance(network, Observed) and len(network.regressors) == 1
    plain = initial_network("cnn8-2", 10, 0).state_dict()
    assert all(torch.equal(plain[k], v) for k, v in network.network.state_dict().items()), "the student starts as ever"
    (teacher,) = observed_teachers_of(store, stage, CPU, False)
    data = runner.training_data(stage.data, 0, CPU, False)
    index = torch.arange(16)
    before = teacher(index, data.train.batch(index))
    train(network, replace(stage, recipe=replace(stage.recipe, until=2)), data, [teacher], bf16=False, hooks=Hooks())
    after = teacher(index, data.train.batch(index))
    assert torch.equal(before.logits[0], after.logits[0]) and torch.equal(before.features[0], after.features[0])
    assert not before.features[0].requires_grad
    load_weights(build("cnn8-2", 10), store.read_file(stage.key, "weights.safetensors"))


def test_networks_that_do_not_fit_are_named_failures() -> None:
    for stage, teacher in (
        (make_stage(loss=LossSpec("at", None, 0.0), teachers=("a" * 32,)), "mlp-32"),
        (make_stage(network="mlp-8", loss=LossSpec("ipkd", 1.0, 0.0)), ""),
    ):
        with pytest.raises(StageFailed, match="cannot be trained like this"):
            trainee_for(stage, nobody, teacher)


def test_special_trainings_are_never_recorded() -> None:
    """A graph replays one plain network's step; a note says why these are not."""
    for stage in SPECIAL.values():
        assert why_step_by_step(trainee_for(stage, nobody, ""), stage)
    assert why_step_by_step(initial_network("mlp-8", 10, 0), make_stage()) == ""
    mobile = initial_network("imagenet-mobilenet-50", 10, 0)  # with dropout, drawn anew for every epoch
    assert "draw" in why_step_by_step(mobile, make_stage(network="imagenet-mobilenet-50"))
    assert not isinstance(Every(Headed(build("mlp-8", 10), Heads([(8,)], 10))), Headed)
