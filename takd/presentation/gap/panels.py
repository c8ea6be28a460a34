"""The panels of the Capacity gap page: verdict, the figure of one student, every student small, what was not run, the
numbers. They draw; takd.analysis.capacity_gap knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from takd.analysis.capacity_gap import (
    GUESSED,
    LINE_COLUMNS,
    MEASURED,
    UNKNOWN,
    Measure,
    line_frame,
    peak_of,
    seed_values,
    teacher_frame,
)
from takd.analysis.pool import Pool, pool
from takd.analysis.whatif import guesses, leave_one_out
from takd.networks.table import capacity
from takd.plan import Arm, question_of
from takd.presentation import lately, live, panels, ui, view, words
from takd.presentation.choices import adopt
from takd.presentation.gap import words as gap_words
from takd.presentation.gap.capacity_chart import capacity_chart, line_label, unplaced
from takd.presentation.gap.students_chart import estimates_chart, students_chart
from takd.presentation.study import Study
from takd.runs.store import Store
from takd.spec import ExperimentSpec, read_spec, size_order, start_for, to_json

_KEPT = 48  # ways to look at one pool: four measures of some students


@dataclass(frozen=True)
class Scene:
    """What the page shows of a study: the pool of every path of its ladder, the arms on the figure with their seeds,
    and for the small figures direct KD of every student."""

    shown: Study
    pool: Pool
    measure: Measure
    teachers: pd.DataFrame
    arms: dict[str, Arm]
    lines: pd.DataFrame
    values: pd.DataFrame
    students: pd.DataFrame

    def not_run(self) -> dict[str, str]:
        """Arms of the figure without a result, with their words."""
        rows = self.lines[self.lines["state"] != MEASURED]
        return {str(arm): f"{words.capital(words.arm_label(str(arm)))}: not run" for arm in rows["arm"]}

    def run(self) -> tuple[ExperimentSpec, ...]:
        """Arms of the figure that have a result, as questions of their own."""
        names = self.lines.loc[self.lines["state"] == MEASURED, "arm"].astype(str)
        return tuple(question_of(self.shown.spec, self.arms[name]) for name in names)


def scene(shown: Study, store: Store) -> Scene:
    """Worked out once for everybody who looks at the same question in the same way."""
    here = lately.pooled(shown.spec, shown.dataset, store)
    measure, chains = view.get("y"), view.get("via")
    memory: dict[Any, Scene] = vars(here).setdefault("scenes", {})
    name = (shown.spec, measure, chains)
    if name not in memory or memory[name].shown is not shown:
        memory[name] = _scene(shown, here, store, measure, chains)
        for oldest in list(memory)[:-_KEPT]:
            memory.pop(oldest, None)
    return memory[name]


def pool_scene(shown: Study, store: Store, measure: Measure, chains: str) -> Scene:
    """The same for given settings, worked out anew."""
    return _scene(shown, pool(shown.spec, shown.dataset, store), store, measure, chains)


def _scene(shown: Study, here: Pool, store: Store, measure: Measure, chains: str) -> Scene:
    student = shown.spec.student
    teachers = teacher_frame(here, student, shown.spec.teacher)
    known = guesses(here)
    arms = _arms(shown, here, [str(name) for name in teachers["teacher"]], chains)
    both = [here.chains, shown.chains[~shown.chains["arm"].isin(set(here.arms["arm"].astype(str)))]]
    table = pd.concat([part.astype({"arm": str, "student": str, "method": str}) for part in both], ignore_index=True)
    alone = {Arm("scratch", (name,)).name: Arm("scratch", (name,)) for name in here.sizes}
    small = {arm.name: arm for arm in here.plan.arms if arm.method == "kd"}
    wanted = table[table["arm"].isin({*arms, *alone, *small})]
    lines = _lines(shown, here, store, wanted[wanted["arm"].isin({*arms, *alone})], measure, known, arms)
    half: Measure = "gain" if measure == "accuracy" else measure
    others = _lines(shown, here, store, wanted, half, known, small)[0]
    others["params"] = [capacity(str(name), shown.dataset.classes).params for name in others["teacher"]]
    others = others.sort_values(["student", "params"], key=_by_size, ignore_index=True)
    return Scene(shown, here, measure, teachers, arms, *lines, others)


def _by_size(column: pd.Series) -> pd.Series:
    return column.astype(str).map(size_order) if column.name == "student" else column


def _lines(
    shown: Study, here: Pool, store: Store, chains: pd.DataFrame, measure: Measure, known: Any, arms: dict[str, Arm]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    stages = {**shown.plan.stages, **here.plan.stages}
    values = seed_values(stages, chains, store, measure).astype({"arm": str})
    table = values[values["arm"].isin(set(arms))].reset_index(drop=True)
    return line_frame(arms, chains, table, known, measure), table


def _arms(shown: Study, here: Pool, teachers: list[str], chains: str) -> dict[str, Arm]:
    """The arms of the figure by name: alone, direct KD from every teacher, the chains asked for, other methods."""
    student, known = shown.spec.student, {arm.name for arm in here.plan.arms} | {arm.name for arm in shown.plan.arms}
    trained = set(here.arms.loc[here.arms["n"] > 0, "arm"].astype(str))
    arms = [Arm("scratch", (student,)), *(Arm("kd", (name, student)) for name in teachers)]
    via = shown.spec.assistants
    if chains == "own" and via:
        arms += [Arm("takd", (t, *via, student)) for t in teachers if size_order(t) > size_order(via[0])]
    if chains == "all":
        for name in teachers:
            line = [Arm("takd", (t, name, student)) for t in teachers if size_order(t) > size_order(name)]
            arms += [arm for arm in line if arm.name in trained]
    arms += [arm for arm in shown.plan.arms if not arm.usual and arm.path[-1] == student and len(arm.path) > 1]
    return {arm.name: arm for arm in arms if arm.name in known}


def verdict(shown: Study) -> None:
    """The claim, large, and what stands behind it."""
    gap, student = shown.gap_verdict, shown.spec.student
    label, color, icon = gap_words.badge(gap)
    finding = gap_words.headline(gap, student).replace("-", ui.UNBROKEN_HYPHEN).replace(" %", "\u00a0%")
    st.subheader(ui.plain(finding), anchor=False)
    with st.container(horizontal=True, vertical_alignment="top"):
        st.badge(label, color=color, icon=icon)  # type: ignore[arg-type]
        st.caption(
            ui.plain(gap_words.explained(gap, peak_of(shown.chains), student, len(shown.kd_arms))), width="stretch"
        )
    if words.failed(shown.facts):
        st.warning(words.FAILED, icon=":material/warning:")
    if shown.chosen.as_published:
        st.warning(words.AS_PUBLISHED, icon=":material/warning:")


def settings() -> None:
    """What is shown of the student, and where the teachers stand."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        view.segmented("y")
        view.segmented("x")
        view.segmented("via")


