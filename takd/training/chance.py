"""A training that learns nothing: said early, because a student who waits for the end has lost the time.

Chance level after a third of the epochs is a note, not a failure: a slow start may still come right. A loss that has
not moved at all in that time will not move later, and ends the training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from takd.runs.errors import StageFailed

_LEAST_EPOCHS = 3  # fewer say nothing
_DEVIATIONS = 3.0


def judged_after(epochs: int) -> int:
    """The epoch (from 1) of `epochs` after which it can be told."""
    return max(_LEAST_EPOCHS, math.ceil(epochs / 3))


def note_on(rows: Sequence[dict[str, float]], last: int, labels: Tensor) -> str:
    """A sentence where the first third of `last` epochs has brought nothing better than naming the most frequent class
    of the validation images; empty otherwise, and while the third is not over. Depends on these rows alone, so a
    resumed training says the same. Raises StageFailed when the loss has been constant."""
    third = judged_after(last)
    if len(rows) < third or third > last:
        return ""
    looked = rows[:third]
    if len({round(row["loss"], 6) for row in looked}) == 1:
        raise StageFailed(
            "constant-loss",
            f"The loss has been {looked[0]['loss']:.6g} in each of the first {third} epochs: nothing is learned. The "
            "usual causes are a learning rate of zero or one that has killed all units, or weights of the loss that "
            "cancel out; change them, or choose another network.",
        )
    chance = float(labels.bincount().max()) / len(labels)
    least = chance + _DEVIATIONS * math.sqrt(chance * (1.0 - chance) / len(labels))
    best = max(row["val_acc"] for row in looked)
    if best > least:
        return ""
    return (
        f"Still at chance level after {third} of {last} epochs ({best:.1%} right, guessing gives {chance:.1%}). It may "
        "be a slow start; else try a smaller temperature, a larger network or more images."
    )
