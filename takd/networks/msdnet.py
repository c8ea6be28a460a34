"""Multi-scale dense networks with several exits (Huang et al., ICLR 2018), the CIFAR configurations.

Every layer keeps feature maps at up to three scales (32, 16 and 8 pixels) and adds channels to each by concatenation;
an exit reads the coarsest one. Finer scales are dropped as depth grows, and channels halve at each drop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from takd.networks.multi import MultiNetwork
from takd.networks.staged import he_fan_out

_SCALES = 3
_FACTOR = (1, 2, 4)  # per scale: of the channels, and of the bottleneck's width
_HEAD = 128


@dataclass(frozen=True)
class Sizes:
    """`steps`: layers before each exit, counted from the last one; `channels` and `growth` at the finest scale."""

    steps: tuple[int, ...]
    channels: int
    growth: int


# By number of exits. 7 and 5: "anytime" and "batch" of the released PyTorch code's read-me; 4: small enough for a CPU.
# Which configuration the IPKD-TA paper uses is not known (UNVERIFIED).
SIZES: dict[int, Sizes] = {
    4: Sizes((2, 1, 1, 1), channels=8, growth=4),
    5: Sizes((1, 2, 3, 4, 5), channels=16, growth=6),
    7: Sizes((4, 2, 2, 2, 2, 2, 2), channels=16, growth=6),
}


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _bottleneck(inputs: int, outputs: int, factor: int, stride: int) -> nn.Sequential:
    """1x1 to at most `factor` x outputs channels, then 3x3."""
    inner = min(inputs, factor * outputs)
    return nn.Sequential(*_conv(inputs, inner, 1), *_conv(inner, outputs, 3, stride))


class FirstLayer(nn.Module):
    """The image at every scale: each scale is a convolution of stride 2 of the one before."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [channels * factor for factor in _FACTOR]
        self.scales = nn.ModuleList(
            _conv(inputs, width, 3, 2 if scale else 1)
            for scale, (inputs, width) in enumerate(zip([3, *widths], widths, strict=False))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for scale in self.scales:
            x = scale(x)
            maps.append(x)
        return maps


class DenseLayer(nn.Module):
    """Maps of the coarsest `before` scales in, of the coarsest `after` out, `growth` x factor channels wider.

    A scale is extended by a convolution of itself and, where the next finer map is there, by one of stride 2 of that
    (half of the new channels each).
    """

    def __init__(self, channels: int, growth: int, before: int, after: int) -> None:
        super().__init__()
        self.before, self.after = before, after
        self.same, self.down = nn.ModuleList(), nn.ModuleDict()
        for scale in range(_SCALES - after, _SCALES):
            new = growth * _FACTOR[scale]
            finer = scale > _SCALES - before
            if finer:
                new //= 2
                self.down[str(scale)] = _bottleneck(channels * _FACTOR[scale - 1], new, _FACTOR[scale - 1], 2)
            self.same.append(_bottleneck(channels * _FACTOR[scale], new, _FACTOR[scale], 1))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        first = _SCALES - self.before  # the scale of maps[0]
        wider = []
        for position, scale in enumerate(range(_SCALES - self.after, _SCALES)):
            x = maps[scale - first]
            parts = [x, self.same[position](x)]
            if str(scale) in self.down:
                parts.insert(1, self.down[str(scale)](maps[scale - first - 1]))
            wider.append(torch.cat(parts, dim=1))
        return wider


class Transition(nn.Module):
    """A 1x1 convolution at each of the coarsest `scales` scales."""

    def __init__(self, channels: int, outputs: int, scales: int) -> None:
        super().__init__()
        factors = _FACTOR[_SCALES - scales :]
        self.scales = nn.ModuleList(_conv(channels * factor, outputs * factor, 1) for factor in factors)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [scale(x) for scale, x in zip(self.scales, maps, strict=True)]


class MSDNet(MultiNetwork):
    """The network of `sizes`; sub-model k answers at exit k.

    An exit is computed, and counted, with whole blocks: the last of them also makes finer maps for the exits behind.
    """

    def __init__(self, sizes: Sizes, classes: int) -> None:
        super().__init__()
        self.count = len(sizes.steps)
        self.blocks, self.exits = nn.ModuleList(), nn.ModuleList()
        interval = math.ceil(sum(sizes.steps) / _SCALES)  # layers between two drops of a scale
        channels, depth = sizes.channels, 0
        for steps in sizes.steps:
            layers: list[nn.Module] = [] if depth else [FirstLayer(channels)]
            for _ in range(steps):
                depth += 1
                before, after = (_SCALES - max(0, depth - back) // interval for back in (2, 1))
                layers.append(DenseLayer(channels, sizes.growth, before, after))
                channels += sizes.growth
                if after < before:
                    layers.append(Transition(channels, channels // 2, after))
                    channels //= 2
            self.blocks.append(nn.Sequential(*layers))
            coarsest = channels * _FACTOR[-1]
            self.exits.append(
                nn.Sequential(
                    _conv(coarsest, _HEAD, 3, 2),
                    _conv(_HEAD, _HEAD, 3, 2),
                    nn.AvgPool2d(2),
                    nn.Flatten(),
                    nn.Linear(_HEAD, classes),
                )
            )

    def answer(self, x: Tensor, sub: int) -> Tensor:
        maps: Tensor | list[Tensor] = x
        for block in self.blocks[: sub + 1]:
            maps = block(maps)
        return self.exits[sub](maps[-1])

    def forward_all(self, x: Tensor, first: int | None = None) -> tuple[Tensor, ...]:
        maps: Tensor | list[Tensor] = x
        answers = []
        for block, leave in list(zip(self.blocks, self.exits, strict=True))[:first]:
            maps = block(maps)
            answers.append(leave(maps[-1]))
        return tuple(answers)

    def parameters_of(self, sub: int) -> int:
        parts = [*self.blocks[: sub + 1], self.exits[sub]]
        return sum(p.numel() for part in parts for p in part.parameters())


def msdnet(size: int, classes: int) -> MSDNet:
    """Build the MSDNet with `size` exits (4, 5 or 7) for 32x32 RGB images.

    Convolutions start from He's fan-out normal distribution, as in the paper; the released PyTorch code means to do
    the same, but looks only at the outermost modules and so leaves torch's default.
    """
    if size not in SIZES:
        raise ValueError(f"An MSDNet has {', '.join(map(str, SIZES))} exits here, not {size}.")
    network = MSDNet(SIZES[size], classes)
    he_fan_out(network)
    return network
