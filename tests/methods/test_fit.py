"""Methods that look inside networks are refused before training where there is nothing to look at."""

from __future__ import annotations

from itertools import product

import pytest

from takd import spec as spec_module
from takd.methods.fit import why_unfit
from takd.methods.shapes import attention_pairs, hint_pair, regressor_for
from takd.methods.table import ALL_METHODS, METHODS
from takd.networks.table import NETWORKS, stage_shapes
from takd.spec import CHOOSABLE, read_spec, require_spec, to_json

# method, its options, teacher, student, and words of the sentence: what is wrong, what to choose.
UNFIT = [
    ("fitnets", {}, "cnn8-32", "mlp-8", ["FitNets", "mlp-8", "such as cnn8-2"]),
    ("fitnets", {}, "mlp-256", "cnn8-2", ["mlp-256", "such as cnn8-32"]),
    ("fitnets", {}, "slim-mlp-64", "mlp-8", ["slim-mlp-64", "such as mlp-256"]),
    ("fitnets", {}, "plain-10", "own-12345678", ["own-12345678", "such as plain-2"]),
    ("at", {}, "cnn8-32", "own-12345678", ["own-12345678", "such as cnn8-2"]),
    ("fitnets", {"stage": "last"}, "resnet-110", "plain-8", ["2 x 2", "8 x 8", "stage first or middle"]),
    ("fitnets", {"stage": "front"}, "plain-10", "plain-2", ["front", "first, middle, last"]),
    ("at", {}, "mlp-256", "mlp-8", ["mlp-256 and mlp-8", "cnn8-32", "cnn8-2"]),
    ("at", {}, "mlp-256", "cnn8-2", ["mlp-256", "such as cnn8-32"]),
    ("at", {}, "slim-plain-6", "plain-2", ["slim-plain-6", "such as plain-10"]),
    ("at", {}, "imagenet-resnet-18", "plain-2", ["56 x 56", "one family"]),
    ("dih", {}, "own-12345678", "plain-2", ["own-12345678", "such as plain-10"]),
    ("dih", {}, "msdnet-5", "plain-2", ["msdnet-5", "such as plain-10"]),
    ("dih", {}, "slim-mlp-256@4", "mlp-8", ["slim-mlp-256@4", "such as mlp-256"]),
]


@pytest.mark.parametrize(("method", "options", "teacher", "student", "words"), UNFIT)
def test_what_has_nothing_to_look_at_is_refused_with_what_to_change(
    method: str, options: dict[str, object], teacher: str, student: str, words: list[str]
) -> None:
    found = str(why_unfit(ALL_METHODS[method], options, teacher, student, 10))
    assert found.endswith(".") and len(found) < 300
    assert all(word in found for word in words), found


@pytest.mark.parametrize(
    ("method", "options", "teacher", "student"),
    [
        ("fitnets", {}, "mlp-256", "mlp-8"),
        ("fitnets", {}, "cnn8-16", "cnn8-2"),
        ("fitnets", {"stage": "last"}, "cnn8-16", "cnn8-2"),
        ("fitnets", {}, "resnet-110", "plain-8"),
        ("at", {}, "cnn8-16", "cnn8-2"),
        ("at", {}, "resnet-110", "plain-2"),
        ("dih", {}, "cnn8-16", "mlp-4"),
        ("dih", {"pooling": "average"}, "mlp-256", "mlp-4"),
        ("dih", {}, "resnet4-18", "own-12345678"),
        ("kd", {}, "own-12345678", "own-12345678"),
        ("takd", {}, "msdnet-5", "plain-2"),
    ],
)
def test_what_fits_is_let_through(method: str, options: dict[str, object], teacher: str, student: str) -> None:
    assert why_unfit(ALL_METHODS[method], options, teacher, student, 10) is None


@pytest.mark.parametrize("classes", [10, 100])
def test_a_pair_is_refused_where_and_only_where_training_could_not_pair_its_stages(classes: int) -> None:
    def raises(method: str, teacher: str, student: str, stage: str) -> bool:
        shapes = stage_shapes(student, classes), stage_shapes(teacher, classes)
        try:
            if method == "at":
                attention_pairs(*shapes)
            else:
                i, j = hint_pair(*shapes, stage)
                regressor_for(shapes[0][i], shapes[1][j])
        except ValueError:
            return True
        return False

    cases = [("at", {}), *(("fitnets", {"stage": stage}) for stage in ("first", "middle", "last"))]
    some = [name for name in CHOOSABLE if NETWORKS[name].size in (2, 4, 8, 10, 13, 18, 256)]
    for (method, options), teacher, student in product(cases, some, some):
        found = why_unfit(ALL_METHODS[method], options, teacher, student, classes)
        assert (found is not None) == raises(method, teacher, student, options.get("stage", "")), found


@pytest.mark.parametrize(
    ("method", "teacher", "student", "words"),
    [
        ("at", "mlp-256", "mlp-8", "places of the picture"),
        ("fitnets", "cnn8-32", "mlp-8", "such as cnn8-2"),
    ],
)
def test_a_spec_that_cannot_run_becomes_direct_kd_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, method: str, teacher: str, student: str, words: str
) -> None:
    _make_ready(monkeypatch, method)
    wanted = {"dataset": "digits", "teacher": teacher, "student": student, "method": method, "options": ["beta:5"]}
    spec, problems = read_spec(wanted)
    assert (spec.method, spec.options) == ("kd", ())
    assert len(problems) == 1 and words in problems[0]
    assert require_spec(to_json(spec)) == spec


def test_a_spec_that_can_run_keeps_its_method_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    _make_ready(monkeypatch, "at")
    wanted = {"dataset": "digits", "teacher": "cnn8-16", "student": "cnn8-2", "method": "at", "options": ["power:4"]}
    spec, problems = read_spec(wanted)
    assert (spec.method, spec.options, problems) == ("at", (("power", 4),), ())


def _make_ready(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """As if its training were there."""
    choice = spec_module.PARAMETERS["method"]
    monkeypatch.setitem(METHODS, method, ALL_METHODS[method])
    monkeypatch.setitem(spec_module.PARAMETERS, "method", spec_module.replace(choice, options=tuple(METHODS)))
