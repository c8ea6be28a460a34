"""The panels of the Compare page: the basket, what differs, what each arm reaches, how far apart they are."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import pandas as pd
import streamlit as st

from takd.analysis.curves import curve_frame
from takd.analysis.nearest import words as value_words
from takd.analysis.side_by_side import Contrast, Item, bands, contrast, contrasts, item
from takd.methods.table import METHODS
from takd.networks.table import capacity
from takd.parameters import AS_BUDGET
from takd.plan import chosen_arm, question_of
from takd.presentation import basket, charts, live, question, ui, view, words
from takd.presentation.captions import METRICS, NOT_KEPT, ORIGINS, gain_and_interval
from takd.presentation.choices import current_spec
from takd.presentation.compare.charts import grouped_curves_chart, reached_chart
from takd.presentation.study import plan_of
from takd.runs.store import Store
from takd.spec import PARAMETERS, ExperimentSpec

_SETTINGS = [f.name for f in fields(ExperimentSpec) if f.name != "scope"]


@dataclass(frozen=True)
class Table:
    """What is compared: items that have finished seeds, the reference, and the basket's other specs."""

    items: tuple[Item, ...]
    reference: Item | None
    specs: tuple[ExperimentSpec, ...]
    names: tuple[str, ...]

    @property
    def done(self) -> tuple[Item, ...]:
        return tuple(one for one in self.items if one.n)


def gathered(store: Store) -> tuple[Table, tuple[str, ...]]:
    """The basket, looked up, and sentences about what of it could not be read."""
    datasets = ui.datasets()
    dropped = [text for text in basket.items() if not basket.is_arm(text)]
    for text in dropped:
        basket.remove(text)
    read = [basket.read(text, datasets) for text in basket.items()]
    specs = tuple(dict.fromkeys(spec for spec, _ in read))
    problems = tuple(f"{view.quoted(text)} in the link is no arm and was left out." for text in dropped)
    problems += tuple(sentence for _, found in read for sentence in found)
    names = labels(specs)
    items = tuple(
        item(name, spec, datasets[spec.dataset], store)
        for name, spec in zip(names, specs, strict=True)
        if datasets[spec.dataset].fingerprint is not None
    )
    done = [one for one in items if one.n]
    wanted = names[view.get("ref") - 1] if len(names) >= view.get("ref") else ""
    reference = next((one for one in done if one.name == wanted), done[0] if done else None)
    return Table(items, reference, specs, names), problems


def labels(specs: Sequence[ExperimentSpec]) -> tuple[str, ...]:
    """A name for each arm that no other has: how and along which path, then the choices in which namesakes differ."""
    datasets = ui.datasets()
    short = [words.capital(words.arm_label(chosen_arm(spec).name)) for spec in specs]
    if any(spec.method == "scratch" for spec in specs):
        short = [f"{s.student} alone" if s.method == "scratch" else text for s, text in zip(specs, short, strict=True)]
    found = []
    for spec, text in zip(specs, short, strict=True):
        like = [other for other, label in zip(specs, short, strict=True) if label == text]
        differing = [name for name in asked(spec) if len({getattr(other, name) for other in like}) > 1]
        more = [_said(name, value_words(name, getattr(spec, name), datasets)) for name in differing]
        found.append(f"{text} ({', '.join(more)})" if more else text)
    return tuple(f"{text} #{place}" if found.count(text) > 1 else text for place, text in enumerate(found, 1))


def asked(spec: ExperimentSpec) -> list[str]:
    """The choices that mean something to an arm."""
    if spec.method == "scratch":
        return [name for name in _SETTINGS if name not in ("teacher", "assistants", "temperature", "lam", "options")]
    if METHODS[spec.method].in_one_network:
        return [name for name in _SETTINGS if name not in ("teacher", "assistants", "lam")]
    return _SETTINGS


def _said(name: str, value: str) -> str:
    label = PARAMETERS[name].label
    return value if PARAMETERS[name].kind == "choice" else f"{label[:1].lower() + label[1:]} {value}"


def empty(store: Store) -> None:
    """What stands where nothing is compared yet: how to fill the basket, and a first comparison with one click."""
    st.info(
        "Nothing to compare yet. Open **Export** under any figure and add its arms, or start with those of the "
        "question on the Playground.",
        icon=":material/compare_arrows:",
    )


