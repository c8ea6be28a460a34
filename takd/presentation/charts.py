"""Pure functions from frames to charts; the same function draws page and report. Imports no streamlit.

A chart is as wide as its place and exactly as tall as it sets itself. Show charts with `theme=None` and the alternative
text from takd.presentation.words. Accuracy axes are fitted to the data: they never start at zero, which would hide
differences of a point.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from takd.presentation import vega
from takd.presentation.captions import METRICS, NO_EPOCH, gain_and_interval
from takd.presentation.chain_strip import chain_strip
from takd.presentation.formats import percent
from takd.presentation.gap_chart import gap_chart
from takd.presentation.marks import fit, message_chart, round_step, slim, spread, steady
from takd.presentation.parts_chart import parts_chart
from takd.presentation.phrases import row_label
from takd.presentation.theme import ROLE_STROKES, arm_color, color_name, configure, palette, scale_color, text_color

__all__ = ["assistants_chart", "chain_strip", "curves_chart", "gap_chart", "message_chart", "parts_chart"]


def assistants_chart(
    rows: pd.DataFrame,
    summary: pd.DataFrame,
    dark: bool = False,
    compact: bool = False,
    margin: float = 0.005,
    names: Mapping[str, str] | None = None,
    over: str = "direct KD from the same teacher",
) -> vega.Chart:
    """One row per choice of assistants: points over direct KD from the same teacher, paired by seed.

    rows columns: arm, seed, difference (fractions); summary columns: arm, mean, low, high, n, kind, in the order to
    draw. Dots are seeds, the diamond their mean, the line its 95 % interval; the grey zone is +-margin. Of other arms
    `names` says how rows are called, `over` what they are held against, a column `method` how they were taught.
    """
    if summary.empty:
        return message_chart("No chain with an assistant has finished yet", dark)
    ground = palette(dark)
    names = names or {str(arm): row_label(str(arm)) for arm in summary["arm"]}
    table, dots = (
        slim(frame[frame["arm"].astype(str).isin(names)]).assign(
            row=lambda f: f["arm"].astype(str).map(names),
            method=lambda f: f["method" if "method" in f else "arm"].astype(str).map(color_name),
        )
        for frame in (summary, rows)
    )
    for frame, columns in ((table, ("mean", "low", "high")), (dots, ("difference",))):
        frame[list(columns)] = frame[list(columns)] * 100
    zone = 100 * margin
    color = vega.field("method:N", scale=scale_color(dark), legend=None)
    ends = pd.Series([-zone * 1.6, zone * 1.6])
    low, high = fit([table["low"], table["high"], table["mean"], dots["difference"], ends], least=2.0, pad=0.05)
    table["gain"] = [
        gain_and_interval(m / 100, lo / 100, hi / 100, int(n))
        for m, lo, hi, n in zip(table["mean"], table["low"], table["high"], table["n"], strict=True)
    ]
    table["verdict"] = [str(kind).capitalize() for kind in table["kind"]]
    order, step = list(table["row"]), 62 if compact else 52
    title = [f"points over {over}", f"grey: within ±{zone:g}, too small to matter"]
    axis = vega.part(
        labelExpr="format(datum.value, '+') == '+0' ? '0' : format(datum.value, '+')", title=title, tickCount=7
    )
    x = vega.field("mean:Q", scale=vega.part(domain=[low, high], nice=False, zero=False), axis=axis)
    left = vega.part(title=None, orient="left", labelFontSize=13, labelColor=ground.text, labelLimit=140, grid=False)
    y = vega.field("row:N", sort=order, axis=left, scale=vega.part(domain=order))
    base, field = vega.Chart(table), lambda name: vega.field(f"{name}:Q", scale=x["scale"], axis=axis)
    shift = 10 if compact else 0
    tooltip = [vega.field("row:N", title="arm"), vega.field("gain:N", title="points"), "verdict:N"]
    whole = {"y": vega.value(0), "y2": vega.value(step * len(order))}
    edge = pd.DataFrame({"a": [-zone], "b": [zone]})
    plot = [
        vega.Chart(edge).mark("rect", color=ground.zone).encode(x=field("a"), x2="b:Q", **whole),
        vega.Chart(pd.DataFrame({"a": [0.0]}))
        .mark("rule", color=ground.muted, strokeWidth=1.25)
        .encode(x=field("a"), **whole),
        vega.Chart(dots[["row", "difference", "seed", "method"]])
        .mark("point", filled=True, size=38, opacity=0.35, yOffset=shift)
        .encode(
            x=field("difference"),
            y=y,
            color=color,
            tooltip=["seed:Q", vega.field("difference:Q", format="+.2f", title="points")],
        ),
        base.mark("rule", strokeWidth=2.5, yOffset=shift).encode(x=field("low"), x2="high:Q", y=y, color=color),
        base.mark("point", shape="diamond", filled=True, size=150, opacity=1, yOffset=shift).encode(
            x=x, y=y, color=color, tooltip=tooltip
        ),
    ]
    if compact:
        base = base.calculate(line="datum.verdict + ': ' + datum.gain")
        text = base.mark("text", align="left", dy=-15, dx=2, fontSize=12, color=ground.text)
        plot.append(text.encode(x=vega.value(0), y=y, text="line:N"))
        chart = vega.layer(*plot)
    else:
        lines = {r: [v, g] for r, v, g in zip(table["row"], table["verdict"], table["gain"], strict=True)}
        right = vega.part(
            title=None, orient="right", labelExpr=f"{json.dumps(lines)}[datum.value]", labelFontSize=12.5,
            labelColor=ground.text, labelLimit=260, labelLineHeight=16, labelPadding=14, grid=False,
        )  # fmt: skip
        # A second axis holds the verdicts: unlike text marks, axes are counted when the chart is fitted to its place.
        empty = base.mark("point", opacity=0).encode(
            x=x, y=vega.field("row:N", sort=order, axis=right, scale=y["scale"])
        )
        chart = vega.layer(vega.layer(*plot), empty).settings(resolve={"scale": {"y": "independent"}})
    return configure(chart, dark, height=step * len(order))


# ------------------------------------------------------------------------------------------------------------ curves


def curves_chart(
    curves: pd.DataFrame,
    metric: str = "val_acc",
    epochs: int | None = None,
    methods: Mapping[str, str] | None = None,
    dark: bool = False,
    compact: bool = False,
    nothing: str = NO_EPOCH,
) -> vega.Chart:
    """Teacher, assistants and student over epochs: one faint line per seed, a strong one for their mean.

    curves columns: line (its label), role, seed, epoch, and the metric. `epochs` is the planned number and fixes the
    x axis, so that a growing run does not jump. `methods` says how each line was taught (colour); without it a
    teacher counts as taught by labels and everyone else by a chain. `nothing` is said where there are no rows.
    """
    frame = slim(curves.dropna(subset=[metric]) if metric in curves else curves.head(0))
    name = METRICS.get(metric, metric)
    if frame.empty:
        return message_chart(f"{nothing} ({name})", dark, 260)
    last, share = int(epochs or frame["epoch"].max()), metric.endswith("acc")
    first = frame.drop_duplicates("line")
    roles = dict(zip(first["line"].astype(str), first["role"].astype(str), strict=True))
    how = {line: (methods or {}).get(line, "scratch" if role == "teacher" else "takd") for line, role in roles.items()}
    low, high = steady(frame[metric], 0.1 if share else 0.5)
    room = last * (0.03 if compact else 0.2)
    ticks = list(range(0, last + 1, max(1, round_step(last / (4 if compact else 7)))))
    height = 280 if compact else 330
    x = vega.field(
        "epoch:Q",
        scale=vega.part(domain=[0, last + room], nice=False, zero=False),
        axis=vega.part(values=ticks, title="epoch", grid=False, titleAnchor="start", format="d"),
    )
    y_axis = vega.part(
        title=None, tickCount=5, labelExpr="format(100 * datum.value, '.0f') + ' %'" if share else vega.ABSENT
    )
    y = vega.field(f"{metric}:Q", scale=vega.part(domain=[low, high], nice=False, zero=False), axis=y_axis)
    means = _means(frame, metric)
    ends = means.loc[means.groupby("line", observed=True, sort=False)["epoch"].idxmax()]
    gap = 17 * (high - low) / height
    heights = spread([float(v) for v in ends[metric]], gap, low + gap / 2, high - gap / 2)
    if compact and len(ends) > 2 and share and float(np.ptp(ends[metric])) < gap * len(ends):
        # Lines that end side by side would run through names that stand on them; below them there is room.
        ranks = ends[metric].rank(ascending=False, method="first")
        heights = [float(ends[metric].min()) - gap * (0.6 + float(rank)) for rank in ranks]
    layers = []
    for line, role in roles.items():
        stroke, color = ROLE_STROKES[role], arm_color(how[line], dark)
        dash = list(stroke.dash) or [1, 0]
        one, mean = frame[frame["line"] == line], means[means["line"] == line]
        if one["seed"].nunique() > 1:
            faint = vega.Chart(one[["epoch", metric, "seed"]]).mark("line", color=color, strokeWidth=1, opacity=0.28)
            layers.append(faint.encode(x=x, y=y, detail="seed:N"))
        strong = vega.Chart(mean[["epoch", metric, "line"]]).mark(
            "line", color=color, strokeWidth=stroke.width, strokeDash=dash
        )
        tooltip = ["line:N", "epoch:Q", vega.field(f"{metric}:Q", title=name, format=".1%" if share else ".3f")]
        layers.append(strong.encode(x=x, y=y, tooltip=tooltip))
    for (_, end), height_at in zip(ends.iterrows(), heights, strict=True):
        line, value = str(end["line"]), float(end[metric])
        text = f"{line} {percent(value) if share else f'{value:.2f}'}"
        spot = vega.Chart(pd.DataFrame({"epoch": [end["epoch"]], metric: [height_at], "text": [text]}))
        # Where there is no room beside the end of a line, its name stands on the line.
        above = compact and float(end["epoch"]) > 0.45 * last
        place: dict[str, Any] = {"align": "right", "dy": -11} if above else {"align": "left", "dx": 8}
        label = spot.mark("text", fontSize=12, fontWeight=600, color=text_color(how[line], dark), **place)
        layers.append(label.encode(x=x, y=y, text="text:N"))
    title = vega.part(text=name[:1].upper() + name[1:], anchor="start", fontSize=13, color=palette(dark).text, offset=8)
    return configure(vega.layer(*layers), dark, height=height, title=title)


def _means(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean per line and epoch over the seeds that have come furthest: while a seed catches up, its faint line grows
    and the mean stays what it was, over the same seeds from end to end."""
    furthest = frame.groupby(["line", "seed"], observed=True)["epoch"].transform("max")
    reach = frame.groupby("line", observed=True)["epoch"].transform("max")
    ahead = frame[furthest == reach]
    return ahead.groupby(["line", "epoch"], observed=True, sort=False)[metric].mean().reset_index()
