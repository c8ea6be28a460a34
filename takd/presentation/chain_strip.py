"""The chain strip: teacher, assistants and student as boxes joined by arrows that say how much smaller each one is."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pandas as pd

from takd.presentation import vega
from takd.presentation.formats import accuracy, known, percent, ratio, size
from takd.presentation.theme import ROLE_LABELS, ROLE_SHAPES, ROLE_STROKES, arm_color, configure, palette, text_color

_BOX_HEIGHT, _ROW_HEIGHT, _ROW_GAP = 138, 66, 36
_WAITING = {"training": "training", "waiting": "not trained yet"}


def chain_strip(boxes: pd.DataFrame, dark: bool = False, compact: bool = False, method: str = "takd") -> vega.Chart:
    """Boxes along a path, left to right, or top to bottom where `compact`.

    Columns: position (0 is the teacher), role, network, label, params, macs, accuracy (mean), half, n, state (done,
    training, waiting), progress (0-1), ratio (MACs of the previous network over this one's; NaN for the first);
    optional: title (the word for the box, else its role's), arrow (whether the one before teaches it, else it does).
    `method` colours every network but the teacher, which learned from labels alone. A click on a box selects its
    network: the selection is called `box`, its field `network`.
    """
    rows = boxes.sort_values("position").to_dict("records")
    placed = _rows(rows, dark, method) if compact else _columns(rows, dark, method)
    height = max((box["y2"] for box in placed), default=_ROW_HEIGHT) + 3
    scales = {
        "x": vega.field("x:Q", scale=vega.part(domain=[0, 1], nice=False, zero=False), axis=None),
        "y": vega.field("y:Q", scale=vega.part(domain=[height, 0], nice=False, zero=False), axis=None),
    }
    ground = palette(dark)
    texts = pd.DataFrame(
        [t for box in placed for t in _texts(box, dark, compact)] or [_text(0.5, 30, "Choose a chain")]
    )
    layers = [
        *_hatch(placed, scales, ground.grid),
        *_box_marks(placed, scales),
        *_arrows(placed, scales, dark, compact),
        *_text_marks(texts, scales, ground.text),
        *_role_marks(placed, scales, compact),
    ]
    return configure(vega.layer(*layers), dark, height=height)


def _look(row: dict[str, Any], dark: bool, method: str) -> dict[str, Any]:
    """What a box shows, wherever it lies."""
    role, done = row["role"], row["state"] == "done"
    how, ground, stroke = "scratch" if role == "teacher" else method, palette(dark), ROLE_STROKES[role]
    progress = float(row["progress"]) if known(row["progress"]) else 0.0
    half = known(row["half"])
    return row | {
        "color": arm_color(how, dark) if done or row["state"] == "training" else ground.faint,
        "ink": text_color(how, dark) if done else ground.muted,
        "stroke": stroke.width if done else 1.25,
        "dash": list(stroke.dash) if done else [3, 3],
        "tint": 0.1 if done else 0.0,
        "done": done,
        "title": row.get("title") or ROLE_LABELS[role],
        "params_text": size(row["params"]),
        "macs_text": size(row["macs"]),
        "result": percent(row["accuracy"]) if done else _WAITING.get(row["state"], "not trained yet"),
        "around": (f"± {100 * row['half']:.1f}, " if half else "") + f"n = {int(row['n'])}" if done else "",
        "accuracy_text": accuracy(row["accuracy"], row["half"]) if done else "not trained yet",
        "progress": min(max(progress, 0.0), 1.0) if row["state"] == "training" else 0.0,
    }


def _shares(rows: list[dict[str, Any]], most: float) -> list[float]:
    """Relative widths that grow with the logarithm of the parameters, the largest `most` times the smallest."""
    logs = [math.log10(max(float(row["params"]), 1.0)) for row in rows]
    low, high = min(logs, default=0.0), max(logs, default=0.0)
    return [1 + (most - 1) * ((value - low) / (high - low) if high > low else 0.5) for value in logs]


def _columns(rows: list[dict[str, Any]], dark: bool, method: str) -> list[dict[str, Any]]:
    arrow = 0.1 if len(rows) <= 3 else 0.075 if len(rows) <= 5 else 0.05
    shares = _shares(rows, 1.7 if len(rows) <= 4 else 1.25)
    room = min(1 - arrow * (len(rows) - 1), 0.32 * len(rows)) if rows else 0
    left = (1 - room - arrow * (len(rows) - 1)) / 2
    placed = []
    for row, share in zip(rows, shares, strict=True):
        right = left + room * share / sum(shares)
        placed.append(_look(row, dark, method) | {"x": left, "x2": right, "y": 3.0, "y2": 3.0 + _BOX_HEIGHT})
        left = right + arrow
    return placed


def _rows(rows: list[dict[str, Any]], dark: bool, method: str) -> list[dict[str, Any]]:
    placed, top = [], 3.0
    for row, share in zip(rows, _shares(rows, 1.25), strict=True):
        where = {"x": 0.004, "x2": 0.996 * share / 1.25, "y": top, "y2": top + _ROW_HEIGHT}
        placed.append(_look(row, dark, method) | where)
        top += _ROW_HEIGHT + _ROW_GAP
    return placed


def _text(x: float, y: float, text: str, style: str = "small", align: str = "center", **more: Any) -> dict[str, Any]:
    return {"x": x, "y": y, "text": text, "style": style, "align": align, "ink": None, "dx": 0, "network": ""} | more


def _texts(box: dict[str, Any], dark: bool, compact: bool) -> list[dict[str, Any]]:
    muted, name = palette(dark).muted, {"network": box["network"]}
    big = "big" if box["done"] else "small"
    result = box["result"] if box["state"] != "training" else f"training {100 * box['progress']:.0f} %"
    if compact:
        left = {"align": "left", "dx": 12, **name}
        right = {"align": "right", "dx": -12, **name}
        x, x2, y = box["x"], box["x2"], box["y"]
        return [
            _text(x, y + 22, f"{box['title']} · {box['params_text']} params", ink=box["ink"], **left | {"dx": 28}),
            _text(x, y + 45, box["network"], "bold", **left),
            _text(x2, y + (24 if box["done"] else 22), result, big, ink=box["ink"], **right),
            _text(x2, y + 46, box["around"], ink=muted, **right),
        ]
    x, y = (box["x"] + box["x2"]) / 2, box["y"]
    return [
        _text(x, y + 20, box["title"], ink=box["ink"], **name),
        _text(x, y + 43, box["network"], "bold", **name),
        _text(x, y + 64, f"{box['params_text']} params", ink=muted, **name),
        _text(x, y + 95, result, big, ink=box["ink"], **name),
        _text(x, y + 119, box["around"], ink=muted, **name),
    ]


def _role_marks(placed: list[dict[str, Any]], scales: dict[str, Any], compact: bool) -> list[vega.Chart]:
    """The role's shape left of its name, drawn rather than written: not every font has the signs."""
    marks = []
    for box in placed:
        x = box["x"] if compact else (box["x"] + box["x2"]) / 2
        spot = pd.DataFrame({"x": [x], "y": [box["y"] + (21 if compact else 19)], "network": [box["network"]]})
        shift = 18 if compact else -3.2 * len(box["title"]) - 9  # half of the centred text and a gap
        shape = ROLE_SHAPES[box["role"]]
        mark = vega.Chart(spot).mark(
            "point",
            shape=shape,
            filled=True,
            size=90 if shape == "diamond" else 70,
            color=box["ink"],
            opacity=1,
            xOffset=shift,
        )
        marks.append(mark.encode(**scales))
    return marks


def _text_marks(texts: pd.DataFrame, scales: dict[str, Any], ink: str) -> list[vega.Chart]:
    texts = texts.assign(ink=texts["ink"].fillna(ink))
    styles = {"small": (12.5, "normal"), "bold": (16, "bold"), "big": (21, "bold")}
    marks = []
    for (style, align, dx), group in texts.groupby(["style", "align", "dx"], sort=False):
        font, weight = styles[str(style)]
        mark = vega.Chart(group[["x", "y", "text", "ink", "network"]]).mark(
            "text", fontSize=font, fontWeight=weight, align=align, dx=dx, baseline="middle", cursor="pointer"
        )
        marks.append(mark.encode(**scales, text="text:N", color=vega.field("ink:N", scale=None)))
    return marks


def _box_marks(placed: list[dict[str, Any]], scales: dict[str, Any]) -> list[vega.Chart]:
    """The boxes, which carry the selection, and the bar of a running training along their lower edge."""
    columns = ["x", "x2", "y", "y2", "network", "color", "stroke", "dash", "tint", "label", "params_text", "macs_text"]
    frame = pd.DataFrame(placed, columns=[*columns, "accuracy_text", "n", "title"])
    encoding = scales | {
        "x2": "x2:Q",
        "y2": "y2:Q",
        "fill": vega.field("color:N", scale=None),
        "stroke": vega.field("color:N", scale=None),
        "strokeWidth": vega.field("stroke:Q", scale=None),
        "fillOpacity": vega.when("box", vega.value(0.28), vega.field("tint:Q", scale=None)),
        "tooltip": [
            vega.field("label:N", title="network"),
            vega.field("params_text:N", title="parameters"),
            vega.field("macs_text:N", title="MACs per image"),
            vega.field("accuracy_text:N", title="test accuracy"),
            vega.field("n:Q", title="seeds"),
        ],
    }
    marks = []
    # A dash pattern cannot be read from data, so each pattern is a layer; the selection belongs to all of them.
    for dash in ([], [6, 4], [3, 3]):
        alike = pd.Series([list(d) == dash for d in frame["dash"]], index=frame.index, dtype=bool)
        some = frame[alike].drop(columns="dash")
        if len(some) or not dash:
            mark = vega.Chart(some).mark("rect", cornerRadius=8, strokeDash=dash or [1, 0], cursor="pointer")
            marks.append(mark.encode(**encoding))
    marks = [vega.layer(*marks).selectable("box", ["network"])]
    bars = [
        {
            "x": b["x"],
            "x2": b["x"] + (b["x2"] - b["x"]) * b["progress"],
            "y": b["y2"] - 6,
            "y2": b["y2"],
            "color": b["color"],
        }
        for b in placed
        if b["progress"] > 0
    ]
    if bars:
        bar = vega.Chart(pd.DataFrame(bars)).mark("rect", cornerRadius=3)
        marks.append(bar.encode(**scales, x2="x2:Q", y2="y2:Q", color=vega.field("color:N", scale=None)))
    return marks


def _hatch(placed: list[dict[str, Any]], scales: dict[str, Any], color: str) -> list[vega.Chart]:
    """Diagonals over boxes nobody has trained: strokes of 45 degrees, cut at the box."""
    lines = []
    for box in placed:
        if box["state"] != "waiting":
            continue
        width, tall = box["x2"] - box["x"], box["y2"] - box["y"]
        slope = 0.15 * tall / _BOX_HEIGHT  # share of the strip's width that one box height of diagonal covers
        for step in range(int((width + slope) / 0.016) + 1):
            start = step * 0.016 - slope
            a, b = max(start, 0.0), min(start + slope, width)
            if b > a:
                y, y2 = (box["y2"] - tall * (v - start) / slope for v in (a, b))
                lines.append({"x": box["x"] + a, "x2": box["x"] + b, "y": y, "y2": y2})
    if not lines:
        return []
    frame = pd.DataFrame(lines).astype("float32")
    return [vega.Chart(frame).mark("rule", color=color, strokeWidth=1).encode(**scales, x2="x2:Q", y2="y2:Q")]


def _arrows(placed: list[dict[str, Any]], scales: dict[str, Any], dark: bool, compact: bool) -> list[vega.Chart]:
    """Between two boxes how many times fewer MACs the second has, and an arrow where it is taught by the first."""
    ground, rows = palette(dark), []
    for before, box in pairwise(placed):
        text, teaches = ratio(box["ratio"]), bool(box.get("arrow", True))
        if compact:
            x, y, y2 = 0.07, before["y2"] + 5, box["y"] - 6
            rows.append(
                {
                    "teaches": teaches,
                    "x": x,
                    "x2": x,
                    "y": y,
                    "y2": y2,
                    "tip": y2 - 2,
                    "tx": x,
                    "ty": (y + y2) / 2,
                    "ratio": text,
                }
            )
        else:
            x, x2, y = before["x2"] + 0.009, box["x"] - 0.011, (box["y"] + box["y2"]) / 2
            rows.append({"teaches": teaches, "x": x, "x2": x2, "y": y, "y2": y, "tip": y})
            rows[-1] |= {"tx": (x + x2) / 2, "ty": y, "ratio": text}
    frame = pd.DataFrame(rows, columns=["teaches", "x", "x2", "y", "y2", "tip", "tx", "ty", "ratio"])
    base, taught, y = vega.Chart(frame), vega.Chart(frame[frame["teaches"].astype(bool)]), scales["y"]
    at = {
        "x": vega.field("tx:Q", scale=scales["x"]["scale"], axis=None),
        "y": vega.field("ty:Q", scale=y["scale"], axis=None),
    }
    tip = {
        "x": vega.field("x2:Q", scale=scales["x"]["scale"], axis=None),
        "y": vega.field("tip:Q", scale=y["scale"], axis=None),
    }
    shape = "triangle-down" if compact else "triangle-right"
    marks = [
        taught.mark("rule", color=ground.faint, strokeWidth=1.5).encode(**scales, x2="x2:Q", y2="y2:Q"),
        taught.mark("point", shape=shape, filled=True, size=70, color=ground.faint, opacity=1).encode(**tip),
    ]
    if compact:
        label = base.calculate(shown="datum.ratio ? datum.ratio + ' MACs' : ''")
        return [
            *marks,
            label.mark("text", align="left", dx=14, fontSize=12, color=ground.muted).encode(**at, text="shown:N"),
        ]
    number = base.mark("text", dy=-13, fontSize=14, fontWeight="bold", color=ground.text).encode(**at, text="ratio:N")
    unit = base.filter("datum.ratio").mark("text", dy=14, fontSize=12, color=ground.muted, text="MACs").encode(**at)
    return [*marks, number, unit]
