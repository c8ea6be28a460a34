"""The sections of the Assistants page about cost and about rules that would have found the best assistant."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st

from takd.analysis.assistants import kept
from takd.analysis.frames import arm_frame
from takd.analysis.pool import Pool, settings_of
from takd.analysis.rules import RULES, Rules, per_seed, rules
from takd.analysis.verdicts import Verdict, compare
from takd.analysis.worth import against_longer, longer_chains, worth_frame
from takd.methods.table import METHODS
from takd.plan import Arm
from takd.presentation import live, panels, ui, view, words
from takd.presentation.chains import card as chain_card
from takd.presentation.chains.panels import Subject, claim, margin, numbers
from takd.presentation.chains.rules_chart import HOW, PUBLISHED, alt_rules, claim_rules, rules_chart
from takd.presentation.chains.worth_chart import (
    COSTS,
    alt_worth,
    before_on_front,
    cheaper_and_better,
    claim_worth,
    worth_chart,
)
from takd.presentation.lately import pooled
from takd.presentation.study import Study
from takd.runs.policy import read_only
from takd.spec import ExperimentSpec, rungs_between

_MIXED = (
    " Not all of these seconds were measured on one machine or in one run, so they compare roughly; MAC-epochs do not "
    "depend on that."
)


def is_it_worth_it(subject: Subject) -> None:
    """Accuracy against cost, with the equal-cost control."""
    spec, shown = subject.spec, subject.shown
    cost, chain = view.get("ta-cost"), _with_assistants(subject)
    longer = longer_chains(chain, subject.dataset, subject.store) if chain is not None else None
    others = [shown.arms[shown.arms["arm"].astype(str) == shown.chosen.name]]
    arms = worth_frame(subject.pool, spec.student, [*others, *([] if longer is None else [arm_frame(longer)])], cost)
    names = (arms, shown.chosen.name, cost)
    cheaper = before_on_front(*names) or cheaper_and_better(*names)
    over = _over(shown, subject.pool, cheaper) if cheaper is not None else None
    said = claim_worth(arms, shown.chosen.name, cost, over)
    claim(said)
    view.segmented("ta-cost", width="content")
    ui.figure(
        "chains-worth",
        lambda compact, dark: worth_chart(arms, cost, shown.chosen.name, dark, compact),
        lambda: alt_worth(arms, cost, said),
        arms,
        depends=(cost, shown.chosen.name, said),
        title=f"accuracy against {COSTS[cost]}",
        caption=f"{subject.origins} Cost of all distinct trainings, teacher included. Circles: without assistants; "
        "diamonds: chains; squares: other methods; large: the chosen arm. Bars: 95 % t intervals of the mean. The "
        "dashed line is the Pareto front of the means, which says nothing about how certain their order is."
        + (_MIXED if cost == "seconds" and subject.mixed else ""),
        arms=_on_figure(subject, chain, arms),
    )
    _equal_cost(chain, longer, subject)
    numbers("worth", lambda: _worth_table(arms))


def _on_figure(subject: Subject, chain: ExperimentSpec | None, arms: pd.DataFrame) -> tuple[ExperimentSpec, ...]:
    """The figure's arms as questions of their own: those of the pool, of the question, and the equal-cost control."""
    names = arms["arm"].astype(str)
    found = [*chain_card.as_questions(subject.spec, subject.pool, names), *panels.shown_arms(subject.shown)]
    if chain is not None and names.str.startswith("kd-long ").any():
        found.append(chain)
    return tuple(dict.fromkeys(found))


def _over(shown: Study, pool: Pool, cheaper: str) -> Verdict | None:
    """The chosen arm against a cheaper one, paired by seed; None where no table holds both."""
    found = [chains for chains in (pool.chains, shown.chains) if {shown.chosen.name, cheaper} <= set(chains["arm"])]
    return compare(found[0], shown.chosen.name, cheaper, margin()) if found else None


def _with_assistants(subject: Subject) -> ExperimentSpec | None:
    """The question whose assistants the equal-cost control may spend: the one shown, or with the smallest assistant."""
    spec = subject.spec
    inside = spec.assistants or rungs_between(spec.teacher, spec.student, subject.dataset)[-1:]
    return replace(spec, method="kd-long", assistants=inside, options=(), scope="chain") if inside else None


