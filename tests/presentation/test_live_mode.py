"""Live mode as its visitor meets it. Runs are stored and stopped for real; only their workers are left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from takd.presentation import live
from takd.runs import submit as submitting
from takd.runs.states import run_ids, write_run_file
from takd.runs.store import Store, open_store
from takd.runs.submit import submit
from tests.pages_support import SMALL, link, open_page, train_here

QUICK = {"d": ["digits"], "n": ["1"]}
LIVE = {**QUICK, "live": ["1"]}


@pytest.fixture(autouse=True)
def nobody_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs stay as they are when they were asked for: active, with nothing trained."""
    st.cache_resource.clear()
    monkeypatch.setattr(submitting, "start_worker", lambda store, run_id: None)
    monkeypatch.setattr(submitting, "wait_until_idle", lambda store, seconds: None)


def runs(store: Store) -> list[Path]:
    return [store.root / "runs" / name for name in run_ids(store.root)]


def asked(run: Path) -> dict[str, Any]:
    return json.loads((run / "experiment.json").read_text())


def stopped(run: Path) -> bool:
    return (run / "cancel").exists()


def said(at: AppTest) -> str:
    """What a screen reader is told about the figures."""
    return next(body for html in at.get("html") if 'role="status"' in (body := html.proto.body))


def test_it_is_off_until_somebody_switches_it_on() -> None:
    at = open_page(QUICK)
    assert at.toggle(key="w-live").value is False
    at.selectbox(key="w-student").select("mlp-16").run()
    assert not at.exception
    assert runs(open_store()) == []
    assert link(at, "live") == []


def test_switching_on_trains_the_choice_and_a_link_says_so() -> None:
    at = open_page(QUICK)
    at.toggle(key="w-live").set_value(True).run()
    assert not at.exception
    (run,) = runs(open_store())
    assert asked(run)["note"] == live.LIVE_NOTE
    assert (asked(run)["spec"]["dataset"], asked(run)["spec"]["seeds"]) == ("digits", 1)
    assert link(at, "live") == ["1"]
    assert "Training your choice" in said(at)
    assert "0 of" in next(c.value for c in at.caption if c.value.startswith("Training"))
    assert not [button for button in at.button if button.key == "run"]


def test_a_newer_choice_stops_the_older_one() -> None:
    at = open_page(LIVE)
    at.selectbox(key="w-student").select("mlp-16").run()
    at.selectbox(key="w-student").select("mlp-4").run()
    assert not at.exception
    students = [asked(run)["spec"]["student"] for run in runs(open_store())]
    assert students == ["mlp-8", "mlp-16", "mlp-4"]
    assert [stopped(run) for run in runs(open_store())] == [True, True, False]


def test_a_replaced_run_leaves_the_list_when_it_has_stopped() -> None:
    at = open_page(LIVE)
    at.selectbox(key="w-student").select("mlp-16").run()
    first, second = runs(open_store())
    write_run_file(first, "status.json", {"state": "cancelled"})
    at.selectbox(key="w-student").select("mlp-4").run()
    assert not first.exists()
    assert second.exists() and stopped(second)


def test_a_reload_and_another_visitor_find_the_run_again() -> None:
    open_page(LIVE)
    again = open_page(LIVE)
    (run,) = runs(open_store())
    assert "Training your choice" in said(again)
    again.selectbox(key="w-student").select("mlp-16").run()
    assert not stopped(run)  # it is not this session's to stop


def test_switched_off_nothing_new_is_trained() -> None:
    at = open_page(LIVE)
    at.toggle(key="w-live").set_value(False).run()
    assert link(at, "live") == []
    assert [button.label for button in at.button if button.label == "Cancel"] == ["Cancel"]  # an ordinary run now
    at.selectbox(key="w-student").select("mlp-16").run()
    assert len(runs(open_store())) == 1


def test_data_that_takes_longer_is_refused_with_a_reason() -> None:
    at = open_page({"live": ["1"]})  # CIFAR-10
    toggle = at.toggle(key="w-live-refused")
    assert toggle.disabled and not toggle.value
    assert "Run for real" in toggle.help
    assert runs(open_store()) == []
    at.selectbox(key="w-dataset").select("digits").run()
    assert at.toggle(key="w-live").value is True  # the link asked for it
    assert len(runs(open_store())) == 1


def test_a_choice_that_takes_longer_is_not_trained() -> None:
    at = open_page({"d": ["digits"], "b": ["paper"], "n": ["100"], "live": ["1"]})
    assert "too long for Live" in at.warning[0].value
    assert runs(open_store()) == []
    assert said(at).count("figures show") == 0


def test_the_figures_before_stay_and_are_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_STORE", str(train_here(SMALL, tmp_path / "store").root))
    at = open_page(SMALL)
    at.toggle(key="w-live").set_value(True).run()
    assert runs(open_store()) == []  # everything is there
    assert "The figures show your choice" in said(at)
    title = at.title[0].value
    at.number_input(key="w-temperature").set_value(3.0).run()
    assert len(runs(open_store())) == 1
    assert at.title[0].value == title
    assert any(caption.value.startswith("The choice before") for caption in at.caption)
    assert "Training your choice" in said(at)
    assert any("opacity: 0.45" in html.proto.body for html in at.get("html"))
    fresh = open_page(replace(SMALL, temperature=3.0))  # after a reload nothing stood there before
    assert not any(caption.value.startswith("The choice before") for caption in fresh.caption)


def test_a_failed_run_says_why_and_is_not_tried_again_by_itself() -> None:
    open_page(LIVE)
    (run,) = runs(open_store())
    write_run_file(run, "status.json", {"state": "failed", "reason": "The disk is full.", "class": "disk-full"})
    at = open_page(LIVE)
    assert not at.exception
    assert runs(open_store()) == [run]
    assert any("The disk is full" in caption.value for caption in at.caption)
    assert [button.label for button in at.button if button.label == "Resume"] == ["Resume"]
    assert "figures show" not in said(at)


def test_stop_stops_and_waits_for_another_choice() -> None:
    at = open_page(LIVE)
    at.button(key="live-stop").click().run()
    (run,) = runs(open_store())
    assert stopped(run)
    write_run_file(run, "status.json", {"state": "cancelled"})
    at.run()
    assert at.warning[0].value.startswith("Stopped")
    assert len(runs(open_store())) == 1
    assert "figures show" not in said(at)
    at.selectbox(key="w-student").select("mlp-16").run()
    assert not at.warning
    assert len(runs(open_store())) == 2


def test_it_does_not_push_in_front_of_a_run_that_was_asked_for() -> None:
    patient = submit(open_store(), replace(SMALL, temperature=7.0))
    at = open_page(LIVE)
    assert "Another run is using the machine" in at.warning[0].value
    assert len(runs(open_store())) == 1
    write_run_file(open_store().root / "runs" / patient, "status.json", {"state": "done"})
    at.run()
    assert not at.warning
    assert len(runs(open_store())) == 2
