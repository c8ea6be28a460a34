"""What one image costs in one step of a training, in multiply-accumulates. Imports no torch.

Going backward costs about two forward passes. What finished teachers cost is not in it where their answers are looked
up: see takd.answers for how often they are asked.
"""

from __future__ import annotations

from collections.abc import Mapping

from takd.methods.shapes import head_params
from takd.methods.table import form_of, loss_and_options
from takd.networks.table import capacity, stage_shapes, sub_models
from takd.stage import StageSpec

_TRAINING = 3  # forward, and backward at twice that


def step_macs(stage: StageSpec) -> float:
    """Multiply-accumulates for one image in one step of this stage, all networks that are trained in it together."""
    classes = stage.data.classes
    own = capacity(stage.network, classes).macs
    form = form_of(stage.loss)
    if form == "heads":
        pooling = str(loss_and_options(stage.loss)[1]["pooling"])
        return own + _TRAINING * float(sum(head_params(stage_shapes(stage.network, classes), classes, pooling)))
    if form == "sub-models":
        subs = sub_models(stage.network, classes)
        return _TRAINING * float(subs[-1].macs_with_smaller)
    if form == "cohort":
        options = loss_and_options(stage.loss)[1]
        together = own + sum(capacity(name, classes).macs for name in stage.peers)
        turns = 1 + len(stage.peers) if options.get("order") == "in turn" else 1  # all answer, one goes backward
        return float((turns + _TRAINING - 1) * together)
    return float(_TRAINING * own)


def looking_macs(stage: StageSpec, stages: Mapping[str, StageSpec]) -> float:
    """The same for teachers that are run for every batch because hidden layers are looked at."""
    if form_of(stage.loss) != "features":
        return 0.0
    known = (stages[key].network for key in stage.teachers if key in stages)
    return float(sum(capacity(name, stage.data.classes).macs for name in known))


def times_as_much(stage: StageSpec) -> float:
    """How many times a plain training of its network a step of this stage costs."""
    if form_of(stage.loss) == "network":
        return 1.0
    return step_macs(stage) / (_TRAINING * capacity(stage.network, stage.data.classes).macs)
