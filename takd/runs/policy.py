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


def require_changes_allowed() -> None:
    """The first line of everything that writes on somebody's wish. Raises RunError on a read-only server."""
    if read_only():
        raise RunError(
            "This server only shows results (TAKD_READ_ONLY is set). To try this yourself, run your own copy of the "
            "program."
        )


def _is_set(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")
