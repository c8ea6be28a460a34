"""Try next: questions that differ from the one on screen by one choice, each a button."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from takd.analysis.verdicts import LEAST_SEEDS
from takd.data.table import Dataset
from takd.methods.table import METHODS
from takd.parameters import LEFT_TO_BUDGET
from takd.presentation import live, words
from takd.presentation.choices import SEED_CHOICES, adopt
from takd.presentation.study import Study
from takd.runs.store import Store
from takd.spec import (
    ExperimentSpec,
    between,
    multi_networks_for,
    networks_for,
    read_spec,
    rungs_between,
    size_order,
    start_for,
    to_json,
)

Proposal = tuple[str, dict[str, object]]


def try_next(
    spec: ExperimentSpec, datasets: Mapping[str, Dataset], shown: Study | None = None, store: Store | None = None
) -> None:
    """At most three of them, after what the result on screen (`shown`, where it answers the question) calls for."""
    proposals = proposals_for(spec, datasets[spec.dataset])[:3]
    if shown is not None and store is not None:
        proposals = [*called_for(shown, store), *proposals]
    if not proposals:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", width="content"):
        st.caption("Try next:", width="content")
        for label, changes in proposals:
            proposed, _ = read_spec({**to_json(spec), **changes}, datasets)
            st.button(label, key=f"try-{label}", on_click=adopt, args=(proposed,), type="tertiary")


def called_for(shown: Study, store: Store) -> list[Proposal]:
    """Safe settings after a training that failed, and more seeds, with their time, where nothing can be told yet."""
    spec, found = shown.spec, []
    if words.failed(shown.facts):
        safe = start_for(spec.dataset)
        found.append(
            (
                "Safe settings",
                {"temperature": safe.temperature, "lam": safe.lam, "options": {}, "budget": safe.budget}
                | dict.fromkeys(LEFT_TO_BUDGET, 0),
            )
        )
    claims = [shown.verdict, None if shown.in_one_network else shown.gap_verdict.verdict]
    open_ones = [claim for claim in claims if claim is not None and words.kind_of(claim) == words.CANNOT_TELL]
    if open_ones:
        needed = max(LEAST_SEEDS, *(claim.seeds_needed or 0 for claim in open_ones[:1]))
        larger = [count for count in SEED_CHOICES if count > spec.seeds]
        count = next((count for count in larger if count >= needed), larger[-1] if larger else 0)
        left = live.cost(replace(spec, seeds=count), shown.dataset, store) if count else None
        if left is not None:
            time = f" · {words.duration(left.seconds)}" if left.new_stages else ""
            found.append((f"{words.count(count, 'seed')}{time}", {"seeds": count}))
    return found


def proposals_for(spec: ExperimentSpec, dataset: Dataset) -> list[Proposal]:
    """Labels, and what each of them changes."""
    if METHODS[spec.method].in_one_network:
        return _in_one_network(spec, dataset)
    proposals: list[Proposal] = []
    names = [n.name for n in networks_for(dataset)]
    smaller = list(rungs_between(spec.teacher, spec.student, dataset))
    if smaller:
        kept = [a for a in spec.assistants if a in between(smaller[0], spec.student, dataset)]
        method = spec.method if kept or METHODS[spec.method].assistants[1] == 0 else "kd"
        proposals.append(("Use a smaller teacher", {"teacher": smaller[0], "assistants": kept, "method": method}))
    if spec.assistants:
        proposals.append(("Remove the assistants", {"assistants": [], "method": "kd"}))
    elif smaller:
        proposals.append(("Add an assistant (TA chain)", {"assistants": smaller[-1:], "method": "takd"}))
    if len(spec.assistants) == 1 and len(smaller) > 1:
        extra = next(n for n in smaller if n not in spec.assistants)
        chain = [n for n in reversed(names) if n in (*spec.assistants, extra)]
        proposals.append(("Two assistants", {"assistants": chain, "method": "takd"}))
    return proposals


def _in_one_network(spec: ExperimentSpec, dataset: Dataset) -> list[Proposal]:
    larger = [n.name for n in multi_networks_for(dataset) if size_order(n.name) > size_order(spec.student)]
    chosen = dict(spec.options)
    proposals: list[Proposal] = []
    if spec.method == "joint":
        proposals.append(("Teach inside the network", {"method": "ipkd-ta", "options": {}}))
    else:
        if not chosen.get("hard"):
            proposals.append(("Labels for all sub-models", {"options": {**chosen, "hard": True}}))
        if chosen.get("teacher") != "all-larger":
            proposals.append(("Every larger one teaches", {"options": {**chosen, "teacher": "all-larger"}}))
    if larger:
        proposals.append(("A larger network", {"teacher": larger[0], "student": larger[0]}))
    return proposals
