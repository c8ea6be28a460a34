"""Equal terms: gradient multipliers, budgets, and the epochs an early teacher or a route is taken from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from takd.methods.losses import Answers, make_loss, state_at
from takd.methods.losses.step import settings_for
from takd.methods.method import Settings
from takd.methods.options import Value, read_options
from takd.methods.scale import (
    Training,
    anchor_epochs,
    equal_cost_epochs,
    extra_forwards,
    extra_trainings,
    gradient_multiplier,
    largest_multiplier,
    stopping_epoch,
)
from takd.methods.table import METHODS
from takd.stage import LossSpec
from tests.methods.reference import STUDENT, TEACHERS, answers, labels, tensor


def multiplier(name: str, *, lam: float = 0.7, teachers: int = 1, outputs: int = 1, **values: Value) -> float:
    row = METHODS[name]
    settings = Settings(lam, read_options(row.options, values), teachers, outputs)
    return gradient_multiplier(row.loss, settings)


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_kd_is_the_unit(lam: float) -> None:
    for name in ("kd", "takd", "eskd", "rco", "normkd", "ats", "scratch"):
        assert multiplier(name, lam=lam) == pytest.approx(1.0)
    for name in ("dgkd", "dih"):
        assert multiplier(name, lam=lam, teachers=5) == pytest.approx(1.0), "the mean"


def test_published_fault_sums_multiply_the_gradient() -> None:
    """DIH's code adds CE once per head and all KL terms: about k + 1 times KD's gradient at the same settings (measured
    3.98 for k = 3). DGKD's paper and code add theirs up too."""
    assert multiplier("dih", lam=0.1, teachers=4, sum="paper") == pytest.approx(4.0)
    assert multiplier("dgkd", teachers=4, sum="paper") == pytest.approx(4.0)
    assert multiplier("dgkd", teachers=4, sum="code") == pytest.approx(0.3 + 0.7 * 4)
    assert multiplier("joint", outputs=4) == 4.0 and multiplier("joint", outputs=4, sum="mean") == 1.0
    assert multiplier("ipkd", outputs=4) == 4.0 and multiplier("ipkd", outputs=4, hard=True) == 7.0
    assert multiplier("ipkd-ta", outputs=4, teacher="all-larger") == 1 + 3 + 2 + 1
    assert multiplier("dml", outputs=2) == 4.0, "CE and KL of either network; they share no weights"
    assert multiplier("ls") == pytest.approx(9.1) and multiplier("dist") == 3.0


@pytest.mark.parametrize(("how", "expected"), [("paper", 3.0), ("code", 0.3 + 0.7 * 3), ("mean", 1.0)])
def test_dividing_by_the_multiplier_gives_the_gradient_of_kd(how: str, expected: float) -> None:
    """With three equal teachers every way to add up pulls in KD's direction, multiplier times as hard, where lam = 1
    or the label term is counted as often."""
    gradients = []
    for name, teachers, values in (("kd", 1, {}), ("dgkd", 3, {"sum": how})):
        recipe = LossSpec(name, 4.0, 1.0 if how == "code" else 0.7, values)
        z = tensor(STUDENT, grad=True)
        settings = settings_for(recipe, epochs=1, teachers=teachers)
        terms = make_loss(recipe)(
            Answers((z,)), labels(), [answers(TEACHERS[0])] * teachers, state_at(recipe, settings, 0)[0]
        )
        (terms["loss"] / gradient_multiplier(METHODS[name].loss, settings)).backward()
        assert z.grad is not None
        gradients.append(z.grad.numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-9)
    assert multiplier("dgkd", teachers=3, sum=how) == pytest.approx(expected)


def test_gates_count_by_how_often_a_teacher_is_heard() -> None:
    gated: dict[str, Value] = {"sum": "paper", "gate": "bernoulli", "p": 0.5, "empty": "labels"}
    assert multiplier("dgkd", teachers=4, **gated) == pytest.approx(4 * 0.3 + 0.7 * 4 * 0.5)
    assert multiplier("dgkd", teachers=4, sum="code", gate="drop-one") == pytest.approx(0.3 + 0.7 * 3)
    protected = multiplier("dgkd", teachers=4, protect=True, **gated)
    assert protected == pytest.approx(4 * 0.3 + 0.7 * (1 + 3 * 0.5))
    guarded = multiplier("dgkd", teachers=2, sum="code", gate="bernoulli", p=0.5)
    assert guarded == pytest.approx(0.3 + 0.7 * (2 * 0.5 + 0.25))
    assert multiplier("dgkd", teachers=2, gate="bernoulli", p=0.5) == pytest.approx(1.0)


def test_the_mean_over_classes_counts_too() -> None:
    """At lam = 0.9 and ten classes the released reduction takes 5.3 times off the step: 0.1 + 0.9 / 10."""
    row = METHODS["kd"]
    settings = Settings(0.9, {"reduction": "mean"}, classes=10)
    assert gradient_multiplier(row.loss, settings) == pytest.approx(0.19)
    with pytest.raises(ValueError, match="say how many"):
        gradient_multiplier(row.loss, Settings(0.9, {"reduction": "mean"}))


