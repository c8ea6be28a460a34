"""The table of budgets: how much training a choice of (data set, family, budget) buys.

taste: seconds to a minute on a CPU. standard: minutes on a GPU. paper: the published schedule.
The rate of the plain CNNs and CIFAR-10's T and lam were chosen on validation images from one grid, the same for every
arm, on 20,000 images, 10 epochs and one seed; grid and scores are in cached_runs/tuning/. The other rates are customary
values, not tuned.
"""

from __future__ import annotations

from dataclasses import dataclass

from takd.stage import Recipe

BUDGETS: dict[str, str] = {
    "taste": "seconds to a minute on a CPU",
    "standard": "all training images, a short schedule: minutes on a GPU",
    "paper": "160 epochs, as in the released code (the paper prints 150)",
}


@dataclass(frozen=True)
class Budget:
    """A recipe and how many training images it uses (None: the whole training part)."""

    recipe: Recipe
    train_images: int | None


def _sgd(
    epochs: int,
    lr: float,
    *,
    batch: int = 128,
    schedule: str = "one-cycle",
    weight_decay: float = 1e-4,
    augmentation: str = "none",
    precision: str = "mixed",
) -> Recipe:
    return Recipe(epochs, batch, lr, schedule, 0.9, weight_decay, augmentation, precision)


# (family, budget) -> Budget. Images of 32 x 32 share one row per family; the digits MLPs have their own.
_ROWS: dict[tuple[str, str], Budget] = {
    ("mlp", "taste"): Budget(_sgd(60, 0.05, batch=50, weight_decay=0.0, precision="fp32"), 500),
    ("mlp", "standard"): Budget(_sgd(120, 0.05, batch=50, weight_decay=0.0, precision="fp32"), 500),
    ("mlp", "paper"): Budget(_sgd(160, 0.05, batch=50, weight_decay=0.0, precision="fp32"), 500),
    ("plain", "taste"): Budget(_sgd(5, 0.02), 5_000),
    ("plain", "standard"): Budget(_sgd(6, 0.02), None),
    # Constant 0.01 as in the released code (the printed 0.1 diverges to chance on plain-2), no augmentation; Nesterov
    # momentum as in the paper.
    ("plain", "paper"): Budget(_sgd(160, 0.01, schedule="constant"), None),
    ("resnet", "taste"): Budget(_sgd(3, 0.1), 5_000),
    ("resnet", "standard"): Budget(_sgd(15, 0.1, weight_decay=5e-4, augmentation="crop-flip"), None),
    # Mirzadeh et al.: 0.1, then a tenth at 80 and 120 of 160 epochs, weight decay 1e-4.
    ("resnet", "paper"): Budget(_sgd(160, 0.1, schedule="step"), None),
}


def budget_for(family: str, budget: str) -> Budget:
    """The budget of one ladder."""
    return _ROWS[(family, budget)]
