"""From the choices of a person (takd.parameters) to the frozen ExperimentSpec (takd.starts) they make together.

`read_spec` turns any mapping of values into the nearest valid spec and a list of sentences about what had to change:
the web page shows them as notices, the command line refuses with them. The codecs of URL and JSON are here too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from takd.data.table import DATASETS, IMAGENET, Dataset
from takd.methods.composer import refusal
from takd.methods.fit import why_unfit
from takd.methods.options import take_options
from takd.methods.table import METHODS, why_impossible
from takd.networks.own import is_own, own_networks
from takd.networks.own import why_unfit as why_own_unfit
from takd.networks.table import NETWORKS, OWN, Network, family_of, ladder, size_order
from takd.parameters import CHOOSABLE, PARAMETERS, Parameter
from takd.stage import named_once
from takd.starts import ExperimentSpec, start_for


class SpecError(ValueError):
    """Choices that make no experiment; `problems` are sentences that name the value and the allowed ones."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(self.problems))


def networks_for(dataset: Dataset) -> tuple[Network, ...]:
    """The networks that read a data set's images, small to large, but for those that hold sub-models: those of the
    table and the user's that were checked for it."""
    own = (NETWORKS[n.name] for n in own_networks(dataset.classes, dataset.input_shape))
    rows = (*(n for n in NETWORKS.values() if n.family in dataset.families and not n.subs), *own)
    return tuple(sorted(rows, key=lambda n: size_order(n.name)))


def multi_networks_for(dataset: Dataset) -> tuple[Network, ...]:
    """The networks with sub-models that read a data set's images, small to large: what in-place methods train."""
    rows = (n for n in NETWORKS.values() if n.family in dataset.families and n.subs)
    return tuple(sorted(rows, key=lambda n: size_order(n.name)))


def ladder_family(teacher: str, student: str, dataset: Dataset) -> str:
    """Whose sizes stand between the two and are swept by the ladder scope: the teacher's.

    A user's own network has no other sizes. Under such a teacher the student's family takes its place: its larger sizes
    are what the own teacher has to be compared with. Between two own networks it is the family the data set starts
    with, because known sizes show where the own ones stand. Own networks are never swept, only chosen.
    """
    families = (family_of(teacher), family_of(student), family_of(start_for(dataset.name).teacher))
    return next(family for family in families if family != OWN)


def between(teacher: str, student: str, dataset: Dataset) -> tuple[str, ...]:
    """Possible assistants: networks of the ladder's family and the user's own strictly between the two, large to small.
    Sizes between the rungs of the ladder are among them."""
    families = (ladder_family(teacher, student, dataset), OWN)
    inside = (
        n.name
        for n in networks_for(dataset)
        if n.family in families and size_order(student) < size_order(n.name) < size_order(teacher)
    )
    return tuple(reversed(list(inside)))


def rungs_between(teacher: str, student: str, dataset: Dataset) -> tuple[str, ...]:
    """The rungs of the ladder among `between`: what is proposed to someone who names no sizes."""
    return tuple(name for name in between(teacher, student, dataset) if NETWORKS[name].rung)


def start_of(spec: ExperimentSpec) -> ExperimentSpec:
    """What is taken where a link names nothing: the choices the data set opens with, but at the temperature of the
    method where it has one of its own."""
    start, own = start_for(spec.dataset), METHODS[spec.method].starts_at
    return start if own is None else replace(start, temperature=own)


