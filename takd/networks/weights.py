"""Where ImageNet's published weights have to lie, known without torch, so that a run is refused before it starts."""

from __future__ import annotations

import os
from pathlib import Path

# torchvision's files (IMAGENET1K_V1); takd.networks.imagenet loads them and tests hold the two together
WEIGHTS = {
    "pretrained-resnet-18": "resnet18-f37072fd.pth",
    "pretrained-resnet-34": "resnet34-b627a593.pth",
    "pretrained-resnet-50": "resnet50-0676ba61.pth",
    "pretrained-mobilenet-100": "mobilenet_v2-b0353104.pth",
}


def weights_path(name: str) -> Path:
    """Where torch keeps the file: below $TORCH_HOME, default ~/.cache/torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints" / WEIGHTS[name]


def missing_weights(name: str) -> str:
    """Why a network cannot be built here yet and what to do; empty where nothing is missing."""
    if name not in WEIGHTS or weights_path(name).is_file():
        return ""
    return (
        f"ImageNet's weights of {name} are not on this machine ({weights_path(name)} is missing). "
        f"Download them with: python -m takd.networks.imagenet {name}"
    )
