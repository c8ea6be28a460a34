"""The board: claims by settings, each cell a mark whose shape and colour say its status."""

from __future__ import annotations

import json
from textwrap import wrap
from typing import Any

import pandas as pd

from takd.claims.claim import FAMILIES
from takd.presentation import vega
from takd.presentation.claims.marks import MARKS, colour
from takd.presentation.marks import message_chart
from takd.presentation.theme import configure, palette

_WIDTHS = ((4, 352, 52), (8, 318, 52))  # up to so many settings: pixels left of the cells, characters of a title's line
_LEAST = 256, 40  # with more of them
_FEW = 4
_FAMILY, _CLAIM = {False: 30, True: 52}, {False: 23, True: 40}  # pixels of a row, by compact
_LEGEND = {False: 48, True: 70}  # pixels above the rows: what marks mean
_HEAD = {False: 32, True: 0}  # and the settings; on phones they stand at every family
_LINE, _TITLE_LINE = 13, 14  # of a setting's name, of which there is room for two, and of a claim's title
_LONGEST = 64  # characters of a title's line on phones


def board_chart(
    cells: pd.DataFrame, dark: bool = False, compact: bool = False, picked: str | None = None
) -> vega.Chart:
    """One row per claim under its family, one column per setting (takd.presentation.claims.words.cells). Filled marks
    are pre-registered tests, hollow ones exploratory. A click anywhere in a row selects `claim`."""
    if cells.empty:
        return message_chart("There are no claims", dark)
    ground = palette(dark)
    rows, families, height = placed(cells, compact)
    settings = list(dict.fromkeys(cells["setting"]))
    y_scale = vega.part(domain=[0, height], range=[0, height], nice=False, zero=False)
    wide, _ = _room(len(settings))
    left = 0 if compact else -wide
    names = {str(int(row["first_line"])): row["label"].split("\n") for row in rows.to_dict("records")}
    chosen = [int(at) for at in rows.loc[rows["claim"] == picked, "first_line"]]
    axis: Any = None
    if not compact:
        axis = vega.part(
            values=list(rows["first_line"]), labelExpr=f"{json.dumps(names)}[format(datum.value, 'd')]",
            grid=False, title=None, labelAlign="left", labelPadding=wide - 6, labelLimit=wide - 14,
            labelFontSize=12.5, labelLineHeight=_TITLE_LINE, labelColor=ground.text, labelOverlap=False, zindex=1,
            labelFontWeight={"condition": {"test": f"datum.value === {chosen[0]}", "value": "bold"}, "value": "normal"}
            if chosen else "normal",
        )  # fmt: skip
    x = vega.field("setting:N", axis=None, scale=vega.part(domain=settings), sort=settings)

    def y(name: str) -> vega.Part:
        return vega.field(f"{name}:Q", scale=y_scale, axis=axis)

    tip = [vega.field("label:N", title="claim"), vega.field("said:N", title="says")]
    strip = {"cursor": "pointer", "cornerRadius": 5}
    whole = {"x": vega.value(left), "x2": vega.value("width")}
    lines = [
        vega.Chart(rows[rows["claim"] == picked])
        .mark("rect", fill=ground.zone, stroke=ground.faint, strokeWidth=1, **strip)
        .encode(y=y("top"), y2="bottom:Q", **whole),
        vega.Chart(rows).mark("rect", fill=ground.zone, fillOpacity=0.01, **strip)
        .encode(y=y("top"), y2="bottom:Q", tooltip=tip, **whole),
    ]  # fmt: skip
    layers = [vega.layer(*reversed(lines)).selectable("box", ["claim"])]
    layers += _families(families, settings, left, x, y, dark, compact)
    if compact:
        title = vega.Chart(rows).mark(
            "text", align="left", baseline="top", fontSize=12, limit=335, lineBreak="\n", lineHeight=_TITLE_LINE,
            color=ground.text,
        )  # fmt: skip
        layers.append(title.encode(x=vega.value(4), y=y("top_text"), text="label:N"))
    layers += _marks(cells.merge(rows[["claim", "mark_at"]], on="claim"), x, y, dark)
    looks = [look for look in MARKS if look != "not run" or look in set(cells["look"])]
    layers += legend(looks, left + 8, 10.0, 3 if not compact else 2, dark, hollow=True)
    return configure(vega.layer(*layers), dark, height=height)


