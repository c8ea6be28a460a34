"""Options of a method: a small table per method, read strictly. Imports no torch.

An unknown name or a value out of bounds is an error and never ignored: a released code of this field reads a switch
under another name than its published settings write it, and so trains something else than they say, in silence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

Value = str | int | float | bool


class OptionError(ValueError):
    """An option that does not exist or a value that is not allowed; the message says what is."""


@dataclass(frozen=True)
class Option:
    """One setting of a method.

    `kind` is choice, int, float or bool. `choices` gives each allowed word and what it means. Numbers lie in
    [low, high]; `open_low` excludes low. `when` = (other option, its values) says where this one has a meaning at
    all; `student_only` that it concerns the last network of a path and not the assistants.
    """

    name: str
    kind: str
    default: Value
    help: str
    choices: Mapping[str, str] = field(default_factory=dict)
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    when: tuple[str, tuple[Value, ...]] | None = None
    student_only: bool = False

    def matters(self, values: Mapping[str, Value]) -> bool:
        """Whether it has a meaning beside the other options' values."""
        return self.when is None or values[self.when[0]] in self.when[1]

    def allowed(self) -> str:
        """The allowed values in words."""
        if self.kind == "bool":
            return "true or false"
        if self.kind == "choice":
            return ", ".join(self.choices)
        start = f"greater than {self.low:g}" if self.open_low else f"from {self.low:g}"
        return f"{'whole numbers' if self.kind == 'int' else 'numbers'} {start} up to {self.high:g}"

    def read(self, value: object) -> Value:
        """The value in its own type; text is understood, so that a URL and a command line can be read too.

        Raises OptionError for anything that is not allowed.
        """
        if self.kind == "bool":
            words = {"true": True, "false": False}
            read = words.get(value.lower()) if isinstance(value, str) else value if isinstance(value, bool) else None
            if read is None:
                raise self._refusal(value)
            return read
        if self.kind == "choice":
            if not isinstance(value, str) or value not in self.choices:
                raise self._refusal(value)
            return value
        return self._number(value)

    def _number(self, value: object) -> Value:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise self._refusal(value)
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise self._refusal(value) from None
        below = number <= self.low if self.open_low else number < self.low
        if not math.isfinite(number) or below or number > self.high or (self.kind == "int" and number != int(number)):
            raise self._refusal(value)
        return int(number) if self.kind == "int" else number

    def _refusal(self, value: object) -> OptionError:
        text = "".join(c for c in str(value) if c.isprintable())[:40]
        return OptionError(f"{self.name} {text!r} is not allowed; use {self.allowed()}.")


def read_options(options: tuple[Option, ...], values: Mapping[str, object]) -> dict[str, Value]:
    """Every option with its value, defaults where nothing was given.

    Raises OptionError for a name that is not in the table or a value that is not allowed.
    """
    known = {option.name: option for option in options}
    for name in values:
        if name not in known:
            names = ", ".join(known) or "none at all"
            raise OptionError(f"There is no option {str(name)[:40]!r} here; the options are: {names}.")
    return {name: option.read(values.get(name, option.default)) for name, option in known.items()}


def given_options(options: tuple[Option, ...], values: Mapping[str, Value], *, student: bool) -> dict[str, Value]:
    """What has to be in a stage's key, sorted by name: options that have a meaning there and differ from the default.

    Assistants (`student=False`) leave out what only concerns the student, so that they stay one stage whatever the
    student does. A default may therefore never change without a new engine version; a test holds them.
    """

    meant = (option for option in options if option.matters(values) and (student or not option.student_only))
    kept = {option.name: values[option.name] for option in meant if values[option.name] != option.default}
    return dict(sorted(kept.items()))


def take_options(options: tuple[Option, ...], value: object) -> tuple[tuple[tuple[str, Value], ...], list[str]]:
    """(options that differ from their defaults, sorted; a sentence for each that was left out). `value` is a mapping
    or, as a URL and a command line have it, name:value texts. Raises nothing."""
    problems: list[str] = []
    taken: dict[str, Value] = {}
    for item in value.items() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]:
        name, wanted = item if isinstance(item, tuple) and len(item) == 2 else _split(item)
        if name is None:
            text = "".join(c for c in str(item) if c.isprintable())[:40]
            problems.append(f"{text!r} is not an option; write name:value.")
            continue
        try:
            taken[str(name)] = read_options(options, {str(name): wanted})[str(name)]
        except OptionError as error:
            problems.append(str(error))
    defaults = {option.name: option.default for option in options}
    every = {**defaults, **taken}
    for option in options:
        if option.name in taken and taken[option.name] != option.default and not option.matters(every):
            other = option.when[0] if option.when else ""
            problems.append(f"{option.name} has no meaning with {other} {every[other]}; it is left out.")
            del taken[option.name]
    return tuple(sorted((name, found) for name, found in taken.items() if found != defaults[name])), problems


def _split(item: object) -> tuple[str | None, str]:
    name, colon, text = item.partition(":") if isinstance(item, str) else ("", "", "")
    return (name.strip(), text.strip()) if colon else (None, "")
