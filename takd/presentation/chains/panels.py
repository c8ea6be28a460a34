"""The sections of the Assistants page: each answers one question with a sentence and a figure. They draw; takd.analysis
knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import pandas as pd
import streamlit as st

from takd.analysis.assistants import by_length, gain_map, kept, longer_against_shorter, winner
from takd.analysis.lattice import lattice, training_arms
from takd.analysis.pool import Pool
from takd.analysis.verdicts import Verdict, compare
from takd.data.table import Dataset
from takd.plan import Arm
from takd.presentation import charts, panels, ui, view, words
from takd.presentation.chains import card as chain_card
from takd.presentation.chains.lattice_chart import alt_lattice, claim_lattice, lattice_chart
from takd.presentation.chains.length_chart import alt_lengths, claim_lengths, length_chart
from takd.presentation.chains.map_chart import alt_map, chain_map, claim_map
from takd.presentation.formats import data_words
from takd.presentation.phrases import row_label
from takd.presentation.study import Study, assistant_rows, origin_of
from takd.runs.store import Store
from takd.spec import ExperimentSpec


@dataclass(frozen=True)
class Subject:
    """What the page is about: a question that has results. `look_up` gives every path of its ladder, which not every
    section needs; `live`: a run works on it."""

    shown: Study
    store: Store
    look_up: Callable[[], Pool]
    live: bool = False

    @cached_property
    def pool(self) -> Pool:
        return self.look_up()

    @property
    def spec(self) -> ExperimentSpec:
        return self.shown.spec

    @property
    def dataset(self) -> Dataset:
        return self.shown.dataset

    @property
    def source(self) -> str:
        """Where the numbers of the question come from, for captions."""
        return ui.plain(panels.origin_line(self.shown, self.store))

    @cached_property
    def mixed(self) -> str:
        """Where the numbers of all paths come from, where that is more than one place; else empty."""
        done = self.pool.arms[self.pool.arms["n"] > 0]
        found = sorted(set(done["origin"].dropna().astype(str)), key="live cached imported".find)
        return "+".join(found) if len(found) > 1 else ""

    @property
    def origins(self) -> str:
        """The same as `source` for figures of all paths, some of which other runs have trained."""
        if not self.mixed or self.mixed == origin_of(self.shown, self.store)[0]:
            return self.source
        mixed = words.provenance(self.mixed, None, None, self.shown.seeds_done)
        return ui.plain(f"{data_words(self.dataset.label, self.shown.spec.noise)}, {mixed}.")


def margin() -> float:
    """The smallest difference that matters, as a fraction."""
    return float(view.get("ta-margin")) / 100


def claim(text: str) -> None:
    """The answer of a section, above its figure."""
    st.subheader(ui.plain(words.capital(text).replace("-", ui.UNBROKEN_HYPHEN)) + ".", anchor=False)


def does_one_help(subject: Subject) -> None:
    """Points over direct KD by choice of assistants; the winner is chosen on validation and shown on test."""
    shown, limit = subject.shown, margin()
    rows, summary = assistant_rows(shown)
    direct = Arm("kd", (shown.spec.teacher, shown.spec.student)).name
    if len(summary):
        summary = summary.assign(kind=[compare(shown.chains, str(arm), direct, limit).kind for arm in summary["arm"]])
        if view.get("ta-order") == "gain":
            summary = summary.sort_values("mean", ascending=False, ignore_index=True)
    won = winner(shown.chains, summary["arm"].astype(str), direct, limit)
    if won.name is None:
        claim(f"No chain with an assistant has finished between {shown.spec.teacher} and {shown.spec.student} yet")
    else:
        claim(_helps(won.name, words.verdict_label(won.verdict), won.tried, won.verdict))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        view.segmented("ta-order", width="content")
        view.slider("ta-margin", step=0.1, format="±%.1f", width=280)
    ui.figure(
        "chains-help",
        lambda compact, dark: charts.assistants_chart(rows, summary, dark, compact, limit),
        lambda: words.alt_assistants(summary),
        rows,
        depends=(summary, limit),
        arms=panels.shown_arms(shown),
        title="gain of each assistant",
        caption=f"{subject.source} Dots: seeds; diamond and line: mean and 95 % t interval of the paired differences.",
    )
    if len(summary) > 1:
        st.caption(
            f":material/info: {words.best_of(len(summary))} The sentence above allows for that: it names the best on "
            "validation images and gives its gain on test images with an interval widened for the choice."
        )
    numbers("help", partial(_help_table, shown, summary))


def _helps(arm: str, label: str, tried: int, verdict: Verdict) -> str:
    chosen = f", best of {tried} on validation," if tried > 1 else ""
    what = f"{row_label(arm)}{chosen} against direct KD: {words.gain_text(verdict)}"
    return f"{label}: {what} ({words.interval_text(verdict)})"


def _help_table(shown: Study, summary: pd.DataFrame) -> pd.DataFrame:
    holm = {v.arm: v.p_holm for v in shown.verdicts if v.p_holm is not None}
    p = {v.arm: v.p for v in shown.verdicts if v.p_holm is not None}
    names = [str(arm) for arm in summary["arm"]]
    return pd.DataFrame(
        {
            "assistants": [row_label(arm) for arm in names],
            "verdict": [str(kind).capitalize() for kind in summary["kind"]],
            "points": (100 * summary["mean"]).round(2),
            "low": (100 * summary["low"]).round(2),
            "high": (100 * summary["high"]).round(2),
            "n": summary["n"],
            "p (sign-flip)": [p.get(arm) for arm in names],
            "p (Holm)": [holm.get(arm) for arm in names],
        }
    )


def every_teacher(subject: Subject) -> None:
    """The map of teachers and assistants for this student, with a card for the picked cell."""
    pool, spec = subject.pool, subject.spec
    limit = margin()
    cells = kept(pool, ("map", spec.student, limit), lambda: gain_map(pool, spec.student, limit))
    guessed = kept(pool, ("guessed", spec.student), lambda: chain_card.gains_guessed(pool, cells))
    claim(claim_map(cells, spec.student))
    pick = ui.Pick("arm", {arm: chain_card.steps(arm) for arm in cells["arm"]}, label="Chain", nothing="pick a cell")
    picked = ui.picked("chains-map", pick)
    chosen = ui.figure(
        "chains-map",
        lambda compact, dark: chain_map(cells, guessed, dark, compact, picked),
        lambda: alt_map(cells, spec.student),
        cells,
        depends=(guessed, picked),
        title=f"gain of one assistant for {spec.student}",
        caption=f"{subject.origins} Gain over direct KD from the same teacher, in points, with its 95 % interval. "
        "Green wins, purple loses; paler with an outline: the interval holds 0; dashed: not run"
        + (", with an estimate and the error it makes on measured arms." if len(guessed) else "."),
        pick=pick,
        arms=chain_card.as_questions(subject.spec, pool, cells.loc[cells["n"] > 0, "arm"]),
    )
    if chosen is not None:
        chain_card.card(chosen, spec, subject.dataset, pool, subject.store, margin())


def how_many(subject: Subject) -> None:
    """Accuracy and cost by the number of assistants."""
    pool, spec = subject.pool, subject.spec
    limit, ends = margin(), (spec.teacher, spec.student)
    paths = kept(pool, ("lengths", ends), lambda: by_length(pool, *ends))
    steps = kept(pool, ("steps", ends, limit), lambda: longer_against_shorter(pool, paths, limit))
    said = claim_lengths(paths, steps)
    claim(said)
    ui.figure(
        "chains-many",
        lambda compact, dark: length_chart(paths, dark, compact),
        lambda: alt_lengths(paths, said),
        paths,
        depends=(said,),
        title="accuracy by number of assistants",
        caption=f"{subject.origins} Line: for each number the path that is best on validation images; pale: the other "
        "paths. Bars: 95 % t intervals of the mean accuracy. The sentence above pairs by seed, and its intervals are "
        "widened for the choice of path.",
        arms=chain_card.as_questions(spec, pool, paths["arm"]),
    )
    numbers("many", lambda: paths.drop(columns=["arm"]).round(4))


def all_paths(subject: Subject) -> None:
    """The lattice of all paths, with a card for the picked one."""
    pool, spec = subject.pool, subject.spec
    training = training_arms(pool.plan, subject.store) if subject.live else frozenset()
    name = ("lattice", spec.teacher, spec.student, training, margin())
    tree = kept(pool, name, lambda: lattice(pool, spec.teacher, spec.student, training, margin()))
    said = claim_lattice(tree)
    claim(said)
    names = {str(arm): chain_card.steps(str(arm)) for arm in tree.nodes["arm"]}
    pick = ui.Pick("arm", names, label="Path", nothing="pick a path")
    picked = ui.picked("chains-paths", pick)
    left_out = f" Of {tree.whole} paths the {tree.shown} with at most two assistants are shown."
    chosen = ui.figure(
        "chains-paths",
        lambda compact, dark: lattice_chart(tree.nodes, tree.columns, dark, compact, picked),
        lambda: alt_lattice(tree, said),
        tree.nodes,
        depends=(tree.columns, picked, said),
        title="all paths from teacher to student",
        caption=f"{subject.origins} After figure 5 of Mirzadeh et al. 2020. A node is a network at the end of a path, "
        "with its test accuracy; on the lines: points over the same network taught by the teacher directly, bold where "
        "the 95 % interval leaves out 0. Hollow: not run; ◌: time estimated from other trainings of the same networks."
        + (left_out if tree.shown < tree.whole else ""),
        pick=pick,
        arms=chain_card.as_questions(spec, pool, tree.nodes.loc[tree.nodes["role"] == "student", "arm"]),
    )
    if chosen is not None:
        chain_card.card(chosen, spec, subject.dataset, pool, subject.store, margin())


def numbers(name: str, table: Callable[[], pd.DataFrame]) -> None:
    """The table behind a figure, sent once somebody opens it."""
    box = st.expander("The numbers", icon=":material/table_chart:", key=f"numbers-{name}", on_change="rerun")
    if box.open:
        with box:
            st.dataframe(table(), hide_index=True)
