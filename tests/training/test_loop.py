"""The loop against a plain PyTorch loop, and against each training fault of the published code."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from takd.runs.errors import StageFailed, StageStopped
from takd.stage import LossSpec, StageSpec
from takd.training.checkpoints import checkpoint_bytes, load_checkpoint, load_weights, weights_bytes
from takd.training.device import Images, TrainingData
from takd.training.loop import train
from takd.training.predicting import predict
from takd.training.progress import Hooks, Progress
from takd.training.schedules import learning_rate
from takd.training.streams import epoch_order, initial_network, stream_seed
from takd.training.teachers import StoredTeacher, freeze, live_teacher

from .conftest import make_stage

KD = LossSpec("kd", 4.0, 0.9)


def start(stage: StageSpec) -> nn.Module:
    return initial_network(stage.network, stage.data.classes, stage.seed)


def teacher_network() -> nn.Module:
    return freeze(initial_network("mlp-64", 10, 99))


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def plain_loop(stage: StageSpec, data: TrainingData, teacher: nn.Module | None) -> nn.Module:
    """What a reader of the paper would write, with no shortcuts."""
    network, recipe = start(stage), stage.recipe
    optimiser = torch.optim.SGD(
        network.parameters(), lr=1.0, momentum=recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay
    )
    images, labels = data.train.pixels.permute(0, 3, 1, 2).contiguous(), data.train.labels
    steps = len(labels) // recipe.batch
    for epoch in range(recipe.epochs):
        order = epoch_order(len(labels), stage.seed, stage.network, epoch)
        for step in range(steps):
            index = order[step * recipe.batch : (step + 1) * recipe.batch]
            z = network(images[index])
            loss = F.cross_entropy(z, labels[index])
            if teacher is not None:
                t, lam = stage.loss.temperature or 1.0, stage.loss.lam
                with torch.no_grad():
                    p = F.softmax(teacher(images[index]) / t, dim=1)
                kl = F.kl_div(F.log_softmax(z / t, dim=1), p, reduction="batchmean")
                loss = (1 - lam) * loss + lam * t * t * kl
            optimiser.param_groups[0]["lr"] = learning_rate(
                recipe.schedule, recipe.lr, epoch * steps + step, steps * recipe.epochs
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network


@pytest.mark.parametrize("taught", [False, True])
def test_same_weights_as_a_plain_pytorch_loop(tiny: TrainingData, taught: bool) -> None:
    stage = make_stage(loss=KD) if taught else make_stage()
    teacher = teacher_network() if taught else None
    network = start(stage)
    train(network, stage, tiny, [live_teacher([teacher], False)] if teacher else [], bf16=False, hooks=Hooks())
    for ours, theirs in zip(network.parameters(), plain_loop(stage, tiny, teacher).parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert not equal(network, start(stage))


def test_stored_answers_equal_the_live_teacher(tiny: TrainingData) -> None:
    stage, teacher = make_stage(loss=KD), teacher_network()
    live, stored = start(stage), start(stage)
    train(live, stage, tiny, [live_teacher([teacher], False)], bf16=False, hooks=Hooks())
    train(stored, stage, tiny, [StoredTeacher(predict(teacher, tiny.train, False))], bf16=False, hooks=Hooks())
    for a, b in zip(live.parameters(), stored.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_teacher_is_frozen_in_evaluation_mode_and_never_changes(tiny: TrainingData) -> None:
    """TAKD back-propagates through the teacher; KD_Lib leaves it in training mode."""
    stage = make_stage(loss=KD)
    teacher = freeze(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10)))
    before = copy.deepcopy(teacher)
    train(start(stage), stage, tiny, [live_teacher([teacher], False)], bf16=False, hooks=Hooks())
    assert equal(teacher, before)
    assert not teacher.training
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


def test_student_is_back_in_training_mode_after_each_validation(tiny: TrainingData) -> None:
    """KD_Lib switches to evaluation mode once and trains that way from the second epoch on."""
    modes: list[bool] = []

    class Spy(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            modes.append(self.training)
            return super().forward(x)

    stage = make_stage(epochs=2)
    train(Spy(nn.Flatten(), nn.Linear(64, 10)), stage, tiny, (), bf16=False, hooks=Hooks())
    assert modes == [True] * 5 + [False] + [True] * 5 + [False]


def test_pairs_share_initial_weights_and_order_whatever_was_trained_before(tiny: TrainingData) -> None:
    """TAKD seeds once: a teacher trained in the same process changes the student's data order."""
    stage = make_stage()
    alone = start(stage)
    train(alone, stage, tiny, (), bf16=False, hooks=Hooks())
    train(start(make_stage(network="mlp-64")), make_stage(network="mlp-64"), tiny, (), bf16=False, hooks=Hooks())
    torch.rand(17)
    after = start(stage)
    train(after, stage, tiny, (), bf16=False, hooks=Hooks())
    assert equal(alone, after)


