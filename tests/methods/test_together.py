"""Sub-models that share weights and peers that learn together: who teaches whom, and what is detached."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from takd.methods.losses import Answers, StepState, make_loss, state_at
from takd.methods.losses.step import settings_for
from takd.methods.losses.together import in_place_terms, mutual_terms, sub_model_term
from takd.methods.options import Value
from takd.stage import LossSpec
from tests.methods.reference import (
    CLASSES,
    LABELS,
    STUDENT,
    TEACHERS,
    answers,
    ce,
    kl,
    kl_of,
    labels,
    softmax,
    tensor,
    value,
)

OUTPUTS = [STUDENT, *TEACHERS[:3]]  # smallest first


def run(name: str, temperature: float | None = 2.0, **options: Value) -> dict[str, torch.Tensor]:
    recipe = LossSpec(name, temperature, 0.0, options)
    state, _ = state_at(recipe, settings_for(recipe, epochs=3, outputs=len(OUTPUTS)), 0)
    return make_loss(recipe)(answers(*OUTPUTS), labels(), (), state)


def pull(k: int, j: int, t: float = 2.0) -> float:
    return t**2 * kl(OUTPUTS[j], OUTPUTS[k], t)


def test_joint_training_is_the_sum_of_all_cross_entropies() -> None:
    terms = run("joint", None)
    assert value(terms["loss"]) == pytest.approx(sum(ce(z) for z in OUTPUTS), rel=1e-9)
    assert value(run("joint", None, sum="mean")["loss"]) == pytest.approx(np.mean([ce(z) for z in OUTPUTS]), rel=1e-9)


def test_in_place_kd_is_a_star_from_the_largest() -> None:
    terms = run("ipkd")
    expected = ce(OUTPUTS[3]) + sum(pull(k, 3) for k in (0, 1, 2))
    assert value(terms["loss"]) == pytest.approx(expected, rel=1e-9)
    assert value(terms["kl_1"]) == pytest.approx(pull(1, 3), rel=1e-9)


def test_in_place_ta_is_a_chain_over_the_next_larger() -> None:
    terms = run("ipkd-ta")
    assert value(terms["loss"]) == pytest.approx(ce(OUTPUTS[3]) + pull(2, 3) + pull(1, 2) + pull(0, 1), rel=1e-9)


def test_dense_sub_models_and_hard_labels() -> None:
    terms = run("ipkd-ta", teacher="all-larger", hard=True)
    expected = sum(ce(z) for z in OUTPUTS) + sum(pull(k, j) for k in range(4) for j in range(k + 1, 4))
    assert value(terms["loss"]) == pytest.approx(expected, rel=1e-9)
    halved = run("ipkd-ta", teacher="all-larger", hard=True, sum="mean")
    assert value(halved["loss"]) == pytest.approx(expected / 4, rel=1e-9)


def test_mean_of_larger_is_the_mean_of_their_softened_answers() -> None:
    terms, t = run("ipkd", teacher="mean-of-larger"), 2.0
    target = np.mean([softmax(z, t) for z in OUTPUTS[1:]], axis=0)
    expected = t**2 * float(kl_of(target, softmax(OUTPUTS[0], t)).mean())
    assert value(terms["kl_0"]) == pytest.approx(expected, rel=1e-9)


def test_mean_and_all_pull_in_the_same_direction() -> None:
    gradients = []
    for teacher in ("mean-of-larger", "all-larger"):
        z = tensor(OUTPUTS[0], grad=True)
        sub_model_term(z, [tensor(x) for x in OUTPUTS[1:]], teacher=teacher, temperature=2.0).backward()
        assert z.grad is not None
        gradients.append(z.grad.numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-8)


@pytest.mark.parametrize("teacher", ["largest", "next-larger", "all-larger", "mean-of-larger"])
def test_published_fault_shared_weights_need_a_detached_target(teacher: str) -> None:
    """Without detaching, the larger sub-model is pulled towards its student through what they share. The gradient of
    the shared weight must be that of a frozen copy's answers."""
    torch.manual_seed(0)
    shared, x = nn.Linear(4, CLASSES).double(), torch.randn(6, 4, dtype=torch.float64)

    def outputs() -> tuple[torch.Tensor, ...]:
        return shared(x * 0.1), shared(x * 0.5), shared(x)

    terms = in_place_terms(Answers(outputs()), labels(), (), StepState({}), temperature=2.0, teacher=teacher)
    (terms["kl_0"] + terms["kl_1"]).backward()
    assert shared.weight.grad is not None
    seen = shared.weight.grad.clone()
    shared.zero_grad()
    frozen, live = [z.detach() for z in outputs()], outputs()
    parts = [sub_model_term(live[k], frozen[k + 1 :], teacher=teacher, temperature=2.0) for k in (0, 1)]
    torch.stack(parts).sum().backward()
    torch.testing.assert_close(seen, shared.weight.grad)


