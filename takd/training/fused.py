"""Batch norm, ReLU, shortcut addition and max-pooling of a training step on the CPU in a few passes over memory.

Between its convolutions a small CNN moves memory: as separate modules, batch norm, ReLU and pooling read and write each
activation about a dozen times. Here one pass takes the statistics and one normalises, clips and pools; backward, one
pass sums and one writes the gradient over the convolution's output, which nobody needs any more.

The modules, their parameters and their statistics stay where they are: only the way through them differs. The result
equals theirs up to rounding, with one exception in exact arithmetic's favour: a convolution's bias in front of batch
norm has the gradient 0, where the modules find rounding noise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial, reduce
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from takd.methods.losses.answers import Answers
from takd.networks.resnet import BasicBlock
from takd.networks.slimmable import SlimBatchNorm2d, SlimConv2d, SlimLayer, Slimmable
from takd.networks.staged import Staged
from takd.training.device import uses_bf16
from takd.training.trainees import SubModels, Trainee

Forward = Callable[[Tensor], Tensor]


@cache
def _kernels() -> ModuleType | None:
    """The compiled loops, or None where numba is missing or switched off."""
    try:
        from takd.training import fused_kernels
    except ImportError:
        return None
    return fused_kernels if fused_kernels.COMPILED else None


def training_forward(network: nn.Module, bf16: bool, device: torch.device) -> Forward:
    """What to call on a batch (B, C, H, W) of normalised images in training mode instead of `network`.

    The network itself where it has nothing to fuse, is not on the CPU, or numba is missing. In evaluation mode the
    answer calls the network too. With `bf16` it autocasts by itself.
    """
    if type(network) not in (nn.Sequential, Staged) or device.type != "cpu" or _kernels() is None:
        return network
    layers = list(network.children())
    steps = _steps(list(layers))
    if steps == layers:
        return network
    warm_up()

    def forward(pixels: Tensor) -> Tensor:
        if not network.training:
            return cast(Tensor, network(pixels))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            for step in steps:
                pixels = step(pixels)
        return pixels

    return forward


def training_answers(trainee: Trainee, bf16: bool, device: torch.device) -> Callable[[Tensor], Answers]:
    """The same for what trains more than one plain network: widths of a slimmable network are fused one by one."""
    whole = trainee.whole if isinstance(trainee, SubModels) else None
    if not isinstance(whole, Slimmable) or device.type != "cpu" or _kernels() is None:
        return trainee.answers
    widths = [_steps(list(whole.layers), sub) for sub in range(whole.count)]
    warm_up()

    def answers(pixels: Tensor) -> Answers:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return Answers(tuple(reduce(lambda x, step: step(x), steps, pixels) for steps in widths), main=trainee.main)

    return answers


def warm_up() -> None:
    """Compile the loops for this machine, or load them from the disk: about 10 seconds once, then well under one, and
    a few milliseconds where this process has done it."""
    if _kernels() is None:
        return
    with torch.random.fork_rng(devices=[]):  # a training may have seeded its layers' draws
        layers = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), BasicBlock(8, 8, 1)]
    for bf16 in {False, uses_bf16(torch.device("cpu"), "mixed")}:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = reduce(lambda x, step: step(x), _steps(list(layers)), torch.zeros(2, 1, 4, 4))
        out.sum().backward()


def _steps(modules: list[nn.Module], sub: int = 0) -> list[Forward]:
    """The layers of a Sequential, or of a slimmable network at width `sub`, runs that can be fused taken together."""
    steps: list[Forward] = []
    while modules:
        if _fusible(modules[:2]) and len(modules) > 2 and isinstance(modules[2], nn.ReLU):
            pool = len(modules) > 3 and _halves(modules[3])
            steps.append(_layer(modules[0], modules[1], sub, pool))
            modules = modules[4 if pool else 3 :]
        elif isinstance(modules[0], BasicBlock) and _fusible([modules[0].conv1, modules[0].bn1]):
            steps.append(_block(modules[0]))
            modules = modules[1:]
        else:
            steps.append(partial(modules[0].forward_at, sub=sub) if isinstance(modules[0], SlimLayer) else modules[0])
            modules = modules[1:]
    return steps


def _fusible(modules: list[nn.Module]) -> bool:
    if [type(module) for module in modules] not in ([nn.Conv2d, nn.BatchNorm2d], [SlimConv2d, SlimBatchNorm2d]):
        return False
    convolution, norm = cast(nn.Conv2d, modules[0]), _at_width(modules[1], 0)  # the norms of all widths are alike
    kept = norm.affine and norm.track_running_stats and norm.momentum is not None
    return kept and norm.weight.dtype == torch.float32 and convolution.padding_mode == "zeros"


def _halves(module: nn.Module) -> bool:
    """Whether this is max-pooling of windows 2 x 2 side by side."""
    if type(module) is not nn.MaxPool2d:
        return False
    window = [module.kernel_size, module.stride, module.padding, module.dilation]
    return window == [2, 2, 0, 1] and not module.ceil_mode and not module.return_indices


def _at_width(norm: nn.Module, sub: int) -> nn.BatchNorm2d:
    return cast(nn.BatchNorm2d, norm[sub] if isinstance(norm, SlimBatchNorm2d) else norm)


def _layer(convolution: nn.Module, norms: nn.Module, sub: int, pool: bool) -> Forward:
    norm = _at_width(norms, sub)
    if isinstance(convolution, SlimConv2d):
        slim = convolution
        return lambda x: _normalised_output(slim.convolved(x, sub, None), norm, slim.bias_at(sub), None, pool)
    return lambda x: _normalised(cast(nn.Conv2d, convolution), norm, x, None, pool)


def _block(block: BasicBlock) -> Forward:
    def forward(x: Tensor) -> Tensor:
        out = _normalised(block.conv1, block.bn1, x, None, False)
        return _normalised(block.conv2, block.bn2, out, block.shortcut(x), False)

    return forward


def _normalised(convolution: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor, shortcut: Tensor | None, pool: bool) -> Tensor:
    """ReLU(BN(convolution(x)) + shortcut), then max-pooling; the bias is left to the running mean, as it cancels."""
    c = convolution
    z = F.conv2d(x, c.weight, None, c.stride, c.padding, c.dilation, c.groups)
    return _normalised_output(z, norm, c.bias, shortcut, pool)


def _normalised_output(
    z: Tensor, norm: nn.BatchNorm2d, offset: Tensor | None, shortcut: Tensor | None, pool: bool
) -> Tensor:
    answer: Tensor = _BatchNormReLU.apply(z, norm.weight, norm.bias, offset, shortcut, norm, pool)
    return answer


class _BatchNormReLU(torch.autograd.Function):
    """max(BN(z + offset) + shortcut, 0), pooled or not, with batch statistics and the update of the running ones.

    `z` (B, C, H, W) belongs to this function: backward writes its gradient over it, so it runs once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        weight: Tensor,
        bias: Tensor,
        offset: Tensor | None,
        shortcut: Tensor | None,
        norm: nn.BatchNorm2d,
        pool: bool,
    ) -> Tensor:
        kernels = cast(ModuleType, _kernels())
        rows = _rows(z)
        batch, height, width, channels = rows.shape
        mean, variance = kernels.moments(_flat(rows), channels)
        _update(norm, mean, variance, offset, rows.numel() // channels)
        spread = 1 / np.sqrt(variance + norm.eps)
        scale = weight.numpy() * spread
        constants = np.zeros((5, channels), np.float32)
        constants[:3] = scale, bias.numpy() - mean * scale, mean
        extra: tuple[Tensor, ...] = ()
        if pool:
            y = rows.new_empty((batch, height // 2, width // 2, channels))
            extra = torch.empty_like(y), torch.empty_like(y, dtype=torch.uint8)
            kernels.normalise_pool(_array(rows), constants[:2], _array(y), _array(extra[0]), extra[1].numpy())
        elif shortcut is None:
            y = torch.empty_like(rows)
            kernels.normalise(_flat(rows), constants[:2], _flat(y))
        else:
            y = torch.empty_like(rows)
            kernels.normalise_add(_flat(rows), _flat(_rows(shortcut).to(rows.dtype)), constants[:2], _flat(y))
            extra = (y,)
        ctx.save_for_backward(rows, *extra)
        ctx.constants, ctx.spread, ctx.pool = constants, spread, pool
        ctx.offset = None if offset is None else torch.zeros_like(offset)
        ctx.shortcut = None if shortcut is None else shortcut.dtype
        return y.permute(0, 3, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kernels = cast(ModuleType, _kernels())
        if ctx.spread is None:
            raise RuntimeError("This layer's backward pass overwrites what it reads and cannot run a second time.")
        rows, *extra = ctx.saved_tensors
        constants, g, opened = ctx.constants, _rows(gradient).to(rows.dtype), None
        if ctx.pool:
            total, products = kernels.sums(_flat(extra[0]), _flat(g), constants[:3])
        elif ctx.shortcut is None:
            total, products = kernels.sums(_flat(rows), _flat(g), constants[:3])
        else:
            opened = torch.empty_like(g)
            total, products = kernels.sums_add(_flat(rows), _flat(extra[0]), _flat(g), constants[:3], _flat(opened))
        # Ioffe and Szegedy 2015, section 3: the gradient through the batch's own mean and variance
        count, scale = rows.numel() // rows.shape[-1], constants[0]
        constants[3] = -scale * products * ctx.spread**2 / count
        constants[4] = -scale * total / count
        if ctx.pool:
            kernels.input_gradient_pool(_array(rows), _array(g), extra[1].numpy(), constants)
        elif opened is None:
            kernels.input_gradient(_flat(rows), _flat(g), constants)
        else:
            kernels.input_gradient_add(_flat(rows), _flat(opened), constants)
        weight, bias = (torch.from_numpy(v.astype(np.float32)) for v in (products * ctx.spread, total))
        ctx.spread = None
        below = None if opened is None else opened.to(ctx.shortcut).permute(0, 3, 1, 2)
        return rows.permute(0, 3, 1, 2), weight, bias, ctx.offset, below, None, None


def _update(norm: nn.BatchNorm2d, mean: Any, variance: Any, offset: Tensor | None, count: int) -> None:
    """Move the running statistics as torch's BatchNorm2d does: unbiased variance, a step of `momentum`."""
    running_mean, running_var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    momentum = cast(float, norm.momentum)
    here = torch.from_numpy(mean.astype(np.float32))
    running_mean.lerp_(here if offset is None else here + offset, momentum)
    running_var.lerp_(torch.from_numpy((variance * count / max(count - 1, 1)).astype(np.float32)), momentum)
    cast(Tensor, norm.num_batches_tracked).add_(1)


def _rows(images: Tensor) -> Tensor:
    """(B, C, H, W) as contiguous (B, H, W, C): no copy where memory is channels-last."""
    return images.permute(0, 2, 3, 1).contiguous()


def _array(tensor: Tensor) -> Any:
    """The memory of a tensor as the compiled loops want it: bfloat16 as its bits."""
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def _flat(tensor: Tensor) -> Any:
    return _array(tensor.view(-1))
