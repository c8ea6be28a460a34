"""Who looks at the page: the machine's own person, a browser of a public server, or whoever has signed in.

Signing in is Streamlit's own (`[auth]` in secrets.toml). What cannot work, because a package or a line is missing, is
said in a sentence, and then nobody may start anything: a server that was meant for some people is not open to all.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.errors import Error

from takd.presentation import ui
from takd.presentation.visitor_cookie import COOKIE, usable
from takd.runs.people import MACHINE, Person, clean_name, person_id
from takd.runs.policy import public, read_only
from takd.runs.states import read_run_file, run_ids
from takd.runs.store import Store

SIGN_IN_FIRST = "Sign in at the top of the page to start or change a training; looking needs none."
_NAME, _ANONYMOUS = "visitor-name", "visitor-anonymous"
_LOOKED = 50  # newest runs that are searched for the name this visitor used before
_SETTINGS = ("client_id", "client_secret", "server_metadata_url")
_PACKAGE = 'Install it with: python -m pip install "streamlit[auth]"'


@dataclass(frozen=True)
class SignIn:
    """How people sign in here. `wanted`: the server is set up for it; `problem` says why it does not work; `providers`
    are the names to choose from, an empty one where there is only one."""

    wanted: bool = False
    problem: str = ""
    providers: tuple[str, ...] = ()


def sign_in() -> SignIn:
    """What the secrets say. Never raises."""
    try:
        if not st.secrets.load_if_toml_exists():
            broken = [path for path in st.get_option("secrets.files") if os.path.exists(path)]
            file = os.path.basename(broken[0]) if broken else ""
            return SignIn(True, f"{file} cannot be read, so nobody can sign in. Correct it.") if broken else SignIn()
        section = st.secrets.get("auth")
    except (Error, OSError, ValueError, TypeError) as error:
        return SignIn(
            True, f"The secrets cannot be read ({type(error).__name__}), so nobody can sign in. Correct them."
        )
    if section is None:
        return SignIn()
    return _judged(section) if isinstance(section, Mapping) else SignIn(True, _lacks("a table [auth]"))


def _judged(section: Mapping[str, Any]) -> SignIn:
    named = {str(name): row for name, row in section.items() if isinstance(row, Mapping) and name != "client_kwargs"}
    rows = named or {"": section}
    missing = [name for name in ("redirect_uri", "cookie_secret") if not section.get(name)]
    missing += [f"{name} {field}".strip() for name, row in rows.items() for field in _SETTINGS if not row.get(field)]
    if missing:
        return SignIn(True, _lacks(", ".join(missing)))
    if not _has_authlib():
        return SignIn(True, f"Signing in needs the package Authlib, which is not installed. {_PACKAGE}")
    return SignIn(True, "", tuple(rows))


def _lacks(what: str) -> str:
    return f"Nobody can sign in: secrets.toml lacks {what}. Add it and start the app again."


def _has_authlib() -> bool:
    from streamlit.auth_util import is_authlib_installed

    return is_authlib_installed()


def person(store: Store) -> Person:
    """Who this session is, with the rights that takd.runs checks."""
    if read_only():
        return Person()
    asked = sign_in()
    if asked.wanted:
        return _signed_in(asked)
    if not public():
        return MACHINE
    identity = person_id("cookie", _secret())
    return Person(identity, _name(store, identity))


def _signed_in(asked: SignIn) -> Person:
    if asked.problem:
        return Person(refused=asked.problem)
    user = st.user.to_dict()
    issuer, subject = user.get("iss"), user.get("sub")
    if user.get("is_logged_in") is not True or not issuer or not subject:
        return Person(refused=SIGN_IN_FIRST)
    identity = person_id("account", str(issuer), str(subject))
    name = next((str(user[key]) for key in ("name", "preferred_username", "email") if user.get(key)), "")
    return Person(identity, clean_name(name) or _unnamed(identity))


def _secret() -> str:
    """The browser's cookie; without one, a number that lives as long as the session."""
    cookie = st.context.cookies.get(COOKIE)
    if isinstance(cookie, str) and usable(cookie):
        return cookie
    return str(st.session_state.setdefault(_ANONYMOUS, secrets.token_hex(16)))


def _name(store: Store, identity: str) -> str:
    """What this visitor called themselves, now or with their newest run."""
    state = st.session_state
    if _NAME not in state:
        rows = (read_run_file(store, store.root / "runs" / name, "experiment.json") for name in _newest(store))
        before = next((str(row.get("asked_by") or "") for row in rows if row.get("owner") == identity), "")
        state[_NAME] = "" if before == _unnamed(identity) else before
    return clean_name(str(state[_NAME])) or _unnamed(identity)


def _newest(store: Store) -> list[str]:
    return list(reversed(run_ids(store.root)[-_LOOKED:]))


def _unnamed(identity: str) -> str:
    return f"visitor {identity[:4]}"


def line(store: Store) -> None:
    """Who one is, at the top of the page; nothing where there is only one person."""
    if read_only():
        return
    asked = sign_in()
    if asked.wanted:
        _sign_in_line(asked, person(store))
    elif public():
        _name_line(person(store))


def _sign_in_line(asked: SignIn, who: Person) -> None:
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center", key="visitor"):
        if asked.problem:
            st.caption(f":material/warning: {ui.plain(asked.problem)}", width="content")
        elif who.id:
            st.caption(f"Signed in as {ui.plain(who.name)}", width="content")
            st.button("Sign out", key="sign-out", type="tertiary", on_click=st.logout)
        else:
            st.caption("Looking needs no sign-in; training does.", width="content")
            for name in asked.providers:
                label = f"Sign in with {ui.plain(name)}" if name else "Sign in"
                if st.button(label, key=f"sign-in-{name}", icon=":material/login:"):
                    _begin(name)


def _begin(provider: str) -> None:
    try:
        st.login(provider or None)
    except Error as error:
        st.error(ui.plain(f"Signing in does not work: {' '.join(str(error).split())[:300]}"))


def _name_line(who: Person) -> None:
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center", key="visitor"):
        st.caption(f"You are {ui.plain(who.name)}", width="content")
        with st.popover("Your name", type="tertiary"):
            st.text_input(
                "Your name, shown with your runs",
                value=clean_name(str(st.session_state.get(_NAME, ""))),
                key="w-visitor-name",
                max_chars=60,
                placeholder=who.name,
                on_change=_renamed,
            )
            st.caption("Optional. Everybody who opens this page can read it.")


def _renamed() -> None:
    st.session_state[_NAME] = clean_name(str(st.session_state["w-visitor-name"]))
