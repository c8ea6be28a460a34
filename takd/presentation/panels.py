"""The panels of the Playground: headline, chain strip, figures, story, details. They draw; study.py knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from takd.analysis.nearest import Difference, differing
from takd.answers import answers_rules
from takd.methods.table import METHODS
from takd.networks.own import gone
from takd.plan import question_of
from takd.presentation import charts, lately, sub_words, ui, visit, words
from takd.presentation.boxes import box_frame, curve_lines, teacher_option, who_else_teaches
from takd.presentation.captions import NO_EPOCH, NOT_KEPT
from takd.presentation.formats import data_words
from takd.presentation.runs import library_rows
from takd.presentation.study import Study, assistant_rows, once, origin_of
from takd.presets import PRESETS
from takd.runs.states import list_runs
from takd.runs.store import Store
from takd.spec import ExperimentSpec, to_query

INTRODUCTION = (
    "A small network, the student, is taught by a big one, the teacher: directly (KD), or through assistants of sizes "
    "in between (TA chain)."
)


def library(store: Store) -> list[ExperimentSpec]:
    """The questions of all finished runs, cached ones included."""
    done = [run for run in list_runs(store) if run.state == "done" and not gone(run.spec)]
    datasets = ui.datasets()
    return [library_rows.spec_of(run, store, datasets) for run in done]


def _introduction(shown: Study) -> str:
    method = METHODS[shown.chosen.method]
    return INTRODUCTION if shown.chosen.usual else f"{method.label}: {method.help}"


def headline(
    shown: Study,
    store: Store,
    differences: tuple[Difference, ...] | None,
    *,
    stand_in: str = "",
    expected: str = "",
    way_on: str = "",
    beside: Callable[[], None] = lambda: None,
) -> None:
    """The finding in one sentence, its verdict, where it comes from. `differences` from the question asked are given
    where another one is shown, and `expected` says what the one asked would give; `stand_in` says what is shown while
    live mode trains, and then nothing may move. `way_on` says what to press to have the question asked trained.
    `beside` draws what else stands beside the link."""
    asked = differences is None or stand_in != ""
    finding = ui.unbroken(shown.headline).replace("-", ui.UNBROKEN_HYPHEN)
    st.title(ui.plain(finding if asked else "Not trained yet. The nearest stored result:"), anchor=False)
    if not asked:
        st.subheader(ui.plain(finding), anchor=False)
    lines = [ui.plain(sub_words.INTRODUCTION if shown.in_one_network else _introduction(shown))]
    if asked and not stand_in and (ready := next((p for p in PRESETS.values() if p.spec == shown.spec), None)):
        lines.append(f":material/visibility: {ui.plain(ready.look_for)}")
    st.caption("  \n".join(lines))
    origin, date, device = origin_of(shown, store)
    verdict = shown.verdict
    with st.container(horizontal=True, vertical_alignment="center"):
        color, icon = words.verdict_badge(verdict)
        st.badge(words.verdict_label(verdict), color=color, icon=icon)  # type: ignore[arg-type]
        data = data_words(shown.dataset.label, shown.spec.noise)
        source = f"{data} · {words.provenance(origin, date, device, shown.seeds_done)}"
        st.caption(ui.plain(f"{stand_in} · {source}" if stand_in else source))
        link = urlencode(to_query(shown.spec, full=True), doseq=True)
        beside()
        with st.popover("Link", icon=":material/link:"):
            st.caption("A link that names every choice, so it keeps its meaning when starting choices change.")
            st.code(visit.address(link), language=None, wrap_lines=True)
    if words.failed(shown.facts):
        st.warning(words.FAILED, icon=":material/warning:")
    if shown.chosen.as_published:
        st.warning(words.AS_PUBLISHED, icon=":material/warning:")
    if not asked and differences is not None:
        st.info(
            f"**Not trained yet.** The figures below answer another question. {ui.plain(differing(differences))}."
            + (f" {ui.plain(expected)}" if expected else "")
            + (f" {way_on}" if way_on else ""),
            icon=":material/near_me:",
        )


def strip_and_charts(shown: Study, store: Store, *, faded: bool, live_run: bool) -> None:
    """Chain strip, capacity gap (or what each sub-model reaches), learning curves."""
    caption = ui.plain(origin_line(shown, store))
    with st.container(key="results"):
        picked = _strip(shown, store, live_run)
        left, right = st.columns([1.25, 1])
        with left:
            if shown.in_one_network:
                st.subheader("What does each sub-model reach?", anchor=False)
                parts_figure(shown, caption)
            else:
                _gap(shown, picked, caption)
        with right:
            _curves(shown, store, picked, caption, live_run)
        rows, summary = assistant_rows(shown)
        if len(summary):
            several = any(len(arm.path) > 2 for arm in shown.plan.arms)
            st.subheader("Which assistant, and does it help?" if several else "Does it help?", anchor=False)
            ui.figure(
                "assistants",
                lambda compact, dark: charts.assistants_chart(rows, summary, dark, compact),
                lambda: words.alt_assistants(summary),
                rows,
                depends=(summary,),
                arms=shown_arms(shown),
                title="gain of each assistant",
                caption=f"{caption} {words.best_of(len(summary))}".strip(),
            )
    ui.fade("results", faded)  # after the figures, so that none of an old choice is shown at full strength


_CLICK = "Click a box to see how that network learned under each way of teaching it."


def _strip(shown: Study, store: Store, live_run: bool) -> str | None:
    """The networks as boxes; the one that was clicked, where boxes are networks of their own."""
    boxes = (lately.live_boxes if live_run else box_frame)(shown, store)
    method = shown.chosen.method
    taught = who_else_teaches(shown, store)
    alt = partial(words.alt_chain, boxes, shown.verdict)
    if "peer" in set(boxes["role"]):
        taught = "Both learn at the same time, each from the labels and from the other's answers."
    if shown.in_one_network:
        taught = sub_words.teaching(teacher_option(shown.chosen), bool(dict(shown.chosen.options).get("hard")))
        alt = partial(sub_words.alt_boxes, boxes, shown.spec.student, taught)
    return ui.figure(
        "strip",
        lambda compact, dark: charts.chain_strip(boxes, dark, compact, method),
        alt,
        boxes,
        depends=(method, shown.verdict, taught),
        title=f"sub-models of {shown.spec.student}" if shown.in_one_network else "the chain",
        caption=" ".join(filter(None, (taught, "" if shown.in_one_network else _CLICK))),
        pick=None if shown.in_one_network else _networks(shown),
        arms=() if shown.in_one_network else shown_arms(shown),
    )


def _networks(shown: Study) -> ui.Pick:
    path = shown.chosen.path
    roles = ["teacher", *["assistant"] * (len(path) - 2), "student"] if len(path) > 1 else ["student"]
    return ui.Pick("network", {name: f"{role} {name}" for name, role in zip(path, roles, strict=True)}, nothing="all")


def shown_arms(shown: Study) -> tuple[ExperimentSpec, ...]:
    """The arms of a study that have a result, as questions of their own: what can be put side by side elsewhere."""
    names = set(shown.arms.loc[shown.arms["n"] > 0, "arm"].astype(str))
    return tuple(question_of(shown.spec, arm) for arm in shown.plan.arms if arm.name in names)


def parts_figure(shown: Study, caption: str) -> None:
    """What each sub-model reaches under every way to train them, and the chosen way on the smallest in words."""
    reading = sub_words.reading(shown.part_means, shown.verdicts)
    ui.figure(
        "parts",
        lambda compact, dark: charts.parts_chart(shown.part_means, shown.parts, dark, compact),
        lambda: sub_words.alt_parts(shown.part_means, reading),
        shown.part_means,
        depends=(shown.parts, reading),
        title="accuracy by MACs of the sub-model",
        caption=f"{caption} Bars: 95 % intervals; dots: seeds; large marks: the chosen way.",
    )
    st.markdown(ui.plain(reading))


def _gap(shown: Study, picked: str | None, caption: str) -> None:
    """The capacity gap: the student by its teacher's size."""
    st.subheader("Does a bigger teacher still help?", anchor=False)
    ui.figure(
        "gap",
        lambda compact, dark: charts.gap_chart(shown.gap, shown.gap_seeds, dark, compact, picked or shown.spec.teacher),
        lambda: words.alt_gap(shown.gap, shown.gap_verdict, words.gap_sentence(shown.gap_verdict)),
        shown.gap,
        depends=(shown.gap_seeds, shown.gap_verdict, picked or shown.spec.teacher),
        arms=shown_arms(shown),
        title="capacity gap",
        caption=f"{caption} Bars: 95 % intervals; dots: seeds; grey band: the student alone.",
    )
    st.markdown(ui.plain(words.gap_sentence(shown.gap_verdict)))


