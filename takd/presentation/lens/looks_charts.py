"""Charts of landscapes and maps on the page "Look inside"."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import pandas as pd

from takd.presentation import vega
from takd.presentation.marks import legend, message_chart
from takd.presentation.theme import ROLE_SHAPES, arm_color, configure, palette, text_color

MOST = 12.0  # nats: far away from the weights the loss is as high as one likes
_APART = 1.08  # of a panel's own width
# Ten colours that keep apart; letters tell classes apart where colours do not.
_CLASSES = (
    "#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#b6992d", "#b07aa1", "#ff9da7", "#9c755f", "#79706e",
)  # fmt: skip

Look = Mapping[str, tuple[str, str]]


def line_chart(frame: pd.DataFrame, look: Look, dark: bool = False, compact: bool = False) -> vega.Chart:
    """The loss along one direction, a line per network. frame columns: voice, x, loss; `look`: (role, method)."""
    if frame.empty:
        return message_chart("Nothing is computed yet", dark)
    ground = palette(dark)
    top = min(float(frame["loss"].max()), MOST)
    x = vega.field(
        "x:Q",
        scale=vega.part(domain=[-1, 1], nice=False),
        axis=vega.part(title="step along the direction", tickCount=5 if compact else 11),
    )
    y = vega.field(
        "loss:Q",
        scale=vega.part(domain=[0, top], clamp=True),
        axis=vega.part(title="training loss (nats)", tickCount=6),
    )
    zero = vega.Chart(pd.DataFrame({"x": [0.0]})).mark("rule", color=ground.muted, strokeDash=[4, 4])
    layers = [zero.encode(x=x)]
    names = list(dict.fromkeys(frame["voice"]))
    for number, name in enumerate(names):
        method = look.get(name, ("student", "takd"))[1]
        own = vega.Chart(frame[frame["voice"] == name])
        dash = ([1, 0], [8, 4], [2, 3])[number % 3]
        mark = own.mark("line", color=arm_color(method, dark), strokeWidth=2.5, strokeDash=dash)
        tooltip = [vega.field("voice:N", title="network"), "x:Q", vega.field("loss:Q", format=".3f")]
        layers.append(mark.encode(x=x, y=y, tooltip=tooltip))
        layers += legend([(name, method, "circle", 0.0)], 12 + 18 * number, dark)
    return configure(vega.layer(*layers), dark, height=300 if compact else 340)


def plane_chart(frame: pd.DataFrame, look: Look, dark: bool = False, compact: bool = False) -> vega.Chart:
    """The loss over two directions, a panel per network on one colour scale. frame columns: voice, x, y, loss."""
    if frame.empty:
        return message_chart("Nothing is computed yet", dark)
    ground = palette(dark)
    side = float(frame["x"].max() - frame["x"].min()) / (math.sqrt(len(frame) / frame["voice"].nunique()) - 1)
    low, high = float(frame["loss"].min()), min(float(frame["loss"].quantile(0.9)), MOST)
    names = list(dict.fromkeys(frame["voice"]))
    per_row, offsets = _places(names, compact)
    # Two units of weight space to a panel; the scales are shared, so that panels compare.
    table = frame.assign(
        left=[2 * offsets[v][0] + x + 1 - side / 2 for v, x in zip(frame["voice"], frame["x"], strict=True)],
        top=[2 * offsets[v][1] + y + 1 - side / 2 for v, y in zip(frame["voice"], frame["y"], strict=True)],
    ).assign(right=lambda f: f["left"] + side, bottom=lambda f: f["top"] + side)
    wide, tall = 2 * (_APART * (per_row - 1) + 1) + side, 2 * (max(o[1] for o in offsets.values()) + 1) + side
    x = {"scale": vega.part(domain=[-side / 2, wide - side / 2], nice=False, zero=False), "axis": None}
    y = {"scale": vega.part(domain=[tall - side / 2, -0.3], nice=False, zero=False), "axis": None}
    colors = ["#12203a", "#2f6db5", "#9fd0ff", "#fff3c4"] if dark else ["#08306b", "#2f7fbf", "#a8d3ee", "#fff7d6"]
    color = vega.field(
        "loss:Q",
        scale=vega.part(
            domain=[low + (high - low) * k / 3 for k in range(4)], range=colors, clamp=True, interpolate="rgb"
        ),
        legend=vega.part(
            orient="bottom",
            title=f"training loss (nats), at most {high:.1f}",
            labelColor=ground.text,
            titleColor=ground.muted,
            gradientLength=220,
        ),
    )
    tooltip = [
        vega.field("voice:N", title="network"),
        vega.field("x:Q", title="first direction", format=".1f"),
        vega.field("y:Q", title="second direction", format=".1f"),
        vega.field("loss:Q", format=".3f"),
    ]
    place = {"x": vega.field("left:Q", **x), "x2": "right:Q", "y": vega.field("top:Q", **y), "y2": "bottom:Q"}
    layers = [vega.Chart(table).mark("rect").encode(**place, color=color, tooltip=tooltip)]
    marks = pd.DataFrame(
        {"left": [2 * o[0] + 1 for o in offsets.values()], "top": [2 * o[1] + 1 for o in offsets.values()]}
    )
    middle = vega.Chart(marks).mark(
        "point", shape="cross", filled=True, size=90, color="#ffffff", stroke="#000000", opacity=1
    )
    layers.append(middle.encode(x=vega.field("left:Q", **x), y=vega.field("top:Q", **y)))
    layers += _titles(names, {n: (2 * o[0], 2 * o[1] - 0.18) for n, o in offsets.items()}, look, x, y, dark)
    height = int(tall * (140 if compact else 150))
    return configure(vega.layer(*layers), dark, height=height)


def map_chart(frame: pd.DataFrame, look: Look, dark: bool = False, compact: bool = False) -> vega.Chart:
    """A map per network: a letter per image, in the colour of its true class. frame columns: voice, image, x, y (-1 to
    1), number and truth (the class)."""
    if frame.empty:
        return message_chart("Nothing is computed yet", dark)
    ground = palette(dark)
    names = list(dict.fromkeys(frame["voice"]))
    per_row, offsets = _places(names, compact, most=3)
    classes = frame.drop_duplicates("number").sort_values("number")
    # Heights are stretched to fill their panels: the axes of a map have no unit.
    tall = frame.groupby("voice")["y"].transform(lambda y: max(float(y.abs().max()), 1e-6))
    frame = frame.assign(y=0.95 * frame["y"] / tall)
    signs = _signs([str(name) for name in classes["truth"]])
    table = frame.assign(
        at=[2.1 * offsets[v][0] / _APART + x + 1 for v, x in zip(frame["voice"], frame["x"], strict=True)],
        high=[2.3 * offsets[v][1] + y + 1 for v, y in zip(frame["voice"], frame["y"], strict=True)],
        sign=[signs[str(name)] for name in frame["truth"]],
    )
    rows = max(o[1] for o in offsets.values()) + 1
    x = {"scale": vega.part(domain=[-0.05, 2.1 * per_row - 0.05], nice=False, zero=False), "axis": None}
    y = {"scale": vega.part(domain=[2.3 * rows - 0.2, -0.3], nice=False, zero=False), "axis": None}
    domain = [str(name) for name in classes["truth"]]
    color = vega.field(
        "truth:N",
        scale=vega.part(domain=domain, range=[_CLASSES[k % len(_CLASSES)] for k in range(len(domain))]),
        legend=None
        if len(domain) > 20
        else vega.part(
            orient="bottom",
            title=None,
            labelColor=ground.text,
            columns=3 if compact else 10,
            symbolType="circle",
            labelExpr=f"{_pairs(signs)}[datum.label] + ' ' + datum.label",
        ),
    )
    tooltip = [
        vega.field("voice:N", title="network"),
        vega.field("truth:N", title="true class"),
        vega.field("image:Q", title="test image"),
    ]
    letters = vega.Chart(table[["voice", "image", "truth", "at", "high", "sign"]]).mark(
        "text", fontSize=10, fontWeight=600
    )
    layers = [
        letters.encode(
            x=vega.field("at:Q", **x), y=vega.field("high:Q", **y), text="sign:N", color=color, tooltip=tooltip
        )
    ]
    layers += _titles(
        names, {n: (2.1 * o[0] / _APART, 2.3 * o[1] - 0.15) for n, o in offsets.items()}, look, x, y, dark
    )
    return configure(vega.layer(*layers), dark, height=rows * (280 if compact else 260))


def _places(names: list[str], compact: bool, most: int = 3) -> tuple[int, dict[str, tuple[float, float]]]:
    """(panels in a row, where each begins, in panels)."""
    per_row = 1 if compact else min(most, len(names))
    return per_row, {n: (_APART * (k % per_row), 1.16 * (k // per_row)) for k, n in enumerate(names)}


def _titles(
    names: list[str], places: Mapping[str, tuple[float, float]], look: Look, x: vega.Part, y: vega.Part, dark: bool
) -> list[vega.Chart]:
    layers = []
    for name in names:
        role, method = look.get(name, ("student", "takd"))
        spot = vega.Chart(pd.DataFrame({"x": [places[name][0]], "y": [places[name][1]], "text": [name]}))
        at = {"x": vega.field("x:Q", **x), "y": vega.field("y:Q", **y)}
        shape, color = ROLE_SHAPES.get(role, "circle"), arm_color(method, dark)
        layers.append(
            spot.mark("point", shape=shape, filled=True, size=80, color=color, opacity=1, xOffset=6).encode(**at)
        )
        word = spot.mark(
            "text",
            align="left",
            baseline="middle",
            dx=16,
            fontSize=12.5,
            fontWeight=600,
            color=text_color(method, dark),
        )
        layers.append(word.encode(**at, text="text:N"))
    return layers


def _signs(names: list[str]) -> dict[str, str]:
    """A letter or digit for each class, its own first letter where nobody has it yet."""
    found: dict[str, str] = {}
    for number, name in enumerate(names):
        letters = [c for c in name if c.isalnum()]
        free = [c for c in [*letters, *(c.upper() for c in letters)] if c not in found.values()]
        found[name] = free[0] if free else str(number % 10)
    return found


def _pairs(signs: Mapping[str, str]) -> str:
    return json.dumps(dict(signs))
