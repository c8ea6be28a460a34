"""Plain CNNs of Mirzadeh et al. (AAAI 2020), sizes 2 to 10, with the exact CIFAR-10 and CIFAR-100 layer lists."""

from __future__ import annotations

from torch import nn

from takd.networks.table import layout

# Numbers are 3x3 convolutions (bias, padding 1, then BN and ReLU), M is a 2x2 max-pool, after "|" come the
# hidden widths of the classifier. CIFAR-100's size 6 has no third pool: that is in the published list.
LAYERS: dict[str, dict[int, str]] = {
    "small": {
        2: "16 M 16 M |",
        4: "16 16 M 32 32 M |",
        6: "16 16 M 32 32 M 64 64 M |",
        8: "16 16 M 32 32 M 64 64 M 128 128 M | 64",
        10: "32 32 M 64 64 M 128 128 M 256 256 256 256 M | 128",
    },
    "large": {
        2: "32 M 32 M |",
        4: "32 32 M 64 64 M |",
        6: "32 32 M 64 64 M 128 128 |",
        8: "32 32 M 64 64 M 128 128 M 256 256 M | 64",
        10: "32 32 M 64 64 M 128 128 M 256 256 256 256 M | 512",
    },
}
IMAGE_SIDE = 32


def plain_cnn(size: int, classes: int) -> nn.Sequential:
    """Build the plain CNN of one size for 32x32 RGB images.

    Layer lists: Mirzadeh et al., released model definitions (no dropout, flatten, default initialisation).
    """
    convolutions, hidden = (part.split() for part in LAYERS[layout(classes)][size].split("|"))
    layers: list[nn.Module] = []
    channels, side = 3, IMAGE_SIDE
    for item in convolutions:
        if item == "M":
            layers.append(nn.MaxPool2d(2))
            side //= 2
        else:
            width = int(item)
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
    layers.append(nn.Flatten())
    features = channels * side * side
    for item in hidden:
        layers += [nn.Linear(features, int(item)), nn.ReLU(inplace=True)]
        features = int(item)
    layers.append(nn.Linear(features, classes))
    return nn.Sequential(*layers)
