"""torchvision's ImageNet networks as teachers of larger images, from scratch or with their published weights.

The published weights are never fetched while a network is built: `python -m takd.networks.imagenet NAME` downloads
them, once and on request, to torch's own folder ($TORCH_HOME, default ~/.cache/torch).
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum

from takd.networks.staged import Staged, staged
from takd.networks.table import NetworkError

_RESNETS: dict[int, tuple[Callable[..., nn.Module], WeightsEnum]] = {
    18: (models.resnet18, models.ResNet18_Weights.IMAGENET1K_V1),
    34: (models.resnet34, models.ResNet34_Weights.IMAGENET1K_V1),
    50: (models.resnet50, models.ResNet50_Weights.IMAGENET1K_V1),
}
_MOBILENET = models.MobileNet_V2_Weights.IMAGENET1K_V1
_PUBLISHED: dict[str, WeightsEnum] = {
    **{f"pretrained-resnet-{size}": weights for size, (_, weights) in _RESNETS.items()},
    "pretrained-mobilenet-100": _MOBILENET,
}


def resnet(size: int, classes: int) -> Staged:
    """Build torchvision's ResNet-18, -34 or -50 for RGB images of 64 to 256 pixels (ImageNet's 7x7 stem and pool)."""
    return _in_stages(_RESNETS[size][0](num_classes=classes))


def pretrained_resnet(size: int, classes: int) -> Staged:
    """The same from ImageNet's weights, with a fresh last layer for `classes`.

    Raises NetworkError when the weights are not on this machine.
    """
    make, weights = _RESNETS[size]
    network = make()
    _fill(network, f"pretrained-resnet-{size}", weights)
    network.fc = nn.Linear(int(network.fc.in_features), classes)  # type: ignore[arg-type, union-attr]
    return _in_stages(network)


def mobilenet(size: int, classes: int) -> Staged:
    """Build torchvision's MobileNet-V2 with `size` % of its channels, for RGB images of 64 to 256 pixels."""
    return _mobile_in_stages(models.mobilenet_v2(num_classes=classes, width_mult=size / 100))


def pretrained_mobilenet(size: int, classes: int) -> Staged:
    """MobileNet-V2 (size 100: no other width is published) from ImageNet's weights, with a fresh last layer.

    Raises NetworkError when the weights are not on this machine.
    """
    network = models.mobilenet_v2()
    _fill(network, f"pretrained-mobilenet-{size}", _MOBILENET)
    network.classifier[-1] = nn.Linear(network.last_channel, classes)
    return _mobile_in_stages(network)


def _in_stages(network: Any) -> Staged:
    """A torchvision ResNet in one line; a stage ends with each of its four groups."""
    stem = [network.conv1, network.bn1, network.relu, network.maxpool]
    groups = [network.layer1, network.layer2, network.layer3, network.layer4]
    return staged([*stem, *groups, network.avgpool, nn.Flatten(), network.fc], ends=range(4, 8))


def _mobile_in_stages(network: Any) -> Staged:
    """A torchvision MobileNet-V2 in one line; a stage ends before each halving of the side, and before the pool."""
    layers = list(network.features)
    halving = [i for i, layer in enumerate(layers) if any(getattr(m, "stride", 1) == (2, 2) for m in layer.modules())]
    ends = [i - 1 for i in halving if i > 0] + [len(layers) - 1]
    return staged([*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *network.classifier], ends)


def weights_file(weights: WeightsEnum) -> Path:
    """Where torch keeps a downloaded file of weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]


def _fill(network: nn.Module, name: str, weights: WeightsEnum) -> None:
    if torch.get_default_device().type == "meta":
        return  # only counted: there is nothing to fill
    file = weights_file(weights)
    how = f"Download them with: python -m takd.networks.imagenet {name}"
    if not file.is_file():
        raise NetworkError(
            f"ImageNet's weights of {name} are not on this machine ({file} is missing). {how}; on a machine without "
            f"internet, copy the file of {weights.url} there."
        )
    digest = re.search(r"-([0-9a-f]{8,})\.", file.name)
    if digest is None or not _sha256(file).startswith(digest.group(1)):
        raise NetworkError(f"The file {file} is damaged: its bytes do not match its name. Delete it. {how}.")
    network.load_state_dict(weights.get_state_dict(progress=False, weights_only=True))


def _sha256(file: Path) -> str:
    with file.open("rb") as raw:
        return hashlib.file_digest(raw, "sha256").hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Download the weights of the named networks; returns the exit code."""
    names = list(sys.argv[1:] if arguments is None else arguments)
    if not names or not set(names) <= _PUBLISHED.keys():
        print(f"Name one or more of {', '.join(_PUBLISHED)}.", file=sys.stderr)
        return 2
    for name in names:
        weights = _PUBLISHED[name]
        try:
            weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            print(f"{weights.url} cannot be fetched ({error}). Check the connection, then try again.", file=sys.stderr)
            return 1
        print(f"{name}: {weights_file(weights)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
