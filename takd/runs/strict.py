"""Reading what strangers wrote: JSON without its loopholes, and text that can do nothing but be read."""

from __future__ import annotations

import json
import math
import unicodedata
from typing import Any, TypeGuard

from takd.stage import canonical_json, named_once

_DEPTH = 10  # no file of ours nests deeper than five
_DIGITS = 20  # of a whole number: 2**64 has twenty
_MARKS = 2  # combining marks on one letter


class Unfit(ValueError):
    """What was read is not what it should be; the text ends a sentence whose beginning names the file."""


def strict_object(raw: bytes, most: int, *, canonical: bool = True) -> dict[str, Any]:
    """The JSON object in `raw`, at most `most` bytes long. Raises Unfit.

    Everything that two readers could read differently is refused: a name twice, numbers that are not finite or need
    more than 64 bits, another encoding than UTF-8, half characters, deep nesting; and, for files this program writes
    (`canonical`), any other spelling of the same values.
    """
    if len(raw) > most:
        raise Unfit(f"is larger than the {max(1, most // 1000):,} kB such a file may have")
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=named_once,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except Unfit:
        raise
    except UnicodeDecodeError as error:
        raise Unfit("is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise Unfit(f"is not JSON: {str(error)[:100]}") from error
    if not isinstance(value, dict):
        raise Unfit("does not hold an object")
    _require_shallow(value, _DEPTH)
    if canonical and canonical_json(value) != raw:
        raise Unfit("is not written the way this program writes it")
    return value


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise Unfit(f"holds a number of {len(text):,} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Unfit(f"holds {text[:20]}, which is not a number")
    return value


def _require_shallow(value: Any, depth: int) -> None:
    if isinstance(value, str):
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise Unfit("holds half of a character")
    elif isinstance(value, (dict, list)):
        if depth == 0:
            raise Unfit("nests too deeply")
        for item in (*value.keys(), *value.values()) if isinstance(value, dict) else value:
            _require_shallow(item, depth - 1)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether something is a number (true and false are not)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_plain_text(value: Any, most: int = 300) -> bool:
    """Whether something is a text as programs write it: one printable line without markup of HTML."""
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        return False
    return not any(c in "<>" or unicodedata.category(c)[0] in "CM" for c in value)


def clean_text(text: str, most: int) -> str:
    """What a person wrote, as one line that can do nothing but be read: no control characters, nothing invisible,
    nothing that turns the direction of reading, no brackets of HTML, no towers of accents."""
    kept: list[str] = []
    marks = 0
    for letter in unicodedata.normalize("NFC", text):
        kind = unicodedata.category(letter)
        marks = marks + 1 if kind[0] == "M" else 0
        if marks > _MARKS or kind in ("Cf", "Cs", "Co", "Cn"):
            continue
        kept.append(" " if letter in "<>" or kind in ("Cc", "Zl", "Zp") else letter)
    return " ".join("".join(kept).split())[:most]
