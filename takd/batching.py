"""Which stages may be trained together, and how many of them a process takes at once. Imports no torch.

Stages of one shape differ only in seed, teachers, T, lam and label noise, so an engine can hold them side by side as
one more dimension of every tensor. Being trained together never changes what a stage becomes.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence

from takd.methods.table import form_of
from takd.networks.table import OWN, family_of
from takd.stage import StageSpec

MOST_TOGETHER = 256
LEAST_SHARE = 16  # fewer are not worth sharing among processes: an engine is fastest with many


def batch_shape(stage: StageSpec, device: str) -> tuple[Hashable, ...] | None:
    """What stages must have in common to be handed to the trainer together; None: this one is trained alone, as are all
    that train more than one plain network.

    MLPs are batched on the CPU and CNNs on a GPU. A CNN on the CPU fills its core by itself, and networks for 8x8
    images are never sent to a GPU by the worker. A user's own network is trained as it is, alone.
    """
    if form_of(stage.loss) != "network" or stage.recipe.selection:
        return None
    family = family_of(stage.network)
    small = family == "mlp"
    if family == OWN or small != (device == "cpu") or (small and not compiled(stage)):
        return None
    return stage.network, stage.data.classes, stage.recipe, stage.data.clean


def compiled(stage: StageSpec) -> bool:
    """Whether the compiled engine for MLPs knows how to train this one: images as they are, and a loss that stays the
    same in every step and hears all teachers alike."""
    given = {name for name, _ in stage.loss.options}
    plain = given <= {"dgkd": {"sum"}}.get(stage.loss.name, set()) and stage.loss.name in ("ce", "kd", "dgkd")
    recipe = stage.recipe
    return plain and recipe.augmentation == "none" and recipe.precision == "fp32" and not recipe.selection


def take_together(
    ready: Sequence[str],
    stages: Mapping[str, StageSpec],
    device: str,
    processes: int,
    coming: Collection[str] = (),
) -> list[str]:
    """The stages a process takes at once out of those whose teachers are done: one and, in order, all others of its
    shape.

    `coming` are stages whose teachers are still to be trained. A shape that more will come to is put off for the first
    one that is complete, so that the students of a ladder are trained together in the end and not in a batch for each
    teacher; where all are still growing, the first in order is taken.

    Where several processes share the run, one takes an equal share of the stages of a shape, but at least LEAST_SHARE.
    Never more than MOST_TOGETHER; empty only where nothing is ready.
    """
    shapes = {key: batch_shape(stages[key], device) for key in ready}
    growing = {shape for key in coming if (shape := batch_shape(stages[key], device)) is not None}
    first = next((key for key in ready if shapes[key] not in growing), ready[0] if ready else None)
    if first is None:
        return []
    if shapes[first] is None:
        return [first]
    alike = [key for key in ready if shapes[key] == shapes[first]]
    most = len(alike) if processes <= 1 else max(LEAST_SHARE, -(-len(alike) // processes))
    return alike[: min(most, MOST_TOGETHER)]
