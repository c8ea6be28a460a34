"""Teacher by assistant: what one assistant wins over direct KD from the same teacher, as a map for one student."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from takd.presentation import vega
from takd.presentation.captions import gain_and_interval
from takd.presentation.formats import digits_for, duration, listing, percent, points, shared_family
from takd.presentation.marks import message_chart
from takd.presentation.theme import configure, palette

# Purple to green, pale enough for dark text on a light page and deep enough for light text on a dark one; the two are
# told apart by people who see no red or no green (ColorBrewer PRGn).
_LOSS, _GAIN = {False: "#c2a5cf", True: "#664273"}, {False: "#9fd49a", True: "#2c6b3d"}
_LEAST_SPAN = 0.01  # the colours span at least a point each way: noise must not look like a landscape


def chain_map(
    cells: pd.DataFrame,
    guesses: pd.DataFrame,
    dark: bool = False,
    compact: bool = False,
    picked: str | None = None,
) -> vega.Chart:
    """One cell per teacher and assistant (takd.analysis.assistants.gain_map), larger ones first.

    Colour is the gain, centred on 0. A cell whose interval holds 0 is paler, with lighter text and an outline; one that
    nobody has trained is a dashed outline, with the estimate of `guesses` (columns arm, gain, error) where there is
    one. A click selects `arm`.
    """
    if cells.empty:
        return message_chart("No size lies between the student and two larger ones", dark)
    ground = palette(dark)
    table = _told(cells, guesses, compact)
    span = max(_LEAST_SPAN, float(table["gain"].abs().max()) if table["gain"].notna().any() else 0.0)
    teachers, assistants = list(dict.fromkeys(table["teacher"])), list(dict.fromkeys(table["assistant"]))
    prefix = shared_family((*teachers, *assistants)) if compact else ""
    step = 52 if compact else 62
    short = f"replace(datum.value, {json.dumps(prefix)}, '')" if prefix else "datum.value"
    axis = vega.part(
        orient="top", title=f"assistant {prefix}…" if prefix else "assistant", labelAngle=0, grid=False,
        labelColor=ground.text, labelFontSize=13, labelExpr=short,
    )  # fmt: skip
    left = {**axis, "orient": "left", "title": f"teacher {prefix}…" if prefix else "teacher"}
    x = vega.field("assistant:N", sort=assistants, axis=axis, scale=vega.part(domain=assistants, paddingInner=0.05))
    y = vega.field("teacher:N", sort=teachers, axis=left, scale=vega.part(domain=teachers, paddingInner=0.07))
    color = vega.field(
        "gain:Q",
        scale=vega.part(
            domain=[-span, 0, span], range=[_LOSS[dark], ground.background, _GAIN[dark]], clamp=True, interpolate="rgb"
        ),
        legend=None,
    )
    tooltip = [
        vega.field("path:N", title="path"), vega.field("told:N", title="points over direct KD"),
        vega.field("verdict:N", title="verdict"), vega.field("reached:N", title="student, test accuracy"),
        vega.field("n:Q", title="seeds"), vega.field("cost:N", title="one seed takes"),
    ]  # fmt: skip
    sure, unsure, open_cells = (table[table["look"] == look] for look in ("sure", "unsure", "open"))
    cell: dict[str, Any] = {"cursor": "pointer", "cornerRadius": 5}
    boxes = [
        vega.Chart(sure).mark("rect", **cell).encode(x=x, y=y, color=color, tooltip=tooltip),
        vega.Chart(unsure)
        .mark("rect", fillOpacity=0.55, stroke=ground.faint, strokeWidth=1.5, **cell)
        .encode(x=x, y=y, color=color, tooltip=tooltip),
        vega.Chart(open_cells)
        .mark("rect", fillOpacity=0.02, stroke=ground.faint, strokeWidth=1.25, strokeDash=[4, 4], **cell)
        .encode(x=x, y=y, tooltip=tooltip),
    ]
    layers = [vega.layer(*boxes).selectable("box", ["arm"])]
    ring = table[table["arm"] == picked]
    if len(ring):
        layers.append(
            vega.Chart(ring).mark("rect", fillOpacity=0, stroke=ground.text, strokeWidth=3, cornerRadius=5)
            .encode(x=x, y=y)
        )  # fmt: skip
    for rows, ink, weight in ((sure, ground.text, 700), (unsure, ground.muted, 400), (open_cells, ground.muted, 400)):
        base = vega.Chart(rows).encode(x=x, y=y)
        first = {"fontSize": 15 if weight > 400 else 14, "fontWeight": weight, "dy": -8, "color": ink}
        layers.append(base.mark("text", **first).encode(text="first:N"))
        layers.append(base.mark("text", fontSize=11.5, dy=11, color=ink).encode(text="second:N"))
    return configure(vega.layer(*layers), dark, height=step * len(teachers))


def _told(cells: pd.DataFrame, guesses: pd.DataFrame, compact: bool) -> pd.DataFrame:
    """What is written in a cell and its tooltip."""
    guess: Mapping[str, Mapping[str, Any]] = {str(row["arm"]): row for row in guesses.to_dict("records")}
    rows: list[dict[str, Any]] = []
    for cell in cells.to_dict("records"):
        gain, low, high, n = float(cell["gain"]), float(cell["low"]), float(cell["high"]), int(cell["n"])
        row = {name: cell[name] for name in ("arm", "teacher", "assistant", "gain", "n")}
        path = str(cell["arm"]).rpartition(" ")[2].replace(">", " > ")
        row |= {"path": path, "reached": percent(cell["accuracy"]), "cost": duration(cell["seconds"])}
        if cell["state"] == "measured":
            digits = digits_for((gain, low, high))
            spread = f"{points(low, digits).removeprefix('+')} to {points(high, digits).removeprefix('+')}"
            row |= {"look": "sure" if cell["certain"] else "unsure", "first": points(gain, digits)}
            row |= {"second": spread if math.isfinite(low) and not compact else f"n = {n}"}
            row |= {"told": gain_and_interval(gain, low, high, n), "verdict": str(cell["kind"]).capitalize()}
        elif str(cell["arm"]) in guess:
            found = guess[str(cell["arm"])]
            text = f"◌ {points(found['gain'], 1)} ±{100 * float(found['error']):.1f}"
            row |= {"look": "open", "first": text, "second": "estimate" if compact else "estimate, not run"}
            row |= {"told": f"{text}, estimated", "verdict": "Not run"}
        else:
            words = "no direct KD" if cell["state"] == "no control" else "not run"
            row |= {"look": "open", "first": "–", "second": words, "told": words, "verdict": words.capitalize()}
        rows.append(row)
    names = ["arm", "teacher", "assistant", "gain", "n", "path", "reached", "cost", "look", "first", "second", "told"]
    return pd.DataFrame(rows, columns=[*names, "verdict"])


def alt_map(cells: pd.DataFrame, student: str) -> str:
    """The map in words: every measured cell."""
    done = cells[cells["state"] == "measured"]
    if done.empty:
        return f"Gain of one assistant for student {student} by teacher and assistant: nothing trained yet."
    said = [
        f"teacher {row['teacher']} with assistant {row['assistant']} "
        f"{gain_and_interval(row['gain'], row['low'], row['high'], row['n'])}, {row['kind']}"
        for row in done.to_dict("records")
    ]
    rest = len(cells) - len(done)
    tail = f" {rest} further cells are not run." if rest else ""
    return f"Points over direct KD from the same teacher for student {student}: {'; '.join(said)}.{tail}"


def claim_map(cells: pd.DataFrame, student: str) -> str:
    """One sentence: for which teachers an assistant's interval is clear of 0. It does not correct for the number of
    pairs, and says so."""
    done = cells[cells["state"] == "measured"]
    if done.empty:
        return f"No chain with one assistant has been trained for {student} yet"
    helps, hurts = (done[done["certain"] & (done["gain"] * sign > 0)] for sign in (1, -1))
    total = f"of {len(done)} measured"
    if helps.empty and hurts.empty:
        return f"No assistant is certain to help or to hurt {student} ({len(done)} {_pairs(len(done))} measured)"
    said = []
    for rows, verb in ((helps, "win"), (hurts, "lose")):
        if len(rows):
            teachers = listing(dict.fromkeys(rows["teacher"].astype(str)))
            many = f"{len(rows)} {total} pairs of teacher and assistant {verb}{'s' if len(rows) == 1 else ''}"
            said.append(f"{many}, under teacher {teachers}")
    alone = ", each judged by itself" if len(done) > 1 else ""
    return f"For {student}, {' and '.join(said)} (95 % interval clear of 0{alone})"


def _pairs(number: int) -> str:
    return "pair of teacher and assistant" if number == 1 else "pairs of teacher and assistant"
