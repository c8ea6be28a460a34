"""How much memory a training takes at most, from what is known before it starts, and what was done where it did not
suffice."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import prod

from takd.costs import times_as_much
from takd.data.catalogue import folder_shape
from takd.data.table import DATASETS
from takd.networks.table import FAMILIES, NETWORKS, capacity_or_least, family_of
from takd.runs.store import Store
from takd.stage import StageSpec

HALF_BATCH, MAIN_MEMORY = "half batch", "activations kept in main memory"
# What a result's `memory` says, in words.
SPARED: dict[str, str] = {
    HALF_BATCH: "there was not enough memory, so each batch was taken in two halves (the same result up to rounding)",
    MAIN_MEMORY: "the device did not have enough memory, so part of each step waited in main memory (the same "
    "result, slower)",
}

_MB = 2**20
# A process with torch imported (its CUDA build; the CPU build takes about half), and what the compiled kernels add,
# which the engines of the CPU load for MLPs and CNNs alike. On a GPU only what lies on the device is counted.
_IMPORTED = 510 * _MB
_KERNELS = 130 * _MB
# Bytes that training keeps of one image, per MAC of its network: what a backward pass needs of every layer. A 3x3
# convolution has 9 MACs per input channel for each number it leaves behind, so the wider, the fewer bytes: from the
# measured plain and resnet, VGGs (like plain-10) and four-stage ResNets (four times as wide) follow by their layer
# lists, and a WRN is a resnet `size` times as wide.
_PER_MAC = {"mlp": 0.0, "cnn8": 1.0, "plain": 0.035, "resnet": 0.07, "vgg": 0.03, "resnet4": 0.015}
_OTHER_PER_MAC = 0.07  # of families nobody has measured: rather too much than too little
_PER_PARAMETER = 3 * 4  # weight, gradient and momentum, fp32
_TEST_IMAGES = 10_000


def peak_mb(stages: Iterable[StageSpec], device: str) -> float:
    """The largest peak of one process (on a GPU: of the device) over these stages, in MB; 0 where there are none.

    The sum of: torch imported; the images of the set as bytes; those that are trained on and validated with as fp32;
    and either what one batch leaves for its backward pass, or the test images, whichever is more. It is an estimate:
    doctor holds it against the peaks of past runs.
    """
    return max((_peak(stage, device) for stage in stages), default=0.0) / _MB


def memory_notes(store: Store, keys: Iterable[str]) -> list[str]:
    """A sentence for each finished stage that was trained in less memory than it wanted."""
    found = []
    for key in keys:
        said, stage = SPARED.get(str((store.result(key) or {}).get("memory"))), store.stage(key)
        if said is not None and stage is not None:
            found.append(f"{stage.network}, seed {stage.seed}: {said}.")
    return found


def image_shape(stage: StageSpec) -> tuple[int, int, int]:
    """Shape (C, H, W) of the images a stage is trained on."""
    row = DATASETS.get(stage.data.name)
    if row is not None:
        return row.input_shape
    return _folder_shape(stage.data.name, stage.data.fingerprint) or FAMILIES[family_of(stage.network)].input_shape


@lru_cache(maxsize=64)
def _folder_shape(name: str, fingerprint: str) -> tuple[int, int, int] | None:
    return folder_shape(name)


def _peak(stage: StageSpec, device: str) -> float:
    family = family_of(stage.network)
    cost = capacity_or_least(stage.network, stage.data.classes)
    row = DATASETS.get(stage.data.name)
    pixels = prod(image_shape(stage))
    validation = row.validation if row is not None else stage.data.train_images // 9
    pool = row.train_pool if row is not None else stage.data.train_images + validation
    tested = ((row.test if row is not None else 0) or _TEST_IMAGES) * pixels * 5
    images = (stage.data.train_images + validation) * pixels * 4
    macs = cost.macs
    if FAMILIES[family].sides is not None:  # its MACs are those at the family's own side
        macs = round(macs * pixels / prod(FAMILIES[family].input_shape))
    many = max(1.0, times_as_much(stage))  # all networks of a stage go forward before any goes backward
    batch = many * min(stage.recipe.batch, stage.data.train_images) * macs * _per_mac(stage.network)
    total = images + _PER_PARAMETER * cost.params + max(tested, batch)
    if device != "cpu":
        return total
    return total + pool * pixels + _IMPORTED + _KERNELS


def _per_mac(network: str) -> float:
    family = family_of(network)
    if family.startswith("wrn-"):
        return _PER_MAC["resnet"] / NETWORKS[network].size
    return _PER_MAC.get(family, _OTHER_PER_MAC)
