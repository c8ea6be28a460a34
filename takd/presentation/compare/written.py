"""How the table of the Compare page is written: numbers as in sentences, nothing where nobody has one."""

from __future__ import annotations

from typing import Any

import pandas as pd

from takd.presentation.formats import points

_FORMATS: dict[str, Any] = {
    **dict.fromkeys(("test %", "± 95 %", "validation %"), "{:.2f}"),
    **dict.fromkeys(("difference", "low", "high"), lambda value: points(value / 100)),
    **dict.fromkeys(("p", "p (Holm)"), "{:.4f}"),
    "seconds per seed": "{:.1f}",
    "student's parameters": "{:,}",
}


def as_shown(frame: pd.DataFrame) -> Any:
    """The table of compare.panels.numbers for the page, without columns in which nothing stands. Its numbers stay
    numbers, for sorting."""
    kept = frame.dropna(axis="columns", how="all")
    return kept.style.format({name: form for name, form in _FORMATS.items() if name in kept})
