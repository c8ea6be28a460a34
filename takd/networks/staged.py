"""A chain of layers that knows where its stages end, for methods that look inside a network."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


class Staged(nn.Sequential):
    """A `nn.Sequential` whose stages end after the layers `ends` (positions, rising).

    A stage ends where the resolution is about to change or has just changed: after each pool of the plain CNNs and
    VGGs, after each group of residual blocks. No later layer writes into a stage's output in place, so a tensor kept
    from `forward_stages` stays what it was (the sliced VGG of the released DIH code loses its negative values so).
    """

    ends: tuple[int, ...] = ()

    def forward_stages(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits (B, classes) and the output of every stage, first to last: (B, C, H, W), or (B, C) of an MLP."""
        outputs = []
        for position, layer in enumerate(self):
            x = layer(x)
            if position in self.ends:
                outputs.append(x)
        return x, tuple(outputs)


def staged(layers: Iterable[nn.Module], ends: Iterable[int]) -> Staged:
    """The layers in a row, with their stages' ends."""
    network = Staged(*layers)
    network.ends = tuple(ends)
    return network


def he_fan_out(network: nn.Module) -> None:
    """Draw every convolution from He's fan-out normal distribution, biases zero (He et al., ICCV 2015)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
