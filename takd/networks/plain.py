"""Plain CNNs of Mirzadeh et al. (AAAI 2020), sizes 2 to 10, the odd sizes of Son et al. (DGKD, ICCV 2021), and a ladder
of the same layers for 8x8 digits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from takd.networks.staged import Staged, staged
from takd.networks.table import layout

# Numbers are 3x3 convolutions (bias, padding 1, then BN and ReLU), M is a 2x2 max-pool, after "|" come the
# hidden widths of the classifier. CIFAR-100's size 6 has no third pool: that is in the published list.
# Odd sizes: CIFAR-100's are those of the released DGKD code, each the next even size less one convolution. That code
# repeats them for CIFAR-10 with 100 outputs, where its 3 would cost more than the 8; here the same rule (the next even
# size less one convolution) gives CIFAR-10 its own.
LAYERS: dict[str, dict[int, str]] = {
    "small": {
        2: "16 M 16 M |",
        3: "16 16 M 32 M |",
        4: "16 16 M 32 32 M |",
        5: "16 16 M 32 32 M 64 M |",
        6: "16 16 M 32 32 M 64 64 M |",
        7: "16 16 M 32 32 M 64 64 M 128 M | 64",
        8: "16 16 M 32 32 M 64 64 M 128 128 M | 64",
        9: "32 32 M 64 64 M 128 128 M 256 256 256 M | 128",
        10: "32 32 M 64 64 M 128 128 M 256 256 256 256 M | 128",
    },
    "large": {
        2: "32 M 32 M |",
        3: "32 32 M 64 M |",
        4: "32 32 M 64 64 M |",
        5: "32 32 M 64 64 M 128 |",
        6: "32 32 M 64 64 M 128 128 |",
        7: "32 32 M 64 64 M 128 128 M 256 M | 64",
        8: "32 32 M 64 64 M 128 128 M 256 256 M | 64",
        9: "32 32 M 64 64 M 128 128 M 256 256 256 M | 512",
        10: "32 32 M 64 64 M 128 128 M 256 256 256 256 M | 512",
    },
}
IMAGE_SIDE = 32


def layer_list(size: int, classes: int) -> tuple[list[str], list[int]]:
    """(convolutions and pools, hidden widths of the classifier) of one size."""
    convolutions, hidden = LAYERS[layout(classes)][size].split("|")
    return convolutions.split(), [int(item) for item in hidden.split()]


def plain_cnn(size: int, classes: int) -> Staged:
    """Build the plain CNN of one size for 32x32 RGB images.

    Layer lists: Mirzadeh et al., released model definitions (no dropout, flatten, default initialisation). Its stages
    end after each pool, and after the last convolution where no pool follows.
    """
    convolutions, hidden = layer_list(size, classes)
    return _stack(convolutions, hidden, (3, IMAGE_SIDE), classes)


def cnn_8(size: int, classes: int) -> Staged:
    """Build the two-layer plain CNN for 8x8 grey images: `size` channels, then twice as many, each with a pool."""
    return _stack([str(size), "M", str(2 * size), "M"], [], (1, 8), classes)


def _stack(convolutions: Sequence[str], hidden: Sequence[int], image: tuple[int, int], classes: int) -> Staged:
    """The layers of one list for square images (channels, side)."""
    layers: list[nn.Module] = []
    ends: list[int] = []
    channels, side = image
    for item in convolutions:
        if item == "M":
            layers.append(nn.MaxPool2d(2))
            ends.append(len(layers) - 1)
            side //= 2
        else:
            width = int(item)
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
    if convolutions[-1] != "M":
        ends.append(len(layers) - 1)
    layers.append(nn.Flatten())
    features = channels * side * side
    for width in hidden:
        layers += [nn.Linear(features, width), nn.ReLU(inplace=True)]
        features = width
    layers.append(nn.Linear(features, classes))
    return staged(layers, ends)
