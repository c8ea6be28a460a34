"""The section about the loss of the page "Look inside": the formula with the numbers of one epoch."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from takd.analysis.terms import EpochLoss, epoch_loss
from takd.methods.method import Method
from takd.methods.table import METHODS
from takd.presentation import panels, ui, vega, view, window
from takd.presentation.lens import data as lens_data
from takd.presentation.lens.panels import caption
from takd.presentation.marks import message_chart
from takd.presentation.study import Study
from takd.presentation.theme import arm_color, configure, palette, text_color
from takd.runs.store import Store
from takd.stage import StageSpec

_NAMES = {"ce": "labels (CE)", "kl": "teacher (T² KL)"}


def loss(shown: Study, store: Store) -> None:
    """Slide through the epochs of the chosen student's training."""
    student = lens_data.student_of(shown)
    done = sorted(seed for seed in student.keys if store.is_done(student.keys[seed])) if student is not None else []
    if student is None or not done:
        st.info("No training of this student has finished yet.", icon=":material/hourglass_empty:")
        return
    left, right = st.columns([1, 2])
    with left:
        if len(done) > 1:
            view.slider("ls", min_value=done[0], max_value=done[-1])
    seed = min(done, key=lambda one: abs(one - int(view.get("ls"))))
    stage = shown.plan.stages[student.keys[seed]]
    epochs = [found for row in store.read_events(stage.key)[0] if (found := epoch_loss(stage, row)) is not None]
    if not epochs:
        st.info("The rows of this training do not hold the terms of its loss.", icon=":material/functions:")
        return
    last = epochs[-1].epoch
    with right:
        if not view.get("le"):
            view.put("le", last)
        if last > 1:
            view.slider("le", min_value=1, max_value=last)
    at = min(epochs, key=lambda found: abs(found.epoch - int(view.get("le"))))
    method = METHODS[shown.chosen.method if stage.teachers or shown.in_one_network else "scratch"]
    st.subheader(f"The loss of {ui.plain(student.short)} in epoch {at.epoch}", anchor=False)
    dark = ui.dark()
    st.latex(formula(stage, at, method.name, dark, narrow=window.narrow()))
    if not _is_kd(stage):
        st.markdown(f"The method's own formula: `{method.formula}`")
    _words(stage, at, method)
    rows = _rows(epochs, method.name)
    ui.figure(
        "lens-loss",
        lambda compact, dark: loss_chart(rows, at.epoch, dark, compact),
        lambda: _alt(at),
        rows,
        depends=(at.epoch,),
        title="terms of the loss",
        caption=caption(
            shown,
            store,
            f"Seed {seed}, one run: mean training loss of each epoch, split into its weighted terms. The rule marks "
            f"epoch {at.epoch}.",
        ),
        arms=panels.shown_arms(shown),
    )


def _is_kd(stage: StageSpec) -> bool:
    return stage.loss.name == "kd" and not stage.loss.options


def formula(stage: StageSpec, at: EpochLoss, method: str, dark: bool, narrow: bool = False) -> str:
    """LaTeX: the loss as weights, terms and their sum, each term in the colour it has in the chart (a little nearer to
    the text's, to be read). A narrow window has one term a line."""
    colors = _colors([term.name for term in at.terms], method, dark, text_color)
    symbols, numbers = [], []
    for term in at.terms:
        if not term.weight and not term.value:
            continue
        color = colors[term.name]
        symbol = {"ce": r"\mathrm{CE}", "kl": r"\mathrm{KL}"}.get(
            term.name, rf"\mathrm{{{term.name.replace('_', r'~')}}}"
        )
        if _is_kd(stage):
            t = stage.loss.temperature or 1.0
            weight = r"(1-\lambda)" if term.name == "ce" else r"\lambda\,T^2"
            value = f"{1 - stage.loss.lam:g}" if term.name == "ce" else rf"{stage.loss.lam:g}\cdot {t:g}^2"
            raw = term.value if term.name == "ce" else term.value / t**2
            symbols.append(rf"\textcolor{{{color}}}{{{weight}\,{symbol}}}")
            numbers.append(rf"\textcolor{{{color}}}{{{value}\cdot {raw:.4g}}}")
        else:
            symbols.append(rf"\textcolor{{{color}}}{{w_{{{symbol}}}\,{symbol}}}")
            numbers.append(rf"\textcolor{{{color}}}{{{term.weight:.4g}\cdot {term.value:.4g}}}")
    total = sum(term.weighted for term in at.terms)
    plus, equals = (r"\\&\quad + ", r"\\&= ") if narrow else (" + ", " = ")
    lines = [rf"\mathcal{{L}} &= {plus.join(symbols)}", rf"&= {plus.join(numbers)}{equals}{total:.4f}"]
    return rf"\begin{{aligned}}{lines[0]}\\{lines[1]}\end{{aligned}}"