def _curves(shown: Study, store: Store, picked: str | None, caption: str, live_run: bool) -> None:
    names = {"val_acc": "Validation accuracy", "loss": "Training loss", "loss_kl": "Teacher's term"}
    if (
        shown.in_one_network or METHODS[shown.chosen.method].loss.form == "features"
    ):  # nobody teaches the largest, and the store keeps the curves of no other
        del names["loss_kl"]
    if shown.in_one_network:
        caption = f"{caption} Accuracy of the largest sub-model; the loss is summed over all of them."
    alone = METHODS[shown.chosen.method].wiring == "cohort"  # the store keeps the student's curves and not its peer's
    whole = "the chain" if len(shown.chosen.path) > 2 else "teacher and student"
    learned = "the largest sub-model" if shown.in_one_network else picked or ("the student" if alone else whole)
    st.subheader(f"How {learned} learned", anchor=False)
    if st.session_state.get("curve", "val_acc") not in names:  # another method had it
        st.session_state["curve"] = "val_acc"
    metric = st.segmented_control(
        "Curve",
        list(names),
        format_func=names.__getitem__,
        default="val_acc",
        label_visibility="collapsed",
        key="curve",
    )
    network = picked if picked in shown.chosen.path else None
    lines, how = curve_lines(shown, network)
    frame = (lately.live_curves if live_run else lately.curves)(shown, store, lines)
    nothing = NOT_KEPT if all(store.is_done(key) for keys in lines.values() for key in keys) else NO_EPOCH
    ui.figure(
        "curves",
        lambda compact, dark: charts.curves_chart(
            frame, metric or "val_acc", shown.epochs, how, dark, compact, nothing
        ),
        lambda: words.alt_curves(frame, metric or "val_acc", nothing),
        frame,
        depends=(metric, shown.epochs, how, nothing),
        arms=shown_arms(shown),
        title="learning curves",
        caption=caption,
    )


