"""Colours, shapes and sizes: one fixed mapping from meaning to mark, in light and dark. Imports no streamlit.

Colour says how a network was taught (the arm); shape and stroke say its role. Domains and ranges are fixed, so a
subset of arms keeps its colours on a page, in an export and on a slide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from takd.presentation import vega

FONT = "Source Sans, sans-serif"  # the first is the app's own face; exports fall back to the second

ARM_LABELS = {
    "scratch": "alone",
    "kd": "direct KD",
    "takd": "TA chain",
    "dgkd": "DGKD",
    "dih": "DIH",
    "ensemble": "ensemble",
    "joint": "joint training",
    "ipkd": "in-place KD",
    "ipkd-ta": "in-place TA chain",
    "dml": "mutual learning",
    "rco": "teacher's route",
    "early-teacher": "early-stopped teacher",
    "rival": "rival loss",
    "kd-long": "whole-budget KD",
    "eskd": "ESKD",
    "akd": "AKD",
    "dkd": "DKD",
    "ls": "LS",
    "ats": "ATS",
}

# Joint training and in-place KD borrow the colours of DIH and direct KD: no figure has both.
# Okabe-Ito; its orange and sky blue reach only 2.3:1 on white and are darkened here.
ARM_COLORS = {
    "scratch": "#7f7f7f",
    "kd": "#0072b2",
    "takd": "#d55e00",
    "dgkd": "#cc79a7",
    "dih": "#009e73",
    "joint": "#009e73",
    "ipkd": "#0072b2",
    "ipkd-ta": "#b87a00",
    "rival": "#3a94cc",
}

ARM_COLORS_DARK = {
    "scratch": "#a6a6a6",
    "kd": "#4ba3e3",
    "takd": "#f0803c",
    "dgkd": "#e39ac5",
    "dih": "#2fc79a",
    "joint": "#2fc79a",
    "ipkd": "#4ba3e3",
    "ipkd-ta": "#f2b84b",
    "rival": "#9ad7ff",
}


@dataclass(frozen=True)
class Palette:
    """The neutral colours of one background."""

    background: str
    text: str
    muted: str
    faint: str
    grid: str
    zone: str


LIGHT = Palette("#ffffff", "#1c2430", "#566072", "#8a94a6", "#e6e9ef", "#eceff4")
DARK = Palette("#0e1117", "#e8ebf1", "#a9b2c1", "#7d8797", "#252b37", "#1f2531")


@dataclass(frozen=True)
class Stroke:
    """How a role's line is drawn: width in pixels and dash pattern (empty: solid)."""

    width: float
    dash: tuple[int, ...]


ROLE_LABELS = {"teacher": "Teacher", "assistant": "Assistant", "peer": "Peer", "student": "Student"}
ROLE_SHAPES = {"teacher": "square", "assistant": "diamond", "peer": "circle", "student": "circle"}
ROLE_STROKES = {
    "teacher": Stroke(1.5, ()),
    "assistant": Stroke(2, (6, 4)),
    "peer": Stroke(1.5, ()),
    "student": Stroke(3, ()),
}


def palette(dark: bool = False) -> Palette:
    """The neutral colours for a background."""
    return DARK if dark else LIGHT


def arm_color(method: str, dark: bool = False) -> str:
    """The colour of a mark; a method without its own colour is drawn as a rival."""
    return (ARM_COLORS_DARK if dark else ARM_COLORS)[color_name(method)]


def color_name(arm: str) -> str:
    """The name in the colour scale of an arm or a method: its method's own, else `rival`."""
    name = arm.split(" ")[0].partition("[")[0]
    return name if name in ARM_COLORS else "rival"


def text_color(method: str, dark: bool = False) -> str:
    """The arm's colour moved towards the text colour until small text in it is readable, tinted box or not."""
    color, ground = arm_color(method, dark), palette(dark)
    for _ in range(20):
        if contrast(color, ground.background) >= 5.0:
            break
        color = _mix(color, ground.text, 0.1)
    return color


def scale_color(dark: bool = False) -> vega.Part:
    """The colour scale over methods, the same whichever of them are present."""
    colors = ARM_COLORS_DARK if dark else ARM_COLORS
    return vega.part(domain=list(colors), range=list(colors.values()))


def contrast(one: str, other: str) -> float:
    """WCAG contrast ratio of two #rrggbb colours, from 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def configure(chart: vega.Chart, dark: bool = False, **settings: Any) -> vega.Chart:
    """The finishing touch of every chart: transparent ground, readable text, faint grid, and its own `settings`
    (height, resolve, title).

    It is as wide as its place and, with `fit-x`, exactly as tall as it asked for. Show it with `theme=None`, else
    Streamlit lays its own colours on top.
    """
    ground = palette(dark)
    settings |= {
        "width": "container",
        "background": "transparent",
        "autosize": vega.part(type="fit-x", contains="padding"),
        "padding": {"left": 4, "top": 4, "right": 4, "bottom": 4},
        "config": vega.part(
            font=FONT,
            view=vega.part(stroke=None),
            axis=vega.part(
                labelColor=ground.muted,
                titleColor=ground.muted,
                labelFontSize=12,
                titleFontSize=12,
                titleFontWeight="normal",
                titlePadding=8,
                labelPadding=5,
                gridColor=ground.grid,
                domainColor=ground.faint,
                tickColor=ground.faint,
                domain=False,
                ticks=False,
            ),
            text=vega.part(fontSize=12, color=ground.text),
        ),
    }
    return chart.settings(**settings)


def _mix(color: str, other: str, share: float) -> str:
    """`color` with a share of `other` mixed in."""
    pairs = zip(_channels(color), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def _channels(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def _luminance(color: str) -> float:
    shares = (c / 255 for c in _channels(color))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
