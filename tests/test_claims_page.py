"""The Claims page: what is on it against what is stored, its settings in the link, and what it lets people train."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from takd.analysis.claims import board
from takd.analysis.regimes import regime_frame
from takd.claims import amendments
from takd.claims.library import REGIMES, questions_of
from takd.claims.settings import SETTINGS
from takd.claims.table import CLAIMS
from takd.data.catalogue import available_datasets
from takd.plan import Arm, build_plan
from takd.presentation import live
from takd.presentation.claims import data, training
from takd.runs import submit as submit_module
from takd.runs.errors import RunError
from takd.runs.states import run_ids, run_info
from takd.runs.store import Store, open_store
from takd.spec import to_json

from .pages_support import charts_of, link, open_page
from .runs.test_policy import make_run

REPO = Path(__file__).parents[1]
PAGE = str(REPO / "pages" / "claims.py")
Env = pytest.MonkeyPatch


_MADE: dict[tuple[str, str], Any] = {}


def once(what: str, make: Callable[..., Any], *given: Any) -> Any:
    """make(...), remembered by the cached runs: no test here has other results than theirs, and a board takes
    seconds."""
    key = what, os.environ["TAKD_CACHED"].rpartition("/")[2]
    if key not in _MADE:
        _MADE[key] = make(*given)
    return _MADE[key]


@pytest.fixture(autouse=True)
def nobody_works(monkeypatch: Env) -> None:
    st.cache_resource.clear()
    monkeypatch.setattr(data, "board", partial(once, "board", board))
    monkeypatch.setattr(data, "regime_frame", partial(once, "map", regime_frame))
    monkeypatch.setattr(submit_module, "start_worker", lambda store, run_id: None)


@pytest.fixture
def cached(monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_CACHED", str(REPO / "cached_runs"))


def claims(**query: str) -> AppTest:
    """The page once its board is worked out."""
    at = open_page(page=PAGE)
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    assert data.known(open_store(), available_datasets(), 90) is not None
    at.run()
    assert not at.exception
    return at


def said(at: AppTest) -> str:
    kinds = ("title", "subheader", "caption", "markdown", "info", "warning", "error")
    text = " ".join(e.value for kind in kinds for e in getattr(at, kind))
    return text.replace("\\", "").replace("\N{NO-BREAK SPACE}", " ")


def chart(at: AppTest, text: str) -> tuple[dict[str, Any], str, list[Any]]:
    return next(found for found in charts_of(at) if text in found[1])


def trains(at: AppTest) -> list[str]:
    return [str(button.key) for button in at.button if str(button.key).startswith("claims-run")]


@pytest.mark.usefixtures("cached")
def test_what_is_on_screen_is_what_is_stored() -> None:
    at = claims(claim="one-ta")
    store, setting = open_store(), SETTINGS["cifar10"]
    arms = Arm("takd", (setting.teacher, setting.assistant, setting.student)), Arm("kd", setting.spec.path[::2])
    plan = build_plan(setting.spec, available_datasets()["cifar10"], arms)
    reached = []
    for arm in arms:
        results = [store.result(chain.student) for chain in plan.chains_of(arm)]
        reached.append([100 * result["test_acc"] for result in results if result])
    gains = [one - other for one, other in zip(*reached, strict=True)]
    assert len(gains) == 5
    mean = sum(gains) / 5
    assert re.search(rf"Undecided: {re.escape(f'{mean:+.1f}')} points \(99(\.\d)? % CI", said(at))
    assert "n = 5 chains; CIFAR-10, plain CNNs" in said(at)
    assert "exploratory" in said(at) and "Published by the source" in said(at)
    dots = next(frame for frame in chart(at, "Digits, small CNNs")[2] if "seed" in frame)
    assert sorted(dots.loc[dots["place"] == 0, "value"]) == pytest.approx(sorted(gains))
    figure = chart(at, "Claims by setting")
    assert "4, One teacher assistant beats direct KD: CIFAR-10 undecided" in figure[1]
    asked = next(text for text in (row.value for row in at.markdown) if text.startswith("- "))
    assert len(asked.splitlines()) == 3 and all("CI " in line for line in asked.splitlines())
    told = re.search(r"(\d+) tests? of \d+ claims\.", said(at))
    assert told and sum(int(tile.value) for tile in at.metric) == int(told[1]) and len(at.metric) == 5
    assert "160 epochs" not in figure[1]  # nothing of them is stored


@pytest.mark.usefixtures("cached")
def test_a_claim_is_picked_in_the_board_and_stays_in_the_link() -> None:
    at = claims()
    assert f"1 · {CLAIMS['gap'].title}" in said(at) and link(at, "claim") == []
    at.selectbox(key="pick-board").set_value("midpoint").run()
    assert link(at, "claim") == ["midpoint"] and f"6 · {CLAIMS['midpoint'].title}" in said(at)
    at.selectbox(key="v-claim").set_value("flatness").run()
    assert link(at, "claim") == ["flatness"] and "9 · Students of a chain lie in flatter minima" in said(at)
    at.query_params["claim"] = "nonsense"
    at.run()
    assert not at.exception and "Claim cannot be 'nonsense'" in said(at)


@pytest.mark.usefixtures("cached")
def test_what_was_changed_after_rules_were_written_stands_beside_them() -> None:
    at = claims(claim="rivals")
    own = next(box for box in at.expander if box.label == f"Changed or added since ({len(amendments.of('rivals'))})")
    beside = " ".join(text.value for text in own.markdown).replace("\\", "").replace("*", "")
    assert [row.text for row in amendments.of("rivals") if f"{row.word} {row.text}" not in beside] == []
    box = next(box for box in at.expander if "Changed since" in box.label)
    shown = " ".join(text.value for text in box.markdown).replace("\\", "")
    assert [row.text for row in amendments.AMENDMENTS if row.text not in shown] == []


@pytest.mark.usefixtures("cached")
def test_a_locked_claim_cannot_be_changed() -> None:
    at = claims(claim="dense", lock="claim")
    assert at.selectbox(key="v-claim").disabled and "Fixed by the link: Claim" in said(at)
    assert "pick-board" not in [box.key for box in at.selectbox]


@pytest.mark.usefixtures("cached")
def test_all_findings_are_in_a_table() -> None:
    at = claims()
    assert not at.dataframe
    at.session_state["numbers-claims"] = True
    at.run()
    table = at.dataframe[0].value
    trials = sum(max(len(claim.trials), 1) for claim in CLAIMS.values())
    assert len(table) == trials and {"setting", "status", "mean", "p_holm", "origin"} <= set(table)


def test_the_claims_are_there_before_their_statuses(monkeypatch: Env) -> None:
    go = threading.Event()
    monkeypatch.setattr(data, "board", lambda *given: once("board", board, *given) if go.wait(60) else ())
    at = open_page(page=PAGE)
    at.query_params["claim"] = "full-path"
    at.run()
    try:
        assert not at.exception and not charts_of(at)
        assert "a few seconds" in said(at) and "Averaging the KL over classes" in said(at)
        assert "\n21 · Ending KD halfway" in said(at)  # as its number is, not as a list would count on from 8
        assert "The full path minus the best of the seven shorter ones" in said(at)
    finally:
        go.set()
    assert data.known(open_store(), available_datasets(), 90) is not None
    at.run()
    assert not at.exception and "a few seconds" not in said(at) and charts_of(at)


def test_a_board_that_fails_says_so(monkeypatch: Env) -> None:
    def broken(*given: object) -> None:
        raise ValueError("torn")

    monkeypatch.setattr(data, "board", broken)
    at = open_page(page=PAGE)
    assert not at.exception and "cannot be worked out" in said(at) and "torn" not in said(at)
    assert data.failed(open_store(), available_datasets())


def test_the_board_is_worked_out_once_and_again_when_a_run_has_ended(monkeypatch: Env) -> None:
    made: list[int] = []
    monkeypatch.setattr(data, "board", lambda *given: made.append(1) or ())
    monkeypatch.setattr(data, "_REST", 0.0)
    store, datasets = open_store(), available_datasets()
    for _ in range(3):
        assert data.known(store, datasets, 60) is not None
    assert len(made) == 1
    make_run(store, "20260101-000000-0000", "", "done")
    assert data.known(store, datasets) is not None  # the old one, while a thread works out the next
    slot = next(iter(data._memory().slots.values()))
    assert slot.ready.wait(60) and len(made) == 2
    assert data.known(store, datasets) is not None and len(made) == 2


def test_nothing_stored_every_claim_still_says_how_it_is_tested_and_trains() -> None:
    at = claims(claim="one-ta")
    assert "Nothing is tested yet" in said(at) and "Not run: CIFAR-10; Digits, noisy, tuned" in said(at)
    assert "Chain minus direct KD" in said(at) and f"none of {len(REGIMES)} places has been run" in said(at)
    assert "CIFAR-10, 160 epochs" in said(at) and "python -m takd data prepare cifar10" in said(at)  # not here
    offered = at.selectbox(key="claims-train-one-ta").options
    places = {"Digits, noisy, tuned", "Digits, clean, tuned", "Digits, noisy", "Digits, clean"}
    places |= {"Digits, CNN, tuned", "Digits, CNN"}
    assert {text.split(":")[0] for text in offered} == places and len(offered) == len(places)
    button = at.button(key="claims-run-one-ta")
    assert "missing trainings" in button.label and "~" in button.label
    chosen = at.selectbox(key="claims-train-one-ta").value
    button.click().run()
    assert not at.exception
    asked = [run_info(open_store(), name).spec for name in run_ids(open_store().root)]
    wanted = [to_json(spec) for spec in questions_of("one-ta", SETTINGS[chosen])]
    assert asked and all(spec in wanted for spec in asked)
    at.run()
    assert "of this claim in the queue or in training" in said(at) and trains(at) == []


def test_a_run_is_only_asked_for_what_the_ones_before_do_not_train() -> None:
    at = claims(claim="one-ta")
    known = data.known(open_store(), available_datasets())
    assert known is not None and not at.exception
    left = next(
        left
        for left in training.lefts(known.row("one-ta"), open_store(), available_datasets())
        if left.setting.name == "digits-noise"
    )
    plans = [build_plan(spec, available_datasets()["digits"]) for spec in left.specs]
    keys = set().union(*(plan.stages for plan in plans))
    assert left.trainings == len(keys) and left.seconds > 0
    covered: set[str] = set()
    for plan in plans:
        assert plan.stages.keys() - covered
        covered |= plan.stages.keys()


def test_days_of_training_are_asked_for_twice(monkeypatch: Env) -> None:
    monkeypatch.setattr(training, "is_ready", lambda name: True)
    at = claims(claim="one-ta")
    box = at.selectbox(key="claims-train-one-ta")
    assert box.value.startswith("digits")  # the cheapest, whatever comes first in the table
    assert any("160 epochs" in text and ("days" in text or " h" in text) for text in box.options)
    box.set_value("resnet-paper").run()
    at.button(key="claims-run-one-ta").click().run()
    assert not at.exception and run_ids(open_store().root) == [] and "Start them" in [b.label for b in at.button]


def test_where_one_run_is_refused_the_reason_is_said(monkeypatch: Env) -> None:
    at = claims(claim="gap")
    real, asked = training.submit, []

    def second_refused(*given: Any, **more: Any) -> str:
        asked.append(1)
        if len(asked) == 2:
            raise RunError("Only *one* run for each person.")
        return real(*given, **more)

    monkeypatch.setattr(training, "submit", second_refused)
    at.button(key="claims-run-gap").click().run()
    assert not at.exception and len(run_ids(open_store().root)) == 1
    assert any(e.value.startswith("1 of ") and "Only \\*one\\* run" in e.value for e in at.error)


def test_a_read_only_server_offers_no_training(monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    at = claims(claim="one-ta")
    assert trains(at) == [] and live.SHOWS_ONLY in said(at)
    assert not [b for b in at.button if str(b.key).startswith("claims-")]


def test_a_full_server_says_why(monkeypatch: Env) -> None:
    monkeypatch.setattr(training, "refusal", lambda *given, **more: "The queue is full.")
    at = claims(claim="one-ta")
    assert at.button(key="claims-run-one-ta").disabled and "The queue is full." in said(at)


@pytest.mark.usefixtures("cached")
def test_which_test_images_are_wrong_is_read_from_stored_answers() -> None:
    store, setting = open_store(), SETTINGS["cifar10"]
    plan = build_plan(setting.spec, available_datasets()["cifar10"], (Arm("kd", setting.spec.path[::2]),))
    key = plan.chains[0].student
    result = store.result(key)
    wrong = data.Reader(store).wrong(plan, key)
    assert result is not None and wrong is not None and wrong.dtype == bool
    assert wrong.mean() == pytest.approx(1 - result["test_acc"], abs=2e-4)  # answers are rounded to float16
    empty = Store(store.root)
    assert data.Reader(empty).wrong(plan, key) is None
