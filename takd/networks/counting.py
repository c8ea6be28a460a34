"""Count parameters and MACs of built networks; the one place that writes counts.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from takd.networks.multi import MultiNetwork
from takd.networks.staged import Staged
from takd.networks.table import COUNTS_FILE, FAMILIES, NETWORKS, Capacity, build


class _Flops(TorchDispatchMode):
    """torch's own formulas, without the book-keeping per module that makes its FlopCounterMode slow."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out


def macs_of(call: Callable[[], Any]) -> int:
    """Multiply-accumulates of the convolutions and matrix products that a call computes, those of attention too."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused kernels hide their products
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _Flops() as flops:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return flops.total // 2


def count(network: nn.Module, input_shape: tuple[int, int, int]) -> Capacity:
    """Trainable parameters, and multiply-accumulates of convolutions and linear layers for one image (C, H, W).

    Works on the meta device too, where a network has shapes but no numbers and nothing is computed.
    """
    network.eval()
    image = _image(network, input_shape)
    return Capacity(sum(p.numel() for p in network.parameters() if p.requires_grad), macs_of(lambda: network(image)))


def _image(network: nn.Module, input_shape: tuple[int, int, int]) -> Tensor:
    return torch.zeros(1, *input_shape, device=next(network.parameters()).device)


class _ShapesOnly(TorchFunctionMode):
    """Leaves out what changes no shape and has no MACs: on the meta device torch works it out in Python, slowly."""

    LEFT_OUT = frozenset((F.batch_norm, F.relu, F.hardtanh, torch.relu, Tensor.normal_, Tensor.uniform_))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func in self.LEFT_OUT else func(*args, **(kwargs or {}))


def _measure(name: str, classes: int) -> dict[str, Any]:
    """Everything counts.json says of one network, for one number of classes."""
    shape = FAMILIES[NETWORKS[name].family].input_shape
    stages: list[list[int]] = []
    with torch.device("meta"), _ShapesOnly():
        network = build(name, classes)
        if isinstance(network, Staged):
            image = _image(network, shape)
            macs = macs_of(lambda: stages.extend(list(x.shape[1:]) for x in network.forward_stages(image)[1]))
            return {"params": sum(p.numel() for p in network.parameters()), "macs": macs, "stages": stages}
        size = count(network, shape)
        found: dict[str, Any] = {"params": size.params, "macs": size.macs}
        if isinstance(network, MultiNetwork):
            image = _image(network, shape)
            found["subs"] = [_sub_model(network, sub, image) for sub in range(network.count)]
    return found


def _sub_model(network: MultiNetwork, sub: int, image: Tensor) -> dict[str, int]:
    return {
        "params": network.parameters_of(sub),
        "macs": macs_of(lambda: network.answer(image, sub)),
        "together": macs_of(lambda: network.forward_all(image, sub + 1)),
    }


def _pairs(low: dict[str, Any], high: dict[str, Any], classes: tuple[int, int]) -> dict[str, Any]:
    """(constant, per class) of every number, from two numbers of classes; stages do not depend on it."""
    found: dict[str, Any] = {}
    for what, first in low.items():
        second = high[what]
        if what == "stages":
            found[what] = first
        elif what == "subs":
            found[what] = [_pairs(a, b, classes) for a, b in zip(first, second, strict=True)]
        else:
            slope = (second - first) // (classes[1] - classes[0])
            found[what] = [first - slope * classes[0], slope]
    return found


def count_table(names: Iterable[str] = tuple(NETWORKS)) -> dict[str, Any]:
    """What counts.json holds of these networks: (constant, per class) of every number in both layouts, as built."""
    table: dict[str, Any] = {}
    for name in names:
        two, ten = (_measure(name, classes) for classes in (2, 10))
        small = large = _pairs(two, ten, (2, 10))
        if _params(name, 100) != small["params"][0] + 100 * small["params"][1]:  # two layer lists
            large = _pairs(_measure(name, 11), _measure(name, 100), (11, 100))
        table[name] = {"small": small, "large": large}
    return table


def _params(name: str, classes: int) -> int:
    with torch.device("meta"), _ShapesOnly():
        return sum(p.numel() for p in build(name, classes).parameters())


def write_counts() -> None:
    """Refresh counts.json from the built networks: one line per network."""
    rows = [f" {json.dumps(name)}: {json.dumps(row, sort_keys=True)}" for name, row in sorted(count_table().items())]
    COUNTS_FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
