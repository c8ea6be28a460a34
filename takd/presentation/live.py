"""The live part of pages: a run's card, its buttons, and what "Run for real" will do."""

from __future__ import annotations

from typing import Any

import streamlit as st

from takd.analysis.curves import CurveReader
from takd.data.table import Dataset
from takd.plan import build_plan
from takd.presentation import ui, words
from takd.runs.errors import RunError
from takd.runs.estimates import Estimate, estimate
from takd.runs.states import RunInfo, list_runs, log_tail, run_info
from takd.runs.store import Store
from takd.runs.submit import cancel, delete, resume, submit
from takd.spec import ExperimentSpec, read_spec, to_json

TICK = 2.0  # seconds between looks at a live run


def cost(spec: ExperimentSpec, dataset: Dataset, store: Store) -> Estimate | None:
    """What is left to train; None where the data set has to be prepared first."""
    if dataset.fingerprint is None:
        return None
    return estimate(build_plan(spec, dataset), store, dataset.classes)


def spec_of(run: RunInfo) -> ExperimentSpec:
    """A run's question, repaired where an older version wrote it."""
    return read_spec(run.spec, ui.datasets())[0]


def active_run(spec: ExperimentSpec, store: Store) -> RunInfo | None:
    """The run that is answering this question now, whoever started it: a reload or another browser finds it again.

    Ended runs that need attention (failed, lost, cancelled) are found when they are the newest of their question.
    """
    wanted = to_json(spec)
    for run in list_runs(store, limit=50):
        if run.origin == "live" and dict(run.spec) == wanted:
            return run if run.state != "done" else None
    return None


def run_button(spec: ExperimentSpec, dataset: Dataset, store: Store) -> None:
    """Start training, with what is new and how long it takes; disabled with the reason where it cannot."""
    left = cost(spec, dataset, store)
    if left is None:
        label, note = "Run for real", f"{dataset.label} is downloaded first ({dataset.download})."
        nothing = False
    else:
        nothing = left.new_stages == 0
        label = "Everything is trained" if nothing else f"Run for real · {words.duration(left.seconds)}"
        sure = "" if left.calibrated or nothing else " Not measured on this machine yet, so this is a rough guess."
        reused = "; the rest is reused" if left.new_stages < left.total_stages else ""
        note = f"Trains {left.new_stages} of {words.count(left.total_stages, 'stage')}{reused}.{sure}"
        if nothing:
            note = f"All {words.count(left.total_stages, 'stage')} are stored; nothing is left to train."
    problem = store.writable() if not nothing else None
    st.caption(problem or note, width="content")
    if st.button(
        label,
        key="run",
        type="primary",
        icon=":material/play_arrow:",
        disabled=nothing or problem is not None,
        help=problem or note,
    ):
        try:
            submit(store, spec)
            st.rerun()
        except RunError as error:
            st.error(ui.plain(str(error)))


def run_card(run: RunInfo, store: Store, *, place: str) -> None:
    """One run: state, progress, what is being trained, time left, and what a person can do."""
    look = run.look
    spec = spec_of(run)
    left = _seconds_left(run, spec, store)
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
        head.markdown(f"**:material/{look.icon}: {look.word}** · {ui.plain(describe(spec))}")
        with head.container(horizontal=True, width="content"):
            _buttons(run, store, place)
        if run.stages_total:
            text = f"{run.stages_done} of {words.count(run.stages_total, 'stage')} trained"
            if run.look.active and left is not None:
                text += f" · {words.duration(left)} left"
            st.progress(_share(run), text=text)
        for key, progress in run.current:
            st.caption(_current(key, progress, store))
        if run.state == "queued" and run.position is not None:
            st.caption(words.run_sentence("queued", position=run.position))
        if run.reason:
            st.caption(ui.plain(run.reason))
        if not run.look.active and run.state != "done":
            st.caption(look.next_action)
            if tail := log_tail(store, run.id, 20):
                with st.expander("Last lines of the log"):
                    st.code(tail, language=None)


def _buttons(run: RunInfo, store: Store, place: str) -> None:
    def button(label: str, icon: str, action: Any) -> None:
        if st.button(label, icon=f":material/{icon}:", key=f"{label}-{run.id}-{place}"):
            try:
                action(store, run.id)
            except RunError as error:
                st.error(ui.plain(str(error)))
            else:
                st.rerun()

    if run.origin != "live":
        return
    if run.look.active and run.state != "cancelling":
        button("Cancel", "stop", cancel)
    if run.state in ("cancelled", "failed", "lost"):
        button("Resume", "play_arrow", resume)
    if not run.look.active:
        button("Forget", "delete", delete)


def _share(run: RunInfo) -> float:
    inside = sum(_done_share(progress) for _, progress in run.current)
    return min(1.0, (run.stages_done + inside) / max(1, run.stages_total))


def _done_share(progress: dict[str, Any]) -> float:
    try:
        return (progress["epoch"] - 1 + progress["step"] / progress["steps"]) / progress["epochs"]
    except (KeyError, TypeError, ZeroDivisionError):
        return 0.0


def _seconds_left(run: RunInfo, spec: ExperimentSpec, store: Store) -> float | None:
    dataset = ui.datasets().get(spec.dataset)
    if dataset is None or not run.look.active:
        return None
    left = cost(spec, dataset, store)
    if left is None:
        return None
    share = sum(_done_share(progress) for _, progress in run.current) / max(1, left.new_stages)
    return left.seconds * max(0.0, 1.0 - share)


def _current(key: str, progress: dict[str, Any], store: Store) -> str:
    stage = store.stage(key)
    name = f"{stage.network}, seed {stage.seed}" if stage else key[:8]
    epoch, speed = progress.get("epoch"), progress.get("images_per_second")
    where = f" · epoch {epoch} of {progress.get('epochs', '?')}" if epoch else ""  # short stages report no epoch
    return f"Now: {name}{where}" + (f" · {speed:,.0f} images/s" if isinstance(speed, (int, float)) else "")


def describe(spec: ExperimentSpec) -> str:
    """A question in one line."""
    label = ui.datasets()[spec.dataset].label if spec.dataset in ui.datasets() else spec.dataset
    path = spec.student if spec.method == "scratch" else " > ".join(spec.path)
    noise = f", {100 * spec.noise:g} % label noise" if spec.noise else ""
    ladder = ", whole ladder" if spec.scope == "ladder" else ""
    softening = "" if spec.method == "scratch" else f", T {spec.temperature:g}, lam {spec.lam:g}"
    seeds = words.count(spec.seeds, "seed")
    return f"{label}{noise}: {spec.method} {path}{softening}, {spec.budget}, {seeds}{ladder}"


def curve_reader(store: Store) -> CurveReader:
    """This session's reader of events: each tick reads only what is new."""
    if "curve-reader" not in st.session_state:
        st.session_state["curve-reader"] = CurveReader(store)
    return st.session_state["curve-reader"]


def still_active(run_id: str, store: Store) -> RunInfo | None:
    """The run as it is now, or None when it is gone."""
    try:
        return run_info(store, run_id)
    except RunError:
        return None
