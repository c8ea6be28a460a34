"""Costs of one step against numbers worked out by hand from the layer lists."""

from __future__ import annotations

import pytest

from takd.costs import looking_macs, step_macs, times_as_much
from takd.stage import LossSpec, StageSpec
from tests.training.conftest import make_stage

MLP8, MLP32 = 64 * 8 + 8 * 10, 64 * 32 + 32 * 10


def stage(network: str, loss: LossSpec, **more: object) -> StageSpec:
    return make_stage(network=network, loss=loss, **more)


def test_a_plain_training_is_forward_and_twice_that_backward() -> None:
    one = stage("mlp-8", LossSpec("kd", 4.0, 0.5), teachers=("a" * 32,))
    assert step_macs(one) == 3 * MLP8 and times_as_much(one) == 1.0 and looking_macs(one, {}) == 0.0


def test_heads_cost_a_forward_pass_of_their_teacher_and_themselves() -> None:
    """head_params counts the bias too: 8 inputs and a bias for each of 10 classes."""
    assert step_macs(stage("mlp-8", LossSpec("heads", None, 0.0))) == MLP8 + 3 * (8 + 1) * 10
    average = LossSpec("heads", None, 0.0, (("pooling", "average"),))
    assert step_macs(stage("resnet-8", average)) < step_macs(stage("resnet-8", LossSpec("heads", None, 0.0)))


def test_sub_models_are_all_run_in_every_step() -> None:
    widths = sum(64 * h + h * 10 for h in (16, 32, 48, 64))
    assert step_macs(stage("slim-mlp-64", LossSpec("joint", None, 0.0))) == 3 * widths


@pytest.mark.parametrize(("order", "turns"), [("together", 1), ("in turn", 2)])
def test_a_cohort_trains_all_its_networks(order: str, turns: int) -> None:
    loss = LossSpec("dml", 1.0, 0.0, (("order", order),) if order != "together" else ())
    assert step_macs(stage("mlp-8", loss, peers=("mlp-32",))) == (turns + 2) * (MLP8 + MLP32)


def test_a_teacher_that_is_looked_into_is_run_in_every_step() -> None:
    teacher = stage("mlp-32", LossSpec("ce", None, 0.0))
    pupil = stage("mlp-8", LossSpec("fitnets", 4.0, 0.5), teachers=(teacher.key,))
    assert looking_macs(pupil, {teacher.key: teacher}) == MLP32 and step_macs(pupil) == 3 * MLP8
