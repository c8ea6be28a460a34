"""The drawing of who teaches whom: boxes in the order in which they are trained, arrows from teachers to pupils.

Time runs to the right, or down where `compact`. An arrow between neighbours runs straight into the next box; one that
passes over a box takes a lane beside the boxes, one lane for each teacher. Everything is placed along two axes, `along`
(0 to 1 wide, pixels compact) and `across` (the other way round), and turned at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from takd.presentation import vega
from takd.presentation.methods.composition import Arrow, Graph, Node
from takd.presentation.theme import ROLE_SHAPES, arm_color, configure, palette, text_color

SHAPES = {**ROLE_SHAPES, "head": "triangle-up", "checkpoint": "square", "peer": "cross", "sub-model": "diamond"}
FINISHED = ("teacher", "checkpoint", "head", "labels")  # what the method does not train: drawn in the grey of "alone"
_STEPS = 14  # points of a bent line


@dataclass(frozen=True)
class _Measures:
    """Lengths in the units of the axis they lie on."""

    along: float
    gap: float
    across: float
    between: float
    lane: float
    tip: float  # what an arrow's head needs


@dataclass(frozen=True)
class _Box:
    node: Node
    a: float
    a2: float
    c: float
    c2: float

    @property
    def middle(self) -> float:
        return (self.c + self.c2) / 2


def teaching_chart(graph: Graph, dark: bool = False, compact: bool = False, method: str = "rival") -> vega.Chart:
    """The graph in the colour of `method`; boxes that it does not train are grey."""
    measures = _compact_measures(graph) if compact else _wide_measures(graph)
    boxes, first_lane = _placed(graph, measures, compact)
    lines, tips, notes = [], [], []
    lanes = _lanes(graph)
    for number, arrow in enumerate(graph.arrows):
        points, tip = _route(arrow, graph, boxes, measures, first_lane, lanes, compact)
        lines += [{"line": number, "step": i, "u": u, "v": v, "look": _look(arrow)} for i, (u, v) in enumerate(points)]
        if tip is not None:
            tips.append({"u": tip[0], "v": tip[1], "to": tip[2]})
            if arrow.note:  # where several come in together, there is room only where they set out
                u, v = points[0] if len(_columns(graph)[0]) > 1 else tip[:2]
                if compact and tip[2] == "side":  # the heads lie close together there, the lanes do not
                    u, v = boxes[arrow.target].a - 6, points[2][1]
                notes.append({"u": u, "v": v, "to": tip[2], "out": (u, v) == points[0], "text": arrow.note})
    height = max(box.a2 if compact else box.c2 for box in boxes.values()) + 4
    drawing = _layers(boxes, lines, tips, notes, height, dark, compact, method)
    return configure(drawing, dark, height=height)


def _look(arrow: Arrow) -> str:
    return "belongs" if arrow.belongs else "gated" if arrow.gated else "always"


def _columns(graph: Graph) -> list[list[Node]]:
    last = max(node.column for node in graph.nodes)
    return [[node for node in graph.nodes if node.column == column] for column in range(last + 1)]


def _lanes(graph: Graph) -> dict[str, int]:
    """A lane for every teacher that reaches over a box; the first teacher's lies farthest out."""
    column = {node.name: node.column for node in graph.nodes}
    reaching = [a.source for a in graph.arrows if column[a.target] - column[a.source] > 1]
    return {name: i for i, name in enumerate(reversed(dict.fromkeys(reaching)))}


def _wide_measures(graph: Graph) -> _Measures:
    number = len(_columns(graph))
    along, gap = (0.2, {2: 0.22, 3: 0.14}[number]) if number in (2, 3) else (0.66 / number, 0.34 / max(1, number - 1))
    return _Measures(along, gap, 58.0, 12.0, 16.0, 0.011)


def _compact_measures(graph: Graph) -> _Measures:
    most = max(len(column) for column in _columns(graph))
    room = 1.0 - 0.06 * len(_lanes(graph))
    return _Measures(52.0, 40.0, min(0.56, (room - 0.025 * (most - 1)) / most), 0.025, 0.06, 6.0)


def _placed(graph: Graph, m: _Measures, compact: bool) -> tuple[dict[str, _Box], float]:
    """Boxes by name, and where the first lane begins: above them, or right of them where compact."""
    columns = _columns(graph)
    lanes = len(_lanes(graph))
    most = max(len(column) for column in columns)
    room = m.across * most + m.between * (most - 1)
    whole = 1.0 - m.lane * lanes if compact else room
    start = 0.0 if compact else m.lane * (lanes + 0.5 * bool(lanes)) + 2.0
    left = 2.0 if compact else (1 - m.along * len(columns) - m.gap * (len(columns) - 1)) / 2
    boxes = {}
    for i, column in enumerate(columns):
        a = left + i * (m.along + m.gap)
        c = start + (whole - m.across * len(column) - m.between * (len(column) - 1)) / 2
        for node in column:
            boxes[node.name] = _Box(node, a, a + m.along, c, c + m.across)
            c += m.across + m.between
    edge = max(b.c2 for b in boxes.values()) if compact else min(b.c for b in boxes.values())
    return boxes, edge


