"""One claim: every setting and variant with its seeds, its interval and the margin within which nothing counts."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import pandas as pd

from takd.analysis.claims import Finding, Row
from takd.presentation import vega
from takd.presentation.claims import words
from takd.presentation.claims.board_chart import shape_of
from takd.presentation.claims.marks import colour, mark_name
from takd.presentation.marks import fit, message_chart
from takd.presentation.theme import configure, palette

_LINE, _PLOT, _NOT_RUN, _HEAD = 20, 30, 24, 26  # pixels: a row's words, its marks, one without marks, a heading
_MORE = 15  # pixels of every further line of words
_LONGEST = {False: 74, True: 50}  # characters of a line, by compact


def by_unit(row: Row) -> tuple[Row, ...]:
    """A claim once per unit of its findings: one axis cannot carry two."""
    units = dict.fromkeys(words.unit_words(finding.measure) for finding in row.findings)
    found = [[one for one in row.findings if words.unit_words(one.measure) == unit] for unit in units]
    return tuple(Row(row.claim, tuple(some)) for some in found)


def of_claim(row: Row) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(a row per finding, a row per seed), in the unit of the screen; findings without runs have n = 0."""
    found: list[dict[str, object]] = []
    dots: list[dict[str, object]] = []
    for place, finding in enumerate(sorted(row.findings, key=lambda finding: not finding.decides)):
        scale, interval = words.factor(finding.measure), finding.interval
        name = finding.setting.short + (f": {finding.trial.variant}" if finding.trial.variant else "")
        found.append(
            {
                "place": place, "name": name, "variant": finding.trial.variant,
                "look": mark_name(finding.status, finding.why), "filled": finding.trial.registered,
                "status": words.status_word(finding), "told": words.number(finding), "mean": scale * interval.mean,
                "low": scale * interval.low, "high": scale * interval.high, "confidence": interval.confidence,
                "n": interval.n, "unit": words.unit_words(finding.measure),
                "margin": scale * finding.measure.margin,
            }
        )  # fmt: skip
        dots += [
            {"place": place, "name": name, "look": found[-1]["look"], "seed": int(str(seed)), "value": scale * value}
            for seed, value in finding.values.items()
        ]
    return pd.DataFrame(found), pd.DataFrame(dots, columns=["place", "name", "look", "seed", "value"])


