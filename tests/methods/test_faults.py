"""Faults of the published code that concern losses, each against what this project does. Others stand beside what they
are about: gates, heads, sub-models, options, and multipliers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from takd.methods.losses import Answers, StepState, kd_loss, kl_term, make_loss, state_at
from takd.methods.losses.answers import total
from takd.methods.losses.step import settings_for
from takd.stage import LossSpec
from tests.methods.reference import CLASSES, LABELS, STUDENT, TEACHERS, answers, ce, kl, labels, tensor, value

TEACHER = TEACHERS[0]


@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
def test_published_fault_the_weight_of_kd_does_not_depend_on_the_number_of_classes(classes: int) -> None:
    """TAKD and DGKD call KLDivLoss() with its default, which divides by the classes as well: exactly 10, 100 and 1000
    times smaller for CIFAR-10, CIFAR-100 and ImageNet. As published it can be had, under its name."""
    rng = np.random.default_rng(classes)
    s, t = rng.normal(size=(3, classes)), rng.normal(size=(3, classes))
    right = value(kl_term(tensor(s), tensor(t), 5.0))
    assert right == pytest.approx(25 * kl(t, s, 5.0), rel=1e-9)
    assert value(kl_term(tensor(s), tensor(t), 5.0, reduction="mean")) == pytest.approx(right / classes, rel=1e-12)
    with pytest.raises(ValueError, match="batchmean or mean"):
        kl_term(tensor(s), tensor(t), 5.0, reduction="sum")


@pytest.mark.parametrize("name", ["kd", "dgkd"])
def test_as_published_is_an_option_and_equals_a_weight(name: str) -> None:
    """A repository's (lam, T) under the mean equals a batchmean weight of lam T^2 / classes."""
    lam, t = 0.4, 10.0
    recipe = LossSpec(name, t, lam, {"reduction": "mean"})
    state, _ = state_at(recipe, settings_for(recipe, epochs=1), 0)
    loss = make_loss(recipe)(answers(STUDENT), labels(), [answers(TEACHER)], state)["loss"]
    expected = (1 - lam) * ce(STUDENT) + lam * t**2 / CLASSES * kl(TEACHER, STUDENT, t)
    assert value(loss) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_published_fault_limits_are_continuous(lam: float) -> None:
    """torchdistill's alpha = 0 gives the soft loss without T^2."""
    at, near = (
        value(kd_loss(tensor(STUDENT), labels(), tensor(TEACHER), temperature=4.0, lam=x)["loss"])
        for x in (lam, abs(lam - 1e-9))
    )
    assert near == pytest.approx(at, rel=1e-6)
    assert at == pytest.approx(ce(STUDENT) if lam == 0.0 else 16 * kl(TEACHER, STUDENT, 4.0), rel=1e-9)


def test_published_fault_an_absent_teacher_is_an_error() -> None:
    """DIH's KD baseline distils from a network with random weights when no saved name matches, without a word."""
    for name in ("kd", "eskd", "dgkd", "dih", "dkd", "dist", "ls", "normkd", "ats", "akd"):
        recipe = LossSpec(name, 4.0, 0.5)
        loss = make_loss(recipe)
        state, _ = state_at(recipe, settings_for(recipe, epochs=2), 0)
        with pytest.raises(ValueError, match="no teacher"):
            loss(answers(STUDENT), labels(), [], state)


def test_published_fault_no_gradient_accumulates_in_a_live_teacher() -> None:
    """TAKD runs its teacher with gradients on, so they pile up in its parameters step after step."""
    torch.manual_seed(0)
    teacher, student, x = torch.nn.Linear(4, CLASSES), torch.nn.Linear(4, CLASSES), torch.randn(6, 4)
    kd_loss(student(x), labels(), teacher(x), temperature=4.0, lam=0.5)["loss"].backward()
    assert [p.grad for p in teacher.parameters()] == [None, None]
    assert all(p.grad is not None for p in student.parameters())


def test_published_fault_the_label_term_counts_once_in_the_mean() -> None:
    """DIH adds the cross-entropy once per head, so the labels' weight grows with the number of heads."""
    sources = [answers(t) for t in TEACHERS]
    recipe = LossSpec("dih", 5.0, 0.1)
    state, _ = state_at(recipe, settings_for(recipe, epochs=1, teachers=4), 0)
    loss = make_loss(recipe)(answers(STUDENT), labels(), sources, state)["loss"]
    expected = 0.9 * ce(STUDENT) + 0.1 * 25 * np.mean([kl(t, STUDENT, 5.0) for t in TEACHERS])
    assert value(loss) == pytest.approx(expected, rel=1e-9)


