"""The table of claims. Adding a claim is one row in takd/claims/rows/."""

from __future__ import annotations

from takd.claims.claim import Claim
from takd.claims.rows import dense, gap, remedies

CLAIMS: dict[str, Claim] = {
    row.name: row for row in sorted((*gap.ROWS, *dense.ROWS, *remedies.ROWS), key=lambda row: row.number)
}


def find_claim(text: str) -> Claim | None:
    """A claim by its name or number; None for what is neither."""
    if text in CLAIMS:
        return CLAIMS[text]
    return next((row for row in CLAIMS.values() if text.isascii() and text.isdigit() and row.number == int(text)), None)
