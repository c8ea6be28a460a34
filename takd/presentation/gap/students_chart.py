"""Small figures of the Capacity gap page: direct KD by teacher for every student of the ladder, and how good estimates
are. What was not run is hollow."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from takd.analysis.capacity_gap import GUESSED, MEASURED, UNKNOWN
from takd.presentation import vega
from takd.presentation.formats import known, percent, points
from takd.presentation.marks import fit, message_chart, slim
from takd.presentation.phrases import arm_label
from takd.presentation.theme import arm_color, configure, palette

_COLUMNS, _CELL, _HEAD, _FOOT, _GAP = 2, 96.0, 24.0, 22.0, 12.0
_APART = 0.14  # between two cells, in cells
_NARROW = 0.1  # of a cell: names of teachers that stand closer than this are left out


def students_chart(
    frame: pd.DataFrame,
    current: str,
    measure: str = "gain",
    dark: bool = False,
    compact: bool = False,
) -> vega.Chart:
    """One cell per student, all on the same axes: x the teacher's parameters (logarithmic), y the measure.
    Lines join neighbours that were both run.

    frame columns: student, teacher, params, mean, low, high, n, state (takd.analysis.capacity_gap). Cells can be picked
    by `student`; the current one stands on a tinted ground.
    """
    frame = slim(frame)
    students = frame["student"].drop_duplicates().astype(str).tolist()
    if not students:
        return message_chart("No student has a larger network above it", dark)
    sizes = frame["params"].astype("float64").map(math.log10)
    low, reach = float(sizes.min()), max(float(sizes.max() - sizes.min()), 1e-6)
    place = {name: i for i, name in enumerate(students)}
    column = frame["student"].astype(str).map(place) % _COLUMNS
    frame["at"] = column * (1 + _APART) + (sizes - low) / reach
    frame["said"] = [_said(row, measure) for row in frame.to_dict("records")]
    columns = min(_COLUMNS, len(students))
    domain = [-0.06, columns * (1 + _APART) - _APART + 0.06]
    x = vega.field("at:Q", scale=vega.part(domain=domain, nice=False, zero=False), axis=None)
    shown = frame[frame["state"] != UNKNOWN]
    ends = [shown["low"], shown["high"], shown["mean"], *([pd.Series([0.0])] if measure == "gain" else [])]
    span = fit(ends, least=0.02, pad=0.06)
    layers, height = [], 0.0
    for first in range(0, len(students), _COLUMNS):
        names = students[first : first + _COLUMNS]
        layers.append(_row(frame[frame["student"].isin(names)], names, current, x, span, height, measure, dark))
        height += _HEAD + _CELL + _FOOT + _GAP
    apart = vega.part(scale=vega.part(y="independent"))
    whole = vega.layer(*layers).selectable("box", ["student"])
    return configure(whole, dark, height=height - _GAP, resolve=apart)


def _row(
    frame: pd.DataFrame,
    names: list[str],
    current: str,
    x: vega.Part,
    span: tuple[float, float],
    top: float,
    measure: str,
    dark: bool,
) -> vega.Chart:
    ground, color = palette(dark), arm_color("kd", dark)
    head, foot = top + _HEAD, top + _HEAD + _CELL
    digits = 0 if span[1] - span[0] > 0.05 else 1
    text = "datum.value == 0 ? '0' : format(100 * datum.value, '+.{}f')" if measure == "gain" else _PERCENT
    scale = vega.part(domain=list(span), range=[foot, head], nice=False, zero=False, clamp=True)
    axis = vega.part(labelExpr=text.format(digits), title=None, tickCount=3, orient="left", minExtent=34)

    def y(field: str) -> vega.Part:
        return vega.field(f"{field}:Q", scale=scale, axis=axis)

    cells = pd.DataFrame(
        {
            "student": names,
            "at": [i * (1 + _APART) - 0.05 for i in range(len(names))],
            "at2": [i * (1 + _APART) + 1.05 for i in range(len(names))],
            "ink": [0.9 if name == current else 0.0 for name in names],
            "text": [f"{name}, chosen" if name == current else name for name in names],
        }
    )
    cell = vega.Chart(cells)
    tooltip = [vega.field("student:N"), vega.field("teacher:N"), vega.field("said:N", title="direct KD")]
    frame = frame.sort_values(["student", "at"], ignore_index=True)
    frame["run"] = (frame["state"] != MEASURED).cumsum().astype(str) + frame["student"].astype(str)
    measured, guessed = frame[frame["state"] == MEASURED], frame[frame["state"] == GUESSED]
    marks = [
        cell.mark("rect", color=ground.zone, cornerRadius=6, cursor="pointer").encode(
            x=x, x2="at2:Q", y=vega.value(top), y2=vega.value(foot + _FOOT), opacity=vega.field("ink:Q", scale=None)
        ),
        cell.mark(
            "text", align="left", baseline="top", dx=6, fontSize=12.5, fontWeight="bold", color=ground.text,
            cursor="pointer",
        ).encode(x=x, y=vega.value(top + 5), text="text:N"),
    ]  # fmt: skip
    if measure == "gain":
        zero = vega.Chart(cells.assign(mean=0.0)).mark("rule", color=ground.faint, strokeDash=[2, 3])
        marks.append(zero.encode(x=x, x2="at2:Q", y=y("mean")))
    base, hollow = vega.Chart(measured), vega.Chart(guessed)
    marks += [
        base.mark("area", color=color, opacity=0.15).encode(x=x, y=y("low"), y2="high:Q", detail="run:N"),
        base.mark("line", color=color, strokeWidth=2).encode(x=x, y=y("mean"), detail="run:N"),
        base.mark("rule", color=color, strokeWidth=1.5).encode(x=x, y=y("low"), y2="high:Q"),
        base.mark("point", filled=True, size=45, color=color, opacity=1).encode(x=x, y=y("mean"), tooltip=tooltip),
        hollow.mark(
            "point", filled=True, fill=ground.background, stroke=color, strokeWidth=1.5, strokeDash=[2, 2], size=55,
            opacity=1,
        ).encode(x=x, y=y("mean"), tooltip=tooltip),
        vega.Chart(frame[frame["state"] == UNKNOWN]).mark(
            "point", filled=True, fill=ground.background, stroke=ground.muted, strokeDash=[2, 2], size=45, opacity=1
        ).encode(x=x, y=vega.value(foot - 6), tooltip=tooltip),
        vega.Chart(_names(frame)).mark("text", baseline="top", fontSize=11, color=ground.muted).encode(
            x=x, y=vega.value(foot + 5), text="text:N"
        ),
    ]  # fmt: skip
    empty = cells[[not (measured["student"] == name).any() for name in names]].assign(text="not run")
    if len(empty):
        middle = empty.assign(at=(empty["at"] + empty["at2"]) / 2)
        word = vega.Chart(middle).mark("text", fontSize=12, color=ground.muted, cursor="pointer")
        marks.append(word.encode(x=x, y=vega.value(head + 12), text="text:N"))
    return vega.layer(*marks)


_PERCENT = "format(100 * datum.value, '.{}f') + ' %'"


def _names(frame: pd.DataFrame) -> pd.DataFrame:
    """Sizes of teachers under their marks, where there is room."""
    names = frame["teacher"].astype(str)
    families = {name.rpartition("-")[0] for name in names}
    prefix = f"{families.pop()}-" if len(families) == 1 else ""
    table = frame[["student", "at"]].assign(text=[name.removeprefix(prefix) for name in names])
    kept = []
    for _, rows in table.sort_values("at").groupby("student", observed=True, sort=False):
        last = -math.inf
        for index, at in rows["at"].items():
            if at - last >= _NARROW:
                kept.append(index)
                last = float(at)
    return table.loc[kept]


def _said(row: dict[Any, Any], measure: str) -> str:
    if row["state"] == UNKNOWN:
        return "not run"
    value = f"{points(row['mean'])} points over alone" if measure == "gain" else percent(row["mean"])
    if row["state"] == GUESSED:
        return f"not run, estimate {value}"
    return f"{value}, n = {row['n']}"


def estimates_chart(table: pd.DataFrame, dark: bool = False, compact: bool = False) -> vega.Chart:
    """Measured against estimated test accuracy, every arm left out once (takd.analysis.whatif.LOO_COLUMNS): on the line
    an estimate is right."""
    if table.empty:
        return message_chart("Too few arms are measured for estimates", dark)
    ground = palette(dark)
    low, high = fit([table["measured"], table["estimated"]], least=0.02)
    told = table.assign(
        method=table["arm"].astype(str).str.partition(" ")[0],
        what=[arm_label(str(arm)) for arm in table["arm"]],
        off=[
            f"{points(e - m)} points" if known(e) else ""
            for e, m in zip(table["estimated"], table["measured"], strict=True)
        ],
    )
    label = "format(100 * datum.value, '.0f') + ' %'"
    scale = vega.part(domain=[low, high], nice=False, zero=False)

    def axis(field: str, title: str) -> vega.Part:
        return vega.field(f"{field}:Q", scale=scale, axis=vega.part(title=title, labelExpr=label, tickCount=5))

    x, y = axis("measured", "measured test accuracy"), axis("estimated", "estimated without it")
    line = vega.Chart(pd.DataFrame({"measured": [low, high], "estimated": [low, high]}))
    layers = [line.mark("line", color=ground.faint, strokeDash=[3, 3]).encode(x=x, y=y)]
    for method, shape in (("scratch", "square"), ("kd", "circle"), ("takd", "diamond")):
        rows = told[told["method"] == method]
        mark = vega.Chart(rows).mark(
            "point", shape=shape, filled=False, size=80, strokeWidth=2, color=arm_color(method, dark), opacity=1
        )
        tooltip = [vega.field("what:N", title="arm"), vega.field("off:N", title="estimate off by")]
        layers.append(mark.encode(x=x, y=y, tooltip=tooltip))
    return configure(vega.layer(*layers), dark, height=260 if compact else 300)
