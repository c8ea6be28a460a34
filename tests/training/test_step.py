"""One training step: its losses for one and for many networks, its update, its counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from takd.stage import LossSpec
from takd.training.objective import Objective
from takd.training.step import (
    CORRECT,
    Step,
    loss_of_many,
    sgd_,
    sgd_of_many_,
    stack_losses,
    zero_momenta,
)
from takd.training.streams import initial_network

from .conftest import make_stage
from .tape import Writer

SPECS = [
    LossSpec("ce", None, 0.0),
    LossSpec("kd", 4.0, 0.9),
    LossSpec("kd", 1.0, 0.5),
    LossSpec("kd", 2.0, 1.0),
    LossSpec("kd", 8.0, 0.0),
]
STAGES = [make_stage(network="mlp-8", loss=spec) for spec in SPECS]
HEARS = [0, 1, 1, 1, 1]


def answers(seed: int, *shape: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("stacked", [False, True], ids=["at once", "one by one"])
def test_losses_of_many_are_those_of_each(stacked: bool) -> None:
    student = answers(0, 5, 6, 10).requires_grad_()
    labels, teacher = torch.arange(30).reshape(5, 6) % 10, answers(1, 5, 6, 10)
    each = [Objective(stage, hears) for stage, hears in zip(STAGES, HEARS, strict=True)]
    many = stack_losses(each, HEARS) if stacked else loss_of_many(STAGES, HEARS, teacher)
    terms = many(student, labels, [teacher])
    terms["loss"].sum().backward()
    for k, loss in enumerate(each):
        own = student.detach()[k].clone().requires_grad_()
        alone = loss(own, labels[k], [teacher[k]][: HEARS[k]])
        alone["loss"].backward()
        for name, value in alone.items():
            torch.testing.assert_close(terms[name][k], value, rtol=1e-12, atol=1e-14)
        assert own.grad is not None and student.grad is not None
        torch.testing.assert_close(student.grad[k], own.grad, rtol=1e-10, atol=1e-14)


def test_losses_of_many_without_any_teacher_have_no_kl() -> None:
    loss = loss_of_many(STAGES[:1] * 2, [0, 0], answers(0, 1))
    assert set(loss(answers(0, 2, 3, 10), torch.zeros(2, 3, dtype=torch.int64), [])) == {"loss", "ce"}


def test_a_teacher_hears_nothing_of_the_loss() -> None:
    teacher = answers(1, 2, 4, 10).requires_grad_()
    student = answers(0, 2, 4, 10).requires_grad_()
    loss = loss_of_many(STAGES[1:3], [1, 1], teacher)
    loss(student, torch.zeros(2, 4, dtype=torch.int64), [teacher])["loss"].sum().backward()
    assert teacher.grad is None
    assert student.grad is not None


@pytest.mark.parametrize("tensor_rate", [False, True])
def test_the_update_is_that_of_torch(tensor_rate: bool) -> None:
    """Bit for bit, channels-last weights and a parameter that has no gradient included."""
    recipe = replace(make_stage().recipe, momentum=0.9, weight_decay=1e-3)
    ours, theirs = (initial_network("plain-2", 10, 3).to(memory_format=torch.channels_last) for _ in range(2))
    unused = nn.Parameter(torch.ones(3))
    optimiser = torch.optim.SGD(theirs.parameters(), 0.1, 0.9, weight_decay=1e-3, nesterov=True, fused=True)
    parameters = [*ours.parameters(), unused]
    momenta = zero_momenta(parameters, None)
    for step, rate in enumerate((0.1, 0.03, 0.7)):
        images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(step))
        for network in (ours, theirs):
            network.zero_grad()
            network(images).square().mean().backward()
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
        sgd_(parameters, momenta, torch.tensor([rate], dtype=torch.float64) if tensor_rate else rate, recipe)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(unused, torch.ones(3))


def test_the_update_of_many_gives_each_its_own_rate() -> None:
    recipe = replace(make_stage().recipe, momentum=0.8, weight_decay=1e-2)
    rates = torch.tensor([0.5, 0.0, 0.01], dtype=torch.float64)
    stacked = [answers(0, 6, 4), answers(1, 9)]
    whole = [nn.Parameter(part.clone()) for part in stacked]
    alone = [[nn.Parameter(part.chunk(3)[k].clone()) for part in stacked] for k in range(3)]
    momenta, own_momenta = zero_momenta(whole, None), [zero_momenta(part, None) for part in alone]
    for step in range(3):
        for place, parameter in enumerate(whole):
            parameter.grad = answers(10 * step + place, *parameter.shape)
            for k in range(3):
                alone[k][place].grad = parameter.grad.chunk(3)[k].clone()
        sgd_of_many_(whole, momenta, rates, recipe)
        for k in range(3):
            sgd_(alone[k], own_momenta[k], float(rates[k]), recipe)
    for k in range(3):
        for parameter, own in zip(whole, alone[k], strict=True):
            torch.testing.assert_close(parameter.detach().chunk(3)[k], own.detach(), rtol=1e-12, atol=1e-14)
    assert torch.equal(whole[0].detach().chunk(3)[1], stacked[0].chunk(3)[1])


def test_momenta_lie_as_their_parameters_do() -> None:
    weight = torch.zeros(4, 3, 3, 3).to(memory_format=torch.channels_last)
    saved = torch.arange(108.0).reshape(4, 3, 3, 3)
    (momentum,) = zero_momenta([weight], [saved])
    assert momentum.stride() == weight.stride()
    assert torch.equal(momentum, saved)


def tiny_step(network: nn.Module, rate_seen: list[Tensor | float]) -> Step:
    return Step(
        network,
        lambda index, images: [],
        Objective(STAGES[0], 0),
        rate_seen.append,
        list(network.parameters()),
        False,
    )


def test_a_step_counts_on_the_device_and_reads_nothing() -> None:
    network, rates = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), []
    step = tiny_step(network, rates)
    images, labels, index = torch.randn(6, 1, 8, 8), torch.arange(6), torch.arange(6)
    expected = torch.nn.functional.cross_entropy(network(images), labels)
    right = (network(images).argmax(1) == labels).sum()
    with Writer() as writer:  # raises where a value is read on the host
        step(index, images, labels, 0.1)
        step(index, images, labels, 0.2)
    assert writer.written
    assert rates == [0.1, 0.2]
    torch.testing.assert_close(step.totals["loss"], 2 * expected.detach())
    assert step.totals[CORRECT] == 2 * right
    step.begin_epoch()
    assert all(total == 0 for total in step.totals.values())


def test_gradients_are_written_not_added() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    step = tiny_step(network, [])
    batch = torch.arange(6), torch.randn(6, 1, 8, 8), torch.arange(6), 0.1
    step(*batch)
    first = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    step(*batch)
    for before, parameter in zip(first, network.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, before)
