"""Every page on a read-only server, on a public one, and where people sign in."""

from __future__ import annotations

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from takd.presentation import live, visitor
from takd.presentation.visitor_cookie import COOKIE, VisitorCookie, usable
from takd.runs import submit as submit_module
from takd.runs.errors import RunError
from takd.runs.people import Person, person_id
from takd.runs.states import run_ids, run_info, write_run_file
from takd.runs.store import Store, open_store
from takd.runs.submit import submit

from .pages_support import SMALL, open_page
from .runs.conftest import workers
from .runs.test_policy import make_run, tree

REPO = Path(__file__).parents[1]
PAGES = [None, *(str(REPO / "pages" / name) for name in ("methods.py", "claims.py", "runs.py"))]
RUNS = PAGES[-1]
QUESTIONS: list[dict[str, list[str]]] = [{}, {"d": ["digits"]}, {"d": ["digits"], "n": ["1"], "live": ["1"]}]
CHANGES = (
    "run",
    "Cancel-",
    "Resume-",
    "Forget-",
    "verify-",
    "queue-",
    "live-stop",
    "own-",
    "w-live",
    "sign-in",
    "claims-",
)
OTHER = Person("f" * 16, "Grace *b*")
Env = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def nobody_works(monkeypatch: Env) -> None:
    """Runs stay as they are when they were asked for."""
    st.cache_resource.clear()
    monkeypatch.setattr(submit_module, "start_worker", lambda store, run_id: None)


@pytest.fixture
def store() -> Store:
    """Runs of all kinds: waiting, stopped, lost, of this machine and of somebody else."""
    found = open_store()
    for n, (owner, state) in enumerate((o, s) for o in ("", OTHER.id) for s in ("starting", "cancelled", "queued")):
        make_run(found, f"20260101-000000-000{n}", owner, state, "Grace *b*" if owner else "")
    return found


def changers(at: AppTest) -> list[str]:
    """Keys of widgets that change something."""
    widgets = (*at.button, *at.toggle, *at.text_input, *at.get("file_uploader"))
    return [str(w.key) for w in widgets if str(w.key).startswith(CHANGES)]


def said(at: AppTest) -> str:
    kinds = ("title", "caption", "markdown", "info", "warning", "error")
    return " ".join(e.value for kind in kinds for e in getattr(at, kind)).replace("\\", "")


# Read-only


