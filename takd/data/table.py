"""The table of data sets: what each holds, how it is split, where it comes from. Imports no torch.

Adding a torchvision data set is one row here and, if its reader differs, one function in `sources.py`.
A data set is identified by its fingerprint: the SHA-256 over the sorted digests of (image, label), so the same
images give the same stages whatever order or container they came in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FOLDER_PREFIX = "folder-"
# Ladders, and families of networks with sub-models: of 8x8 grey and of 32x32 colour images.
GREY_8 = ("mlp", "cnn8", "slim-mlp")
_LADDERS_32 = ("plain", "resnet", "wrn-16", "wrn-28", "wrn-40", "vgg", "resnet4")
RGB_32 = (*_LADDERS_32, "slim-plain", "slim-mobilenet", "msdnet")
IMAGENET = ("imagenet-resnet", "imagenet-mobilenet", "pretrained-resnet", "pretrained-mobilenet")  # of 64 to 256 pixels


@dataclass(frozen=True)
class Dataset:
    """One data set.

    `families` are the ladders that read its images. `validation` and `test` count images carved for those splits
    (`test` is 0 where the source brings its own test part). `fingerprint` is known for sets whose pixels are
    published and fixed, None where it is computed on first preparation. `input_shape` is (C, H, W) of an image.
    """

    name: str
    label: str
    families: tuple[str, ...]
    classes: int
    train_pool: int
    validation: int
    test: int
    source: str
    download: str
    fingerprint: str | None = None
    input_shape: tuple[int, int, int] = (3, 32, 32)

    @property
    def available(self) -> int:
        """Images left to train on, once those for validation and test are set aside."""
        return self.train_pool - self.validation - self.test

    def with_fingerprint(self) -> Dataset:
        """The same, so that a plan can be made of it and its cost told before the images are here: then with a
        fingerprint of no images, under which nothing can be trained already."""
        return self if self.fingerprint is not None else replace(self, fingerprint="0" * 64)


DATASETS: dict[str, Dataset] = {
    row.name: row
    for row in (
        Dataset(
            "digits",
            "Digits 8x8 (built in)",
            GREY_8,
            10,
            1797,
            397,
            900,
            "scikit-learn",
            "nothing to download",
            fingerprint="9482c93555043c7120886ba27042ba5a41e4a0cb07a475c2dd2225caefbe72f3",
            input_shape=(1, 8, 8),
        ),
        Dataset(
            "cifar10",
            "CIFAR-10",
            RGB_32,
            10,
            50_000,
            5_000,
            0,
            "torchvision",
            "170 MB",
            fingerprint="4da7fcc0366ca7551015872f48ec4bc92b141d1b1b774c19306eb650a0b5957e",
        ),
        Dataset(
            "cifar100",
            "CIFAR-100",
            RGB_32,
            100,
            50_000,
            5_000,
            0,
            "torchvision",
            "169 MB",
            fingerprint="814d20d426ae7592ed96262c698a20854745743999085ffbfdd1d97e8f26c578",
        ),
        Dataset("fashion-mnist", "Fashion-MNIST", RGB_32, 10, 60_000, 5_000, 0, "torchvision", "31 MB"),
        Dataset("svhn", "SVHN", RGB_32, 10, 73_257, 5_000, 0, "torchvision", "246 MB"),
    )
}

SPLIT_SEED = 0  # the published split: a permutation of the canonical order drawn from this seed
