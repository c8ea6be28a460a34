"""What a picked path says: its numbers, what it takes to train it, and the way to the Playground."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd
import streamlit as st

from takd.analysis.assistants import direct_name
from takd.analysis.pool import Pool
from takd.analysis.verdicts import compare
from takd.analysis.whatif import guesses
from takd.data.table import Dataset
from takd.plan import Arm, question_of
from takd.presentation import live, ui, words
from takd.presentation.choices import carry
from takd.presentation.visit import PLAYGROUND
from takd.runs.store import Store
from takd.spec import ExperimentSpec


def gains_guessed(pool: Pool, cells: pd.DataFrame) -> pd.DataFrame:
    """Estimated gains of the cells that nobody has trained (columns arm, gain, error; fractions): the estimated
    accuracy minus that of direct KD from the same teacher, measured where it is and estimated where not, with both
    errors then."""
    found = guesses(pool)
    rows = []
    for cell in cells[cells["state"] == "not run"].to_dict("records"):
        teacher, student = str(cell["teacher"]), _arm(pool, str(cell["arm"])).path[-1]
        direct = pool.row(Arm("kd", (teacher, student)))
        guess, control = found.get(str(cell["arm"])), found.get(direct_name(teacher, student))
        level = float(direct["mean"]) if direct is not None else control.mean if control is not None else None
        if guess is not None and level is not None:
            both = math.hypot(guess.error, control.error) if direct is None and control is not None else guess.error
            rows.append({"arm": guess.arm, "gain": guess.mean - level, "error": both})
    return pd.DataFrame(rows, columns=["arm", "gain", "error"])


def steps(name: str) -> str:
    """`10 → 4 → 2`: an arm's path, short enough for a menu."""
    path = name.rpartition(" ")[2].split(">")
    return " → ".join(path) if len(path) > 1 else f"{path[0]} alone"


def _arm(pool: Pool, name: str) -> Arm:
    return next(arm for arm in pool.plan.arms if arm.name == name)


def as_questions(spec: ExperimentSpec, pool: Pool, names: Iterable[str]) -> tuple[ExperimentSpec, ...]:
    """Those of the arms that have a result, as questions of their own, for the figure's menu."""
    wanted = set(map(str, names)) & set(pool.arms.loc[pool.arms["n"] > 0, "arm"].astype(str))
    return tuple(question_of(spec, arm) for arm in pool.plan.arms if arm.name in wanted)


def card(name: str, spec: ExperimentSpec, dataset: Dataset, pool: Pool, store: Store, margin: float) -> None:
    """The numbers of one path, a button that trains what is missing, and one that opens it on the Playground."""
    arm = _arm(pool, name)
    row, question = pool.row(arm), question_of(spec, arm)
    with st.container(border=True, key="chain-card"):
        st.markdown(f"**{ui.plain(words.capital(_title(arm)))}**")
        lines = _measured(arm, row, pool, margin) if row is not None else _estimated(name, pool)
        for line in lines:
            st.markdown(ui.plain(line))
        with st.container(horizontal=True, vertical_alignment="center"):
            if row is None or int(row["n"]) < spec.seeds:
                live.run_button(question, dataset, store)
            if st.button("Open on the Playground", key="chain-open", icon=":material/arrow_forward:"):
                st.switch_page(PLAYGROUND, query_params=carry(question))


def _title(arm: Arm) -> str:
    return f"{arm.path[0]} alone" if len(arm.path) == 1 else words.arm_label(arm.name)


def _measured(arm: Arm, row: pd.Series, pool: Pool, margin: float) -> list[str]:
    seeds = words.count(int(row["n"]), "seed")
    reached = words.accuracy(float(row["mean"]), float(row["half"]))
    cost = f"{words.count(int(row['trainings']), 'training')}, {words.duration(float(row['seconds']))} for one seed"
    lines = [f"{words.capital(arm.path[-1])} reaches {reached} on test images (95 % interval, {seeds}); {cost}."]
    if len(arm.path) > 2:
        verdict = compare(pool.chains, arm.name, direct_name(arm.path[0], arm.path[-1]), margin)
        lines.append(words.verdict_sentence(verdict))
    return lines


def _estimated(name: str, pool: Pool) -> list[str]:
    guess = guesses(pool).get(name)
    if guess is None:
        return ["Not run yet."]
    level = f"{words.percent(guess.mean)} ({words.percent(guess.low)} to {words.percent(guess.high)})"
    return [f"Not run. ◌ Estimate: {level}. {guess.basis}"]
