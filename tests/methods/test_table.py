"""The table of methods: what every row promises, which stages are shared, and what is refused before training."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from takd.methods import table
from takd.methods.composer import Composition, Preset
from takd.methods.losses import Answers, make_loss, state_at
from takd.methods.losses.step import settings_for
from takd.methods.method import WIRINGS, Loss, Method, Settings, predecessor
from takd.methods.options import Option, OptionError, Value, given_options, read_options, take_options
from takd.methods.table import LOSSES, METHODS, edges, loss_and_options, recipe_at, why_impossible
from takd.stage import LossSpec
from tests.methods.reference import STUDENT, TEACHERS, Array, answers, ce, labels, tensor, value

ROWS = list(METHODS.values())


def test_every_method_is_there_and_trains_from_end_to_end() -> None:
    asked_for = {
        "scratch", "kd", "takd", "dgkd", "dih", "kd-long", "joint", "ipkd", "ipkd-ta", "dml", "eskd", "early-teacher",
        "rco", "akd", "dkd", "dist", "ls", "normkd", "ats", "fitnets", "at", "ensemble",
    }  # fmt: skip
    assert set(METHODS) == asked_for
    assert all(name == row.name for name, row in METHODS.items())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_says_everything(row: Method) -> None:
    for text in (row.label, row.formula, row.cost, row.reference, row.help):
        assert text and text == text.strip()
    assert row.help.endswith(".") and row.wiring in WIRINGS and row.presets and row.needs
    names = [option.name for option in row.options]
    assert len(names) == len(set(names))
    for option in row.options:
        assert option.read(option.default) == option.default, "a default is always a value and never missing"
        assert option.help.endswith(".") and bool(option.choices) == (option.kind == "choice")
        assert option.when is None or (option.when[0] in names and option.when[1])
        assert not option.choices or all(option.choices.values())
    for reading in row.readings:
        assert reading.option in names and reading.why.endswith(".")
    assert set(row.published) <= set(row.loss.uses), "published values of parameters the loss reads"
    least, most = row.assistants
    assert least == 0 or (most is None and (row.trainings[1] == 1 or row.spends_assistants))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_terms_functions_take_what_the_row_gives(row: Method) -> None:
    module, name = row.loss.terms.split(":")
    function = getattr(importlib.import_module(f"takd.methods.losses.{module}"), name)
    keywords = {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    given = set(row.loss.options) | ({"temperature"} & set(row.loss.uses))
    assert given <= keywords
    assert set(row.loss.options) <= {option.name for option in row.options}
    needed = {
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.default is p.empty
    }
    assert needed <= given


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"fitnets", "at"}))
def test_every_weight_has_its_term_at_every_epoch(name: str) -> None:
    loss, method = LOSSES[name]
    row = METHODS[method]
    outputs = 3 if row.wiring in ("sub-models", "cohort") else 1
    teachers = 0 if outputs > 1 or name == "ce" else 3 if name in ("dgkd", "dih") else 1
    recipe = LossSpec(name, 4.0 if "temperature" in loss.uses else None, 0.5)
    settings = settings_for(recipe, epochs=6, teachers=teachers, outputs=outputs)
    arrays: list[Array] = [STUDENT, *TEACHERS[:2]][:outputs]
    for epoch in range(6):
        state, _ = state_at(recipe, settings, epoch)
        sources = [answers(t) for t in TEACHERS[:teachers]]
        terms = make_loss(recipe)(answers(*arrays, grad=True), labels(), sources, state)
        assert terms["loss"].requires_grad
        assert not any(term.requires_grad for key, term in terms.items() if key != "loss")
        expected = sum(
            weight * value(terms[key]) for key, weight in loss.weights(replace(settings, epoch=epoch)).items()
        )
        assert value(terms["loss"]) == pytest.approx(expected, rel=1e-9)


def test_who_teaches_whom() -> None:
    assert edges(METHODS["takd"], 4) == ((0, 1), (1, 2), (2, 3))
    assert edges(METHODS["dgkd"], 4) == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert edges(METHODS["kd"], 2) == ((0, 1),)
    assert edges(METHODS["scratch"], 2) == ()
    assert len(edges(METHODS["dgkd"], 9)) == 36, "10-9-...-3-2: the seven-assistant path"


def test_published_fault_takd_is_a_chain_and_not_a_mean_of_assistants() -> None:
    """KD_Lib's TAKD teaches the student with the mean of all assistants' logits; the paper's student hears the last
    assistant alone."""
    for position in range(1, 8):
        assert METHODS["takd"].teachers_of(position) == (position - 1,)
    recipe = recipe_at(METHODS["takd"], {}, 2, 3, temperature=4.0, lam=0.5)
    loss, state = make_loss(recipe), state_at(recipe, settings_for(recipe, epochs=1), 0)[0]
    with pytest.raises(ValueError, match="hears one teacher, not 2"):
        loss(answers(STUDENT), labels(), [answers(t) for t in TEACHERS[:2]], state)


def at(name: str, position: int, length: int, **values: Value) -> LossSpec:
    return recipe_at(METHODS[name], values, position, length, temperature=8.0, lam=0.5)


def test_stages_that_are_the_same_training_have_the_same_loss() -> None:
    for name in ("kd", "takd", "dgkd", "dih", "dkd", "eskd", "rco"):
        assert at(name, 0, 3) == LossSpec("ce", None, 0.0), "a teacher is trained on labels whatever it is for"
    plain = LossSpec("kd", 8.0, 0.5)
    assert at("kd", 1, 2) == at("takd", 1, 3) == at("takd", 2, 3) == at("kd-long", 1, 2, measure="macs") == plain
    assert at("dgkd", 1, 3) == at("dgkd", 1, 3, sum="paper") == plain, "the first assistant has one teacher"
    assert at("dgkd", 1, 3, reduction="mean") == at("kd", 1, 2, reduction="mean") != plain


def test_gates_concern_the_student_alone() -> None:
    """Published fault: DGKD's code drops teachers of assistants too; the paper gates the last network only."""
    gated: dict[str, Value] = {"gate": "bernoulli", "p": 0.5}
    assert at("dgkd", 2, 4, **gated) == at("dgkd", 2, 4), "an assistant is one stage with and without gates"
    assert dict(at("dgkd", 3, 4, **gated).options) == gated
    assert at("dgkd", 1, 2, **gated).name == "dgkd", "a gated student with one teacher is not plain KD"


