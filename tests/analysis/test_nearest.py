"""Which library entry stands in for a question, and how the differences are said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from takd.analysis.nearest import WEIGHTS, Difference, distance, nearest
from takd.data.table import DATASETS
from takd.spec import PARAMETERS, ExperimentSpec

ASKED = ExperimentSpec(seeds=3)  # cifar10, plain-10 > plain-4 > plain-2, takd, standard, ladder

# From the least to the most felt: each differs from ASKED in the named way only.
RANKED = [
    replace(ASKED, seed=7),
    replace(ASKED, seeds=5),
    replace(ASKED, lam=0.8),
    replace(ASKED, noise=0.1),
    replace(ASKED, budget="paper"),
    replace(ASKED, epochs=6),
    replace(ASKED, assistants=("plain-6",)),
    replace(ASKED, teacher="plain-6"),
    replace(ASKED, student="plain-4", assistants=("plain-4",)),
    replace(ASKED, dataset="cifar100"),
]


def test_an_exact_match_has_no_differences() -> None:
    assert nearest(ASKED, [*RANKED, ASKED]) == (ASKED, ())


def test_ranking() -> None:
    costs = [distance(ASKED, entry) for entry in RANKED]
    assert costs == sorted(costs) and len(set(costs)) == len(costs) and costs[0] > 0
    for i in range(len(RANKED)):
        found = nearest(ASKED, RANKED[i:])
        assert found is not None and found[0] == RANKED[i]


def test_weights_cover_every_parameter_and_the_data_set_outweighs_the_rest() -> None:
    assert set(WEIGHTS) == set(PARAMETERS)
    assert WEIGHTS["dataset"] > sum(WEIGHTS.values()) - WEIGHTS["dataset"]
    worst = replace(
        ASKED, student="resnet-8", teacher="resnet-110", assistants=(), method="scratch", budget="taste", noise=0.4,
        epochs=1, images=50, lr=0.001, options=(("gate", "drop-one"),), view="own", temperature=100.0, lam=0.0,
        seeds=100, scope="chain", seed=1,
    )  # fmt: skip
    assert distance(ASKED, worst) < distance(ASKED, replace(ASKED, dataset="svhn"))


def test_a_neighbouring_size_is_nearer() -> None:
    assert distance(ASKED, replace(ASKED, teacher="plain-8")) < distance(ASKED, replace(ASKED, teacher="plain-6"))
    assert distance(ASKED, replace(ASKED, student="plain-4")) < distance(ASKED, replace(ASKED, student="resnet-8"))
    assert distance(ASKED, replace(ASKED, temperature=5.0)) < distance(ASKED, replace(ASKED, temperature=20.0))
    two = replace(ASKED, assistants=("plain-8", "plain-4"))
    assert distance(ASKED, two) < distance(ASKED, replace(ASKED, assistants=("plain-8",)))


def test_neighbouring_lengths_are_nearer_and_the_budgets_is_far() -> None:
    for name in ("epochs", "images", "lr"):
        asked = replace(ASKED, **{name: 100})
        costs = [distance(asked, replace(ASKED, **{name: value})) for value in (100, 200, 800, 0)]
        assert costs == sorted(set(costs)) and costs[0] == 0


def test_a_ladder_answers_a_chain_better_than_the_reverse() -> None:
    chain = replace(ASKED, scope="chain")
    assert 0 < distance(chain, ASKED) < distance(ASKED, chain)


def test_differences_in_words() -> None:
    entry = replace(
        ASKED, dataset="svhn", method="kd", assistants=(), noise=0.2, temperature=2.5, seeds=5, teacher="plain-8",
        epochs=2, images=5000,
    )  # fmt: skip
    found = nearest(ASKED, [entry])
    assert found is not None
    assert found[1] == (
        Difference("Data", "CIFAR-10", "SVHN"),
        Difference("Teacher", "plain-10", "plain-8"),
        Difference("Method", "TA chain", "Direct KD"),
        Difference("Assistants", "plain-4", "none"),
        Difference("Epochs", "as the budget says", "2"),
        Difference("Training images", "as the budget says", "5,000"),
        Difference("Label noise", "0 %", "20 %"),
        Difference("Temperature T", "8", "2.5"),
        Difference("Seeds", "3", "5"),
    )


def test_a_lone_student_does_not_care_about_teaching() -> None:
    alone = replace(ASKED, method="scratch", assistants=())
    other = replace(alone, teacher="plain-6", temperature=1.0, lam=0.1)
    assert distance(alone, other) == 0
    assert nearest(alone, [ASKED, other]) == (other, ())


def test_nothing_to_choose_from() -> None:
    assert nearest(ASKED, []) is None
    only_digits = {"digits": DATASETS["digits"]}
    assert nearest(ASKED, [ASKED], only_digits) is None


@pytest.mark.parametrize("order", [1, -1])
def test_the_first_of_equals(order: int) -> None:
    entries = [replace(ASKED, seed=3), replace(ASKED, seed=4)][::order]
    found = nearest(ASKED, entries)
    assert found is not None and found[0] is entries[0]


def test_sub_models_and_rows_of_networks_do_not_answer_for_each_other() -> None:
    network = replace(ExperimentSpec(), method="ipkd-ta", teacher="slim-plain-4", student="slim-plain-4", assistants=())
    assert nearest(network, [ExperimentSpec()]) is None
    assert nearest(ExperimentSpec(), [network]) is None
    larger = replace(network, teacher="slim-plain-6", student="slim-plain-6", lam=0.9)
    found = nearest(network, [ExperimentSpec(), larger])
    assert found is not None
    assert [d.parameter for d in found[1]] == ["Student"]  # no teacher and no lam inside one network
