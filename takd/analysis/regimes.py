"""Where an effect appears and where it does not: two effects over epochs, training images and label noise.

Every place of the map is a small study of its own, with independent chains. "Not seen here" is a result like any other,
so each place has its interval, corrected with Holm over all places of one effect.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from takd.analysis.claims import holm_levels, judged, t_test
from takd.analysis.contrasts import Sample, interval_of
from takd.analysis.frames import Store, chain_frame, origin_of_all, tidy
from takd.analysis.verdicts import paired_differences
from takd.claims.claim import Measure
from takd.claims.library import REGIMES, Regime, map_arms, map_spec
from takd.data.table import Dataset
from takd.plan import build_plan

EFFECTS: dict[str, str] = {
    "gap": "direct KD from the assistant's size minus direct KD from the largest",
    "assistant": "the chain through the assistant minus direct KD from the largest",
}
REGIME_COLUMNS = {
    "effect": "category", "epochs": "int32", "images": "int32", "noise": "float64", "n": "int16", "mean": "float64",
    "low": "float64", "high": "float64", "confidence": "float64", "p": "float64", "status": "category",
    "why": "category", "origin": "category",
}  # fmt: skip
_MEASURE = Measure("effect", ())  # the board's margin


def regime_frame(dataset: Dataset, store: Store) -> pd.DataFrame:
    """One row per effect and place of the map (REGIME_COLUMNS), fractions. status and why: as on the board; `low` and
    `high` at `confidence`, which is Holm's over the places of the effect. `dataset` is digits with its fingerprint."""
    found: list[tuple[str, Regime, Sample, str | None]] = []
    for where in REGIMES:
        plan = build_plan(map_spec(where), dataset, map_arms())
        chains = chain_frame(plan, store)
        direct, chain, small = (arm.name for arm in map_arms())
        for effect, one in (("gap", small), ("assistant", chain)):
            pairs = paired_differences(chains, one, direct)
            values = Sample(tuple(pairs.index), pairs.to_numpy()[:, None, None], (("",),))
            origin = origin_of_all(chains[chains["done"] & chains["arm"].isin([one, direct])]["origin"])
            found.append((effect, where, values, origin))
    rows = []
    for effect in EFFECTS:
        own = [row for row in found if row[0] == effect]
        pvalues = [t_test(values, _MEASURE) for _, _, values, _ in own]
        levels = holm_levels([1.0 if np.isnan(p) else p for p in pvalues])
        for (_, where, values, origin), p, level in zip(own, pvalues, levels, strict=True):
            interval = interval_of(values, level)
            status, why = judged(_MEASURE, values, interval)
            rows.append(
                {"effect": effect, "epochs": where.epochs, "images": where.images, "noise": where.noise}
                | {"n": interval.n, "mean": interval.mean, "low": interval.low, "high": interval.high}
                | {"confidence": interval.confidence, "p": p, "status": status, "why": why, "origin": origin}
            )
    return tidy(rows, REGIME_COLUMNS)
