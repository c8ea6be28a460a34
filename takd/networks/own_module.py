"""Run the user's file and build its network. Only training and the check do this, each in a process of its own."""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from takd.networks.own import kept_file
from takd.networks.table import NetworkError


class Own(nn.Module):
    """A user's network as training sees it: a box around it. What is known about layers holds for the networks of this
    package; a user's modules may use theirs in other ways than they stand in a row, so no engine takes them apart."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits


def load(file: Path, name: str) -> ModuleType:
    """The file as a module called `name`; what its code raises is passed on."""
    spec = spec_from_loader(name, SourceFileLoader(name, str(file)))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses in the file look themselves up there
    spec.loader.exec_module(module)
    return module


def own_network(name: str, classes: int) -> Own:
    """Build the checked network `name`. Raises NetworkError when its file is not here or does not build any more."""
    file = kept_file(name)
    try:
        network = load(file, name.replace("-", "_")).build(classes)
    except Exception as error:  # a file may raise anything
        text = f"{type(error).__name__}: {error}".splitlines()[0][:150]
        raise NetworkError(
            f"{name} cannot be built here ({text}). It was checked before, so look for a package that is missing now."
        ) from error
    if not isinstance(network, nn.Module):
        raise NetworkError(f"{name} does not build a torch.nn.Module for {classes} classes; check it for that number.")
    return Own(network)
