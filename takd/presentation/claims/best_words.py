"""What choosing the best of several equal trainings is worth, in words: it stands beside claim 25."""

from __future__ import annotations

from collections.abc import Iterable

from takd.analysis.best_of import BestOf
from takd.presentation.claims.words import told
from takd.presentation.formats import listing


def best_of_sentence(found: Iterable[BestOf]) -> str:
    """What choosing the best seed is worth, for claim 25; empty where too few seeds are stored."""
    said = [
        f"{one.setting.short} ({one.stored} stored) "
        + listing(f"{told(100 * gain, 1, sign=True)} for the best of {n}" for n, gain in one.above.items())
        for one in found
    ]
    return (
        "Choosing among seeds comes on top. Students of direct KD that differ in nothing but the seed (their teacher's "
        "with it), in points over their mean, drawn from those stored, so that the last is at least this: "
        f"{'; '.join(said)}. One assistant is published to give 0.33 to 0.94, on ten times as many test images."
        if said
        else ""
    )