def test_pages_of_a_read_only_server_offer_no_change_and_make_none(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    monkeypatch.setenv("TAKD_CACHED", str(REPO / "cached_runs"))
    before = tree(store.root.parent)
    for page in PAGES:
        for question in QUESTIONS:
            at = open_page(question, page)
            assert not at.exception and changers(at) == [], (page, question)
            if page is None:
                assert live.SHOWS_ONLY in said(at) and "Run for real" not in said(at)
    assert tree(store.root.parent) == before and workers(store) == []


def test_a_read_only_server_needs_no_store(monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    monkeypatch.setenv("TAKD_CACHED", str(REPO / "cached_runs"))
    from takd.presentation.warm_up import warm_up

    warm_up()
    for page in PAGES:
        at = open_page({}, page)
        assert not at.exception and changers(at) == []
    assert "CI" in open_page().title[0].value  # a finding stands there
    assert not open_store().root.exists()


def test_a_read_only_page_that_was_open_before_can_change_nothing(store: Store, monkeypatch: Env) -> None:
    """The buttons of a page that was drawn when the server still took changes: a forged click is the same."""
    pages = [open_page({"d": ["digits"]}), open_page({}, RUNS)]
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    before = tree(store.root)
    for at in pages:
        for key in [button.key for button in at.button if str(button.key).startswith(CHANGES)]:
            at.button(key=key).click()
        at.run()
        assert not at.exception
    assert tree(store.root) == before


# Local


def test_alone_on_the_machine_nothing_is_different(store: Store) -> None:
    at = open_page({"d": ["digits"], "n": ["1"]})
    assert not at.exception and "You are" not in said(at) and not [w for w in at.text_input if "visitor" in str(w.key)]
    at.button(key="run").click().run()
    run = run_info(store, run_ids(store.root)[-1])
    assert (run.owner, run.asked_by) == ("", "")
    runs = open_page({}, RUNS)
    assert {"Resume-20260101-000000-0001-attention", "Resume-20260101-000000-0004-attention"} <= set(changers(runs))
    assert "Asked for by Grace *b*" in said(runs)


def test_the_queue_is_listed_in_order_and_moved(store: Store) -> None:
    at = open_page({}, RUNS)
    assert at.subheader[0].value == "Queue"
    assert not at.exception and "1. " in said(at).replace("*", "") and "1 run ahead" in said(at)
    at.button(key="queue-front-20260101-000000-0003").click().run()
    assert not at.exception
    assert [run_info(store, f"20260101-000000-000{n}").position for n in (0, 3)] == [2, 1]
    at.button(key="queue-cancel-20260101-000000-0000").click().run()
    assert run_info(store, "20260101-000000-0000").state in ("cancelling", "cancelled")


# Public


@pytest.fixture
def public(monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_PUBLIC", "1")


@pytest.mark.usefixtures("public")
def test_a_visitor_owns_what_they_start_and_nothing_else(store: Store) -> None:
    at = open_page({"d": ["digits"], "n": ["1"]})
    assert not at.exception and "You are visitor" in said(at)
    at.text_input(key="w-visitor-name").set_value("  Ada <b>\t").run()
    assert "You are Ada <b>" in said(at)
    at.button(key="run").click().run()
    assert not at.exception
    run = run_info(store, run_ids(store.root)[-1])
    assert run.asked_by == "Ada <b>" and len(run.owner) == 16
    assert [key for key in changers(at) if key.startswith("Cancel-")] == [f"Cancel-{run.id}-playground"]
    at.switch_page(str(RUNS)).run()
    assert [key for key in changers(at) if key.startswith(("Cancel-", "Resume-", "Forget-", "queue-"))] == [
        f"queue-cancel-{run.id}"
    ]
    stranger = open_page({"d": ["digits"], "n": ["1"]})  # another browser: the same question, the same run
    assert "Asked for by Ada <b>" in said(stranger)
    assert not [key for key in changers(stranger) if key.startswith("Cancel-")]
    runs = open_page({}, RUNS)
    assert "Grace *b*" in said(runs) and not [
        k for k in changers(runs) if k.startswith(("Cancel-", "Resume-", "queue-"))
    ]


@pytest.mark.usefixtures("public")
def test_limits_are_said_beforehand_and_hold(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_MAX_HOURS", "0.001")
    at = open_page(replace(SMALL, seeds=10, budget="paper"))
    assert at.button(key="run").disabled
    assert any("(TAKD_MAX_HOURS). Choose fewer seeds" in c.value.replace("\\", "") for c in at.caption)
    before = run_ids(store.root)
    with pytest.raises(RunError, match="TAKD_MAX_HOURS"):  # as a forged click would
        live.submit(store, replace(SMALL, seeds=10, budget="paper"), person=OTHER)
    assert run_ids(store.root) == before


@pytest.mark.parametrize("value", ["", "0" * 31, "0" * 33, "G" * 32, "<b>", "0" * 31 + "\n", "A" * 32])
def test_a_cookie_that_was_not_given_here_counts_as_none(value: str) -> None:
    assert not usable(value) and not usable(None) and usable("0123456789abcdef" * 2)


def given(headers: dict[str, str], **scope: Any) -> list[str]:
    """The cookies that a request to the middleware brings back."""
    return [value.decode() for name, value in answer(headers, **scope)["headers"] if name == b"set-cookie"]


def answer(headers: dict[str, str], **scope: Any) -> dict[str, Any]:
    """How the answer to a request to the middleware begins."""
    sent: list[Any] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    request = {"type": "http", "method": "GET", "scheme": "http", "headers": raw} | scope
    with ThreadPoolExecutor(1) as alone:  # where browser tests ran before, this thread has a loop already
        alone.submit(lambda: asyncio.run(VisitorCookie(page)(request, None, send))).result()  # type: ignore[arg-type]
    return dict(sent[0])


def test_a_browser_is_given_one_cookie_for_a_year(monkeypatch: Env) -> None:
    page = {"accept": "text/html,*/*"}
    assert given(page) == []  # one person: nobody is marked
    monkeypatch.setenv("TAKD_PUBLIC", "1")
    (first,), (second,) = given(page), given(page)
    value = first.split(";")[0].removeprefix(f"{COOKIE}=")
    assert usable(value) and first != second and "HttpOnly" in first and "SameSite=Lax" in first
    assert "Max-Age=31536000" in first and "Secure" not in first
    assert "Secure" in given(page, scheme="https")[0] and "Secure" in given({**page, "x-forwarded-proto": "https"})[0]
    assert given({**page, "cookie": f"a=b; {COOKIE}={value}"}) == []
    assert len(given({**page, "cookie": f"{COOKIE}=nonsense; ü=;=;"})) == 1
    assert given({"accept": "*/*"}) == [] and given(page, method="POST") == []
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    assert given(page) == []


def test_uploads_are_refused_where_no_run_is_taken_in(monkeypatch: Env) -> None:
    """Streamlit's own door for them stands open whether or not a page has a field for files."""
    upload = {"method": "PUT", "path": "/base/_stcore/upload_file/session/file"}
    assert answer({}, **upload)["status"] == 200
    monkeypatch.setenv("TAKD_PUBLIC", "1")
    assert answer({}, **upload)["status"] == 403 and answer({}, path="/_stcore/health")["status"] == 200
    monkeypatch.setenv("TAKD_IMPORTS", "1")
    assert answer({}, **upload)["status"] == 200
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    assert answer({}, **upload)["status"] == 403


# Signing in

AUTH = {
    "redirect_uri": "http://localhost/oauth2callback",
    "cookie_secret": "s" * 40,
    "client_id": "id",
    "client_secret": "secret",
    "server_metadata_url": "https://accounts.example/.well-known/openid-configuration",
}
ADA = {"is_logged_in": True, "iss": "https://accounts.example", "sub": "42", "name": "Ada *L*"}


@pytest.fixture
def authlib(monkeypatch: Env) -> None:
    """As if the package were installed."""
    module = ModuleType("authlib")
    module.__version__ = "1.6.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "authlib", module)


def as_user(user: dict[str, Any] | None, auth: dict[str, Any] = AUTH, page: str | None = None) -> AppTest:
    at = AppTest.from_file(str(REPO / "takd" / "presentation" / "frame.py"), default_timeout=60)
    at.secrets["auth"] = auth
    at.user = user or {"is_logged_in": False}
    at.query_params["d"], at.query_params["n"] = "digits", "1"
    at.run()
    return at.switch_page(page).run() if page else at


@pytest.mark.usefixtures("authlib")
def test_looking_needs_no_sign_in_and_starting_does(store: Store) -> None:
    at = as_user(None)
    assert not at.exception and "Looking needs no sign-in" in said(at)
    assert at.button(key="sign-in-").label == "Sign in"
    assert at.button(key="run").disabled and visitor.SIGN_IN_FIRST in said(at)
    before = run_ids(store.root)
    runs = as_user(None, page=RUNS)
    assert not runs.exception and changers(runs) == ["sign-in-"]
    live_link = AppTest.from_file(str(REPO / "takd" / "presentation" / "frame.py"), default_timeout=60)
    live_link.secrets["auth"], live_link.user = AUTH, {"is_logged_in": False}
    for name, value in (("d", "digits"), ("n", "1"), ("live", "1")):
        live_link.query_params[name] = value
    live_link.run()
    assert not live_link.exception and run_ids(store.root) == before


@pytest.mark.usefixtures("authlib")
def test_who_signed_in_owns_their_runs(store: Store) -> None:
    at = as_user(ADA)
    assert not at.exception and "Signed in as Ada *L*" in said(at) and at.button(key="sign-out")
    at.button(key="run").click().run()
    run = run_info(store, run_ids(store.root)[-1])
    assert (run.owner, run.asked_by) == (person_id("account", ADA["iss"], ADA["sub"]), "Ada *L*")
    assert f"Cancel-{run.id}-playground" in changers(as_user(ADA))
    assert f"Cancel-{run.id}-playground" not in changers(as_user({**ADA, "sub": "43"}))
    assert f"Cancel-{run.id}-playground" not in changers(as_user({**ADA, "iss": "https://elsewhere.example"}))


@pytest.mark.usefixtures("authlib")
@pytest.mark.parametrize("user", [None, ADA])
def test_where_people_sign_in_nobody_names_files_of_the_server(store: Store, user: dict[str, Any] | None) -> None:
    at = as_user(user)
    assert not at.exception and not [widget for widget in at.text_input if widget.key == "own-path"]
    assert not [key for key in changers(at) if key.startswith("own-")]


@pytest.mark.usefixtures("authlib")
def test_several_providers_are_offered(store: Store) -> None:
    row = {name: AUTH[name] for name in ("client_id", "client_secret", "server_metadata_url")}
    both = {"redirect_uri": AUTH["redirect_uri"], "cookie_secret": "s" * 40, "google": row, "my*idp": row}
    at = as_user(None, both)
    assert [b.label for b in at.button if str(b.key).startswith("sign-in")] == [
        "Sign in with google",
        "Sign in with my\\*idp",
    ]


@pytest.mark.parametrize("missing", ["redirect_uri", "cookie_secret", "client_id", "everything"])
@pytest.mark.usefixtures("authlib")
def test_a_half_made_sign_in_is_said_and_opens_nothing(store: Store, missing: str) -> None:
    auth = {} if missing == "everything" else {k: v for k, v in AUTH.items() if k != missing}
    for page in (None, RUNS):
        at = as_user(ADA, auth, page)
        assert not at.exception and "Nobody can sign in" in said(at)
    assert as_user(ADA, auth).button(key="run").disabled


def test_a_missing_package_is_said(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setitem(sys.modules, "authlib", None)
    at = as_user(None)
    assert not at.exception and "needs the package Authlib" in said(at) and "pip install" in said(at)
    assert at.button(key="run").disabled


def test_broken_secrets_are_said(store: Store, monkeypatch: Env, tmp_path: Path) -> None:
    file = tmp_path / "secrets.toml"
    file.write_text("[auth\nclient_id = ")
    monkeypatch.setattr(visitor.st, "get_option", lambda name: [str(file)])
    at = open_page({"d": ["digits"], "n": ["1"]})
    assert not at.exception and "secrets.toml cannot be read" in said(at)
    assert at.button(key="run").disabled


# Many hours


def test_a_run_of_hours_is_asked_about_once(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setattr(live, "LONG_SECONDS", 1.0)
    before = run_ids(store.root)
    at = open_page(SMALL)
    at.button(key="run").click().run()
    assert not at.exception and run_ids(store.root) == before
    assert "you can stop it at any time" in said(at)
    assert at.button(key="run-confirmed").label == "Start it"  # pressed in a browser; see tests/browser
    cifar = open_page({"b": ["paper"]})  # its images are not here, so its time comes from the table
    cifar.button(key="run").click().run()
    assert not cifar.exception and "you can stop it at any time" in said(cifar) and run_ids(store.root) == before


def test_the_store_keeps_no_cookie(store: Store, monkeypatch: Env) -> None:
    secret = "0123456789abcdef" * 2
    run_id = submit(store, SMALL, person=Person(person_id("cookie", secret), "visitor"))
    row = json.loads((store.root / "runs" / run_id / "experiment.json").read_text())
    assert secret not in json.dumps(row) and row["owner"] == person_id("cookie", secret)
    write_run_file(store.root / "runs" / run_id, "status.json", {"state": "cancelled"})
    for forged in (Person(row["owner"][:8], ""), Person(secret, "visitor"), Person(row["owner"].upper(), "")):
        with pytest.raises(RunError, match="belongs to"):
            submit_module.delete(store, run_id, forged)