def editor(table: Table, store: Store) -> None:
    """The basket: what is in it, and what can be added from the current question."""
    datasets = ui.datasets()
    spec, _ = current_spec(datasets)
    dataset = datasets[spec.dataset]
    offered: dict[str, ExperimentSpec] = {}
    if dataset.fingerprint is not None:
        arms = plan_of(spec, dataset).arms
        specs = [question_of(spec, arm) for arm in arms]
        offered = {basket.write(one): one for one in specs if basket.write(one) not in basket.items()}
    told = dict(zip(offered, labels(list(offered.values())), strict=True))
    chosen, add = st.columns([4, 1], vertical_alignment="bottom")
    picked = chosen.multiselect(
        f"Add from {live.describe(spec)}",
        list(offered),
        format_func=told.__getitem__,
        key="compare-add",
        placeholder="Choose arms" if offered else "All of its arms are here",
        disabled=not offered or view.locked("cmp"),
    )
    add.button(
        "Add",
        icon=":material/add:",
        width="stretch",
        disabled=not picked,
        on_click=_add,
        args=([offered[text] for text in picked],),
    )
    if not table.specs:
        st.button(
            "Compare the student alone, direct KD and the chosen arm",
            icon=":material/play_arrow:",
            type="primary",
            on_click=_add,
            args=(_starters(spec),),
        )
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        for text, name in zip(basket.items(), table.names, strict=False):
            st.button(
                ui.plain(name),
                key=f"drop-{text}",
                icon=":material/close:",
                help="Take it out",
                on_click=basket.remove,
                args=(text,),
                disabled=view.locked("cmp"),
            )
        st.button("Empty", type="tertiary", on_click=basket.clear, disabled=view.locked("cmp"))


def _add(specs: Sequence[ExperimentSpec]) -> None:
    basket.add(specs)
    st.session_state["compare-add"] = []


def _starters(spec: ExperimentSpec) -> list[ExperimentSpec]:
    chosen = replace(spec, scope="chain")
    if METHODS[spec.method].in_one_network:
        return [replace(chosen, method="joint", options=()), chosen]
    direct = replace(chosen, method="kd", assistants=(), options=())
    return [direct, replace(direct, method="scratch"), chosen]


def untrained(table: Table, store: Store) -> None:
    """Arms of the basket that have no result yet, each with its button."""
    datasets = ui.datasets()
    have = {one.name for one in table.done}
    for spec, name in zip(table.specs, table.names, strict=True):
        if name in have:
            continue
        with st.container(border=True):
            st.markdown(f"**{ui.plain(name)}** is not trained yet: {ui.plain(live.describe(spec))}.")
            if st.button("Open on the Playground", key=f"open-{name}", icon=":material/open_in_new:"):
                question.open_on_playground(spec)
            if datasets[spec.dataset].fingerprint is None:
                st.caption("Its images have not been prepared on this machine.")


_KINDS = {
    "helps": "higher",
    "slightly helps": "slightly higher",
    "hurts": "lower",
    "slightly hurts": "slightly lower",
}


def _kind(one: Contrast) -> str:
    """The verdict's word; between any two arms nothing helps or hurts."""
    return _KINDS.get(one.verdict.kind, str(one.verdict.kind))


def summary(table: Table, found: Sequence[Contrast]) -> str:
    """The whole comparison in one sentence or two."""
    done = table.done
    if not done:
        return "None of these arms is trained yet."
    if len(done) == 1:
        only = done[0]
        return f"{only.name}: {words.accuracy(only.arm['mean'], only.arm['half'])} on test images, n = {only.n}."
    best, second = sorted(done, key=lambda one: float(one.arm["mean"]), reverse=True)[:2]
    assert table.reference is not None
    beside = _no_winner(best, second) if len(found) > 1 else ""  # one contrast says itself how sure it is
    mean = words.accuracy(best.arm["mean"], best.arm["half"])
    text = f"Highest on test images: {best.name}, {mean}{beside}, n = {best.n}."
    if len(found) == 1:
        verdict = found[0].verdict
        return f"{words.capital(_kind(found[0]))}: {verdict.arm} against {verdict.against}, {_gain(found[0])}. {text}"
    if not (told := [c for c in found if c.verdict.kind not in ("cannot tell yet", "no real difference")]):
        return f"Against {table.reference.name}, no difference here can be told from chance or matters. {text}"
    listed = "; ".join(f"{c.verdict.arm} {_kind(c)}, {_points(c)}" for c in told)
    return f"Against {table.reference.name}, in points: {listed}. {text}"


