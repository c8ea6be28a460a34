"""The table of networks: every ladder, its sizes, and what each size costs. Imports no torch.

Adding a network is one builder function (in a module of this package) and one row here;
`python -m takd networks --recount` then refreshes counts.json, and the tests hold it to the built modules.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

COUNTS_FILE = Path(__file__).with_name("counts.json")
OWN = "own"  # the family of networks read from the user's files, see takd.networks.own
WIDTHS = (0.25, 0.5, 0.75, 1.0)  # of every slimmable network


class NetworkError(RuntimeError):
    """A network that cannot be built here; the message is a sentence and the next action."""


@dataclass(frozen=True)
class Network:
    """One architecture at one size.

    `builder` is "module:function" inside `takd.networks`; the function takes (size, classes) and returns a
    `torch.nn.Module` whose forward maps images (B, C, H, W) to logits (B, classes). Sizes that are not a `rung` stand
    between those of the published ladder: they can be chosen, but a sweep over the ladder leaves them out. `subs` names
    the sub-models of a network that holds several, small to large; such a network is a `takd.networks.multi`.
    """

    name: str
    family: str
    size: int
    builder: str
    label: str
    rung: bool = True
    subs: tuple[str, ...] = ()
    part: int = 0


@dataclass(frozen=True)
class Family:
    """A ladder: networks of one kind in order of size, and the image shape (C, H, W) they read and are counted at.

    `sides`: the smallest and the largest square image the family can read where that is not fixed; its MACs still are
    those at `input_shape`. `by_image`: while it learns, what it says about an image does not depend on the others of
    the batch, nor on chance (no batch norm, no dropout).
    """

    name: str
    label: str
    input_shape: tuple[int, int, int]
    reference: str
    sides: tuple[int, int] | None = None
    by_image: bool = False

    def reads(self, shape: tuple[int, int, int]) -> bool:
        """Whether images (C, H, W) fit."""
        low, high = self.sides or (self.input_shape[1],) * 2
        return shape[0] == self.input_shape[0] and shape[1] == shape[2] and low <= shape[1] <= high


_RGB, _GREY, _LARGE = (3, 32, 32), (1, 8, 8), (3, 224, 224)
_WRN = "Zagoruyko & Komodakis, BMVC 2016"
_SLIM = "Yu et al., ICLR 2019"
_RESNET = "He et al., CVPR 2016"
_MOBILE = "Sandler et al., CVPR 2018"

FAMILIES: dict[str, Family] = {
    row.name: row
    for row in (
        Family("mlp", "MLP on 8x8 digits", _GREY, "one hidden layer, 64-h-10", by_image=True),
        Family("cnn8", "small CNN on 8x8 digits", _GREY, "two convolutions, with the layers of Mirzadeh et al."),
        Family("plain", "plain CNN", _RGB, "Mirzadeh et al., AAAI 2020, plain CNNs"),
        Family("resnet", "CIFAR ResNet", _RGB, "He et al., CVPR 2016, as used by Mirzadeh et al."),
        Family("wrn-16", "WRN-16", _RGB, _WRN),
        Family("wrn-28", "WRN-28", _RGB, _WRN),
        Family("wrn-40", "WRN-40", _RGB, _WRN),
        Family("vgg", "VGG with BN", _RGB, "Simonyan & Zisserman, ICLR 2015, as used by Tian et al., ICLR 2020"),
        Family("resnet4", "four-stage ResNet, CIFAR stem", _RGB, f"{_RESNET}, as used by Asadian & Salehi-Abari"),
        Family("slim-mlp", "slimmable MLP", _GREY, f"after {_SLIM}", by_image=True),
        Family("slim-plain", "slimmable plain CNN", _RGB, f"{_SLIM}, with the layers of Mirzadeh et al., AAAI 2020"),
        Family("slim-mobilenet", "slimmable MobileNet-V1", _RGB, _SLIM),
        Family("msdnet", "MSDNet", _RGB, "Huang et al., ICLR 2018"),
        Family("imagenet-resnet", "ImageNet ResNet", _LARGE, f"{_RESNET}, torchvision", (64, 256)),
        Family("imagenet-mobilenet", "MobileNet-V2", _LARGE, f"{_MOBILE}, torchvision", (64, 256)),
        Family("pretrained-resnet", "ImageNet ResNet, pretrained", _LARGE, f"{_RESNET}, torchvision", (64, 256)),
        Family("pretrained-mobilenet", "MobileNet-V2, pretrained", _LARGE, f"{_MOBILE}, torchvision", (64, 256)),
        Family(OWN, "your own network", _RGB, "a Python file of yours"),
    )
}

# family -> (sizes from small to large in MACs, builder, label)
_SIZES: dict[str, tuple[tuple[int, ...], str, str]] = {
    "mlp": ((4, 8, 16, 32, 64, 128, 256), "mlp:mlp", "{n} hidden units"),
    "cnn8": ((2, 4, 8, 16, 32), "plain:cnn_8", "{n} and twice {n} channels"),
    "plain": ((2, 3, 4, 5, 6, 7, 8, 9, 10), "plain:plain_cnn", "{n} layers"),
    "resnet": ((8, 14, 20, 26, 32, 44, 56, 110), "resnet:resnet_cifar", "{n} layers"),
    "wrn-16": ((1, 2, 4, 8), "wide_resnet:wrn_16", "16 layers, width {n}"),
    "wrn-28": ((2, 4, 10), "wide_resnet:wrn_28", "28 layers, width {n}"),
    "wrn-40": ((1, 2, 4), "wide_resnet:wrn_40", "40 layers, width {n}"),
    "vgg": ((8, 11, 13), "vgg:vgg", "{n} layers"),
    "resnet4": ((18, 34), "resnet:resnet_four", "{n} layers"),
    "slim-mlp": ((64, 256), "slimmable:mlp", "up to {n} hidden units"),
    "slim-plain": ((4, 6), "slimmable:plain", "{n} layers"),
    "slim-mobilenet": ((1, 2, 4), "slimmable:mobilenet", "last map {n}x{n}"),
    "msdnet": ((4, 5, 7), "msdnet:msdnet", "{n} exits"),
    "imagenet-resnet": ((18, 34, 50), "imagenet:resnet", "{n} layers"),
    "imagenet-mobilenet": ((50, 75, 100), "imagenet:mobilenet", "{n} % of the channels"),
    "pretrained-resnet": ((18, 34, 50), "imagenet:pretrained_resnet", "{n} layers"),
    "pretrained-mobilenet": ((100,), "imagenet:pretrained_mobilenet", "{n} % of the channels"),
}
_BETWEEN_RUNGS = {"plain-3", "plain-5", "plain-7", "plain-9"}  # of Son et al.; Mirzadeh et al. have the even sizes


def _subs(family: str, size: int) -> tuple[str, ...]:
    if family.startswith("slim-"):
        return tuple(f"width {width:g}" for width in WIDTHS)
    return tuple(f"exit {k}" for k in range(1, size + 1)) if family == "msdnet" else ()


class _Networks(dict[str, Network]):
    """The table by name. Looking up `own-` and eight digits also finds a checked file of the user's; listing the table
    does not, so that what can be chosen never depends on what lies on a disk. Likewise `slim-plain-4@1` finds the
    smallest sub-model of a network as one of its own."""

    def __missing__(self, name: str) -> Network:
        whole, at, part = name.partition("@") if isinstance(name, str) else ("", "", "")
        if at and whole in self and part in map(str, range(1, len(self[whole].subs) + 1)):
            row, number = self[whole], int(part)
            label = f"{row.subs[number - 1]} of {whole}"
            return replace(row, name=name, label=label, rung=False, subs=(), part=number)
        from takd.networks.own import find  # here, because it needs the rows above

        found = find(name) if isinstance(name, str) else None
        if found is None:
            raise KeyError(name)
        return Network(name, OWN, 0, "own_module:own_network", found.file, rung=False)

    def __contains__(self, name: object) -> bool:
        return self.get(name) is not None

    def get(self, name: Any, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default


NETWORKS: dict[str, Network] = _Networks(
    {
        name: Network(name, family, n, builder, label.format(n=n), name not in _BETWEEN_RUNGS, _subs(family, n))
        for family, (sizes, builder, label) in _SIZES.items()
        for n in sizes
        for name in [f"{family}-{n}"]
    }
)


def family_of(name: str) -> str:
    """The family of a network. Of a user's own it is known from the name, whether or not its file is here."""
    return OWN if name.startswith(f"{OWN}-") else NETWORKS[name].family


