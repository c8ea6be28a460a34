"""The Capacity gap page's figure: teachers above, one student below, both over one axis of how large the teachers are.

What was trained is filled and joined by solid lines. What was not is hollow and dashed, at the height of its estimate
where there is one and at the foot of the panel where there is none.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from takd.analysis.capacity_gap import GUESSED, MEASURED, UNKNOWN
from takd.presentation import vega
from takd.presentation.formats import known, percent, points, short_size
from takd.presentation.marks import accuracy_axis, end_labels, fit, heading, legend, message_chart, slim
from takd.presentation.phrases import arm_label, method_label, short_label
from takd.presentation.theme import ROLE_STROKES, arm_color, configure, palette

HEADINGS = {
    "accuracy": "Student's test accuracy after being taught by it",
    "gain": "Points the student gains over learning alone",
    "agreement": "Test images on which student and direct teacher agree",
    "calibration": "Student's calibration error (ECE): lower is better",
}
AXES = {
    "params": "parameters",
    "macs": "MACs per image",
    "teacher": "own test accuracy",
    "ratio": "MACs over the student's",
}
SHAPES = {"kd": "circle", "takd": "diamond"}
_LABEL = 46.0  # pixels a tick's name takes
_DODGE = 11.0  # pixels between marks of several lines at one teacher


@dataclass(frozen=True)
class _Scene:
    """Where things are: `x` the shared axis, `end` where names right of the data start, `unit` a pixel in units of x;
    `top` and `bottom` the pixels of the panels."""

    x: vega.Part
    start: float
    end: float
    unit: float
    top: tuple[float, float]
    bottom: tuple[float, float]
    measure: str
    dark: bool
    compact: bool


def capacity_chart(
    teachers: pd.DataFrame,
    lines: pd.DataFrame,
    values: pd.DataFrame,
    measure: str = "accuracy",
    axis: str = "params",
    picked: str | None = None,
    dark: bool = False,
    compact: bool = False,
) -> vega.Chart:
    """`teachers`, `lines`, `values`: takd.analysis.capacity_gap.TEACHER_COLUMNS, LINE_COLUMNS, VALUE_COLUMNS. `picked`:
    the arm that stands out. Marks can be picked by `arm`. Teachers whose place on the axis is not known (their own
    accuracy, not trained) are left out; the caption has to say so."""
    teachers = slim(teachers).assign(at=_places(teachers, axis))
    teachers = teachers[teachers["at"].notna()].sort_values("at", ignore_index=True)
    if teachers.empty:
        return message_chart("No teacher has a place on this axis yet", dark, 300)
    lines = slim(lines)
    many = lines.loc[lines["teacher"].notna() & (lines["line"] != "kd"), "line"].drop_duplicates().tolist()
    scene = _scene(teachers, axis, measure, len(many), dark, compact)
    placed = lines.merge(teachers[["teacher", "at"]].astype({"teacher": object}), on="teacher", how="inner")
    offsets = {line: (place + 1) * _DODGE * scene.unit for place, line in enumerate(many)}
    placed["at"] = placed["at"] + placed["line"].map(offsets).fillna(0.0)
    placed = placed.sort_values("at", ignore_index=True)
    dots = slim(values).merge(placed[["arm", "at", "method"]].astype({"arm": object}), on="arm", how="inner")
    alone = lines[lines["line"] == "scratch"]
    layers = [_teacher_panel(teachers, scene, axis), _student_panel(placed, dots, alone, scene, picked)]
    layers.append(heading(_top_heading(axis), scene.top[0] - 26, dark))
    layers.append(heading(HEADINGS[measure], scene.bottom[0] - (46 if compact else 28), dark))
    apart = vega.part(scale=vega.part(y="independent"))
    whole = vega.layer(*layers).selectable("box", ["arm"])
    return configure(whole, dark, height=scene.bottom[1], resolve=apart)


def _top_heading(axis: str) -> str:
    return "Teacher's parameters" if axis == "teacher" else "Teacher's own test accuracy"


def _places(teachers: pd.DataFrame, axis: str) -> pd.Series:
    """Sizes by their logarithm, the teacher's accuracy as it is."""
    if axis == "teacher":
        return teachers["mean"].astype("float64")
    return teachers[axis].astype("float64").map(math.log10)


