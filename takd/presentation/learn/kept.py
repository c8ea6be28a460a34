"""Guesses as short texts for the URL, so that a reload of the page keeps them: `d1~40` is 40 % at the first step of the
lesson on digits, `c4~down` a choice, `c5~` an answer that was shown without a guess."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from takd.presentation.learn.lesson import STEPS, Step

Guess = tuple[Any, bool]
"""What was guessed (None: nothing) and whether the answer has been shown."""
Name = tuple[str, int]
"""Whose guess it is: lesson and step."""

RANGES: dict[str, tuple[float, float]] = {"percent": (0, 100), "points": (-5.0, 5.0), "times": (0.5, 4.0)}
"""What can be guessed on a scale, as it is written: percent and points are shares elsewhere."""
# Not the lesson on the Playground's question: a reload may bring another question, about which nothing was guessed.
LETTERS = {"cifar-gap": "c", "digits-noise": "d"}
_STEPS = {step.number: step for step in STEPS if step.kind != "none"}
_NAMES = {f"{letter}{number}": (lesson, number) for lesson, letter in LETTERS.items() for number in _STEPS}
_LONGEST = 40


def texts(guesses: Mapping[Name, Guess]) -> tuple[str, ...]:
    """What goes into the URL; always in the same order, so that the same guesses are the same URL."""
    return tuple(
        f"{LETTERS[lesson]}{number}~{_text(_STEPS[number], guess)}"
        for (lesson, number), (guess, revealed) in sorted(guesses.items())
        if revealed and lesson in LETTERS and number in _STEPS
    )


def read(found: Iterable[str]) -> dict[Name, Guess]:
    """The guesses of a URL; what cannot be one is left out."""
    guesses: dict[Name, Guess] = {}
    for text in found:
        start, sign, value = text.partition("~")
        name = _NAMES.get(start)
        if not sign or name is None:
            continue
        guess = _guess(_STEPS[name[1]], value)
        if guess is not None or not value:
            guesses.setdefault(name, (guess, True))
    return guesses


def _text(step: Step, guess: Any) -> str:
    if guess is None or isinstance(guess, str):
        return guess or ""
    return f"{round(float(guess) * _scale(step), 2):g}"


def _guess(step: Step, text: str) -> Any:
    """None where it is none. The classes of step 2 are known to the store only: its page checks them."""
    if step.kind == "choice":
        return text if text in step.options or (not step.options and len(text) <= _LONGEST) else None
    try:
        value = float(text)
    except ValueError:
        return None
    low, high = RANGES[step.kind]
    return value / _scale(step) if math.isfinite(value) and low <= value <= high else None


def _scale(step: Step) -> float:
    return 1.0 if step.kind == "times" else 100.0