def story(shown: Study) -> None:
    """What happened, why, what next: three paragraphs that quote the numbers on screen."""
    told = shown.story
    titles = ("What happened", "Why", "What it costs, what to try")
    for column, title, text in zip(st.columns(3), titles, told, strict=True):
        column.markdown(f"**{title}**")
        column.markdown(ui.plain(text))
    if shown.in_one_network:
        caveat = sub_words.noise_caveat(shown.spec.noise)
    else:
        caveat = words.noise_caveat(shown.spec.noise, _stored_digits(shown))
    if caveat:
        st.caption(f":material/info: {ui.plain(caveat)}")


def _stored_digits(shown: Study) -> bool:
    stored = any(replace(p.spec, seeds=shown.spec.seeds) == shown.spec for p in PRESETS.values())
    return stored and shown.spec.dataset == "digits"


_CHAINS = (
    "Each seed is an independent chain: its own teacher, assistants and student. Arms of one seed share the student's "
    "initial weights and batch order."
)

_BEST_TEACHER = (
    ", and the comparison of teachers a wider one that allows for the best smaller teacher having been chosen"
)


def details(shown: Study) -> None:
    """The numbers behind the figures, as tables. They are sent once somebody looks: they are large."""
    title = "All numbers: arms, verdicts, how this was measured"
    box = st.expander(title, icon=":material/table_chart:", key="details", on_change="rerun")
    if not box.open:
        return
    with box:
        st.dataframe(_arm_table(shown), hide_index=True)
        if shown.in_one_network:
            st.dataframe(_part_table(shown), hide_index=True)
        st.dataframe(_verdict_table(shown), hide_index=True)
        stage = shown.plan.stages[shown.plan.chains_of(shown.chosen)[0].student]
        recipe = stage.recipe
        st.markdown(
            ui.plain(
                f"{sub_words.how_measured(len(shown.sub_models)) if shown.in_one_network else _CHAINS} "
                f"All are judged on test images after the last of "
                f"{recipe.epochs} epochs over {stage.data.train_images:,} training images (batch {recipe.batch}, "
                f"{recipe.schedule} rate {recipe.lr:g}, weight decay {recipe.weight_decay:g}, augmentation "
                f"{recipe.augmentation}); nothing is selected on test images. Gains carry 95 % t intervals of paired "
                f"differences, accuracies 95 % t intervals of their own mean"
                f"{'' if shown.in_one_network else _BEST_TEACHER}. None covers the choice of images. "
                + " ".join(answers_rules(shown.plan.stages))
            )
        )


