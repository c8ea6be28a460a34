"""The compiled pass over many small networks, held to the plain loop."""

from __future__ import annotations

import copy
import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from takd.methods.losses import kd_loss
from takd.runs.errors import StageStopped
from takd.stage import LossSpec, StageSpec
from takd.training import mlp_batch
from takd.training.device import Images, TrainingData
from takd.training.loop import train
from takd.training.mlp_batch import Pupil, fits, train_mlps
from takd.training.progress import Hooks, Progress
from takd.training.streams import initial_network
from takd.training.teachers import StoredTeacher
from tests.training.conftest import Compiling, make_stage

KD = LossSpec("kd", 2.0, 0.6)
TIMING = {"seconds", "images_per_second"}


def teacher_answers(seed: int) -> Tensor:
    return 3 * torch.randn(100, 10, generator=torch.Generator().manual_seed(seed))


def with_labels(data: TrainingData, seed: int) -> TrainingData:
    """The same images with a tenth of the training labels drawn again."""
    generator = torch.Generator().manual_seed(seed)
    labels = data.train.labels.clone()
    places = torch.randperm(len(labels), generator=generator)[:10]
    labels[places] = torch.randint(0, 10, (10,), generator=generator)
    return replace(data, train=Images(data.train.pixels, labels))


def pupil(stage: StageSpec, data: TrainingData, answers: Sequence[Tensor] = (), hooks: Hooks | None = None) -> Pupil:
    network = initial_network(stage.network, stage.data.classes, stage.seed)
    return Pupil(network, stage, data, answers, hooks or Hooks(), Progress())


def various(data: TrainingData, **recipe: object) -> list[Pupil]:
    """Networks that differ in all a batch may differ in; two share a teacher, two have several."""
    shared = teacher_answers(1)
    losses = [
        LossSpec("ce", None, 0.0),
        KD,
        LossSpec("kd", 1.0, 0.9),
        LossSpec("kd", 4.0, 0.0),
        LossSpec("kd", 3.0, 1.0),
        LossSpec("dgkd", 2.0, 0.7),
        LossSpec("dgkd", 1.5, 0.7, {"sum": "paper"}),
    ]
    alone = [[], [shared], [teacher_answers(2)], [shared], [teacher_answers(3)]]
    teachers = [*alone, [shared, teacher_answers(4)], [teacher_answers(seed) for seed in (5, 6, 7)]]
    return [
        pupil(make_stage(seed=seed, loss=loss, **recipe), with_labels(data, seed), answers)
        for seed, (loss, answers) in enumerate(zip(losses, teachers, strict=True))
    ]


def without_timing(progress: Progress) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name not in TIMING} for row in progress.rows]