def _scene(teachers: pd.DataFrame, axis: str, measure: str, many: int, dark: bool, compact: bool) -> _Scene:
    places = [float(at) for at in teachers["at"]]
    pixels, room = (250.0, 8.0) if compact else (430.0, 128.0)
    span = max(places[-1] - places[0], 1e-3)
    unit = span / pixels
    edge, dodge = 26 * unit, (many + 1) * _DODGE * unit
    domain = [places[0] - edge, places[-1] + dodge + (room + 12) * unit]
    names = [str(name) for name in teachers["teacher"]]
    families = {name.rpartition("-")[0] for name in names}
    prefix = f"{families.pop()}-" if len(families) == 1 else ""
    said = [_tick_value(row, axis) for row in teachers.to_dict("records")]
    labels = _spaced([name.removeprefix(prefix) for name in names], said, places, unit)
    shown = f"Teacher {prefix}…" if prefix.strip("-") else "Teacher"
    title = f"{shown}, placed by {AXES[axis]}"
    ticks = vega.part(
        values=places, labelExpr=f"{json.dumps(labels)}[format(datum.value, '.5f')]", grid=False, title=title,
        labelAngle=0, labelOverlap=False, labelLineHeight=15, titleAnchor="start",
    )  # fmt: skip
    x = vega.field("at:Q", scale=vega.part(domain=domain, nice=False, zero=False), axis=ticks)
    height, cut = (430.0, 126.0) if compact else (372.0, 116.0)
    bottom = (cut + (82 if compact else 58), height)
    return _Scene(x, domain[0], places[-1] + dodge, unit, (34.0, cut), bottom, measure, dark, compact)


def _tick_value(row: dict[str, Any], axis: str) -> str:
    if axis == "teacher":
        return percent(row["mean"])
    return f"×{row['ratio']:.3g}" if axis == "ratio" else short_size(row[axis])


def _spaced(names: list[str], values: list[str], places: list[float], unit: float) -> dict[str, list[str]]:
    """Tick labels of two lines; one that would touch its neighbour stands two lines lower, or is left to the tooltip
    where there is no room either."""
    free = [-math.inf, -math.inf]
    labels = {}
    for name, value, at in zip(names, values, places, strict=True):
        row = next((i for i, edge in enumerate(free) if at - edge >= _LABEL * unit), None)
        labels[f"{at:.5f}"] = [""] if row is None else [*[""] * (2 * row), name, value]
        if row is not None:
            free[row] = at
    return labels


def _teacher_panel(teachers: pd.DataFrame, scene: _Scene, axis: str) -> vega.Chart:
    color, stroke = arm_color("scratch", scene.dark), ROLE_STROKES["teacher"]
    table = teachers.assign(
        accuracy=[percent(mean) for mean in teachers["mean"]],
        around=[_around(low, high, n, "accuracy") for low, high, n in _ends(teachers)],
        parameters=[short_size(v) for v in teachers["params"]],
        multiply=[short_size(v) for v in teachers["macs"]],
    )
    table["height"] = table["params"].map(math.log10) if axis == "teacher" else table["mean"]
    y = accuracy_axis([table["low"], table["high"], table["mean"]], scene.top, count=3)
    if axis == "teacher":
        low, high = fit([table["height"]], least=0.5)
        scale = vega.part(domain=[low, high], range=[scene.top[1], scene.top[0]], nice=False, zero=False)
        ticks = vega.part(
            labelExpr="format(pow(10, datum.value), '.1s')", title=None, tickCount=2, orient="left", minExtent=40
        )
        y = lambda field: vega.field(f"{field}:Q", scale=scale, axis=ticks)  # noqa: E731
    tooltip = [
        vega.field("teacher:N"), vega.field("parameters:N"), vega.field("multiply:N", title="MACs"),
        vega.field("accuracy:N", title="own test accuracy"), vega.field("around:N", title="95 % interval"),
        vega.field("n:Q", title="seeds"),
    ]  # fmt: skip
    base = vega.Chart(table)
    marks = [
        base.mark("line", color=color, strokeWidth=stroke.width).encode(x=scene.x, y=y("height")),
        base.mark("point", shape="square", filled=True, size=75, color=color, opacity=1).encode(
            x=scene.x, y=y("height"), tooltip=tooltip
        ),
    ]
    if axis != "teacher":
        marks.insert(1, base.mark("rule", color=color, strokeWidth=1.5).encode(x=scene.x, y=y("low"), y2="high:Q"))
    missing = table[table["n"] == 0]
    if len(missing) and axis != "teacher":
        hollow = vega.Chart(missing).mark(
            "point", shape="square", filled=False, size=75, color=color, strokeDash=[2, 2]
        )
        marks.append(hollow.encode(x=scene.x, y=vega.value(scene.top[1] - 5), tooltip=tooltip))
    return vega.layer(*marks)


