"""The lattice of all paths from teacher to student, drawn as a tree whose rows are whole paths."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd

from takd.analysis.assistants import certain
from takd.analysis.lattice import Lattice
from takd.presentation import vega
from takd.presentation.captions import gain_and_interval
from takd.presentation.formats import accuracy, digits_for, duration, known, listing, percent, points, shared_family
from takd.presentation.marks import halo
from takd.presentation.phrases import arm_label, interval_text, row_label
from takd.presentation.theme import ROLE_SHAPES, arm_color, configure, palette, text_color


def lattice_chart(
    nodes: pd.DataFrame,
    columns: tuple[str, ...],
    dark: bool = False,
    compact: bool = False,
    picked: str | None = None,
) -> vega.Chart:
    """Teacher left, student right, one column per network and one row per path (takd.analysis.lattice.Lattice).

    Filled marks are trained, hollow dashed ones are not; a thick ring is training now. Numbers at the nodes are test
    accuracies, those on the lines what going through won over the same network taught by the teacher directly. The
    best path is thick where its gain is certain. A click on a node selects `arm`.
    """
    ground = palette(dark)
    table = _told(nodes, dark)
    rows, step = int(table["row"].max()) + 1, 54 if compact else 46
    last = len(columns) - 1
    prefix = shared_family(columns) if compact or len(columns) > 5 else ""
    names = {str(i): name.removeprefix(prefix) for i, name in enumerate(columns)}
    ends = [-0.12, last + 0.12] if compact else [-0.25, last + 0.06]
    x = vega.field(
        "column:Q",
        scale=vega.part(domain=ends, nice=False, zero=False),
        axis=vega.part(
            values=list(range(last + 1)), orient="top", labelExpr=f"{json.dumps(names)}[format(datum.value, 'd')]",
            title=f"{prefix}…, teacher left, student right" if prefix else None, grid=True, labelColor=ground.text,
            labelFontSize=13, labelOverlap=False,
        ),
    )  # fmt: skip
    y_scale = vega.part(domain=[-0.7, rows - 0.4], reverse=True, nice=False, zero=False)
    y = vega.field("row:Q", scale=y_scale, axis=None)
    tooltip = [
        vega.field("path:N", title="path"), vega.field("reached:N", title="test accuracy"),
        vega.field("won:N", title="points over direct KD"), vega.field("n:Q", title="seeds"),
        vega.field("own:N", title="this training, one seed"), vega.field("all:N", title="whole path, one seed"),
    ]  # fmt: skip
    layers = [*_lines(table, x, y, dark), _marks(table, x, y, dark, tooltip)]
    ring = table[table["arm"] == picked]
    if len(ring):
        layers.append(
            vega.Chart(ring[["column", "row"]])
            .mark("point", shape="circle", size=620, filled=False, stroke=ground.text, strokeWidth=2)
            .encode(x=x, y=y)
        )
    if compact:
        starts = table[table["role"] == "student"].assign(column=0.0)
        line = vega.Chart(starts[["column", "row", "line"]])
        layers += halo(line.encode(x=x, y=y, text="line:N"), dark, align="left", dx=8, dy=-17, fontSize=11.5)
        return configure(vega.layer(*layers), dark, height=step * rows)
    inner = vega.Chart(table[table["role"] != "student"][["column", "row", "short"]])
    layers.append(inner.mark("text", dy=-16, fontSize=12, color=ground.text).encode(x=x, y=y, text="short:N"))
    for sure, ink, weight in ((True, text_color("takd", dark), 700), (False, ground.muted, 400)):
        some = vega.Chart(table[(table["certain"] == sure) & (table["edge"] != "")][["column", "row", "edge"]])
        layers.append(
            some.mark("text", align="right", dx=-22, dy=-9, fontSize=12, fontWeight=weight, color=ink)
            .encode(x=x, y=y, text="edge:N")
        )  # fmt: skip
    last_ones = table[table["role"] == "student"]
    said = {str(int(row["row"])): row["beside"] for row in last_ones.to_dict("records")}
    right = vega.part(
        title=None, orient="right", values=[int(r) for r in last_ones["row"]], grid=False, labelColor=ground.text,
        labelExpr=f"{json.dumps(said)}[format(datum.value, 'd')]", labelFontSize=12.5, labelLimit=300,
        labelLineHeight=16, labelPadding=14, labelOverlap=False,
    )  # fmt: skip
    # A second axis holds the results: unlike text marks, axes are counted when the chart is fitted to its place.
    empty = vega.Chart(last_ones[["column", "row"]]).mark("point", opacity=0)
    behind = empty.encode(x=x, y=vega.field("row:Q", scale=y_scale, axis=right))
    chart = vega.layer(behind, vega.layer(*layers)).settings(resolve={"scale": {"y": "independent"}})
    return configure(chart, dark, height=step * rows)


def _lines(table: pd.DataFrame, x: vega.Part, y: vega.Part, dark: bool) -> list[vega.Chart]:
    """Down from the parent, then right to the node; the best path over all others."""
    ground, place = palette(dark), table.set_index("arm")[["column", "row"]]
    level, down = [], []
    for node in table[table["parent"] != ""].to_dict("records"):
        start = place.loc[node["parent"]]
        look = "best" if node["best"] else "done" if node["state"] == "done" else "open"
        own = {"column": float(start["column"]), "look": look}
        level.append(own | {"end": float(node["column"]), "row": float(node["row"])})
        if start["row"] != node["row"]:
            down.append(own | {"row": float(start["row"]), "foot": float(node["row"])})
    layers = []
    for look, settings in (
        ("open", {"color": ground.faint, "strokeWidth": 1, "strokeDash": [3, 4]}),
        ("done", {"color": ground.muted, "strokeWidth": 1.5}),
        ("best", {"color": arm_color("takd", dark), "strokeWidth": 4}),
    ):
        for rows, far in ((level, {"x2": "end:Q"}), (down, {"y2": "foot:Q"})):
            some = pd.DataFrame([row for row in rows if row["look"] == look])
            if len(some):
                layers.append(vega.Chart(some).mark("rule", **settings).encode(x=x, y=y, **far))
    return layers


def _marks(table: pd.DataFrame, x: vega.Part, y: vega.Part, dark: bool, tooltip: list[Any]) -> vega.Chart:
    shape = vega.field(
        "role:N", scale=vega.part(domain=list(ROLE_SHAPES), range=list(ROLE_SHAPES.values())), legend=None
    )
    color = vega.field("color:N", scale=None)
    ground = palette(dark)
    marks = []
    for state, settings in (
        ("done", {"filled": True, "size": 190, "opacity": 1}),
        ("training", {"filled": True, "fill": ground.background, "size": 210, "opacity": 1, "strokeWidth": 4}),
        ("not run", {"filled": True, "fill": ground.background, "size": 150, "opacity": 1, "strokeDash": [2, 2]}),
    ):
        some = table[table["state"] == state]
        if len(some) or state == "done":
            channels = {"color": color} if state == "done" else {"stroke": color}
            marks.append(
                vega.Chart(some).mark("point", cursor="pointer", **settings)
                .encode(x=x, y=y, shape=shape, tooltip=tooltip, **channels)
            )  # fmt: skip
    return vega.layer(*marks).selectable("box", ["arm"])


def _told(nodes: pd.DataFrame, dark: bool) -> pd.DataFrame:
    """The words and colours of a node."""
    rows = []
    for node in nodes.to_dict("records"):
        how, done = str(node["arm"]).split(" ")[0], node["state"] == "done"
        row = {name: node[name] for name in ("arm", "parent", "column", "row", "role", "state", "n", "best", "certain")}
        gain, low, high = (float(node[name]) for name in ("gain", "gain_low", "gain_high"))
        digits = digits_for((gain, low, high))
        sure, edge = bool(node["certain"]), points(gain, digits) if known(gain) else ""
        guess, seeds = "◌ " if node["estimated"] else "", f", n = {node['n']}" if done else ""
        total = f"{guess}{duration(node['total'])}"
        state = "training now" if node["state"] == "training" else "not run"
        reached = accuracy(node["mean"], (float(node["high"]) - float(node["low"])) / 2) if done else state
        spread = f"{points(low, digits).removeprefix('+')} to {points(high, digits).removeprefix('+')}"
        interval = f" ({spread})" if known(low) else ""
        won = f", {edge}{interval}" if edge else ", direct KD" if how == "kd" and done else ""
        brackets, reference = f" ({edge})" if edge else "", "the reference" if done else state
        via = row_label(str(node["arm"])) if str(node["arm"]).count(">") > 1 else "direct"
        row |= {
            "path": arm_label(str(node["arm"])) if how != "scratch" else f"{node['network']}, the teacher",
            "color": arm_color(how, dark) if node["state"] != "not run" else palette(dark).faint,
            "reached": reached, "short": percent(node["mean"]) if done else "…" if state == "training now" else "",
            "edge": edge, "certain": sure,
            "won": gain_and_interval(gain, low, high, int(node["gain_n"])) if edge else reference,
            "own": f"{guess}{duration(node['seconds'])}", "all": total,
            "beside": [f"{reached}{won}", f"{total}{' in all' if known(node['total']) else ''}{seeds}"],
            "line": f"{via}: {percent(node['mean']) if done else state}{brackets}, {total}",
        }  # fmt: skip
        rows.append(row)
    return pd.DataFrame(rows)


def claim_lattice(tree: Lattice) -> str:
    """One sentence: whether one path is certain to beat direct KD."""
    ends = tree.nodes[tree.nodes["role"] == "student"]
    done = int((ends["n"] > 0).sum())
    if tree.winner.name is None:
        return f"No path with an assistant has finished yet ({tree.whole} paths lead from teacher to student)"
    verdict = tree.winner.verdict
    lead = f"{row_label(tree.winner.name)} is best on validation; on test images "
    gain = f"{points(verdict.interval.mean, digits_for((verdict.interval.mean,)))} points over direct KD"
    tail = ", which is not certain, so no path is marked"
    if certain(verdict):
        tail = "" if verdict.interval.low > 0 else ", so no path is marked"
    return f"Of {done} measured paths the one {lead}{gain} ({interval_text(verdict)}){tail}"


def alt_lattice(tree: Lattice, claim: str) -> str:
    """The tree in words: every path that has been trained, and how many have not."""
    ends = tree.nodes[tree.nodes["role"] == "student"]
    done = ends[ends["n"] > 0]
    said = [
        f"{' > '.join(str(row['arm']).rpartition(' ')[2].split('>'))} {percent(row['mean'])}"
        + (f" ({points(row['gain'])})" if math.isfinite(row["gain"]) else "")
        for row in done.to_dict("records")
    ]
    listed = f"{listing(said)} (in brackets: points over direct KD)" if said else "none is trained yet"
    return (
        f"All paths from {tree.columns[0]} to {tree.columns[-1]}: {listed}; {len(ends) - len(done)} not run. {claim}."
    )
