"""Hints, attention maps, heads, and the rules that say which layers fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from takd.methods.losses import Answers, StepState, make_loss, state_at
from takd.methods.losses.features import attention_map, attention_terms, build_regressor, hint_terms
from takd.methods.losses.heads import Heads, heads_terms
from takd.methods.losses.step import settings_for
from takd.methods.shapes import Regressor, attention_pairs, head_params, hint_pair, regressor_for
from takd.stage import LossSpec
from tests.methods.reference import LABELS, STUDENT, TEACHERS, Array, answers, ce, kl, labels, tensor, value

RNG = np.random.default_rng(3)
SMALL: Array = RNG.normal(size=(6, 4, 8, 8))
LARGE: Array = RNG.normal(size=(6, 7, 8, 8))
NO_STATE = StepState({})


def with_features(logits: Array, *features: Array, grad: bool = False) -> Answers:
    return Answers((tensor(logits),), tuple(tensor(f, grad=grad) for f in features))


def test_hint_is_the_mean_square_and_leaves_the_teacher_alone() -> None:
    student, teacher = with_features(STUDENT, SMALL, grad=True), with_features(TEACHERS[0], SMALL * 2 + 1, grad=True)
    terms = hint_terms(student, labels(), [teacher], NO_STATE, temperature=4.0)
    assert value(terms["hint"]) == pytest.approx(float(((SMALL + 1) ** 2).mean()), rel=1e-9)
    assert value(terms["kl"]) == pytest.approx(16 * kl(TEACHERS[0], STUDENT, 4.0), rel=1e-9)
    terms["hint"].backward()
    assert teacher.features[0].grad is None and student.features[0].grad is not None
    np.testing.assert_allclose(student.features[0].grad.numpy(), -2 * (SMALL + 1) / SMALL.size, rtol=1e-9)


def test_hints_that_do_not_fit_are_refused_and_not_stretched() -> None:
    for student, teacher in ((SMALL, SMALL[:, :1]), (SMALL, LARGE)):
        ours, theirs = with_features(STUDENT, student), with_features(TEACHERS[0], teacher)
        with pytest.raises(ValueError, match="does not fit"):
            hint_terms(ours, labels(), [theirs], NO_STATE, temperature=1.0)
    with pytest.raises(ValueError, match="do not pair"):
        hint_terms(with_features(STUDENT, SMALL), labels(), [answers(TEACHERS[0])], NO_STATE, temperature=1.0)


def numpy_map(features: Array, power: int) -> Array:
    flat = (np.abs(features) ** power).mean(axis=1).reshape(len(features), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


@pytest.mark.parametrize("power", [1, 2, 4])
def test_attention_maps_have_length_one(power: int) -> None:
    maps = attention_map(tensor(SMALL), power).numpy()
    np.testing.assert_allclose(maps, numpy_map(SMALL, power), rtol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(maps, axis=1), 1.0, rtol=1e-9)


def test_attention_transfer_in_both_published_forms() -> None:
    half: Array = RNG.normal(size=(6, 3, 4, 4))
    student, teacher = with_features(STUDENT, SMALL, half), with_features(TEACHERS[0], LARGE, half[:, :2])
    apart = [numpy_map(SMALL, 2) - numpy_map(LARGE, 2), numpy_map(half, 2) - numpy_map(half[:, :2], 2)]
    square = attention_terms(student, labels(), [teacher], NO_STATE)
    assert value(square["attention"]) == pytest.approx(sum(float((d**2).mean()) for d in apart), rel=1e-9)
    norm = attention_terms(student, labels(), [teacher], NO_STATE, form="norm")
    expected = sum(float(np.linalg.norm(d, axis=1).mean()) / 2 for d in apart)
    assert value(norm["attention"]) == pytest.approx(expected, rel=1e-9)
    assert value(norm["ce"]) == pytest.approx(ce(STUDENT), rel=1e-9)


def test_attention_does_not_see_the_size_of_activations() -> None:
    terms = attention_terms(with_features(STUDENT, SMALL), labels(), [with_features(TEACHERS[0], SMALL * 7)], NO_STATE)
    assert value(terms["attention"]) == pytest.approx(0.0, abs=1e-15)


def test_the_larger_map_is_averaged_down() -> None:
    pooled = LARGE.reshape(6, 7, 4, 2, 4, 2).mean(axis=(3, 5))
    small = SMALL[:, :, :4, :4]
    one = attention_terms(with_features(STUDENT, small), labels(), [with_features(TEACHERS[0], LARGE)], NO_STATE)
    other = attention_terms(with_features(STUDENT, small), labels(), [with_features(TEACHERS[0], pooled)], NO_STATE)
    assert value(one["attention"]) == pytest.approx(value(other["attention"]), rel=1e-9)


@pytest.mark.parametrize("form", ["square", "norm"])
def test_equal_maps_give_no_invalid_gradient(form: str) -> None:
    student = with_features(STUDENT, SMALL, grad=True)
    teacher = with_features(TEACHERS[0], SMALL)
    attention_terms(student, labels(), [teacher], NO_STATE, form=form)["attention"].backward()
    gradient = student.features[0].grad
    assert gradient is not None and torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("student", "teacher", "rule"),
    [
        ((16, 32, 32), (64, 32, 32), Regressor("conv", 16, 64, (1, 1))),
        ((16, 16, 16), (64, 8, 8), Regressor("conv", 16, 64, (3, 3), 2, 1)),
        ((16, 8, 8), (64, 16, 16), Regressor("upconv", 16, 64, (4, 4), 2, 1)),
        ((16, 10, 12), (64, 8, 8), Regressor("conv", 16, 64, (3, 5))),
        ((16,), (64,), Regressor("linear", 16, 64)),
    ],
)
def test_regressors_have_the_teachers_shape(
    student: tuple[int, ...], teacher: tuple[int, ...], rule: Regressor
) -> None:
    assert regressor_for(student, teacher) == rule
    layer = build_regressor(rule)
    out = layer(torch.randn(3, *student))
    assert out.shape == (3, *teacher) and bool((out >= 0).all())
    assert sum(p.numel() for p in layer.parameters()) == rule.params


def test_layers_that_cannot_be_compared_are_refused_with_what_to_change() -> None:
    with pytest.raises(ValueError, match="choose an earlier stage of the student"):
        regressor_for((16, 4, 4), (64, 16, 16))
    with pytest.raises(ValueError, match="cannot be compared"):
        regressor_for((16,), (64, 8, 8))
    with pytest.raises(ValueError, match="without stages"):
        hint_pair([], [(1, 2, 2)])
    with pytest.raises(ValueError, match="8 x 8"):
        attention_pairs([(4, 8, 8)], [(4, 7, 7), (4, 5, 5)])
    with pytest.raises(ValueError, match="no places"):
        attention_pairs([(64,)], [(64,)])


def test_stages_are_paired_by_place_or_by_size() -> None:
    resnet = [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
    plain10 = [(32, 16, 16), (64, 8, 8), (128, 4, 4), (256, 2, 2)]
    assert attention_pairs(resnet, resnet) == ((0, 0), (1, 1), (2, 2))
    assert attention_pairs([(16, 16, 16), (16, 8, 8)], plain10) == ((0, 0), (1, 1))
    assert attention_pairs(resnet, plain10) == ((1, 0), (2, 1))
    assert [hint_pair(resnet, plain10, s) for s in ("first", "middle", "last")] == [(0, 0), (1, 1), (2, 3)]


RESNET_STAGES = [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
RESNET34_STAGES = [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_heads_have_the_published_numbers_of_parameters() -> None:
    assert head_params(RESNET_STAGES, 100, "flatten") == (1_638_500, 819_300, 409_700)
    assert sum(head_params(RESNET_STAGES, 10, "flatten")) == 286_750
    assert sum(head_params(RESNET34_STAGES, 100, "flatten")) == 12_288_400
    assert sum(head_params(RESNET34_STAGES, 10, "flatten")) == 1_228_840
    assert head_params(RESNET_STAGES, 100, "average") == (1_700, 3_300, 6_500)
    for pooling in ("flatten", "average"):
        built = Heads(RESNET_STAGES, 10, pooling)
        counts = tuple(sum(p.numel() for p in layer.parameters()) for layer in built.layers)
        assert counts == head_params(RESNET_STAGES, 10, pooling)


def heads_loss(logits: Sequence[torch.Tensor], labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """The loss of a stage of heads, as its training calls it."""
    recipe = LossSpec("heads", None, 0.0)
    state, _ = state_at(recipe, settings_for(recipe, epochs=1, outputs=len(logits)), 0)
    return make_loss(recipe)(Answers(tuple(logits)), labels, (), state)


@pytest.mark.parametrize("pooling", ["flatten", "average"])
def test_heads_are_linear_in_the_stage_outputs(pooling: str) -> None:
    heads = Heads([(4, 8, 8), (7, 8, 8)], 10, pooling).double()
    outputs = [tensor(SMALL, grad=True), tensor(LARGE, grad=True)]
    logits = heads(outputs)
    for layer, z, x in zip(heads.layers, logits, (SMALL, LARGE), strict=True):
        flat = x.reshape(6, -1) if pooling == "flatten" else x.mean(axis=(2, 3))
        weight, bias = (p.detach().numpy() for p in layer.parameters())
        np.testing.assert_allclose(z.detach().numpy(), flat @ weight.T + bias, rtol=1e-9)
    terms = heads_loss(logits, labels())
    expected = [ce(z.detach().numpy(), LABELS) for z in logits]
    assert value(terms["loss"]) == pytest.approx(sum(expected), rel=1e-9)
    assert value(terms["ce"]) == pytest.approx(float(np.mean(expected)), rel=1e-9)
    assert value(terms["ce_2"]) == pytest.approx(expected[1], rel=1e-9)
    terms["loss"].backward()
    assert [x.grad for x in outputs] == [None, None], "heads never train the network they sit on"
    assert all(p.grad is not None for p in heads.parameters())


def test_heads_trained_together_are_heads_trained_alone() -> None:
    heads = Heads([(4, 8, 8), (7, 8, 8)], 10).double()
    features = [tensor(SMALL), tensor(LARGE)]
    heads_loss(heads(features), labels())["loss"].backward()
    together = [p.grad.clone() for p in heads.layers[1].parameters() if p.grad is not None]
    heads.zero_grad()
    heads_loss(heads(features)[1:], labels())["loss"].backward()
    for one, parameter in zip(together, heads.layers[1].parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)


def test_too_few_stages_are_an_error() -> None:
    with pytest.raises(ValueError, match="nowhere to put heads"):
        Heads([], 10)
    with pytest.raises(ValueError, match="no heads"):
        heads_terms(Answers(()), labels(), (), NO_STATE)
    with pytest.raises(ValueError, match="shorter"):
        Heads([(4, 8, 8), (7, 8, 8)], 10).double()([tensor(SMALL)])
    with pytest.raises(ValueError, match="flatten or average"):
        Heads([(4, 8, 8)], 10, "max")
