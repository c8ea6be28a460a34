"""Random streams, one per (root seed, network, purpose, epoch).

Deriving each stream by name instead of drawing from one global generator lets two arms of a pair share the student's
initial weights and batch order, whatever was trained before, and lets a resumed run continue bit for bit.
"""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from takd.networks.table import build


def stream_seed(seed: int, network: str, purpose: str, epoch: int = 0) -> int:
    """A 63-bit seed. Purposes in use: init, order, augment, layers."""
    digest = hashlib.sha256(f"{seed}/{network}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def initial_network(name: str, classes: int, seed: int) -> nn.Module:
    """The network with its initial weights: always drawn on the CPU, so that every device starts alike."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(seed, name, "init"))  # torch.manual_seed also looks for GPUs
        return build(name, classes)


def seed_layers(seed: int, network: str, epoch: int, device: torch.device) -> None:
    """What layers draw while they train (dropout) also follows from the epoch, not from what was trained before."""
    root = stream_seed(seed, network, "layers", epoch)
    torch.default_generator.manual_seed(root)
    if device.type == "cuda":
        torch.cuda.manual_seed(root)


def draws_in_layers(network: nn.Module) -> bool:
    """Whether its layers draw while they train."""
    return any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 for module in network.modules())


def epoch_order(images: int, seed: int, network: str, epoch: int) -> torch.Tensor:
    """The order in which an epoch visits the training images, (images,) int64."""
    generator = torch.Generator().manual_seed(stream_seed(seed, network, "order", epoch))
    return torch.randperm(images, generator=generator)
