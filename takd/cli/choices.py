"""The options that make an experiment, generated from the table of parameters, and the spec they add up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from takd.cli.output import Function, Refused, quoted
from takd.data.table import DATASETS, Dataset
from takd.methods.table import METHODS
from takd.presets import PRESETS
from takd.spec import CHOOSABLE, PARAMETERS, ExperimentSpec, Parameter, SpecError, from_json, require_spec, to_json

_LARGEST_SPEC = 1_000_000  # bytes of a spec file


def spec_options(function: Function) -> Function:
    """Give a command --preset, --spec and one option per parameter. Values stay text: `read_choices` checks them, so
    the command line refuses with the same sentences as the page."""
    for parameter in reversed(PARAMETERS.values()):
        function = click.option(
            f"--{parameter.name}",
            *(["--data"] if parameter.name == "dataset" else []),
            parameter.name,
            metavar=_METAVARS.get(parameter.kind, "TEXT"),
            multiple=parameter.kind in ("choices", "options"),
            help=_help(parameter),
        )(function)
    function = click.option("--spec", "spec_file", metavar="FILE.json", help="Read the choices from a file.")(function)
    return click.option(
        "--preset", metavar="NAME", help=f"Start from a named question; other options change it. {', '.join(PRESETS)}."
    )(function)


_METAVARS = {"choice": "NAME", "choices": "NAME,NAME", "options": "NAME:VALUE", "int": "N", "float": "X"}


def _help(parameter: Parameter) -> str:
    if parameter.name == "dataset":
        return f"{parameter.help} {', '.join(DATASETS)}, or an imported folder-NAME."
    if parameter.kind == "options":
        return f"{parameter.help} May be repeated. python -m takd methods shows them."
    own = " Or a network of yours: python -m takd networks --add FILE." if parameter.options == CHOOSABLE else ""
    more = " Separated by commas, or repeat the option; '' for none." if parameter.kind == "choices" else ""
    allowed = parameter.allowed()
    return f"{parameter.help}{more} {allowed[0].upper() if parameter.low > -1 else allowed[0]}{allowed[1:]}.{own}"


def read_choices(
    datasets: Mapping[str, Dataset], preset: str | None, spec_file: str | None, **options: Any
) -> ExperimentSpec:
    """The experiment that was asked for; what is left out takes the data set's starting choice.

    Options given on top of a preset or a file replace its fields one by one; a method that takes no assistants also
    drops those of the preset. Raises Refused or SpecError with a sentence per problem.
    """
    values: dict[str, Any] = {name: value for name, value in options.items() if value is not None and value != ()}
    if "assistants" in values:
        given = ",".join(values["assistants"]).split(",")
        values["assistants"] = [name.strip() for name in given if name.strip()]
    start = _start(datasets, preset, spec_file)
    if start is not None:
        method = METHODS.get(values.get("method", ""))
        if method is not None and method.assistants[1] == 0:
            values.setdefault("assistants", [])
        if method is not None and method.name != start.method:
            start = replace(start, options=())  # they were the other method's
        values = {**to_json(start), **values}
    return require_spec(values, datasets)


def _start(datasets: Mapping[str, Dataset], preset: str | None, spec_file: str | None) -> ExperimentSpec | None:
    if preset is not None and spec_file is not None:
        raise Refused(["Give --preset or --spec, not both."])
    if preset is not None:
        if preset not in PRESETS:
            raise Refused([f"Preset {quoted(preset)} is not known; choose one of {', '.join(PRESETS)}."])
        return PRESETS[preset].spec
    if spec_file is None:
        return None
    try:
        with open(spec_file, "rb") as file:
            raw = file.read(_LARGEST_SPEC + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise Refused([f"The file {quoted(spec_file)} cannot be read ({reason}); check the path."]) from error
    if len(raw) > _LARGEST_SPEC:
        raise Refused([f"The file {quoted(spec_file)} is larger than 1 MB; give a file with one experiment."])
    try:
        return from_json(raw, datasets)
    except SpecError as error:
        raise Refused(f"{quoted(spec_file)}: {problem}" for problem in error.problems) from error
