"""Train what a claim still lacks: its missing runs in one setting, asked for with one button."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from takd.analysis.claims import Row
from takd.claims.library import questions_of
from takd.claims.settings import Setting
from takd.data.catalogue import is_ready
from takd.data.table import Dataset
from takd.presentation import live, ui, visitor
from takd.presentation.claims import data
from takd.presentation.formats import count, duration, listing
from takd.presentation.phrases import capital
from takd.presentation.study import plan_of
from takd.presentation.visit import PAGES
from takd.runs.errors import RunError
from takd.runs.estimates import estimate_of
from takd.runs.limits import refusal
from takd.runs.policy import LONG_SECONDS, read_only
from takd.runs.store import Store
from takd.runs.submit import submit
from takd.spec import ExperimentSpec, to_json
from takd.stage import StageSpec


@dataclass(frozen=True)
class Left:
    """What the deciding test of a claim lacks in one setting: the questions to run, their trainings that are not
    finished, and the seconds these take here. `ready`: the setting's data set is prepared on this machine."""

    setting: Setting
    specs: tuple[ExperimentSpec, ...]
    trainings: int
    seconds: float
    ready: bool


def lefts(row: Row, store: Store, datasets: Mapping[str, Dataset]) -> tuple[Left, ...]:
    """The settings in which a claim's deciding tests miss chains, the cheapest first, those whose data set is not
    prepared last. What was imported counts as missing: a run trains it again."""
    found = []
    for finding in (finding for finding in row.findings if finding.decides and finding.missing > 0):
        setting = finding.setting
        dataset = datasets[setting.spec.dataset]
        if dataset.fingerprint is None:
            found.append(Left(setting, (), 0, 0.0, False))
            continue
        left = _left(row.claim.name, setting, dataset, store)
        found += [left] if left.trainings else []
    return tuple(sorted(found, key=lambda left: (not left.ready, left.seconds)))


def _left(claim: str, setting: Setting, dataset: Dataset, store: Store) -> Left:
    own = store.without_imports
    todo: dict[str, StageSpec] = {}
    stages: dict[str, StageSpec] = {}
    specs = []
    for spec in questions_of(claim, setting):
        plan = plan_of(spec, dataset)
        missing = {key: stage for key, stage in plan.stages.items() if key not in todo and not own.is_done(key)}
        stages.update(plan.stages)
        if missing:
            todo.update(missing)
            specs.append(spec)
    seconds = estimate_of(todo, stages, store).seconds if todo else 0.0
    return Left(setting, tuple(specs), len(todo), seconds, is_ready(setting.spec.dataset))


def panel(row: Row, store: Store, datasets: Mapping[str, Dataset]) -> None:
    """The button with what it trains, the settings to choose from, and what is in the queue already."""
    claim = row.claim.name
    found = data.kept(store, datasets, f"left {claim}", lambda known: lefts(known.row(claim), store, datasets))
    assert isinstance(found, tuple)
    ready = {left.setting.name: left for left in found if left.ready}
    if not found:
        return
    st.markdown("**Train what is missing**")
    if unready := [left for left in found if not left.ready]:
        names = sorted({left.setting.spec.dataset for left in unready})
        asked = listing(f"`python -m takd data prepare {name}`" for name in names)
        st.caption(f"{listing(left.setting.short for left in unready)}: the data set is not prepared here; {asked}.")
    if not ready:
        return
    if read_only():
        st.caption(f"{live.SHOWS_ONLY} Missing: {listing(_words(left) for left in ready.values())}.")
        return
    chosen = ready[_setting(claim, ready)]
    asked_for = {str(to_json(run_spec)) for run_spec in _active(store)}
    todo = [spec for spec in chosen.specs if str(to_json(spec)) not in asked_for]
    if len(todo) < len(chosen.specs):
        running = count(len(chosen.specs) - len(todo), "run")
        st.info(
            f"{running} of this claim in the queue or in training; the board follows as they end.",
            icon=":material/sync:",
        )
        _runs_link()
    if todo:
        _button(claim, chosen, todo, store)


def _setting(claim: str, ready: Mapping[str, Left]) -> str:
    """Which setting is trained: the cheapest unless somebody chooses another."""
    names = list(ready)
    if len(names) == 1:
        return names[0]
    key = f"claims-train-{claim}"
    if st.session_state.get(key) not in names:
        st.session_state[key] = names[0]
    return str(st.selectbox("In which setting", names, format_func=lambda name: _words(ready[name]), key=key))


def _words(left: Left) -> str:
    return f"{left.setting.short}: {count(left.trainings, 'training')}, {duration(left.seconds)}"


def _button(claim: str, left: Left, todo: Sequence[ExperimentSpec], store: Store) -> None:
    problem = store.writable() or refusal(store, visitor.person(store), left.seconds)
    label = f"Train {count(left.trainings, 'missing training')} · {duration(left.seconds)}"
    note = f"{capital(count(len(todo), 'run'))}, one after another in the queue; what is stored is used."
    if st.button(
        label, key=f"claims-run-{claim}", icon=":material/play_arrow:", disabled=bool(problem),
        help=ui.plain(problem) if problem else note,
    ):  # fmt: skip
        if left.seconds >= LONG_SECONDS:
            _confirm(left, tuple(todo), store)
        else:
            _begin(todo, store)
    if problem:
        st.caption(ui.plain(problem))


@st.dialog("Train for a long time?")
def _confirm(left: Left, todo: tuple[ExperimentSpec, ...], store: Store) -> None:
    st.write(
        f"{ui.plain(_words(left))} on this machine. The runs keep going when you close the page; you can stop them "
        "under Runs at any time and resume them later. Finished trainings are kept."
    )
    with st.container(horizontal=True):
        if st.button("Start them", key="claims-confirmed", type="primary", icon=":material/play_arrow:"):
            _begin(todo, store)
        if st.button("Not now", key="claims-not-now"):
            st.rerun()


def _begin(todo: Sequence[ExperimentSpec], store: Store) -> None:
    """Ask for the runs in order; where one is refused the earlier ones stay, and the reason is said."""
    begun = 0
    try:
        for spec in todo:
            submit(store, spec, person=visitor.person(store))
            begun += 1
    except RunError as error:
        started = f"{begun} of {count(len(todo), 'run')} asked for. " if begun else ""
        st.error(ui.plain(f"{started}{error}"))
        if begun:
            _runs_link()
        return
    st.session_state["toast"] = f"{count(begun, 'run')} asked for: see under Runs how far training is."
    st.rerun()


def _runs_link() -> None:
    st.page_link(PAGES / "runs.py", label="Watch them in Runs", icon=":material/queue:")


def _active(store: Store) -> list[ExperimentSpec]:
    return [live.spec_of(run) for run in live.active_runs(store)]
