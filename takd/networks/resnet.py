"""CIFAR ResNets of depth 6k+2 (He et al., CVPR 2016) with projection shortcuts, as released with TAKD."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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


def resnet_cifar(size: int, classes: int) -> nn.Sequential:
    """Build ResNet-`size` (size = 6k + 2) for 32x32 RGB images: widths 16/32/64, strides 1/2/2, average pool, linear.

    Convolutions start from He's fan-out normal distribution, as in the released TAKD models.
    """
    blocks, remainder = divmod(size - 2, 6)
    if remainder or blocks < 1:
        raise ValueError(f"A CIFAR ResNet has 6k + 2 layers; {size} is not of that form.")
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    inputs = 16
    for width, first_stride in ((16, 1), (32, 2), (64, 2)):
        for index in range(blocks):
            layers.append(BasicBlock(inputs, width, first_stride if index == 0 else 1))
            inputs = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