def test_options_without_a_meaning_are_not_in_the_key() -> None:
    assert dict(at("dgkd", 3, 4, p=0.3).options) == {}
    assert dict(at("dgkd", 3, 4, gate="drop-one", p=0.3, empty="labels").options) == {"gate": "drop-one"}
    assert dict(at("fitnets", 1, 2, share=0.5).options) == {}
    assert dict(at("dkd", 1, 2, alpha=1.0, beta=2.0).options) == {"beta": 2.0}
    assert list(dict(at("ats", 1, 2, tau_wrong=3.0, centre=False).options)) == ["centre", "tau_wrong"], "sorted"


def test_parameters_a_loss_does_not_read_are_not_in_the_key() -> None:
    assert at("dist", 1, 2) == LossSpec("dist", 8.0, 0.0)
    assert at("normkd", 1, 2) == LossSpec("normkd", None, 0.5)
    assert at("akd", 1, 2) == LossSpec("akd", None, 0.0)
    assert at("joint", 0, 1) == LossSpec("joint", None, 0.0)
    assert at("ipkd", 0, 1) == LossSpec("ipkd", 8.0, 0.0)


def test_methods_whose_options_mean_another_training_have_a_loss_of_their_own() -> None:
    """Otherwise their students would pass for those of plain KD, whose defaults leave the key empty."""
    for name in ("eskd", "early-teacher", "rco", "dih"):
        assert at(name, 1, 2).name == name


