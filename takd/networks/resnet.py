"""CIFAR ResNets (He et al., CVPR 2016): three stages of depth 6k+2 as released with TAKD, and ResNet-18 and -34."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from takd.networks.staged import Staged, he_fan_out, staged

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; the shortcut is a 1x1 projection where the shape changes (option B)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != width:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


def resnet_cifar(size: int, classes: int) -> Staged:
    """Build ResNet-`size` (size = 6k + 2) for 32x32 RGB images: widths 16/32/64, strides 1/2/2, average pool, linear.

    Convolutions start from He's fan-out normal distribution, as in the released TAKD models.
    """
    blocks, remainder = divmod(size - 2, 6)
    if remainder or blocks < 1:
        raise ValueError(f"A CIFAR ResNet has 6k + 2 layers; {size} is not of that form.")
    return _residual((16, 32, 64), (blocks,) * 3, classes)


def resnet_four(size: int, classes: int) -> Staged:
    """Build ResNet-18 or ResNet-34 for 32x32 RGB images: widths 64/128/256/512, strides 1/2/2/2.

    The stem is one 3x3 convolution of stride 1 without a pool, the usual change for CIFAR: ImageNet's stem would leave
    8x8 pixels to the first block.
    """
    if size not in _BLOCKS:
        raise ValueError(f"ResNets of four stages come with {' or '.join(map(str, _BLOCKS))} layers, not {size}.")
    return _residual((64, 128, 256, 512), _BLOCKS[size], classes)


def _residual(widths: Sequence[int], blocks: Sequence[int], classes: int) -> Staged:
    """Stem of the first width, one group of blocks per width (each but the first halves the side), pool, linear."""
    inputs = widths[0]
    layers: list[nn.Module] = [
        nn.Conv2d(3, inputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
    ]
    ends = []
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for index in range(count):
            layers.append(BasicBlock(inputs, width, 2 if stage and index == 0 else 1))
            inputs = width
        ends.append(len(layers) - 1)
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
    network = staged(layers, ends)
    he_fan_out(network)
    return network
