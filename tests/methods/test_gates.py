"""Stochastic teaching: rates, protection, empty steps, and that a resumed training hears the same teachers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from takd.methods.losses.gates import draw_gates, uniforms
from takd.methods.losses.step import gates_for
from takd.methods.scale import expected_hearing
from takd.stage import LossSpec

MANY = range(20_000)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    start=st.integers(0, 10_000),
    length=st.integers(1, 40),
    teachers=st.integers(2, 9),
    gate=st.sampled_from(["bernoulli", "drop-one", "weaken", "none"]),
    protect=st.booleans(),
    empty=st.sampled_from(["one", "labels"]),
    mean=st.booleans(),
)
def test_a_row_depends_on_its_step_alone(
    seed: int, start: int, length: int, teachers: int, gate: str, protect: bool, empty: str, mean: bool
) -> None:
    options = {"gate": gate, "protect": protect, "empty": empty, "mean": mean}
    whole = draw_gates(seed, range(start + length), teachers, **options)  # type: ignore[arg-type]
    part = draw_gates(seed, range(start, start + length), teachers, **options)  # type: ignore[arg-type]
    assert torch.equal(whole[start:], part)
    assert whole.dtype == torch.float32 and whole.shape == (start + length, teachers)
    if gate != "bernoulli" or empty == "one":
        assert (whole.sum(dim=1) > 0).all(), "nobody is heard by accident"
    if protect:
        assert (whole[:, 0] > 0).all()
    if mean and gate != "bernoulli":
        total = whole.sum(dim=1)
        assert gate == "weaken" or torch.allclose(total, torch.full_like(total, teachers)), "a mean over those heard"


def test_seeds_and_steps_differ() -> None:
    one, other = draw_gates(1, range(100), 4), draw_gates(2, range(100), 4)
    assert not torch.equal(one, other)
    assert len({tuple(row.tolist()) for row in one}) > 4
    assert not torch.equal(draw_gates(1, range(100, 200), 4), one)


@pytest.mark.parametrize("p", [0.25, 0.75, 1.0])
def test_bernoulli_hears_every_teacher_at_its_rate(p: float) -> None:
    gates = draw_gates(3, MANY, 4, p=p, empty="labels").numpy()
    assert set(np.unique(gates)) <= {0.0, 1.0}
    assert np.abs(gates.mean(axis=0) - p).max() < 4 * np.sqrt(0.25 / len(MANY))
    if p < 1.0:
        assert np.abs(np.corrcoef(gates.T)[np.triu_indices(4, 1)]).max() < 0.05, "independent coins"


def test_an_empty_step_hears_one_at_random_or_nobody_on_purpose() -> None:
    p, teachers = 0.25, 3
    silent = draw_gates(5, MANY, teachers, p=p, empty="labels").numpy()
    filled = draw_gates(5, MANY, teachers, p=p, empty="one").numpy()
    empty = silent.sum(axis=1) == 0
    assert abs(empty.mean() - (1 - p) ** teachers) < 0.02
    assert (filled[empty].sum(axis=1) == 1).all() and (filled[~empty] == silent[~empty]).all()
    assert np.abs(filled[empty].mean(axis=0) - 1 / teachers).max() < 0.03, "each as likely"


def test_drop_one_drops_exactly_one_each_as_often() -> None:
    """Released DGKD code with three assistants: every term survives with probability 0.75 (20,000 draws)."""
    gates = draw_gates(0, MANY, 4, gate="drop-one").numpy()
    assert (gates.sum(axis=1) == 3).all()
    assert np.abs(gates.mean(axis=0) - 0.75).max() < 0.015
    protected = draw_gates(0, MANY, 4, gate="drop-one", protect=True).numpy()
    assert (protected[:, 0] == 1).all() and (protected.sum(axis=1) == 3).all()
    assert np.abs(protected[:, 1:].mean(axis=0) - 2 / 3).max() < 0.015


def test_published_fault_dropping_the_only_teacher_left_nothing() -> None:
    """DGKD's code with no assistant and its default drop of one trains on a loss that is 0, or stops with an index
    error; here it is refused."""
    for teachers, protect in ((1, False), (1, True)):
        with pytest.raises(ValueError, match="leave none"):
            draw_gates(0, range(3), teachers, gate="drop-one", protect=protect)


def test_published_fault_drops_were_not_seeded() -> None:
    """DGKD's code draws the drop from Python's global generator, which nothing seeds."""
    import random

    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    one = draw_gates(7, range(50), 5, gate="drop-one")
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    assert torch.equal(one, draw_gates(7, range(50), 5, gate="drop-one"))


def test_first_draws_never_change() -> None:
    """Keys of finished stages stand for these very draws; if this fails, raise ENGINE_VERSION."""
    np.testing.assert_allclose(uniforms(0, range(2), 2), FIRST_UNIFORMS, rtol=0, atol=0)
    assert draw_gates(12, range(6), 3).tolist() == FIRST_GATES


FIRST_UNIFORMS = [[0.011546754286331562, 0.24154919656271812], [0.5023796042735054, 0.27760557688455356]]
FIRST_GATES = [[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize("bad", [{"p": 0.0}, {"p": 1.5}, {"gate": "sometimes"}, {"empty": "none"}])
def test_what_makes_no_sense_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"p lies in|gate is one of"):
        draw_gates(0, range(3), 2, **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one teacher"):
        draw_gates(0, range(3), 0)


@pytest.mark.parametrize("how", ["paper", "mean"])
@pytest.mark.parametrize("protect", [False, True])
@pytest.mark.parametrize(
    ("gate", "empty"), [("bernoulli", "one"), ("bernoulli", "labels"), ("drop-one", "one"), ("weaken", "one")]
)
def test_expected_hearing_is_the_mean_of_the_draws(how: str, protect: bool, gate: str, empty: str) -> None:
    options = {"sum": how, "gate": gate, "p": 0.4, "protect": protect, "empty": empty}
    gates = gates_for(LossSpec("dgkd", 4.0, 0.5, options), 11, MANY, 3)
    assert gates is not None
    expected = expected_hearing(options, 3)
    if gate == "weaken" and how == "mean":  # weights stay as they are: nobody is left out
        assert float(gates.mean()) == pytest.approx((protect + (3 - protect) * 0.4) / 3, abs=1e-5)
    assert float(gates.mean()) == pytest.approx(expected, abs=0.01)


def test_no_gate_no_tensor() -> None:
    assert gates_for(LossSpec("dgkd", 4.0, 0.5), 0, range(5), 3) is None
    assert gates_for(LossSpec("kd", 4.0, 0.5), 0, range(5), 1) is None
