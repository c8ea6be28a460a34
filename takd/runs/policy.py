"""What a server lets people do. Whoever starts it says so in the environment; no page and no URL can change it."""

from __future__ import annotations

import os

from takd.runs.errors import RunError


def read_only() -> bool:
    """Whether this server only shows results (TAKD_READ_ONLY): nothing is started, changed, brought in or deleted."""
    return _is_set("TAKD_READ_ONLY")


def public() -> bool:
    """Whether strangers use this server (TAKD_PUBLIC): they name no files of it."""
    return _is_set("TAKD_PUBLIC")


def may_import() -> bool:
    """Whether people may bring runs along. Not on a public server, whose disk strangers could fill, unless whoever
    started it says so (TAKD_IMPORTS=1)."""
    return not read_only() and (not public() or _is_set("TAKD_IMPORTS"))


def import_quota() -> int:
    """How many bytes all imported runs may take together (TAKD_IMPORTS_MB, default 2,000)."""
    text = os.environ.get("TAKD_IMPORTS_MB", "")
    return int(text) * 1_000_000 if text.isascii() and text.isdigit() and len(text) < 10 else 2_000_000_000


def require_changes_allowed() -> None:
    """The first line of everything that writes on somebody's wish. Raises RunError on a read-only server."""
    if read_only():
        raise RunError(
            "This server only shows results (TAKD_READ_ONLY is set). To try this yourself, run your own copy of the "
            "program."
        )


def require_imports_allowed() -> None:
    """The first line of everything that takes in what somebody brings. Raises RunError where that is turned off."""
    require_changes_allowed()
    if not may_import():
        raise RunError(
            "This server takes no runs from outside (TAKD_PUBLIC is set). To open a bundle, run your own copy of the "
            "program."
        )


def _is_set(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")
