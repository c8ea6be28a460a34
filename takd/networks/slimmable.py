"""Slimmable networks (Yu et al., ICLR 2019): one set of weights, several widths, private batch norm per width.

A narrower sub-model uses the first channels of every tensor. Statistics and affine parameters of BN are duplicated per
width, so no calibration is needed after training. MobileNet-V1 as in the paper; the plain CNN and the MLP are small
relatives that a CPU trains in under a minute.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from takd.networks.multi import MultiNetwork
from takd.networks.plain import IMAGE_SIDE, layer_list
from takd.networks.staged import he_fan_out
from takd.networks.table import WIDTHS

# MobileNet-V1: (channels at width 1, blocks) of each group of depthwise-separable blocks (Howard et al., 2017).
_GROUPS = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))
# Side of the last map for 32x32 images -> (stride of the stem, first stride of each group). 1: ImageNet's strides, as
# in the released slimmable code. Which strides the IPKD-TA paper uses on CIFAR is not known (UNVERIFIED).
_STRIDES: dict[int, tuple[int, tuple[int, ...]]] = {
    1: (2, (1, 2, 2, 2, 2)),
    2: (1, (1, 2, 2, 2, 2)),
    4: (1, (1, 1, 2, 2, 2)),
}


class SlimConv2d(nn.Conv2d):
    """A convolution whose first `outputs[k]` filters read the first `inputs[k]` channels at width k."""

    def __init__(
        self, inputs: Sequence[int], outputs: Sequence[int], kernel: int, *, stride: int = 1, padding: int = 0,
        depthwise: bool = False, bias: bool = False,
    ) -> None:  # fmt: skip
        groups = inputs[-1] if depthwise else 1
        super().__init__(inputs[-1], outputs[-1], kernel, stride, padding, groups=groups, bias=bias)
        self.inputs, self.outputs, self.depthwise = tuple(inputs), tuple(outputs), depthwise

    def forward_at(self, x: Tensor, sub: int) -> Tensor:
        return self.convolved(x, sub, self.bias_at(sub))

    def bias_at(self, sub: int) -> Tensor | None:
        return None if self.bias is None else self.bias[: self.outputs[sub]]

    def convolved(self, x: Tensor, sub: int, bias: Tensor | None) -> Tensor:
        """At one width, with a bias or without."""
        inputs = self.inputs[sub]
        weight = self.weight[: self.outputs[sub], : 1 if self.depthwise else inputs]
        groups = inputs if self.depthwise else 1
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, groups)

    def parameters_at(self, sub: int) -> int:
        per_filter = (1 if self.depthwise else self.inputs[sub]) * self.kernel_size[0] * self.kernel_size[1]
        return self.outputs[sub] * (per_filter + (self.bias is not None))


class SlimBatchNorm2d(nn.ModuleList):
    """One batch norm per width."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__(nn.BatchNorm2d(width) for width in channels)

    def forward_at(self, x: Tensor, sub: int) -> Tensor:
        return self[sub](x)

    def parameters_at(self, sub: int) -> int:
        return sum(p.numel() for p in self[sub].parameters())


class SlimLinear(nn.Linear):
    """A linear layer that reads the first `inputs[k]` features and gives the first `outputs[k]` at width k.

    Behind a flattened map, inputs are multiples of its area: the first channels are the first features.
    """

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        super().__init__(inputs[-1], outputs[-1])
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)

    def forward_at(self, x: Tensor, sub: int) -> Tensor:
        outputs = self.outputs[sub]
        return F.linear(x, self.weight[:outputs, : self.inputs[sub]], self.bias[:outputs])

    def parameters_at(self, sub: int) -> int:
        return self.outputs[sub] * (self.inputs[sub] + 1)


SlimLayer = SlimConv2d | SlimBatchNorm2d | SlimLinear


