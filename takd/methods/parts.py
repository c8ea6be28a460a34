"""What answers in a stage where that is more than one: sub-models, a cohort, heads. Imports no torch."""

from __future__ import annotations

from takd.methods.table import form_of
from takd.networks.table import NETWORKS, stage_shapes
from takd.stage import StageSpec


def part_names(stage: StageSpec) -> tuple[list[str], int]:
    """Names of all that answers in a stage where that is more than one, and the place of the main one."""
    form = form_of(stage.loss)
    if form == "sub-models":
        return list(NETWORKS[stage.network].subs), -1
    if form == "cohort":
        return [stage.network, *stage.peers], 0
    if form == "heads":
        return [f"head {i}" for i in range(1, len(stage_shapes(stage.network, stage.data.classes)) + 1)], -1
    return [], 0
