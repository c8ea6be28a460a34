"""Which rule predicts the best assistant: rank correlations of four midpoint rules with what was measured."""

from __future__ import annotations

import json
import math

import pandas as pd

from takd.analysis.rules import LEAST, RULES, Rules, Score
from takd.analysis.statistics import Interval
from takd.analysis.verdicts import LEAST_SEEDS
from takd.presentation import vega
from takd.presentation.formats import TRUE_MINUS, count, listing
from takd.presentation.marks import message_chart
from takd.presentation.phrases import capital
from takd.presentation.theme import arm_color, configure, palette

PUBLISHED = (
    "Published: Mirzadeh et al. (AAAI 2020) report the size whose accuracy is nearest to the mean of teacher and "
    "student as the best assistant, on CIFAR-10 and CIFAR-100. That is their result, not a number measured here."
)
HOW = (
    "A rule prefers the assistant nearest to the middle of teacher and student on its own scale. Accuracies are those "
    "of the networks alone on validation images, entropies those of their answers at T = 1 (stored for test images; "
    "they need no labels). Score: Spearman's rank correlation between nearness and the measured gain over direct KD."
)


def rules_chart(found: Rules, per_seed: pd.DataFrame, dark: bool = False, compact: bool = False) -> vega.Chart:
    """One row per rule: rank correlation from -1 to 1, dots for seeds, the diamond their mean with its 95 % interval.

    per_seed: takd.analysis.rules.per_seed of the same cases.
    """
    scores = [score for score in found.scores if score.rho.n]
    if not scores:
        return message_chart(f"No pair of teacher and student has {LEAST} measured assistants yet", dark)
    ground, step = palette(dark), 62 if compact else 54
    order = [_name(score.rule) for score in scores]
    dots = per_seed[per_seed["rule"].isin([s.rule for s in scores]) & per_seed["rho"].notna()]
    dots = dots.assign(row=[_name(str(rule)) for rule in dots["rule"]])
    table = pd.DataFrame(
        {"row": _name(s.rule), "mean": s.rho.mean, "low": max(-1.0, s.rho.low), "high": min(1.0, s.rho.high)}
        | {"told": rho_text(s.rho), "hit": hit_text(s.hit), "n": s.rho.n}
        for s in scores
    )
    axis = vega.part(title=["rank correlation with the measured gain", "1: the rule's order is the measured order"])
    axis |= {"values": [-1, -0.5, 0, 0.5, 1], "labelExpr": "datum.value ? format(datum.value, '+.1~f') : '0'"}
    x_scale = vega.part(domain=[-1.05, 1.05], nice=False, zero=False)
    x = lambda name: vega.field(f"{name}:Q", scale=x_scale, axis=axis)  # noqa: E731
    left = vega.part(title=None, orient="left", labelFontSize=13, labelColor=ground.text, labelLimit=170, grid=False)
    y = vega.field("row:N", sort=order, axis=left, scale=vega.part(domain=order))
    color, shift = arm_color("takd", dark), 10 if compact else 0
    if compact:
        y["axis"] = None
    whole = {"y": vega.value(0), "y2": vega.value(step * len(order))}
    base = vega.Chart(table)
    tooltip = [vega.field("row:N", title="rule"), vega.field("told:N", title="rank correlation"), "hit:N", "n:Q"]
    plot = [
        vega.Chart(pd.DataFrame({"a": [0.0]})).mark("rule", color=ground.muted, strokeWidth=1.25)
        .encode(x=x("a"), **whole),
        vega.Chart(dots[["row", "rho", "seed"]])
        .mark("point", filled=True, size=38, opacity=0.35, yOffset=shift, color=color)
        .encode(x=x("rho"), y=y, tooltip=["seed:Q", vega.field("rho:Q", format="+.2f", title="rank correlation")]),
        base.mark("rule", strokeWidth=2.5, yOffset=shift, color=color).encode(x=x("low"), x2="high:Q", y=y),
        base.mark("point", shape="diamond", filled=True, size=150, opacity=1, yOffset=shift, color=color)
        .encode(x=x("mean"), y=y, tooltip=tooltip),
    ]  # fmt: skip
    if compact:
        text = base.calculate(line="datum.row + ': ' + datum.told").mark(
            "text", align="left", dy=-15, dx=2, fontSize=12, color=ground.text
        )
        plot.append(text.encode(x=vega.value(0), y=y, text="line:N"))
        return configure(vega.layer(*plot), dark, height=step * len(order))
    lines = {_name(s.rule): [rho_text(s.rho), f"its pick: {hit_text(s.hit)}"] for s in scores}
    right = vega.part(
        title=None, orient="right", labelExpr=f"{json.dumps(lines)}[datum.value]", labelFontSize=12.5,
        labelColor=ground.text, labelLimit=300, labelLineHeight=16, labelPadding=14, grid=False,
    )  # fmt: skip
    second = vega.field("row:N", sort=order, axis=right, scale=y["scale"])
    empty = base.mark("point", opacity=0).encode(x=x("mean"), y=second)
    chart = vega.layer(vega.layer(*plot), empty).settings(resolve={"scale": {"y": "independent"}})
    return configure(chart, dark, height=step * len(order))


def _name(rule: str) -> str:
    return capital(RULES[rule])


def rho_text(interval: Interval) -> str:
    """`+0.43 (−0.52 to 1.00), n = 5`; an interval ends where a correlation does."""
    if not interval.n:
        return "no rank correlation"
    mean = f"{interval.mean:+.2f}"
    if not math.isfinite(interval.low):
        return f"{mean}, one seed, no interval".translate(TRUE_MINUS)
    ends = f"{max(-1.0, interval.low):.2f} to {min(1.0, interval.high):.2f}"
    return f"{mean} ({ends}), n = {interval.n}".translate(TRUE_MINUS)


def hit_text(interval: Interval) -> str:
    """How often a pick is good enough."""
    return f"good in {100 * interval.mean:.0f} % of cases" if interval.n else "never judged"


def claim_rules(found: Rules) -> str:
    """One sentence: which rule is certain to rank best, or that none can be told apart."""
    scores = [score for score in found.scores if score.rho.n]
    if not scores:
        return f"No pair of teacher and student has {LEAST} measured assistants at one seed, so no rule can be scored"
    first, pairs = scores[0], count(len(found.pairs), "pair")
    where = f"{pairs} of teacher and student, {count(first.rho.n, 'seed')}"
    if first.rho.n < LEAST_SEEDS:
        return f"Too few seeds to score the rules ({where}; {LEAST_SEEDS} are needed)"
    if found.best is not None:
        return f"The {RULES[found.best]} ranks the assistants best here: {rho_text(first.rho)} ({pairs})"
    return f"No rule can be told apart from the others ({where}); highest is the {RULES[first.rule]}, {_short(first)}"


def _short(score: Score) -> str:
    return f"{score.rho.mean:+.2f}".translate(TRUE_MINUS)


def alt_rules(found: Rules, claim: str) -> str:
    """The chart in words: every rule with its correlation and its picks."""
    scores = [score for score in found.scores if score.rho.n]
    if not scores:
        return f"Rules for the best assistant: {claim}."
    said = listing(f"{RULES[s.rule]} {rho_text(s.rho)}, pick {hit_text(s.hit)}" for s in scores)
    return f"Rank correlation of each rule with the measured gains: {said}. {claim}."
