"""The capacity-gap chart: teachers above, the student they teach below."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pandas as pd

from takd.networks.table import OWN
from takd.presentation import vega
from takd.presentation.formats import known, percent, short_size
from takd.presentation.marks import accuracy_axis, end_labels, heading, legend, message_chart, slim
from takd.presentation.phrases import method_label, short_label, via_label
from takd.presentation.theme import ROLE_STROKES, arm_color, configure, palette, scale_color, text_color

_NOMINAL = 720  # pixels assumed for label room: the real width is only known in the browser
_UNIT, _LABEL = 62, 11  # pixels between two teachers where there are six, and of a name's height


def gap_chart(
    gap: pd.DataFrame,
    per_seed: pd.DataFrame,
    dark: bool = False,
    compact: bool = False,
    selected_teacher: str | None = None,
) -> vega.Chart:
    """Above, each teacher's own accuracy; below, the student it teaches, against the student alone.

    gap columns: panel, x, order, params, macs, group, arm, mean, low, high, n (and chosen, optional: the arm the user
    built stands out); per_seed columns: panel, x, order, group, arm, value.
    Both panels live in one view with two y scales, so x is shared and the chart follows the width of its place.
    """
    student = gap[gap["panel"] == "student"] if len(gap) else gap
    if student.empty and not len(gap):
        return message_chart("Nothing trained yet", dark, 300)
    gap, dots = _place(slim(gap), compact), slim(per_seed)
    dots = dots.merge(gap[["panel", "group", "arm", "x", "at"]], on=["panel", "group", "arm", "x"], how="inner")
    x, end = _teacher_axis(gap, compact)
    height, cut = (400, 0.34) if not compact else (440, 0.32)
    top, bottom = (36, cut * height), (cut * height + (64 if not compact else 80), height)
    layers = []
    if selected_teacher is not None and selected_teacher in set(gap["x"]):
        order = float(gap.loc[gap["x"] == selected_teacher, "order"].iloc[0])
        band = vega.Chart(pd.DataFrame({"at": [order - 0.3], "at2": [order + 0.3]}))
        layers.append(
            band.mark("rect", color=palette(dark).zone, cornerRadius=6).encode(
                x=x, x2="at2:Q", y=vega.value(top[0] - 8), y2=vega.value(height)
            )
        )
    layers.append(_teacher_panel(gap[gap["panel"] == "teacher"], dots, x, top, dark))
    layers.append(_student_panel(gap[gap["panel"] == "student"], dots, x, end, bottom, dark, compact))
    layers.append(heading("Teacher's own test accuracy", top[0] - 28, dark))
    layers.append(
        heading("Student's test accuracy after being taught by it", bottom[0] - (44 if compact else 28), dark)
    )
    apart = vega.part(scale=vega.part(y="independent"))
    return configure(vega.layer(*layers), dark, height=height, resolve=apart)


def _place(gap: pd.DataFrame, compact: bool) -> pd.DataFrame:
    """Add `at`, the x position: teachers at whole numbers, chains side by side just right of their teacher."""
    frame = gap.reset_index(drop=True)
    frame["at"] = frame["order"].astype("float32")
    chains = frame[frame["group"].isin(["takd", "other"])]
    step, first = (0.2, 0.24) if not compact else (0.26, 0.3)
    for _, rows in chains.groupby("x", observed=True):
        many = max(len(rows) - 1, 1)
        step_here = min(step, 0.62 / many) if rows["order"].iloc[0] < frame["order"].max() else step
        frame.loc[rows.index, "at"] = [o + first + i * step_here for i, o in enumerate(rows["order"].astype(float))]
    return frame


def _teacher_axis(gap: pd.DataFrame, compact: bool) -> tuple[vega.Part, float]:
    """The shared x axis, and where the labels right of the data start."""
    ticks = gap.drop_duplicates("order").sort_values("order")
    names, orders = [str(n) for n in ticks["x"]], [int(o) for o in ticks["order"]]
    families = {name.rpartition("-")[0] for name in names}
    prefix = f"{families.pop()}-" if compact and len(families) == 1 else ""
    sizes = [short_size(macs) for macs in ticks["macs"]]
    if compact and len(sizes) > 6:  # no room for all of them
        sizes = [sizes[0], *[""] * (len(sizes) - 2), sizes[-1]]
    labels = {
        str(order): [name.removeprefix(prefix), size] for order, name, size in zip(orders, names, sizes, strict=True)
    }
    last = float(gap["at"].max())
    span = last - min(orders) + 0.35
    room = 0.3 if compact else span * 156 / (_NOMINAL - 156 - 50)
    title: str | list[str] = "Teacher, small to large, and its MACs per image"
    if compact:
        title = [
            f"Teacher {prefix}…, small to large" if prefix else "Teacher, small to large",
            "and its MACs per image",
        ]
    axis = vega.part(
        values=orders, labelExpr=f"{json.dumps(labels)}[format(datum.value, 'd')]", grid=False, title=title,
        labelAngle=0, labelOverlap=False, labelLineHeight=15,
    )  # fmt: skip
    domain = [min(orders) - 0.35, last + room]
    return vega.field("at:Q", scale=vega.part(domain=domain, nice=False, zero=False), axis=axis), last + (
        0.24 if not compact else 0.2
    )


def _teacher_panel(
    gap: pd.DataFrame, dots: pd.DataFrame, x: vega.Part, span: tuple[float, float], dark: bool
) -> vega.Chart:
    color, stroke = arm_color("scratch", dark), ROLE_STROKES["teacher"]
    seeds = dots[dots["panel"] == "teacher"]
    y = accuracy_axis([gap["low"], gap["high"], gap["mean"], seeds["value"]], span, count=3)
    base = vega.Chart(_told(gap, "teacher alone"))
    return vega.layer(
        _seed_dots(seeds, x, y, "square", dark),
        base.mark("line", color=color, strokeWidth=stroke.width).encode(x=x, y=y("mean")),
        base.mark("rule", color=color, strokeWidth=1.5).encode(x=x, y=y("low"), y2="high:Q"),
        base.mark("point", shape="square", filled=True, size=75, color=color, opacity=1).encode(
            x=x, y=y("mean"), tooltip=_TOOLTIP
        ),
    )


def _student_panel(
    gap: pd.DataFrame,
    dots: pd.DataFrame,
    x: vega.Part,
    end: float,
    span: tuple[float, float],
    dark: bool,
    compact: bool,
) -> vega.Chart:
    seeds = dots[(dots["panel"] == "student") & (dots["group"] != "scratch")]
    alone, direct, chains, others = (gap[gap["group"] == group] for group in ("scratch", "kd", "takd", "other"))
    y = accuracy_axis([gap["low"], gap["high"], gap["mean"], seeds["value"]], span, count=5)
    color = {group: arm_color(group, dark) for group in ("scratch", "kd", "takd")}
    layers: list[Any] = []
    if len(alone):
        start = x["scale"]["domain"][0]
        told = _told(alone.head(1), "student alone").assign(at=start, at2=end - 0.1, x="none")
        level = vega.Chart(told).encode(x=x, x2="at2:Q", tooltip=_TOOLTIP)
        if known(alone["low"].iloc[0]):
            layers.append(level.mark("rect", color=color["scratch"], opacity=0.13).encode(y=y("low"), y2="high:Q"))
        layers.append(
            level.mark("rule", color=color["scratch"], strokeWidth=1.75, strokeDash=[2, 3]).encode(y=y("mean"))
        )
    layers.append(_seed_dots(seeds, x, y, "circle", dark))
    kd = vega.Chart(_told(direct, "direct KD"))
    low, high = y("v")["scale"]["domain"]
    named = _thinned(_told(chains, "TA chain")) if compact else _told(chains, "TA chain")
    ta = vega.Chart(apart(named, (high - low) / (span[1] - span[0])))
    layers += [
        kd.mark("line", color=color["kd"], strokeWidth=ROLE_STROKES["student"].width).encode(x=x, y=y("mean")),
        kd.mark("rule", color=color["kd"], strokeWidth=2).encode(x=x, y=y("low"), y2="high:Q"),
        kd.mark("point", shape="circle", filled=True, size=95, color=color["kd"], opacity=1).encode(
            x=x, y=y("mean"), tooltip=_TOOLTIP
        ),
        ta.mark("rule", color=color["takd"], strokeWidth=2).encode(x=x, y=y("low"), y2="high:Q"),
        ta.mark("point", shape="diamond", filled=True, color=color["takd"], opacity=1).encode(
            x=x, y=y("mean"), tooltip=_TOOLTIP, size=vega.field("size:Q", scale=None)
        ),
        ta.mark("text", dy=-11, fontSize=12, fontWeight="bold", color=text_color("takd", dark)).encode(
            x=x, y=y("top"), text="via:N"
        ),
    ]
    for arm in others["arm"].astype(str):  # another method, chosen by the user: one arm
        method = arm.rpartition(" ")[0]
        color[method] = arm_color(method, dark)
        other = vega.Chart(_told(others[others["arm"] == arm], method_label(method)))
        layers += [
            other.mark("rule", color=color[method], strokeWidth=2).encode(x=x, y=y("low"), y2="high:Q"),
            other.mark("point", shape="square", filled=True, color=color[method], opacity=1).encode(
                x=x, y=y("mean"), tooltip=_TOOLTIP, size=vega.field("size:Q", scale=None)
            ),
        ]
    entries = [
        *(
            (
                short_label(arm.rpartition(" ")[0]),
                arm.rpartition(" ")[0],
                "square",
                others[others["arm"] == arm],
            )
            for arm in others["arm"].astype(str)
        ),
        ("direct KD", "kd", "circle", direct),
        ("TA chain" if compact and len(others) else f"TA chain via {_sizes(chains)}", "takd", "diamond", chains),
        ("alone" if compact else "student alone", "scratch", "stroke", alone),
    ]
    labels = [(text, method, shape, float(rows["mean"].iloc[-1])) for text, method, shape, rows in entries if len(rows)]
    layers += legend(labels, span[0] - 20, dark) if compact else end_labels(labels, x, end, y, span, dark)
    return vega.layer(*layers)


_TOOLTIP = [
    vega.field("what:N", title="arm"),
    vega.field("x:N", title="teacher"),
    vega.field("accuracy:N", title="test accuracy"),
    vega.field("interval:N", title="95 % interval"),
    vega.field("n:Q", title="seeds"),
]


def _told(gap: pd.DataFrame, what: str) -> pd.DataFrame:
    """The columns a mark and its tooltip need; absent intervals are drawn as nothing and told in words."""
    ends = [(known(low) and known(high)) for low, high in zip(gap["low"], gap["high"], strict=True)]
    via = [via_label(str(arm)) for arm in gap["arm"]]
    chosen = gap["chosen"].astype(bool) if "chosen" in gap else pd.Series(False, index=gap.index)
    return gap[["at", "x", "mean", "low", "high", "n"]].assign(
        what=[f"{what} {v}" if v != "direct" else what for v in via],
        via=[v.replace(", ", "·") for v in _without_family([v.removeprefix("via ") for v in via])],
        size=[190 if c else 95 for c in chosen],
        top=gap["high"].fillna(gap["mean"]),
        accuracy=[percent(mean) for mean in gap["mean"]],
        interval=[
            f"{percent(low)} to {percent(high)}" if ok else "one run, no interval" if n == 1 else "no interval"
            for low, high, ok, n in zip(gap["low"], gap["high"], ends, gap["n"], strict=True)
        ],
    )


def _without_family(paths: list[str]) -> list[str]:
    """Sizes alone where all assistants are of one family: arms between families name them in full, which is too long
    for labels side by side."""
    families = {name.rpartition("-")[0] for path in paths for name in path.split(", ")}
    if len(families) != 1 or families & {"", OWN}:
        return paths
    return [path.replace(f"{next(iter(families))}-", "") for path in paths]


def _thinned(told: pd.DataFrame) -> pd.DataFrame:
    """Fewer names where many chains stand close together: the chosen one, and the ends where they are clear of it."""
    if len(told) <= 3:
        return told
    largest = max(told["size"])
    chosen = [i for i, size in enumerate(told["size"]) if size == largest] if largest > min(told["size"]) else []
    shown = {*chosen, *(i for i in (0, len(told) - 1) if all(abs(i - c) > 1 for c in chosen))}
    return told.assign(via=[via if i in shown else "" for i, via in enumerate(told["via"])])


def apart(told: pd.DataFrame, pixel: float) -> pd.DataFrame:
    """Names of neighbours one above the other where side by side they would touch; `pixel` is the height of one."""
    found = told.sort_values("at")
    tops = [float(top) for top in found["top"]]
    for i, (one, other) in enumerate(pairwise(found.to_dict("records")), 1):
        wide = 3.4 * len(one["via"] + other["via"]) + 2  # half of each, as bold digits
        beside = one["via"] and other["via"] and _UNIT * (other["at"] - one["at"]) < wide
        if beside and abs(tops[i] - tops[i - 1]) < _LABEL * pixel:
            tops[i] = tops[i - 1] + _LABEL * pixel
    return found.assign(top=tops)


def _seed_dots(dots: pd.DataFrame, x: vega.Part, y: Any, shape: str, dark: bool) -> vega.Chart:
    frame = dots[["at", "group", "value"]].assign(
        method=dots["group"].astype(str).replace({"teacher alone": "scratch", "other": "rival"})
    )
    mark = vega.Chart(frame[["at", "value", "method"]]).mark("point", shape=shape, filled=True, size=22, opacity=0.35)
    return mark.encode(x=x, y=y("value"), color=vega.field("method:N", scale=scale_color(dark), legend=None))


def _sizes(chains: pd.DataFrame) -> str:
    """`4, 6, 8` or `14 … 56`: the sizes of the single assistants, then how many longer chains there are."""
    via = _without_family([via_label(str(arm)).removeprefix("via ") for arm in chains["arm"]])
    single = [v for v in via if "," not in v]
    text = ", ".join(single) if len(single) <= 3 else f"{single[0]} … {single[-1]}"
    return text if len(single) == len(via) else f"{text} and more" if text else ", ".join(via[:1])
