"""Why a stage could not be trained: `failed.json` in its folder, until somebody tries again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from takd.runs import files
from takd.runs.layout import ATTEMPTS
from takd.runs.store import Store
from takd.stage import canonical_json

_FILE = "failed.json"


@dataclass(frozen=True)
class Failure:
    """`cause_class` is one word for programs, `why` a sentence with the next action, `when` UTC in ISO form, `log` the
    last lines of the run's log where they may tell more."""

    cause_class: str
    why: str
    when: str
    log: str = ""


def failure(store: Store, key: str) -> Failure | None:
    """The recorded failure of a stage, or None."""
    row = store.remember(store.own_folder(key) / _FILE, files.parse_object)
    if row is None:
        return None
    return Failure(*(str(row.get(name, "")) for name in ("class", "why", "when", "log")))


def record_failure(store: Store, key: str, cause_class: str, why: str, log: str = "") -> None:
    """Leave the reason in the stage's folder (its lock must be held)."""
    row = {"class": cause_class, "why": why, "when": utc_now(), **({"log": log} if log else {})}
    files.write_atomic(store.own_folder(key) / _FILE, canonical_json(row))


def clear_failure(store: Store, key: str) -> None:
    """Let the stage be tried again; after a crash loop, as often as the first time."""
    folder = store.own_folder(key)
    if failure(store, key) is not None:
        (folder / ATTEMPTS).unlink(missing_ok=True)
    (folder / _FILE).unlink(missing_ok=True)


def utc_now() -> str:
    """Now, UTC, ISO form to the second, as stored in every file."""
    return datetime.now(UTC).isoformat(timespec="seconds")
