"""What a server lets people do. Whoever starts it says so in the environment; no page and no URL can change it.

Limits hold where a run is asked for (takd.runs.limits), not in a widget. A value that cannot be read counts as the
careful one, and `problems` says so.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from takd.runs.errors import RunError

READ_ONLY, PUBLIC = "TAKD_READ_ONLY", "TAKD_PUBLIC"
MAX_WAITING, MAX_PER_PERSON = "TAKD_MAX_WAITING", "TAKD_MAX_PER_PERSON"
MAX_HOURS, MAX_STORE_GB = "TAKD_MAX_HOURS", "TAKD_MAX_STORE_GB"
# (usually, on a public server); 0 means without a limit
_DEFAULTS: dict[str, tuple[float, float]] = {
    MAX_WAITING: (50, 50),
    MAX_PER_PERSON: (0, 3),
    MAX_HOURS: (0, 2),
    MAX_STORE_GB: (0, 5),
}
_WHOLE = (MAX_WAITING, MAX_PER_PERSON)
_MOST = 1e6
_YES, _NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
LONG_SECONDS = 3600.0  # a run that takes at least this long is started after a question


@dataclass(frozen=True)
class Limits:
    """What one server takes; 0 is without a limit. `waiting` counts the runs of all people, `per_person` those of one
    that wait or train, `hours` is the estimated time of one run, `store_gb` what the store may hold."""

    waiting: int
    per_person: int
    hours: float
    store_gb: float


def read_only() -> bool:
    """Whether this server only shows results (TAKD_READ_ONLY): nothing is started, changed, brought in or deleted."""
    return _is_set(READ_ONLY)


def public() -> bool:
    """Whether strangers use this server (TAKD_PUBLIC): they name no files of it, and each owns the runs they start."""
    return _is_set(PUBLIC)


def limits() -> Limits:
    """The limits in force."""
    values = {name: _number(name) for name in _DEFAULTS}
    return Limits(int(values[MAX_WAITING]), int(values[MAX_PER_PERSON]), values[MAX_HOURS], values[MAX_STORE_GB])


def problems() -> tuple[str, ...]:
    """A sentence for each variable whose value cannot be read, with what counts instead."""
    found = []
    for name, what in ((READ_ONLY, "nothing can be changed"), (PUBLIC, "the server counts as public")):
        if _raw(name).lower() not in (*_YES, *_NO):
            found.append(f"{name}={_quoted(name)} is neither 1 nor 0, so {what}. Set it to 1 or 0.")
    for name in _DEFAULTS:
        if _raw(name) and _parsed(name) is None:
            kind = "a whole number" if name in _WHOLE else "a number"
            found.append(
                f"{name}={_quoted(name)} is not {kind} from 0 to {_MOST:,.0f}, so {_careful(name):g} counts. "
                "Correct it or leave it out."
            )
    return tuple(found)


def require_changes_allowed() -> None:
    """The first line of everything that writes on somebody's wish. Raises RunError on a read-only server."""
    if read_only():
        raise RunError(
            "This server only shows results (TAKD_READ_ONLY is set). To try this yourself, run your own copy of the "
            "program."
        )


def _raw(name: str) -> str:
    return os.environ.get(name, "").strip()


def _quoted(name: str) -> str:
    return repr(_raw(name)[:40])


def _is_set(name: str) -> bool:
    return _raw(name).lower() not in _NO  # what cannot be read counts as set: the careful side


def _number(name: str) -> float:
    if not _raw(name):
        return _DEFAULTS[name][public()]
    value = _parsed(name)
    return _careful(name) if value is None else value


def _careful(name: str) -> float:
    """What counts where somebody meant to set a limit and cannot be understood: that of a public server."""
    return _DEFAULTS[name][True]


def _parsed(name: str) -> float | None:
    try:
        value = float(_raw(name)) if _raw(name).isascii() else math.nan
    except ValueError:
        return None
    usable = 0 <= value <= _MOST and (name not in _WHOLE or value == int(value))
    return value if usable else None
