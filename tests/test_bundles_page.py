"""The Runs page: a run goes out as a file and comes in as one, what is refused says why, and what a server hides."""

from __future__ import annotations

from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from takd.presentation.runs import bundles
from takd.runs.people import Person
from takd.runs.states import list_runs, run_info
from takd.runs.store import Store, open_store
from tests.faults.made_bundles import RUN, made_store, members_of, packed, set_json

from .pages_support import open_page

PAGE = str(Path(__file__).parents[1] / "pages" / "runs.py")


@pytest.fixture(autouse=True)
def fresh_cache() -> None:
    st.cache_resource.clear()


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return made_store(tmp_path / "source")


def opened() -> AppTest:
    at = open_page(page=PAGE)
    assert not at.exception
    return at


def said(at: AppTest) -> str:
    kinds = ("markdown", "caption", "info", "error")
    return " ".join(element.value for kind in kinds for element in getattr(at, kind)).replace("\\", "")


def bring(at: AppTest, raw: bytes) -> AppTest:
    at.file_uploader(key="bundle-file").upload("run.zip", raw, "application/zip").run()
    at.button(key="bundle-import").click().run()
    assert not at.exception
    return at


def test_a_bundle_comes_in_is_marked_and_can_be_removed(source: Store) -> None:
    at = opened()
    assert at.button(key="bundle-import").disabled and not [b for b in at.download_button if "bundle" in (b.key or "")]
    bring(at, packed(members_of(source)))
    assert f"Run {RUN} is imported: 3 trainings with weights" in said(at) and "not recomputed here" in said(at)
    table = at.dataframe[0].value
    assert table["origin"].tolist() == ["◆ imported"] and table["numbers"].tolist() == ["Not verified"]
    assert at.selectbox(key="bundle-run").value == RUN and [b.key for b in at.download_button] == [f"bundle-{RUN}"]
    assert "3 trainings, about" in said(at)
    at.toggle(key=f"bundle-weights-{RUN}").set_value(False).run()
    assert "without weights" in said(at)
    at.button(key="bundle-remove").click().run()
    assert f"The imported run {RUN} is removed" in said(at) and list_runs(open_store()) == []


def test_what_is_refused_says_why_as_plain_text_and_leaves_nothing(source: Store) -> None:
    members = members_of(source)
    set_json(members, "run/experiment.json", lambda v: {**v, "spec": {**v["spec"], "dataset": "![x](//evil)"}})
    at = bring(opened(), packed(members))
    (error,) = (element.value for element in at.error)
    assert "Nothing was imported" in error and "\\!\\[x\\](//evil)" in error
    assert list_runs(open_store()) == [] and not (open_store().root / "imported").exists()


def test_a_note_of_a_stranger_is_no_markup(source: Store) -> None:
    members = members_of(source)
    set_json(members, "run/experiment.json", lambda v: {**v, "note": "<img src=x>![x](//evil)", "asked_by": "<b>"})
    at = bring(opened(), packed(members))
    assert "<img" not in said(at) and run_info(open_store(), RUN).note == "img src=x ![x](//evil)"


def test_who_may_start_nothing_sees_no_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_store(tmp_path / "store")
    monkeypatch.setattr(bundles.visitor, "person", lambda _: Person(refused="Sign in first."))
    at = opened()
    assert [button.key for button in at.download_button] == [f"bundle-{RUN}"]
    assert "bundle-import" not in [button.key for button in at.button]


def test_strangers_remove_no_imported_run_and_make_no_large_bundle(
    source: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAKD_PUBLIC", "1")
    monkeypatch.setenv("TAKD_IMPORTS", "1")
    at = bring(opened(), packed(members_of(source)))
    assert f"Run {RUN} is imported" in said(at), "a visitor of a public server may, where it takes imports"
    assert "bundle-remove" not in [button.key for button in at.button]
    assert [button.key for button in at.download_button] == [f"bundle-{RUN}"]
    monkeypatch.setattr(bundles, "MOST_DOWNLOADED", 1_000)
    at = opened()
    assert not at.download_button and f"python -m takd bundle {RUN}" in said(at)
    monkeypatch.delenv("TAKD_PUBLIC")
    assert [button.key for button in opened().download_button] == [f"bundle-{RUN}"], "on one's own machine any size"


@pytest.mark.parametrize(
    ("name", "seen", "importing"), [("TAKD_READ_ONLY", False, False), ("TAKD_PUBLIC", True, False), ("", True, True)]
)
def test_what_a_server_hides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, seen: bool, importing: bool
) -> None:
    made_store(tmp_path / "store")
    if name:
        monkeypatch.setenv(name, "1")
    at = opened()
    assert ("Runs as files" in [element.value for element in at.subheader]) is seen
    assert ([button.key for button in at.download_button] == [f"bundle-{RUN}"]) is seen
    assert ("bundle-import" in [button.key for button in at.button]) is importing
