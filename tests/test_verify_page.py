"""The Runs page: a stamp per run, the button that has a run checked, what it says while it goes on and afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from takd.data.catalogue import available_datasets
from takd.plan import build_plan
from takd.runs import jobs, verification
from takd.runs.loop import train_all
from takd.runs.stamps import Difference, StageReport, Stamp, files_of, write_stamp
from takd.runs.states import run_info
from takd.runs.store import Store
from takd.spec import ExperimentSpec, require_spec

from .pages_support import open_page
from .runs.conftest import wait_for
from .runs.test_verification import ASKED, RUN, add_run

PAGE = str(Path(__file__).parents[1] / "pages" / "runs.py")
SPEC: ExperimentSpec = require_spec(ASKED)


@pytest.fixture(autouse=True)
def fresh_cache() -> None:
    st.cache_resource.clear()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One run, really trained (a second), in the store of this test."""
    found = Store(tmp_path / "store")
    add_run(found)
    stages = build_plan(SPEC, available_datasets()["digits"]).stages
    assert train_all(found, stages, device="cpu", should_stop=lambda: False, say=print)
    return found


def opened() -> AppTest:
    at = open_page(page=PAGE)
    assert not at.exception
    return at


def said(at: AppTest) -> str:
    return " ".join(e.value for kind in ("markdown", "caption") for e in getattr(at, kind)).replace("\\", "")


def keys(at: AppTest) -> set[Any]:
    return {button.key for button in at.button}


def stamp_of(store: Store, *differences: Difference, skipped: dict[str, str] | None = None) -> Stamp:
    reports = [
        StageReport(
            key,
            f"stage {n}",
            ("test_acc",),
            skipped or {},
            differences if n == 0 else (),
            3,
            True,
            files_of(store, key),
        )
        for n, key in enumerate(run_info(store, RUN).keys)
    ]
    return Stamp(RUN, "2026-03-04T05:06:07+00:00", {"takd": "1"}, tuple(reports))


def test_the_button_has_the_run_checked_and_the_stamp_appears(store: Store) -> None:
    at = opened()
    assert "Not verified" in said(at) and at.dataframe[0].value["numbers"].tolist() == ["Not verified"]
    at.button(key=f"verify-{RUN}").click().run()
    assert not at.exception
    wait_for(lambda: (now := verification.verification(store)) is not None and not now.active, 60)
    at.run()
    assert not at.exception
    text = said(at)
    assert ": 3 stages, every number recomputed, weights re-evaluated for 3" in text
    assert at.dataframe[0].value["numbers"].tolist()[0].startswith("Verified 20")
    path = store.own_folder(run_info(store, RUN).keys[0]) / "result.json"
    path.write_text(path.read_text().replace('"seconds"', '"second"'))
    again = said(opened())
    assert "Not verified" in again and "its files have changed since" in again


def test_differences_are_listed(store: Store) -> None:
    write_stamp(store, stamp_of(store, Difference("test_acc", "0.9", "0.8"), Difference("ece", "0.1", "<b>*0.2*")))
    at = opened()
    assert "2 differences found 2026-03-04: 3 stages" in said(at)
    assert at.dataframe[0].value["numbers"].tolist() == ["2 differences"]
    table = next(frame.value for frame in at.dataframe if "found" in frame.value)
    assert table["stored"].tolist() == ["0.9", "0.1"] and table["what"].tolist() == ["test_acc", "ece"]
    assert any("2 differences" in expander.label for expander in at.expander)


def test_what_could_not_be_asked_is_said(store: Store) -> None:
    write_stamp(store, stamp_of(store, skipped={"ece": "left <b>out</b>"}))
    text = said(opened())
    assert "Partly verified 2026-03-04: 3 stages, the numbers of each only in part" in text
    assert "Not checked for 3 stages: ece (left <b>out</b>)." in text and "9 test answers" in text


def test_a_check_that_goes_on_is_shown_and_can_be_stopped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (store.root / "verified").mkdir()
    monkeypatch.setattr(jobs, "is_held", lambda _: True)
    row = {"id": "1", "what": RUN, "state": "running", "done": 1, "total": 3, "text": "mlp-8, seed 0"}
    verification.write_progress(store, row)
    at = opened()
    assert f"verify-{RUN}" not in keys(at)
    assert "mlp-8, seed 0" in said(at)
    at.button(key="verify-stop").click().run()
    assert not at.exception and (store.root / "verified" / "cancel").exists()
    verification.write_progress(store, {**row, "state": "failed", "text": "it broke"})
    at.run()
    assert f"verify-{RUN}" in keys(at) and "did not finish. it broke" in said(at)


def test_a_check_of_somebody_else_has_no_button(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (store.root / "verified").mkdir()
    monkeypatch.setattr(jobs, "is_held", lambda _: True)
    row = {"id": "1", "what": RUN, "state": "running", "done": 1, "total": 3, "owner": "f" * 16}
    verification.write_progress(store, row)
    assert "verify-stop" in keys(opened())  # the machine's own person
    monkeypatch.setenv("TAKD_PUBLIC", "1")
    assert "verify-stop" not in keys(opened())


def test_a_server_that_only_shows_has_no_button(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stamp(store, stamp_of(store))
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    at = opened()
    assert f"verify-{RUN}" not in keys(at)
    assert "Verified 2026-03-04" in said(at)


def test_a_damaged_stamp_is_no_stamp(store: Store) -> None:
    (store.root / "runs" / RUN / "verified.json").write_text(json.dumps({"schema": 1, "stages": 3}))
    assert "Not verified" in said(opened())
