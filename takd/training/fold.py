"""Batch norm folded into the convolution before it, for networks that only answer."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from takd.networks.own_module import Own
from takd.networks.resnet import BasicBlock


def folded(network: nn.Module) -> nn.Module:
    """A frozen copy in evaluation mode that answers the same up to rounding, without its batch norms; the network
    itself where it has none, and a user's network as it is.

    Only a batch norm that directly follows its convolution is folded: in a Sequential, or as a BasicBlock wires it.
    """
    if isinstance(network, Own) or next(_pairs(network), None) is None:
        return network
    twin = copy.deepcopy(network).eval()
    for owner, first, second in list(_pairs(twin)):
        convolution, norm = getattr(owner, first), getattr(owner, second)
        setattr(owner, first, fuse_conv_bn_eval(convolution, norm).requires_grad_(False))
        setattr(owner, second, nn.Identity())
    return twin


def _pairs(network: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """(owner, name of the convolution, name of its batch norm)."""
    for module in network.modules():
        if isinstance(module, BasicBlock):
            yield from ((module, "conv1", "bn1"), (module, "conv2", "bn2"))
        elif isinstance(module, nn.Sequential):
            children = list(module.named_children())
            for (first, a), (second, b) in pairwise(children):
                if type(a) is nn.Conv2d and type(b) is nn.BatchNorm2d and b.track_running_stats:
                    yield module, first, second
