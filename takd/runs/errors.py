"""What can go wrong in this room, as exceptions whose text can be shown to a student as it is. Imports nothing."""

from __future__ import annotations


class StoreError(Exception):
    """A file of the store is missing or damaged; the text says which and what to do next."""


class RunError(Exception):
    """A run cannot be started, resumed, cancelled or deleted; the text says why and what to do next."""


class BundleError(RunError):
    """A bundle cannot be made or imported; the text says why and what to do next."""


class StageStopped(Exception):
    """Training stopped because it was asked to; the checkpoint is saved and the stage can go on later."""


class StageFailed(Exception):
    """A training ended for a reason that has a name.

    `cause_class` is one word for programs (diverged, bad-data, bad-parent, out-of-memory, ...), `sentence` is for the
    reader and names the next action.
    """

    def __init__(self, cause_class: str, sentence: str) -> None:
        self.cause_class = cause_class
        self.sentence = sentence
        super().__init__(sentence)