_Point = tuple[float, float]
_Tip = tuple[float, float, str]


def _route(
    arrow: Arrow,
    graph: Graph,
    boxes: dict[str, _Box],
    m: _Measures,
    first_lane: float,
    lanes: dict[str, int],
    compact: bool,
) -> tuple[list[_Point], _Tip | None]:
    """The line of an arrow as (along, across) points, and its head: where it is and whither it points."""
    start, end = boxes[arrow.source], boxes[arrow.target]
    if arrow.belongs:
        return [(start.a + (start.a2 - start.a) / 2, start.c2), (end.a + (end.a2 - end.a) / 2, end.c)], None
    span = end.node.column - start.node.column
    if span > 1:
        return _by_lane(arrow, boxes, m, first_lane, lanes, compact)
    back = any(a.source == arrow.target and a.target == arrow.source for a in graph.arrows)
    if span < 0:  # one of two that teach each other
        c = start.middle + 0.18 * m.across
        return [(start.a, c), (end.a2 + m.tip, c)], (end.a2 + m.tip, c, "back")
    rivals = [a for a in graph.arrows if a.target == arrow.target and _near(a, boxes)]
    share = (rivals.index(arrow) + 1) / (len(rivals) + 1)
    c2 = end.c + share * (end.c2 - end.c) - (0.18 * m.across if back else 0)
    c = start.middle - (0.18 * m.across if back else 0)
    stop = end.a - m.tip
    return _bent(start.a2, c, stop, c2), (stop, c2, "on")


def _near(arrow: Arrow, boxes: dict[str, _Box]) -> bool:
    return not arrow.belongs and boxes[arrow.target].node.column - boxes[arrow.source].node.column == 1


def _by_lane(
    arrow: Arrow, boxes: dict[str, _Box], m: _Measures, first_lane: float, lanes: dict[str, int], compact: bool
) -> tuple[list[_Point], _Tip]:
    """Out of the side of the box, along its teacher's lane, into the side of the pupil's box."""
    start, end, number = boxes[arrow.source], boxes[arrow.target], lanes[arrow.source]
    side = 1 if compact else -1
    lane = first_lane + side * (number + (0.8 if compact else 1.3)) * m.lane
    # Teachers farther back land farther left, so that no line covers another.
    out = start.a + (0.5 + 0.2 * (number - (len(lanes) - 1) / 2) / max(1, len(lanes))) * (start.a2 - start.a)
    land = end.a + (len(lanes) - number) / (len(lanes) + 1) * (end.a2 - end.a)
    edge, from_edge = (end.c2, start.c2) if compact else (end.c, start.c)
    gap = 0.017 if compact else 6.0
    tip = edge + side * gap
    return [(out, from_edge), (out, lane), (land, lane), (land, tip)], (land, tip, "side")


def _bent(a: float, c: float, a2: float, c2: float) -> list[_Point]:
    """From one point to another, leaving and arriving along the axis."""
    if c == c2:
        return [(a, c), (a2, c2)]
    shares = [i / _STEPS for i in range(_STEPS + 1)]
    return [(a + (a2 - a) * t, c + (c2 - c) * t * t * (3 - 2 * t)) for t in shares]


def _layers(
    boxes: dict[str, _Box],
    lines: list[dict[str, Any]],
    tips: list[dict[str, Any]],
    notes: list[dict[str, Any]],
    height: float,
    dark: bool,
    compact: bool,
    method: str,
) -> vega.Chart:
    ground = palette(dark)
    scales = {
        "x": vega.field("x:Q", scale=vega.part(domain=[0, 1], nice=False, zero=False), axis=None),
        "y": vega.field("y:Q", scale=vega.part(domain=[height, 0], nice=False, zero=False), axis=None),
    }
    marks = []
    looks: tuple[tuple[str, dict[str, Any]], ...] = (
        ("belongs", {"strokeWidth": 1.5, "strokeDash": [2, 3], "color": ground.faint}),
        ("gated", {"strokeWidth": 2, "strokeDash": [7, 5], "color": ground.muted}),
        ("always", {"strokeWidth": 2, "color": ground.muted}),
    )
    for look, style in looks:
        rows = [_turned(row, compact) for row in lines if row["look"] == look]
        if rows:
            frame = pd.DataFrame(rows)[["x", "y", "line", "step"]]
            mark = vega.Chart(frame).mark("line", interpolate="linear", **style)
            marks.append(mark.encode(**scales, detail="line:N", order="step:Q"))
    heads = {"on": "right", "back": "left", "side": "down"}
    if compact:
        heads = {"on": "down", "back": "up", "side": "left"}
    for to, way in heads.items():
        rows = [_turned(row, compact) for row in tips if row["to"] == to]
        if rows:
            mark = vega.Chart(pd.DataFrame(rows)[["x", "y"]])
            marks.append(
                mark.mark("point", shape=f"triangle-{way}", filled=True, size=75, color=ground.muted, opacity=1).encode(
                    **scales
                )
            )
    return vega.layer(
        *marks,
        *_box_marks(boxes, scales, dark, compact, method),
        *_note_marks(notes, scales, ground.text, compact),
    )


