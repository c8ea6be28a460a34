"""A stage from its spec to its result, on the built-in digits and a real store."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load

from takd.answers import answers_file
from takd.data.catalogue import available_datasets
from takd.data.test_part import load_test
from takd.evaluation.final import unpack_logits
from takd.plan import Plan, build_plan
from takd.runs.errors import StageFailed, StageStopped
from takd.runs.store import Store
from takd.spec import ExperimentSpec, require_spec
from takd.stage import DataSpec, LossSpec, StageSpec
from takd.training.checkpoints import peak_memory_mb
from takd.training.device import training_data
from takd.training.run_stage import run_stage, run_stages
from takd.training.teachers import load_teacher

SPEC = {
    "dataset": "digits",
    "teacher": "mlp-64",
    "assistants": ["mlp-16"],
    "student": "mlp-8",
    "seeds": 1,
    "scope": "chain",
}


def short(stage: StageSpec, teachers: tuple[str, ...] = ()) -> StageSpec:
    return replace(stage, recipe=replace(stage.recipe, epochs=3), teachers=teachers)


@pytest.fixture
def plan() -> Plan:
    spec: ExperimentSpec = require_spec(SPEC)
    return build_plan(spec, available_datasets()["digits"])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def chain(plan: Plan) -> tuple[StageSpec, StageSpec]:
    teacher_key, pupil_key, _ = plan.chains_of(plan.chosen)[0].keys
    teacher = short(plan.stages[teacher_key])
    return teacher, short(plan.stages[pupil_key], (teacher.key,))


def test_a_teacher_and_its_pupil(plan: Plan, store: Store) -> None:
    teacher, pupil = chain(plan)
    for stage in (teacher, pupil):
        store.ensure(stage)
        run_stage(store, stage.key, device="cpu")
    result = store.result(pupil.key)
    assert result is not None
    assert result["epochs"] == 3
    assert 0.1 < result["test_acc"] <= 1
    assert set(result["agreement"]) == set(result["kl"]) == {teacher.key}
    assert 0 <= result["agreement"][teacher.key] <= 1
    assert result["kl"][teacher.key] > 0
    rows, _ = store.read_events(pupil.key)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["val_acc"] == pytest.approx(result["val_acc"], abs=1e-6)
    assert rows[-1]["loss_kl"] > 0
    # the stored test logits give every stored number back
    labels = load_test(pupil.data)[1]
    logits = {key: unpack_logits(store.read_file(key, "predictions.npz")) for key in (teacher.key, pupil.key)}
    answers = {key: z.numpy().argmax(1) for key, z in logits.items()}
    assert (answers[pupil.key] == labels).mean() == pytest.approx(result["test_acc"], abs=2 / 900)
    same = (answers[pupil.key] == answers[teacher.key]).mean()
    assert same == pytest.approx(result["agreement"][teacher.key], abs=3 / 900)
    assert sum(result["correct_classes"]) == round(result["test_acc"] * 900)


def test_label_noise_reaches_the_training_labels_only(plan: Plan) -> None:
    noisy = DataSpec(**{**vars(next(iter(plan.stages.values())).data), "noise": 0.4})
    data, clean = (training_data(spec, 7, torch.device("cpu"), False) for spec in (noisy, replace(noisy, noise=0.0)))
    changed = data.train.labels != clean.train.labels
    assert int(changed.sum()) == 200  # of 500
    assert torch.equal(data.validation.labels, clean.validation.labels)
    assert torch.equal(data.train.pixels, clean.train.pixels)
    other_seed = training_data(noisy, 8, torch.device("cpu"), False)
    assert not torch.equal(other_seed.train.labels, data.train.labels)


def test_a_loaded_teacher_is_frozen_and_in_evaluation_mode(plan: Plan, store: Store) -> None:
    teacher, _ = chain(plan)
    store.ensure(teacher)
    run_stage(store, teacher.key, device="cpu")
    network = load_teacher(store, teacher.key, torch.device("cpu"))
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


def test_the_teachers_answers_are_kept_and_used_again(plan: Plan, store: Store) -> None:
    teacher, pupil = chain(plan)
    for stage in (teacher, pupil):
        store.ensure(stage)
        run_stage(store, stage.key, device="cpu")
    assert store.read_extra(teacher.key, answers_file(pupil, teacher)) is not None
    other = replace(pupil, loss=replace(pupil.loss, temperature=2.0))
    store.ensure(other)
    (store.folder(teacher.key) / "weights.safetensors").unlink()  # the answers are enough
    run_stage(store, other.key, device="cpu")
    assert store.is_done(other.key)


def test_a_missing_teacher_is_an_error_never_a_random_one(plan: Plan, store: Store) -> None:
    """DIH's KD baseline distils from a random network when the checkpoint's names do not match."""
    teacher, pupil = chain(plan)
    store.ensure(teacher)
    store.ensure(pupil)
    with pytest.raises(StageFailed) as caught:
        run_stage(store, pupil.key, device="cpu")
    assert caught.value.cause_class == "bad-parent"
    assert not store.is_done(pupil.key)


def test_two_runs_of_one_stage_give_the_same_bytes(plan: Plan, tmp_path: Path) -> None:
    teacher, _ = chain(plan)
    weights = []
    for name in ("a", "b"):
        store = Store(tmp_path / name)
        store.ensure(teacher)
        run_stage(store, teacher.key, device="cpu")
        weights.append(store.read_file(teacher.key, "weights.safetensors"))
    assert weights[0] == weights[1]


def test_a_stopped_stage_is_not_done_and_ends_like_an_uninterrupted_one(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("takd.training.run_stage.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("takd.training.mlp_batch._SLICE_SECONDS", 0.0)  # one epoch at a time
    teacher, _ = chain(plan)
    whole, halved = Store(tmp_path / "whole"), Store(tmp_path / "halved")
    for store in (whole, halved):
        store.ensure(teacher)
    run_stage(whole, teacher.key, device="cpu")
    asked = iter(range(1000))
    with pytest.raises(StageStopped):
        run_stage(halved, teacher.key, device="cpu", should_stop=lambda: next(asked) > 1)
    assert not halved.is_done(teacher.key)
    assert halved.load_checkpoint(teacher.key) is not None
    run_stage(halved, teacher.key, device="cpu")
    assert whole.read_file(teacher.key, "weights.safetensors") == halved.read_file(teacher.key, "weights.safetensors")
    timing = {"seconds", "images_per_second"}
    a, b = (
        [{k: v for k, v in row.items() if k not in timing} for row in store.read_events(teacher.key)[0]]
        for store in (whole, halved)
    )
    assert a == b


def test_training_never_reads_test_images(plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every published repository but one selects on the test set; here it is opened once, after training."""
    teacher, _ = chain(plan)
    order: list[str] = []
    import takd.evaluation.final as final
    from takd.training import mlp_batch

    final._test_images.cache_clear()
    real_train, real_load = mlp_batch._Batch.train, final.load_test
    monkeypatch.setattr(mlp_batch._Batch, "train", lambda *a, **k: (real_train(*a, **k), order.append("trained"))[0])
    monkeypatch.setattr(final, "load_test", lambda *a, **k: (order.append("test read"), real_load(*a, **k))[1])
    store.ensure(teacher)
    run_stage(store, teacher.key, device="cpu")
    assert order[-1] == "test read"
    assert set(order[:-1]) == {"trained"}