def test_published_fault_a_chain_hears_the_answers_of_its_own_step() -> None:
    """The chain needs the next larger sub-model's answer of the same step: changing only that answer changes the
    term, changing any other does not."""
    base = [tensor(z) for z in OUTPUTS]

    def term(changed: int) -> float:
        outputs = [z * 1.5 if i == changed else z for i, z in enumerate(base)]
        student, rule = Answers(tuple(outputs)), "next-larger"
        return value(in_place_terms(student, labels(), (), StepState({}), temperature=2.0, teacher=rule)["kl_0"])

    still = pull(0, 1)
    assert term(2) == term(3) == pytest.approx(still, rel=1e-9)
    assert term(1) != pytest.approx(still, rel=1e-3)


def test_the_largest_learns_from_labels_alone() -> None:
    z = [tensor(x, grad=True) for x in OUTPUTS]
    recipe = LossSpec("ipkd-ta", 2.0, 0.0)
    state, _ = state_at(recipe, settings_for(recipe, epochs=1, outputs=4), 0)
    make_loss(recipe)(Answers(tuple(z)), labels(), (), state)["loss"].backward()
    onehot = np.eye(CLASSES)[LABELS]
    assert z[3].grad is not None and z[2].grad is not None
    np.testing.assert_allclose(z[3].grad.numpy(), (softmax(OUTPUTS[3]) - onehot) / 6, rtol=1e-9)
    expected = 2.0 * (softmax(OUTPUTS[2], 2.0) - softmax(OUTPUTS[3], 2.0)) / 6
    np.testing.assert_allclose(z[2].grad.numpy(), expected, rtol=1e-9)


def test_a_single_sub_model_is_plain_training() -> None:
    for teacher in (None, "next-larger"):
        terms = in_place_terms(answers(STUDENT), labels(), (), StepState({}), teacher=teacher)
        assert set(terms) == {"ce"} and value(terms["ce"]) == pytest.approx(ce(STUDENT), rel=1e-9)


def test_who_cannot_teach_here() -> None:
    with pytest.raises(ValueError, match="not by another stage"):
        in_place_terms(answers(*OUTPUTS), labels(), (answers(STUDENT),), StepState({}), teacher="next-larger")
    with pytest.raises(ValueError, match="no teacher"):
        sub_model_term(tensor(STUDENT), [], teacher="next-larger", temperature=1.0)
    with pytest.raises(ValueError, match="one of largest"):
        sub_model_term(tensor(STUDENT), [tensor(STUDENT)], teacher="smallest", temperature=1.0)
    with pytest.raises(ValueError, match="at least two"):
        mutual_terms(answers(STUDENT), labels(), (), StepState({}), temperature=1.0)


def test_mutual_learning_gives_each_network_its_own_gradient() -> None:
    peers = OUTPUTS[:3]
    z = [tensor(x, grad=True) for x in peers]
    recipe = LossSpec("dml", 1.0, 0.0)
    state, _ = state_at(recipe, settings_for(recipe, epochs=1, outputs=3), 0)
    terms = make_loss(recipe)(Answers(tuple(z)), labels(), (), state)
    own = [ce(x) + np.mean([kl(y, x, 1.0) for j, y in enumerate(peers) if j != k]) for k, x in enumerate(peers)]
    assert value(terms["loss"]) == pytest.approx(sum(own), rel=1e-9)
    terms["loss"].backward()
    onehot = np.eye(CLASSES)[LABELS]
    for k, logits in enumerate(z):
        others = np.mean([softmax(y) for j, y in enumerate(peers) if j != k], axis=0)
        expected = (softmax(peers[k]) - onehot) + (softmax(peers[k]) - others)
        assert logits.grad is not None
        np.testing.assert_allclose(logits.grad.numpy(), expected / 6, rtol=1e-9, atol=1e-15)
