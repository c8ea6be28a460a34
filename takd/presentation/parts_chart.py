"""Accuracy against MACs: what every sub-model of one network reaches under each way to train them."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pandas as pd

from takd.presentation import vega
from takd.presentation.formats import known, percent, short_size, size
from takd.presentation.marks import accuracy_axis, end_labels, legend, message_chart, slim
from takd.presentation.phrases import arm_label, method_label
from takd.presentation.theme import arm_color, configure

_SHAPES = {"scratch": "triangle-up", "joint": "square", "ipkd": "circle", "ipkd-ta": "diamond"}
_DASHES = {"joint": [6, 4], "ipkd": [2, 3]}
_WIDE, _NARROW = 560, 300  # pixels assumed for labels: the real width is only known in the browser
_LABELS = 200  # of them for names right of the data
_APART = 7.0  # pixels between the arms of one sub-model, so that no interval hides another


def parts_chart(
    means: pd.DataFrame,
    per_seed: pd.DataFrame,
    dark: bool = False,
    compact: bool = False,
) -> vega.Chart:
    """One line per way to train all sub-models, and one mark for the smallest trained alone.

    means: takd.analysis.parts.part_means; per_seed: part_frame. x is the logarithm of the MACs of a sub-model deployed
    alone, named after it. Bars are 95 % intervals, faint dots are seeds; the chosen way is drawn larger.
    """
    done = means[means["n"] > 0]
    if done.empty:
        return message_chart("Nothing trained yet", dark, 300)
    done = slim(done).assign(at=[math.log10(macs) for macs in done["macs"]])
    dots = per_seed[per_seed["test_acc"].notna()]
    dots = dots.assign(at=[math.log10(macs) for macs in dots["macs"]], value=dots["test_acc"].astype("float32"))
    height, top = (360, 34) if compact else (380, 14)
    x, end = _axis(means, compact)
    span = (float(top), float(height))
    y = accuracy_axis([done["low"], done["high"], done["mean"], dots["value"]], span, count=6)
    arms = [str(arm) for arm in dict.fromkeys(done["arm"])]
    layers: list[vega.Chart] = []
    names, apart = [], _apart(sorted(set(done["at"])), _NARROW if compact else _WIDE - _LABELS)
    for place, arm in enumerate(arms):
        rows = done[done["arm"] == arm]
        method, chosen = str(rows["method"].iloc[0]), bool(rows["chosen"].iloc[0])
        color, shape = arm_color(method, dark), _SHAPES.get(method, "circle")
        shift = round((place - (len(arms) - 1) / 2) * apart, 1)
        base = vega.Chart(_told(rows))
        seeds = vega.Chart(dots[dots["arm"] == arm][["at", "value"]])
        dash = _DASHES.get(method, [1, 0])
        layers += [
            seeds.mark("point", shape=shape, filled=True, size=20, color=color, opacity=0.35, xOffset=shift).encode(
                x=x, y=y("value")
            ),
            base.mark("line", color=color, strokeWidth=3 if chosen else 1.75, strokeDash=dash, xOffset=shift).encode(
                x=x, y=y("mean")
            ),
            base.mark("rule", color=color, strokeWidth=2, xOffset=shift).encode(x=x, y=y("low"), y2="high:Q"),
            base.mark(
                "point", shape=shape, filled=True, size=170 if chosen else 90, color=color, opacity=1, xOffset=shift
            ).encode(x=x, y=y("mean"), tooltip=_TOOLTIP),
        ]
        names.append((_name(arm, compact), method, shape, float(rows["mean"].iloc[-1])))
    layers += legend(names, 8, dark) if compact else end_labels(names, x, end, y, span, dark)
    return configure(vega.layer(*layers), dark, height=height)


def _apart(places: list[float], width: int) -> float:
    """Pixels between the arms: less where sub-models themselves stand close together."""
    closest = min((b - a for a, b in pairwise(places)), default=1.0)
    across = max(places[-1] - places[0], 0.1)
    return max(1.5, min(_APART, closest / across * width / 4))


def _name(arm: str, compact: bool) -> str:
    """Without the options, which the headline has; shorter where the names stand in one line."""
    if arm.startswith("scratch "):
        return "alone" if compact else arm_label(arm)
    name = method_label(arm.rpartition(" ")[0].partition("[")[0])
    return name.removesuffix(" training").removeprefix("in-place ") if compact else name


def _axis(means: pd.DataFrame, compact: bool) -> tuple[vega.Part, float]:
    """The x axis with a name and MACs under every sub-model that has room, and where labels right of it start."""
    subs = means.drop_duplicates("part").sort_values("macs")
    places = [math.log10(macs) for macs in subs["macs"]]
    first, last = places[0], places[-1]
    across = max(last - first, 0.1)
    room = across * (0.08 if compact else _LABELS / (_WIDE - _LABELS))
    prefix = str(subs["label"].iloc[0]).partition(" ")[0] + " " if compact else ""
    apart = (across + room) / (_NARROW if compact else _WIDE) * (50 if compact else 64)
    shown: dict[str, list[str]] = {}
    free = first  # where the next label may stand
    for at, label, macs in zip(places, subs["label"], subs["macs"], strict=True):
        if at == last or (at >= free and last - at >= apart):  # the ends are always named
            shown[f"{at:.4f}"] = [str(label).removeprefix(prefix), short_size(macs)]
            free = at + apart
    axis = vega.part(
        values=[float(at) for at in shown], labelExpr=f"{json.dumps(shown)}[format(datum.value, '.4f')]",
        title=f"{prefix}…, and its MACs per image" if compact else "Sub-model and its MACs per image, log scale",
        grid=False, labelAngle=0, labelOverlap=False, labelLineHeight=15,
    )  # fmt: skip
    edge = across * (0.12 if compact else 0.06)
    domain = [first - edge, last + room + (edge if compact else 0)]
    return vega.field("at:Q", scale=vega.part(domain=domain, nice=False, zero=False), axis=axis), last + 0.09 * across


_TOOLTIP = [
    vega.field("what:N", title="trained"),
    vega.field("label:N", title="sub-model"),
    vega.field("size:N", title="parameters"),
    vega.field("cost:N", title="MACs per image"),
    vega.field("accuracy:N", title="test accuracy"),
    vega.field("interval:N", title="95 % interval"),
    vega.field("n:Q", title="seeds"),
]


def _told(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns the marks and their tooltip need; absent intervals are drawn as nothing and told in words."""
    return rows[["at", "label", "mean", "low", "high", "n"]].assign(
        what=[arm_label(str(arm)) for arm in rows["arm"]],
        size=[size(number) for number in rows["params"]],
        cost=[size(number) for number in rows["macs"]],
        accuracy=[percent(mean) for mean in rows["mean"]],
        interval=[
            f"{percent(low)} to {percent(high)}" if known(low) and known(high) else "one run, no interval"
            for low, high in zip(rows["low"], rows["high"], strict=True)
        ],
    )