def _equal_cost(chain: ExperimentSpec | None, longer: pd.DataFrame | None, subject: Subject) -> None:
    """What direct KD reaches with the assistants' budget, or the button that trains it."""
    if chain is None or longer is None:
        return
    row, via = arm_frame(longer).iloc[0], words.listing(chain.assistants)
    spends = f"direct KD whose student trains longer, for the epochs that {via} would have taken"
    with st.container(border=True):
        if row["n"]:
            reached = words.accuracy(float(row["mean"]), float(row["half"]))
            cost = words.duration(float(row["seconds"]))
            told = f"reaches {reached} (n = {int(row['n'])}, {cost})"
            st.markdown(f"**Equal cost.** {ui.plain(words.capital(spends))}, {ui.plain(told)}.")
            verdict = against_longer(subject.pool, chain, longer, margin())
            if verdict.n:
                st.markdown(ui.plain(words.verdict_sentence(verdict)))
        else:
            st.markdown(f"**Equal cost: not run.** {ui.plain(words.capital(spends))}, is the fair rival of a chain.")
        if int(row["n"]) < subject.spec.seeds and not read_only():
            with st.container(horizontal=True, vertical_alignment="center"):
                live.run_button(chain, subject.dataset, subject.store)


def _worth_table(arms: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "arm": [words.capital(words.arm_label(str(arm))) for arm in arms["arm"]],
            "student, test %": (100 * arms["mean"]).round(2),
            "n": arms["n"],
            "seconds": arms["seconds"].round(1),
            "GMAC-epochs": (arms["mac_epochs"] / 1e9).round(1),
            "trainings": arms["trainings"],
            "on the front": arms["front"],
        }
    )


def which_rule(subject: Subject) -> None:
    """Four midpoint rules against the measured gains."""
    found, seeds = _scored(subject)
    said = claim_rules(found)
    claim(said)
    view.segmented("ta-over", width="content")
    ui.figure(
        "chains-rule",
        lambda compact, dark: rules_chart(found, seeds, dark, compact),
        lambda: alt_rules(found, said),
        seeds,
        depends=(repr(found.scores), said),
        title="which rule predicts the best assistant",
        caption=f"{_where(found, subject)} Dots: seeds, each the mean over its pairs; diamond and line: mean and "
        "95 % t interval over seeds. They say how certain the order is for these pairs, not for other networks.",
        arms=_candidates(subject, found),
    )
    st.markdown(ui.plain(_picks(found)))
    st.caption(ui.plain(f"{HOW} {PUBLISHED}"))
    numbers("rule", lambda: found.cases.round(4))


def _candidates(subject: Subject, found: Rules) -> tuple[ExperimentSpec, ...]:
    """The chains whose gains the rules are scored on, where they are all at this question's settings."""
    if view.get("ta-over") == "all":
        return ()
    rows = found.cases[["teacher", "assistant", "student"]].drop_duplicates().astype(str)
    names = [Arm("takd", tuple(row)).name for row in rows.itertuples(index=False)]
    return chain_card.as_questions(subject.spec, subject.pool, names)


def _scored(subject: Subject) -> tuple[Rules, pd.DataFrame]:
    """The scores for this question's pool, or for those of all stored questions; kept with the pool."""
    everything, limit = view.get("ta-over") == "all", margin()
    pools = {"here": subject.pool}
    if everything:
        datasets = ui.datasets()
        for spec in panels.library(subject.store):
            if datasets[spec.dataset].fingerprint is not None and not METHODS[spec.method].in_one_network:
                found = pooled(spec, datasets[spec.dataset], subject.store)
                if found is not subject.pool:
                    pools[f"{settings_of(spec)} {found.sizes} {found.arms['n'].sum()}"] = found

    def made() -> tuple[Rules, pd.DataFrame]:
        scored = rules([(pool, subject.store) for pool in pools.values()], limit)
        return scored, per_seed(scored.cases, limit)

    return kept(subject.pool, ("rules", tuple(pools), limit), made)


def _where(found: Rules, subject: Subject) -> str:
    seeds = found.cases[["pool", "seed"]].drop_duplicates()
    pairs = words.listing(f"{teacher} > {student}" for teacher, student in found.pairs) or "no pair"
    lead = subject.origins if view.get("ta-over") == "here" else "All stored questions of this server."
    return f"{lead} {words.capital(words.count(len(found.pairs), 'pair'))} ({ui.plain(pairs)}), n = {len(seeds)} seeds."


def _picks(found: Rules) -> str:
    """How often each rule's pick is good enough, beside a blind pick."""
    if not found.chance.n:
        return ""
    said = [f"{RULES[s.rule]} {100 * s.hit.mean:.0f} %" for s in found.scores if s.hit.n]
    near = f"within {100 * margin():g} points of the best assistant of its seed"
    return (
        f"The rule's pick gains {near}: {words.listing(said)} of cases; a blind pick {100 * found.chance.mean:.0f} %."
    )