def read_spec(
    values: Mapping[str, Any], datasets: Mapping[str, Dataset] | None = None
) -> tuple[ExperimentSpec, tuple[str, ...]]:
    """The nearest valid spec to `values` (by parameter name) and one sentence per thing that had to change.

    Missing values take the data set's starting choice. Never raises for bad values.
    """
    known = DATASETS if datasets is None else datasets
    problems: list[str] = []
    unknown = sorted(set(values) - set(PARAMETERS))
    if unknown:
        problems.append(f"Unknown choice {_show(unknown[0])}; the choices are {', '.join(PARAMETERS)}.")
    name = values.get("dataset", "cifar10")
    if not isinstance(name, str) or name not in known:
        problems.append(f"Data set {_show(name)} is not known here; choose one of {', '.join(known)}.")
        name = "cifar10" if "cifar10" in known else next(iter(known))
    spec = start_for(name)
    for parameter in PARAMETERS.values():
        if parameter.name not in ("dataset", "options") and parameter.name in values:
            value, problem = _coerce(parameter, values[parameter.name], getattr(spec, parameter.name))
            spec = replace(spec, **{parameter.name: value})
            if problem:
                problems.append(problem)
    if "temperature" not in values:
        spec = replace(spec, temperature=start_of(spec).temperature)
    spec, few = _within_data(spec, known[name])
    problems += few
    spec, more = _repair_path(spec, known[name], explicit=frozenset(values))
    if "options" in values:
        options, unfit = take_options(METHODS[spec.method].options, values["options"])
        more += [f"{METHODS[spec.method].label}: {sentence}" for sentence in unfit]
        spec = replace(spec, options=options)
    for repair in ({"options": ()}, {"method": "kd", "assistants": (), "options": ()}):
        found = why_impossible(METHODS[spec.method], dict(spec.options), lam=spec.lam, assistants=len(spec.assistants))
        if found:
            spec, more = replace(spec, **repair), [*more, *({found} - set(more))]
    misfit = why_unfit(METHODS[spec.method], dict(spec.options), spec.teacher, spec.student, known[name].classes)
    if misfit:
        spec, more = replace(spec, method="kd", options=()), [*more, misfit]
    presets = METHODS[spec.method].presets
    if found := refusal(replace(presets[0].composition, view=spec.view)):
        spec, more = replace(spec, view="same"), [*more, f"{METHODS[spec.method].label}: {found}"]
    return spec, (*problems, *more)


def require_spec(values: Mapping[str, Any], datasets: Mapping[str, Dataset] | None = None) -> ExperimentSpec:
    """Like `read_spec`, but raises SpecError when anything would have to change."""
    spec, problems = read_spec(values, datasets)
    if problems:
        raise SpecError(problems)
    return spec


def _coerce(parameter: Parameter, value: Any, default: Any) -> tuple[Any, str | None]:
    if parameter.kind == "choices":
        items = (value,) if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            return default, _refusal(parameter, value)
        bad = [item for item in items if not _offered(parameter, item)]
        good = tuple(item for item in items if _offered(parameter, item))
        return good, _refusal(parameter, bad[0]) if bad else None
    if parameter.kind == "choice":
        ok = _offered(parameter, value)
        return (value, None) if ok else (default, _refusal(parameter, value))
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return default, _refusal(parameter, value)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return default, _refusal(parameter, value)
    whole = parameter.kind == "int"
    if not math.isfinite(number) or (whole and number != int(number)):
        return default, _refusal(parameter, value)
    if parameter.open_low and number <= parameter.low:
        return default, _refusal(parameter, value)
    clamped = min(max(number, parameter.low), parameter.high)
    clamped = max(clamped, parameter.least) if clamped else clamped
    problem = None if clamped == number else _refusal(parameter, value)
    return (int(clamped) if whole else float(clamped)), problem


def _within_data(spec: ExperimentSpec, dataset: Dataset) -> tuple[ExperimentSpec, list[str]]:
    """No more training images than there are, with a sentence where there are fewer than were asked for."""
    if spec.images <= dataset.available:
        return spec, []
    label, asked = PARAMETERS["images"].label, f"{spec.images:,}"
    if dataset.available < PARAMETERS["images"].least:
        return replace(spec, images=0), [f"{label} {asked}: {dataset.label} has {dataset.available} in all; use 0."]
    sentence = (
        f"{label} {asked} are more than the {dataset.available:,} that {dataset.label} has; use at most as many, or 0 "
        "for what the budget says."
    )
    return replace(spec, images=dataset.available), [sentence]


def _unfit(name: str, dataset: Dataset) -> str:
    return why_own_unfit(name, dataset.name, dataset.label) or f"does not read {dataset.label} images"