def claim_chart(
    found: pd.DataFrame,
    dots: pd.DataFrame,
    dark: bool = False,
    compact: bool = False,
) -> vega.Chart:
    """One row per finding (of_claim): dots are seeds, the line the interval at its confidence, the mark its status, the
    grey band the margin. Variants stand below a heading of their own. All have one unit."""
    ground = palette(dark)
    table, heading, height = _placed(found, compact)
    done = table[table["n"] > 0]
    if done.empty:
        return message_chart("Not run in any setting yet", dark)
    margin = float(table["margin"].max())
    edge = pd.Series([-1.2 * margin, 1.2 * margin])
    low, high = fit([done["low"], done["high"], done["mean"], dots["value"], edge], least=2.4 * margin)
    unit = str(table["unit"].iloc[0])
    axis = vega.part(
        title=f"{unit}; above 0 speaks for the claim", tickCount=4 if compact else 6,
        labelExpr="(datum.value > 0 ? '+' : '') + format(datum.value, '~')", grid=True,
    )  # fmt: skip
    scale = vega.part(domain=[low, high], nice=False, zero=False, clamp=True)
    y_scale = vega.part(domain=[0, height], range=[0, height], nice=False, zero=False)

    def x(name: str) -> vega.Part:
        return vega.field(f"{name}:Q", scale=scale, axis=axis)

    def y(name: str) -> vega.Part:
        return vega.field(f"{name}:Q", scale=y_scale, axis=None)

    band = vega.Chart(done.assign(near=-done["margin"], far=done["margin"]))
    zero = vega.Chart(pd.DataFrame({"zero": [0.0]}))
    placed = dots.merge(table[["place", "at"]], on="place")
    layers = [
        band.mark("rect", fill=ground.zone, stroke=ground.grid).encode(
            x=x("near"), x2="far:Q", y=y("top"), y2="bottom:Q"
        ),
        zero.mark("rule", color=ground.faint, strokeWidth=1.5).encode(x=x("zero")),
    ]
    tooltip = [
        vega.field("name:N", title="setting"), vega.field("status:N", title="status"),
        vega.field("told:N", title="value"), vega.field("n:Q", title="chains"),
    ]  # fmt: skip
    for look in dict.fromkeys(done["look"]):
        ink = colour(str(look), dark)
        own, seeds = done[done["look"] == look], placed[placed["look"] == look]
        point = vega.Chart(seeds).mark("point", filled=True, size=26, opacity=0.35, color=ink)
        layers.append(
            point.encode(x=x("value"), y=y("at"), tooltip=["seed:Q", vega.field("value:Q", format=".3~f", title=unit)])
        )
        sure = vega.Chart(own[own["low"].notna()])
        layers.append(
            sure.mark("rule", strokeWidth=3, color=ink).encode(x=x("low"), x2="high:Q", y=y("at"), tooltip=tooltip)
        )
        for filled in (True, False):
            some = own[own["filled"] == filled]
            if len(some):
                mark = shape_of(vega.Chart(some), str(look), dark, filled=filled)
                layers.append(mark.encode(x=x("mean"), y=y("at"), tooltip=tooltip))
    layers += _texts(table, heading, y, dark, compact)
    return configure(vega.layer(*layers), dark, height=height)


def _placed(found: pd.DataFrame, compact: bool) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """The rows with their pixels, the heading of the variants, and the height. Those without runs take less room."""
    here = 0
    rows: list[dict[str, object]] = []
    heading: list[dict[str, object]] = []
    for row in found.to_dict("records"):
        if row["variant"] and not heading:
            heading.append({"text": "Variants: shown beside, never deciding", "at": here + 9})
            here += _HEAD
        lines = wrap(f"{row['name']} · {row['status']}", _LONGEST[compact])
        words_at, here = here + 5, here + _MORE * (len(lines) - 1)
        step = _LINE + _PLOT if row["n"] > 0 else _NOT_RUN
        place = {"top": here + _LINE, "bottom": here + step - 4, "at": here + _LINE + _PLOT // 2 - 2}
        rows.append({**row, "line": "\n".join(lines), "words_at": words_at, **place})
        here += step
    return pd.DataFrame(rows), pd.DataFrame(heading, columns=["text", "at"]), here + 2


def _texts(table: pd.DataFrame, heading: pd.DataFrame, y: Any, dark: bool, compact: bool) -> list[vega.Chart]:
    ground = palette(dark)
    layers = []
    style = {"align": "left", "fontSize": 12, "limit": 330 if compact else 520}
    style |= {"baseline": "top", "lineBreak": "\n", "lineHeight": _MORE}
    for run in (True, False):
        own = table[(table["n"] > 0) == run]
        ink = ground.text if run else ground.muted
        text = vega.Chart(own).encode(x=vega.value(2), y=y("words_at"), text="line:N")
        # On a margin of the background, because the line of zero passes behind.
        layers.append(text.mark("text", stroke=ground.background, strokeWidth=4, color=ground.background, **style))
        layers.append(text.mark("text", fontWeight=600 if run else 400, color=ink, **style))
    if len(heading):
        text = vega.Chart(heading).mark("text", fontWeight=700, color=ground.muted, **style)
        layers.append(text.encode(x=vega.value(2), y=y("at"), text="text:N"))
    return layers


def alt_claim(row: Row) -> str:
    """The figure in words."""
    return f"{row.claim.title}. {sentences(row.findings)}"


def sentences(findings: Sequence[Finding]) -> str:
    return " ".join(words.finding_sentence(finding) for finding in findings)
