"""What teacher and student look at: the same view, each its own, or different images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from takd.answers import answers_file, answers_rule, answers_suffice, passes
from takd.data.catalogue import available_datasets
from takd.data.loading import load_training
from takd.plan import Plan, build_plan
from takd.runs.loop import train_all
from takd.runs.store import Store
from takd.spec import from_query, require_spec, to_json, to_query
from takd.stage import StageSpec
from takd.training import run_stage as runner
from takd.training.device import training_data
from takd.training.loop import train
from takd.training.progress import Hooks
from takd.training.streams import initial_network
from takd.training.teachers import teachers_of

CPU = torch.device("cpu")


def plan_for(view: str, method: str = "takd", **more: object) -> Plan:
    asked = {"dataset": "digits", "budget": "taste", "seeds": 1, "scope": "chain", "method": method, "view": view}
    asked |= {"teacher": "mlp-32", "assistants": ["mlp-16"] if method == "takd" else [], "student": "mlp-8", **more}
    return build_plan(require_spec(asked), available_datasets()["digits"])


def test_the_usual_view_leaves_every_key_as_it_was() -> None:
    """Byte for byte: a stage of before the choice existed has no word about it."""
    for stage in plan_for("same").stages.values():
        assert stage.data.skip == 0 and stage.view == ""
        assert b"skip" not in stage.canonical() and b"view" not in stage.canonical()


def test_split_gives_the_teacher_other_images_than_everybody_else() -> None:
    plan = plan_for("split")
    teacher, assistant, student = (plan.stages[key] for key in plan.chains_of(plan.chosen)[0].keys)
    assert (teacher.data.train_images, teacher.data.skip) == (250, 0)
    assert (assistant.data.train_images, assistant.data.skip) == (250, 250) == (student.data.train_images, 250)
    alone = plan.stages[plan.chains[0].student]
    assert alone.network == "mlp-8" and alone.data == student.data, "the student alone learns from the same images"
    first, second, all_of_them = (load_training(data, 0) for data in (teacher.data, student.data, whole().data))
    assert np.array_equal(np.concatenate([first.train_x, second.train_x]), all_of_them.train_x)
    assert answers_file(teacher, None) != answers_file(student, teacher)
    heads = next(s for s in plan_for("split", "dih").stages.values() if s.loss.name == "heads")
    assert heads.data == teacher.data


def whole() -> StageSpec:
    return next(iter(plan_for("same").stages.values()))


@pytest.mark.parametrize("view", ["split", "own"])
def test_it_trains_from_end_to_end(view: str, tmp_path: Path) -> None:
    plan, store = plan_for(view), Store(tmp_path)
    assert train_all(store, plan.stages, device="cpu", should_stop=lambda: False, say=print)
    assert all((store.result(chain.student) or {})["test_acc"] > 0.5 for chain in plan.chains)


def test_own_changes_nothing_where_images_have_one_view() -> None:
    assert set(plan_for("own").stages) == set(plan_for("same").stages)
    augmented = build_plan(
        require_spec({"dataset": "cifar10", "teacher": "resnet-14", "student": "resnet-8", "method": "kd",
                      "assistants": [], "view": "own", "seeds": 1, "scope": "chain"}),
        available_datasets()["cifar10"],
    )  # fmt: skip
    student = augmented.stages[augmented.chains_of(augmented.chosen)[0].student]
    teacher = augmented.stages[student.teachers[0]]
    assert (student.view, teacher.view) == ("own", "")
    assert answers_suffice(student) and passes(student) == 1 and "as they are" in answers_rule(student, 1)


@pytest.mark.parametrize("live", [False, True])
def test_an_own_view_is_answered_for_the_image_as_it_is(live: bool, tmp_path: Path) -> None:
    """Whatever the student sees of sample i, the teacher's answer is the one to image i itself."""
    from dataclasses import replace

    store, plan = Store(tmp_path), plan_for("same", "kd")
    teacher_key = plan.chains_of(plan.chosen)[0].keys[0]
    store.ensure(plan.stages[teacher_key])
    runner.run_stage(store, teacher_key, device="cpu")
    base = plan.stages[plan.chains_of(plan.chosen)[0].student]
    recipe = replace(base.recipe, augmentation="crop-flip", epochs=2)
    pupil = replace(base, view="own", recipe=recipe)
    data = runner.training_data(pupil.data, 0, CPU, False)
    (teacher,) = teachers_of(store, pupil, data, CPU, False, pupils={}, live=live)
    index = torch.arange(32)
    images = data.train.batch(index)
    plain, changed = teacher(index, images), teacher(index, images.flip(-1))
    assert torch.equal(plain, changed)
    (same,) = teachers_of(store, replace(pupil, view=""), data, CPU, False, pupils={}, live=True)
    assert torch.allclose(same(index, images), plain, atol=0.02) and not torch.allclose(
        same(index, images.flip(-1)), plain, atol=0.1
    )
    train(initial_network("mlp-8", 10, 0), pupil, data, [teacher], bf16=False, hooks=Hooks())


def test_links_and_files_keep_the_view() -> None:
    spec = require_spec({"dataset": "digits", "view": "split"})
    assert from_query(to_query(spec)) == (spec, ()) and to_query(spec)["view"] == ["split"]
    assert require_spec(to_json(spec)) == spec


def test_copies_of_a_teacher_learn_from_the_same_wrong_labels_and_differ_all_the_same() -> None:
    plan = plan_for("same", "ensemble", noise=0.4)
    (chain,) = plan.chains_of(plan.chosen)
    first, other, *_ = (plan.stages[key] for key in (chain.keys[0], *chain.beside))
    clean, *noisy = (
        training_data(data, seed, CPU, False).train.labels
        for data, seed in ((first.data.clean, 0), (first.data, first.noise_seed), (other.data, other.noise_seed))
    )
    assert torch.equal(*noisy) and (noisy[0] != clean).float().mean().item() == pytest.approx(0.4)
    wrong = training_data(replace(other.data, noise_shift=0), other.seed, CPU, False).train.labels
    assert not torch.equal(wrong, noisy[0]), "other seeds have other wrong labels"
    weights = [next(initial_network(s.network, 10, s.seed).parameters()) for s in (first, other)]
    assert not torch.equal(*weights)
