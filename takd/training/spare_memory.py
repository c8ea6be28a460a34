"""What a training does when the memory does not suffice: the same training with less of it, where there is such a way.

A loss that is the mean over images, and a network that looks at one image at a time, may see a batch in halves: the
gradients of the halves add up to that of the whole, up to rounding. Batch norm does not allow that, because halves have
other statistics: there, on a GPU, what the backward pass needs waits in the computer's memory, and no bit changes.
Answers of a network that does not learn may always be asked in smaller batches.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import save_on_cpu

from takd.methods.table import loss_and_options
from takd.networks.table import FAMILIES, family_of
from takd.runs.causes import is_out_of_memory
from takd.runs.errors import StageFailed
from takd.runs.memory import HALF_BATCH, MAIN_MEMORY
from takd.stage import StageSpec
from takd.training.step import CORRECT, Step, full


def way_to_spare(stage: StageSpec, device: torch.device) -> str:
    """How this stage can be trained in less memory with the same result, of memory.SPARED; empty where it cannot."""
    networks = (stage.network, *stage.peers)
    if loss_and_options(stage.loss)[0].by_image and all(FAMILIES[family_of(one)].by_image for one in networks):
        return HALF_BATCH
    return MAIN_MEMORY if device.type == "cuda" else ""


def or_in_less_memory(attempt: Callable[[str], None], way: str) -> None:
    """Call attempt(""), and attempt(way) where the memory does not suffice and there is a way. Raises StageFailed when
    that does not help either."""
    try:
        return attempt("")
    except Exception as error:
        if not way or not is_out_of_memory(error):
            raise
    _free()  # out of the except: the error's traceback keeps the failed step's tensors
    try:
        attempt(way)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise StageFailed(
            "out-of-memory",
            f"There was not enough memory, and trying again ({way}) did not help. Close other programs that use the "
            "device, or choose a smaller network, then resume: it goes on from its checkpoint.",
        ) from error


def _free() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@dataclass
class SparingStep(Step):
    """A step in one of the ways of memory.SPARED."""

    way: str = HALF_BATCH

    def __call__(self, index: Tensor, images: Tensor, labels: Tensor, rate: Tensor | float) -> dict[str, Tensor]:
        """As a Step's."""
        if self.way == HALF_BATCH:
            return self._by_halves(index, images, labels, rate)
        with save_on_cpu(pin_memory=images.is_cuda):
            return super().__call__(index, images, labels, rate)

    def _by_halves(self, index: Tensor, images: Tensor, labels: Tensor, rate: Tensor | float) -> dict[str, Tensor]:
        half = max(1, len(index) // 2)
        parts = [part for part in (slice(0, half), slice(half, None)) if len(index[part])]
        for number, begin_turn in enumerate(self.turns):
            begin_turn()
            for parameter in self.parameters:
                parameter.grad = None
            terms: dict[str, Tensor] = {}
            for part in parts:
                for name, value in self._one_part(index[part], images[part], labels[part], len(index)).items():
                    terms[name] = terms[name] + value if name in terms else value
            self.update(rate)
            if number == 0:
                first = terms
        for name, value in first.items():
            self._add(name, value)
        return {name: value for name, value in first.items() if name != CORRECT}

    def _one_part(self, index: Tensor, images: Tensor, labels: Tensor, whole: int) -> dict[str, Tensor]:
        """Add this part's share of the gradient; its share of the terms, and how many answers are right."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            answered = self.forward(images)
        terms = self.loss(full(answered), labels, self.hear(index, images))
        share = len(index) / whole
        (terms["loss"] * share).backward()
        logits = answered if isinstance(answered, Tensor) else answered.logits[answered.main]
        right = (logits.detach().argmax(-1) == labels).sum(-1)
        return {name: value.detach() * share for name, value in terms.items()} | {CORRECT: right}


def in_smaller_parts(ask: Callable[[int, int], Tensor], start: int, end: int) -> Tensor:
    """ask(start, end), the answers to these images; in halves, and those in halves, where the memory does not
    suffice."""
    try:
        return ask(start, end)
    except Exception as error:
        if end - start < 2 or not is_out_of_memory(error):
            raise
    _free()
    middle = (start + end) // 2
    return torch.cat([in_smaller_parts(ask, start, middle), in_smaller_parts(ask, middle, end)])
