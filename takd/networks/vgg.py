"""VGG with batch norm for CIFAR (Simonyan & Zisserman, ICLR 2015), in the form the KD literature compares."""

from __future__ import annotations

from torch import nn

from takd.networks.staged import Staged, he_fan_out, staged

# Widths of the 3x3 convolutions of each block: configurations A and B of the paper, and the "S" of Tian et al. (CRD,
# ICLR 2020), which has one convolution per block.
BLOCKS: dict[int, tuple[tuple[int, ...], ...]] = {
    8: ((64,), (128,), (256,), (512,), (512,)),
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    13: ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
}


def vgg(size: int, classes: int) -> Staged:
    """Build VGG-8, -11 or -13 for 32x32 RGB images: convolutions with bias, BN and ReLU, one linear layer.

    As released with CRD, whose tables most papers quote: max-pools after the first three blocks only, the last two
    both at 4x4, then an average pool. Ending each block with a pool instead keeps the parameters and needs fewer MACs
    (67.9 instead of 96.2 million for VGG-8 with 100 classes). Stages end after the pools and the last two blocks.
    """
    if size not in BLOCKS:
        raise ValueError(f"VGG comes with {', '.join(map(str, BLOCKS))} layers, not {size}.")
    layers: list[nn.Module] = []
    ends = []
    inputs = 3
    for block, widths in enumerate(BLOCKS[size]):
        for width in widths:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            inputs = width
        if block < 3:
            layers.append(nn.MaxPool2d(2))
        ends.append(len(layers) - 1)
    last = nn.Linear(inputs, classes)
    nn.init.normal_(last.weight, 0.0, 0.01)
    nn.init.zeros_(last.bias)
    network = staged([*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last], ends)
    he_fan_out(network)
    return network