def placed(cells: pd.DataFrame, compact: bool) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """(a row per claim with its pixels, a row per family, the height): top, bottom, at (its middle), mark_at."""
    more = _LINE * (max(2, *(_lines(name).count("\n") + 1 for name in cells["setting"])) - 2)
    here = _LEGEND[compact] + _HEAD[compact] + (0 if compact else more)
    longest = _LONGEST if compact else _room(cells["setting"].nunique())[1]
    claims = cells.drop_duplicates("claim").sort_values("number")
    said = cells.groupby("claim", sort=False).apply(_says, include_groups=False)
    rows: list[dict[str, object]] = []
    families: list[dict[str, object]] = []
    for family, name in FAMILIES.items():
        own = claims[claims["family"] == family]
        if own.empty:
            continue
        families.append({"family": name, "top": here, "at": here + (12 if compact else _FAMILY[compact] - 10)})
        here += _FAMILY[compact] + (more if compact else 0)
        for claim in own.to_dict("records"):
            lines = _in_lines(f"{claim['number']}  {claim['title']}", longest)
            below = _TITLE_LINE * (len(lines) - 1)
            step = _CLAIM[compact] + below
            row = {name: claim[name] for name in ("claim", "number", "title")}
            row |= {"label": "\n".join(lines), "said": said[str(claim["claim"])]}
            row |= {"top": here, "bottom": here + step, "at": here + step // 2, "top_text": here + 5}
            row |= {"first_line": here + (step - below) // 2}  # its middle: an axis centres the first of several
            rows.append(row | {"mark_at": here + (28 + below if compact else step // 2)})
            here += step
    return pd.DataFrame(rows), pd.DataFrame(families), here + 4


def _room(settings: int) -> tuple[int, int]:
    """(pixels for numbers and titles, characters of a title's line) beside so many columns."""
    return next(((pixels, longest) for most, pixels, longest in _WIDTHS if settings <= most), _LEAST)


def _in_lines(title: str, longest: int) -> list[str]:
    """A title, in two or three lines of about the same length where one is too long."""
    if len(title) <= longest:
        return [title]
    lines = 2 if len(title) // 2 + 6 <= longest else 3
    return wrap(title, max(longest * 2 // 3, len(title) // lines + 6))


def _lines(setting: str) -> str:
    """A setting's name above its column, in short lines: with eleven settings there are 30 pixels for each."""
    return setting.replace(", ", "\n").replace("-", "-\n").replace("ResNets", "Res-\nNets")


def _says(own: pd.DataFrame) -> str:
    return "; ".join(f"{r['setting']}: {str(r['status']).lower()}" for r in own.to_dict("records"))


def _families(
    families: pd.DataFrame, settings: list[str], left: int, x: vega.Part, y: Any, dark: bool, compact: bool
) -> list[vega.Chart]:
    """Names of families in bold, and the settings above the columns: once, or at every family on phones."""
    ground = palette(dark)
    name = vega.Chart(families).mark(
        "text", align="left", baseline="middle", fontSize=12.5, fontWeight=700, color=ground.muted
    )
    layers = [name.encode(x=vega.value(left + (4 if compact else 6)), y=y("at"), text="family:N")]
    rule = vega.Chart(families).mark("rule", color=ground.grid, strokeWidth=1)
    if not compact:
        layers.append(rule.encode(x=vega.value(0), x2=vega.value("width"), y=y("at")))
    tops = families["top"] + 38 if compact else pd.Series([_LEGEND[False] + 16])
    small = len(settings) > _FEW
    heads = pd.DataFrame([{"setting": s, "lines": _lines(s), "at": float(top)} for s in settings for top in tops])
    text = vega.Chart(heads).mark(
        "text", baseline="middle", lineBreak="\n", lineHeight=_LINE, dy=-7, color=ground.text,
        fontSize=10 if small else 12,
    )  # fmt: skip
    layers.append(text.encode(x=x, y=y("at"), text="lines:N"))
    return layers


def _marks(table: pd.DataFrame, x: vega.Part, y: Any, dark: bool) -> list[vega.Chart]:
    tooltip = [
        vega.field("title:N", title="claim"), vega.field("setting:N", title="setting"),
        vega.field("status:N", title="status"), vega.field("told:N", title="value"), vega.field("n:Q", title="chains"),
        vega.field("kind:N", title="rule"), vega.field("origin:N", title="numbers"),
    ]  # fmt: skip
    layers = []
    for look, filled in ((look, filled) for look in MARKS for filled in (True, False)):
        own = table[(table["look"] == look) & (table["filled"] == filled)]
        if len(own):
            point = shape_of(vega.Chart(own), look, dark, filled=filled)
            layers.append(point.encode(x=x, y=y("mark_at"), tooltip=tooltip))
    return layers


def shape_of(chart: vega.Chart, look: str, dark: bool, *, filled: bool = True, scale: float = 1.0) -> vega.Chart:
    """A status as a mark: its shape and colour, hollow where its rule was not registered."""
    mark, ink = MARKS[look], colour(look, dark)
    inside = ink if filled and look != "not run" else "transparent"
    return chart.mark(
        "point", shape=mark.shape, fill=inside, stroke=ink, strokeWidth=2, size=mark.size * scale, opacity=1,
        cursor="pointer",
    )  # fmt: skip


def legend(looks: list[str], left: float, top: float, across: int, dark: bool, *, hollow: bool) -> list[vega.Chart]:
    """What the marks mean, `across` of them in a line; with what a hollow one means."""
    ground, layers = palette(dark), []
    entries = [(look, MARKS[look].word, True) for look in looks]
    entries += [("supported", "hollow: exploratory", False)] if hollow else []
    for number, (look, word, filled) in enumerate(entries):
        at_x, at_y = left + 172 * (number % across), top + 21 * (number // across)
        spot = vega.Chart(pd.DataFrame({"text": [word]}))
        here = {"x": vega.value(at_x), "y": vega.value(at_y)}
        layers.append(shape_of(spot, look, dark, filled=filled, scale=0.8).encode(**here))
        text = spot.mark("text", align="left", baseline="middle", dx=10, fontSize=12, color=ground.text)
        layers.append(text.encode(**here, text="text:N"))
    return layers
