"""The cookie by which a public server knows a browser again. It says nothing but a random number, scripts in the page
cannot read it, and it is never stored: runs carry a sum of it (takd.runs.people). Beside it, where no runs are taken
in, the door for uploads is shut."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from takd.runs.policy import may_import, public, read_only

COOKIE = "takd-visitor"
_VALUE = re.compile(r"[0-9a-f]{32}")
_SECONDS = 365 * 86_400
_UPLOADS = "/_stcore/upload_file"  # Streamlit's, below whatever path the server has

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class VisitorCookie:
    """ASGI middleware: whoever opens a page of a public server without the cookie is given one. Uploads are refused
    where no page has a use for them: Streamlit takes them from anybody, into memory, whether or not a field is drawn.
    """

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _UPLOADS in scope.get("path", "") and not may_import():
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"This server takes no files."})
            return
        if not _is_new(scope):
            await self.app(scope, receive, send)
            return
        header = (b"set-cookie", new_cookie(secure=_is_secure(scope)).encode("ascii"))

        async def send_with_cookie(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        await self.app(scope, receive, send_with_cookie)


def usable(value: str | None) -> bool:
    """Whether this is a cookie as it is given here; anything else counts as none."""
    return value is not None and _VALUE.fullmatch(value) is not None


def new_cookie(*, secure: bool) -> str:
    """A Set-Cookie header with 128 random bits, for a year."""
    kept = f"{COOKIE}={secrets.token_hex(16)}; Max-Age={_SECONDS}; Path=/; HttpOnly; SameSite=Lax"
    return f"{kept}; Secure" if secure else kept


def _is_new(scope: Scope) -> bool:
    """Whether this asks for a page (only a page: a browser asks for a dozen files at once, and each would bring another
    cookie) and comes without the cookie."""
    if scope["type"] != "http" or scope.get("method") != "GET" or not public() or read_only():
        return False
    return "text/html" in _header(scope, b"accept") and not usable(_cookie(_header(scope, b"cookie")))


def _cookie(header: str) -> str | None:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def _is_secure(scope: Scope) -> bool:
    return scope.get("scheme") == "https" or _header(scope, b"x-forwarded-proto").split(",")[0].strip() == "https"


def _header(scope: Scope, name: bytes) -> str:
    values = [value for key, value in scope.get("headers", ()) if key == name]
    return b"; ".join(values).decode("latin-1")
