"""The spec: bounds, sentences, and round trips through URL and JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from takd.data.table import DATASETS
from takd.networks.table import NETWORKS
from takd.presets import PRESETS
from takd.spec import (
    PARAMETERS,
    ExperimentSpec,
    SpecError,
    between,
    from_json,
    from_query,
    networks_for,
    read_spec,
    require_spec,
    rungs_between,
    size_order,
    start_for,
    to_json,
    to_query,
)

BAD = [
    ({"teacher": "plain-1"}, ["plain-1'", "plain-9", "plain-10"]),
    ({"teacher": "msdnet-4"}, ["msdnet-4", "plain-10", "plain-10"]),
    ({"dataset": "mnist-1d"}, ["mnist-1d", "cifar10", "digits"]),
    ({"method": "TAKD"}, ["TAKD", "takd"]),
    ({"budget": "huge"}, ["huge", "taste", "paper"]),
    ({"assistants": ["resnet-110"]}, ["resnet-110", "plain-4"]),
    ({"student": "plain-4", "assistants": ["plain-2"]}, ["plain-2", "plain-6"]),
    ({"assistants": ["plain-4", "plain-4"]}, ["plain-4", "twice"]),
    ({"assistants": ["plain-4", "plain-8"]}, ["plain-8 > plain-4"]),
    ({"assistants": 7}, ["7"]),
    ({"teacher": "plain-2", "student": "plain-4", "assistants": []}, ["plain-2", "larger"]),
    ({"teacher": "mlp-64"}, ["mlp-64", "CIFAR-10"]),
    ({"temperature": 0}, ["0", "greater than 0"]),
    ({"temperature": -3}, ["-3"]),
    ({"temperature": math.nan}, ["nan"]),
    ({"temperature": math.inf}, ["inf"]),
    ({"temperature": "hot"}, ["hot"]),
    ({"temperature": True}, ["True"]),
    ({"lam": -0.1}, ["-0.1", "from 0 up to 1"]),
    ({"lam": 1.01}, ["1.01"]),
    ({"seeds": 0}, ["0", "from 1 up to 100"]),
    ({"seeds": 10_000}, ["10000"]),
    ({"seeds": 2.5}, ["2.5"]),
    ({"seeds": None}, ["None"]),
    ({"seeds": "9" * 5000}, ["9999"]),
    ({"noise": 0.5}, ["0.5", "0.4"]),
    ({"seed": -1}, ["-1"]),
    ({"seed": 2**31}, [str(2**31)]),
    ({"epochs": -1}, ["-1", "0 (as the budget says)", "from 1 up to 1000"]),
    ({"epochs": 1001}, ["1001"]),
    ({"epochs": 2.5}, ["2.5"]),
    ({"images": 1}, ["'1'", "0 (as the budget says)", "from 50 up to 50000"]),
    ({"images": 49}, ["49", "from 50"]),
    ({"images": 45_001}, ["45,001", "45,000", "CIFAR-10", "0 for what the budget says"]),
    ({"dataset": "digits", "images": 501}, ["501", "500", "Digits"]),
    ({"colour": "blue"}, ["colour", "teacher"]),
    ({"method": "kd", "assistants": ["plain-4"]}, ["plain-4", "no assistants"]),
    ({"method": "takd", "assistants": []}, ["takd", "at least 1"]),
]


@pytest.mark.parametrize(("values", "words"), BAD)
def test_bad_values_get_a_sentence_with_the_value_and_what_is_allowed(values: dict, words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        require_spec(values)
    text = " ".join(caught.value.problems)
    for word in words:
        assert word in text
    assert all(p.endswith(".") and len(p) < 600 for p in caught.value.problems)


@pytest.mark.parametrize(("values", "_"), BAD)
def test_the_repair_is_itself_valid(values: dict, _: list[str]) -> None:
    spec, problems = read_spec(values)
    assert problems
    assert require_spec(to_json(spec)) == spec


@pytest.mark.parametrize(
    ("values", "epochs", "images"),
    [
        ({"epochs": 5000, "images": 7}, 1000, 50),
        ({"epochs": "3", "images": "-5"}, 3, 0),
        ({"images": 50_000}, 0, 45_000),
        ({"images": 1e9}, 0, 45_000),
        ({"dataset": "digits", "images": 45_000}, 0, 500),
    ],
)
def test_epochs_and_images_are_clamped_to_what_can_be_trained(values: dict, epochs: int, images: int) -> None:
    spec, problems = read_spec(values)
    assert (spec.epochs, spec.images) == (epochs, images)
    assert problems


def test_a_data_set_smaller_than_the_least_choice_is_used_whole() -> None:
    few = replace(DATASETS["digits"], train_pool=1337)  # 40 images to train on
    spec, problems = read_spec({"dataset": "digits", "images": 60}, {"digits": few})
    assert spec.images == 0 and "40" in problems[0]
    assert read_spec(to_json(spec), {"digits": few}) == (spec, ())


def test_sentences_quote_values_without_markup() -> None:
    _, problems = read_spec({"teacher": "![x](http://e.example)<b>`" + "y" * 500})
    assert not set("<>`[]!*") & set(problems[0].split("is not")[0])
    assert len(problems[0]) < 500


names = st.sampled_from(list(NETWORKS))
anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.lists(names, max_size=4)
)


@given(
    st.dictionaries(st.sampled_from([*PARAMETERS, "other"]), anything, max_size=6),
)
def test_reading_never_raises_and_always_gives_a_valid_spec(values: dict) -> None:
    spec, _ = read_spec(values)
    assert require_spec(to_json(spec)) == spec


@st.composite
def valid_specs(draw: st.DrawFn) -> ExperimentSpec:
    dataset = DATASETS[draw(st.sampled_from(list(DATASETS)))]
    order = [n.name for n in networks_for(dataset)]
    student, teacher = sorted(
        draw(st.lists(st.sampled_from(order), min_size=2, max_size=2, unique_by=size_order)), key=size_order
    )
    inside = between(teacher, student, dataset)
    assistants = tuple(a for a in inside if draw(st.booleans()))
    method = "takd" if assistants else draw(st.sampled_from(["scratch", "kd"]))
    return ExperimentSpec(
        dataset.name,
        teacher,
        assistants,
        student,
        method,
        draw(st.sampled_from(["taste", "standard", "paper"])),
        draw(st.integers(1, 100)),
        draw(st.sampled_from([0.5, 1.0, 4.0, 20.0])),
        draw(st.sampled_from([0.0, 0.05, 0.5, 1.0])),
        draw(st.sampled_from([0.0, 0.2, 0.4])),
        draw(st.integers(0, 2**31 - 1)),
        draw(st.sampled_from(["chain", "ladder"])),
        epochs=draw(st.sampled_from([0, 1, 7, 1000])),
        images=draw(st.sampled_from([0, 50, 500])),
        lr=draw(st.sampled_from([0.0, 1e-5, 0.02])),
    )


@given(valid_specs(), st.booleans())
def test_round_trip_through_url_and_json(spec: ExperimentSpec, full: bool) -> None:
    assert from_query(to_query(spec, full=full)) == (spec, ())
    assert from_json(json.dumps(to_json(spec))) == spec


def test_starting_choices_are_left_out_of_the_link_and_a_full_link_names_all() -> None:
    assert to_query(ExperimentSpec()) == {}
    assert to_query(start_for("digits")) == {"d": ["digits"]}
    said = {p.short for p in PARAMETERS.values() if not p.least}
    assert set(to_query(ExperimentSpec(), full=True)) == said, "an older link stays the same text"
    assert to_query(ExperimentSpec(epochs=2, images=100)) == {"ep": ["2"], "im": ["100"]}


def test_a_link_with_only_a_data_set_opens_with_its_own_start() -> None:
    spec, problems = from_query({"d": ["digits"], "utm_source": ["mail"]})
    assert spec == start_for("digits")
    assert problems == ()


@pytest.mark.parametrize("text", ["", "[", "[1]", '{"lam": NaN}', "[" * 100_000, '{"teacher": {}}', "\ufeff{}"])
def test_bad_spec_files_are_refused(text: str) -> None:
    with pytest.raises(SpecError):
        from_json(text)


def test_every_preset_is_valid_and_asks_something() -> None:
    for preset in PRESETS.values():
        assert require_spec(to_json(preset.spec)) == preset.spec
        assert preset.question.endswith("?")
    assert PRESETS["cifar-gap"].spec == ExperimentSpec()  # what the first page opens with


def test_every_data_set_has_a_valid_start() -> None:
    for name in DATASETS:
        assert require_spec(to_json(start_for(name))) == start_for(name)


def test_between_lists_sizes_of_the_teachers_family_large_to_small() -> None:
    cifar = DATASETS["cifar10"]
    assert between("plain-10", "plain-2", cifar) == tuple(f"plain-{n}" for n in range(9, 2, -1))
    assert between("plain-3", "plain-2", cifar) == ()
    assert rungs_between("plain-10", "plain-2", cifar) == ("plain-8", "plain-6", "plain-4")
    assert rungs_between("plain-4", "plain-2", cifar) == ()


def test_a_size_between_the_rungs_is_only_ever_chosen() -> None:
    assert require_spec({"teacher": "plain-9", "assistants": ["plain-7", "plain-3"]}).path == (
        "plain-9", "plain-7", "plain-3", "plain-2",
    )  # fmt: skip
    for teacher, student in (("plain-10", "plain-2"), ("plain-9", "plain-3"), ("plain-5", "plain-2")):
        assert read_spec({"teacher": teacher, "student": student})[0].assistants == ("plain-4",)
    assert read_spec({"teacher": "plain-4"})[0].method == "kd"  # as before the odd sizes: neighbours on the ladder


def test_short_names_are_unique() -> None:
    assert len({p.short for p in PARAMETERS.values()}) == len(PARAMETERS)
    asked = to_json(ExperimentSpec())
    assert set(PARAMETERS) - {"options", "epochs", "images", "lr"} == set(asked), "an older file stays the same text"
    assert to_json(ExperimentSpec(epochs=2, images=100)) == {**asked, "epochs": 2, "images": 100}


def test_moving_one_end_does_not_complain_about_assistants_that_were_not_asked_for() -> None:
    spec, problems = read_spec({"student": "plain-6"})
    assert (spec.assistants, problems) == (("plain-8",), ())
    assert replace(spec, assistants=()) != spec


DGKD = {"dataset": "digits", "method": "dgkd", "assistants": ["mlp-64", "mlp-16"]}


@pytest.mark.parametrize(
    "given",
    [{"gate": "bernoulli", "p": 0.5}, ["p:0.5", "gate:bernoulli"], {"gate": "bernoulli", "p": "0.5", "sum": "mean"}],
)
def test_options_are_kept_where_they_differ_from_their_defaults(given: object) -> None:
    spec = require_spec({**DGKD, "options": given})
    assert spec.options == (("gate", "bernoulli"), ("p", 0.5))
    assert from_query(to_query(spec)) == (spec, ())
    assert from_query(to_query(spec, full=True)) == (spec, ())
    assert require_spec(to_json(spec)) == spec
    assert require_spec(json.loads(json.dumps(to_json(spec)))) == spec


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"gatte": "none"}, "gatte"),
        ({"p": 0}, "greater than 0"),
        (["p"], "name:value"),
        (7, "name:value"),
        ({"gate": []}, "gate"),
    ],
)
def test_bad_options_are_named_and_left_out(given: object, word: str) -> None:
    spec, problems = read_spec({**DGKD, "options": given})
    assert spec.options == ()
    assert len(problems) == 1 and word in problems[0] and problems[0].endswith(".")


def test_options_of_another_method_do_not_stay() -> None:
    spec, problems = read_spec({**to_json(require_spec({**DGKD, "options": {"gate": "drop-one"}})), "method": "takd"})
    assert spec.options == () and "gate" in problems[0]


def test_what_no_option_can_mend_is_refused_with_what_to_change() -> None:
    spec, problems = read_spec({**DGKD, "assistants": ["mlp-16"], "options": {"gate": "drop-one", "protect": True}})
    assert spec.options == ()
    assert "add an assistant" in problems[0]


IMPOSSIBLE = [
    ({"method": "takd", "assistants": []}, ["takd", "at least 1 assistant"]),
    ({"method": "dgkd", "assistants": []}, ["dgkd", "at least 1 assistant"]),
    ({"method": "kd-long", "assistants": []}, ["Whole-budget KD", "add one"]),
    ({"method": "dgkd", "teacher": "mlp-16", "student": "mlp-8"}, ["dgkd", "at least 1 assistant"]),  # neighbours
    ({"options": {"gate": "bernoulli", "p": 0}}, ["p '0'", "greater than 0"]),
    ({"options": ["gate:weaken", "p:0"]}, ["p '0'", "greater than 0"]),
    ({"options": ["gate:bernoulli", "p:-0.5"]}, ["p '-0.5'", "up to 1"]),
    ({"options": ["gate:bernoulli", "p:1.01"]}, ["p '1.01'", "up to 1"]),
    ({"assistants": ["mlp-16"], "options": ["gate:drop-one", "protect:true"]}, ["Dropping one", "add an assistant"]),
    ({"lam": 1, "options": ["gate:bernoulli", "empty:labels"]}, ["lam = 1", "lam below 1", "empty = one"]),
    ({"options": {"gate": "bernoulli", "p": math.nan}}, ["p 'nan'", "greater than 0"]),
    ({"options": {"gate": "bernoulli", "p": math.inf}}, ["p 'inf'", "greater than 0"]),
    ({"method": "dkd", "assistants": [], "options": ["beta:nan"]}, ["beta 'nan'", "from 0 up to 100"]),
    ({"method": "dkd", "assistants": [], "options": ["alpha:1e999"]}, ["alpha '1e999'", "from 0 up to 100"]),
    ({"method": "dist", "assistants": [], "options": {"gamma": -math.inf}}, ["gamma '-inf'", "from 0 up to 100"]),
    ({"method": "akd", "assistants": [], "options": {"max_t": 2.5}}, ["max_t '2.5'", "whole numbers"]),
    ({"options": {"gatte": "none"}}, ["no option 'gatte'", "gate"]),
    ({"method": "scratch", "assistants": [], "options": ["p:0.5"]}, ["no option 'p'", "none at all"]),
    ({"options": ["alpha:2"]}, ["no option 'alpha'", "sum, gate, p"]),
    ({"method": "takd", "options": ["gate:drop-one"]}, ["no option 'gate'", "reduction"]),
    ({"method": "dkd", "assistants": [], "options": ["t_norm:2"]}, ["no option 't_norm'", "alpha"]),
    ({"method": "scratch", "assistants": [], "view": "split"}, ["Without a source", "choose 'same'"]),
    ({"method": "dml", "assistants": [], "view": "own"}, ["Peers share every step's images"]),
    ({"method": "ipkd", "assistants": [], "student": "mlp-8"}, ["sub-models of one network", "slim-mlp-64"]),
    ({"method": "kd", "assistants": [], "student": "slim-mlp-64"}, ["holds sub-models", "ipkd", "mlp-8"]),
]


@pytest.mark.parametrize(("values", "words"), IMPOSSIBLE)
def test_a_method_that_cannot_run_is_refused_before_training(values: dict, words: list[str]) -> None:
    wanted = {**DGKD, **values}
    if "teacher" in values:
        del wanted["assistants"]
    with pytest.raises(SpecError) as caught:
        require_spec(wanted)
    assert all(problem.endswith(".") and len(problem) < 300 for problem in caught.value.problems)
    text = " ".join(caught.value.problems)
    assert all(word in text for word in words), text
    spec, problems = read_spec(wanted)
    assert problems == caught.value.problems
    assert require_spec(to_json(spec)) == spec


def test_a_data_set_no_network_with_sub_models_reads_gets_direct_kd() -> None:
    large = replace(DATASETS["cifar10"], name="large", families=("imagenet-resnet",))
    spec, problems = read_spec({"dataset": "large", "method": "joint"}, {"large": large})
    assert spec.method == "kd" and spec.assistants == ()
    assert any("none reads" in sentence for sentence in problems)


@pytest.mark.parametrize("method", ["ipkd", "ipkd-ta", "dml", "dist"])
def test_a_method_with_a_temperature_of_its_own_starts_there(method: str) -> None:
    """At T = 8, where direct KD starts on CIFAR-10, sub-models chase each other's growing logits and stay at chance."""
    spec, problems = read_spec({"dataset": "cifar10", "method": method})
    assert (spec.temperature, problems) == (1.0, ())
    hot = replace(spec, temperature=8.0)
    for one in (spec, hot):
        assert from_query(to_query(one))[0].temperature == one.temperature, "a link keeps what was chosen"
    assert "T" not in to_query(spec) and to_query(hot)["T"] == ["8"]