def test_defaults_are_part_of_what_a_key_means() -> None:
    """Defaults are left out of a stage's key; if this fails, raise ENGINE_VERSION or give the option a new name."""
    defaults = {name: {option.name: option.default for option in row.options} for name, row in METHODS.items()}
    assert {name: values for name, values in defaults.items() if values} == {
        "kd": {"reduction": "batchmean", "protocol": "ours"},
        "takd": {"reduction": "batchmean", "protocol": "ours"},
        "dgkd": {
            "sum": "mean", "gate": "none", "p": 0.75, "protect": False, "empty": "one", "assistants": "taught",
            "reduction": "batchmean", "protocol": "ours",
        },
        "ensemble": {"members": 4, "sum": "mean", "reduction": "batchmean"},
        "dih": {"sum": "mean", "pooling": "flatten"},
        "kd-long": {"measure": "trainings", "spends": "assistants", "reduction": "batchmean"},
        "joint": {"sum": "sum"},
        "ipkd": {"teacher": "largest", "hard": False, "sum": "sum"},
        "ipkd-ta": {"teacher": "next-larger", "hard": False, "sum": "sum"},
        "dml": {"peers": "path", "order": "together"},
        "eskd": {"stop": 0.5, "after": "full"},
        "early-teacher": {"stop": 0.5, "teacher_run": "checkpoint"},
        "rco": {"anchors": 4},
        "akd": {"share": 2 / 3, "max_t": 10},
        "dkd": {"alpha": 1.0, "beta": 8.0, "warm_up": 1 / 12, "scale": "published"},
        "dist": {"beta": 1.0, "gamma": 1.0, "scale": "published"},
        "ls": {"ce_weight": 0.1, "kd_weight": 9.0, "scale": "published"},
        "normkd": {"t_norm": 2.0},
        "ats": {"tau_label": 4.0, "tau_wrong": 2.0, "tau_student": 1.0, "centre": True},
        "fitnets": {"phases": "joint", "beta": 100.0, "share": 1 / 6, "stage": "middle"},
        "at": {"beta": 1000.0, "power": 2, "form": "square"},
    }  # fmt: skip


def test_published_fault_options_are_read_or_refused() -> None:
    """slimmable_networks ships settings with `soft_target: True` while the code reads `inplace_distill`: in-place
    distillation is silently off. DGKD's parser defines TA_count and the code reads TA_num."""
    for name, values in (("ipkd", {"soft_target": True}), ("kd", {"inplace_distill": True})):
        with pytest.raises(OptionError, match="There is no option"):
            at(name, 0 if name == "ipkd" else 1, 2, **values)
        assert "There is no option" in str(why_impossible(METHODS[name], values, lam=0.5, assistants=0))
    with pytest.raises(OptionError, match="There is no loss"):
        loss_and_options(LossSpec("kdd", 4.0, 0.5))
    with pytest.raises(OptionError, match="There is no option"):
        make_loss(LossSpec("dist", 4.0, 0.0, {"alpha": 1.0}))


@pytest.mark.parametrize(
    ("name", "values", "lam", "assistants", "words"),
    [
        ("dgkd", {"gate": "bernoulli", "p": 0}, 0.5, 2, "greater than 0"),
        ("dgkd", {"gate": "drop-one", "protect": True}, 0.5, 1, "add an assistant"),
        ("dgkd", {"gate": "bernoulli", "empty": "labels"}, 1.0, 2, "choose lam below 1"),
        ("dgkd", {}, 0.5, 0, "needs at least 1 assistant"),
        ("kd-long", {}, 0.5, 0, "add one"),
        ("kd", {}, 0.5, 2, "remove 2"),
        ("eskd", {"after": "kept"}, 1.0, 0, "weight 0"),
        ("ls", {"ce_weight": 0, "kd_weight": 0}, 0.5, 0, "weight 0"),
        ("rco", {"anchors": 1}, 0.5, 0, "from 2"),
        ("ats", {"tau_label": 0}, 0.5, 0, "greater than 0"),
        ("dkd", {"beta": float("nan")}, 0.5, 0, "beta"),
        ("fitnets", {"phases": "hint first", "beta": 0}, 0.5, 0, "weight 0"),
    ],
)
def test_what_cannot_run_is_refused_with_what_to_change(
    name: str, values: dict[str, object], lam: float, assistants: int, words: str
) -> None:
    assert words in str(why_impossible(METHODS[name], values, lam=lam, assistants=assistants))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_defaults_run(row: Method, lam: float) -> None:
    assert why_impossible(row, {}, lam=lam, assistants=max(row.assistants[0], int(row.spends_assistants))) is None


