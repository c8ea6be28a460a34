"""Which engine trains a stage, by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Engine:
    """How a stage was trained: `name` is filled in, `note` hears why a faster way was given up."""

    note: Callable[[str], None] = lambda _: None
    name: str = "loop"


def reference_mode() -> bool:
    """Whether $TAKD_ENGINE asks for the plain fp32 loop with a live teacher, which every faster way is held to."""
    return os.environ.get("TAKD_ENGINE") == "reference"
