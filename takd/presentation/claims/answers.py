"""What claims about single test images read. No Streamlit: the command line asks too."""

from __future__ import annotations

import numpy as np

from takd.analysis.contrasts import Wrong
from takd.evaluation.answers_read import answers, labels
from takd.plan import Plan
from takd.runs.store import Store


def reader(store: Store) -> Wrong:
    """Which test images a finished stage gets wrong, (N,) bool, from its stored answers and the true labels; None where
    either is not here."""

    def wrong(plan: Plan, key: str) -> np.ndarray | None:
        found, truth = answers(store, key), labels(store, plan.stages[key].data)
        if found is None or truth is None or len(found.logits) != len(truth):
            return None
        return np.asarray(found.logits.argmax(axis=1) != truth)

    return wrong
