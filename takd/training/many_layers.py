"""Layers of K networks of one architecture as one: a rule per type of module, whatever network it stands in.

Parameters and buffers are concatenated along their first dimension, (K * n, ...). Between convolutions images are
  grouped: (B, K * C, H, W), with grouped convolutions;
  bmm:     (K, C, B, H, W), with patches laid out as columns and one batched matrix product;
after a Flatten both are (K, B, features). Batch norm over K * C channels is K batch norms. The first layer's images may
be shared by all networks; they are then as wide as one network's, (B, C, H, W) or (1, C, B, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from takd.networks.resnet import BasicBlock
from takd.networks.staged import Staged

Layer = Callable[[Tensor], Tensor]
Rule = Callable[[Any, str, "Stack"], Layer]
WAYS = ("grouped", "bmm")


@dataclass
class Stack:
    """The tensors of K networks by their name in one network's state; `learns` says if batch norms use the batch."""

    models: int
    way: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    learns: bool = True


class CannotBeFolded(Exception):
    """There is no rule for a module of this network."""


def fold(module: nn.Module, name: str, stack: Stack) -> Layer:
    """What `module` (its name ends in a dot, or is empty for the network) does in all K networks at once.

    Raises CannotBeFolded for a type without a rule.
    """
    rules = _GROUPED if stack.way == "grouped" else _BMM
    rule = rules.get(type(module))
    if rule is None:
        raise CannotBeFolded(f"there is no rule for {type(module).__name__}")
    return rule(module, name, stack)


def takes_shared_images(network: nn.Module) -> bool:
    """Whether the first layer that matters is a convolution, which can read one batch for all networks."""
    first = next((m for m in network.modules() if not list(m.children()) and not isinstance(m, nn.Identity)), None)
    return isinstance(first, nn.Conv2d)


def enter(images: Tensor, stack: Stack, shared: bool) -> Tensor:
    """Images (K or 1, B, H, W, C) in the form the first layer reads."""
    if len(images) < stack.models and not shared:
        images = images.expand(stack.models, -1, -1, -1, -1)
    if stack.way == "bmm":
        return images.permute(0, 4, 1, 2, 3)
    return images.permute(1, 2, 3, 0, 4).flatten(3).permute(0, 3, 1, 2)


def _sequential(module: nn.Sequential, name: str, stack: Stack) -> Layer:
    layers = [fold(child, f"{name}{part}.", stack) for part, child in module.named_children()]

    def run(x: Tensor) -> Tensor:
        for layer in layers:
            x = layer(x)
        return x

    return run


def _basic_block(module: BasicBlock, name: str, stack: Stack) -> Layer:
    conv1, bn1, conv2, bn2, shortcut = (
        fold(getattr(module, part), f"{name}{part}.", stack) for part in ("conv1", "bn1", "conv2", "bn2", "shortcut")
    )
    return lambda x: torch.relu(bn2(conv2(torch.relu(bn1(conv1(x))))) + shortcut(x))


def _relu(module: nn.ReLU, name: str, stack: Stack) -> Layer:
    return lambda x: F.relu(x, inplace=module.inplace)


def _identity(module: nn.Identity, name: str, stack: Stack) -> Layer:
    return lambda x: x


def _linear(module: nn.Linear, name: str, stack: Stack) -> Layer:
    weight, bias = stack.tensors[f"{name}weight"], stack.tensors.get(f"{name}bias")

    def run(x: Tensor) -> Tensor:  # (K, B, features)
        turned = weight.unflatten(0, (stack.models, -1)).transpose(1, 2)
        return x @ turned if bias is None else torch.baddbmm(bias.view(stack.models, 1, -1), x, turned)

    return run


def _batch_norm(module: nn.BatchNorm2d, name: str, stack: Stack) -> Layer:
    if module.momentum is None or not module.track_running_stats or not module.affine:
        raise CannotBeFolded("batch norm without running statistics, a fixed momentum or weights")
    tensors = stack.tensors
    mean, var = tensors[f"{name}running_mean"], tensors[f"{name}running_var"]
    weight, bias = tensors[f"{name}weight"], tensors[f"{name}bias"]

    def run(x: Tensor) -> Tensor:
        # In the layout of bmm a channel of a network is one row, so all rows make one image with K * C channels
        rows = x if stack.way == "grouped" else x.reshape(1, len(weight), -1)
        out = F.batch_norm(rows, mean, var, weight, bias, stack.learns, module.momentum or 0.0, module.eps)
        return out.view_as(x) if stack.way == "bmm" else out

    return run


def _pool(module: nn.Module, name: str, stack: Stack) -> Layer:
    """A layer that treats every plane (H, W) alike."""
    if stack.way == "grouped":
        return module.forward
    return lambda x: module.forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _plain_convolution(module: nn.Conv2d) -> None:
    if module.groups != 1 or module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise CannotBeFolded("a convolution with groups or with padding other than a number of zeros")


def _grouped_convolution(module: nn.Conv2d, name: str, stack: Stack) -> Layer:
    _plain_convolution(module)
    weight, bias = stack.tensors[f"{name}weight"], stack.tensors.get(f"{name}bias")

    def run(x: Tensor) -> Tensor:
        groups = x.shape[1] // module.in_channels  # one group where all networks share their images
        return F.conv2d(x, weight, bias, module.stride, module.padding, module.dilation, groups)

    return run


def _bmm_convolution(module: nn.Conv2d, name: str, stack: Stack) -> Layer:
    _plain_convolution(module)
    if module.dilation != (1, 1):
        raise CannotBeFolded("a dilated convolution")
    weight, bias = stack.tensors[f"{name}weight"], stack.tensors.get(f"{name}bias")
    (height, width), models = module.kernel_size, stack.models
    down, across = (int(side) for side in module.padding)

    def run(x: Tensor) -> Tensor:  # (K or 1, C, B, H, W)
        framed = F.pad(x, (across, across, down, down)) if down or across else x
        patches = framed.unfold(3, height, module.stride[0]).unfold(4, width, module.stride[1])
        batch, rows, columns = patches.shape[2:5]
        matrix = patches.permute(0, 1, 5, 6, 2, 3, 4).reshape(len(x), -1, batch * rows * columns)
        kernels = weight.flatten(1)  # (K * out, C * height * width)
        if len(x) == 1:
            out = kernels @ matrix[0] if bias is None else torch.addmm(bias[:, None], kernels, matrix[0])
        else:
            each = kernels.view(models, -1, kernels.shape[1])
            out = each @ matrix if bias is None else torch.baddbmm(bias.view(models, -1, 1), each, matrix)
        return out.view(models, -1, batch, rows, columns)

    return run


def _flatten(module: nn.Flatten, name: str, stack: Stack) -> Layer:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise CannotBeFolded("a Flatten of some dimensions only")
    if stack.way == "grouped":
        return lambda x: x.unflatten(1, (stack.models, -1)).flatten(2).transpose(0, 1)
    return lambda x: x.transpose(1, 2).flatten(2)


_COMMON: Mapping[type[nn.Module], Rule] = {
    nn.Sequential: _sequential,
    Staged: _sequential,
    BasicBlock: _basic_block,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: _relu,
    nn.Identity: _identity,
    nn.MaxPool2d: _pool,
    nn.AdaptiveAvgPool2d: _pool,
    nn.Flatten: _flatten,
    nn.Linear: _linear,
}
_GROUPED: Mapping[type[nn.Module], Rule] = {**_COMMON, nn.Conv2d: _grouped_convolution}
_BMM: Mapping[type[nn.Module], Rule] = {**_COMMON, nn.Conv2d: _bmm_convolution}
