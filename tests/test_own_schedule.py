"""Epochs, training images and learning rate of a question's own, from the plan to the page and the
numbers that come of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from click.testing import CliRunner

from takd.analysis.pool import plan_of_paths, settings_of
from takd.analysis.side_by_side import why_apart
from takd.cli.main import cli
from takd.cli.queue import _in_short
from takd.data.catalogue import available_datasets
from takd.data.table import DATASETS
from takd.methods.table import METHODS
from takd.plan import Plan, build_plan
from takd.presentation.live import describe
from takd.presets import PRESETS
from takd.runs.estimates import estimate_of
from takd.runs.store import Store
from takd.spec import from_json, read_spec, require_spec, to_json

from .pages_support import SMALL, link, open_page, train_here

DIGITS = replace(DATASETS["digits"], fingerprint="0" * 64)
OWN = replace(SMALL, epochs=2, images=100)
RATED = replace(SMALL, lr=0.02)
ROOT = Path(__file__).parents[1]
GAP = str(ROOT / "pages" / "gap.py")
CHOICES = ["--data", "digits", "--method", "kd", "--seeds", "1", "--scope", "chain"]


@pytest.mark.parametrize("name", list(METHODS))
def test_epochs_and_images_of_ones_own_take_the_place_of_the_budgets(name: str) -> None:
    """In every stage of every method, and nothing else of a stage follows them."""
    asked = {"dataset": "digits", "method": name, "seeds": 1, "scope": "chain"}
    usual = build_plan(read_spec(asked)[0], DIGITS)
    own = build_plan(read_spec({**asked, "epochs": 7, "images": 100, "lr": 0.003})[0], DIGITS)
    assert not set(usual.stages) & set(own.stages)
    assert {stage.data.train_images for stage in own.stages.values()} == {100}
    assert {stage.recipe.lr for stage in own.stages.values()} == {0.003}
    longer = {14} if METHODS[name].spends_assistants else set()
    assert {stage.recipe.epochs for stage in own.stages.values()} == {7} | longer
    assert all(stage.recipe.last <= 14 for stage in own.stages.values())

    def rest(plan: Plan) -> list[tuple[Any, ...]]:
        return [
            (s.network, s.loss, s.seed, replace(s.recipe, epochs=0, until=0, lr=0), replace(s.data, train_images=0))
            for s in plan.stages.values()
        ]

    assert {str(row) for row in rest(own)} == {str(row) for row in rest(usual)}


@pytest.mark.parametrize(
    ("asked", "lasts"),
    [
        ({"method": "rco", "options": {"anchors": 4}, "epochs": 2}, {1, 2}),
        ({"method": "rco", "options": {"anchors": 4}, "epochs": 8}, {2, 4, 6, 8}),
        ({"method": "early-teacher", "options": {"stop": 0.5}, "epochs": 8}, {4, 8}),
        ({"method": "early-teacher", "options": {"stop": 0.5}, "epochs": 1}, {1}),
    ],
)
def test_a_teacher_at_earlier_epochs_is_one_of_the_epochs_there_are(asked: dict[str, Any], lasts: set[int]) -> None:
    spec = require_spec({"dataset": "digits", "assistants": [], "seeds": 1, "scope": "chain", **asked})
    plan = build_plan(spec, DIGITS)
    assert {stage.recipe.last for stage in plan.stages.values()} == lasts


def test_two_data_parts_share_the_images_that_were_asked_for() -> None:
    spec = require_spec({"dataset": "digits", "view": "split", "images": 100, "seeds": 1, "scope": "chain"})
    plan = build_plan(spec, DIGITS)
    chain = plan.chains_of(plan.chosen)[0]
    parts = [(plan.stages[key].data.skip, plan.stages[key].data.train_images) for key in chain.keys]
    assert parts[0] == (0, 50) and set(parts[1:]) == {(50, 50)}


def test_what_is_left_to_the_budget_changes_no_key() -> None:
    for preset in PRESETS.values():
        spec, dataset = replace(preset.spec, lr=0.0), available_datasets()[preset.spec.dataset]
        said = require_spec({**to_json(spec), "epochs": 0, "images": 0, "lr": 0})
        assert said == spec
        assert set(build_plan(said, dataset).stages) == set(build_plan(spec, dataset).stages)


def test_saying_what_the_budget_says_asks_for_the_same_trainings() -> None:
    """60 epochs of 500 images at 0.05 are a taste of digits."""
    spec = require_spec({"dataset": "digits", "seeds": 1})
    said = {"epochs": 60, "images": 500, "lr": 0.05}
    for own, same in ((said, True), ({"epochs": 61}, False), ({"images": 499}, False), ({"lr": 0.01}, False)):
        stages = set(build_plan(require_spec({**to_json(spec), **own}), DIGITS).stages)
        assert (stages == set(build_plan(spec, DIGITS).stages)) is same
        assert same or not stages & set(build_plan(spec, DIGITS).stages)


def test_every_path_of_the_ladder_is_looked_up_at_them() -> None:
    assert (settings_of(OWN).epochs, settings_of(OWN).images) == (2, 100) and settings_of(RATED).lr == 0.02
    for stage in plan_of_paths(OWN, DIGITS).stages.values():
        assert (stage.recipe.epochs, stage.data.train_images) == (2, 100)


def test_arms_of_other_lengths_are_not_paired_by_seed() -> None:
    assert why_apart(OWN, OWN) == ""
    assert "learning rates" in why_apart(OWN, replace(OWN, lr=0.01))
    assert "epochs" in why_apart(OWN, replace(OWN, epochs=3)) and "images" in why_apart(OWN, replace(OWN, images=0))


def test_two_epochs_on_a_hundred_images_are_what_is_trained(tmp_path: Path) -> None:
    spec = replace(OWN, seeds=1)
    store = train_here(spec, tmp_path)
    plan = build_plan(spec, available_datasets()["digits"])
    for key, stage in plan.stages.items():
        result = store.result(key)
        rows, _ = store.read_events(key)
        assert result is not None and result["epochs"] == 2
        assert [row["epoch"] for row in rows] == [1, 2]
        assert stage.data.train_images == 100 and stage.data.noise == 0.2
        assert (100 * rows[-1]["train_acc"]) % 1 == pytest.approx(0, abs=1e-3), "a share of a hundred images"


def test_the_command_line_takes_them(tmp_path: Path) -> None:
    def call(*more: str) -> Any:
        return CliRunner().invoke(cli, ["plan", *CHOICES, *more, "--store", str(tmp_path)])

    told = call("--epochs", "2", "--images", "100", "--lr", "0.01").stdout
    assert "2 epochs, 100 training images, learning rate 0.01, in place of the budget's" in told
    assert "in place of" not in call().stdout
    value = json.loads(call("--epochs", "2", "--images", "100", "--json").stdout.splitlines()[-1])
    assert (value["spec"]["epochs"], value["spec"]["images"]) == (2, 100)
    assert from_json(json.dumps(value["spec"])).images == 100
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(value["spec"]))
    again = CliRunner().invoke(cli, ["plan", "--spec", str(file), "--epochs", "0", "--json"])
    assert "epochs" not in json.loads(again.stdout.splitlines()[-1])["spec"]
    bad = (["--images", "7"], "from 50"), (["--images", "501"], "500"), (["--epochs", "1001"], "1000")
    for wrong, word in (*bad, (["--lr", "1e-9"], "from 1e-05")):
        refused = call(*wrong)
        assert refused.exit_code == 2 and word in refused.stderr


def test_lists_and_estimates_follow_them(tmp_path: Path) -> None:
    assert "taste epochs 2 images 100 noise 0.2" in _in_short(to_json(OWN))
    assert "epochs" not in _in_short(to_json(SMALL)) and "images" not in _in_short(to_json(SMALL))
    store = Store(tmp_path)
    whole, own = (
        estimate_of(plan.stages, plan.stages, store).seconds
        for plan in (build_plan(SMALL, DIGITS), build_plan(OWN, DIGITS))
    )
    assert own < whole


def test_one_line_names_them_where_they_are_not_the_budgets() -> None:
    assert ", taste, 2 epochs, 100 training images, 3 seeds" in describe(OWN)
    assert ", taste, 1 epoch, 3 seeds" in describe(replace(OWN, epochs=1, images=0))
    assert ", taste, 3 seeds" in describe(SMALL)
    assert ", taste, learning rate 0.02, 3 seeds" in describe(RATED) and " lr 0.02 " in _in_short(to_json(RATED))


def test_the_form_asks_for_them_and_the_link_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_CACHED", str(ROOT / "cached_runs"))
    st.cache_resource.clear()
    at = open_page(SMALL)
    assert at.number_input(key="w-epochs").value is None
    assert at.number_input(key="w-images").placeholder == "As the budget says"
    assert "500 images for mlp-8" in at.number_input(key="w-images").help
    at.number_input(key="w-epochs").set_value(2).run()
    at.number_input(key="w-images").set_value(100).run()
    assert not at.exception
    assert (link(at, "ep"), link(at, "im")) == (["2"], ["100"])
    assert (at.number_input(key="w-epochs").value, at.number_input(key="w-images").value) == (2, 100)
    assert at.number_input(key="w-lr").value is None and "0.05 for mlp-8" in at.number_input(key="w-lr").help
    at.number_input(key="w-lr").set_value(0.005).run()
    assert not at.exception and link(at, "lr") == ["0.005"]
    nearest = " ".join(box.value for box in at.info)
    assert "you asked for 2" in nearest and "you asked for 100" in nearest, "what the stored figures answer instead"
    for nothing in (0, None):
        at.number_input(key="w-epochs").set_value(nothing).run()
        assert link(at, "ep") == [] and at.number_input(key="w-epochs").value is None
        at.number_input(key="w-epochs").set_value(3).run()
        assert link(at, "ep") == ["3"]


def test_the_page_says_what_it_had_to_change() -> None:
    at = open_page({"d": ["digits"], "im": ["9000"], "ep": ["5000"]})
    assert not at.exception
    told = " ".join(box.value for box in (*at.warning, *at.info))
    assert "9,000" in told and "500" in told and "5000" in told
    at.number_input(key="w-images").set_value(7).run()
    assert link(at, "im") == ["50"]
    assert "from 50 up to 50000" in " ".join(box.value for box in (*at.warning, *at.info))
    # The browser keeps to itself what is beyond a field's bounds, and then nobody could say why it is not taken.
    assert all(at.number_input(key=f"w-{name}").max is None for name in ("epochs", "lam", "temperature"))
    at.number_input(key="w-lam").set_value(1.5).run()
    assert link(at, "lam") == ["1"] and "lam '1.5' is not allowed" in " ".join(box.value for box in at.warning)


def test_another_page_says_them_in_the_question_it_is_about() -> None:
    at = open_page(OWN)
    at.switch_page(GAP).run()
    assert "2 epochs, 100 training images" in at.expander[0].label


def test_another_data_set_and_a_ready_question_start_anew() -> None:
    at = open_page({"d": ["digits"], "im": ["100"], "ep": ["2"]})
    at.selectbox(key="w-dataset").set_value("cifar10").run()
    assert link(at, "im") == [] and at.number_input(key="w-images").value is None
