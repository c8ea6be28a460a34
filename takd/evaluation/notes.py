"""What a check writes down while it goes: what agreed, what did not, what could not be asked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from takd.runs.stamps import Difference, StageReport

ROWS = "rows of the epochs"
_LONGEST = 300  # letters of a stored or found value: files are edited by anybody


class Notes:
    """Of one stage."""

    def __init__(self) -> None:
        self.ties = 0
        self.weights = False
        self._checked: dict[str, None] = {}
        self._skipped: dict[str, str] = {}
        self._differences: list[Difference] = []

    def checked(self, what: str) -> None:
        """This was recomputed and agrees."""
        self._checked[what] = None
        self._skipped.pop(what, None)

    def skip(self, what: str, why: str) -> None:
        """This cannot be checked, unless it was already."""
        if what not in self._checked:
            self._skipped.setdefault(what, why)

    def skip_all(self, names: Iterable[str], why: str) -> None:
        """None of these can be checked."""
        for name in names:
            self.skip(name, why)

    def made_up_for(self, what: str) -> None:
        """This is not here, and everything that follows from it can be checked all the same."""
        self._skipped.pop(what, None)

    def differs(self, what: str, stored: object, found: object) -> None:
        """What is stored is not what was found."""
        self._checked.pop(what, None)
        self._skipped.pop(what, None)
        self._differences.append(Difference(what, _said(stored), _said(found)))

    def same(self, what: str, stored: object, found: object, *, within: float = 0.0, equal: bool | None = None) -> None:
        """Compare: numbers may lie `within` of each other, `equal` decides where the caller knows better."""
        if equal is None:
            equal = close(stored, found, within)
        if equal:
            self.checked(what)
        else:
            self.differs(what, stored, found)

    def share(self, what: str, stored: object, found: float, low: float, high: float) -> None:
        """Compare a share of images that, by how ties were counted, may be anything from `low` to `high`."""
        near = isinstance(stored, float) and low - 1e-9 <= stored <= high + 1e-9
        self.same(what, stored, found, equal=near)

    def report(self, key: str, title: str, seen: Mapping[str, str]) -> StageReport:
        """Everything so far. What differs counts as checked too: it was recomputed."""
        checked = dict.fromkeys((*self._checked, *(one.what for one in self._differences)))
        skipped = {what: why for what, why in self._skipped.items() if what not in checked}
        return StageReport(
            key, title, tuple(checked), skipped, tuple(self._differences), self.ties, self.weights, dict(seen)
        )


def close(stored: object, found: object, within: float) -> bool:
    """Whether two stored values are the same; numbers up to `within`, and nothing that is not finite ever is."""
    numbers = [v for v in (stored, found) if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(numbers) == 2:
        return math.isfinite(numbers[0]) and math.isfinite(numbers[1]) and abs(numbers[0] - numbers[1]) <= within
    return type(stored) is type(found) and stored == found


def _said(value: Any) -> str:
    text = f"{value:.9g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
