"""What a network answers: logits of many images at once, and how right they are."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from takd.training.device import Images
from takd.training.spare_memory import in_smaller_parts

EVALUATION_BATCH = 512


View = Callable[[Tensor, Tensor], Tensor]
"""(sample index (B,), images (B, C, H, W)) -> what is shown of them, of the same shape."""


def as_they_are(_: Tensor, batch: Tensor) -> Tensor:
    """The view that changes nothing."""
    return batch


@torch.inference_mode()
def predict(network: nn.Module, images: Images, bf16: bool, view: View = as_they_are) -> Tensor:
    """Logits (N, classes) in fp32 of a network in evaluation mode; leaves the network in evaluation mode.

    Without `bf16` it works in fp32, also where the images are kept in half the bits for training.
    """
    network.eval()
    device = images.pixels.device

    def ask(start: int, end: int) -> Tensor:
        batch = images.pixels[start:end].permute(0, 3, 1, 2)
        shown = view(torch.arange(start, end, device=device), batch)
        if not bf16 and shown.dtype == torch.bfloat16:
            shown = shown.float()
        answers: Tensor = network(shown)
        return answers.float()

    starts = range(0, len(images), EVALUATION_BATCH)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        return torch.cat([in_smaller_parts(ask, at, min(at + EVALUATION_BATCH, len(images))) for at in starts])


def accuracy_and_loss(network: nn.Module, images: Images, bf16: bool) -> tuple[float, float]:
    """Share of right answers and mean cross-entropy (nats)."""
    logits = predict(network, images, bf16)
    return float((logits.argmax(1) == images.labels).double().mean()), float(F.cross_entropy(logits, images.labels))
