from __future__ import annotations

import pytest
import torch
from torch import Tensor

from takd.budgets import BUDGETS, budget_for
from takd.data.augment import draws
from takd.networks.table import FAMILIES
from tests.augmented import augment

MASK = (1 << 64) - 1
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def images(count: int, side: int = 32, dtype: torch.dtype = torch.float32) -> Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (count, 3, side, side), generator=g).to(dtype)


def splitmix(state: int) -> int:
    """Reference splitmix64 in Python integers: the output for a state that was already advanced."""
    z = state & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def reference(seed: int, epoch: int, index: int) -> tuple[bool, int, int]:
    gamma = 0x9E3779B97F4A7C15
    key = splitmix(splitmix(seed + gamma) + epoch + gamma)
    word = splitmix(index * gamma + key)
    return bool(word & 1), (word >> 8 & 0xFFFFFF) % 9, (word >> 32 & 0xFFFFFF) % 9


def test_splitmix_reference_is_the_published_one() -> None:
    # First outputs of the published splitmix64 for the seed 1234567
    gamma = 0x9E3779B97F4A7C15
    assert [splitmix(1234567 + (i + 1) * gamma) for i in range(2)] == [6457827717110365317, 3203168211198807973]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_draws_equal_the_python_reference(device: str, seed: int) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    indices = torch.tensor([0, 1, 2, 49_999, 123_456_789, 2**40], device=device)
    for epoch in (1, 2, 160):
        flip, down, right = draws(seed, epoch, indices)
        got = list(zip(flip.tolist(), down.tolist(), right.tolist(), strict=True))
        assert got == [reference(seed, epoch, i) for i in indices.tolist()]


def by_hand(image: Tensor, flip: bool, down: int, right: int) -> Tensor:
    """Cut pixel by pixel out of the image with a frame of 4 zeros, then mirror."""
    _, height, width = image.shape
    out = torch.zeros_like(image)
    for r in range(height):
        for c in range(width):
            y, x = r + down - 4, (width - 1 - c if flip else c) + right - 4
            if 0 <= y < height and 0 <= x < width:
                out[:, r, c] = image[:, y, x]
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_crop_flip_by_hand(dtype: torch.dtype) -> None:
    batch, indices = images(12, side=10, dtype=dtype), torch.arange(12)
    views = augment(batch, "crop-flip", 3, 5, indices)
    assert views.dtype == dtype
    for i in range(12):
        assert torch.equal(views[i], by_hand(batch[i], *reference(3, 5, i)))


def test_crop_alone_and_known_corner() -> None:
    """One image worked out on paper: sample 0 of the first (seed, epoch) that shifts without mirroring."""
    seed = next(s for s in range(1000) if reference(s, 1, 0) == (False, 6, 3))
    image = torch.arange(1.0, 37.0).reshape(1, 1, 6, 6)  # rows 1..6, 7..12, ...
    view = augment(image, "crop-flip", seed, 1, torch.tensor([0]))[0, 0]
    # corner (6, 3) in the frame of 4: two rows up, one column to the right
    expected = torch.zeros(6, 6)
    expected[:4, 1:] = image[0, 0, 2:, :5]
    assert torch.equal(view, expected)


def test_flip_by_hand() -> None:
    batch, indices = images(40, side=5), torch.arange(40)
    views = augment(batch, "flip", 0, 1, indices)
    flips = [reference(0, 1, i)[0] for i in range(40)]
    assert 5 < sum(flips) < 35
    for i, flip in enumerate(flips):
        columns = [4, 3, 2, 1, 0] if flip else [0, 1, 2, 3, 4]
        assert torch.equal(views[i], batch[i][:, :, columns])


def test_none_changes_nothing() -> None:
    batch = images(3)
    assert torch.equal(augment(batch, "none", 0, 1, torch.arange(3)), images(3))


@pytest.mark.parametrize("kind", ["flip", "crop-flip"])
def test_the_batch_does_not_matter(kind: str) -> None:
    data, indices = images(60), torch.arange(60)
    whole = augment(data, kind, 9, 4, indices)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    shuffled = augment(data[order], kind, 9, 4, order)
    assert torch.equal(shuffled, whole[order])
    pieces = torch.cat([augment(data[i : i + 7], kind, 9, 4, indices[i : i + 7]) for i in range(0, 60, 7)])
    assert torch.equal(pieces, whole)


@pytest.mark.parametrize("kind", ["flip", "crop-flip"])
def test_seed_epoch_and_sample_matter(kind: str) -> None:
    data, indices = images(60), torch.arange(60)
    view = augment(data, kind, 9, 4, indices)
    assert not torch.equal(view, data)
    for seed, epoch, samples in ((10, 4, indices), (9, 5, indices), (4, 9, indices), (9, 4, indices + 60)):
        assert not torch.equal(view, augment(data, kind, seed, epoch, samples))


def test_input_is_left_alone() -> None:
    data = images(8)
    augment(data, "crop-flip", 0, 1, torch.arange(8))
    assert torch.equal(data, images(8))


def test_channels_last_stays() -> None:
    data = images(8).contiguous(memory_format=torch.channels_last)
    view = augment(data, "crop-flip", 0, 1, torch.arange(8))
    assert view.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(view, augment(images(8), "crop-flip", 0, 1, torch.arange(8)))


def test_draws_are_uniform_and_independent() -> None:
    flip, down, right = draws(0, 1, torch.arange(81_000))
    assert abs(flip.double().mean().item() - 0.5) < 0.01
    cells = torch.bincount(down * 9 + right, minlength=81)
    assert cells.min() > 840  # 1000 expected, standard deviation 31
    assert cells.max() < 1160
    mirrored = torch.bincount(down[flip] * 9 + right[flip], minlength=81).double() / cells
    assert (mirrored - 0.5).abs().max() < 0.09
    # Neighbouring samples and epochs share no more than chance
    _, next_down, _ = draws(0, 2, torch.arange(81_000))
    assert abs((down == next_down).double().mean().item() - 1 / 9) < 0.006
    assert abs((down[1:] == down[:-1]).double().mean().item() - 1 / 9) < 0.006


def test_every_recipe_asks_for_views_there_are() -> None:
    recipes = [budget_for(family, budget).recipe for family in FAMILIES for budget in BUDGETS]
    assert {recipe.augmentation for recipe in recipes} <= {"none", "flip", "crop-flip"}


@pytest.mark.gpu
def test_cuda_views_equal_cpu_views() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    data, indices = images(500), torch.arange(500)
    for kind in ("flip", "crop-flip"):
        assert torch.equal(augment(data.cuda(), kind, 1, 2, indices.cuda()).cpu(), augment(data, kind, 1, 2, indices))