def _no_winner(best: Item, second: Item) -> str:
    """The next one, where the highest cannot be told from it or does no better."""
    verdict = contrast(best, second, view.get("mg") / 100).verdict
    gain = f"({words.gain_text(verdict)}, {words.interval_text(verdict).partition(', n =')[0]})"
    same = f", with no real difference to {second.name} {gain}" if verdict.kind == "no real difference" else ""
    return f", which cannot be told from {second.name} yet {gain}" if verdict.kind == "cannot tell yet" else same


def _points(one: Contrast) -> str:
    interval = one.verdict.interval
    return gain_and_interval(interval.mean, interval.low, interval.high, one.verdict.n)


def _gain(one: Contrast) -> str:
    return f"{_points(one)}, {one.how}"


def differing(table: Table) -> tuple[pd.DataFrame, str]:
    """(one row per choice in which the arms differ, one column per arm; the choices they share, in words)."""
    datasets = ui.datasets()
    rows, same = [], []
    for name in _SETTINGS:
        values = [
            value_words(name, getattr(spec, name), datasets) if name in asked(spec) else "does not matter"
            for spec in table.specs
        ]
        if len(set(values)) > 1:
            rows.append({"choice": PARAMETERS[name].label, **dict(zip(table.names, values, strict=True))})
        elif values and values[0] not in ("does not matter", AS_BUDGET):
            same.append(f"{PARAMETERS[name].label[:1].lower() + PARAMETERS[name].label[1:]} {values[0]}")
    return pd.DataFrame(rows, columns=["choice", *table.names]), ", ".join(same)


def reached(table: Table, caption: str) -> None:
    """What each arm reaches, with its seeds."""
    frame = pd.DataFrame([{"name": one.name, **one.arm[_NUMBERS].to_dict()} for one in table.done])
    seeds = pd.concat([one.chains.assign(name=one.name) for one in table.done], ignore_index=True)
    seeds = seeds[seeds["done"]].rename(columns={"test_acc": "value"})[["name", "arm", "seed", "value"]]
    ui.figure(
        "reached",
        lambda compact, dark: reached_chart(frame, seeds, dark, compact),
        lambda: (
            "Test accuracy by arm: "
            + "; ".join(f"{r['name']} {words.accuracy(r['mean'], r['half'])}, n = {r['n']}" for r in _records(frame))
            + "."
        ),
        seeds,
        depends=(frame,),
        title="accuracy of the compared arms",
        caption=f"{caption} Lines: 95 % intervals of each mean; dots: seeds.",
    )


_NUMBERS = ["arm", "mean", "low", "high", "half", "n"]


def _records(frame: pd.DataFrame) -> list[dict[Hashable, Any]]:
    return frame.to_dict("records")


def apart(table: Table, found: Sequence[Contrast], caption: str) -> None:
    """How far each arm is from the reference."""
    if table.reference is None or not found:
        return
    against = table.reference.name
    rows = pd.DataFrame(
        [{"arm": one.verdict.arm, "seed": d.seed, "difference": d.difference} for one in found for d in _dots(one)],
        columns=["arm", "seed", "difference"],
    )
    how = {one.name: str(one.arm["arm"]) for one in table.done}
    told = pd.DataFrame([_row(one) for one in found])
    named = {one.verdict.arm: one.verdict.arm for one in found}
    rows, told = (frame.assign(method=[how[str(name)] for name in frame["arm"]]) for frame in (rows, told))
    ui.figure(
        "apart",
        lambda compact, dark: charts.assistants_chart(
            rows, told, dark, compact, view.get("mg") / 100, names=named, over=against
        ),
        lambda: f"Points over {against}: " + "; ".join(f"{c.verdict.arm} {_kind(c)}, {_gain(c)}" for c in found),
        told,
        depends=(rows, view.get("mg"), against),
        title=f"difference from {against}",
        caption=f"{caption} {_how(found)}",
    )


