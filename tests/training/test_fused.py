"""The fused layers against the modules they stand for, in float64 where rounding has to be told from error."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from takd.networks.multi import MultiNetwork
from takd.networks.resnet import BasicBlock
from takd.stage import LossSpec
from takd.training import fused, loop
from takd.training.device import Images, TrainingData
from takd.training.fused import training_answers, training_forward
from takd.training.loop import train
from takd.training.progress import Hooks
from takd.training.streams import initial_network
from takd.training.trainees import Every, SubModels, trainee_for

from .conftest import Compiling, make_stage

CPU = torch.device("cpu")


def odd_sizes() -> nn.Sequential:
    """Pooling that leaves a row and a column out, a bias or none, and a tail that cannot be fused."""
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(5, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        BasicBlock(8, 8, 1), BasicBlock(8, 6, 2), nn.Flatten(), nn.LazyLinear(4),
    )  # fmt: skip


def all_widths() -> nn.Module:
    """Every width of a slimmable network in every step."""
    return Every(SubModels(cast(MultiNetwork, initial_network("slim-plain-4", 10, 0)), ("1", "2", "3", "4")))


def fast(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The way through the network that is tested."""
    if not isinstance(network, Every):
        return training_forward(network, False, CPU)
    answers = training_answers(network.trainee, False, CPU)
    assert answers != network.trainee.answers
    return lambda pixels: torch.stack(answers(pixels).logits, dim=1)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "plain-4": (lambda: initial_network("plain-4", 10, 0), 32),
    "resnet-8": (lambda: initial_network("resnet-8", 10, 0), 32),
    "odd": (odd_sizes, 15),
    "widths": (all_widths, 32),
}


def images(side: int, count: int = 6) -> Tensor:
    pixels = torch.randn(count, side, side, 3, generator=torch.Generator().manual_seed(1)) + 0.5
    return pixels.permute(0, 3, 1, 2)


def start(name: str) -> tuple[nn.Module, Tensor]:
    make, side = NETWORKS[name]
    torch.manual_seed(3)
    network, pixels = make(), images(side)
    network(pixels)  # gives lazy layers their size and running statistics a past
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)  # also negative: pooling then takes the smallest
            nn.init.normal_(module.bias)
    return network.to(memory_format=torch.channels_last).train(), pixels


