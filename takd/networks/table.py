"""The table of networks: every ladder, its sizes, and what each size costs. Imports no torch.

Adding a network is one builder function (in a module of this package) and one row here;
`python -m takd networks --recount` then refreshes counts.json, and the tests hold it to the built modules.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

COUNTS_FILE = Path(__file__).with_name("counts.json")


@dataclass(frozen=True)
class Network:
    """One architecture at one size.

    `builder` is "module:function" inside `takd.networks`; the function takes (size, classes) and returns a
    `torch.nn.Module` whose forward maps images (B, C, H, W) to logits (B, classes).
    """

    name: str
    family: str
    size: int
    builder: str
    label: str


@dataclass(frozen=True)
class Family:
    """A ladder: networks of one kind in order of size, and the image shape (C, H, W) they read."""

    name: str
    label: str
    input_shape: tuple[int, int, int]
    reference: str


FAMILIES: dict[str, Family] = {
    row.name: row
    for row in (
        Family("mlp", "MLP on 8x8 digits", (1, 8, 8), "one hidden layer, 64-h-10"),
        Family("plain", "plain CNN", (3, 32, 32), "Mirzadeh et al., AAAI 2020, plain CNNs"),
        Family("resnet", "CIFAR ResNet", (3, 32, 32), "He et al., CVPR 2016, as used by Mirzadeh et al."),
    )
}

_SIZES = {
    "mlp": ((4, 8, 16, 32, 64, 128, 256), "mlp:mlp", "{n} hidden units"),
    "plain": ((2, 4, 6, 8, 10), "plain:plain_cnn", "{n} layers"),
    "resnet": ((8, 14, 20, 26, 32, 44, 56, 110), "resnet:resnet_cifar", "{n} layers"),
}

NETWORKS: dict[str, Network] = {
    f"{family}-{n}": Network(f"{family}-{n}", family, n, builder, label.format(n=n))
    for family, (sizes, builder, label) in _SIZES.items()
    for n in sizes
}


@dataclass(frozen=True)
class Capacity:
    """Size of one built network: trainable parameters (BN affine included) and multiply-accumulates of
    convolutions and linear layers for one image."""

    params: int
    macs: int


@cache
def _counts() -> dict[str, Any]:
    return json.loads(COUNTS_FILE.read_text())


def layout(classes: int) -> str:
    """Which layer list a network uses: the published CIFAR-10 list up to 10 classes, else the CIFAR-100 list."""
    return "small" if classes <= 10 else "large"


def capacity(name: str, classes: int) -> Capacity:
    """Parameters and MACs of a network for any number of classes, without building it.

    counts.json holds (constant, per class) pairs, exact because only the last linear layer sees the classes.
    """
    row = _counts()[name][layout(classes)]
    return Capacity(*(constant + slope * classes for constant, slope in (row["params"], row["macs"])))


def ladder(family: str) -> tuple[str, ...]:
    """Names of one family from small to large."""
    return tuple(n.name for n in NETWORKS.values() if n.family == family)


def build(name: str, classes: int) -> Any:
    """Build a network (needs torch)."""
    row = NETWORKS[name]
    module, function = row.builder.split(":")
    return getattr(importlib.import_module(f"takd.networks.{module}"), function)(row.size, classes)