@once
def _arm_table(shown: Study) -> pd.DataFrame:
    arms = shown.arms[shown.arms["n"] > 0]
    student = "smallest" if shown.in_one_network else "student"
    table = pd.DataFrame(
        {
            "arm": [words.capital(words.arm_label(str(a))) for a in arms["arm"]],
            "n": arms["n"],
            f"{student}, test %": (100 * arms["mean"]).round(2),
            "± 95 %": (100 * arms["half"]).round(2),
            f"{student}, validation %": (100 * arms["val_mean"]).round(2),
            "teacher, test %": (100 * arms["teacher_mean"]).round(2),
            "trainings": arms["trainings"],
            "seconds per seed": arms["seconds"].round(1),
            "GMAC-epochs": (arms["mac_epochs"] / 1e9).round(1),
            "from": arms["origin"],
        }
    )
    return table.drop(columns="teacher, test %") if shown.in_one_network else table


@once
def _part_table(shown: Study) -> pd.DataFrame:
    means = shown.part_means[shown.part_means["n"] > 0]
    return pd.DataFrame(
        {
            "trained": [words.capital(words.arm_label(str(a))) for a in means["arm"]],
            "sub-model": means["label"].astype(str),
            "parameters": means["params"],
            "MACs": means["macs"],
            "n": means["n"],
            "test %": (100 * means["mean"]).round(2),
            "± 95 %": (100 * means["half"]).round(2),
            "from": means["origin"],
        }
    )


@once
def _verdict_table(shown: Study) -> pd.DataFrame:
    rows = [v for v in (*shown.verdicts, shown.gap_verdict.verdict) if v.n]
    return pd.DataFrame(
        {
            "compared": [words.capital(words.versus(v)) for v in rows],
            "verdict": [words.verdict_label(v) for v in rows],
            "points": [round(100 * v.interval.mean, 2) for v in rows],
            "low": [round(100 * v.interval.low, 2) for v in rows],
            "high": [round(100 * v.interval.high, 2) for v in rows],
            "n": [v.n for v in rows],
            "p (sign-flip)": [round(v.p, 4) for v in rows],
            "p (Holm)": [None if v.p_holm is None else round(v.p_holm, 4) for v in rows],
            "seeds needed": [v.seeds_needed for v in rows],
        }
    )


def origin_line(shown: Study, store: Store, *, seeds: bool = True) -> str:
    """Where the numbers of a study come from, for captions; `seeds`: with how many seeds are done."""
    origin, date, device = origin_of(shown, store)
    data = data_words(shown.dataset.label, shown.spec.noise)
    return f"{data}, {words.provenance(origin, date, device, shown.seeds_done if seeds else None)}."
