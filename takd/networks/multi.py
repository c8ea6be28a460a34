"""The interface of networks that hold sub-models sharing weights: widths of a slimmable one, exits of an MSDNet.

Sub-models are counted from 0, the smallest, in the order of the table's `sub_models`, which has the parameters and MACs
of each. So the next larger one of k is k + 1 and the largest the last; who teaches whom is for the method to say.
"""

from __future__ import annotations

from torch import Tensor, nn


class MultiNetwork(nn.Module):
    """A network of `count` sub-models. A subclass gives `answer`, `parameters_of`, and `forward_all` where answering
    together is cheaper than one by one."""

    count: int

    def answer(self, x: Tensor, sub: int) -> Tensor:
        """Logits (B, classes) of sub-model `sub`, in no more computation than that sub-model alone needs."""
        raise NotImplementedError

    def parameters_of(self, sub: int) -> int:
        """Trainable parameters of sub-model `sub` taken out of the network and deployed alone."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the largest sub-model, so that the whole can stand where a plain network does."""
        return self.answer(x, self.count - 1)

    def forward_all(self, x: Tensor, first: int | None = None) -> tuple[Tensor, ...]:
        """Logits of every sub-model, smallest first (of the smallest `first`), all with gradient.

        One backward of the summed losses equals accumulating a backward per sub-model, at the price of holding all
        graphs at once; a trainer short of memory calls `answer` for one after the other, largest first. A target taken
        from another sub-model must be detached, or the teacher is pulled towards its pupil.
        """
        return tuple(self.answer(x, sub) for sub in range(self.count if first is None else first))

    def sub(self, sub: int) -> SubModelView:
        """Sub-model `sub` as a network of its own that shares these weights."""
        return SubModelView(self, sub)


class SubModelView(nn.Module):
    """One sub-model of a larger network: no weights of its own, the mode (train, eval) is shared too."""

    def __init__(self, whole: MultiNetwork, sub: int) -> None:
        super().__init__()
        if not 0 <= sub < whole.count:
            raise IndexError(f"there are sub-models 0 to {whole.count - 1}, not {sub}")
        self.whole = whole
        self.number = sub

    def forward(self, x: Tensor) -> Tensor:
        return self.whole.answer(x, self.number)
