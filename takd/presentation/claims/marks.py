"""How a status is drawn: a shape, a colour, a sign for text and an icon. Colours of methods are not used for it, and no
figure here shows arms."""

from __future__ import annotations

from dataclasses import dataclass

from takd.analysis.claims import NO_DIFFERENCE, Finding


@dataclass(frozen=True)
class Mark:
    """`word` says the status in a legend, `shape` is Vega's, `size` its area in pixels."""

    word: str
    shape: str
    sign: str
    icon: str
    light: str
    dark: str
    size: int = 130


MARKS: dict[str, Mark] = {
    "supported": Mark("supported", "triangle-up", "▲", ":material/check_circle:", "#00805e", "#2fc79a"),
    "reversed": Mark("refuted: the opposite", "triangle-down", "▼", ":material/cancel:", "#d55e00", "#f0803c"),
    "nothing": Mark("refuted: no difference", "square", "■", ":material/drag_handle:", "#7a4fa3", "#b79be0", 110),
    "undecided": Mark("undecided", "circle", "●", ":material/help:", "#5f6b7c", "#a9b2c1", 105),
    "not run": Mark("not run", "stroke", "–", ":material/hourglass_empty:", "#8a94a6", "#7d8797", 70),
}


def mark_name(status: str, why: str = "") -> str:
    """The row of MARKS of a status and the reason the board gives for it."""
    if status == "refuted":
        return "nothing" if why == NO_DIFFERENCE else "reversed"
    return status


def mark_of(finding: Finding) -> Mark:
    return MARKS[mark_name(finding.status, finding.why)]


def colour(name: str, dark: bool) -> str:
    """The colour of a mark on a page's background."""
    return MARKS[name].dark if dark else MARKS[name].light
