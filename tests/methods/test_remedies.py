"""DKD, DIST, standardised logits, NormKD, ATS and annealing against NumPy, with their limits and invariances."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from takd.methods.losses import Answers, StepState, kl_term, make_loss, state_at
from takd.methods.losses.remedies import (
    akd_terms,
    ats_terms,
    dist_terms,
    dkd_parts,
    ls_terms,
    normkd_terms,
    pearson_distance,
)
from takd.methods.losses.step import settings_for
from takd.methods.options import Value
from takd.stage import LossSpec
from tests.methods.reference import (
    BATCH,
    CLASSES,
    LABELS,
    STUDENT,
    TEACHERS,
    Array,
    answers,
    ce,
    difference,
    kl,
    kl_of,
    labels,
    softmax,
    tensor,
    value,
)

TEACHER = TEACHERS[0]
ROWS = np.arange(BATCH)
NO_STATE = StepState({})


def run(
    name: str, *, temperature: float | None = None, lam: float = 0.0, epoch: int = 0, epochs: int = 1,
    student: Array = STUDENT, teacher: Array = TEACHER, **options: Value,
) -> dict[str, torch.Tensor]:  # fmt: skip
    recipe = LossSpec(name, temperature, lam, options)
    state, _ = state_at(recipe, settings_for(recipe, epochs=epochs), epoch)
    return make_loss(recipe)(answers(student), labels(), [answers(teacher)], state)


def numpy_dkd(student: Array, teacher: Array, t: float) -> tuple[Array, Array]:
    """(TCKD, NCKD) per image, by building the two distributions the paper names."""
    p, q = softmax(teacher, t), softmax(student, t)
    binary = [np.stack([x[ROWS, LABELS], 1 - x[ROWS, LABELS]], axis=1) for x in (p, q)]
    rest = []
    for z in (teacher, student):
        others = np.stack([np.delete(row, label) for row, label in zip(z, LABELS, strict=True)])
        rest.append(softmax(others, t))
    return kl_of(*binary), kl_of(*rest)


@pytest.mark.parametrize("t", [1.0, 4.0])
def test_dkd_parts_are_the_two_distributions_of_the_paper(t: float) -> None:
    tckd, nckd, p = dkd_parts(tensor(STUDENT), tensor(TEACHER), labels(), t)
    expected = numpy_dkd(STUDENT, TEACHER, t)
    np.testing.assert_allclose(tckd.numpy(), expected[0], rtol=1e-8)
    np.testing.assert_allclose(nckd.numpy(), expected[1], rtol=1e-8)
    np.testing.assert_allclose(p.numpy(), softmax(TEACHER, t)[ROWS, LABELS], rtol=1e-9)


@pytest.mark.parametrize("t", [1.0, 4.0])
def test_kd_is_tckd_plus_nckd_weighted_by_what_the_label_leaves(t: float) -> None:
    """Zhao et al. eq. 7: with alpha = beta = 1 DKD is not KD, it is KD without the factor (1 - p_label) on NCKD."""
    tckd, nckd, p = (x.numpy() for x in dkd_parts(tensor(STUDENT), tensor(TEACHER), labels(), t))
    assert float((tckd + (1 - p) * nckd).mean()) == pytest.approx(kl(TEACHER, STUDENT, t), rel=1e-9)
    ones = run("dkd", temperature=t, alpha=1.0, beta=1.0, warm_up=0.0)
    kd = value(kl_term(tensor(STUDENT), tensor(TEACHER), t))
    extra = t**2 * float((p * nckd).mean())
    assert value(ones["loss"]) - value(ones["ce"]) == pytest.approx(kd + extra, rel=1e-9)


def test_dkd_weights_and_warm_up() -> None:
    tckd, nckd = (4.0**2 * float(part.mean()) for part in numpy_dkd(STUDENT, TEACHER, 4.0))
    for epoch, warm in ((0, 1 / 20), (9, 10 / 20), (19, 1.0), (239, 1.0)):  # 20 of 240 epochs, counted from 1
        terms = run("dkd", temperature=4.0, epoch=epoch, epochs=240)
        assert value(terms["loss"]) == pytest.approx(ce(STUDENT) + warm * (tckd + 8 * nckd), rel=1e-9)


def test_dkd_with_two_classes_has_nothing_among_the_rest() -> None:
    z, t, y = torch.tensor([[1.0, -1.0]]), torch.tensor([[0.5, 2.0]]), torch.tensor([1])
    tckd, nckd, _ = dkd_parts(z, t, y, 2.0)
    assert value(nckd[0]) == pytest.approx(0.0, abs=1e-6)
    assert value(tckd[0]) == pytest.approx(value(kl_term(z, t, 2.0)) / 4, rel=1e-5)


def test_dkd_of_a_sure_teacher_stays_finite() -> None:
    z = torch.tensor(STUDENT, dtype=torch.float32, requires_grad=True)
    t = torch.full((BATCH, CLASSES), -1e4).scatter(1, labels()[:, None], 1e4)
    tckd, nckd, _ = dkd_parts(z, t, labels(), 1.0)
    (tckd.mean() + nckd.mean()).backward()
    assert torch.isfinite(tckd).all() and torch.isfinite(nckd).all()
    assert z.grad is not None and torch.isfinite(z.grad).all()


def numpy_pearson(one: Array, other: Array) -> float:
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(one, other, strict=True)]))


@pytest.mark.parametrize("t", [1.0, 4.0])
def test_dist_is_one_minus_pearson_over_classes_and_over_images(t: float) -> None:
    terms = run("dist", temperature=t, beta=2.0, gamma=3.0)
    p, q = softmax(TEACHER, t), softmax(STUDENT, t)
    inter, intra = t**2 * (1 - numpy_pearson(q, p)), t**2 * (1 - numpy_pearson(q.T, p.T))
    assert value(terms["inter"]) == pytest.approx(inter, rel=1e-5)
    assert value(terms["intra"]) == pytest.approx(intra, rel=1e-5)
    assert value(terms["loss"]) == pytest.approx(ce(STUDENT) + 2 * inter + 3 * intra, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.1, 50), shift=st.floats(-50, 50))
def test_pearson_does_not_see_affine_maps(scale: float, shift: float) -> None:
    one, other = tensor(STUDENT), tensor(TEACHER)
    assert value(pearson_distance(scale * one + shift, other)) == pytest.approx(
        value(pearson_distance(one, other)), rel=1e-6
    )
    assert value(pearson_distance(one, scale * one + shift)) == pytest.approx(0.0, abs=1e-7)
    assert value(pearson_distance(one, -one)) == pytest.approx(2.0, rel=1e-7)


def test_dist_of_a_batch_of_one_is_finite() -> None:
    z = tensor(STUDENT[:1], grad=True)
    terms = dist_terms(Answers((z,)), labels()[:1], [answers(TEACHER[:1])], NO_STATE, temperature=1.0)
    (terms["inter"] + terms["intra"]).backward()
    assert value(terms["intra"]) == pytest.approx(1.0), "one image has no relations between images"
    assert z.grad is not None and torch.isfinite(z.grad).all()


def standard(z: Array) -> Array:
    return (z - z.mean(axis=1, keepdims=True)) / z.std(axis=1, ddof=1, keepdims=True)


def test_standardised_logits_against_numpy() -> None:
    terms = run("ls", temperature=2.0)
    expected = 2.0**2 * kl(standard(TEACHER), standard(STUDENT), 2.0)
    assert value(terms["kl"]) == pytest.approx(expected, rel=1e-5)
    assert value(terms["loss"]) == pytest.approx(0.1 * ce(STUDENT) + 9 * expected, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.05, 100), shift=st.floats(-100, 100), side=st.sampled_from(["student", "teacher"]))
def test_standardising_does_not_see_scale_and_shift(scale: float, shift: float, side: str) -> None:
    base = value(run("ls", temperature=2.0)["kl"])
    changed = {side: scale * (STUDENT if side == "student" else TEACHER) + shift}
    assert value(run("ls", temperature=2.0, **changed)["kl"]) == pytest.approx(base, rel=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("t_norm", [0.5, 2.0])
def test_normkd_against_numpy(t_norm: float) -> None:
    expected = 0.0
    for z, t in zip(STUDENT, TEACHER, strict=True):
        own, other = t_norm * t.std(ddof=1), t_norm * z.std(ddof=1)
        expected += own**2 * float(kl_of(softmax(t / own), softmax(z / other))) / BATCH
    terms = run("normkd", lam=0.9, t_norm=t_norm)
    assert value(terms["kl"]) == pytest.approx(expected, rel=1e-5)
    assert value(terms["loss"]) == pytest.approx(0.1 * ce(STUDENT) + 0.9 * expected, rel=1e-5)


def test_normkd_weighs_by_the_teachers_spread_and_standardising_does_not() -> None:
    wide = {"teacher": 3 * TEACHER}
    assert value(run("normkd", lam=0.9, **wide)["kl"]) == pytest.approx(
        9 * value(run("normkd", lam=0.9)["kl"]), rel=1e-5
    )  # type: ignore[arg-type]
    equal = STUDENT / STUDENT.std(axis=1, ddof=1, keepdims=True), TEACHER / TEACHER.std(axis=1, ddof=1, keepdims=True)
    normed = run("normkd", lam=0.9, t_norm=2.0, student=equal[0], teacher=equal[1])
    assert value(normed["kl"]) == pytest.approx(value(kl_term(tensor(equal[0]), tensor(equal[1]), 2.0)), rel=1e-5)


@pytest.mark.parametrize("terms", [ls_terms, normkd_terms])
def test_constant_logits_are_no_division_by_zero(terms: Callable[..., dict[str, torch.Tensor]]) -> None:
    z = torch.zeros(2, CLASSES, requires_grad=True)
    extra = {"temperature": 2.0} if terms is ls_terms else {"t_norm": 2.0}
    out = terms(Answers((z,)), labels()[:2], [Answers((torch.ones(2, CLASSES),))], NO_STATE, **extra)
    out["kl"].backward()
    assert torch.isfinite(out["kl"]) and z.grad is not None and torch.isfinite(z.grad).all()


def numpy_ats(student: Array, teacher: Array, tau_label: float, tau_wrong: float, s: float) -> float:
    taus = np.full((BATCH, CLASSES), tau_wrong)
    taus[ROWS, LABELS] = tau_label
    return s**2 * float(kl_of(softmax(teacher / taus), softmax(student, s)).mean())


@pytest.mark.parametrize("s", [1.0, 3.0])
def test_ats_against_numpy(s: float) -> None:
    centred = TEACHER - TEACHER.mean(axis=1, keepdims=True)
    terms = run("ats", lam=0.5, tau_student=s)
    expected = numpy_ats(STUDENT, centred, 4.0, 2.0, s)
    assert value(terms["kl"]) == pytest.approx(expected, rel=1e-8)
    assert value(terms["loss"]) == pytest.approx(0.5 * ce(STUDENT) + 0.5 * expected, rel=1e-8)
    released = run("ats", lam=0.5, tau_student=s, centre=False)
    assert value(released["kl"]) == pytest.approx(numpy_ats(STUDENT, TEACHER, 4.0, 2.0, s), rel=1e-8)


def test_ats_has_the_gradient_of_the_published_cross_entropy() -> None:
    taus = np.full((BATCH, CLASSES), 2.0)
    taus[ROWS, LABELS] = 4.0
    target = softmax(TEACHER / taus)
    z = tensor(STUDENT, grad=True)
    extra = {"tau_label": 4.0, "tau_wrong": 2.0, "tau_student": 1.5, "centre": False}
    ats_terms(Answers((z,)), labels(), [answers(TEACHER)], NO_STATE, **extra)["kl"].backward()  # type: ignore[arg-type]
    soft_ce = lambda x: 1.5**2 * float(-(target * np.log(softmax(x, 1.5))).sum(axis=1).mean())  # noqa: E731
    assert z.grad is not None
    np.testing.assert_allclose(z.grad.numpy(), difference(soft_ce, STUDENT), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("t", [1.0, 2.0, 8.0])
def test_ats_with_equal_temperatures_is_kd(t: float) -> None:
    terms = run("ats", lam=0.3, tau_label=t, tau_wrong=t, tau_student=t)
    kd = run("kd", temperature=t, lam=0.3)
    assert value(terms["loss"]) == pytest.approx(value(kd["loss"]), rel=1e-9)


def test_ats_does_not_see_a_constant_only_if_centred() -> None:
    shifted = {"teacher": TEACHER + 5.0}
    one, other = run("ats", lam=0.5), run("ats", lam=0.5, **shifted)  # type: ignore[arg-type]
    assert value(one["kl"]) == pytest.approx(value(other["kl"]), rel=1e-9)
    one, other = run("ats", lam=0.5, centre=False), run("ats", lam=0.5, centre=False, **shifted)  # type: ignore[arg-type]
    assert value(one["kl"]) != pytest.approx(value(other["kl"]), rel=1e-2)


def test_annealing_copies_shrunk_logits_then_learns_labels() -> None:
    seen = []
    for epoch in range(30):  # two thirds: 20 epochs in 10 steps of phi, then labels
        terms = run("akd", epoch=epoch, epochs=30)
        phi = (epoch // 2 + 1) / 10
        expected = ce(STUDENT) if epoch >= 20 else float(((STUDENT - phi * TEACHER) ** 2).mean())
        seen.append(value(terms["loss"]) == pytest.approx(expected, rel=1e-9))
    assert seen == [True] * 30


def test_annealing_reads_its_factor_from_the_state() -> None:
    z = tensor(STUDENT, grad=True)
    state = StepState({}, torch.tensor(0.25, dtype=torch.float64))
    akd_terms(Answers((z,)), labels(), [answers(TEACHER)], state)["mse"].backward()
    assert z.grad is not None
    np.testing.assert_allclose(z.grad.numpy(), 2 * (STUDENT - 0.25 * TEACHER) / STUDENT.size, rtol=1e-9)


@pytest.mark.parametrize("name", ["kd", "eskd", "rco", "early-teacher", "dkd", "dist", "ls", "normkd", "ats", "akd"])
def test_every_remedy_leaves_its_teacher_alone(name: str) -> None:
    recipe = LossSpec(name, 3.0, 0.5)
    state, _ = state_at(recipe, settings_for(recipe, epochs=2), 0)
    z, t = tensor(STUDENT, grad=True), tensor(TEACHER, grad=True)
    make_loss(recipe)(Answers((z,)), labels(), [Answers((t,))], state)["loss"].backward()
    assert t.grad is None
    assert z.grad is not None and float(z.grad.abs().sum()) > 0


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(["kd", "dkd", "dist", "ls", "normkd", "ats"]),
    shift=st.floats(-20, 20),
    seed=st.integers(0, 2**16),
)
def test_shifts_of_logits_and_the_order_of_classes_do_not_matter(name: str, shift: float, seed: int) -> None:
    """Adding a constant to a row of logits changes no distribution; renaming classes changes no loss."""
    order = np.random.default_rng(seed).permutation(CLASSES)
    recipe = LossSpec(name, 3.0, 0.5)
    state, _ = state_at(recipe, settings_for(recipe, epochs=1), 0)
    loss = make_loss(recipe)
    base = value(loss(answers(STUDENT), labels(), [answers(TEACHER)], state)["loss"])
    moved = loss(answers(STUDENT + shift), labels(), [answers(TEACHER - shift)], state)["loss"]
    assert value(moved) == pytest.approx(base, rel=1e-6)
    renamed = torch.tensor(np.argsort(order)[LABELS])
    permuted = loss(answers(STUDENT[:, order]), renamed, [answers(TEACHER[:, order])], state)["loss"]
    assert value(permuted) == pytest.approx(base, rel=1e-6)


def test_high_temperatures_tend_to_logit_matching() -> None:
    """T**2 KL has gradient (z_s - z_t) / classes for centred logits as T grows (Hinton et al. 2015, section 2.1)."""
    z = tensor(STUDENT, grad=True)
    kl_term(z, tensor(TEACHER), 1e4).backward()
    centred = [x - x.mean(axis=1, keepdims=True) for x in (STUDENT, TEACHER)]
    assert z.grad is not None
    np.testing.assert_allclose(z.grad.numpy(), (centred[0] - centred[1]) / CLASSES / BATCH, atol=1e-4)
