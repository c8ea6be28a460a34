"""Views of a batch in one go. Training draws for a whole epoch at once and makes the views of each batch later."""

from __future__ import annotations

from torch import Tensor

from takd.data.augment import draws, views


def augment(batch: Tensor, kind: str, seed: int, epoch: int, indices: Tensor) -> Tensor:
    """The views of a batch in one epoch, by the samples' positions in the training part."""
    return batch if kind == "none" else views(batch, kind, *draws(seed, epoch, indices.to(batch.device)))
