"""The composer: every method is a sensible combination, and what makes no sense is refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from takd.methods.composer import CONTROLS, Composition, refusal
from takd.methods.options import read_options
from takd.methods.table import METHODS, methods_for

ALL = [
    Composition(sources, knowledge, schedule, gate, view)
    for sources, knowledge, schedule, gate, view in product(
        *(CONTROLS[name].choices for name in ("sources", "knowledge", "schedule", "gate", "view"))
    )
]


def test_five_controls_with_words() -> None:
    assert list(CONTROLS) == ["view", "sources", "knowledge", "schedule", "gate"]
    for control in CONTROLS.values():
        assert control.label and control.help.endswith("?") and all(control.choices.values())


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_is_a_preset_that_makes_sense_and_leads_back_to_it(name: str) -> None:
    row = METHODS[name]
    for preset in row.presets:
        assert refusal(preset.composition) is None
        read_options(row.options, preset.options)
        assert (name, preset.options) in methods_for(preset.composition)


def test_every_choice_belongs_to_some_sensible_combination() -> None:
    sensible = [c for c in ALL if refusal(c) is None]
    for name, control in CONTROLS.items():
        assert {getattr(c, name) for c in sensible} == set(control.choices)
    assert 0 < len(sensible) < len(ALL) / 4, f"{len(sensible)} of {len(ALL)}"


def test_a_refusal_is_a_sentence_that_says_what_to_change() -> None:
    for combination in ALL:
        reason = refusal(combination)
        assert reason is None or (reason[0].isupper() and reason.endswith("."))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sources": "none"}, "Nobody teaches"),
        ({"knowledge": "labels"}, "nothing is handed over"),
        ({"schedule": "all at once"}, "takes several finished sources"),
        ({"schedule": "inside one step"}, "a finished source teaches later"),
        ({"gate": "bernoulli"}, "sources that teach in the same step"),
        ({"sources": "assistants", "gate": "drop-one"}, "sources that teach in the same step"),
        ({"sources": "heads"}, "choose 'all at once'"),
        ({"sources": "heads", "knowledge": "features", "schedule": "all at once"}, "no hidden layers"),
        ({"sources": "sub-models"}, "Sub-models are trained in the same step"),
        ({"sources": "sub-models", "knowledge": "attention", "schedule": "inside one step"}, "share their hidden"),
        ({"sources": "peers", "schedule": "inside one step", "view": "split"}, "share every step's images"),
        ({"sources": "peers", "schedule": "inside one step", "gate": "early stop"}, "no finished source"),
        ({"schedule": "two phases", "gate": "early stop"}, "Two phases already say"),
        ({"sources": "none", "knowledge": "labels", "gate": "warm-up"}, "nothing to gate"),
        ({"sources": "none", "knowledge": "labels", "view": "own"}, "one view only"),
        ({"sources": "none", "knowledge": "labels", "schedule": "two phases"}, "no knowledge for a first phase"),
        ({"knowledge": "features", "view": "own"}, "the same view"),
        ({"sources": "copies"}, "there is no order"),
        ({"sources": "wizard"}, "Sources 'wizard' is not one of"),
    ],
)
def test_combinations_without_sense(changes: dict[str, str], words: str) -> None:
    combination = replace(Composition("teacher", "logits"), **changes)
    assert words in str(refusal(combination))


def test_views_are_free_where_answers_are_handed_over() -> None:
    for view in CONTROLS["view"].choices:
        combination = Composition("assistants", "logits", view=view)
        assert refusal(combination) is None
        assert [name for name, _ in methods_for(combination)] == ["takd"]


def test_the_composer_tells_built_from_sensible() -> None:
    names = [name for name, _ in methods_for(Composition("teacher", "logits"))]
    assert "kd" in names and {"ls", "normkd", "ats"} <= set(names) and "takd" not in names
    snapshots = Composition("trajectory", "logits", "all at once")  # an ensemble of checkpoints
    assert refusal(snapshots) is None and methods_for(snapshots) == ()
    assert methods_for(Composition("assistants", "logits", "all at once", "bernoulli")) == (
        ("dgkd", {"gate": "bernoulli"}),
    )
