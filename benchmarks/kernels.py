"""What the fused layers save in one training step on a CPU, network by network.

    python -m benchmarks.kernels [--network NAME]... [--rounds 15] [--bf16] [--json FILE]

A step is forward and backward of 128 random images, one thread, processor milliseconds; the modules and the fused
layers take turns. `convolutions` is what the convolutions alone cost: no fusing of other layers gets below it.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.clock import Spent, in_turns, spent
from takd.training.fused import training_forward
from takd.training.streams import initial_network

NETWORKS = ("plain-2", "plain-4", "plain-6", "plain-8", "plain-10", "resnet-8", "resnet-20")
BATCH, CLASSES = 128, 10


def step(network: nn.Module, forward: Callable[[Tensor], Tensor], pixels: Tensor, labels: Tensor, bf16: bool) -> None:
    """Forward and backward; the gradients are dropped first, as an optimiser step would."""
    network.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = forward(pixels)
    F.cross_entropy(logits.float(), labels).backward()


def convolutions(network: nn.Module, pixels: Tensor, bf16: bool) -> Callable[[], object]:
    """Every convolution of a step on inputs of its own shape: forward, and backward to the weights and, but for the
    first, to the input. Their bias is left out."""
    shapes: list[tuple[nn.Conv2d, torch.Size]] = []
    found = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [m.register_forward_hook(lambda m, x, _: shapes.append((m, x[0].shape))) for m in found]
    with torch.no_grad():
        network(pixels.float())
    for hook in hooks:
        hook.remove()
    kind = torch.bfloat16 if bf16 else torch.float32
    work = []
    for i, (module, shape) in enumerate(shapes):
        x = torch.randn(shape).to(kind, memory_format=torch.channels_last)
        weight = module.weight.detach().to(kind, memory_format=torch.channels_last)
        arguments = (module.stride, module.padding, module.dilation)
        work.append((x, weight, arguments, torch.randn_like(F.conv2d(x, weight, None, *arguments)), i > 0))

    def all_of_them() -> None:
        for x, weight, arguments, gradient, to_input in work:
            F.conv2d(x, weight, None, *arguments)
            torch.ops.aten.convolution_backward(
                gradient, x, weight, None, *arguments, False, [0, 0], 1, [to_input, True, False]
            )

    return all_of_them


def measure(name: str, rounds: int, bf16: bool) -> dict[str, float | str]:
    """One row of the table: median milliseconds of the processor, and their ratio."""
    device = torch.device("cpu")
    modules = initial_network(name, CLASSES, 0).to(memory_format=torch.channels_last).train()
    fused = copy.deepcopy(modules)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(BATCH, 32, 32, 3, generator=generator).permute(0, 3, 1, 2)
    pixels = pixels.bfloat16() if bf16 else pixels
    labels = torch.randint(CLASSES, (BATCH,), generator=generator)
    ways: dict[str, Callable[[], object]] = {
        "modules": lambda: step(modules, modules, pixels, labels, bf16),
        "fused": lambda: step(fused, way, pixels, labels, bf16),
        "convolutions": convolutions(modules, pixels, bf16),
    }
    way = training_forward(fused, bf16, device)

    def twice(work: Callable[[], object]) -> Callable[[], Spent]:
        work()  # compiles, allocates

        def timed() -> Spent:
            work()  # brings its own memory back into the caches
            return spent(work)

        return timed

    found = in_turns({label: twice(work) for label, work in ways.items()}, rounds, tell=lambda _: None)
    times = {label: 1000 * statistics.median(one.cpu for one in spans) for label, spans in found.items()}
    ratio = statistics.median(a.cpu / b.cpu for a, b in zip(found["modules"], found["fused"], strict=True))
    return {"network": name, **{k: round(v, 2) for k, v in times.items()}, "ratio": round(ratio, 2)}


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description="Measure the fused layers.")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="only these")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--bf16", action="store_true", help="slow where the processor emulates it")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = []
    for name in options.network or NETWORKS:
        rows.append(measure(name, options.rounds, options.bf16))
        print("  ".join(f"{label} {value}" for label, value in rows[-1].items()), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
