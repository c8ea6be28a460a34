"""Warnings that stand over a result that must not be read like others."""

from __future__ import annotations

AS_PUBLISHED = (
    "**As published.** The chosen arm makes the released code's mistakes on purpose: the KL is averaged over classes "
    "too, the learning rate is never lowered, and every network is the best of all its epochs on test images. Its "
    "numbers are too high by construction and are compared with direct KD that makes the same mistakes."
)


FAILED = (
    "**This training failed.** The student is right less than half as often as when trained alone, so nothing is said "
    "about the method: its term is too strong here, or the temperature too high. Choose a smaller weight (beta) or T "
    "under More."
)
