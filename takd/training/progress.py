"""Where a training stands, and what it tells the outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from takd.runs.errors import StageFailed

REPORT_SECONDS = 0.5


@dataclass
class Progress:
    """Everything a resumed run needs besides the networks' weights: finished epochs' rows and the momentum. `note` is a
    sentence on how it goes where there is one to say (chance.py)."""

    rows: list[dict[str, float]] = field(default_factory=list)
    momentum: list[Tensor] | None = None
    note: str = ""

    @property
    def epochs(self) -> int:
        return len(self.rows)

    @property
    def seconds(self) -> float:
        return self.rows[-1]["seconds"] if self.rows else 0.0


def numbers_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What a result says of its epochs: the last accuracies, the best on validation images with its epoch, the median
    speed."""
    best = max(rows, key=lambda row: row["val_acc"])
    speeds = sorted(row["images_per_second"] for row in rows)
    return {
        **{name: rows[-1][name] for name in ("train_acc", "val_acc")},
        "val_best": best["val_acc"],
        "val_best_epoch": best["epoch"],
        "images_per_second": speeds[len(speeds) // 2],
    }


@dataclass(frozen=True)
class Hooks:
    """What the loop tells the outside: `stop` is asked before every batch, `report` at most twice a second with
    where training stands, `epoch_done` after every epoch with the progress so far and the optimiser's momentum; it may
    raise StageFailed, which ends this network only."""

    stop: Callable[[], bool] = lambda: False
    report: Callable[[dict[str, Any]], None] = lambda _: None
    epoch_done: Callable[[Progress], None] = lambda _: None


def diverged(epoch: int, lr: float) -> StageFailed:
    """The loss of an epoch (0-based) is no longer a number: what to say about it."""
    return StageFailed(
        "diverged",
        f"The loss became infinite or not a number in epoch {epoch + 1}. The usual cause is a learning rate that "
        f"is too high for this network (here {lr:g}) or a very high temperature; try a smaller temperature.",
    )