def reference_menu(table: Table) -> None:
    """Which arm the others are compared with."""
    done = [one.name for one in table.done]
    st.session_state["compare-ref"] = None if table.reference is None else table.reference.name
    st.selectbox("Compared with", done, key="compare-ref", on_change=_held, args=(table.names,))


def _held(names: tuple[str, ...]) -> None:
    view.put("ref", names.index(st.session_state["compare-ref"]) + 1)


def _dots(one: Contrast) -> list[pd.Series]:
    return [row for _, row in one.dots.iterrows()]


def _row(one: Contrast) -> dict[str, object]:
    interval = one.verdict.interval
    numbers = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {"arm": one.verdict.arm, **numbers, "n": one.verdict.n, "kind": _kind(one)}


def _how(found: Sequence[Contrast]) -> str:
    paired = [c for c in found if c.paired]
    if len(paired) == len(found):
        return "Differences are paired by seed: a seed gives both students the same initial weights and batch order."
    if paired:
        return "Differences with dots are paired by seed; the others compare two independent samples (Welch)."
    return f"{words.capital(found[0].how)} (Welch's interval)."


def curves(table: Table, store: Store, caption: str) -> None:
    """How the students learned."""
    left, right = st.columns(2)
    with left:
        metric = view.segmented("cc", label_visibility="collapsed")
    with right:
        each = view.segmented("each", label_visibility="collapsed")
    frames = [
        curve_frame(one.plan, store, {one.name: [chain.student for chain in one.plan.chains]}) for one in table.done
    ]
    every = pd.concat(frames, ignore_index=True)
    every["line"] = every["line"].astype(str)
    told = bands(every, metric)
    arms = {one.name: str(one.arm["arm"]) for one in table.done}
    ui.figure(
        "grouped",
        lambda compact, dark: grouped_curves_chart(told, every, arms, metric, each == "seeds", dark, compact),
        lambda: words.alt_curves(every, metric, NOT_KEPT),
        told,
        depends=(every, metric, each, tuple(arms)),
        title=METRICS[metric],
        caption=f"{caption} Bands: 95 % intervals over seeds at each epoch.",
    )


def numbers(table: Table, found: Sequence[Contrast]) -> pd.DataFrame:
    """Everything as a table: one row per arm."""
    by = {one.verdict.arm: one for one in found}
    datasets = ui.datasets()
    rows = []
    for one in table.done:
        size = capacity(one.spec.student, datasets[one.spec.dataset].classes)
        row: dict[str, object] = {
            "arm": one.name,
            "n": one.n,
            "test %": round(100 * one.arm["mean"], 2),
            "± 95 %": round(100 * one.arm["half"], 2),
            "validation %": round(100 * one.arm["val_mean"], 2),
        }
        verdict = by[one.name].verdict if one.name in by else None
        row |= {
            "difference": None if verdict is None else round(100 * verdict.interval.mean, 2),
            "low": None if verdict is None else round(100 * verdict.interval.low, 2),
            "high": None if verdict is None else round(100 * verdict.interval.high, 2),
            "p": None if verdict is None else round(verdict.p, 4),
            "p (Holm)": None if verdict is None or verdict.p_holm is None else round(verdict.p_holm, 4),
            "compared": by[one.name].how if verdict is not None else "reference",
            "seconds per seed": round(float(one.arm["seconds"]), 1),
            "student's parameters": size.params,
            "from": one.arm["origin"],
        }
        rows.append(row)
    return pd.DataFrame(rows)


def all_contrasts(table: Table) -> list[Contrast]:
    """Every trained arm against the reference, at the margin on screen."""
    return [] if table.reference is None else contrasts(table.done, table.reference, view.get("mg") / 100)


def origin(table: Table) -> str:
    """Where the numbers come from, for captions."""
    labels = sorted({ui.datasets()[one.spec.dataset].label for one in table.done})
    origins = sorted({str(one.arm["origin"]) for one in table.done})
    counts = sorted({one.n for one in table.done})
    seeds = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    return f"{words.listing(labels)}, {words.listing(ORIGINS.get(o, o) for o in origins)} · {seeds} seeds."