def test_arms_of_one_seed_share_the_students_start_and_batch_order(tiny: TrainingData) -> None:
    """What pairing rests on: the streams know the seed and the network, not the way it is taught."""
    arms = [make_stage(), make_stage(loss=KD), make_stage(loss=LossSpec("kd", 1.0, 0.5), teachers=("a" * 32,))]
    assert len({stage.key for stage in arms}) == 3
    first, *others = (start(stage) for stage in arms)
    assert all(equal(first, other) for other in others)
    batches = []
    for stage in arms:
        seen: list[torch.Tensor] = []

        class Spy(nn.Sequential):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                seen.append(x.detach().clone())  # noqa: B023
                return super().forward(x)

        teachers = [live_teacher([teacher_network()], False)] if stage.loss.name == "kd" else []
        train(Spy(nn.Flatten(), nn.Linear(64, 10)), stage, tiny, teachers, bf16=False, hooks=Hooks())
        batches.append(seen)
    for other in batches[1:]:
        assert all(torch.equal(a, b) for a, b in zip(batches[0], other, strict=True))


def test_streams_differ_by_seed_network_purpose_and_epoch() -> None:
    seeds = {
        stream_seed(0, "a", "init"),
        stream_seed(1, "a", "init"),
        stream_seed(0, "b", "init"),
        stream_seed(0, "a", "order"),
        stream_seed(0, "a", "order", 1),
    }
    assert len(seeds) == 5
    assert sorted(epoch_order(50, 0, "a", 0).tolist()) == list(range(50))
    assert not torch.equal(epoch_order(50, 0, "a", 0), epoch_order(50, 0, "a", 1))


def test_the_global_generator_is_left_alone(tiny: TrainingData) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    start(make_stage())
    assert torch.equal(torch.rand(3), expected)


def test_step_schedule_uses_its_first_rate() -> None:
    """TAKD compares the epoch with half of itself, so ResNets never see 0.1."""
    rates = [learning_rate("step", 0.1, epoch, 160) for epoch in range(160)]
    assert rates[:80] == [0.1] * 80
    assert rates[80:120] == pytest.approx([0.01] * 40)
    assert rates[120:] == pytest.approx([0.001] * 40)


