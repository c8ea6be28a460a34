"""Which stages go together, as properties of every choice."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from takd.batching import LEAST_SHARE, MOST_TOGETHER, batch_shape, take_together
from takd.data.table import DATASETS
from takd.plan import build_plan
from takd.spec import ExperimentSpec, start_for
from takd.stage import StageSpec

DIGITS = build_plan(replace(start_for("digits"), seeds=20), DATASETS["digits"]).stages
CIFAR = build_plan(ExperimentSpec(seeds=3), DATASETS["cifar10"]).stages
STAGES: dict[str, StageSpec] = {**DIGITS, **CIFAR}
ONE = next(stage for stage in DIGITS.values() if stage.teachers)

ready_keys = st.lists(st.sampled_from(list(STAGES)), unique=True, max_size=400)
devices = st.sampled_from(["cpu", "cuda:0"])


@given(ready_keys, devices, st.integers(1, 16))
def test_what_is_taken_is_of_one_shape_in_order_and_never_nothing(ready: list[str], device: str, count: int) -> None:
    taken = take_together(ready, STAGES, device, count)
    assert bool(taken) == bool(ready)
    assert [key for key in ready if key in set(taken)] == taken and len(set(taken)) == len(taken)
    if not ready:
        return
    assert taken[0] == ready[0] and len(taken) <= MOST_TOGETHER
    shapes = {batch_shape(STAGES[key], device) for key in taken}
    assert len(shapes) == 1
    assert len(taken) == 1 or None not in shapes


@given(ready_keys, devices, st.integers(1, 16))
def test_processes_share_what_is_worth_sharing(ready: list[str], device: str, count: int) -> None:
    if not ready or (shape := batch_shape(STAGES[ready[0]], device)) is None:
        return
    alike = sum(batch_shape(STAGES[key], device) == shape for key in ready)
    taken = len(take_together(ready, STAGES, device, count))
    if count == 1 or alike <= LEAST_SHARE:
        assert taken == min(alike, MOST_TOGETHER)
    else:
        assert taken >= LEAST_SHARE and (taken - 1) * count < max(alike, LEAST_SHARE * count) and taken <= alike


@given(ready_keys, devices, st.integers(1, 8))
def test_taking_again_and_again_takes_everything_once(ready: list[str], device: str, count: int) -> None:
    left, seen = list(ready), []
    while left:
        taken = take_together(left, STAGES, device, count)
        seen += taken
        left = [key for key in left if key not in set(taken)]
    assert sorted(seen) == sorted(ready)


def test_students_wait_for_each_other_while_there_are_teachers_to_train() -> None:
    """A ladder of one process: each network once, and all students together in the end."""
    done: set[str] = set()
    batches: list[list[str]] = []
    while left := [key for key in DIGITS if key not in done]:
        ready = [key for key in left if set(DIGITS[key].teachers) <= done]
        batches.append(take_together(ready, DIGITS, "cpu", 1, set(left).difference(ready)))
        done |= set(batches[-1])
    names = [DIGITS[batch[0]].network for batch in batches]
    assert len(names) == len(set(names)) and names[-1] == "mlp-8"
    assert sum(map(len, batches)) == len(DIGITS)


@given(ready_keys, ready_keys, devices, st.integers(1, 16))
def test_what_is_coming_puts_off_but_never_stops(ready: list[str], coming: list[str], device: str, count: int) -> None:
    taken = take_together(ready, STAGES, device, count, coming)
    growing = {batch_shape(STAGES[key], device) for key in coming} - {None}
    shapes = [batch_shape(STAGES[key], device) for key in ready]
    assert bool(taken) == bool(ready)
    if any(shape not in growing for shape in shapes):
        first = next(key for key, shape in zip(ready, shapes, strict=True) if shape not in growing)
        assert taken[0] == first
    elif ready:
        assert taken[0] == ready[0]


def test_no_more_than_the_most_go_together() -> None:
    many = {(stage := replace(ONE, seed=seed)).key: stage for seed in range(2 * MOST_TOGETHER)}
    assert take_together(list(many), many, "cpu", 1) == list(many)[:MOST_TOGETHER]


def test_seeds_teachers_losses_and_noise_do_not_part_what_network_recipe_and_images_do() -> None:
    shape = batch_shape(ONE, "cpu")
    assert shape is not None
    for other in (
        replace(ONE, seed=99),
        replace(ONE, teachers=()),
        replace(ONE, loss=replace(ONE.loss, temperature=9.0, lam=0.1)),
        replace(ONE, data=replace(ONE.data, noise=0.4)),
    ):
        assert batch_shape(other, "cpu") == shape
    for other in (
        replace(ONE, network="mlp-64"),
        replace(ONE, recipe=replace(ONE.recipe, epochs=7)),
        replace(ONE, data=replace(ONE.data, train_images=100)),
        replace(ONE, data=replace(ONE.data, fingerprint="0" * 64)),
    ):
        assert batch_shape(other, "cpu") != shape


def test_where_a_network_is_trained_alone() -> None:
    plain = next(iter(CIFAR.values()))
    assert batch_shape(plain, "cpu") is None and batch_shape(ONE, "cuda:0") is None
    assert batch_shape(plain, "cuda:0") is not None