def test_options_are_read_from_text_and_keep_their_type() -> None:
    options = (
        Option("n", "int", 4, "How many.", {}, 1, 9),
        Option("x", "float", 0.5, "How much.", {}, 0.0, 1.0, True),
        Option("on", "bool", False, "Whether."),
        Option("how", "choice", "a", "Which.", {"a": "one", "b": "two"}),
    )
    assert read_options(options, {"n": "7", "x": "1", "on": "true", "how": "b"}) == {
        "n": 7,
        "x": 1.0,
        "on": True,
        "how": "b",
    }
    assert read_options(options, {}) == {"n": 4, "x": 0.5, "on": False, "how": "a"}
    assert type(read_options(options, {"x": 1})["x"]) is float and type(read_options(options, {"n": 3.0})["n"]) is int
    for bad in ({"n": 2.5}, {"n": 10}, {"n": True}, {"x": 0}, {"x": "much"}, {"x": None}, {"x": float("inf")},
                {"on": 1}, {"on": "yes"}, {"how": "c"}, {"how": 1}):  # fmt: skip
        with pytest.raises(OptionError, match=f"{next(iter(bad))} .* is not allowed; use "):
            read_options(options, bad)
    assert given_options(options, read_options(options, {"n": 7}), student=True) == {"n": 7}


