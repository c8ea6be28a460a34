"""The sections of the page "Look inside", by the name that the URL has for them."""

from __future__ import annotations

from collections.abc import Callable

from takd.presentation.lens.classes import classes
from takd.presentation.lens.looks import land, maps
from takd.presentation.lens.loss import loss
from takd.presentation.lens.panels import agree, calibration
from takd.presentation.lens.soft import soft
from takd.presentation.study import Study
from takd.runs.store import Store

SECTIONS: dict[str, Callable[[Study, Store], None]] = {
    "soft": soft,
    "agree": agree,
    "calib": calibration,
    "classes": classes,
    "loss": loss,
    "land": land,
    "map": maps,
}


def section(name: str, shown: Study, store: Store) -> None:
    """Draw one section."""
    SECTIONS[name](shown, store)
