"""Links as people copy them: the whole address, so that they open the page wherever they are pasted."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import streamlit as st

from .pages_support import open_page

ROOT = Path(__file__).parents[1]
HOST = "https://example.org/takd"


@pytest.fixture(autouse=True)
def cached_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_CACHED", str(ROOT / "cached_runs"))
    st.cache_resource.clear()


def says(monkeypatch: pytest.MonkeyPatch, url: str | None) -> None:
    """What the browser says about where it found the page; the test browser says nothing."""
    monkeypatch.setattr(type(st.context), "url", property(lambda _: url))


def test_the_link_of_the_playground_is_a_whole_address(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, HOST)
    at = open_page({"d": ["digits"]})
    found = [urlsplit(block.value) for block in at.code if block.value.startswith("https://")]
    assert found and all((part.netloc, part.path) == ("example.org", "/takd/") for part in found)
    assert parse_qs(found[0].query)["d"] == ["digits"]


def test_a_link_for_a_class_is_a_whole_address(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, f"{HOST}/learn")
    at = open_page({"step": ["3"], "lesson": ["digits-noise"]}, page=str(ROOT / "pages" / "learn.py"))
    assert at.code[0].value.startswith(f"{HOST}/learn?lesson=")


def test_the_link_of_a_figure_and_a_repaired_one_are_whole_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, HOST)
    at = open_page({"d": ["digits"], "n": ["100000"]})
    assert any("repaired link" in c.value for c in at.caption)
    before = len(at.code)
    at.session_state["export-gap"] = True
    at.run()
    assert any("Link to this page as it stands" in c.value for c in at.caption) and len(at.code) >= before
    assert not [block.value for block in at.code if block.value.startswith("?")]
    assert len([block.value for block in at.code if block.value.startswith(f"{HOST}/?")]) >= 2


def test_without_an_address_the_query_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, None)
    at = open_page({"d": ["digits"]})
    assert any(block.value.startswith("?d=digits") for block in at.code)
