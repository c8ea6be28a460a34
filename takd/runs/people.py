"""Whose a run is. A run's experiment.json names its owner by a short id that nobody can turn back into a cookie or an
account; whoever has the machine, at its command line or in an app that is only theirs, may do everything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from takd.runs.errors import RunError

_ID_DIGITS = 16
_NAME_LETTERS = 60


@dataclass(frozen=True)
class Person:
    """Who asks for something. `id` is empty for the machine's own person, `name` is shown with the runs,
    `everything`: may change runs of others too. `refused` says why this person may start or change nothing, and what
    to do about it; empty where they may."""

    id: str = ""
    name: str = ""
    everything: bool = False
    refused: str = ""

    def owns(self, experiment: Mapping[str, Any]) -> bool:
        """Whether a run, by its experiment.json, is this person's to change."""
        return self.everything or (self.id != "" and experiment.get("owner") == self.id)


MACHINE = Person(everything=True)


def person_id(kind: str, *secrets: str) -> str:
    """16 hex digits that stay the same for the same cookie or account, and say nothing about it. `kind` keeps cookies
    and accounts apart."""
    return hashlib.sha256("\0".join(("takd", kind, *secrets)).encode()).hexdigest()[:_ID_DIGITS]


def clean_name(text: str) -> str:
    """A name as it is stored: one line of at most 60 visible letters."""
    visible = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * _NAME_LETTERS])
    return " ".join(visible.split())[:_NAME_LETTERS]


def require_may_start(person: Person) -> None:
    """Raises RunError with the reason where a person may start nothing here."""
    if person.refused:
        raise RunError(person.refused)


def require_owner(person: Person, experiment: Mapping[str, Any], run_id: str) -> None:
    """Raises RunError unless the run is this person's to change."""
    require_may_start(person)
    if not person.owns(experiment):
        whose = clean_name(str(experiment.get("asked_by") or "")) or "whoever runs this server"
        raise RunError(f"Run {run_id} belongs to {whose}; only they can change it. Start the same question yourself.")
