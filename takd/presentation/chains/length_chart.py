"""How many assistants: the student by the number of networks in between, and what each number costs."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from takd.analysis.verdicts import Verdict
from takd.presentation import vega
from takd.presentation.formats import accuracy, count, duration, known, listing, number_word, percent
from takd.presentation.marks import accuracy_axis, heading, message_chart
from takd.presentation.phrases import CANNOT_TELL, capital, gain_text, interval_text, kind_of
from takd.presentation.theme import ROLE_STROKES, arm_color, configure, palette, text_color


def length_chart(paths: pd.DataFrame, dark: bool = False, compact: bool = False) -> vega.Chart:
    """Above, test accuracy by number of assistants; below, seconds of all trainings of one seed.

    paths: takd.analysis.assistants.by_length. The line joins, for each number, the path with the best validation
    accuracy; the other paths are faint. Bars are 95 % intervals.
    """
    if paths.empty:
        return message_chart("No path from this teacher to this student has finished yet", dark, 260)
    ground, height = palette(dark), 400 if compact else 380
    table = paths.assign(
        at=paths["assistants"].astype(float),
        told=[accuracy(m, (h - lo) / 2) for m, lo, h in zip(paths["mean"], paths["low"], paths["high"], strict=True)],
        cost=[duration(s) for s in paths["seconds"]],
        how=["kd" if k == 0 else "takd" for k in paths["assistants"]],
    )
    rest, best = _beside(table[~table["best"]]), table[table["best"]].sort_values("assistants")
    most = int(table["assistants"].max())
    names = {str(k): _ticks(k, compact) for k in range(most + 1)}
    x = vega.field(
        "at:Q",
        scale=vega.part(domain=[-0.3, most + 0.45], nice=False, zero=False),
        axis=vega.part(
            values=list(range(most + 1)), labelExpr=f"{json.dumps(names)}[format(datum.value, 'd')]", title=None,
            grid=False, labelColor=ground.text,
        ),
    )  # fmt: skip
    top, bottom = (34.0, 0.6 * height), (0.6 * height + 54, float(height))
    y = accuracy_axis([table["low"], table["high"], table["mean"]], top, count=4)
    seconds = vega.field(
        "seconds:Q",
        scale=vega.part(domain=[0, float(table["seconds"].max()) * 1.15 or 1.0], range=[bottom[1], bottom[0]]),
        axis=vega.part(title=None, tickCount=3, orient="left", minExtent=40, labelExpr="datum.label + ' s'"),
    )
    tooltip = [
        vega.field("path:N", title="path"), vega.field("told:N", title="student, test accuracy"),
        vega.field("n:Q", title="seeds"), vega.field("cost:N", title="one seed takes"),
    ]  # fmt: skip
    color, ink = arm_color("takd", dark), text_color("takd", dark)
    main, faint = vega.Chart(best), vega.Chart(rest)
    labels = vega.Chart(best.assign(label=[_via(str(p)) for p in best["path"]], top=best["high"].fillna(best["mean"])))
    stroke = ROLE_STROKES["student"].width
    shade = vega.field("how:N", scale=_how(dark), legend=None)
    upper = vega.layer(
        faint.mark("rule", color=color, strokeWidth=1.25, opacity=0.35).encode(x=x, y=y("low"), y2="high:Q"),
        faint.mark("point", shape="diamond", filled=True, size=55, color=color, opacity=0.4).encode(
            x=x, y=y("mean"), tooltip=tooltip
        ),
        main.mark("line", color=ground.faint, strokeWidth=stroke).encode(x=x, y=y("mean")),
        main.mark("rule", strokeWidth=2.5).encode(x=x, y=y("low"), y2="high:Q", color=shade),
        main.mark("point", shape="diamond", filled=True, size=170, opacity=1).encode(
            x=x, y=y("mean"), color=shade, tooltip=tooltip
        ),
        labels.mark("text", dy=-9, fontSize=12, fontWeight=600, color=ink).encode(x=x, y=y("top"), text="label:N"),
    )
    lower = vega.layer(
        faint.mark("point", shape="diamond", filled=True, size=40, color=ground.faint, opacity=0.6).encode(
            x=x, y=seconds, tooltip=tooltip
        ),
        main.mark("line", color=ground.muted, strokeWidth=2).encode(x=x, y=seconds),
        main.mark("point", filled=True, size=70, color=ground.muted, opacity=1).encode(x=x, y=seconds, tooltip=tooltip),
    )
    parts = [
        upper,
        lower,
        heading("Student's test accuracy", top[0] - 30, dark),
        heading("Seconds of all trainings, one seed", bottom[0] - 26, dark),
    ]
    apart = vega.part(scale=vega.part(y="independent"))
    return configure(vega.layer(*parts), dark, height=height, resolve=apart)


def _how(dark: bool) -> vega.Part:
    return vega.part(domain=["kd", "takd"], range=[arm_color("kd", dark), arm_color("takd", dark)])


def _beside(rest: pd.DataFrame) -> pd.DataFrame:
    """The other paths a little left of their number, side by side."""
    place = rest.groupby("assistants").cumcount()
    return rest.assign(at=rest["assistants"] - 0.06 - 0.035 * (place % 6))


def _ticks(number: int, compact: bool) -> list[str]:
    word = "none" if number == 0 else str(number)
    return [word, "direct KD" if number == 0 else "" if compact else "assistants" if number > 1 else "assistant"]


def _via(path: str) -> str:
    inside = path.split(" > ")[1:-1]
    families = {name.rpartition("-")[0] for name in path.split(" > ")}
    short = [name.rpartition("-")[2] for name in inside] if len(families) == 1 else inside
    return f"via {', '.join(short)}" if inside else ""


def claim_lengths(paths: pd.DataFrame, steps: Sequence[Verdict]) -> str:
    """One sentence: up to which number every further assistant is certain to add something."""
    best = paths[paths["best"]].sort_values("assistants")
    if best.empty or int(best["assistants"].max()) == 0:
        return "No chain from this teacher has finished yet, so nothing says how many assistants to take"
    told = []
    for verdict, number in zip(steps, best["assistants"].iloc[1:], strict=True):
        what = f"{number_word(int(number))} {'assistant' if number == 1 else 'assistants'}"
        sure = kind_of(verdict) != CANNOT_TELL
        told.append(
            f"{what} against {_none_or(_assistants(verdict.against))}: {kind_of(verdict) if sure else CANNOT_TELL}, "
            f"{gain_text(verdict)} ({interval_text(verdict)})"
        )
    return capital("; ".join(told)) if told else "Only one number of assistants has been trained yet"


def _none_or(number: int) -> str:
    return number_word(number) if number else "none"


def _assistants(arm: str) -> int:
    return max(0, arm.count(">") - 1)


def alt_lengths(paths: pd.DataFrame, claim: str) -> str:
    """The chart in words: the best path on validation of each number of assistants."""
    best = paths[paths["best"]].sort_values("assistants")
    if best.empty:
        return "Student accuracy by number of assistants: nothing trained yet."
    said = [
        f"{count(int(row['assistants']), 'assistant')} ({row['path']}) {percent(row['mean'])} in "
        f"{duration(row['seconds']) if known(row['seconds']) else 'a time not known'}"
        for row in best.to_dict("records")
    ]
    return f"Student test accuracy by number of assistants, best path on validation: {listing(said)}. {claim}."
