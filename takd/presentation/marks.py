"""Pieces that several charts share: scales that fit, labels that keep apart, words instead of an empty frame."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from takd.presentation import vega
from takd.presentation.captions import METRICS
from takd.presentation.theme import arm_color, configure, palette, text_color

_LEGEND = 318.0  # pixels a legend may take: what a chart has on a narrow phone


def message_chart(text: str, dark: bool = False, height: int = 120) -> vega.Chart:
    """What stands where there is nothing to draw yet."""
    mark = vega.Chart(pd.DataFrame({"text": [text]})).mark("text", fontSize=14, color=palette(dark).muted)
    return configure(vega.layer(mark.encode(text="text:N")), dark, height=height)


def heading(text: str, y: float, dark: bool) -> vega.Chart:
    """A panel's title at a fixed height of the plot."""
    mark = vega.Chart(pd.DataFrame({"text": [text]})).mark(
        "text", align="left", baseline="top", fontSize=13, fontWeight="bold", color=palette(dark).text
    )
    return mark.encode(x=vega.value(0), y=vega.value(y), text="text:N")


def slim(frame: pd.DataFrame) -> pd.DataFrame:
    """The same frame in small types: words once each, accuracies to seven digits."""
    numbers = ("mean", "low", "high", "half", "value", "difference", *METRICS)
    kinds = dict.fromkeys(numbers, "float32") | {"epoch": "int16", "n": "int16", "order": "int16", "seed": "int32"}
    return frame.astype({name: kind for name, kind in kinds.items() if name in frame})


def fit(series: Iterable[pd.Series], least: float, pad: float = 0.08) -> tuple[float, float]:
    """The range of all values with a little air, never narrower than `least`: noise must not look like a landscape."""
    values = pd.concat([pd.Series(s, dtype="float64") for s in series]).dropna()
    if values.empty:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    air = max((high - low) * pad, (least - (high - low)) / 2)
    return low - air, high + air


def steady(values: pd.Series, step: float) -> tuple[float, float]:
    """The range of `values` on whole steps, so that a growing run seldom moves the axis."""
    low, high = float(values.min()), float(values.max())
    if high - low < step / 2:
        step /= 5
    low, high = step * math.floor(low / step + 1e-3), step * math.ceil(high / step - 1e-3)
    return (low, high) if high > low else (low, low + step)


def round_step(rough: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50, ... at or above `rough`."""
    size = 1
    while True:
        for step in (1, 2, 5):
            if step * size >= rough:
                return step * size
        size *= 10


def spread(values: list[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near `values`, at least `gap` apart where there is room, within [low, high], in the same order."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    placed: list[float] = []
    for i in order:
        placed.append(max(values[i], placed[-1] + gap if placed else low))
    limit = high
    for j in reversed(range(len(placed))):
        placed[j] = min(placed[j], limit)
        limit = placed[j] - gap
    result = [0.0] * len(values)
    for i, value in zip(order, placed, strict=True):
        result[i] = value
    return result


def accuracy_axis(series: Iterable[pd.Series], span: tuple[float, float], count: int) -> Any:
    """A y encoding on a scale fitted to all of `series`, drawn between the two pixels of `span`."""
    low, high = fit(series, least=0.02)
    low, high = max(low, 0.0), min(high, 1.0)  # an interval may reach beyond what an accuracy can be
    scale = vega.part(domain=[low, high], range=[span[1], span[0]], nice=False, zero=False, clamp=True)
    digits = 0 if high - low > 0.011 * count * 1.4 else 1
    shown = f"format(100 * datum.value, '.{digits}f') + ' %'"
    axis = vega.part(labelExpr=shown, title=None, tickCount=count, orient="left", minExtent=40)
    return lambda field: vega.field(f"{field}:Q", scale=scale, axis=axis)


def halo(chart: vega.Chart, dark: bool, **settings: Any) -> list[vega.Chart]:
    """Text on a narrow margin of the background's colour, for names that stand on lines."""
    ground = palette(dark)
    behind = chart.mark("text", stroke=ground.background, strokeWidth=4, color=ground.background, **settings)
    return [behind, chart.mark("text", color=ground.text, **settings)]


def key(chart: vega.Chart, method: str, shape: str, dark: bool) -> vega.Chart:
    color = arm_color(method, dark)
    return chart.mark("point", shape=shape, filled=True, size=90, color=color, stroke=color, strokeWidth=2, opacity=1)


def legend(labels: list[tuple[str, str, str, float]], top: float, dark: bool) -> list[vega.Chart]:
    """Names in one line above the panel, in two where they are long, for places too narrow for names beside the
    data."""
    marks, left = [], 6.0
    if sum(6.1 * len(text) + 30 for text, *_ in labels) > _LEGEND:
        top -= 3
    for text, method, shape, _ in labels:
        if left > 6.0 and left + 6.1 * len(text) + 11 > _LEGEND:
            left, top = 6.0, top + 15
        spot = vega.Chart(pd.DataFrame({"text": [text]}))
        name = spot.mark("text", align="left", baseline="middle", fontSize=12, color=text_color(method, dark))
        marks += [
            key(spot, method, shape, dark).encode(x=vega.value(left), y=vega.value(top)),
            name.encode(x=vega.value(left + 11), y=vega.value(top + 0.5), text="text:N"),
        ]
        left += 6.1 * len(text) + 30
    return marks


def end_labels(
    labels: list[tuple[str, str, str, float]], x: vega.Part, end: float, y: Any, span: tuple[float, float], dark: bool
) -> list[vega.Chart]:
    """Coloured names right of the data, at the height of what they name, moved apart where they would touch."""
    low, high = y("v")["scale"]["domain"]
    gap = 18 * (high - low) / (span[1] - span[0])
    heights = spread([value for *_, value in labels], gap, low + gap / 2, high - gap / 2)
    marks = []
    for (text, method, shape, _), height in zip(labels, heights, strict=True):
        spot = vega.Chart(pd.DataFrame({"at": [end], "v": [height], "text": [text]})).encode(x=x, y=y("v"))
        name = spot.mark(
            "text",
            align="left",
            baseline="middle",
            dx=10,
            fontSize=12.5,
            fontWeight=600,
            color=text_color(method, dark),
        )
        marks += [key(spot, method, shape, dark), name.encode(text="text:N")]
    return marks
