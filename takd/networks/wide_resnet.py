"""Wide residual networks WRN-d-k (Zagoruyko & Komodakis, BMVC 2016), basic blocks without dropout."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from takd.networks.staged import Staged, he_fan_out, staged


class PreActivationBlock(nn.Module):
    """BN, ReLU and convolution, twice; where the shape changes a 1x1 convolution of the activated input is added,
    elsewhere the input itself."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        changes = stride != 1 or inputs != width
        self.projection = nn.Conv2d(inputs, width, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        active = torch.relu(self.bn1(x))
        out = self.conv2(torch.relu(self.bn2(self.conv1(active))))
        return out + (x if self.projection is None else self.projection(active))


def wrn_16(width: int, classes: int) -> Staged:
    """Build WRN-16-`width` for 32x32 RGB images."""
    return wide_resnet(16, width, classes)


def wrn_28(width: int, classes: int) -> Staged:
    """Build WRN-28-`width` for 32x32 RGB images."""
    return wide_resnet(28, width, classes)


def wrn_40(width: int, classes: int) -> Staged:
    """Build WRN-40-`width` for 32x32 RGB images."""
    return wide_resnet(40, width, classes)


def wide_resnet(depth: int, width: int, classes: int) -> Staged:
    """Build WRN-`depth`-`width` (depth = 6n + 4): stem of 16, then widths 16k/32k/64k with strides 1/2/2.

    A stage's output is the sum that leaves its last block, before the next BN and ReLU.
    """
    blocks, remainder = divmod(depth - 4, 6)
    if remainder or blocks < 1 or width < 1:
        raise ValueError(f"A WRN has 6n + 4 layers and a width of at least 1; {depth}-{width} is not of that form.")
    inputs = 16
    layers: list[nn.Module] = [nn.Conv2d(3, inputs, 3, padding=1, bias=False)]
    ends = []
    for stage, channels in enumerate((16 * width, 32 * width, 64 * width)):
        for index in range(blocks):
            layers.append(PreActivationBlock(inputs, channels, 2 if stage and index == 0 else 1))
            inputs = channels
        ends.append(len(layers) - 1)
    layers += [nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    last = nn.Linear(inputs, classes)
    nn.init.zeros_(last.bias)
    network = staged([*layers, last], ends)
    he_fan_out(network)
    return network
