"""The table of budgets: how much training a choice of (data set, family, budget) buys.

taste: seconds to a minute on a CPU. standard: minutes on a GPU. paper: the published schedule.
The rate of the plain CNNs and CIFAR-10's T and lam were chosen on validation images from one grid, the same for every
arm, on 20,000 images, 10 epochs and one seed; grid and scores are in cached_runs/tuning/. The rate of the small CNNs
for digits was chosen on validation images too, see its row. The other rates are customary values, not tuned: that of
the MLPs is half of what their grid chooses with right labels and five times what it chooses with wrong ones. Published
schedules whose steps lie elsewhere are run with steps at 1/2 and 3/4; all use Nesterov momentum. A taste is sized for
the smallest network of a family: the large ones, above 100 million MACs, take minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

from takd.stage import Recipe

BUDGETS: dict[str, str] = {
    "taste": "seconds to a minute on a CPU",
    "standard": "all training images, a short schedule: minutes on a GPU",
    "paper": "the published schedule: 160 epochs for plain CNNs and CIFAR ResNets (their paper prints 150)",
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


# Families -> their taste, standard and paper.
_ROWS: dict[tuple[str, ...], tuple[Budget, Budget, Budget]] = {
    # Nothing is published for slimmable MLPs: they are trained like the networks they shrink.
    ("mlp", "slim-mlp"): (
        Budget(_sgd(60, 0.05, batch=50, weight_decay=0.0, precision="fp32"), 500),
        Budget(_sgd(120, 0.05, batch=50, weight_decay=0.0, precision="fp32"), 500),
        Budget(_sgd(160, 0.05, batch=50, weight_decay=0.0, precision="fp32"), 500),
    ),
    # Nothing is published for these either. The rate is the best of 0.01, 0.02, 0.05, 0.1 and 0.2 by mean accuracy on
    # validation images, of sizes 2, 8 and 32 trained alone on clean labels for 30 epochs, seeds 100 and 101.
    ("cnn8",): (
        Budget(_sgd(30, 0.1, batch=50, precision="fp32"), 500),
        Budget(_sgd(60, 0.1, batch=50, precision="fp32"), 500),
        Budget(_sgd(160, 0.1, batch=50, precision="fp32"), 500),
    ),
    # Constant 0.01 as in the released code (the printed 0.1 diverges to chance on plain-2), no augmentation; Nesterov
    # momentum as in the paper.
    ("plain",): (
        Budget(_sgd(5, 0.02), 5_000),
        Budget(_sgd(6, 0.02), None),
        Budget(_sgd(160, 0.01, schedule="constant"), None),
    ),
    # A quarter of the plain CNN's rate: the losses of four widths add up. Joint training of slim-plain-4 at taste (one
    # seed) reached 53 % on validation images with it at full width, 48 % with the plain CNN's.
    ("slim-plain",): (
        Budget(_sgd(4, 0.005), 4_000),
        Budget(_sgd(6, 0.005), None),
        Budget(_sgd(160, 0.0025, schedule="constant"), None),
    ),
    # Mirzadeh et al.: 0.1, then a tenth at 80 and 120 of 160 epochs, weight decay 1e-4.
    ("resnet",): (
        Budget(_sgd(3, 0.1), 5_000),
        Budget(_sgd(15, 0.1, weight_decay=5e-4, augmentation="crop-flip"), None),
        Budget(_sgd(160, 0.1, schedule="step"), None),
    ),
    # Son et al. (DGKD) train WRNs in the setting of Mirzadeh et al.; their code for them is not released.
    ("wrn-16", "wrn-28", "wrn-40"): (
        Budget(_sgd(4, 0.1), 3_000),
        Budget(_sgd(15, 0.1, weight_decay=5e-4, augmentation="crop-flip"), None),
        Budget(_sgd(160, 0.1, schedule="step"), None),
    ),
    # Asadian & Salehi-Abari (DIH), read-me: 200 epochs, batch 64, a tenth at 60, 120 and 180 of them.
    ("vgg", "resnet4"): (
        Budget(_sgd(3, 0.05), 1_500),
        Budget(_sgd(15, 0.05, weight_decay=5e-4, augmentation="crop-flip"), None),
        Budget(_sgd(200, 0.1, batch=64, schedule="step", weight_decay=5e-4, augmentation="crop-flip"), None),
    ),
    # Released MSDNet code: 300 epochs, batch 64, 0.1, a tenth at 1/2 and 3/4. Ozerov & Duong's CIFAR recipe is not
    # known and Yu et al. give ImageNet's only, so slimmable MobileNets share this one.
    ("msdnet",): (
        Budget(_sgd(3, 0.05, batch=64), 3_000),
        Budget(_sgd(15, 0.1, batch=64, augmentation="crop-flip"), None),
        Budget(_sgd(300, 0.1, batch=64, schedule="step", augmentation="crop-flip"), None),
    ),
    ("slim-mobilenet",): (
        Budget(_sgd(3, 0.05, batch=64), 1_000),
        Budget(_sgd(15, 0.05, batch=64, augmentation="crop-flip"), None),
        Budget(_sgd(300, 0.1, batch=64, schedule="step", augmentation="crop-flip"), None),
    ),
    # torchvision's own recipe for ResNets: 90 epochs, batch 256, a tenth every 30. MobileNet-V2's is another.
    ("imagenet-resnet", "imagenet-mobilenet"): (
        Budget(_sgd(1, 0.05, batch=32), 500),
        Budget(_sgd(15, 0.05, augmentation="crop-flip"), None),
        Budget(_sgd(90, 0.1, batch=256, schedule="step", augmentation="crop-flip"), None),
    ),
    # Fine-tuning of published weights: customary values, no paper is followed.
    ("pretrained-resnet", "pretrained-mobilenet"): (
        Budget(_sgd(1, 0.01, batch=32), 500),
        Budget(_sgd(5, 0.01, batch=64, augmentation="crop-flip"), None),
        Budget(_sgd(30, 0.01, batch=64, schedule="step", augmentation="crop-flip"), None),
    ),
    # The user's file: middle values that most small CNNs bear; fp32, because nobody has tried it in anything else.
    ("own",): (
        Budget(_sgd(3, 0.02, precision="fp32"), 2_000),
        Budget(_sgd(10, 0.02, precision="fp32"), None),
        Budget(_sgd(160, 0.02, schedule="step", precision="fp32"), None),
    ),
    # The same on a few hundred images, where three epochs would be a dozen steps: as long as the MLPs on digits.
    ("own-few",): (
        Budget(_sgd(60, 0.02, batch=50, precision="fp32"), 500),
        Budget(_sgd(120, 0.02, batch=50, precision="fp32"), None),
        Budget(_sgd(160, 0.02, batch=50, precision="fp32"), None),
    ),
}
_FEW = 2_000  # training images
_BUDGETS = {
    (family, name): budget
    for families, row in _ROWS.items()
    for family in families
    for name, budget in zip(BUDGETS, row, strict=True)
}


def budget_for(family: str, budget: str, images: int | None = None) -> Budget:
    """The budget of one ladder. A user's own networks read any data set; theirs also follows the number of training
    `images`."""
    if family == "own" and images is not None and images < _FEW:
        family = "own-few"
    return _BUDGETS[(family, budget)]
