"""Charts of the Compare page: what each arm reaches, and how it got there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from takd.presentation import vega
from takd.presentation.captions import METRICS, NOT_KEPT
from takd.presentation.formats import accuracy, percent
from takd.presentation.marks import fit, message_chart, round_step, spread, steady
from takd.presentation.theme import arm_color, color_name, configure, palette, scale_color, text_color

_DASHES: tuple[list[int], ...] = ([1, 0], [7, 4], [2, 3], [10, 3, 2, 3])  # tell arms of one method apart


def reached_chart(summary: pd.DataFrame, seeds: pd.DataFrame, dark: bool = False, compact: bool = False) -> vega.Chart:
    """One row per arm: its seeds as dots, their mean as a circle, its 95 % interval as a line.

    summary columns: name, arm, mean, low, high, half, n, in the order to draw; seeds columns: name, arm, seed, value.
    """
    done = summary[summary["n"] > 0]
    if done.empty:
        return message_chart("None of these arms is trained yet", dark)
    ground = palette(dark)
    table = done.assign(
        method=[color_name(str(arm)) for arm in done["arm"]],
        told=[accuracy(m, h) for m, h in zip(done["mean"], done["half"], strict=True)],
    )
    dots = seeds.assign(method=[color_name(str(arm)) for arm in seeds["arm"]])
    low, high = fit([table["low"], table["high"], table["mean"], dots["value"]], least=0.02)
    order, step = list(table["name"]), 58 if compact else 46
    # Ticks may lie half a point or less apart; two decimals without their trailing zeros name each of them.
    axis = vega.part(labelExpr="format(100 * datum.value, '.2~f') + ' %'", title="test accuracy of the student")
    axis["tickCount"] = 5
    scale = vega.part(domain=[max(low, 0.0), min(high, 1.0)], nice=False, zero=False, clamp=True)
    color = vega.field("method:N", scale=scale_color(dark), legend=None)
    base = vega.Chart(table)

    def at(name: str) -> vega.Part:
        return vega.field(f"{name}:Q", scale=scale, axis=axis)

    left: Any = None if compact else vega.part(title=None, labelFontSize=13, labelColor=ground.text, labelLimit=260)
    y = vega.field("name:N", sort=order, axis=left, scale=vega.part(domain=order))
    shift = 12 if compact else 0
    plot = [
        vega.Chart(dots)
        .mark("point", filled=True, size=36, opacity=0.35, yOffset=shift)
        .encode(x=at("value"), y=y, color=color, tooltip=["seed:Q", vega.field("value:Q", format=".2%")]),
        base.mark("rule", strokeWidth=2.5, yOffset=shift).encode(x=at("low"), x2="high:Q", y=y, color=color),
        base.mark("point", filled=True, size=110, opacity=1, yOffset=shift).encode(
            x=at("mean"),
            y=y,
            color=color,
            tooltip=[
                vega.field("name:N", title="arm"),
                vega.field("told:N", title="test accuracy"),
                vega.field("n:Q", title="seeds"),
            ],
        ),
    ]
    if compact:
        text = base.calculate(line="datum.name + ': ' + datum.told")
        label = text.mark("text", align="left", dy=-12, fontSize=12, color=ground.text)
        plot.append(label.encode(x=vega.value(0), y=y, text="line:N"))
    return configure(vega.layer(*plot), dark, height=step * len(order))


def grouped_curves_chart(
    bands: pd.DataFrame,
    seeds: pd.DataFrame,
    arms: Mapping[str, str],
    metric: str,
    every_seed: bool = False,
    dark: bool = False,
    compact: bool = False,
) -> vega.Chart:
    """A line per arm over the epochs of its student: the mean with its 95 % band, or every seed.

    bands columns: line, epoch, mean, low, high, n; seeds: line, seed, epoch and the metric. `arms`: line -> arm name,
    for its colour; lines of one colour differ in their dashes. All are finished: without rows these were not stored.
    """
    name = METRICS.get(metric, metric)
    if bands.empty:
        return message_chart(f"{NOT_KEPT} ({name})", dark, 260)
    share, last, height = metric.endswith("acc"), int(bands["epoch"].max()), 320
    low, high = steady(pd.concat([bands["mean"], seeds[metric].dropna()]), 0.1 if share else 0.5)
    room = last * (0.03 if compact else 0.3)
    ticks = list(range(0, last + 1, max(1, round_step(last / (4 if compact else 7)))))
    x = vega.field(
        "epoch:Q",
        scale=vega.part(domain=[0, last + room], nice=False, zero=False),
        axis=vega.part(values=ticks, title="epoch of the student", grid=False, titleAnchor="start", format="d"),
    )
    labels = "format(100 * datum.value, '.0f') + ' %'" if share else vega.ABSENT
    axis = vega.part(title=None, tickCount=5, labelExpr=labels)

    lines = [line for line in arms if line in set(bands["line"])]
    top = 18 * len(lines) + 8 if compact else 0  # narrow windows have the names in a list above the lines
    height += top

    def at(column: str) -> vega.Part:
        scale = vega.part(domain=[low, high], range=[height, top], nice=False, zero=False, clamp=True)
        return vega.field(f"{column}:Q", scale=scale, axis=axis)

    ends = {line: bands[bands["line"] == line].iloc[-1] for line in lines}
    gap = 17 * (high - low) / height
    heights = spread([float(ends[line]["mean"]) for line in lines], gap, low + gap / 2, high - gap / 2)
    used: dict[str, int] = {}
    layers = []
    for place, (line, label_at) in enumerate(zip(lines, heights, strict=True)):
        method = arms[line]
        color = arm_color(method, dark)
        dash = _DASHES[used.setdefault(color, -1) + 1 & 3]
        used[color] += 1
        mean = vega.Chart(bands[bands["line"] == line])
        if every_seed:
            one = vega.Chart(seeds.loc[seeds["line"] == line, ["epoch", "seed", metric]])
            thin = one.mark("line", color=color, strokeWidth=1, opacity=0.5)
            layers.append(thin.encode(x=x, y=at(metric), detail="seed:N"))
        else:
            band = mean.mark("area", color=color, opacity=0.14)
            layers.append(band.encode(x=x, y=at("low"), y2="high:Q"))
        tooltip = ["line:N", "epoch:Q", vega.field("mean:Q", title=name, format=".1%" if share else ".3f"), "n:Q"]
        strong = mean.mark("line", color=color, strokeWidth=2.5, strokeDash=dash)
        layers.append(strong.encode(x=x, y=at("mean"), tooltip=tooltip))
        value = float(ends[line]["mean"])
        text = f"{line} {percent(value) if share else f'{value:.2f}'}"
        spot = vega.Chart(pd.DataFrame({"epoch": [int(ends[line]["epoch"])], "at": [label_at], "text": [text]}))
        named = {"fontSize": 12, "fontWeight": 600, "align": "left", "color": text_color(method, dark)}
        if compact:
            row = vega.value(9 + 18 * place)
            sample = spot.mark("rule", color=color, strokeWidth=2.5, strokeDash=dash)
            layers.append(sample.encode(x=vega.value(0), x2=vega.value(26), y=row))
            layers.append(spot.mark("text", **named).encode(x=vega.value(33), y=row, text="text:N"))
        else:
            layers.append(spot.mark("text", dx=8, **named).encode(x=x, y=at("at"), text="text:N"))
    title = vega.part(text=name[:1].upper() + name[1:], anchor="start", fontSize=13, color=palette(dark).text, offset=8)
    return configure(vega.layer(*layers), dark, height=height, title=title)