class Slimmable(MultiNetwork):
    """A chain of layers, some of which know their widths; sub-model k is width `WIDTHS[k]`."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.count = len(WIDTHS)

    def answer(self, x: Tensor, sub: int) -> Tensor:
        for layer in self.layers:
            x = layer.forward_at(x, sub) if isinstance(layer, SlimLayer) else layer(x)
        return x

    def parameters_of(self, sub: int) -> int:
        return sum(layer.parameters_at(sub) for layer in self.layers if isinstance(layer, SlimLayer))


def widths_of(channels: int, divisor: int = 1) -> tuple[int, ...]:
    """A layer's channels at each width: rounded to a multiple of `divisor`, but never below 90 % of the product."""
    found = []
    for width in WIDTHS:
        wanted = channels * width
        rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
        found.append(rounded + divisor if rounded < 0.9 * wanted else rounded)
    return tuple(found)


def mobilenet(size: int, classes: int) -> Slimmable:
    """Build slimmable MobileNet-V1 for 32x32 RGB images, whose last map is `size` x `size` (1, 2 or 4).

    Stem 3x3 of 32, then blocks of depthwise 3x3 and pointwise 1x1 convolutions, each with BN and ReLU6, global average
    pool, one linear classifier. Size 1 keeps ImageNet's strides; at a 1x1 map its BN cannot train on a batch of one.
    """
    if size not in _STRIDES:
        raise ValueError(f"The last map is {', '.join(map(str, _STRIDES))} pixels wide, not {size}.")
    stem_stride, first_strides = _STRIDES[size]
    colours = (3,) * len(WIDTHS)
    channels = widths_of(32, 8)
    layers: list[nn.Module] = [SlimConv2d(colours, channels, 3, stride=stem_stride, padding=1)]
    layers += [SlimBatchNorm2d(channels), nn.ReLU6(inplace=True)]
    for (base, blocks), first_stride in zip(_GROUPS, first_strides, strict=True):
        for index in range(blocks):
            wider, stride = widths_of(base, 8), first_stride if index == 0 else 1
            layers += [
                SlimConv2d(channels, channels, 3, stride=stride, padding=1, depthwise=True),
                SlimBatchNorm2d(channels),
                nn.ReLU6(inplace=True),
                SlimConv2d(channels, wider, 1),
                SlimBatchNorm2d(wider),
                nn.ReLU6(inplace=True),
            ]
            channels = wider
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), SlimLinear(channels, (classes,) * len(WIDTHS))]
    network = Slimmable(layers)
    he_fan_out(network)
    return network


def plain(size: int, classes: int) -> Slimmable:
    """Build a slimmable plain CNN for 32x32 RGB images: at full width the plain CNN of the same size, layer by layer.

    All widths divide the channels exactly, so a sub-model is a plain CNN with a quarter, half, three quarters or all
    of the channels in every layer (hidden linear layers included).
    """
    convolutions, hidden = layer_list(size, classes)
    layers: list[nn.Module] = []
    channels: tuple[int, ...] = (3,) * len(WIDTHS)
    side = IMAGE_SIDE
    for item in convolutions:
        if item == "M":
            layers.append(nn.MaxPool2d(2))
            side //= 2
        else:
            wider = widths_of(int(item))
            layers += [SlimConv2d(channels, wider, 3, padding=1, bias=True), SlimBatchNorm2d(wider)]
            layers.append(nn.ReLU(inplace=True))
            channels = wider
    layers.append(nn.Flatten())
    features = tuple(c * side * side for c in channels)
    for width in hidden:
        layers += [SlimLinear(features, widths_of(width)), nn.ReLU(inplace=True)]
        features = widths_of(width)
    layers.append(SlimLinear(features, (classes,) * len(WIDTHS)))
    return Slimmable(layers)


def mlp(size: int, classes: int) -> Slimmable:
    """Build a slimmable MLP for 8x8 digits: 64 -> a quarter to all of `size` hidden units -> `classes`."""
    hidden = widths_of(size)
    everything = (64,) * len(WIDTHS)
    return Slimmable(
        [
            nn.Flatten(),
            SlimLinear(everything, hidden),
            nn.ReLU(inplace=True),
            SlimLinear(hidden, (classes,) * len(WIDTHS)),
        ]
    )
