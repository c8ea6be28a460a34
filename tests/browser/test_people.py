"""Two browsers on one public server: two people."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from takd.presentation.visitor_cookie import COOKIE
from takd.runs.errors import RunError
from takd.runs.people import Person, person_id
from takd.runs.states import run_ids, run_info
from takd.runs.store import Store
from takd.runs.submit import cancel
from tests.runs.test_policy import make_run

from .conftest import REPO, Server, settled

QUESTION = "d=digits&t=mlp-64&ta=mlp-16&s=mlp-8&scope=chain&n=20"


@pytest.fixture
def public_server(tmp_path: Path) -> Iterator[Server]:
    """Slow enough to be watched by two."""
    settings = {"TAKD_ENGINE": "reference", "TAKD_PUBLIC": "1"}
    server = Server(tmp_path / "store", tmp_path / "data", REPO / "cached_runs", **settings).start()
    yield server
    server.interrupt()


def cookie_of(page: Any) -> dict[str, Any]:
    (found,) = [cookie for cookie in page.context.cookies() if cookie["name"] == COOKIE]
    return dict(found)


def opened(page: Any, url: str) -> Any:
    page.goto(url)
    settled(page)
    return page


def test_one_starts_and_the_other_looks_on(public_server: Server, visitor: Any) -> None:
    server = public_server
    ada, ben = visitor(), visitor()
    opened(ada, f"{server.url}/?{QUESTION}")
    opened(ben, f"{server.url}/?{QUESTION}")
    first, second = cookie_of(ada), cookie_of(ben)
    assert first["value"] != second["value"] and first["httpOnly"] and first["sameSite"] == "Lax"
    assert ada.evaluate("document.cookie").find(COOKIE) == -1

    ada.get_by_role("button", name="Your name").click()
    ada.get_by_label("Your name, shown with your runs").fill("Ada <b>")
    ada.keyboard.press("Enter")
    ada.get_by_text("You are Ada <b>").wait_for()
    ada.keyboard.press("Escape")
    ada.get_by_role("button", name="Run for real").click()
    ada.get_by_role("button", name="Cancel").wait_for()

    opened(ben, f"{server.url}/?{QUESTION}")
    ben.get_by_text("Asked for by Ada <b>").wait_for()
    assert ben.get_by_role("button", name="Cancel").count() == 0
    opened(ben, f"{server.url}/runs")
    ben.get_by_text("Asked for by Ada <b>").wait_for()
    assert ben.get_by_role("button", name="Cancel").count() == 0

    store = Store(server.store)
    (run_id,) = run_ids(store.root)
    text = (store.root / "runs" / run_id / "experiment.json").read_text()
    assert first["value"] not in text and json.loads(text)["owner"] == person_id("cookie", first["value"])
    with pytest.raises(RunError, match="belongs to Ada <b>"):  # what a forged click comes to
        cancel(store, run_id, Person(person_id("cookie", second["value"]), "Ben"))
    assert run_info(store, run_id).look.active

    ada.reload()  # the same person, by cookie and by name
    settled(ada)
    ada.get_by_text("You are Ada <b>").wait_for()
    ada.get_by_role("button", name="Cancel").click()
    ada.get_by_role("button", name="Resume").wait_for()
    assert cookie_of(ada)["value"] == first["value"]
    assert ada.errors == ben.errors == []


def test_a_name_is_no_link(public_server: Server, visitor: Any) -> None:
    """The browser makes links of addresses by itself."""
    names = ("www.evil.example/login", "https://evil.example/x", "Www.evil.example WWW.evil.example", "a@evil.example")
    for number, name in enumerate(names):
        make_run(Store(public_server.store), f"20260101-000000-000{number}", "f" * 16, "cancelled", name)
    page = opened(visitor(), f"{public_server.url}/runs")
    asked = page.get_by_text("Asked for by")
    asked.nth(len(names) - 1).wait_for()
    shown = {text.removeprefix("Asked for by ").replace("\N{WORD JOINER}", "") for text in asked.all_inner_texts()}
    assert shown == set(names)
    assert page.locator("a[href*=evil i]").count() == 0 and page.errors == []


def test_a_public_server_takes_no_upload(public_server: Server) -> None:
    url = f"{public_server.url}/_stcore/upload_file/session/file"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, b"x", method="PUT"), timeout=30)
    assert refused.value.code == 403


def test_a_run_of_hours_is_asked_about(server: Server, visitor: Any) -> None:
    page = opened(visitor(), f"{server.url}/?b=paper&n=10")
    page.get_by_role("button", name="Run for real").click()
    page.get_by_text("you can stop it at any time").wait_for()
    page.get_by_role("button", name="Not now").click()
    page.get_by_text("you can stop it at any time").wait_for(state="detached")
    assert run_ids(server.store) == []
    settled(page)
    page.get_by_role("button", name="Run for real").click()
    page.get_by_role("button", name="Start it").click()
    page.locator("[role=dialog]").wait_for(state="detached")
    settled(page)
    # Its images cannot be had here, so it may have ended before anybody could stop it.
    page.get_by_role("button", name=re.compile("Cancel|Resume")).first.wait_for()
    assert len(run_ids(server.store)) == 1


def test_a_read_only_server_leaves_nothing_behind(tmp_path: Path, visitor: Any) -> None:
    store = tmp_path / "store"
    server = Server(store, tmp_path / "data", REPO / "cached_runs", TAKD_READ_ONLY="1").start()
    try:
        page = visitor()
        for path in ("/", "/?d=digits&live=1", "/methods", "/runs"):
            opened(page, server.url + path)
            page.locator("h1").wait_for()
            assert page.locator("[data-testid=stException]").count() == 0
            for name in ("Run for real", "Cancel", "Resume", "Verify", "Live"):
                assert page.get_by_role("button", name=name).count() == 0
        assert page.context.cookies() == [] or COOKIE not in {c["name"] for c in page.context.cookies()}
        assert page.errors == []
    finally:
        server.interrupt()
    assert not store.exists()
