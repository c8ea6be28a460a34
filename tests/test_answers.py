"""Which answers of a teacher are kept, and what the reader is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from takd.answers import answers_file, answers_rule, answers_rules, answers_suffice, keeps_random, passes
from tests.training.conftest import make_stage

STAGE = make_stage(network="plain-2", epochs=30, batch=128)


@pytest.mark.parametrize(("kind", "often"), [("none", 1), ("flip", 2), ("crop-flip", 30)])
def test_a_teacher_answers_every_look_once(kind: str, often: int) -> None:
    pupil = replace(STAGE, recipe=replace(STAGE.recipe, augmentation=kind))
    assert passes(pupil) == often
    assert answers_suffice(pupil) is (kind == "none")
    sentences = {answers_rule(pupil, pupils) for pupils in (1, 2)}
    assert len(sentences) == (2 if kind == "crop-flip" else 1)
    assert all(sentence.endswith(".") for sentence in sentences)


def test_random_views_are_kept_for_others_and_within_bounds() -> None:
    pupil = replace(STAGE, recipe=replace(STAGE.recipe, augmentation="crop-flip"))
    assert not keeps_random(pupil, 1)
    assert keeps_random(pupil, 2)
    large = replace(pupil, data=replace(pupil.data, train_images=45_000, classes=100))  # 270 MB at 30 epochs
    assert not keeps_random(large, 2)
    assert "disk" in answers_rule(large, 2)
    assert "nobody else" in answers_rule(large, 1)


def test_names_of_present_stores_stay_and_views_have_their_own() -> None:
    data = replace(STAGE.data, fingerprint="0" * 64, train_images=500, split_seed=0)
    pupil = replace(STAGE, data=data)
    names = [answers_file(pupil, STAGE, view) for view in ("", "mirrored", "crop-flip/0/1")]
    assert len(set(names)) == 3
    assert names[0] == answers_file(replace(pupil, data=replace(data, noise=0.4)), STAGE) == answers_file(pupil, None)


def test_answers_to_images_of_another_precision_have_a_name_of_their_own() -> None:
    """Else what a student hears would depend on which student asked first."""
    half, full = (replace(STAGE, recipe=replace(STAGE.recipe, precision=name)) for name in ("mixed", "fp32"))
    assert answers_file(half, half) == answers_file(full, full)
    assert len({answers_file(half, half), answers_file(half, full), answers_file(full, half)}) == 3


def test_a_plan_says_each_rule_once() -> None:
    alone, pupil = make_stage(), make_stage(teachers=("a" * 32,))
    assert answers_rules({"a" * 32: alone}) == ()
    stages = {"a" * 32: alone, "b" * 32: pupil, "c" * 32: replace(pupil, seed=1)}
    assert answers_rules(stages) == (answers_rule(pupil, 2),)