def figures(shown: Study, store: Store) -> None:
    """The student beside all students of its ladder."""
    now = scene(shown, store)
    left, right = st.columns([1.7, 1])
    with left:
        picked = _figure(now, store)
    with right:
        if picked is not None:
            _card(now, picked, store)
        _students(now, store)


def _figure(now: Scene, store: Store) -> str | None:
    shown, axis = now.shown, view.get("x")
    empty = now.not_run()
    pick = ui.Pick("arm", empty, label="Not run yet", nothing=f"{len(empty)} not run: choose one") if empty else None
    picked = ui.picked("capacity", pick) if pick is not None else None
    table = leave_one_out(now.pool)
    estimated = (now.lines["state"] == GUESSED).any()
    notes = [
        panels.origin_line(shown, store),
        "Line: mean; band and bars: 95 % t interval"
        + (" of the differences paired by seed." if now.measure == "gain" else ".") + " Dots: seeds.",
        "" if now.measure in ("gain", "agreement") else "Grey: the student alone.",
        f"Hollow and dashed: not run, drawn at its estimate. {gap_words.quality(table)}" if estimated else "",
        gap_words.left_out(unplaced(now.teachers, axis)),
    ]  # fmt: skip
    return ui.figure(
        "capacity",
        lambda compact, dark: capacity_chart(
            now.teachers, now.lines, now.values, now.measure, axis, picked, dark, compact
        ),
        lambda: gap_words.alt(now.lines, now.measure, gap_words.headline(shown.gap_verdict, shown.spec.student)),
        now.lines,
        depends=(now.teachers, now.values, now.measure, axis, picked, shown.gap_verdict),
        title=f"{shown.spec.student} by its teacher",
        caption=ui.plain(" ".join(filter(None, notes))),
        pick=pick,
        arms=now.run(),
    )


def _students(now: Scene, store: Store) -> None:
    half = "gain" if now.measure == "accuracy" else now.measure
    what = {
        "gain": "points over the student alone, paired by seed",
        "agreement": "answers shared with the teacher",
        "calibration": "calibration error, lower is better",
    }[half]
    states = set(now.students["state"].astype(str))
    hollow = "hollow: not run, drawn at its estimate" if GUESSED in states else "hollow: not run"
    if UNKNOWN in states:
        hollow += ", at the foot where there is no estimate" if GUESSED in states else ", at the foot"
    names = now.students["student"].drop_duplicates().astype(str).tolist()
    spec = now.shown.spec
    measured = now.students[now.students["state"] == MEASURED]
    n, run = measured["n"], set(measured["arm"].astype(str))
    seeds = f"n = {n.min()}" + (f" to {n.max()}" if n.min() != n.max() else "") if len(n) else "nothing trained"
    ui.figure(
        "students",
        lambda compact, dark: students_chart(now.students, spec.student, half, dark, compact),
        lambda: gap_words.alt_students(now.students, half),
        now.students,
        depends=(spec.student, half),
        title="every student of the ladder",
        caption=ui.plain(
            f"Direct KD by teacher for every student of the ladder: {what}; bands: 95 % t interval, {seeds}; {hollow}. "
            f"{panels.origin_line(now.shown, store, seeds=False)} Click a student to ask about it."
        ),
        pick=ui.Pick("student", {n: f"student {n}" for n in names}, "Student", "choose a student", partial(_ask, spec)),
        arms=tuple(question_of(spec, arm) for arm in now.pool.plan.arms if arm.name in run),
    )


