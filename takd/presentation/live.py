"""The live part of pages: a run's card, its buttons, and what "Run for real" will do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import streamlit as st

from takd.answers import answers_rules
from takd.data.catalogue import is_ready
from takd.data.table import Dataset
from takd.methods.table import METHODS
from takd.networks.own import gone, gone_sentence
from takd.presentation import lately, ui, visitor, words
from takd.presentation.formats import data_words, length_words
from takd.presentation.lately import Watched
from takd.presentation.shared import tick, turn
from takd.presentation.study import plan_of
from takd.runs.errors import RunError
from takd.runs.estimates import Estimate, cpu_only, estimate
from takd.runs.limits import refusal
from takd.runs.policy import LONG_SECONDS, read_only
from takd.runs.queue import queue
from takd.runs.states import RunInfo, log_tail, read_run_file, read_status, run_ids, run_or_none
from takd.runs.store import Store
from takd.runs.submit import cancel, delete, resume, seconds_of, submit
from takd.spec import ExperimentSpec, read_spec, to_json
from takd.stage import StageSpec

SHOWS_ONLY = "This server shows stored results. Run your own copy of the program to train this."
_SHOWN = 2  # trainings of one run; dozens of small ones go on at once, and the figures stand below them
_MOST_NOTES = 3  # about memory; the log has all
LIVE_NOTE = "live"  # the note of runs that live mode started


def cost(spec: ExperimentSpec, dataset: Dataset, store: Store) -> Estimate | None:
    """What is left to train; None where the data set has to be prepared first."""
    if dataset.fingerprint is None:
        return None
    return estimate(plan_of(spec, dataset), store, dataset.classes)


def spec_of(run: RunInfo) -> ExperimentSpec:
    """A run's question, repaired where an older version wrote it."""
    return read_spec(run.spec, ui.datasets())[0]


def active_run(spec: ExperimentSpec, store: Store) -> RunInfo | None:
    """The run that is answering this question now, whoever started it: a reload or another browser finds it again.

    Ended runs that need attention (failed, lost, cancelled) are found when they are the newest of their question; one
    of live mode that was cancelled needs none, because its visitor has moved on.
    """
    wanted = to_json(spec)
    for run_id, asked in _newest(store):
        run = run_or_none(store, run_id) if asked.get("spec") == wanted else None
        if run is not None and (run.note, run.state) != (LIVE_NOTE, "cancelled"):
            return run if run.state != "done" else None
    return None


def active_runs(store: Store) -> list[RunInfo]:
    """Runs that train or wait, newest first."""
    unsure = [name for name, _ in _newest(store) if _said(store, name) not in ("done", "failed", "cancelled")]
    found = [run_or_none(store, name) for name in unsure]
    return [run for run in found if run is not None and run.look.active]


