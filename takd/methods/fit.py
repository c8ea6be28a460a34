"""Whether a method that looks inside networks can run with the two it is given. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from takd.methods.method import Method
from takd.methods.options import OptionError, Value, read_options
from takd.methods.rows.chains import PUBLISHED
from takd.methods.shapes import Shape, attention_pairs, hint_pair, regressor_for
from takd.networks.own import find
from takd.networks.table import FAMILIES, NETWORKS, OWN, ladder, stage_shapes

Stages = tuple[Shape, ...]
Fits = Callable[[Stages], bool]


def why_unfit(method: Method, options: Mapping[str, object], teacher: str, student: str, classes: int) -> str | None:
    """Why a method cannot teach this student from this teacher, with what to change; None if it can.

    Asked before anything is trained: only the shapes of the stages in counts.json are looked at. Raises nothing for
    networks of the table.
    """
    rule = _RULES.get(method.name)
    if rule is None:
        return None
    try:
        return rule(_Pair(method, read_options(method.options, options), teacher, student, classes))
    except OptionError as error:
        return str(error)


class _Pair:
    """A teacher and a student with what is known of their stages."""

    def __init__(self, method: Method, options: Mapping[str, Value], teacher: str, student: str, classes: int) -> None:
        self.method, self.options, self.classes = method, options, classes
        self.names = {"teacher": teacher, "student": student}
        self.stages = {role: _stages(name, classes) for role, name in self.names.items()}

    def unlike(self, fits: Fits, *roles: str) -> tuple[str, ...]:
        """Those of these roles whose network does not fit."""
        return tuple(role for role in roles if not fits(self.stages[role]))

    def instead(self, roles: tuple[str, ...], fits: Fits) -> str:
        """What to choose for these roles: networks that fit, of the other's family where that has some."""
        given = sorted((_family(name) for name in self.names.values()), key=lambda family: family == OWN)
        shape = FAMILIES[given[0]].input_shape  # both read the same images
        if given[0] == OWN and (found := find(self.names["teacher"])) is not None:
            shape = found.input_shape
        for family in (*given, *FAMILIES):
            rungs = ladder(family) if FAMILIES[family].input_shape == shape else ()
            if rungs and all(fits(_stages(name, self.classes)) for name in rungs):
                wanted = " and ".join(
                    f"another {role}, such as {rungs[-1 if role == 'teacher' else 0]}" for role in roles
                )
                return f"choose {wanted}, or direct KD (kd)."
        return "choose direct KD (kd)."


def _stages(name: str, classes: int) -> Stages:
    return stage_shapes(name.partition("@")[0], classes)  # behind an @ stands a sub-model


def _family(name: str) -> str:
    row = NETWORKS.get(name.partition("@")[0])
    return row.family if row is not None else OWN  # a file of the user's that is gone


def _has_stages(stages: Stages) -> bool:
    return bool(stages)


def _has_maps(stages: Stages) -> bool:
    return bool(stages) and all(len(shape) == 3 for shape in stages)


def _no_stages(pair: _Pair, *roles: str) -> str | None:
    missing = pair.unlike(_has_stages, *roles)
    if not missing:
        return None
    names = " and ".join(pair.names[role] for role in missing)
    return f"{pair.method.label} needs hidden stages, of which {names} has none: {pair.instead(missing, _has_stages)}"


def _heads(pair: _Pair) -> str | None:
    return _no_stages(pair, "teacher")


def _hint(pair: _Pair) -> str | None:
    if found := _no_stages(pair, "teacher", "student"):
        return found
    flat = pair.unlike(_has_maps, "teacher", "student")
    if len(flat) == 1:
        return (
            f"{pair.method.label} cannot compare the maps of a CNN with the units of {pair.names[flat[0]]}: "
            f"{pair.instead(flat, _has_maps)}"
        )
    stage, works = str(pair.options["stage"]), list(_stages_that_work(pair))
    if stage in works:
        return None
    i, j = hint_pair(pair.stages["student"], pair.stages["teacher"], stage)
    small, large = (f"{shape[1]} x {shape[2]}" for shape in (pair.stages["student"][i], pair.stages["teacher"][j]))
    change = f"choose stage {' or '.join(works)}" if works else "choose two networks of one family"
    return (
        f"{pair.method.label}: the {stage} stage of {pair.names['student']} ({small}) is too small for that of "
        f"{pair.names['teacher']} ({large}): {change}, or direct KD (kd)."
    )


def _stages_that_work(pair: _Pair) -> Iterator[str]:
    for stage in ("first", "middle", "last"):
        i, j = hint_pair(pair.stages["student"], pair.stages["teacher"], stage)
        try:
            regressor_for(pair.stages["student"][i], pair.stages["teacher"][j])
        except ValueError:
            continue
        yield stage


def _attention(pair: _Pair) -> str | None:
    if found := _no_stages(pair, "teacher", "student"):
        return found
    flat = pair.unlike(_has_maps, "teacher", "student")
    if flat:
        names = " and ".join(pair.names[role] for role in flat)
        return (
            f"{pair.method.label} compares places of the picture, of which the hidden layer of {names} has none: "
            f"{pair.instead(flat, _has_maps)}"
        )
    try:
        attention_pairs(pair.stages["student"], pair.stages["teacher"])
    except ValueError as error:
        return f"{str(error).rstrip('.')}: choose two networks of one family, or direct KD (kd)."
    return None


def _released(pair: _Pair) -> str | None:
    """The released code gives other networks other schedules, which are not made again here."""
    others = [name for name in pair.names.values() if _family(name) not in ("plain", "mlp")]
    if pair.options["protocol"] != PUBLISHED or not others:
        return None
    return (
        f"{pair.method.label} as published is there for plain CNNs, and for MLPs to see it quickly; the released code "
        f"trains networks like {others[0]} on another schedule: choose plain CNNs, or protocol ours."
    )


_RULES: dict[str, Callable[[_Pair], str | None]] = {
    **dict.fromkeys(("kd", "takd", "dgkd"), _released),
    "fitnets": _hint,
    "at": _attention,
    "dih": _heads,
}
