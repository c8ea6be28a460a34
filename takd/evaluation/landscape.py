"""The training loss around a finished network: along one random direction, over two, or how much it rises on average.

Directions are filter-normalised (Li et al. 2018, section 4): each filter of a random direction is scaled to the norm of
the network's own, so that networks whose weights differ in scale can be compared; biases and the weights of batch norm
stay as they are. Batch norm keeps the statistics of the training (evaluation mode).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from takd.data.loading import load_training
from takd.stage import DataSpec
from takd.training.device import Images, normalise
from takd.training.predicting import predict

LINE = tuple(round(-1 + 0.05 * k, 2) for k in range(41))
PLANE = tuple(round(-1 + 0.1 * k, 1) for k in range(21))
IMAGES = 1000
REACH, DIRECTIONS = 0.5, 10  # of a rise: how far, in norms of a filter, and along how many directions, both ways
_BATCH = 50


@lru_cache(maxsize=1)  # the networks of one request were trained on the same images
def subset(data: DataSpec, seed: int, count: int = IMAGES) -> Images:
    """The first images of the training part, with the labels this seed's networks learned from; never test images.
    Raises DataError where the data set is not here."""
    arrays = load_training(data, seed)
    pixels = torch.from_numpy(np.ascontiguousarray(arrays.train_x[:count]))
    return Images(
        normalise(pixels, arrays.mean, arrays.std, arrays.scale, torch.float32),
        torch.from_numpy(np.ascontiguousarray(arrays.train_y[:count])),
    )


def direction(network: nn.Module, key: str, number: int) -> list[Tensor]:
    """A random direction in the space of the network's weights, one tensor per parameter; the same for the same stage
    and number. A filter is a row of the first axis of a weight with two axes or more."""
    seed = int.from_bytes(hashlib.sha256(f"{key}/landscape/{number}".encode()).digest()[:8], "little") % 2**63
    generator = torch.Generator().manual_seed(seed)
    found = []
    for weight in network.parameters():
        if weight.dim() < 2:
            found.append(torch.zeros_like(weight))
            continue
        drawn = torch.randn(weight.shape, generator=generator)
        own = weight.detach().reshape(len(weight), -1).norm(dim=1)
        size = drawn.reshape(len(weight), -1).norm(dim=1).clamp_min(1e-12)
        found.append(drawn * (own / size).reshape(-1, *[1] * (weight.dim() - 1)))
    return found


def loss_at(network: nn.Module, images: Images) -> float:
    """Mean cross-entropy (nats) on images, in fp32."""
    # In small batches: the system takes as long to hand out the memory of large ones as the network takes to answer.
    parts = [
        predict(network, Images(images.pixels[at : at + _BATCH], images.labels[at : at + _BATCH]), bf16=False)
        for at in range(0, len(images.labels), _BATCH)
    ]
    return float(F.cross_entropy(torch.cat(parts).double(), images.labels))


def losses(
    network: nn.Module, images: Images, places: Iterator[tuple[float, ...]], directions: list[list[Tensor]],
    told: Callable[[], bool] = lambda: False,
) -> Iterator[float]:  # fmt: skip
    """The loss at weights + sum of (place x direction), one after the other; ends early when `told()`. The network has
    its own weights again afterwards."""
    own = [weight.detach().clone() for weight in network.parameters()]
    try:
        for place in places:
            if told():
                return
            with torch.no_grad():
                for number, weight in enumerate(network.parameters()):
                    weight.copy_(own[number])
                    for share, one in zip(place, directions, strict=True):
                        if share:
                            weight.add_(one[number], alpha=share)
            yield loss_at(network, images)
    finally:
        with torch.no_grad():
            for weight, before in zip(network.parameters(), own, strict=True):
                weight.copy_(before)


def landscape(
    network: nn.Module, key: str, images: Images, what: str, step: Callable[[float], bool] = lambda share: False
) -> dict[str, Any] | None:
    """`line` or `plane` around a network: places along each direction and losses, rounded to six digits; None when
    `step(share done)` says to stop."""
    network.eval()
    if what == "line":
        places: list[tuple[float, ...]] = [(a,) for a in LINE]
        directions = [direction(network, key, 0)]
    else:
        places = [(a, b) for b in PLANE for a in PLANE]
        directions = [direction(network, key, 0), direction(network, key, 1)]
    found: list[float] = []
    for value in losses(network, images, iter(places), directions, lambda: step(len(found) / len(places))):
        found.append(float(f"{min(value, 1e30):.6g}"))
    if len(found) < len(places):
        return None
    return {"places": list(LINE if what == "line" else PLANE), "loss": found, "images": len(images.labels)}


def rise(
    network: nn.Module, key: str, images: Images, step: Callable[[float], bool] = lambda share: False
) -> dict[str, Any] | None:
    """How steep the loss is around a network: the mean over DIRECTIONS random directions and both ways of the loss at
    REACH minus the loss at the network itself, in nats, and the standard deviation over directions; None when
    `step(share done)` says to stop."""
    network.eval()
    here, rises = loss_at(network, images), list[float]()
    for number in range(DIRECTIONS):
        if step(number / DIRECTIONS):
            return None
        ends = losses(network, images, iter([(-REACH,), (REACH,)]), [direction(network, key, number)])
        rises.append(min(sum(ends) / 2 - here, 1e30))
    return {
        "loss": float(f"{here:.6g}"),
        "rise": float(f"{np.mean(rises):.6g}"),
        "spread": float(f"{np.std(rises, ddof=1):.6g}"),
        "reach": REACH,
        "directions": DIRECTIONS,
        "images": len(images.labels),
    }
