"""The table of methods: how each one wires a path of networks. Imports no torch.

A method only changes how a stage listens to its teachers, so a row is a rule that says, for the i-th network of a
path (teacher first, student last), which earlier networks of the path teach it, and a loss with options. Page, CLI
help, plan and tests read these rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from takd.methods.composer import Composition
from takd.methods.method import Loss, Method, Reading, Settings
from takd.methods.options import OptionError, Value, given_options, read_options
from takd.methods.rows import chains, features, remedies, together
from takd.stage import LossSpec

__all__ = ["LOSSES", "METHODS", "Loss", "Method", "Reading", "Settings", "recipe_at"]

# Every method there is.
METHODS: dict[str, Method] = {row.name: row for row in (*chains.ROWS, *together.ROWS, *remedies.ROWS, *features.ROWS)}


def _losses() -> dict[str, tuple[Loss, str]]:
    found: dict[str, tuple[Loss, str]] = {chains.HEADS.name: (chains.HEADS, "dih")}
    for row in METHODS.values():
        found.setdefault(row.loss.name, (row.loss, row.name))
    return found


LOSSES: dict[str, tuple[Loss, str]] = _losses()  # loss -> (its row, the first method that uses it)


def recipe_at(
    method: Method, values: Mapping[str, object], position: int, length: int, *, temperature: float, lam: float
) -> LossSpec:
    """The loss of the network at `position` of a path of `length`. Raises OptionError for unknown or bad options.

    A network without teachers learns from labels alone, and one with a single teacher and no gate has the KD loss
    whatever a method does with several, so such stages are shared between methods.
    """
    options = read_options(method.options, values)
    teachers = method.teachers_of(position)
    if not teachers and method.wiring not in ("sub-models", "cohort"):
        return LossSpec("ce", None, 0.0)
    given = given_options(method.options, options, student=position == length - 1)
    loss = method.loss
    if loss.name == "dgkd" and len(teachers) == 1 and "gate" not in given and method.wiring == "path":
        loss = chains.KD
    if loss is chains.KD:
        given = {name: value for name, value in given.items() if name in chains.KD.options}
    return LossSpec(
        loss.name,
        float(temperature) if "temperature" in loss.uses else None,
        float(lam) if "lam" in loss.uses else 0.0,
        tuple(given.items()),
    )


def heads_recipe(method: Method, values: Mapping[str, object]) -> LossSpec:
    """The loss of the linear heads that a method trains on its teacher."""
    given = given_options(method.options, read_options(method.options, values), student=False)
    return LossSpec(chains.HEADS.name, None, 0.0, tuple((k, v) for k, v in given.items() if k == "pooling"))


def form_of(recipe: LossSpec) -> str:
    """What a stage with this loss trains, of method.FORMS."""
    return LOSSES[recipe.name][0].form


def loss_and_options(recipe: LossSpec) -> tuple[Loss, dict[str, Value]]:
    """The row of a recipe's loss and all its options with defaults. Raises OptionError for what is not known."""
    if recipe.name not in LOSSES:
        raise OptionError(f"There is no loss {recipe.name[:40]!r}; the losses are {', '.join(LOSSES)}.")
    loss, method = LOSSES[recipe.name]
    return loss, read_options(METHODS[method].options, dict(recipe.options))


def why_impossible(method: Method, values: Mapping[str, object], *, lam: float, assistants: int) -> str | None:
    """Why a method cannot run like this, with what to change; None if it can. Raises nothing."""
    try:
        options = read_options(method.options, values)
    except OptionError as error:
        return str(error)
    least, most = method.assistants
    if assistants < least:
        return f"{method.label} needs at least {least} assistant: add one, or choose direct KD."
    if most is not None and assistants > most:
        return (
            f"{method.label} takes {'no' if most == 0 else f'at most {most}'} assistants: remove {assistants - most}."
        )
    if options.get("spends") == "assistants" and assistants == 0:
        return f"{method.label} spends what assistants would have cost: add one, or spend what heads would have cost."
    teachers = assistants + 1
    if options.get("gate") == "drop-one" and teachers - bool(options["protect"]) < 2:
        return "Dropping one leaves the student with the teacher alone in every step: add an assistant."
    silent = options.get("gate") == "bernoulli" and options.get("empty") == "labels" and not options["protect"]
    if silent and lam == 1.0:
        return "With lam = 1 a step without teachers would learn nothing: choose lam below 1, or empty = one."
    hears = int(float(options["anchors"])) if "anchors" in options else teachers
    ends = [Settings(lam, options, hears, 2, epoch, 100) for epoch in (0, 99)]
    if any(sum(method.loss.weights(settings).values()) == 0.0 for settings in ends):
        return "In part of the training every term has weight 0, so nothing would be learnt: change lam or the weights."
    return None


def methods_for(composition: Composition) -> tuple[tuple[str, Mapping[str, Value]], ...]:
    """(method, options) pairs that are this combination; several methods differ only in the loss. The data view is
    the user's own choice with every method that allows it, so it is not compared."""
    wanted = (composition.sources, composition.knowledge, composition.schedule, composition.gate)
    return tuple(
        (name, preset.options)
        for name, row in METHODS.items()
        for preset in row.presets
        if wanted
        == (
            preset.composition.sources,
            preset.composition.knowledge,
            preset.composition.schedule,
            preset.composition.gate,
        )
    )


def edges(method: Method, length: int) -> tuple[tuple[int, int], ...]:
    """(teacher, pupil) positions along a path of `length` networks: the graph a method trains."""
    return tuple((teacher, pupil) for pupil in range(length) for teacher in method.teachers_of(pupil))
