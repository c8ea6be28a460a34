"""Every path through a ladder, at the settings of one question: what maps, lattices and estimates are made of.

Stages are found by their keys, so whatever run trained them, and whoever asked for it, they are here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import pandas as pd

from takd.analysis.frames import Store, arm_frame, chain_frame
from takd.data.table import Dataset
from takd.plan import Arm, Plan, build_plan
from takd.spec import ExperimentSpec, ladder_family, networks_for, size_order

WHOLE = 6  # a ladder of more sizes has too many paths; of those, chains with at most MOST assistants are looked up
MOST = 2


@dataclass(frozen=True)
class Pool:
    """The plan of every path, and its frames (takd.analysis.frames: CHAIN_COLUMNS, ARM_COLUMNS). Arms that nobody has
    trained have n = 0. `sizes`: the networks of the ladder, small to large."""

    plan: Plan
    sizes: tuple[str, ...]
    chains: pd.DataFrame
    arms: pd.DataFrame

    def row(self, arm: Arm) -> pd.Series | None:
        """The row of an arm that has finished seeds."""
        found = self.arms[(self.arms["arm"] == arm.name) & (self.arms["n"] > 0)]
        return None if found.empty else found.iloc[0]


def sizes_of(spec: ExperimentSpec, dataset: Dataset) -> tuple[str, ...]:
    """The rungs of the question's ladder and the networks the question names, small to large."""
    family = ladder_family(spec.teacher, spec.student, dataset)
    rungs = {n.name for n in networks_for(dataset) if n.family == family and n.rung}
    return tuple(sorted(rungs | set(spec.path), key=size_order))


def all_arms(sizes: tuple[str, ...]) -> tuple[Arm, ...]:
    """Each size alone, direct KD between every two, and every chain between them."""
    down = tuple(reversed(sizes))
    arms = [Arm("scratch", (name,)) for name in down]
    most = len(sizes) if len(sizes) <= WHOLE else MOST + 2
    for length in range(2, most + 1):
        method = "kd" if length == 2 else "takd"
        arms += [Arm(method, path) for path in combinations(down, length)]
    return tuple(arms)


def pool(spec: ExperimentSpec, dataset: Dataset, store: Store) -> Pool:
    """Look every path up, at the question's data, budget (with its own epochs, images and rate), seeds, T, lam,
    noise and view. `dataset` must carry its fingerprint."""
    plan = plan_of_paths(spec, dataset)
    chains = chain_frame(plan, store)
    return Pool(plan, sizes_of(spec, dataset), chains, arm_frame(chains))


def plan_of_paths(spec: ExperimentSpec, dataset: Dataset) -> Plan:
    """The plan of every path of the question's ladder."""
    return _plan(settings_of(spec), dataset, sizes_of(spec, dataset))


def settings_of(spec: ExperimentSpec) -> ExperimentSpec:
    """The question without what a path says: equal for all questions that share a pool."""
    start = ExperimentSpec()
    return ExperimentSpec(
        dataset=spec.dataset, teacher=start.teacher, assistants=(), student=start.student, method="kd",
        budget=spec.budget, seeds=spec.seeds, temperature=spec.temperature, lam=spec.lam, noise=spec.noise,
        seed=spec.seed, view=spec.view, epochs=spec.epochs, images=spec.images,
        lr=spec.lr,
    )  # fmt: skip


@lru_cache(maxsize=8)
def _plan(settings: ExperimentSpec, dataset: Dataset, sizes: tuple[str, ...]) -> Plan:
    return build_plan(settings, dataset, all_arms(sizes))
