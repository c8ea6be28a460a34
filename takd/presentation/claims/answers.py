"""What claims read beside results. No Streamlit: the command line asks too."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from takd.evaluation.answers_read import answers, labels
from takd.plan import Plan
from takd.runs.looking import read_look
from takd.runs.store import Store


@dataclass(frozen=True)
class Reader:
    """See takd.analysis.contrasts.Beside."""

    store: Store

    def wrong(self, plan: Plan, key: str) -> np.ndarray | None:
        """From its stored answers and the true labels; None where either is not here."""
        found, truth = answers(self.store, key), labels(self.store, plan.stages[key].data)
        if found is None or truth is None or len(found.logits) != len(truth):
            return None
        return np.asarray(found.logits.argmax(axis=1) != truth)

    def rise(self, key: str) -> float:
        """From the look that was kept."""
        value = (read_look(self.store, key, "rise") or {}).get("rise")
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