@dataclass(frozen=True)
class Capacity:
    """Size of one built network: trainable parameters (BN affine included) and multiply-accumulates of
    convolutions and linear layers for one image. Of a network with sub-models: all its parameters, and the MACs of the
    largest."""

    params: int
    macs: int


@dataclass(frozen=True)
class SubModel:
    """One sub-model of `network`: parameters and MACs when it is deployed alone, and the MACs spent when every smaller
    one has answered before it (an MSDNet shares the way, a slimmable network starts again)."""

    name: str
    network: str
    label: str
    params: int
    macs: int
    macs_with_smaller: int


@cache
def _counts() -> dict[str, Any]:
    return json.loads(COUNTS_FILE.read_text())


def layout(classes: int) -> str:
    """Which layer list a network uses: the published CIFAR-10 list up to 10 classes, else the CIFAR-100 list."""
    return "small" if classes <= 10 else "large"


def _at(pair: list[int], classes: int) -> int:
    """counts.json holds (constant, per class) pairs, exact because only last linear layers see the classes."""
    return pair[0] + pair[1] * classes


def capacity(name: str, classes: int) -> Capacity:
    """Parameters and MACs of a network for any number of classes, without building it.

    Of a user's own network: those measured when it was checked, for the nearest number of classes that was.
    """
    if name.startswith(f"{OWN}-"):
        from takd.networks.own import find

        found = find(name, classes)
        if found is None:
            raise KeyError(name)
        return Capacity(found.params, max(1, found.macs))  # 0 for layers that multiply nothing
    if part := NETWORKS[name].part:
        alone = sub_models(name.partition("@")[0], classes)[part - 1]
        return Capacity(alone.params, alone.macs)
    row = _counts()[name][layout(classes)]
    return Capacity(_at(row["params"], classes), _at(row["macs"], classes))