def _newest(store: Store, limit: int = 50) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(id, experiment.json) of the newest own runs. Nothing is asked about their stages: live mode makes many runs."""
    for name in reversed(run_ids(store.root)[-limit:]):
        yield name, read_run_file(store, store.root / "runs" / name, "experiment.json")


def _said(store: Store, run_id: str) -> str:
    return str(read_status(store.root / "runs" / run_id).get("state"))


def run_button(spec: ExperimentSpec, dataset: Dataset, store: Store) -> None:
    """Start training, with what is new and how long it takes; disabled with the reason where it cannot."""
    if read_only():
        st.caption(SHOWS_ONLY, width="content")
        return
    left = cost(spec, dataset, store)
    nothing = left is not None and left.new_stages == 0
    seconds = seconds_of(store, spec, dataset) if left is None else left.seconds
    problem = None if nothing else store.writable() or refusal(store, visitor.person(store), seconds) or None
    if left is None:
        label, note, more = "Run for real", f"{dataset.label} is downloaded first ({dataset.download}).", ""
    else:
        label = "Everything is trained" if nothing else f"Run for real · {words.duration(left.seconds)}"
        note, more = words.cost_note(left), "" if nothing else words.cost_details(left, _rules(spec, dataset))
        if not nothing and not is_ready(spec.dataset):
            note = f"{note} {dataset.label} is prepared first ({dataset.download})."
    slow = not nothing and cpu_only(store)
    if problem:
        st.caption(ui.plain(problem), width="content")
    else:
        st.caption(f"{note} CPU only." if slow else note, width="content", help=words.ADD_A_GPU if slow else None)
    if st.button(
        label,
        key="run",
        type="primary",
        icon=":material/play_arrow:",
        disabled=nothing or problem is not None,
        help=ui.plain(problem) if problem else f"{note} {more}".strip(),
    ):
        if seconds >= LONG_SECONDS:
            _confirm(spec, seconds, store)
        else:
            _begin(spec, store)


@st.dialog("Train for a long time?")
def _confirm(spec: ExperimentSpec, seconds: float, store: Store) -> None:
    st.write(ui.plain(words.long_run(seconds)))
    st.caption(ui.plain(describe(spec)))
    with st.container(horizontal=True):
        if st.button("Start it", key="run-confirmed", type="primary", icon=":material/play_arrow:"):
            _begin(spec, store)
        if st.button("Not now", key="run-not-now"):
            st.rerun()


def _begin(spec: ExperimentSpec, store: Store) -> None:
    try:
        submit(store, spec, person=visitor.person(store))
    except RunError as error:
        st.error(ui.plain(str(error)))
    else:
        st.rerun()


def _rules(spec: ExperimentSpec, dataset: Dataset) -> tuple[str, ...]:
    return answers_rules(plan_of(spec, dataset).stages)


def watching(run_id: str, store: Store, *, place: str, below: Callable[[], None] = lambda: None) -> None:
    """The live part of a page: a run's card, and what `below` draws of it. Redraws itself while the run works, then the
    whole page once."""
    st.fragment(_watching, run_every=tick())(run_id, store, place, below)


def _watching(run_id: str, store: Store, place: str, below: Callable[[], None]) -> None:
    seen = lately.watched(run_id, store)
    if seen is None or not seen.run.look.active:
        st.session_state["toast"] = f"Run {seen.run.look.word.lower()}" if seen else "Run removed"
        st.rerun()
    with turn():
        with st.container():
            run_card(seen, store, place=place)
        below()


def run_card(seen: Watched, store: Store, *, place: str) -> None:
    """One run: state, progress, what is being trained, time left, and what a person can do."""
    run, look = seen.run, seen.run.look
    left = _seconds_left(seen)
    with st.container(border=True):
        head = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
        head.markdown(f"**:material/{look.icon}: {look.word}** · {ui.plain(describe(seen.spec))}")
        with head.container(horizontal=True, width="content"):
            _buttons(run, store, place)
        if run.stages_total:
            text = f"{run.stages_done} of {words.count(run.stages_total, 'stage')} trained"
            if run.look.active and left is not None:
                text += f" · {words.duration(left)} left"
            st.progress(share(run), text=text)
        others = len(run.current) - _SHOWN
        for number, (key, progress) in enumerate(run.current[:_SHOWN], 1):
            more = f" · and {others} more at the same time" if number == _SHOWN and others > 0 else ""
            st.caption(_current(key, progress, store) + more)
        if run.state == "queued" and run.position is not None:
            st.caption(words.capital(_turn(run, store)))
        if run.asked_by:
            st.caption(f"Asked for by {ui.plain(run.asked_by)}")
        for note in seen.notes[:_MOST_NOTES]:
            st.caption(ui.plain(note))
        if missing := gone(run.spec):
            st.caption(f"This is not its question. {gone_sentence(missing)}")
        if run.reason:
            st.caption(ui.plain(run.reason))
        ended = not run.look.active and run.state != "done"
        if ended and may_change(run, store):
            st.caption(look.next_action)
        if (ended or run.cause) and (tail := log_tail(store, run.id, 20)):  # also of one that seems to hang
            with st.expander("Last lines of the log"):
                st.code(tail, language=None)


def _turn(run: RunInfo, store: Store) -> str:
    seconds = next((entry.starts_in for entry in queue(store) if entry.run.id == run.id), None)
    return f"{words.starts_in(seconds, (run.position or 1) - 1)}."


def may_change(run: RunInfo, store: Store) -> bool:
    """Whether this visitor may stop, continue or forget a run. takd.runs asks again."""
    if run.origin != "live" or read_only():
        return False
    who = visitor.person(store)
    return not who.refused and who.owns({"owner": run.owner})


def way_on(run: RunInfo | None, store: Store) -> str:
    """What to press on the Playground to have a question trained, given the run that answers it: one that stopped early
    has its own buttons and no Run for real. Empty where there is nothing to press."""
    if read_only() or (run is not None and run.look.active):
        return ""
    if run is None:
        return "Press **Run for real** to train it."
    stopped = "This question's run stopped early"
    if not may_change(run, store):
        return f"{stopped}; only the person who started it can resume it."
    return f"{stopped}: press **Resume** to continue, or **Forget** to remove it and start over."


def _buttons(run: RunInfo, store: Store, place: str) -> None:
    def button(label: str, icon: str, action: Any) -> None:
        if st.button(label, icon=f":material/{icon}:", key=f"{label}-{run.id}-{place}"):
            try:
                action(store, run.id, visitor.person(store))
            except RunError as error:
                st.error(ui.plain(str(error)))
            else:
                lately.look_again()
                st.rerun()

    if not may_change(run, store):
        return
    if run.look.active and run.state != "cancelling":
        button("Cancel", "stop", cancel)
    if run.state in ("cancelled", "failed", "lost"):
        button("Resume", "play_arrow", resume)
    if not run.look.active:
        button("Forget", "delete", delete)


def share(run: RunInfo) -> float:
    """How much of a run is done, from 0 to 1, with what its trainings have done so far."""
    inside = sum(_done_share(progress) for _, progress in run.current)
    return min(1.0, (run.stages_done + inside) / max(1, run.stages_total))


def _done_share(progress: dict[str, Any]) -> float:
    try:
        return (progress["epoch"] - 1 + progress["step"] / progress["steps"]) / progress["epochs"]
    except (KeyError, TypeError, ZeroDivisionError):
        return 0.0


def _seconds_left(seen: Watched) -> float | None:
    if seen.left is None:
        return None
    share = sum(_done_share(progress) for _, progress in seen.run.current) / max(1, seen.left.new_stages)
    return seen.left.seconds * max(0.0, 1.0 - share)


def _current(key: str, progress: dict[str, Any], store: Store) -> str:
    stage = store.stage(key)
    name = f"{_taught(stage, store)}, seed {stage.seed}" if stage else key[:8]
    epoch, speed = progress.get("epoch"), progress.get("images_per_second")
    where = f" · epoch {epoch} of {progress.get('epochs', '?')}" if epoch else ""  # short stages report no epoch
    note = f" · {ui.plain(str(progress['note']))}" if progress.get("note") else ""
    return f"Now: {name}{where}" + (f" · {speed:,.0f} images/s" if isinstance(speed, (int, float)) else "") + note


def _taught(stage: StageSpec, store: Store) -> str:
    """A network and who teaches it: `mlp-64 from mlp-256`, through the whole chain where one teaches one."""
    teachers = [found for key in stage.teachers if (found := store.stage(key)) is not None]
    names = [_taught(teachers[0], store)] if len(teachers) == 1 else dict.fromkeys(t.network for t in teachers)
    return f"{stage.network} from {words.listing(names)}" if names else stage.network


def describe(spec: ExperimentSpec) -> str:
    """A question in one line."""
    dataset = ui.datasets().get(spec.dataset)
    label = dataset.label if dataset is not None else spec.dataset
    in_one_network = METHODS[spec.method].in_one_network
    path = spec.student if spec.method == "scratch" or in_one_network else " > ".join(spec.path)
    ladder = ", whole ladder" if spec.scope == "ladder" and not in_one_network else ""
    softening = "" if spec.method == "scratch" else f", T {spec.temperature:g}"
    softening += "" if spec.method == "scratch" or in_one_network else f", lam {spec.lam:g}"
    seeds = words.count(spec.seeds, "seed")
    chosen = f" ({', '.join(f'{name} {value}' for name, value in spec.options)})" if spec.options else ""
    asked = f"{METHODS[spec.method].label}{chosen} {path}{softening}, {length_words(spec)}, {seeds}{ladder}"
    return f"{data_words(label, spec.noise)}: {asked}"
