"""Numbers as people read them. A number that is missing is said to be missing, never shown as nan or None."""

from __future__ import annotations

import math
from collections.abc import Iterable

from takd.spec import ExperimentSpec

MISSING = "not measured"
MINUS = "\u2212"
TRUE_MINUS = str.maketrans("-", MINUS)
_WORDS = ("no", "one", "two", "three", "four", "five", "six")


def known(value: float | None) -> bool:
    """Whether a number is there and finite."""
    return value is not None and math.isfinite(value)


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as `62.4 %`."""
    return f"{100 * value:.{digits}f} %" if value is not None and known(value) else MISSING


def points(value: float | None, digits: int = 2) -> str:
    """A difference of fractions in percentage points, signed: `+0.65`. Zero after rounding carries no sign."""
    if value is None or not known(value):
        return MISSING
    text = f"{100 * value:+.{digits}f}"
    return (text[1:] if float(text) == 0 else text).translate(TRUE_MINUS)


def digits_for(values: Iterable[float | None]) -> int:
    """The fewest decimals (1 to 3) at which no difference that is not zero is printed as 0."""
    sizes = [abs(100 * v) for v in values if v is not None and known(v) and v != 0]
    return next((d for d in (1, 2) if all(size >= 0.5 * 10**-d for size in sizes)), 3)


def accuracy(mean: float | None, half: float | None = None) -> str:
    """`83.1 ± 0.4 %`, or `83.1 %` where there is no interval."""
    if mean is None or not known(mean):
        return MISSING
    return f"{100 * mean:.1f} ± {100 * half:.1f} %" if half is not None and known(half) else percent(mean)


def size(count: float | None) -> str:
    """Parameters or MACs in three digits: `2.49 M`, `13.1 k`, `310`."""
    if count is None or not known(count):
        return MISSING
    for unit, factor in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if count >= 0.9995 * factor:
            return f"{_three(count / factor)}{unit}"
    return f"{count:.0f}"


def short_size(count: float | None) -> str:
    """Two digits, for tick labels: `72 M`, `6.4 M`."""
    if count is None or not known(count):
        return ""
    for unit, factor in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if count >= 0.9995 * factor:
            value = count / factor
            return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
    return f"{count:.0f}"


def ratio(value: float | None) -> str:
    """How many times smaller the next network is: `÷69`, `÷1.4`."""
    if value is None or not known(value):
        return ""
    return f"÷{value:.1f}" if value < 9.95 else f"÷{value:.0f}"


def duration(seconds: float | None) -> str:
    """About how long: `~40 s`, `~3 min`, `~1.5 h`."""
    if seconds is None or not known(seconds) or seconds < 0:
        return "time not known"
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        step = 1 if seconds < 10 else 5
        return f"~{max(step, round(seconds / step) * step)} s"
    if seconds < 90 * 60:
        return f"~{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"~{seconds / 3600:.1f} h"
    return f"~{seconds / 86400:.1f} days"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 chain`, `3 chains`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def own_schedule(epochs: int, images: int, lr: float) -> str:
    """Epochs, training images and learning rate in place of the budget's, as they follow its name: ", 2 epochs, 100
    training images, learning rate 0.01"; empty where all (0) are left to the budget."""
    said = [count(epochs, "epoch")] if epochs else []
    said += [f"{images:,} training images"] if images else []
    said += [f"learning rate {lr:g}"] if lr else []
    return "".join(f", {text}" for text in said)


def length_words(spec: ExperimentSpec) -> str:
    """How long a question trains: its budget and what takes its place."""
    return f"{spec.budget}{own_schedule(spec.epochs, spec.images, spec.lr)}"


def data_words(label: str, noise: float) -> str:
    """A data set as it is trained on: "Digits 8x8 (built in), 20 % wrong labels"."""
    return f"{label}, {100 * noise:g} % wrong labels" if noise else label


def number_word(number: int) -> str:
    """`one` to `six`, then digits."""
    return _WORDS[number] if 0 <= number < len(_WORDS) else str(number)


def listing(items: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    names = list(items)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def _three(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def shared_family(names: Iterable[str]) -> str:
    """What the names of networks begin with where all are of one family, as `mlp-`; else empty."""
    families = {name.rpartition("-")[0] for name in names}
    return f"{families.pop()}-" if len(families) == 1 else ""