def capacity_or_least(name: str, classes: int) -> Capacity:
    """As capacity; next to nothing for a user's network whose file is gone, because its training will not begin."""
    try:
        return capacity(name, classes)
    except KeyError:
        if family_of(name) != OWN:
            raise
        return Capacity(1, 1)


def size_order(name: str) -> float:
    """What networks are ordered by: MACs per pixel of the images they are counted at.

    MACs rise along every ladder (parameters do not, on CIFAR-100). On one data set all networks see the same number of
    pixels, so the order is that of their MACs there, also for networks that read images of several sizes.
    """
    if family_of(name) == OWN:
        from takd.networks.own import find

        found = find(name, 10)
        if found is None:
            raise KeyError(name)
        return found.macs / (found.input_shape[1] * found.input_shape[2])
    _, height, width = FAMILIES[NETWORKS[name].family].input_shape
    return capacity(name, 10).macs / (height * width)


def sub_models(name: str, classes: int) -> tuple[SubModel, ...]:
    """The sub-models of a network, small to large; empty for an ordinary one."""
    labels = NETWORKS[name].subs
    if not labels:
        return ()
    rows = _counts()[name][layout(classes)]["subs"]
    return tuple(
        SubModel(f"{name}@{k}", name, label, *(_at(row[what], classes) for what in ("params", "macs", "together")))
        for k, (label, row) in enumerate(zip(labels, rows, strict=True), 1)
    )


def stage_shapes(name: str, classes: int) -> tuple[tuple[int, ...], ...]:
    """Shape (C, H, W) of each stage's output for one image, (C,) of an MLP's; empty for a network without stages."""
    if name.startswith(f"{OWN}-") or NETWORKS[name].part:
        return ()
    return tuple(tuple(shape) for shape in _counts()[name][layout(classes)].get("stages", ()))


def ladder(family: str) -> tuple[str, ...]:
    """Names of one family's rungs from small to large."""
    return tuple(n.name for n in NETWORKS.values() if n.family == family and n.rung)


def is_tiny(name: str) -> bool:
    """Whether a network is too small to gain from a GPU: those for 8x8 images."""
    return FAMILIES[family_of(name)].input_shape == _GREY


def build(name: str, classes: int) -> Any:
    """Build a network (needs torch). Raises NetworkError when a file it needs is not on this machine."""
    own = family_of(name) == OWN
    module, function = ("own_module:own_network" if own else NETWORKS[name].builder).split(":")
    make = getattr(importlib.import_module(f"takd.networks.{module}"), function)
    made = make(name if own else NETWORKS[name].size, classes)
    return made.sub(NETWORKS[name].part - 1) if not own and NETWORKS[name].part else made