def test_published_fault_a_sweep_over_t_sweeps_t() -> None:
    """A released sweep writes T with an annotation's colon, so T never changes; another leaves a weight None."""
    seen = set()
    for t in (1.0, 2.0, 4.0):
        recipe = recipe_at(METHODS["kd"], {}, 1, 2, temperature=t, lam=1.0)
        state, _ = state_at(recipe, settings_for(recipe, epochs=1), 0)
        seen.add(value(make_loss(recipe)(answers(STUDENT), labels(), [answers(TEACHERS[0])], state)["loss"]))
    assert len(seen) == 3
    for t in (None, 0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature above 0"):
            make_loss(LossSpec("kd", t, 0.5))


def test_a_made_up_method_is_one_function_and_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    import takd.methods.losses.basic as home

    def cubic_terms(student: Answers, labels: Any, teachers: Any, state: Any, *, power: int) -> dict[str, Any]:
        return {"cubic": student.logits[0].abs().pow(power).mean()}

    monkeypatch.setattr(home, "cubic_terms", cubic_terms, raising=False)
    loss = Loss("cubic", "basic:cubic_terms", lambda s: {"cubic": s.number("weight")}, uses=(), options=("power",))
    row = Method(
        "cubic", "Cubic", predecessor, (0, 0), "w |z|^n", "none", "made up", "Nothing.", loss,
        (Preset(Composition("teacher", "logits")),),
        options=(
            Option("power", "int", 3, "Power.", {}, 1, 9),
            Option("weight", "float", 2.0, "Weight.", {}, 0.0, 9.0),
        ),
    )  # fmt: skip
    monkeypatch.setitem(table.METHODS, row.name, row)
    monkeypatch.setitem(table.LOSSES, loss.name, (loss, row.name))
    recipe = recipe_at(row, {"power": 2}, 1, 2, temperature=4.0, lam=0.5)
    assert recipe == LossSpec("cubic", None, 0.0, {"power": 2})
    state, _ = state_at(recipe, settings_for(recipe, epochs=1), 0)
    terms = make_loss(recipe)(answers(STUDENT), labels(), [], state)
    assert value(terms["loss"]) == pytest.approx(2 * float((STUDENT**2).mean()))


def test_schedules_of_the_teachers_term() -> None:
    def weights(name: str, epochs: int, **values: Value) -> list[dict[str, float]]:
        recipe = LossSpec(name, 4.0, 0.9, values)
        settings = settings_for(recipe, epochs=epochs, teachers=int(values.get("anchors", 1)))
        return [dict(state_at(recipe, settings, epoch)[0].weights) for epoch in range(epochs)]  # type: ignore[arg-type]

    kd, alone = {"ce": pytest.approx(0.1), "kl": 0.9}, {"ce": 1.0, "kl": 0.0}
    assert weights("eskd", 10) == [kd] * 5 + [alone] * 5
    assert weights("eskd", 10, stop=1.0) == [kd] * 10, "never stopped is KD"
    assert weights("eskd", 3, stop=0.01) == [kd] + [alone] * 2, "a share above 0 is never nothing"
    assert weights("eskd", 4, after="kept")[-1] == {"ce": pytest.approx(0.1), "kl": 0.0}
    hint, after = {"ce": 0.0, "kl": 0.0, "hint": 100.0}, {**kd, "hint": 0.0}
    assert weights("fitnets", 12, phases="hint first") == [hint] * 2 + [after] * 10
    assert weights("fitnets", 2) == [{"ce": 1.0, "hint": 100.0}] * 2
    assert weights("akd", 3) == [{"ce": 0.0, "mse": 1.0}] * 2 + [{"ce": 1.0, "mse": 0.0}]
    assert [w["tckd"] for w in weights("dkd", 4, warm_up=0.5)] == [0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(("epochs", "anchors"), [(12, 4), (10, 3), (3, 4), (160, 16)])
def test_the_route_is_walked_in_order_to_its_end(epochs: int, anchors: int) -> None:
    recipe = LossSpec("rco", 4.0, 0.5, {"anchors": anchors})
    settings = settings_for(recipe, epochs=epochs, teachers=anchors)
    heard = [state_at(recipe, settings, epoch)[1] for epoch in range(epochs)]
    assert heard[0] == 0 and heard == sorted(heard)  # type: ignore[type-var]
    if epochs >= anchors:
        assert set(heard) == set(range(anchors))
        counts = np.bincount(np.array(heard, dtype=int))
        assert counts.max() - counts.min() <= 1, "every anchor has an equal share"


def test_annealing_ends_at_the_teacher_itself() -> None:
    for epochs in (1, 2, 3, 5, 17, 30, 205):
        recipe = LossSpec("akd", None, 0.0)
        settings = settings_for(recipe, epochs=epochs)
        phi = [state_at(recipe, settings, epoch)[0].target_scale for epoch in range(epochs)]
        first = [p for p, e in zip(phi, range(epochs), strict=True) if e < settings.first(2 / 3)]
        assert first == sorted(first) and first[-1] == 1.0 and max(phi) == 1.0


def test_a_settings_default_is_kd_on_one_teacher() -> None:
    settings = Settings(0.25, {})
    assert LOSSES["kd"][0].weights(settings) == {"ce": 0.75, "kl": 0.25}
    assert ce(STUDENT) > 0 and tensor(STUDENT).shape == (6, 10)


def test_a_hint_leaves_an_epoch_for_the_classifier() -> None:
    options = read_options(METHODS["fitnets"].options, {"phases": "hint first", "share": 1.0})
    for epochs in (1, 2, 3, 60):
        weights = [METHODS["fitnets"].loss.weights(Settings(0.5, options, 1, 1, e, epochs)) for e in range(epochs)]
        assert weights[-1]["ce"] > 0 and weights[0]["hint"] > 0, epochs


def test_an_option_without_a_meaning_is_said_and_left_out() -> None:
    options, said = take_options(METHODS["dgkd"].options, {"p": 0.3, "gate": "none"})
    assert options == () and "p has no meaning with gate none" in said[0]
    options, said = take_options(METHODS["dgkd"].options, {"p": 0.3, "gate": "weaken"})
    assert said == [] and dict(options) == {"p": 0.3, "gate": "weaken"}
