"""Charts of the page "Look inside": pictures to choose from, soft answers, rows of means, matrices, reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from takd.presentation import vega
from takd.presentation.marks import fit, legend, message_chart
from takd.presentation.theme import ROLE_SHAPES, ROLE_STROKES, arm_color, configure, contrast, palette, text_color

TILE = 40  # pixels of a picture
_ROW = 24  # pixels of a class in a panel
_APART = 1.32  # of a panel's own width, from one panel's left edge to the next


def strip_chart(tiles: pd.DataFrame, chosen: int, dark: bool = False, compact: bool = False) -> vega.Chart:
    """Test images in rows. tiles columns: image (its place), truth (name of its class), said (the student's answer),
    right (of the student), picture (a data URI, empty where the pixels are not here)."""
    if tiles.empty:
        return message_chart("No test image fits this filter", dark)
    ground, columns = palette(dark), 6 if compact else 12
    table = tiles.assign(place=range(len(tiles))).assign(
        image=lambda f: f["image"].astype(str),
        x=lambda f: f["place"] % columns + 0.5,
        left=lambda f: f["place"] % columns + 0.04,
        right_edge=lambda f: f["place"] % columns + 0.96,
        top=lambda f: f["place"] // columns + 0.03,
        bottom=lambda f: f["place"] // columns + 0.97,
        middle=lambda f: f["place"] // columns + 0.4,
        under=lambda f: f["place"] // columns + 0.83,
        mark=lambda f: ["✓" if ok else "✗" for ok in f["right"]],
    )
    rows = int(table["place"].max()) // columns + 1
    height = rows * (TILE + 26)
    x = {"scale": vega.part(domain=[0, columns], nice=False, zero=False), "axis": None}
    y = {"scale": vega.part(domain=[0, rows], range=[0, height], nice=False, zero=False), "axis": None}
    tooltip = [
        vega.field("image:N", title="test image"),
        vega.field("truth:N", title="true class"),
        vega.field("said:N", title="student says"),
    ]
    own = table[table["image"] == str(chosen)]
    places = {"x": vega.field("left:Q", **x), "x2": "right_edge:Q", "y": vega.field("top:Q", **y), "y2": "bottom:Q"}
    layers = [
        vega.Chart(table)
        .mark("rect", cornerRadius=6, fill=ground.zone, stroke=ground.grid, cursor="pointer")
        .encode(**places, tooltip=tooltip)
        .selectable("box", ["image"]),
        vega.Chart(own)
        .mark("rect", cornerRadius=6, fillOpacity=0, stroke=ground.text, strokeWidth=2.5)
        .encode(**places),
    ]
    spot = {"x": vega.field("x:Q", **x), "tooltip": tooltip}
    shown = table[table["picture"] != ""]
    if len(shown):
        picture = vega.Chart(shown).mark("image", width=TILE, height=TILE, cursor="pointer", smooth=False)
        layers.append(picture.encode(**spot, y=vega.field("middle:Q", **y), url="picture:N"))
    else:
        word = vega.Chart(table).mark("text", fontSize=11, color=ground.muted, cursor="pointer")
        layers.append(word.encode(**spot, y=vega.field("middle:Q", **y), text="image:N"))
    name = vega.Chart(table).calculate(told="datum.mark + ' ' + datum.truth")
    letters = 9.5 if compact else 11.5
    words = name.mark("text", fontSize=letters, color=ground.text, limit=64 if compact else 100, cursor="pointer")
    layers.append(words.encode(**spot, y=vega.field("under:Q", **y), text="told:N"))
    return configure(vega.layer(*layers), dark, height=height)


def soft_chart(bars: pd.DataFrame, classes: Sequence[str], dark: bool = False, compact: bool = False) -> vega.Chart:
    """Small multiples on one axis: a panel per network, a bar per class.

    bars columns: panel (its name, in the order to draw), entropy (nats), role, method, label (class), share; `classes`
    in the order to draw, the true one marked by the caller. Wide: panels side by side. Compact: below each other.
    """
    if bars.empty:
        return message_chart("No answers are stored for this question", dark)
    ground = palette(dark)
    panels = list(dict.fromkeys(bars["panel"]))
    per_row = 1 if compact else len(panels)
    block = len(classes) * _ROW + 46
    rows = -(-len(panels) // per_row)
    place = {panel: number for number, panel in enumerate(panels)}
    # Rows are placed on a scale of pixels, so that panels may stand side by side or below each other.
    table = bars.assign(
        offset=[_APART * (place[p] % per_row) for p in bars["panel"]],
        line=[
            block * (place[p] // per_row) + 46 + _ROW * list(classes).index(c)
            for p, c in zip(bars["panel"], bars["label"], strict=True)
        ],
        percent=[f"{100 * share:.0f} %" if share >= 0.005 else "< 1 %" for share in bars["share"]],
    ).assign(
        end=lambda f: f["offset"] + f["share"],
        top=lambda f: f["line"] + 3,
        bottom=lambda f: f["line"] + _ROW - 3,
        middle=lambda f: f["line"] + _ROW / 2,
    )
    high = rows * block
    last = _APART * (per_row - 1) + 1
    left_room = 0.62 if compact else 0.72
    domain = [-left_room, last + 0.18]
    ticks = [round(_APART * n + t, 4) for n in range(per_row) for t in ((0, 0.5, 1) if per_row < 6 else (0, 1))]
    label = f"format(100 * (datum.value - {_APART} * floor((datum.value + 0.001) / {_APART})), '.0f') + ' %'"
    axis = vega.part(values=ticks, labelExpr=label, title="probability", grid=True)
    scale = vega.part(domain=domain, nice=False, zero=False)
    x, y = {"scale": scale, "axis": axis}, {"scale": vega.part(domain=[0, high], range=[0, high]), "axis": None}
    layers: list[vega.Chart] = []
    for panel in panels:
        own = table[table["panel"] == panel]
        method, role = str(own["method"].iloc[0]), str(own["role"].iloc[0])
        color = arm_color(method, dark)
        base = vega.Chart(own[["panel", "label", "offset", "end", "top", "bottom", "middle", "percent"]])
        row = vega.field("top:Q", **y)
        bar = base.mark("rect", color=color).encode(
            x=vega.field("offset:Q", **x),
            x2="end:Q",
            y=row,
            y2="bottom:Q",
            tooltip=[
                vega.field("panel:N", title="network"),
                vega.field("label:N", title="class"),
                vega.field("percent:N", title="share"),
            ],
        )
        value = base.mark("text", align="left", baseline="middle", dx=4, fontSize=11, color=ground.muted)
        at = block * (place[panel] // per_row)
        offset = _APART * (place[panel] % per_row) - (left_room if compact else 0.0)
        title = pd.DataFrame(
            {"x": [offset], "y": [at + 12], "under": [at + 30], "text": [panel[:1].upper() + panel[1:]]}
        ).assign(entropy=f"entropy {float(own['entropy'].iloc[0]):.2f} nats")
        head = vega.Chart(title)
        layers += [
            bar,
            value.encode(x=vega.field("end:Q", **x), y=vega.field("middle:Q", **y), text="percent:N"),
            head.mark(
                "point", shape=ROLE_SHAPES.get(role, "circle"), filled=True, size=70, color=color, opacity=1, xOffset=5
            ).encode(x=vega.field("x:Q", **x), y=vega.field("y:Q", **y)),
            head.mark(
                "text",
                align="left",
                baseline="middle",
                dx=14,
                fontSize=12,
                fontWeight=600,
                color=text_color(method, dark),
            ).encode(x=vega.field("x:Q", **x), y=vega.field("y:Q", **y), text="text:N"),
            head.mark("text", align="left", baseline="middle", dx=1, fontSize=12, color=ground.text).encode(
                x=vega.field("x:Q", **x), y=vega.field("under:Q", **y), text="entropy:N"
            ),
        ]
    told = table.drop_duplicates(["label", "middle"])[["label", "middle"]].assign(x=-0.04)
    words = vega.Chart(told).mark("text", align="right", baseline="middle", fontSize=12.5, color=ground.text)
    layers.append(words.encode(x=vega.field("x:Q", **x), y=vega.field("middle:Q", **y), text="label:N"))
    return configure(vega.layer(*layers), dark, height=high)


def rows_chart(
    summary: pd.DataFrame,
    seeds: pd.DataFrame,
    look: Mapping[str, tuple[str, str]],
    title: str,
    *,
    points: bool = False,
    least: float = 0.02,
    dark: bool = False,
    compact: bool = False,
) -> vega.Chart:
    """One row per name: its mean, 95 % interval, and a faint dot per seed.

    summary columns: name, mean, low, high, n in the order to draw; seeds: name, seed, value (fractions). `look`: (role,
    method) of a name, which is its shape and colour. `points`: differences, drawn from a line at zero.
    """
    if summary.empty:
        return message_chart("Nothing of this is stored yet", dark)
    ground, step = palette(dark), 44 if compact else 30
    table = summary.assign(
        shape=[ROLE_SHAPES.get(look.get(n, ("student", ""))[0], "circle") for n in summary["name"]],
        told=[_told(m, lo, hi, int(n), points) for m, lo, hi, n in summary[["mean", "low", "high", "n"]].to_numpy()],
    )
    for frame in (table, seeds := seeds[seeds["name"].isin(table["name"])].copy()):
        columns = [c for c in ("mean", "low", "high", "value") if c in frame]
        frame[columns] = frame[columns].astype(float) * 100
    ends = [table["low"], table["high"], table["mean"], seeds["value"]]
    low, high = fit([*ends, *([pd.Series([0.0])] if points else [])], least=100 * least, pad=0.06)
    scale = vega.part(domain=[low, high], nice=False, zero=False)
    sign = "format(datum.value, '+') == '+0' ? '0' : format(datum.value, '+')" if points else "datum.value + ' %'"
    axis = vega.part(labelExpr=sign, title=title, tickCount=5 if compact else 7)
    order = list(table["name"])
    left = vega.part(title=None, grid=False, labelColor=ground.text, labelFontSize=12.5, labelLimit=300)
    y = vega.field("name:N", sort=order, axis=None if compact else left, scale=vega.part(domain=order))
    field = lambda name: vega.field(f"{name}:Q", scale=scale, axis=axis)  # noqa: E731
    shift = 9 if compact else 0
    layers: list[vega.Chart] = []
    if points:
        zero = vega.Chart(pd.DataFrame({"at": [0.0]})).mark("rule", color=ground.muted, strokeWidth=1.25)
        layers.append(zero.encode(x=field("at")))
    for name in order:
        role, method = look.get(name, ("student", "takd"))
        color = arm_color(method, dark)
        own, dots = vega.Chart(table[table["name"] == name]), vega.Chart(seeds[seeds["name"] == name])
        layers += [
            dots.mark("point", filled=True, size=34, opacity=0.35, color=color, yOffset=shift).encode(
                x=field("value"), y=y, tooltip=["seed:Q", vega.field("value:Q", format=".2f")]
            ),
            own.mark("rule", strokeWidth=2.5, color=color, yOffset=shift).encode(x=field("low"), x2="high:Q", y=y),
            own.mark(
                "point",
                shape=ROLE_SHAPES.get(role, "circle"),
                filled=True,
                size=120,
                opacity=1,
                color=color,
                yOffset=shift,
            ).encode(x=field("mean"), y=y, tooltip=["name:N", vega.field("told:N", title="mean"), "n:Q"]),
        ]
    if compact:
        words = vega.Chart(table).calculate(line="datum.name + ': ' + datum.told")
        text = words.mark("text", align="left", dy=-9, fontSize=11.5, color=ground.text)
        layers.append(text.encode(x=vega.value(0), y=y, text="line:N"))
    return configure(vega.layer(*layers), dark, height=max(90, step * len(order)))


def _told(mean: float, low: float, high: float, n: int, points: bool) -> str:
    sign, unit = ("+" if points else "", " points" if points else " %")
    if n < 2:
        return f"{100 * mean:{sign}.1f}{unit}, one run"
    return f"{100 * mean:{sign}.1f}{unit} ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"


def matrix_chart(
    cells: pd.DataFrame,
    order: tuple[Sequence[str], Sequence[str]],
    titles: tuple[str, str],
    most: float,
    *,
    diverging: bool = False,
    dark: bool = False,
    compact: bool = False,
) -> vega.Chart:
    """A table of coloured cells. cells columns: row, column, value (its colour, up to `most`), text, told (tooltip),
    marked (drawn with an edge, as on a diagonal). `order`: the rows and the columns in order, `titles` above each."""
    if cells.empty:
        return message_chart("Nothing of this is stored yet", dark)
    ground = palette(dark)
    blue, orange = ("#4ba3e3", "#f0803c") if dark else ("#0072b2", "#b34f00")
    colors = [blue, ground.background, orange] if diverging else [ground.background, blue]
    domain = [-most, 0, most] if diverging else [0, most]
    inks = (ground.text, "#000000" if dark else "#ffffff")
    ends = [ground.background, *colors[::-2]] if diverging else colors  # none, most, least
    table = cells.assign(strong=[ink_on(value / most, ends, inks) for value in cells["value"]])
    few = len(order[0]) <= 7
    step = (46 if few else 30) if compact else (42 if few else 30)
    limit = 96 if compact else 220
    y_axis = vega.part(
        title=None if compact else titles[0],
        labelColor=ground.text,
        labelLimit=limit,
        grid=False,
        labelFontSize=11 if compact else 12,
    )
    x_axis = vega.part(
        title=titles[1],
        orient="top",
        labelAngle=-90 if compact or not few else 0,
        labelColor=ground.text,
        labelLimit=limit if compact or not few else 170,
        grid=False,
        labelFontSize=11 if compact else 12,
    )
    x = vega.field("column:N", sort=list(order[1]), axis=x_axis, scale=vega.part(domain=list(order[1])))
    y = vega.field("row:N", sort=list(order[0]), axis=y_axis, scale=vega.part(domain=list(order[0])))
    color = vega.field(
        "value:Q", scale=vega.part(domain=domain, range=colors, clamp=True, interpolate="rgb"), legend=None
    )
    tooltip = [vega.field("told:N", title="told")]
    base = vega.Chart(table)
    edge = vega.Chart(table[table["marked"]]).mark("rect", fillOpacity=0, stroke=ground.text, strokeWidth=1.5)
    layers = [
        base.mark("rect", stroke=ground.background).encode(x=x, y=y, color=color, tooltip=tooltip),
        edge.encode(x=x, y=y),
    ]
    for strong, ink in enumerate(inks):
        some = vega.Chart(table[table["strong"] == strong])
        layers.append(some.mark("text", fontSize=10.5 if compact else 12, color=ink).encode(x=x, y=y, text="text:N"))
    return configure(vega.layer(*layers), dark, height=step * len(order[0]))


def ink_on(share: float, ends: Sequence[str], inks: Sequence[str]) -> int:
    """Which ink can be read on a cell this far (-1 to 1) from `ends[0]`, the colour of zero, to `ends[1]` or, below
    zero, the last one."""
    end = ends[1] if share >= 0 else ends[-1]
    pairs = ((int(ends[0][k : k + 2], 16), int(end[k : k + 2], 16)) for k in (1, 3, 5))
    part = min(1.0, abs(share))
    ground = "#" + "".join(f"{round(low + part * (high - low)):02x}" for low, high in pairs)
    return max(range(len(inks)), key=lambda k: contrast(inks[k], ground))


def reliability_chart(
    bins: pd.DataFrame, look: Mapping[str, tuple[str, str]], dark: bool = False, compact: bool = False
) -> vega.Chart:
    """Accuracy by confidence: one line per network, the diagonal is perfect calibration. bins: lens_data.bin_means; a
    point's size is its share of the answers."""
    if bins.empty:
        return message_chart("No answers are stored, so there are no bins to draw", dark)
    ground, height = palette(dark), 320
    field = lambda channel, title: vega.field(  # noqa: E731
        f"{channel}:Q",
        scale=vega.part(domain=[0, 1], nice=False),
        axis=vega.part(title=title, labelExpr="format(100 * datum.value, '.0f') + ' %'", tickCount=5),
    )
    x, y = field("confidence", "how sure the network is"), field("accuracy", "how often it is right")
    line = pd.DataFrame({"confidence": [0.0, 1.0], "accuracy": [0.0, 1.0]})
    layers = [vega.Chart(line).mark("line", color=ground.muted, strokeDash=[4, 4], strokeWidth=1.25).encode(x=x, y=y)]
    names = list(dict.fromkeys(bins["voice"]))
    for name in names:
        role, method = look.get(name, ("student", "takd"))
        stroke = ROLE_STROKES[role]
        own, color = vega.Chart(bins[bins["voice"] == name]), arm_color(method, dark)
        size = vega.field("share:Q", scale=vega.part(domain=[0, 0.5], range=[25, 320], clamp=True), legend=None)
        tooltip = [
            vega.field("voice:N", title="network"),
            vega.field("confidence:Q", format=".1%"),
            vega.field("accuracy:Q", format=".1%"),
            vega.field("share:Q", format=".1%", title="share of answers"),
        ]
        layers += [
            own.mark(
                "line", color=color, strokeWidth=0.8 * stroke.width, strokeDash=list(stroke.dash) or [1, 0]
            ).encode(x=x, y=y),
            own.mark("point", shape=ROLE_SHAPES.get(role, "circle"), filled=True, color=color, opacity=0.9).encode(
                x=x, y=y, size=size, tooltip=tooltip
            ),
        ]
    labels = [
        (name, look.get(name, ("student", "takd"))[1], ROLE_SHAPES.get(look.get(name, ("student",))[0], "circle"), 0.0)
        for name in names
    ]
    if compact:
        return configure(vega.layer(*layers), dark, height=height)
    return configure(vega.layer(*layers, *_key(labels, dark)), dark, height=height)


def _key(labels: list[tuple[str, str, str, float]], dark: bool) -> list[vega.Chart]:
    """Names in the upper left corner, where no line of a reliability diagram runs."""
    return [mark for number, label in enumerate(labels) for mark in legend([label], 12 + 18 * number, dark)]