def test_published_fault_lam_1_drops_the_labels_only_if_asked() -> None:
    """DGKD's code starts at lam = 1, without any label term; here it is a choice with a gradient to match."""
    recipe = LossSpec("dgkd", 5.0, 1.0)
    state, _ = state_at(recipe, settings_for(recipe, epochs=1, teachers=2), 0)
    loss, grads = make_loss(recipe), []
    for other in (LABELS, (LABELS + 1) % CLASSES):
        z = tensor(STUDENT, grad=True)
        loss(Answers((z,)), torch.tensor(other), [answers(t) for t in TEACHERS[:2]], state)["loss"].backward()
        assert z.grad is not None
        grads.append(z.grad)
    assert torch.equal(*grads)


def test_a_term_of_weight_zero_leaks_nothing() -> None:
    z = tensor(STUDENT, grad=True)
    terms = {"ce": z.sum() * float("inf"), "kl": z.square().mean()}
    out = total(terms, StepState({"ce": 0.0, "kl": 1.0}))
    out["loss"].backward()
    assert torch.isfinite(out["loss"]) and z.grad is not None and torch.isfinite(z.grad).all()
    with pytest.raises(ValueError, match="nothing to learn"):
        total(terms, StepState({"ce": 0.0, "kl": 0.0}))
    with pytest.raises(KeyError):
        total(terms, StepState({"hint": 1.0}))


def as_tensors(state: StepState) -> StepState:
    """The state with every number a 0-d tensor, whose values a captured graph reads anew at every replay."""

    def tensor(value: float | Tensor) -> Tensor:
        return torch.as_tensor(value, dtype=torch.float32)

    weights = {name: tensor(weight) for name, weight in state.weights.items()}
    return StepState(weights, tensor(state.target_scale), state.gates)


def test_weights_as_tensors_say_the_same_as_numbers() -> None:
    """What a captured graph replays has to be what the plain step computes, also while the weights change."""
    recipe = LossSpec("dgkd", 4.0, 0.5, {"sum": "paper"})
    loss = make_loss(recipe)
    state, _ = state_at(recipe, settings_for(recipe, epochs=1, teachers=2), 0)
    gated = StepState(state.weights, gates=torch.tensor([1.0, 0.0]))
    device = as_tensors(gated)
    assert all(isinstance(weight, torch.Tensor) and weight.dim() == 0 for weight in device.weights.values())
    outs = [loss(answers(STUDENT), labels(), [answers(t) for t in TEACHERS[:2]], s)["loss"] for s in (gated, device)]
    assert value(outs[0]) == pytest.approx(value(outs[1]), rel=1e-6)
    weight = device.weights["kl_0"]
    assert isinstance(weight, torch.Tensor)
    weight.zero_()
    changed = loss(answers(STUDENT), labels(), [answers(t) for t in TEACHERS[:2]], device)["loss"]
    assert value(changed) == pytest.approx(2 * 0.5 * ce(STUDENT), rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 4),
    classes=st.integers(2, 12),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 1e2, 1e4]),
    temperature=st.sampled_from([1.0, 4.0, 100.0]),
    name=st.sampled_from(["kd", "dgkd", "dkd", "dist", "ls", "normkd", "ats", "akd"]),
    seed=st.integers(0, 2**20),
)
def test_no_loss_is_invalid_for_any_logits(
    batch: int, classes: int, scale: float, temperature: float, name: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    z = torch.tensor(rng.normal(size=(batch, classes)) * scale, dtype=torch.float32, requires_grad=True)
    t = torch.tensor(rng.normal(size=(batch, classes)) * scale, dtype=torch.float32)
    y = torch.tensor(rng.integers(0, classes, batch))
    recipe = LossSpec(name, temperature, 0.5)
    state, _ = state_at(recipe, settings_for(recipe, epochs=2), 0)
    loss = make_loss(recipe)(Answers((z,)), y, [Answers((t,))], state)["loss"]
    loss.backward()
    assert torch.isfinite(loss) and z.grad is not None and torch.isfinite(z.grad).all()
    rounding = 1e-5 * max(1.0, scale, temperature) ** 2  # of fp32, under factors as large as T squared
    assert value(loss) > -rounding, "every loss here is a distance or a surprise"
