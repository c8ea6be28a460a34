"""Try next: questions that differ from the one on screen by one choice, each a button."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from takd.data.table import Dataset
from takd.methods.table import METHODS
from takd.presentation.choices import adopt
from takd.spec import (
    ExperimentSpec,
    between,
    multi_networks_for,
    networks_for,
    read_spec,
    rungs_between,
    size_order,
    to_json,
)

Proposal = tuple[str, dict[str, object]]


def try_next(spec: ExperimentSpec, datasets: Mapping[str, Dataset]) -> None:
    """At most three of them."""
    proposals = proposals_for(spec, datasets[spec.dataset])
    if not proposals:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", width="content"):
        st.caption("Try next:", width="content")
        for label, changes in proposals[:3]:
            proposed, _ = read_spec({**to_json(spec), **changes}, datasets)
            st.button(label, key=f"try-{label}", on_click=adopt, args=(proposed,), type="tertiary")


def proposals_for(spec: ExperimentSpec, dataset: Dataset) -> list[Proposal]:
    """Labels, and what each of them changes."""
    if METHODS[spec.method].wiring == "sub-models":
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