def _offered(parameter: Parameter, value: Any) -> bool:
    """Whether a choice can have this value on some data set. A user's networks and those for larger images are not
    listed; `_repair_path` then asks whether they fit."""
    if not isinstance(value, str):
        return False
    network = parameter.options == CHOOSABLE and (is_own(value) or (value in NETWORKS and family_of(value) in IMAGENET))
    return network or value in parameter.options


def _repair_path(spec: ExperimentSpec, dataset: Dataset, explicit: frozenset[str]) -> tuple[ExperimentSpec, list[str]]:
    """Make teacher > assistants > student hold, explaining each change."""
    problems: list[str] = []
    start = start_for(dataset.name)
    if METHODS[spec.method].in_one_network:
        if multi_networks_for(dataset):
            return _one_network(spec, dataset, explicit)
        problems.append(
            f"Method {spec.method} trains a network with sub-models, and none reads {dataset.label} images."
        )
        spec = replace(spec, method="kd", assistants=())
    order = [n.name for n in networks_for(dataset)]
    fitting = set(order)
    for role in ("teacher", "student"):
        name = getattr(spec, role)
        if not is_own(name) and NETWORKS[name].subs:
            problems.append(
                f"{PARAMETERS[role].label} {name} holds sub-models that share weights and cannot be one of a row of "
                f"networks; choose method {' or '.join(_in_place())}, or a network such as {getattr(start, role)}."
            )
            spec = replace(spec, **{role: getattr(start, role)})
        elif name not in fitting:
            instead = "or choose another network" if is_own(name) else f"choose one of {', '.join(order)}"
            problems.append(f"{PARAMETERS[role].label} {name} {_unfit(name, dataset)}; {instead}.")
            spec = replace(spec, **{role: getattr(start, role)})
    if spec.method != "scratch" and size_order(spec.teacher) <= size_order(spec.student):
        problems.append(f"Teacher {spec.teacher} must be larger than student {spec.student}.")
        largest = ladder(ladder_family(spec.student, spec.student, dataset))[-1]
        larger = size_order(largest) > size_order(spec.student)
        ends = (largest, spec.student) if larger else (start.teacher, start.student)
        spec = replace(spec, teacher=ends[0], student=ends[1])
    method = METHODS[spec.method]
    least, most = method.assistants
    if "assistants" not in explicit and (most == 0 or not _inside(spec, spec.assistants)):
        spec = replace(spec, assistants=() if most == 0 else rungs_between(spec.teacher, spec.student, dataset)[-1:])
    if most == 0 and spec.assistants:
        problems.append(f"Method {spec.method} uses no assistants; {', '.join(spec.assistants)} left out.")
        spec = replace(spec, assistants=())
    kept: list[str] = []
    for name in spec.assistants:
        if name not in fitting:
            problems.append(f"Assistant {name} {_unfit(name, dataset)}; left out.")
        elif name in kept:
            problems.append(f"Assistant {name} is named twice; a chain uses each size once.")
        elif not _inside(spec, (name,)):
            problems.append(
                f"Assistant {name} is not between teacher {spec.teacher} and student {spec.student} in size; "
                f"choose among {', '.join(between(spec.teacher, spec.student, dataset)) or 'none (neighbours)'}."
            )
        else:
            kept.append(name)
    ordered = sorted(kept, key=size_order, reverse=True)
    if ordered != kept:
        problems.append(f"Assistants run from large to small: {' > '.join(ordered)}.")
    spec = replace(spec, assistants=tuple(ordered))
    if len(spec.assistants) < least:
        if "method" in explicit or "assistants" in explicit:
            problems.append(f"Method {spec.method} needs at least {least} assistant; without one it is direct KD (kd).")
        spec = replace(spec, method="kd")
    return spec, problems