def _student_panel(
    placed: pd.DataFrame, dots: pd.DataFrame, alone: pd.DataFrame, scene: _Scene, picked: str | None
) -> vega.Chart:
    told = _told(placed, scene.measure, picked)
    level = alone[alone["state"] == MEASURED]
    series = [told["low"], told["high"], told["mean"], dots["value"], level["low"], level["high"], level["mean"]]
    y = _gain_axis(series, scene.bottom) if scene.measure == "gain" else accuracy_axis(series, scene.bottom, 5)
    layers = _level(level, y, scene)
    labels = []
    for line in told["line"].drop_duplicates():
        rows = told[told["line"] == line]
        method = str(rows["method"].iloc[0])
        shape = SHAPES.get(method, "square")
        layers += _line(rows, dots[dots["arm"].isin(set(rows["arm"]))], method, shape, y, scene)
        heights = rows["mean"].dropna()
        if len(heights):
            labels.append((_name(line, method, rows), method, shape, float(heights.iloc[-1])))
    if scene.measure == "gain" or len(level):
        height = 0.0 if scene.measure == "gain" else float(level["mean"].iloc[0])
        labels.append(("alone", "scratch", "stroke", height))
    hollow = told[told["state"] == UNKNOWN]
    if len(hollow):
        layers += _unknown(hollow, scene)
    if scene.compact:
        return vega.layer(*layers, *legend(labels, scene.bottom[0] - 20, scene.dark))
    return vega.layer(*layers, *end_labels(labels, scene.x, scene.end, y, scene.bottom, scene.dark))


def _name(line: str, method: str, rows: pd.DataFrame) -> str:
    text = {"kd": "direct KD"}.get(line, line.replace(",", " > ") if method == "takd" else short_label(line))
    return f"{text} (estimated)" if (rows["state"] != MEASURED).all() and (rows["state"] == GUESSED).any() else text


def _level(level: pd.DataFrame, y: Any, scene: _Scene) -> list[vega.Chart]:
    """The student alone: a level band across the panel; the zero line where the measure is the gain over it."""
    color = arm_color("scratch", scene.dark)
    edge = {"at": [scene.start], "at2": [scene.end]}
    if scene.measure == "gain":
        rule = vega.Chart(pd.DataFrame({**edge, "mean": [0.0]}))
        stroke = rule.mark("rule", color=color, strokeWidth=1.75, strokeDash=[2, 3])
        return [stroke.encode(x=scene.x, x2="at2:Q", y=y("mean"))]
    if level.empty:
        return []
    row = level.iloc[0]
    table = pd.DataFrame({**edge, **{name: [float(row[name])] for name in ("mean", "low", "high")}}).assign(
        what="student alone", value=_said(float(row["mean"]), scene.measure),
        around=_around(row["low"], row["high"], int(row["n"]), scene.measure), n=int(row["n"]),
    )  # fmt: skip
    base = vega.Chart(table).encode(x=scene.x, x2="at2:Q", tooltip=_TOOLTIP[:1] + _TOOLTIP[2:])
    band = base.mark("rect", color=color, opacity=0.13).encode(y=y("low"), y2="high:Q")
    rule = base.mark("rule", color=color, strokeWidth=1.75, strokeDash=[2, 3]).encode(y=y("mean"))
    return [band, rule] if known(row["low"]) else [rule]


def _line(rows: pd.DataFrame, dots: pd.DataFrame, method: str, shape: str, y: Any, scene: _Scene) -> list[vega.Chart]:
    """One line: dots of seeds, band, mean line over neighbours that were trained, and what is only estimated."""
    color, thick = arm_color(method, scene.dark), ROLE_STROKES["student"].width if method == "kd" else 2.0
    measured = rows[rows["state"] == MEASURED]
    measured = measured.assign(run=(rows["state"] != MEASURED).cumsum()[measured.index].astype(str))
    guessed, any_of = rows[rows["state"] == GUESSED], rows[rows["state"] != UNKNOWN]
    x, marks = scene.x, []
    if len(guessed):
        dashed = vega.Chart(any_of[["at", "mean"]]).mark(
            "line", color=color, strokeWidth=1.25, strokeDash=[3, 4], opacity=0.8
        )
        marks.append(dashed.encode(x=x, y=y("mean")))
    seeds = vega.Chart(dots[["at", "value", "seed"]]).mark(
        "point", shape=shape, filled=True, size=22, opacity=0.35, color=color
    )
    marks.append(seeds.encode(x=x, y=y("value"), tooltip=[vega.field("seed:Q")]))
    base = vega.Chart(measured)
    if method == "kd":
        band = base.mark("area", color=color, opacity=0.14)
        marks.append(band.encode(x=x, y=y("low"), y2="high:Q", detail="run:N"))
    marks += [
        base.mark("line", color=color, strokeWidth=thick).encode(x=x, y=y("mean"), detail="run:N"),
        base.mark("rule", color=color, strokeWidth=2).encode(x=x, y=y("low"), y2="high:Q"),
        base.mark("point", shape=shape, filled=True, color=color, opacity=1, size=100).encode(
            x=x, y=y("mean"), tooltip=_TOOLTIP
        ),
    ]
    hollow = vega.Chart(guessed)
    marks += [
        hollow.mark("rule", color=color, strokeWidth=1.25, strokeDash=[2, 3]).encode(x=x, y=y("low"), y2="high:Q"),
        hollow.mark(
            "point", shape=shape, filled=True, fill=palette(scene.dark).background, stroke=color, strokeWidth=1.75,
            strokeDash=[2, 2], opacity=1, cursor="pointer",
        ).encode(x=x, y=y("mean"), tooltip=_TOOLTIP, size=vega.field("size:Q", scale=None)),
    ]  # fmt: skip
    if method == "kd" and len(guessed):
        text = hollow.mark("text", dy=11, fontSize=12, color=palette(scene.dark).muted)
        marks.append(text.encode(x=x, y=y("low"), text="note:N"))
    return marks


