"""Methods of the table in the training loop: several teachers, schedules, chance, and terms by name."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from takd.methods.losses.step import gates_for
from takd.methods.table import METHODS, recipe_at
from takd.stage import LossSpec, StageSpec
from takd.training.device import TrainingData
from takd.training.loop import train
from takd.training.objective import Objective, changes
from takd.training.progress import Hooks, Progress
from takd.training.streams import epoch_order, initial_network, stream_seed
from takd.training.teachers import StoredTeacher

from .conftest import make_stage
from .tape import TapeCapture

LOGIT_METHODS = ("kd", "dgkd", "eskd", "akd", "dkd", "dist", "ls", "normkd", "ats")


def tables(count: int, images: int = 1000) -> list[Tensor]:
    return [3 * torch.randn(images, 10, generator=torch.Generator().manual_seed(k)) for k in range(count)]


def loss_at(method: str, length: int, **values: object) -> LossSpec:
    return recipe_at(METHODS[method], values, length - 1, length, temperature=2.0, lam=0.5)


def trained(
    stage: StageSpec, data: TrainingData, teachers: list[Tensor], **options: object
) -> tuple[nn.Module, Progress]:
    network = initial_network(stage.network, 10, stage.seed)
    heard = [StoredTeacher(table) for table in teachers]
    return network, train(network, stage, data, heard, bf16=False, hooks=Hooks(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LOGIT_METHODS)
def test_every_method_of_answers_trains(name: str, tiny: TrainingData) -> None:
    """All terms are finite and in the rows; the network moves; the same stage twice gives the same bits."""
    teachers = 2 if name == "dgkd" else 1
    stage = make_stage(network="mlp-8", loss=loss_at(name, teachers + 1), epochs=4, lr=0.01)
    network, progress = trained(stage, tiny, tables(teachers))
    again, _ = trained(stage, tiny, tables(teachers))
    assert all(math.isfinite(value) for row in progress.rows for value in row.values())
    terms = set(
        Objective(stage, teachers)(
            torch.zeros(2, 10), torch.zeros(2, dtype=torch.int64), [t[:2] for t in tables(teachers)]
        )
    )
    assert {f"loss_{term}" for term in terms - {"loss"}} <= set(progress.rows[0])
    assert {"loss", "loss_ce", "loss_kl"} <= set(progress.rows[0])
    pairs = list(zip(network.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(pairs[0][0], next(initial_network("mlp-8", 10, 0).parameters()))


def test_dense_guidance_is_the_loop_a_reader_would_write(tiny: TrainingData) -> None:
    """Three teachers, drop-one, worked out with plain torch: who is dropped comes from (seed, step) alone."""
    teachers, values = tables(3), {"gate": "drop-one", "sum": "code"}
    stage = make_stage(
        network="mlp-8", loss=loss_at("dgkd", 4, **values), epochs=2, schedule="constant", weight_decay=0.0
    )
    network, _ = trained(stage, tiny, teachers)
    plain, recipe = initial_network("mlp-8", 10, stage.seed), stage.recipe
    optimiser = torch.optim.SGD(plain.parameters(), lr=recipe.lr, momentum=0.9, nesterov=True)
    images, steps = tiny.train.pixels.permute(0, 3, 1, 2), len(tiny.train) // recipe.batch
    gates = gates_for(stage.loss, stream_seed(stage.seed, stage.network, "gates"), range(2 * steps), 3)
    assert gates is not None and set(np.unique(gates.sum(1))) == {2.0}
    for epoch in range(2):
        order = epoch_order(len(tiny.train), stage.seed, stage.network, epoch)
        for step in range(steps):
            index = order[step * recipe.batch : (step + 1) * recipe.batch]
            z = plain(images[index])
            loss = 0.5 * F.cross_entropy(z, tiny.train.labels[index])
            for i, table in enumerate(teachers):
                if gates[epoch * steps + step, i]:
                    target = F.softmax(table[index] / 2.0, dim=1)
                    loss = loss + 0.5 * 4.0 * F.kl_div(F.log_softmax(z / 2.0, dim=1), target, reduction="batchmean")
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_resumed_training_hears_the_same_teachers(tiny: TrainingData) -> None:
    stage = make_stage(network="mlp-8", loss=loss_at("dgkd", 3, gate="bernoulli"), epochs=3)
    whole, progress = trained(stage, tiny, tables(2))
    half = replace(stage, recipe=replace(stage.recipe, epochs=3))
    network, kept = initial_network("mlp-8", 10, stage.seed), Progress()

    class Enough(Exception): ...

    def stop_after_two(now: Progress) -> None:
        if now.epochs == 2:
            raise Enough

    heard = [StoredTeacher(table) for table in tables(2)]
    with pytest.raises(Enough):
        train(network, half, tiny, heard, bf16=False, hooks=Hooks(epoch_done=stop_after_two), progress=kept)
    train(network, half, tiny, heard, bf16=False, hooks=Hooks(), progress=kept)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), network.parameters(), strict=True))
    assert [row["loss"] for row in progress.rows] == [row["loss"] for row in kept.rows]


def test_a_schedule_reaches_the_epochs_it_promises(tiny: TrainingData) -> None:
    """Early-stopped KD: the teacher's term leaves the loss after half of the epochs, not after half of the rows."""
    stage = make_stage(network="mlp-8", loss=loss_at("eskd", 2, stop=0.5), epochs=4)
    _, progress = trained(stage, tiny, tables(1))
    for row in progress.rows[:2]:
        assert row["loss"] == pytest.approx(0.5 * row["loss_ce"] + 0.5 * row["loss_kl"], rel=1e-5)
    for row in progress.rows[2:]:
        assert row["loss"] == pytest.approx(row["loss_ce"], rel=1e-6)


def test_only_losses_that_stay_the_same_are_recorded(tiny: TrainingData) -> None:
    assert not changes(loss_at("kd", 2)) and not changes(loss_at("dgkd", 3)) and not changes(loss_at("dist", 2))
    assert changes(loss_at("eskd", 2)) and changes(loss_at("dgkd", 3, gate="drop-one"))
    for name, recorded in (("dist", 2), ("eskd", 0)):
        stage, capture = make_stage(network="mlp-8", loss=loss_at(name, 2), epochs=2), TapeCapture()
        plain, _ = trained(stage, tiny, tables(1))
        other, _ = trained(stage, tiny, tables(1), capture=capture)
        assert len(capture.tapes) == recorded
        assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), other.parameters(), strict=True))


def test_a_missing_teacher_is_an_error_and_never_a_random_one(tiny: TrainingData) -> None:
    for name in LOGIT_METHODS:
        with pytest.raises(ValueError, match="teacher"):
            trained(make_stage(network="mlp-8", loss=loss_at(name, 2)), tiny, [])