def _one_network(spec: ExperimentSpec, dataset: Dataset, explicit: frozenset[str]) -> tuple[ExperimentSpec, list[str]]:
    """For methods inside one network: teacher and student are that network, and there is nobody in between."""
    problems: list[str] = []
    names = [n.name for n in multi_networks_for(dataset)]
    network = spec.student
    if network not in names:
        if "student" in explicit:
            problems.append(
                f"Method {spec.method} trains the sub-models of one network, and {network} has none or does not read "
                f"{dataset.label} images; choose student {', '.join(names)}."
            )
        network = names[0]
    elif "teacher" in explicit and spec.teacher != network:
        problems.append(f"Method {spec.method} trains {network} alone; teacher {spec.teacher} left out.")
    if "assistants" in explicit and spec.assistants:
        problems.append(f"Method {spec.method} uses no assistants; {', '.join(spec.assistants)} left out.")
    return replace(spec, teacher=network, student=network, assistants=()), problems


def _in_place() -> list[str]:
    return [name for name, row in METHODS.items() if row.in_one_network]


def _inside(spec: ExperimentSpec, names: Iterable[str]) -> bool:
    low, high = size_order(spec.student), size_order(spec.teacher)
    return all(low < size_order(name) < high for name in names)


def _show(value: Any) -> str:
    """A value as it may be quoted back: short, printable, no markup."""
    text = "".join(c if c.isprintable() and c not in "`*_[]<>$:\\!" else "?" for c in str(value))
    return f"'{text[:40]}{'...' if len(text) > 40 else ''}'"


def _refusal(parameter: Parameter, value: Any) -> str:
    return f"{parameter.label} {_show(value)} is not allowed; use {parameter.allowed()}."


def to_query(spec: ExperimentSpec, *, full: bool = False) -> dict[str, list[str]]:
    """The spec as URL parameters. Starting choices of the data set are left out unless `full`, which makes a link
    that keeps its meaning when defaults change. What is left to the budget is never named."""
    start = start_of(spec)
    query: dict[str, list[str]] = {}
    for parameter in PARAMETERS.values():
        value = getattr(spec, parameter.name)
        shown = full or (parameter.name == "dataset" and spec.dataset != "cifar10")
        if parameter.least and not value:
            continue
        if shown or value != getattr(start, parameter.name):
            items = value if isinstance(value, tuple) else (value,)
            if parameter.kind == "options":
                items = tuple(f"{name}:{_plain(v)}" for name, v in value)
            query[parameter.short] = [_plain(item) for item in items] or [""]
    return query


def from_query(
    query: Mapping[str, list[str]], datasets: Mapping[str, Dataset] | None = None
) -> tuple[ExperimentSpec, tuple[str, ...]]:
    """Read URL parameters; names that are not ours are ignored (they belong to the page)."""
    values: dict[str, Any] = {}
    for parameter in PARAMETERS.values():
        if parameter.short in query:
            items = [item for item in query[parameter.short] if item != ""]
            if parameter.kind in ("choices", "options"):
                values[parameter.name] = items
            elif items:
                values[parameter.name] = items[-1]
    return read_spec(values, datasets)


def to_json(spec: ExperimentSpec) -> dict[str, Any]:
    """The spec as plain JSON values. Options are a mapping; where there are none they are left out, and so is what is
    left to the budget."""
    value = {f.name: list(v) if isinstance(v := getattr(spec, f.name), tuple) else v for f in fields(spec)}
    value["options"] = dict(spec.options)
    later = [name for name, parameter in PARAMETERS.items() if parameter.kind == "options" or parameter.least]
    return {name: item for name, item in value.items() if item or name not in later}


def from_json(text: str | bytes, datasets: Mapping[str, Dataset] | None = None) -> ExperimentSpec:
    """Read a spec file strictly; raises SpecError with a sentence."""
    then = "Start from the spec that python -m takd plan --json shows."
    try:
        value = json.loads(text, object_pairs_hook=named_once)
    except (ValueError, RecursionError) as error:
        raise SpecError([f"The experiment file is not JSON: {error}. {then}"]) from error
    if not isinstance(value, dict):
        raise SpecError([f"The experiment file must hold one JSON object. {then}"])
    return require_spec(value, datasets)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return str(value)
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