def one_step(network: nn.Module, forward: Callable[[Tensor], Tensor], pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Two forward passes, so that statistics move twice; gradients of the second. Returns logits and image gradient."""
    forward(pixels * 0.5 + 1.0)
    pixels = pixels.detach().requires_grad_()
    logits = forward(pixels)
    (logits.double() ** 2).sum().backward()
    assert pixels.grad is not None
    return logits.detach(), pixels.grad


def close(ours: Tensor, theirs: Tensor, share: float) -> bool:
    """Distance as a share of the norm."""
    theirs = theirs.detach().double()
    return float((ours.detach().double() - theirs).norm()) <= share * float(theirs.norm()) + 1e-9


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_gradients_and_statistics_are_those_of_the_modules(name: str) -> None:
    network, pixels = start(name)
    exact = copy.deepcopy(network).double()
    forward = fast(network)
    assert forward is not network
    logits, to_images = one_step(network, forward, pixels)
    expected, expected_to_images = one_step(exact, exact, pixels.double())
    assert close(logits, expected, 1e-5)
    assert close(to_images, expected_to_images, 1e-4)
    for (label, parameter), other in zip(network.named_parameters(), exact.parameters(), strict=True):
        assert parameter.grad is not None and other.grad is not None
        if name != "resnet-8" and label.endswith("bias") and float(other.grad.norm()) < 1e-9:
            assert not parameter.grad.any()  # a bias in front of batch norm moves nothing
        else:
            assert close(parameter.grad, other.grad, 1e-4), label
    for (label, buffer), other in zip(network.named_buffers(), exact.buffers(), strict=True):
        assert close(buffer, other, 1e-5), label


@pytest.mark.parametrize("name", ["plain-4", "resnet-8"])
def test_bf16_is_as_close_to_the_truth_as_the_modules_are(name: str) -> None:
    network, pixels = start(name)
    modules, exact = copy.deepcopy(network), copy.deepcopy(network).double()
    truth, _ = one_step(exact, exact, pixels.double())
    ours, _ = one_step(network, training_forward(network, True, CPU), pixels.bfloat16())

    def autocast(batch: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return modules(batch)

    theirs, _ = one_step(modules, autocast, pixels.bfloat16())
    assert float((ours.double() - truth).norm()) < 1.5 * float((theirs.double() - truth).norm())
    for ours_, theirs_, true in zip(network.parameters(), modules.parameters(), exact.parameters(), strict=True):
        assert ours_.grad is not None and theirs_.grad is not None and true.grad is not None
        error = float((theirs_.grad.double() - true.grad).norm())
        assert float((ours_.grad.double() - true.grad).norm()) < 2.0 * error + 1e-3 * float(true.grad.norm()) + 1e-6


@pytest.mark.parametrize("name", ["resnet-8", "widths"])
def test_equal_input_gives_equal_bits(name: str) -> None:
    network, pixels = start(name)
    twin = copy.deepcopy(network)
    for one in (network, twin):
        one_step(one, fast(one), pixels)
    for a, b in zip(network.parameters(), twin.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        assert torch.equal(a.grad, b.grad)


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.ReLU()).train()
    with torch.no_grad():
        network[0].weight.fill_(1.0)
    pixels = 1000.0 + torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    exact = copy.deepcopy(network).double()
    assert close(training_forward(network, False, CPU)(pixels), exact(pixels.double()), 1e-3)


def test_not_a_number_stays_visible() -> None:
    network, pixels = start("plain-4")
    pixels = pixels.clone()
    pixels[0, 0, 3, 3] = float("nan")
    assert training_forward(network, False, CPU)(pixels).isnan().any()


def test_a_second_backward_pass_is_refused() -> None:
    network, pixels = start("plain-4")
    loss = training_forward(network, False, CPU)(pixels).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_an_evaluation_goes_through_the_modules() -> None:
    network, pixels = start("plain-4")
    forward = training_forward(network, False, CPU)
    network.eval()
    assert torch.equal(forward(pixels), network(pixels))


def test_where_there_is_nothing_to_fuse_the_network_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    mlp, (cnn, _) = initial_network("mlp-8", 10, 0), start("plain-4")
    assert training_forward(mlp, False, CPU) is mlp
    assert training_forward(cnn, False, torch.device("cuda")) is cnn
    monkeypatch.setattr(fused, "_kernels", lambda: None)  # as without numba
    assert training_forward(cnn, False, CPU) is cnn
    fused.warm_up()


def test_other_networks_of_several_answers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    exits = SubModels(cast(MultiNetwork, initial_network("msdnet-4", 10, 0)), ("1", "2"))
    widths = cast(Every, all_widths()).trainee
    assert training_answers(exits, False, CPU) == exits.answers  # whose exits share their way
    assert training_answers(widths, False, torch.device("cuda")) == widths.answers
    monkeypatch.setattr(fused, "_kernels", lambda: None)  # as without numba
    assert training_answers(widths, False, CPU) == widths.answers


@pytest.mark.parametrize("name", ["plain-4", "resnet-8", "slim-plain-4"])
def test_compiling_is_no_part_of_the_first_trainings_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = Compiling(cast(ModuleType, fused._kernels()))
    monkeypatch.setattr(fused, "_kernels", lambda: kernels)
    monkeypatch.setattr(loop, "time", kernels.time)
    part = Images(torch.randn(20, 32, 32, 3), torch.arange(20) % 10)
    data = TrainingData(part, part, (0.0,) * 3, (1.0,) * 3, 1.0)
    loss = LossSpec("joint" if name.startswith("slim") else "ce", None, 0.0)
    stage = make_stage(network=name, loss=loss, epochs=1)
    network = trainee_for(stage, lambda: nn.Identity(), "")
    progress = train(network, stage, data, (), bf16=False, hooks=Hooks())
    assert kernels.seconds >= 60 > progress.seconds > 0


@pytest.mark.parametrize("name", ["plain-4", "resnet-8", "slim-plain-4"])
def test_a_training_agrees_with_the_reference_mode(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses to 1e-3 and weights to 1e-2 of their norm over three epochs: a max-pool that chooses another of two
    nearly equal values moves them by about 1e-3."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 10, (64,), generator=generator)
    part = Images(torch.randn(64, 32, 32, 3, generator=generator) + labels[:, None, None, None] / 5, labels)
    data = TrainingData(part, part, (0.0,) * 3, (1.0,) * 3, 1.0)
    loss = LossSpec("joint" if name.startswith("slim") else "ce", None, 0.0)
    stage = make_stage(
        network=name, loss=loss, epochs=3, batch=16, lr=0.002, augmentation="crop-flip", weight_decay=5e-4
    )
    rows, weights = [], []
    for engine in ("reference", "fast"):
        monkeypatch.setenv("TAKD_ENGINE", engine)
        network = trainee_for(stage, lambda: nn.Identity(), "").to(memory_format=torch.channels_last)
        rows.append(train(network, stage, data, (), bf16=False, hooks=Hooks()).rows)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in network.parameters()]))
    for plain, fast in zip(*rows, strict=True):
        assert fast["loss"] == pytest.approx(plain["loss"], rel=1e-3)
        assert fast["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-2)
    assert close(weights[1], weights[0], 1e-2)
    assert not torch.equal(weights[1], weights[0])  # else the fused layers were not used
