"""Count parameters and MACs of built networks; the one place that writes counts.json."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn

from takd.networks.table import COUNTS_FILE, FAMILIES, NETWORKS, Capacity, build


def count(network: nn.Module, input_shape: tuple[int, int, int]) -> Capacity:
    """Trainable parameters, and multiply-accumulates of convolutions and linear layers for one image."""
    macs = 0

    def conv_hook(module: nn.Conv2d, _: Any, output: torch.Tensor) -> None:
        nonlocal macs
        macs += output[0].numel() * module.weight[0].numel()

    def linear_hook(module: nn.Linear, _: Any, output: torch.Tensor) -> None:
        nonlocal macs
        macs += output[0].numel() * module.in_features

    hooks: list[Any] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(conv_hook))
        elif isinstance(module, nn.Linear):
            hooks.append(module.register_forward_hook(linear_hook))
    network.eval()
    with torch.inference_mode():
        network(torch.zeros(1, *input_shape))
    for hook in hooks:
        hook.remove()
    return Capacity(sum(p.numel() for p in network.parameters() if p.requires_grad), macs)


def count_table() -> dict[str, Any]:
    """(constant, per class) pairs of every network in both layouts, from two built sizes each."""
    table: dict[str, Any] = {}
    for name, row in NETWORKS.items():
        shape = FAMILIES[row.family].input_shape
        table[name] = {}
        for kind, (low, high) in {"small": (2, 10), "large": (11, 100)}.items():
            a, b = (count(build(name, classes), shape) for classes in (low, high))
            pairs = {}
            for what in ("params", "macs"):
                slope = (getattr(b, what) - getattr(a, what)) // (high - low)
                pairs[what] = [getattr(a, what) - slope * low, slope]
            table[name][kind] = pairs
    return table


def write_counts() -> None:
    """Refresh counts.json from the built networks."""
    COUNTS_FILE.write_text(json.dumps(count_table(), indent=1, sort_keys=True) + "\n")
