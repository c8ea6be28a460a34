"""Charts of the lesson: a guess beside what was measured, and what changes from hop to hop."""

from __future__ import annotations

import pandas as pd

from takd.analysis.statistics import t_interval
from takd.presentation import vega
from takd.presentation.marks import fit, message_chart
from takd.presentation.theme import arm_color, configure, palette, text_color

_UNITS = {
    "percent": (100.0, "test accuracy, %"),
    "points": (100.0, "points over {}"),
    "times": (1.0, "times as long"),
}


def guess_chart(
    dots: tuple[float, ...],
    mean: float,
    low: float,
    high: float,
    guess: float | None,
    kind: str,
    method: str,
    against: str = "",
    dark: bool = False,
    compact: bool = False,
) -> vega.Chart:
    """One line: seeds as dots, their mean as a diamond with its 95 % interval, and the guess as a flag. Values as
    stored (fractions, or times); kind: percent, points or times. `against` names what a difference in points is held
    against: the zero of the axis."""
    factor, title = _UNITS[kind]
    title = title.format(against)
    ground, color = palette(dark), arm_color(method, dark)
    guesses = [] if guess is None else [guess]
    values = [factor * v for v in (*dots, mean, *guesses)]
    ends = [factor * v for v in (low, high) if v == v]
    start, end = fit([pd.Series(values), pd.Series(ends, dtype=float)], least=4.0 if factor > 1 else 0.5, pad=0.12)
    if kind == "points":
        start, end = min(start, -0.5), max(end, 0.5)
    axis = vega.part(title=title, tickCount=6, grid=True)
    scale = vega.part(domain=[start, end], nice=False, zero=False)

    def at(name: str) -> vega.Part:
        return vega.field(f"{name}:Q", scale=scale, axis=axis)

    row = {"y": vega.value(52)}
    table = pd.DataFrame({"mean": [factor * mean], "low": [factor * low], "high": [factor * high]})
    plot = []
    if kind == "points":
        zero = vega.Chart(pd.DataFrame({"mean": [0.0]})).mark("rule", color=ground.muted, strokeWidth=1.25)
        plot.append(zero.encode(x=at("mean")))
    if dots:
        seeds = vega.Chart(pd.DataFrame({"mean": [factor * v for v in dots]}))
        mark = seeds.mark("point", filled=True, size=40, opacity=0.35, color=color)
        plot.append(mark.encode(x=at("mean"), tooltip=[vega.field("mean:Q", format=".2f", title="a seed")], **row))
    base = vega.Chart(table)
    if ends:
        plot.append(base.mark("rule", strokeWidth=3, color=color).encode(x=at("low"), x2="high:Q", **row))
    diamond = base.mark("point", shape="diamond", filled=True, size=190, color=color, opacity=1)
    plot.append(diamond.encode(x=at("mean"), **row))
    name = base.mark("text", dy=26, fontSize=13, fontWeight="bold", color=text_color(method, dark))
    plot.append(name.encode(x=at("mean"), text=vega.value("measured"), **row))
    if guess is not None:
        flag = vega.Chart(pd.DataFrame({"mean": [factor * guess]}))
        pole = flag.mark("rule", strokeWidth=2, strokeDash=[4, 3], color=ground.text)
        plot.append(pole.encode(x=at("mean"), y=vega.value(16), y2=vega.value(80)))
        said = flag.mark("text", dy=-6, fontSize=13, fontWeight="bold", color=ground.text)
        plot.append(said.encode(x=at("mean"), y=vega.value(14), text=vega.value("your guess")))
    return configure(vega.layer(*plot), dark, height=96)


def hops_chart(hops: pd.DataFrame, column: str, title: str, dark: bool = False, compact: bool = False) -> vega.Chart:
    """One row per network: a value of each seed as a dot, the mean with its 95 % interval. hops columns: label, method,
    seed and `column`."""
    frame = hops.dropna(subset=[column])
    if frame.empty:
        return message_chart("Not measured", dark)
    means = []
    for (label, method), group in frame.groupby(["label", "method"], sort=False):
        interval = t_interval(group[column].to_numpy())
        means.append((label, method, interval.mean, interval.low, interval.high, interval.n))
    table = pd.DataFrame(means, columns=["label", "method", "mean", "low", "high", "n"])
    order, ground = list(table["label"]), palette(dark)
    low, high = fit([table["low"], table["high"], frame[column]], least=0.02)
    axis = vega.part(title=title, tickCount=5)
    scale = vega.part(domain=[max(low, 0.0), high], nice=False, zero=False, clamp=True)
    left = None if compact else vega.part(title=None, labelFontSize=13, labelColor=ground.text, labelLimit=220)
    y = vega.field("label:N", sort=order, axis=left, scale=vega.part(domain=order))
    colors = [arm_color(method, dark) for method in table["method"]]
    color = vega.field("label:N", scale=vega.part(domain=order, range=colors), legend=None)
    shift = 10 if compact else 0

    def at(name: str) -> vega.Part:
        return vega.field(f"{name}:Q", scale=scale, axis=axis)

    dots = vega.Chart(frame[["label", "seed", column]]).mark("point", filled=True, size=36, opacity=0.35, yOffset=shift)
    base = vega.Chart(table)
    layers = [
        dots.encode(x=at(column), y=y, color=color, tooltip=["seed:Q", vega.field(f"{column}:Q", format=".3f")]),
        base.mark("rule", strokeWidth=2.5, yOffset=shift).encode(x=at("low"), x2="high:Q", y=y, color=color),
        base.mark("point", filled=True, size=110, opacity=1, yOffset=shift).encode(
            x=at("mean"), y=y, color=color, tooltip=["label:N", vega.field("mean:Q", format=".3f"), "n:Q"]
        ),
    ]
    if compact:
        text = base.mark("text", align="left", dy=-10, fontSize=12, color=ground.text)
        layers.append(text.encode(x=vega.value(0), y=y, text="label:N"))
    return configure(vega.layer(*layers), dark, height=(50 if compact else 38) * len(order))


def shares_chart(shares: pd.DataFrame, dark: bool = False, compact: bool = False) -> vega.Chart:
    """Mean soft answer per class, one bar a class. shares columns: class, share (0 to 1), asked (bool: the true
    class)."""
    ground = palette(dark)
    order = list(shares.sort_values("share", ascending=False)["class"])
    table = shares.assign(color=[ground.faint if a else arm_color("kd", dark) for a in shares["asked"]])
    x = vega.field(
        "share:Q",
        axis=vega.part(title="mean share of the teacher's answer", labelExpr="format(100 * datum.value, '.0f') + ' %'"),
    )
    y = vega.field("class:N", sort=order, axis=vega.part(title=None, labelFontSize=13, labelColor=ground.text))
    bars = vega.Chart(table).mark("bar")
    color = vega.field("color:N", scale=None)
    tooltip = ["class:N", vega.field("share:Q", format=".2%")]
    return configure(vega.layer(bars.encode(x=x, y=y, color=color, tooltip=tooltip)), dark, height=26 * len(order))