def test_one_cycle_rises_to_the_peak_and_falls_towards_zero() -> None:
    rates = [learning_rate("one-cycle", 0.2, step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(0.2)
    assert rates.index(max(rates)) == 19
    assert rates[0] == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0.2 / 80)
    assert learning_rate("constant", 0.2, 3, 10) == 0.2
    with pytest.raises(ValueError, match="Unknown"):
        learning_rate("cosine?", 0.1, 0, 1)


def test_batch_size_is_honoured(tiny: TrainingData) -> None:
    """TAKD parses --batch-size and ignores it."""
    seen: list[int] = []

    class Spy(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                seen.append(len(x))
            return super().forward(x)

    train(Spy(nn.Flatten(), nn.Linear(64, 10)), make_stage(batch=25, epochs=1), tiny, (), bf16=False, hooks=Hooks())
    assert seen == [25] * 4


def test_resume_is_bit_identical(tiny: TrainingData) -> None:
    stage = make_stage(loss=KD, epochs=5)
    teacher = StoredTeacher(predict(teacher_network(), tiny.train, False))
    whole = start(stage)
    rows = train(whole, stage, tiny, [teacher], bf16=False, hooks=Hooks()).rows
    kept: list[bytes] = []
    network = start(stage)
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 13  # in the middle of the third epoch

    hooks = Hooks(stop=stop, epoch_done=lambda p: kept.append(checkpoint_bytes(network, p)))
    with pytest.raises(StageStopped):
        train(network, stage, tiny, [teacher], bf16=False, hooks=hooks)
    resumed = start(stage)
    progress = load_checkpoint(resumed, kept[-1])
    assert progress.epochs == 2
    again = train(resumed, stage, tiny, [teacher], bf16=False, hooks=Hooks(), progress=progress).rows
    assert equal(whole, resumed)
    timing = {"seconds", "images_per_second"}
    assert [{k: v for k, v in r.items() if k not in timing} for r in again] == [
        {k: v for k, v in r.items() if k not in timing} for r in rows
    ]


def test_stop_takes_effect_before_the_next_batch(tiny: TrainingData) -> None:
    asked = []
    with pytest.raises(StageStopped):
        train(start(make_stage()), make_stage(), tiny, (), bf16=False, hooks=Hooks(stop=lambda: not asked.append(1)))
    assert len(asked) == 1


def test_divergence_has_a_name_and_a_cause(tiny: TrainingData) -> None:
    stage = make_stage(lr=1e12, schedule="constant", epochs=5)
    with pytest.raises(StageFailed, match="learning rate") as caught:
        train(start(stage), stage, tiny, (), bf16=False, hooks=Hooks())
    assert caught.value.args[0] == "diverged" or getattr(caught.value, "cause_class", "") == "diverged"


def test_weights_of_another_network_are_refused_not_half_loaded() -> None:
    """DIH's loader silently keeps a random teacher when names do not match."""
    raw = weights_bytes(initial_network("mlp-16", 10, 0))
    with pytest.raises(ValueError, match="do not fit"):
        load_weights(initial_network("mlp-8", 10, 0), raw)
    with pytest.raises(ValueError, match="do not fit"):
        load_weights(initial_network("mlp-16", 10, 0), raw[:200])


def test_damaged_checkpoint_is_refused(tiny: TrainingData) -> None:
    network = start(make_stage())
    raw = checkpoint_bytes(network, Progress([{"epoch": 1.0, "seconds": 1.0}]))
    for bad in (b"", raw[:50], raw[: len(raw) // 2], b"x" * 100):
        with pytest.raises(ValueError, match="checkpoint"):
            load_checkpoint(network, bad)


def test_rows_hold_each_term_and_a_learner_learns(tiny: TrainingData) -> None:
    stage = make_stage(loss=KD, epochs=8)
    rows = train(start(stage), stage, tiny, [live_teacher([teacher_network()], False)], bf16=False, hooks=Hooks()).rows
    for row in rows:
        assert row["loss"] == pytest.approx(0.1 * row["loss_ce"] + 0.9 * row["loss_kl"], rel=1e-5)
    assert rows[-1]["loss"] < rows[0]["loss"]
    plain = train(start(make_stage(epochs=15)), make_stage(epochs=15), tiny, (), bf16=False, hooks=Hooks()).rows
    assert plain[-1]["val_acc"] > 0.5
    assert plain[-1]["loss_kl"] == 0.0


@pytest.mark.parametrize("augmentation", ["flip", "crop-flip"])
def test_augmentation_is_on_when_asked_for_and_repeatable(tiny: TrainingData, augmentation: str) -> None:
    """TAKD's augmentation defaults to off and nothing can switch it on."""
    stage = make_stage(augmentation=augmentation, loss=KD)
    a, b, without = start(stage), start(stage), start(stage)
    for network, recipe in ((a, stage), (b, stage), (without, make_stage(loss=KD))):
        train(network, recipe, tiny, [live_teacher([teacher_network()], False)], bf16=False, hooks=Hooks())
    assert equal(a, b)
    assert not equal(a, without)


def photographs(count: int, seed: int) -> Images:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (count,), generator=generator)
    return Images(torch.randn(count, 32, 32, 3, generator=generator) + labels[:, None, None, None] / 5, labels)


@pytest.mark.parametrize("bf16", [False, True])
def test_resume_of_a_convolutional_network_is_bit_identical(bf16: bool) -> None:
    """Weights lie channels-last in memory, checkpoints do not: momentum must find its own weight again. With batch
    norm, random views and a live teacher."""
    data = TrainingData(photographs(64, 1), photographs(20, 2), (0.0,) * 3, (1.0,) * 3, 1.0)
    stage = make_stage(network="plain-2", loss=KD, augmentation="crop-flip", epochs=4, batch=16, lr=0.02)

    def network() -> nn.Module:
        return start(stage).to(memory_format=torch.channels_last)

    teacher = live_teacher([freeze(initial_network("plain-4", 10, 5))], bf16)
    whole = network()
    train(whole, stage, data, [teacher], bf16=bf16, hooks=Hooks())
    kept: list[bytes] = []
    interrupted = network()
    asked = iter(range(100))
    hooks = Hooks(lambda: next(asked) >= 10, epoch_done=lambda p: kept.append(checkpoint_bytes(interrupted, p)))
    with pytest.raises(StageStopped):
        train(interrupted, stage, data, [teacher], bf16=bf16, hooks=hooks)
    resumed = network()
    progress = load_checkpoint(resumed, kept[-1])
    assert progress.epochs == 2
    train(resumed, stage, data, [teacher], bf16=bf16, hooks=Hooks(), progress=progress)
    assert equal(whole, resumed)
