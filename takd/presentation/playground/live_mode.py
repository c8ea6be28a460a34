"""Live mode: every changed choice is trained for real at once, and the figures follow when it is done.

It is offered where a whole study takes seconds. The newest choice counts: what this session asked for before is
stopped, and whatever it had finished stays in the store, to be used by the next choice. Switched off at the start, so
that opening a page never uses the machine unless its link says so (`live=1`).
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field, replace

import streamlit as st

from takd.data.table import Dataset
from takd.presentation import live, ui, visitor, words
from takd.presentation.study import Study
from takd.runs.errors import RunError
from takd.runs.policy import read_only
from takd.runs.states import RunInfo, run_or_none
from takd.runs.store import Store
from takd.runs.submit import cancel, delete, submit
from takd.spec import ExperimentSpec, start_for

LIMIT = 10.0  # seconds: a data set on which one seed of its first question takes longer is not for live mode
PATIENCE = 20.0  # seconds: a choice that takes longer is not live, it is a run
TICK = 0.3  # seconds between looks at a run of live mode; a look reads its state and draws no figure

_UNTRAINED_SEED = 2**30  # seeds nobody has trained, for the time of a study that finds nothing in the store


@dataclass(frozen=True)
class LiveMode:
    """What live mode does with the question on screen.

    `refused` says why it is not offered (empty where it is), `problem` why this question is not trained live. `run` is
    the run that answers the question now, however it was started; `training` is set while the figures wait for it.
    """

    on: bool
    refused: str
    problem: str
    run: RunInfo | None
    training: bool


@dataclass
class _Memory:
    """What the session remembers.

    Whether it is on, what was last written into the URL, the question last acted upon, why that one is not being
    trained, this session's newest run and those it replaced, and the figures last shown. One object, because every
    access to the session's own state is a place where Streamlit may break off a run of the page for a newer one: a run
    that was started but not noted down would never be stopped.
    """

    on: bool = False
    written: bool | None = None
    asked: ExperimentSpec | None = None
    problem: str = ""
    run: str | None = None
    replaced: list[str] = field(default_factory=list)
    shown: Study | None = None


def _memory() -> _Memory:
    if "live-memory" not in st.session_state:
        st.session_state["live-memory"] = _Memory()
    return st.session_state["live-memory"]


def follow(spec: ExperimentSpec, dataset: Dataset, store: Store) -> LiveMode:
    """Bring the machine in line with the choices: start what is missing, stop what is not wanted any more."""
    memory = _memory()
    refused = why_not(dataset, store)
    on = _switched_on(memory) and not refused
    if not on:
        memory.asked, memory.problem = None, ""
    elif memory.asked != spec:
        memory.asked = spec
        memory.problem = _begin(memory, spec, dataset, store)
    run = live.active_run(spec, store)
    training = on and _in_training(run)
    if run is not None and run.note != live.LIVE_NOTE:
        memory.problem = ""  # it is being trained the other way
    if run is not None and run.note == live.LIVE_NOTE and run.look.active and run.stages_done == run.stages_total:
        run = None  # all it has left to do is to write its last word
    return LiveMode(on, refused, memory.problem, run, training)


def why_not(dataset: Dataset, store: Store) -> str:
    """Why live mode is not offered for a data set; empty where it is."""
    if read_only():
        return live.SHOWS_ONLY
    if problem := visitor.person(store).refused:
        return problem
    if dataset.fingerprint is None:
        return f"{dataset.label} has to be prepared first: press Run for real once."
    smallest = live.cost(replace(start_for(dataset.name), seeds=1, seed=_UNTRAINED_SEED), dataset, store)
    if smallest is None or smallest.seconds > LIMIT:
        time = words.duration(smallest.seconds if smallest else math.nan)
        takes = f"one seed on {dataset.label} takes {time}"
        return f"Live is for studies that take seconds; {takes}. Press Run for real instead."
    return ""


def _switched_on(memory: _Memory) -> bool:
    """The switch as the session has it, unless the URL changed since it was last written."""
    asked = st.query_params.get("live") == "1"
    if memory.written != asked:
        memory.on = asked
    if memory.on != asked:
        if memory.on:
            st.query_params["live"] = "1"
        else:
            st.query_params.pop("live", None)
    memory.written = memory.on
    return memory.on


def _begin(memory: _Memory, spec: ExperimentSpec, dataset: Dataset, store: Store) -> str:
    """Train what is missing for a new choice; the sentence that says why not, or an empty one."""
    older = memory.run
    _forget_replaced(memory, store)
    known = live.active_run(spec, store)
    if known is not None and known.look.active and known.state != "cancelling":  # somebody else asked: watch theirs
        _stop(store, older if older != known.id else None)
        return ""
    if known is not None and known.state == "failed":  # it would fail again: its card says why and offers to resume
        _stop(store, older)
        return ""
    left = live.cost(spec, dataset, store)
    if left is None or left.new_stages == 0:
        _stop(store, older)
        return ""
    if left.seconds > PATIENCE:
        _stop(store, older)
        time = words.duration(left.seconds)
        return f"This choice takes {time}, too long for Live. Press Run for real to train it, or choose fewer seeds."
    if other := _busy_with(store):
        _stop(store, older)
        memory.asked = None  # looked at again whenever the page is drawn
        return (
            f"Another run is using the machine ({live.describe(live.spec_of(other))}). Wait until it is done, or "
            "press Run for real to wait in the queue."
        )
    try:
        memory.run = submit(store, spec, note=live.LIVE_NOTE, replaces=older, person=visitor.person(store))
    except RunError as error:
        _stop(store, older)
        return str(error)
    if older is not None:
        memory.replaced.append(older)
    return ""


def _stop(store: Store, run_id: str | None) -> None:
    if run_id is not None:
        with contextlib.suppress(RunError, OSError):  # it may be gone, and then nothing has to be stopped
            cancel(store, run_id, visitor.person(store))


def _forget_replaced(memory: _Memory, store: Store) -> None:
    """Runs that were replaced before they were done leave the list of runs; the stages they finished stay."""
    still: list[str] = []
    for run_id in memory.replaced:
        run = run_or_none(store, run_id)
        if run is not None and run.look.active:
            still.append(run_id)
        elif run is not None and run.state == "cancelled":
            with contextlib.suppress(RunError, OSError):
                delete(store, run_id, visitor.person(store))
    memory.replaced = still


def _busy_with(store: Store) -> RunInfo | None:
    """A run that live mode would have to wait for longer than anybody watches. Runs of other visitors' live mode are
    done in seconds, and a GPU is not where small networks train."""
    for run in live.active_runs(store):
        if run.note != live.LIVE_NOTE and not run.device.startswith("cuda"):
            return run
    return None


def _in_training(run: RunInfo | None) -> bool:
    """Whether the figures wait for this run: it is one of live mode and something of it is missing."""
    if run is None or not run.look.active or run.note != live.LIVE_NOTE:
        return False
    return run.stages_done < run.stages_total


# What is shown meanwhile


def keep(shown: Study) -> None:
    """Remember the figures on screen, to leave them standing while the next choice trains."""
    _memory().shown = shown


def kept(spec: ExperimentSpec) -> Study | None:
    """The figures that stood before, if they are of the same data set."""
    shown = _memory().shown
    return shown if shown is not None and shown.spec.dataset == spec.dataset else None


def stand_in(spec: ExperimentSpec, shown: Study, nearest: bool) -> str:
    """What the figures are while `spec` trains, for the line that says where they come from."""
    if shown.spec == spec:
        return "So far"
    return "The nearest stored result" if nearest else "The choice before"


# What is drawn


def switch(mode: LiveMode, answered: bool) -> None:
    """The switch itself; where live mode is not offered it cannot be used and says why. Screen readers are told in
    words what happens to the figures; `answered`: those on screen are of the question asked."""
    if read_only():
        return
    said = ""
    if mode.on and not mode.problem:
        said = "Training your choice." if mode.training else "The figures show your choice." if answered else ""
    with st.container(key="live-said"):
        st.html(f'<span role="status">{said}</span>')
    if mode.refused:
        st.toggle("Live: not here", value=False, key="w-live-refused", disabled=True, help=ui.plain(mode.refused))
        return
    st.session_state["w-live"] = mode.on
    st.toggle(
        "Live",
        key="w-live",
        on_change=_switched,
        help="Each change is trained at once unless it is already stored, and the figures follow.",
    )


def _switched() -> None:
    _memory().on = bool(st.session_state["w-live"])


def watch(mode: LiveMode, store: Store) -> None:
    """How far the training of the choice on screen is; draws the page again when it has ended."""
    if mode.run is not None:
        _watch(mode.run.id, store)


@st.fragment(run_every=TICK)
def _watch(run_id: str, store: Store) -> None:
    run = run_or_none(store, run_id)
    if not _in_training(run):
        _ended(run_id, run)
        st.rerun()
    assert run is not None
    with st.container(key="live-state", horizontal=True, vertical_alignment="center", width="content"):
        st.caption(_so_far(run), width="content")
        if not live.may_change(run, store):
            return
        st.button(
            "Stop",
            icon=":material/stop:",
            key="live-stop",
            on_click=_stopped,
            args=(run_id, store),
            disabled=run.state == "cancelling",
        )


def _so_far(run: RunInfo) -> str:
    before = (run.position or 1) - 1 if run.state in ("queued", "starting") else 0
    if run.state == "cancelling":
        return "Stopping"
    what = f"Waiting for {words.count(before, 'run')}" if before else "Training"
    return f"{what} · {run.stages_done} of {run.stages_total}"


def _ended(run_id: str, run: RunInfo | None) -> None:
    """A choice whose run was another session's, and was stopped there, is asked for again by this one."""
    memory, gone = _memory(), run is None or run.state in ("cancelling", "cancelled")
    if gone and run_id != memory.run:
        memory.asked = None


def _stopped(run_id: str, store: Store) -> None:
    memory = _memory()
    memory.run = run_id  # whoever started it: this session does not start it again by itself
    memory.problem = "Stopped. Change a choice to train again, or press Run for real."
    _stop(store, run_id)