def _unknown(rows: pd.DataFrame, scene: _Scene) -> list[vega.Chart]:
    """Arms that are neither trained nor estimated: hollow, at the foot of the panel."""
    ground = palette(scene.dark)
    foot = vega.value(scene.bottom[1] - 8)
    mark = vega.Chart(rows).mark(
        "point", filled=True, fill=ground.background, stroke=ground.muted, strokeWidth=1.5, strokeDash=[2, 2],
        opacity=1, cursor="pointer",
    )  # fmt: skip
    kd = rows[rows["line"] == "kd"].assign(text=UNKNOWN)
    text = vega.Chart(kd).mark("text", dy=-13, fontSize=12, color=ground.muted)
    return [
        mark.encode(x=scene.x, y=foot, tooltip=_TOOLTIP[:2], size=vega.field("size:Q", scale=None)),
        text.encode(x=scene.x, y=foot, text="text:N"),
    ]


_TOOLTIP = [
    vega.field("what:N", title="arm"),
    vega.field("teacher:N"),
    vega.field("value:N", title="mean"),
    vega.field("around:N", title="95 % interval"),
    vega.field("n:Q", title="seeds"),
]


def _told(placed: pd.DataFrame, measure: str, picked: str | None) -> pd.DataFrame:
    words = [
        f"{arm_label(str(arm))}{': not run' if state != MEASURED else ''}"
        for arm, state in zip(placed["arm"], placed["state"], strict=True)
    ]
    said = [
        f"{_said(mean, measure)}{' (estimate)' if state == GUESSED else ''}"
        for mean, state in zip(placed["mean"], placed["state"], strict=True)
    ]
    around = [
        f"{_ends_text(low, high, measure)} (estimate)" if state == GUESSED else _around(low, high, n, measure)
        for (low, high, n), state in zip(_ends(placed), placed["state"], strict=True)
    ]
    notes = [f"{UNKNOWN}, est. ±{100 * (high - low) / 2:.1f}" for low, high, _ in _ends(placed)]
    size = [240 if str(arm) == picked else 120 for arm in placed["arm"]]
    return placed.assign(what=words, value=said, around=around, size=size, note=notes)


def _ends(frame: pd.DataFrame) -> list[tuple[float, float, int]]:
    return [(float(a), float(b), int(n)) for a, b, n in zip(frame["low"], frame["high"], frame["n"], strict=True)]


def _said(mean: float, measure: str) -> str:
    return f"{points(mean, 2)} points" if measure == "gain" and known(mean) else percent(mean)


def _ends_text(low: float, high: float, measure: str) -> str:
    text = (lambda v: points(v, 2)) if measure == "gain" else percent
    return f"{text(low)} to {text(high)}"


def _around(low: float, high: float, n: int, measure: str) -> str:
    if known(low) and known(high):
        return _ends_text(low, high, measure)
    return "one run, no interval" if n == 1 else "no interval"


def _gain_axis(series: list[pd.Series], span: tuple[float, float]) -> Any:
    low, high = fit([*series, pd.Series([0.0])], least=0.02)
    scale = vega.part(domain=[low, high], range=[span[1], span[0]], nice=False, zero=False, clamp=True)
    digits = 0 if high - low > 0.06 else 1
    shown = f"datum.value == 0 ? '0' : format(100 * datum.value, '+.{digits}f')"
    axis = vega.part(labelExpr=shown, title=None, tickCount=5, orient="left", minExtent=40)
    return lambda field: vega.field(f"{field}:Q", scale=scale, axis=axis)


def unplaced(teachers: pd.DataFrame, axis: str) -> list[str]:
    """Teachers that the figure leaves out, because their place on the axis is not known."""
    return [str(name) for name, at in zip(teachers["teacher"], _places(teachers, axis), strict=True) if not known(at)]


def line_label(line: str) -> str:
    """A line of the figure in words."""
    return {"kd": "direct KD", "scratch": "student alone"}.get(
        line, line if line.startswith("via ") else method_label(line)
    )
