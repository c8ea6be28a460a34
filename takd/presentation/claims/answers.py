"""What claims read beside results. No Streamlit: the command line asks too."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from takd.evaluation.answers_read import labels
from takd.plan import Plan
from takd.runs.classes import answered
from takd.runs.looking import read_look
from takd.runs.store import Store


@dataclass(frozen=True)
class Reader:
    """See takd.analysis.contrasts.Beside."""

    store: Store

    def wrong(self, plan: Plan, key: str) -> np.ndarray | None:
        """From its answers, or what is kept of them, and the true labels; None where either is not here."""
        data = plan.stages[key].data
        truth = labels(self.store, data)
        found = None if truth is None else answered(self.store, key, len(truth), data.classes)
        return None if found is None else np.asarray(found[0] != truth)

    def rise(self, key: str) -> float:
        """From the look that was kept."""
        value = (read_look(self.store, key, "rise") or {}).get("rise")
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
