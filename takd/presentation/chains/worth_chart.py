"""Accuracy against cost: every arm that ends in one student, with the Pareto front of the means."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from takd.analysis.verdicts import Verdict
from takd.analysis.worth import share_of_cost
from takd.presentation import vega
from takd.presentation.formats import accuracy, count, duration, known, listing, percent, size
from takd.presentation.marks import accuracy_axis, halo, message_chart
from takd.presentation.phrases import arm_label, capital, gain_text, interval_text, kind_of
from takd.presentation.theme import color_name, configure, palette, scale_color

COSTS = {
    "seconds": "seconds of all trainings, one seed",
    "mac_epochs": "MACs of all trainings, one seed",
    "trainings": "trained networks, one seed",
}
_KINDS = {"control": "circle", "chain": "diamond", "other": "square"}
_TICKS = [m * unit for unit, steps in ((1, (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30)), (60, (1, 2, 5, 10, 20, 30)))
          for m in steps] + [m * 3600 for m in (1, 2, 5, 10, 20, 50, 100, 200, 500)]  # fmt: skip
_TIME = "datum.value < 60 ? format(datum.value, '~r') + ' s' : datum.value < 3600 ? format(datum.value / 60, '~r')"
_TIME += " + ' min' : format(datum.value / 3600, '~r') + ' h'"


def worth_chart(
    arms: pd.DataFrame,
    cost: str = "seconds",
    chosen: str = "",
    dark: bool = False,
    compact: bool = False,
) -> vega.Chart:
    """One mark per arm (takd.analysis.worth.worth_frame) at its cost and the student's test accuracy.

    Circles are arms without assistants, diamonds chains, squares other methods; colour is the method. The stepped line
    is the Pareto front of the means. `chosen` is larger. The cost axis is logarithmic but for a count of trainings.
    """
    known_cost = arms[arms[cost].notna() & (arms[cost] > 0)] if len(arms) else arms
    if known_cost.empty:
        return message_chart("Nothing with a known cost has finished yet", dark, 260)
    ground, height = palette(dark), 360 if compact else 400
    table = _told(known_cost, cost, chosen, dark)
    log = cost != "trainings"
    low, high = float(table[cost].min()), float(table[cost].max())
    domain = [low / 1.25, high * (1.3 if compact else 1.6)] if log else [low - 0.4, high + 0.6]
    axis = vega.part(title=COSTS[cost], grid=False, tickCount=4 if compact else 6, labelOverlap=True)
    if cost == "trainings":
        axis["values"] = list(range(math.ceil(low), math.floor(high) + 1))
    else:
        axis["labelExpr"] = _TIME if cost == "seconds" else "format(datum.value, '.1~e')"
        if cost == "seconds":
            axis["values"] = [tick for tick in _TICKS if domain[0] <= tick <= domain[1]]
    scale = vega.part(domain=domain, nice=False, zero=False, **({"type": "log"} if log else {}))
    x = vega.field(f"{cost}:Q", scale=scale, axis=axis)
    y = accuracy_axis([table["low"], table["high"], table["mean"]], (12, height), count=5)
    color = vega.field("how:N", scale=scale_color(dark), legend=None)
    shape = vega.field("kind:N", scale=vega.part(domain=list(_KINDS), range=list(_KINDS.values())), legend=None)
    tooltip = [
        vega.field("what:N", title="arm"), vega.field("reached:N", title="test accuracy"),
        vega.field("n:Q", title="seeds"), vega.field("time:N", title="one seed takes"),
        vega.field("macs:N", title="MACs over all epochs"), vega.field("trainings:Q", title="trained networks"),
    ]  # fmt: skip
    front = table[table["front"]].sort_values(cost)
    base, line = vega.Chart(table), vega.Chart(front[[cost, "mean"]])
    layers = [
        line.mark("line", interpolate="step-after", color=ground.faint, strokeWidth=2, strokeDash=[6, 4]).encode(
            x=x, y=y("mean")
        ),
        base.mark("rule", strokeWidth=1.75, opacity=0.7).encode(x=x, y=y("low"), y2="high:Q", color=color),
        base.mark("point", filled=True, opacity=1, cursor="pointer")
        .encode(x=x, y=y("mean"), color=color, shape=shape, size=vega.field("big:Q", scale=None), tooltip=tooltip)
        .selectable("box", ["arm"]),
    ]
    named = _clear(
        table[table["front"] | (table["arm"] == chosen) | (table["method"] == "kd-long")],
        cost,
        domain,
        y,
        log,
        0.5 if compact else 0.24,
    )
    left_half = math.sqrt(domain[0] * domain[1]) if log else sum(domain) / 2
    for rows, align, shift in (
        (named[named[cost] <= left_half], "left", 11),
        (named[named[cost] > left_half], "right", -11),
    ):
        label = vega.Chart(rows[[cost, "mean", "what"]]).encode(x=x, y=y("mean"), text="what:N")
        layers += halo(label, dark, align=align, dx=shift, dy=-9, fontSize=11.5 if compact else 12)
    return configure(vega.layer(*layers), dark, height=height)


def _clear(named: pd.DataFrame, cost: str, domain: list[float], y: Any, log: bool, room: float) -> pd.DataFrame:
    """Names that would not run into another: the most important first (chosen, then the front from cheap to dear)."""
    low, high = y("v")["scale"]["domain"]
    kept: list[int] = []
    place = np.log(named[cost]) if log else named[cost]
    ends = [math.log(d) for d in domain] if log else domain
    at = (place - ends[0]) / (ends[1] - ends[0])
    up = (named["mean"] - low) / (high - low)
    for i in named.sort_values(["big", cost], ascending=[False, True]).index:
        if all(abs(at[i] - at[j]) > room or abs(up[i] - up[j]) > 0.05 for j in kept):
            kept.append(i)
    return named.loc[kept]


def _told(arms: pd.DataFrame, cost: str, chosen: str, dark: bool) -> pd.DataFrame:
    names = [str(arm) for arm in arms["arm"]]
    kinds = []
    for arm, assistants in zip(names, arms["assistants"], strict=True):
        usual = arm.split(" ")[0] in ("scratch", "kd", "takd", "kd-long")
        kinds.append("other" if not usual else "chain" if assistants else "control")
    return arms.assign(
        method=arms["method"].astype(str),
        how=[color_name(arm) for arm in names],
        kind=kinds,
        what=[capital(arm_label(arm)) for arm in names],
        big=[230 if arm == chosen else 110 for arm in names],
        reached=[accuracy(m, (hi - lo) / 2) for m, lo, hi in zip(arms["mean"], arms["low"], arms["high"], strict=True)],
        time=[duration(s) for s in arms["seconds"]],
        macs=[size(m) for m in arms["mac_epochs"]],
    )


def before_on_front(arms: pd.DataFrame, chosen: str, cost: str = "seconds") -> str | None:
    """The next cheaper arm of the Pareto front, where the chosen one is on it: what its extra cost is to be held
    against."""
    front = [str(arm) for arm in arms[arms["front"]].sort_values(cost)["arm"]]
    return front[front.index(chosen) - 1] if chosen in front[1:] else None


def cheaper_and_better(arms: pd.DataFrame, chosen: str, cost: str = "seconds") -> str | None:
    """The cheapest arm that reaches at least as much as the chosen one for no more, where there is one."""
    rows = arms[arms["arm"] == chosen]
    if rows.empty or bool(rows["front"].iloc[0]):
        return None
    own = rows.iloc[0]
    better = arms[(arms[cost] <= own[cost]) & (arms["mean"] >= own["mean"]) & (arms["arm"] != chosen)]
    return None if better.empty else str(better.sort_values(cost)["arm"].iloc[0])


def claim_worth(arms: pd.DataFrame, chosen: str, cost: str = "seconds", over_cheaper: Verdict | None = None) -> str:
    """One sentence: what reaches at least as much as the chosen arm for less; or that nothing measured does. Then what
    the chosen one wins over that arm, or over the next cheaper one of the front (`over_cheaper`)."""
    rows = {str(row["arm"]): row for _, row in arms.iterrows()}
    if chosen not in rows or not known(rows[chosen][cost]):
        return "The chosen arm has no finished seed yet, so its accuracy and cost are not known"
    own = rows[chosen]
    unit = {"seconds": "time", "mac_epochs": "computation", "trainings": "number of trainings"}[cost]
    name = capital(arm_label(chosen))
    if bool(own["front"]):
        lead = f"{name} is on the Pareto front"
        rival = arm_label(over_cheaper.against) if over_cheaper is not None else ""
        if over_cheaper is None or over_cheaper.against not in rows:
            return f"{lead}: of what is measured, nothing reaches more for less {unit}"
        share = share_of_cost(rows[over_cheaper.against], own, cost)
        part = f", which takes {share:.0%} of the {unit}".replace("%", " %") if known(share) else ""
        gain = f"{kind_of(over_cheaper)}, {gain_text(over_cheaper)} ({interval_text(over_cheaper)})"
        return f"{lead}; against {rival}{part}: {gain}"
    best = rows[str(cheaper_and_better(arms, chosen, cost))]
    share = share_of_cost(best, own, cost)
    times = f" for {share:.0%} of the {unit}".replace("%", " %") if known(share) else ""
    paired = ""
    if over_cheaper is not None and over_cheaper.n and over_cheaper.against == best["arm"]:
        paired = f" ({kind_of(over_cheaper)}: {gain_text(over_cheaper)}, {interval_text(over_cheaper)})"
    return (
        f"{name} is not on the Pareto front: {arm_label(str(best['arm']))} reaches {percent(best['mean'])}{times}, "
        f"the chosen one {percent(own['mean'])}{paired}"
    )


def alt_worth(arms: pd.DataFrame, cost: str, claim: str) -> str:
    """The chart in words: the front from cheap to dear."""
    front = arms[arms["front"]].sort_values(cost)
    if front.empty:
        return "Accuracy against cost: nothing trained yet."
    said = listing(
        f"{arm_label(str(row['arm']))} {percent(row['mean'])} at {_cost(row, cost)}" for row in front.to_dict("records")
    )
    return f"Test accuracy against {COSTS[cost]}, {count(len(arms), 'arm')}. Pareto front: {said}. {claim}."


def _cost(row: dict[str, Any], cost: str) -> str:
    if cost == "seconds":
        return duration(row["seconds"])
    return f"{size(row['mac_epochs'])} MACs" if cost == "mac_epochs" else count(int(row["trainings"]), "training")