def test_stages_of_one_shape_are_trained_together(store: Store) -> None:
    """One of three cannot be trained; the others end as they would alone."""
    plan = build_plan(require_spec({**SPEC, "seeds": 3}), available_datasets()["digits"])
    stages = [short(plan.stages[chain_.keys[0]]) for chain_ in plan.chains_of(plan.chosen)]
    orphan = replace(stages[2], teachers=("0" * 32,), loss=LossSpec("kd", 1.0, 0.5))
    for stage in (*stages, orphan):
        store.ensure(stage)
    seen: list[str] = []
    failed = run_stages(
        store,
        [stages[0].key, orphan.key, stages[1].key],
        device="cpu",
        report=lambda key, row: seen.append(key),
        pupils={},
    )
    assert set(failed) == {orphan.key}
    assert failed[orphan.key].cause_class == "bad-parent"
    assert not store.is_done(orphan.key)
    alone = Store(store.root.parent / "alone")
    for stage in stages[:2]:
        alone.ensure(stage)
        run_stage(alone, stage.key, device="cpu")
        assert alone.read_file(stage.key, "weights.safetensors") == store.read_file(stage.key, "weights.safetensors")
        assert [row["epoch"] for row in store.read_events(stage.key)[0]] == [1, 2, 3]
        assert (store.result(stage.key) or {})["env"]["engine"] == "mlp batch"


def test_the_reference_mode_agrees_with_the_fast_one(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain loop, fp32, the teacher asked live, against the compiled pass with stored answers."""
    fast, reference = Store(tmp_path / "fast"), Store(tmp_path / "reference")
    teacher, pupil = chain(plan)
    for store in (fast, reference):
        if store is reference:
            monkeypatch.setenv("TAKD_ENGINE", "reference")
        for stage in (teacher, pupil):
            store.ensure(stage)
            run_stage(store, stage.key, device="cpu")
    assert (reference.result(pupil.key) or {})["env"]["engine"] == "reference"
    assert reference.read_extra(teacher.key, answers_file(pupil, teacher)) is None
    for stage in (teacher, pupil):
        rows = zip(fast.read_events(stage.key)[0], reference.read_events(stage.key)[0], strict=True)
        for ours, plain in rows:
            assert ours["loss"] == pytest.approx(plain["loss"], rel=2e-3)
        a, b = (load(store.read_file(stage.key, "weights.safetensors")) for store in (fast, reference))
        for name, weights in a.items():
            torch.testing.assert_close(weights, b[name], rtol=1e-2, atol=2e-3)


def test_the_peak_of_memory_is_known_without_the_resource_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has none; its processes know their own peak."""
    usual = peak_memory_mb(torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "resource", None)
    here = peak_memory_mb(torch.device("cpu"))  # what it holds now, where there is no peak_wset
    assert 50 < here <= usual + 50
    windows = type("Info", (), {"rss": 10 * 2**20, "peak_wset": 300 * 2**20})
    monkeypatch.setattr(psutil.Process, "memory_info", lambda _: windows)
    assert peak_memory_mb(torch.device("cpu")) == 300.0


def test_golden_numbers_change_only_with_the_engine_version(plan: Plan, store: Store) -> None:
    """If this fails, the numbers a stage produces have changed: raise ENGINE_VERSION in stage.py, then these."""
    torch.set_num_threads(1)
    teacher, pupil = chain(plan)
    for stage in (teacher, pupil):
        store.ensure(stage)
        run_stage(store, stage.key, device="cpu")
    losses = [row["loss"] for key in (teacher.key, pupil.key) for row in store.read_events(key)[0]]
    assert (teacher.engine, losses) == (1, pytest.approx(GOLDEN, rel=2e-3))


GOLDEN = [2.196341, 1.682612, 1.315901, 0.762047, 0.611762, 0.503432]