def test_the_largest_multiplier_looks_at_every_epoch() -> None:
    row = METHODS["dkd"]
    settings = Settings(0.5, read_options(row.options, {"warm_up": 0.5}), epochs=10)
    assert gradient_multiplier(row.loss, settings) == pytest.approx(1 + 9 / 5)
    assert largest_multiplier(row.loss, settings) == pytest.approx(10.0)


def test_a_longer_student_may_spend_what_assistants_cost() -> None:
    student = Training(80, 1_040_000)
    assert equal_cost_epochs(student, [Training(80, 6_360_000)]) == 160, "one assistant: 160 epochs beside 80"
    assert equal_cost_epochs(student, [Training(80, 6_360_000)], "macs") == round(80 * (1 + 6.36 / 1.04))
    assert equal_cost_epochs(student, []) == equal_cost_epochs(student, [], "macs") == 80
    live = Training(80, 1_000, teacher_macs=3_000)
    assert live.work == 80 * 6_000, "a step costs three forwards of the student and one of its teacher"
    assert equal_cost_epochs(live, [Training(40, 2_000)], "macs") == 120
    with pytest.raises(ValueError, match="trainings or macs"):
        equal_cost_epochs(student, [], "money")


def test_what_methods_cost() -> None:
    asked = {"scratch": 0, "kd": 0, "takd": 3, "dgkd": 3, "dih": 0, "dkd": 0, "rco": 0, "ipkd": 0}
    rows = {name: (METHODS[name], n) for name, n in asked.items()}
    counts = {name: (extra_trainings(row, n), extra_forwards(row, n)) for name, (row, n) in rows.items()}
    assert counts == {
        "scratch": (0, 0), "kd": (1, 1), "takd": (4, 1), "dgkd": (4, 4), "dih": (2, 1), "dkd": (1, 1), "rco": (1, 1),
        "ipkd": (0, 0),
    }  # fmt: skip


def test_early_teachers_and_routes() -> None:
    assert [stopping_epoch(share, 10) for share in (0.01, 0.25, 0.5, 1.0)] == [1, 3, 5, 10]
    assert stopping_epoch(0.5, 1) == 1
    assert anchor_epochs(160, 4) == (40, 80, 120, 160) and anchor_epochs(10, 3) == (3, 7, 10)
    for epochs in range(1, 40):
        for anchors in range(1, epochs + 1):
            route = anchor_epochs(epochs, anchors)
            assert route[0] >= 1 and route[-1] == epochs and len(set(route)) == anchors == len(route)
    for bad in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"\(0, 1\]"):
            stopping_epoch(bad, 10)
    for anchors in (0, 11):
        with pytest.raises(ValueError, match="do not fit"):
            anchor_epochs(10, anchors)


def test_an_equal_scale_leaves_the_proportions_and_adds_up_to_one() -> None:
    for name in ("dkd", "dist", "ls"):
        recipe = LossSpec(name, 4.0, 0.0, {"scale": "equal"})
        ends = [state_at(recipe, settings_for(recipe, epochs=10), epoch)[0].weights for epoch in (0, 9)]
        plain = state_at(LossSpec(name, 4.0, 0.0), settings_for(LossSpec(name, 4.0, 0.0), epochs=10), 9)[0].weights
        # T**2 = 16: DIST's correlations do not shrink with T, so each counts sixteen times.
        pulls = {term: weight * (16 if term in ("inter", "intra") else 1) for term, weight in plain.items()}
        most = sum(pulls.values())
        assert sum(ends[0].values()) <= 1.0 + 1e-12
        assert ends[1] == pytest.approx({term: weight / most for term, weight in plain.items()})


@pytest.mark.parametrize("temperature", [1.0, 4.0, 16.0])
def test_an_equal_scale_holds_at_every_temperature(temperature: float) -> None:
    """The gradient of DIST at T = 16 is some fifty times that of KD, and must not be once brought to an equal scale."""
    generator = torch.Generator().manual_seed(5)
    teacher = Answers((3 * torch.randn(64, 10, generator=generator, dtype=torch.float64),))
    targets = torch.randint(0, 10, (64,), generator=generator)
    start = torch.randn(64, 10, generator=generator, dtype=torch.float64)

    def pull(loss: LossSpec) -> float:
        logits = start.clone().requires_grad_()
        state, _ = state_at(loss, settings_for(loss, epochs=1), 0)
        make_loss(loss)(Answers((logits,)), targets, (teacher,), state)["loss"].backward()
        assert logits.grad is not None
        return float(logits.grad.norm())

    equal = pull(LossSpec("dist", temperature, 0.0, (("scale", "equal"),)))
    assert 0.1 < equal / pull(LossSpec("kd", temperature, 1.0)) < 3.0