def same_bits(a: Sequence[Pupil], b: Sequence[Pupil]) -> bool:
    return all(
        torch.equal(p, q)
        for one, other in zip(a, b, strict=True)
        for p, q in zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        {"batch": 33, "weight_decay": 0.01},  # a rest of one image is left out
        {"batch": 500},  # more than there are
        {"schedule": "step", "epochs": 8, "momentum": 0.5},
        {"network": "mlp-64"},
        {"network": "mlp-4", "lr": 0.2},
    ],
)
def test_every_network_of_a_batch_ends_where_the_plain_loop_ends(tiny: TrainingData, recipe: dict[str, object]) -> None:
    batch = various(tiny, **recipe)
    assert not train_mlps(batch)
    for one in batch:
        alone = initial_network(one.stage.network, 10, one.stage.seed)
        teachers = [StoredTeacher(answers) for answers in one.answers]
        plain = train(alone, one.stage, one.data, teachers, bf16=False, hooks=Hooks())
        for row, expected in zip(one.progress.rows, plain.rows, strict=True):
            for name in (expected.keys() & row.keys()) - TIMING - {"train_acc", "val_acc"}:
                assert row[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-5), name
            for name in ("train_acc", "val_acc"):  # a tie may fall the other way
                assert row[name] == pytest.approx(expected[name], abs=0.026), name
        for ours, theirs in zip(one.network.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
        assert plain.momentum is not None
        for ours, theirs in zip(one.progress.momentum or [], plain.momentum, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(("temperature", "lam"), [(1.0, 0.9), (2.0, 0.5), (8.0, 1.0), (3.0, 0.0)])
def test_one_step_is_the_gradient_of_the_loss(tiny: TrainingData, temperature: float, lam: float) -> None:
    """Against autograd in float64: one step of the whole set with neither momentum nor decay."""
    stage = make_stage(
        loss=LossSpec("kd", temperature, lam),
        epochs=1,
        batch=100,
        lr=0.5,
        schedule="constant",
        momentum=0.0,
        weight_decay=0.0,
    )
    answers = teacher_answers(5)
    exact = initial_network("mlp-8", 10, 0).double()
    one = pupil(stage, tiny, [answers])
    train_mlps([one])
    pixels, labels = tiny.train.pixels.permute(0, 3, 1, 2).double(), tiny.train.labels
    loss = kd_loss(exact(pixels), labels, answers.double(), temperature=temperature, lam=lam)["loss"]
    loss.backward()
    assert one.progress.rows[0]["loss"] == pytest.approx(float(loss.detach()), rel=1e-6)
    for ours, theirs in zip(one.network.parameters(), exact.parameters(), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(ours.double(), (theirs - 0.5 * theirs.grad).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", ["mlp-8", "mlp-64"])
def test_companions_and_threads_change_no_bit(tiny: TrainingData, network: str) -> None:
    alone, together, threaded = ([p for _ in range(4) for p in various(tiny, network=network)] for _ in range(3))
    for one in alone:
        train_mlps([one])
    train_mlps(together, threads=1)
    train_mlps(threaded, threads=3)
    for batch in (together, threaded):
        assert same_bits(alone, batch)
        assert [without_timing(p.progress) for p in batch] == [without_timing(p.progress) for p in alone]


def test_arms_of_one_seed_start_alike_and_only_the_loss_parts_them(tiny: TrainingData) -> None:
    stages = [make_stage(epochs=1), make_stage(epochs=1, loss=LossSpec("kd", 4.0, 0.0)), make_stage(epochs=1, loss=KD)]
    alone, unheard, heard = batch = [
        pupil(stage, tiny, [] if stage.loss.name == "ce" else [teacher_answers(1)]) for stage in stages
    ]
    train_mlps(batch)
    assert same_bits([alone], [unheard])  # lam = 0 is cross-entropy alone
    assert not same_bits([alone], [heard])


def test_a_stopped_batch_resumes_to_the_same_bits(tiny: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("takd.training.mlp_batch._SLICE_SECONDS", 0.0)  # one epoch of one network at a time
    whole, halved = various(tiny, epochs=6), various(tiny, epochs=6)
    train_mlps(whole)
    done = 0

    def count(_: Progress) -> None:
        nonlocal done
        done += 1

    stopping = [replace(p, hooks=Hooks(stop=lambda: done >= 9, epoch_done=count)) for p in halved]
    with pytest.raises(StageStopped):
        train_mlps(stopping, threads=1)
    assert {0, 3, 6} <= {p.progress.epochs for p in halved}  # some are done, one is half way, some have not begun
    saved = [(copy.deepcopy(p.network.state_dict()), copy.deepcopy(p.progress)) for p in halved]
    resumed = [pupil(p.stage, p.data, p.answers) for p in halved]
    for one, (weights, progress) in zip(resumed, saved, strict=True):
        one.network.load_state_dict(weights)
        one.progress.rows, one.progress.momentum = progress.rows, progress.momentum
    train_mlps(resumed)
    assert same_bits(whole, resumed)
    assert [without_timing(p.progress) for p in whole] == [without_timing(p.progress) for p in resumed]


def test_a_diverged_network_leaves_its_companions_alone(tiny: TrainingData) -> None:
    good, bad = pupil(make_stage(), tiny), pupil(make_stage(seed=1), tiny)
    with torch.no_grad():
        next(bad.network.parameters()).fill_(float("nan"))
    failed = train_mlps([good, bad])
    assert list(failed) == [1]
    assert failed[1].cause_class == "diverged"
    other = pupil(make_stage(), tiny)
    train_mlps([other])
    assert same_bits([good], [other])


@pytest.mark.parametrize("rate", [1e4, 1e30])
def test_a_loss_that_explodes_is_named(tiny: TrainingData, rate: float) -> None:
    failed = train_mlps([pupil(make_stage(lr=rate, epochs=30, schedule="constant"), tiny)])
    assert failed[0].cause_class == "diverged"
    assert "learning rate" in failed[0].sentence


def test_compiling_is_no_part_of_the_first_networks_time(tiny: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Compiling(importlib.import_module(mlp_batch._KERNEL))
    monkeypatch.setitem(sys.modules, mlp_batch._KERNEL, kernel)  # type: ignore[arg-type]
    monkeypatch.setattr(mlp_batch, "time", kernel.time)
    one = pupil(make_stage(), tiny)
    train_mlps([one])
    assert kernel.seconds >= 60 > one.progress.seconds > 0


def test_only_what_it_knows_is_taken() -> None:
    assert fits(make_stage(), "cpu")
    assert not fits(make_stage(), "cuda")
    assert not fits(make_stage(network="plain-2"), "cpu")
    assert not fits(make_stage(augmentation="flip"), "cpu")
    assert not fits(make_stage(loss=LossSpec("other", 1.0, 0.5)), "cpu")


ONE_EPOCH = """
import hashlib
import numpy as np
from takd.training.mlp_kernel import SUMS, train_epochs

draw = np.random.default_rng(0)
pixels = draw.random((500, 64), np.float32)  # and batches of 50 with 10 answers: no whole number of vectors
orders, labels = draw.permutation(500)[None, None], draw.integers(0, 10, (1, 500))
table, entropy = np.full((1, 500, 10), 0.1, np.float32), np.zeros((1, 500), np.float32)
weights = 0.2 * draw.standard_normal((1, 32 * 64 + 32 + 10 * 32 + 10), np.float32)
number = np.ones(1, np.float32)
taught = (table, entropy, np.zeros(1, np.int64), 2 * number, number / 2, number / 2)
state = (weights, np.zeros_like(weights), pixels[:9], labels[0, :9].copy(), np.zeros((1, 1, SUMS)), np.zeros((1, 1, 2)))
rates = np.full((1, 10), 0.1, np.float32)
train_epochs(np.zeros(1, np.int64), pixels, orders, labels, *taught, rates, 0.9, 1e-4, 50, 32, *state)
hits = sum(train_epochs.stats.cache_hits.values())
print(hits, hashlib.sha256(weights.tobytes()).hexdigest())
"""


def test_code_from_the_cache_rounds_like_code_compiled_just_now(tmp_path: Path) -> None:
    run = partial(subprocess.run, [sys.executable, "-c", ONE_EPOCH], capture_output=True, text=True, check=True)
    first, second = (run(env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}).stdout.split() for _ in range(2))
    assert (first[0], second[0]) == ("0", "1")  # compiled, and loaded
    assert first[1] == second[1]
