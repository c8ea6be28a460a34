"""The map of regimes: at how many epochs, on how many images and with how many wrong labels two effects appear."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from takd.claims.library import MAP_SETTING, map_arms
from takd.claims.settings import SETTINGS, values_of
from takd.presentation import vega
from takd.presentation.claims.marks import MARKS, mark_name
from takd.presentation.claims.words import confidence_words, origin_words, told
from takd.presentation.formats import count, digits_for, known, listing
from takd.presentation.marks import message_chart
from takd.presentation.phrases import capital
from takd.presentation.theme import configure, palette

TITLES = {"gap": "The gap", "assistant": "The assistant"}
WHAT = {
    "gap": "direct KD from the assistant's size minus direct KD from the largest teacher",
    "assistant": "the chain through the assistant minus direct KD from the largest teacher",
}
_LOSS, _GAIN = {False: "#f0b38a", True: "#8a4413"}, {False: "#9fd49a", True: "#2c6b3d"}  # as the marks, paler
_LEAST_SPAN = 1.0  # points each way that the colours span at least
_ROW, _GAP_ROW = 44, 58  # pixels of a row, and of what stands above each block of them
_SEEN = {"supported": "seen", "reversed": "the opposite", "nothing": "no difference", "undecided": "undecided"}
LOOKS = ("supported", "nothing", "reversed", "undecided", "not run")


def noise_words(noise: float) -> str:
    """`clean labels`, `20 % wrong labels`."""
    return f"{100 * noise:.0f} % wrong labels" if noise else "clean labels"


def map_cells(regimes: pd.DataFrame) -> pd.DataFrame:
    """regime_frame with what is written in a cell: look, points, first, second, told. `first` has the mark's sign, so
    that what was not seen is as plain as what was; `second` is the interval."""
    found = []
    for row in regimes.to_dict("records"):
        why = row["why"] if isinstance(row["why"], str) else ""
        look = mark_name(str(row["status"]), why)
        mean, n = 100 * float(row["mean"]), int(row["n"])
        sign = MARKS[look].sign
        cell = {name: row[name] for name in ("effect", "epochs", "images", "noise", "n", "confidence")}
        cell |= {"look": look, "points": mean, "low": 100 * float(row["low"]), "high": 100 * float(row["high"])}
        cell |= {"first": f"{sign} {told(mean, 1, sign=True)}" if n else sign, "status": MARKS[look].word}
        cell |= {"second": _span(cell, 1)}
        cell |= {"told": _number(cell) if n else "not run", "origin": origin_words(_text(row["origin"]))}
        cell |= {"where": f"{row['epochs']} epochs, {row['images']} images, {noise_words(float(row['noise']))}"}
        found.append(cell)
    numbers = ["effect", "epochs", "images", "noise", "n", "confidence", "look", "points", "low", "high"]
    return pd.DataFrame(found, columns=[*numbers, "first", "second", "status", "told", "origin", "where"])


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(cell: dict[str, Any]) -> str:
    digits = min(2, digits_for(cell[name] / 100 for name in ("low", "high")))
    mean, n = told(cell["points"], digits, sign=True), count(cell["n"], "chain")
    span = _span(cell, digits)
    around = f"{confidence_words(cell['confidence'])} {span}" if span else "no interval yet"
    return f"{mean} points ({around}, n = {n})"


def _span(cell: dict[str, Any], digits: int) -> str:
    """`0.3 to 1.2`; empty with fewer than two chains."""
    return f"{told(cell['low'], digits)} to {told(cell['high'], digits)}" if known(cell["low"]) else ""


def regimes_chart(cells: pd.DataFrame, effect: str, dark: bool = False) -> vega.Chart:
    """Small multiples of one effect, a panel per label noise below each other, so that a cell has room for its
    interval: epochs across, images down (map_cells)."""
    table = cells[cells["effect"] == effect]
    if table.empty or not (table["n"] > 0).any():
        return message_chart("No place of the map has been run yet", dark)
    ground = palette(dark)
    epochs, images, noises = (sorted(set(table[name])) for name in ("epochs", "images", "noise"))
    span = max(_LEAST_SPAN, float(table["points"].abs().max()))
    tops, heads, height = _places(epochs, images, noises)
    table = table.assign(top=[tops[n, i] for n, i in zip(table["noise"], table["images"], strict=True)])
    table = table.assign(bottom=table["top"] + _ROW - 3, at=table["top"] + _ROW / 2 - 1)
    table = table.assign(mean_at=table["at"] - 8, span_at=table["at"] + 9)
    x_scale = vega.part(domain=[int(e) for e in epochs], paddingInner=0.03)
    y_scale = vega.part(domain=[0, height], range=[0, height], nice=False, zero=False)
    labels = {str(int(top + _ROW / 2)): f"{size} images" for (_, size), top in tops.items()}
    axis = vega.part(
        values=[int(text) for text in labels], labelExpr=f"{json.dumps(labels)}[format(datum.value, 'd')]",
        grid=False, title=None, labelColor=ground.text, labelOverlap=False,
    )  # fmt: skip

    def y(name: str) -> vega.Part:
        return vega.field(f"{name}:Q", scale=y_scale, axis=axis)

    x = vega.field("epochs:N", axis=None, scale=x_scale)
    shade = vega.part(
        domain=[-span, 0, span], range=[_LOSS[dark], ground.background, _GAIN[dark]], clamp=True, interpolate="rgb"
    )
    tooltip = [
        vega.field("where:N", title="place"), vega.field("status:N", title="status"),
        vega.field("told:N", title="effect"), vega.field("origin:N", title="numbers"),
    ]  # fmt: skip
    there, missing = table[table["n"] > 0], table[table["n"] == 0]
    sure, unsure = there[there["look"] != "undecided"], there[there["look"] == "undecided"]
    box = {"cornerRadius": 4, "stroke": ground.faint, "strokeWidth": 1}
    dashed = vega.Chart(missing).mark("rect", **{**box, "strokeDash": [4, 4]}, fillOpacity=0)
    layers = [dashed.encode(x=x, y=y("top"), y2="bottom:Q", tooltip=tooltip)]
    color = vega.field("points:Q", scale=shade, legend=None)
    for rows, weight, opacity in ((sure, 700, 1.0), (unsure, 400, 0.45)):  # what is undecided is paler
        filled = vega.Chart(rows).mark("rect", fillOpacity=opacity, **box)
        layers.append(filled.encode(x=x, y=y("top"), y2="bottom:Q", color=color, tooltip=tooltip))
        text = vega.Chart(rows).mark("text", fontSize=13, fontWeight=weight, color=ground.text)
        layers.append(text.encode(x=x, y=y("mean_at"), text="first:N"))
        around = vega.Chart(rows).mark("text", fontSize=11, color=ground.text)
        layers.append(around.encode(x=x, y=y("span_at"), text="second:N"))
    blank = vega.Chart(missing).mark("text", fontSize=12, color=ground.muted)
    layers.append(blank.encode(x=x, y=y("at"), text="first:N"))
    small = vega.Chart(heads).mark("text", fontSize=11.5, color=ground.muted, baseline="middle")
    layers.append(small.encode(x=x, y=y("epochs_at"), text="said:N"))
    first = heads[heads["noise"] != ""]
    bold = vega.Chart(first).mark(
        "text", fontSize=12.5, fontWeight=700, color=ground.text, baseline="middle", align="center"
    )
    layers.append(bold.encode(x=x, y=y("noise_at"), text="noise:N"))
    return configure(vega.layer(*layers), dark, height=height)


def _places(
    epochs: list[int], images: list[int], noises: list[float]
) -> tuple[dict[tuple[float, int], int], pd.DataFrame, int]:
    """(a row's top, what stands above the columns of each panel, height)."""
    heads: list[dict[str, object]] = []
    tops: dict[tuple[float, int], int] = {}
    here = 0
    for noise in noises:
        here += _GAP_ROW
        for e in epochs:
            head = {"epochs": e, "said": f"{e} epochs", "epochs_at": here - 14, "noise_at": here - 36}
            heads.append(head | {"noise": noise_words(noise) if e == epochs[len(epochs) // 2] else ""})
        for size in reversed(images):
            tops[noise, size] = here
            here += _ROW
    return tops, pd.DataFrame(heads), here + 4


def map_sentence(regimes: pd.DataFrame) -> str:
    """Where each effect appears and where it does not, with its largest place."""
    cells = map_cells(regimes)
    said = []
    for effect, title in TITLES.items():
        own = cells[cells["effect"] == effect]
        done = own[own["n"] > 0]
        if done.empty:
            said.append(f"{title}: none of {len(own)} places has been run.")
            continue
        seen = done[done["look"] == "supported"]
        others = [
            f"{(done['look'] == look).sum()} {_SEEN[look]}"
            for look in ("nothing", "reversed", "undecided")
            if (done["look"] == look).any()
        ]
        where = [
            f"{len(seen[seen['noise'] == noise])} of {len(part)} with {noise_words(float(str(noise)))}"
            for noise, part in done.groupby("noise")
        ]
        text = f"{title} is seen in {len(seen)} of {count(len(done), 'place')} that were run ({listing(where)}); "
        text = (
            f"{text.removesuffix('; ')}; of the others, {listing(others)}." if others else f"{text.removesuffix('; ')}."
        )
        if len(seen):
            best = seen.loc[seen["points"].idxmax()]
            text += f" Largest at {best['where']}: {best['told']}."
        said.append(text)
    return " ".join(said)


def alt_regimes(cells: pd.DataFrame, effect: str) -> str:
    """The map of one effect in words: every place that was run."""
    own = cells[cells["effect"] == effect]
    done = own[own["n"] > 0]
    if done.empty:
        return f"{TITLES[effect]} by epochs, images and wrong labels: no place has been run yet."
    places = "; ".join(f"{r['where']}: {r['status']}, {r['told']}" for r in done.to_dict("records"))
    rest = len(own) - len(done)
    tail = f" {count(rest, 'place')} not run." if rest else ""
    return f"{TITLES[effect]} ({WHAT[effect]}): {places}.{tail}"


def map_caption(cells: pd.DataFrame, effect: str) -> str:
    """What the figure shows: n, confidence, origin, and the marks."""
    own = cells[(cells["effect"] == effect) & (cells["n"] > 0)]
    marks = ", ".join(f"{MARKS[look].sign} {_SEEN.get(look, MARKS[look].word)}" for look in LOOKS)
    if own.empty:
        return f"Points of accuracy: {WHAT[effect]}. {marks}."
    low, high = int(own["n"].min()), int(own["n"].max())
    n = f"n = {low}" if low == high else f"n = {low} to {high}"
    sure = [confidence_words(float(c)) for c in (own["confidence"].min(), own["confidence"].max())]
    level = sure[0] if sure[0] == sure[1] else f"{sure[0].removesuffix(' CI')} to {sure[1]}"
    origins = listing(sorted(set(own["origin"])))
    path = " > ".join(map_arms()[1].path)
    return (
        f"{path}, points of accuracy: {WHAT[effect]}. {capital(marks)}. {n} chains a place; marks at {level} "
        "(Holm over the places; a little surer than they should be, as seeds were doubled after a first look); "
        f"digits, MLPs, {values_of(SETTINGS[MAP_SETTING].spec)}, as first chosen: what is left of it at values that "
        f"validation chooses is in the column “{SETTINGS['digits-noise-tuned'].short}” of the board; {origins}."
    )