def _ask(spec: ExperimentSpec, student: str) -> None:
    """Make a student the question's: assistants that no longer fit and a teacher that is too small follow."""
    if student == spec.student:
        return
    datasets = ui.datasets()
    names = [name for name in spec.assistants if size_order(student) < size_order(name)]
    values = {**to_json(spec), "student": student, "assistants": names}
    if size_order(spec.teacher) <= size_order(student):
        del values["teacher"]
    if spec.assistants and not names:
        values |= {"method": "kd", "options": {}}
    adopt(read_spec(values, datasets)[0])


def _card(now: Scene, name: str, store: Store) -> None:
    """An arm that was not run: what to expect, what it costs, and the button that trains it."""
    asked = question_of(now.shown.spec, now.arms[name])
    run = live.active_run(asked, store)
    if run is not None and run.look.active:
        live.watching(run.id, store, place="gap")
        return
    with st.container(border=True, key="train-card"):
        st.markdown(f"**Train it: {ui.plain(live.describe(asked))}**")
        if now.measure in ("accuracy", "gain"):
            st.caption(ui.plain(gap_words.guess_sentence(guesses(now.pool).get(name))))
        with st.container(horizontal=True, vertical_alignment="center"):
            live.run_button(asked, now.shown.dataset, store)
    if run is not None:  # it stopped early: what happened, and Resume
        live.run_card(lately.about(run, store), store, place="gap")


def going_on(spec: ExperimentSpec, store: Store) -> None:
    """The run that trains the question asked, while it has no result: redraws itself, then the page once."""
    run = live.active_run(spec, store)
    if run is not None and run.look.active:
        live.watching(run.id, store, place="gap")


def numbers(shown: Study, store: Store) -> None:
    """Every number of the figure, and how good estimates are; sent once somebody looks."""
    now = scene(shown, store)
    _box("All numbers of the figure", ":material/table_chart:", "gap-numbers", lambda: _table(now))
    table = leave_one_out(now.pool)
    if len(table):
        _box("How good are the estimates?", ":material/query_stats:", "gap-quality", lambda: _quality(now, table))


def _box(title: str, icon: str, key: str, draw: Callable[[], None]) -> None:
    box = st.expander(title, icon=icon, key=key, on_change="rerun")
    if box.open:
        with box:
            draw()


def _table(now: Scene) -> None:
    unit = "points" if now.measure == "gain" else "%"
    own = now.teachers.set_index(now.teachers["teacher"].astype(str))
    rows = now.lines[list(LINE_COLUMNS)]
    teacher = rows["teacher"].astype(object).where(rows["teacher"].notna(), None)

    def of(column: str) -> list[float | None]:
        return [None if name is None or name not in own.index else float(own.loc[name, column]) for name in teacher]

    st.dataframe(
        pd.DataFrame(
            {
                "arm": [words.capital(words.arm_label(str(arm))) for arm in rows["arm"]],
                "line": [line_label(str(line)) for line in rows["line"]],
                "teacher": teacher,
                "parameters": of("params"),
                "MACs": of("macs"),
                "teacher, test %": [None if v is None else round(100 * v, 2) for v in of("mean")],
                f"{now.measure}, {unit}": (100 * rows["mean"]).round(2),
                "low": (100 * rows["low"]).round(2),
                "high": (100 * rows["high"]).round(2),
                "n": rows["n"],
                "from": [_from(state, origin) for state, origin in zip(rows["state"], rows["origin"], strict=True)],
            }
        ),
        hide_index=True,
    )


def _from(state: Any, origin: Any) -> str:
    return str(origin) if state == MEASURED else "estimate" if state == GUESSED else "not run"


def _quality(now: Scene, table: pd.DataFrame) -> None:
    guess = next(iter(guesses(now.pool).values()), None)
    ui.figure(
        "estimates",
        lambda compact, dark: estimates_chart(table, dark, compact),
        lambda: f"Measured against estimated test accuracy. {gap_words.quality(table)}",
        table,
        title="estimates against measured arms",
        caption=ui.plain(
            f"{gap_words.quality(table)} {guess.basis if guess else ''} On the dashed line an estimate is right. "
            "Estimates take no part in any verdict."
        ),
    )


def inside_one_network(shown: Study, store: Store) -> None:
    """Sub-models of one network: there is no ladder of teachers, so no capacity gap; what there is instead."""
    st.info(
        "These are sub-models of one network, trained together: there is no ladder of teachers to compare, so no "
        "capacity gap. What each sub-model reaches is shown instead.",
        icon=":material/account_tree:",
    )
    start = start_for(shown.dataset.name)
    st.button(
        "Choose a ladder of separate networks", icon=":material/stairs:", on_click=adopt, args=(start,), key="to-ladder"
    )
    panels.parts_figure(shown, ui.plain(panels.origin_line(shown, store)))