def _turned(row: dict[str, Any], compact: bool) -> dict[str, Any]:
    x, y = (row["v"], row["u"]) if compact else (row["u"], row["v"])
    return row | {"x": x, "y": y}


def _box_marks(
    boxes: dict[str, _Box], scales: dict[str, Any], dark: bool, compact: bool, method: str
) -> list[vega.Chart]:
    ground = palette(dark)
    rows: list[dict[str, Any]] = []
    for box in boxes.values():
        kind = box.node.kind
        how = "scratch" if kind in FINISHED else method
        x, x2, y, y2 = (box.c, box.c2, box.a, box.a2) if compact else (box.a, box.a2, box.c, box.c2)
        rows.append(
            {
                "x": x,
                "x2": x2,
                "y": y,
                "y2": y2,
                "cx": (x + x2) / 2,
                "ty": y + (18 if compact else 20),
                "ny": y + (37 if compact else 41),
                "title": box.node.title,
                "line": box.node.line,
                "kind": kind,
                "color": arm_color(how, dark),
                "ink": text_color(how, dark),
                "stroke": 3.0 if kind == "student" else 1.5,
            }
        )
    frame = pd.DataFrame(rows)
    rects = vega.Chart(frame[["x", "x2", "y", "y2", "color", "stroke"]])
    at = {"x": vega.field("cx:Q", scale=scales["x"]["scale"], axis=None)}
    title = {**at, "y": vega.field("ty:Q", scale=scales["y"]["scale"], axis=None)}
    line = {**at, "y": vega.field("ny:Q", scale=scales["y"]["scale"], axis=None)}
    color = vega.field("color:N", scale=None)
    marks = [
        # Twice: a plain ground first, as a tinted one would let lines shine through.
        rects.mark("rect", cornerRadius=8, fill=ground.background, opacity=1).encode(**scales, x2="x2:Q", y2="y2:Q"),
        rects.mark("rect", cornerRadius=8, fillOpacity=0.1).encode(
            **scales, x2="x2:Q", y2="y2:Q", fill=color, stroke=color, strokeWidth=vega.field("stroke:Q", scale=None)
        ),
        vega.Chart(frame[["cx", "ny", "line"]])
        .mark("text", fontSize=13.5, fontWeight="bold", baseline="middle", color=ground.text)
        .encode(**line, text="line:N"),
        vega.Chart(frame[["cx", "ty", "title", "ink"]])
        .mark("text", fontSize=12.5, baseline="middle")
        .encode(**title, text="title:N", color=vega.field("ink:N", scale=None)),
    ]
    beside = [sum(b.node.column == box.node.column for b in boxes.values()) for box in boxes.values()]
    narrow = max(beside) > 3 if compact else max(box.node.column for box in boxes.values()) > 3
    for row in () if narrow else rows:  # many boxes side by side leave no room for the sign
        if row["kind"] in SHAPES:
            spot = pd.DataFrame([{"cx": row["cx"], "ty": row["ty"] - 1}])
            shift = -3.2 * len(row["title"]) - 9
            sign = vega.Chart(spot).mark(
                "point", shape=SHAPES[row["kind"]], filled=True, size=70, color=row["ink"], opacity=1, xOffset=shift
            )
            marks.append(sign.encode(**title))
    return marks


def _note_marks(notes: list[dict[str, Any]], scales: dict[str, Any], ink: str, compact: bool) -> list[vega.Chart]:
    """A letter or number beside an arrow, at its head or where it sets out."""
    marks = []
    for to, out in (("on", False), ("on", True), ("side", False)):
        rows = [_turned(row, compact) for row in notes if row["to"] == to and row["out"] == out]
        if rows:
            upright = (to == "on") == compact  # the arrow points up or down: the letter stands right of it, else above
            dx, dy = (10, 9 if out else -4) if upright else (12 if out else -12, -10)
            if compact and to == "side":
                dx, dy = -7, 0
            mark = vega.Chart(pd.DataFrame(rows)[["x", "y", "text"]]).mark(
                "text", fontSize=13, fontStyle="italic", baseline="middle", color=ink, dx=dx, dy=dy
            )
            marks.append(mark.encode(**scales, text="text:N"))
    return marks