def _words(stage: StageSpec, at: EpochLoss, method: Method) -> None:
    total = sum(term.weighted for term in at.terms)
    check = (
        f"The terms add up to {total:.4f}; stored is {at.total:.4f}."
        if at.adds_up
        else f"Stored is {at.total:.4f}: the mean terms add up to {total:.4f}, as terms take part in some steps only."
    )
    shares = [f"{_NAMES.get(t.name, t.name)} {100 * t.weighted / total:.0f} %" for t in at.terms if total and t.weight]
    parts = f" Shares: {', '.join(shares)}." if len(shares) > 1 else ""
    held = " The teacher's term is stored with T² in it." if _is_kd(stage) else ""
    st.markdown(ui.plain(f"{check}{parts}{held}"))


def _colors(names: list[str], method: str, dark: bool, color: Callable[[str, bool], str] = arm_color) -> dict[str, str]:
    """CE as whoever learns alone, the teacher's term as its method, further terms in the remaining colours."""
    rest = iter(["dih", "dgkd", "ipkd-ta", "rival", "takd", "kd"] * (1 + len(names)))
    fixed = {"ce": "scratch", "kl": method if method != "scratch" else "kd"}
    return {name: color(fixed.get(name) or next(rest), dark) for name in names}


def _rows(epochs: list[EpochLoss], method: str) -> pd.DataFrame:
    rows = []
    for found in epochs:
        bottom = 0.0
        for term in found.terms:
            if not term.weight:
                continue
            top = bottom + term.weighted
            name = _NAMES.get(term.name, term.name)
            rows.append((found.epoch, term.name, name, term.weight, term.value, bottom, top, found.total, method))
            bottom = top
    columns = ["epoch", "term", "name", "weight", "value", "bottom", "top", "total", "method"]
    return pd.DataFrame(rows, columns=columns)


def _alt(at: EpochLoss) -> str:
    terms = "; ".join(f"{_NAMES.get(t.name, t.name)} {t.weight:.3g} times {t.value:.4g}" for t in at.terms)
    return f"Terms of the training loss by epoch. In epoch {at.epoch}: {terms}; loss {at.total:.4f}."


def loss_chart(rows: pd.DataFrame, epoch: int, dark: bool = False, compact: bool = False) -> vega.Chart:
    """The weighted terms of the loss, stacked by epoch. rows: one per epoch and term (epoch, term, name, weight, value,
    bottom, top, total, method)."""
    if rows.empty:
        return message_chart("No epoch has finished yet", dark)
    ground, last = palette(dark), int(rows["epoch"].max())
    names = list(dict.fromkeys(rows["term"]))
    colors = _colors(names, str(rows["method"].iloc[0]), dark)
    labels = dict(zip(rows["term"], rows["name"], strict=True))
    table = rows.assign(left=rows["epoch"] - 0.42, right=rows["epoch"] + 0.42)
    top = float(rows["total"].max())
    scale = vega.part(domain=[0.4, last + 0.6], nice=False, zero=False)
    step = max(1, round(last / 8))
    axis = vega.part(title="epoch", grid=False, values=list(range(1, last + 1, step)), format="d")
    x = lambda field: vega.field(f"{field}:Q", scale=scale, axis=axis)  # noqa: E731
    high = vega.part(domain=[min(0.0, float(rows["bottom"].min())), 1.18 * top if top > 0 else 1.0], nice=False)
    y = lambda field: vega.field(f"{field}:Q", scale=high, axis=vega.part(title="training loss", tickCount=5))  # noqa: E731
    color = vega.field(
        "name:N",
        scale=vega.part(domain=[labels[name] for name in names], range=[colors[name] for name in names]),
        legend=vega.part(
            orient="top", title=None, labelColor=ground.text, labelFontSize=12, columns=1 if compact else 4
        ),
    )
    tooltip = [
        "epoch:Q",
        vega.field("name:N", title="term"),
        vega.field("weight:Q", format=".3g"),
        vega.field("value:Q", format=".4g", title="mean of the term"),
        vega.field("total:Q", format=".4f", title="loss"),
    ]
    bars = vega.Chart(table).mark("rect", stroke=ground.background, strokeWidth=0.5)
    rule = vega.Chart(pd.DataFrame({"left": [float(epoch)]})).mark("rule", color=ground.text, strokeDash=[4, 3])
    layers = [
        bars.encode(x=x("left"), x2="right:Q", y=y("bottom"), y2="top:Q", color=color, tooltip=tooltip),
        rule.encode(x=x("left")),
    ]
    return configure(vega.layer(*layers), dark, height=260)
