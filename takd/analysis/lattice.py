"""The lattice of all paths from a teacher to a student (after Mirzadeh et al., AAAI 2020, figure 5).

A node is a network together with the path it was taught along, so the paths form a tree that branches wherever another
size follows. Every node is an arm of the pool: the teacher alone, direct KD, or a chain.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from takd.analysis.assistants import Winner, certain, chains_between, direct_name, measured, winner
from takd.analysis.frames import Store, tidy
from takd.analysis.pool import MOST, WHOLE, Pool
from takd.analysis.statistics import MARGIN
from takd.analysis.verdicts import compare
from takd.plan import Arm, Plan
from takd.spec import size_order

READABLE = 3  # sizes in between: up to eight paths, which a narrow window can show; of more, at most MOST assistants
_WORD, _EXACT, _COUNT, _FLAG = "category", "float64", "int16", "bool"
NODE_COLUMNS = {
    "arm": "str", "parent": "str", "network": _WORD, "role": _WORD, "column": _COUNT, "row": _COUNT, "state": _WORD,
    "n": _COUNT, "mean": _EXACT, "low": _EXACT, "high": _EXACT, "gain": _EXACT, "gain_low": _EXACT,
    "gain_high": _EXACT, "gain_n": _COUNT, "kind": _WORD, "certain": _FLAG, "seconds": _EXACT, "total": _EXACT,
    "estimated": _FLAG, "best": _FLAG,
}  # fmt: skip


@dataclass(frozen=True)
class Lattice:
    """nodes: NODE_COLUMNS, parents before children. columns: the networks, teacher first. winner: the path with the
    best validation accuracy against direct KD. shown, whole: how many paths are drawn and how many there are."""

    nodes: pd.DataFrame
    columns: tuple[str, ...]
    winner: Winner
    shown: int
    whole: int


def lattice(pool: Pool, teacher: str, student: str, training: Collection[str] = (), margin: float = MARGIN) -> Lattice:
    """Every path from teacher to student as a tree.

    column: the network's place between teacher (0) and student. row: one per whole path; a network stands in the row
    of the path that ends right after it, so that a row reads as one path and no two lines cross. gain: the node's test
    accuracy minus that of the same network taught by the teacher directly, paired by seed; NaN for the teacher and for
    direct KD itself. seconds: of this training alone, total: of all trainings of the path, for one seed; `estimated`
    where they come from other trainings of the same networks in the pool, NaN where there are none. state: `done`,
    `training` (its arm is in `training`) or `not run`. best marks the path of the winner, where its interval, widened
    for the choice, lies above 0: an uncertain best is not marked.
    """
    inside = [s for s in reversed(pool.sizes) if size_order(student) < size_order(s) < size_order(teacher)]
    columns = (teacher, *inside, student)
    whole = len(inside) <= READABLE and len(pool.sizes) <= WHOLE  # a pool of more sizes has no longer chains
    most = len(inside) if whole else min(MOST, len(inside))
    paths = [(teacher, *via, student) for k in range(most + 1) for via in combinations(inside, k)]
    direct = direct_name(teacher, student)
    arms = [arm.name for arm in measured(pool, chains_between(pool, teacher, student)) if len(arm.path) > 2]
    won = winner(pool.chains, arms, direct, margin)
    best = _prefixes(pool, won.name) if won.name and won.verdict.interval.low > 0 and certain(won.verdict) else set()
    ordered = sorted(paths, key=lambda path: _depth_first(path, columns))
    known = _own_seconds(pool)
    nodes: dict[tuple[str, ...], dict[str, object]] = {}
    for row, path in enumerate(ordered):
        for end in range(1, len(path) + 1):
            part = path[:end]
            if part not in nodes:
                node = _node(pool, part, columns, margin, known, nodes.get(part[:-1]))
                state = "done" if node["n"] else "training" if node["arm"] in training else "not run"
                nodes[part] = node | {"row": row, "state": state, "best": node["arm"] in best}
    return Lattice(tidy(nodes.values(), NODE_COLUMNS), columns, won, len(paths), 2 ** len(inside))


def training_arms(plan: Plan, store: Store) -> frozenset[str]:
    """Arms whose own student is in training at one seed at least: begun and not finished."""
    return frozenset(
        chain.arm.name
        for chain in plan.chains
        if store.result(chain.student) is None and store.progress(chain.student) is not None
    )


def arm_of(path: tuple[str, ...]) -> Arm:
    """The arm that a path is: alone, direct KD or a chain."""
    return Arm(("scratch", "kd", "takd")[min(len(path), 3) - 1], path)


def _depth_first(path: tuple[str, ...], columns: tuple[str, ...]) -> tuple[int, ...]:
    """The student first, then the sizes from large to small: the direct path comes before every detour."""
    return tuple(0 if name == columns[-1] else columns.index(name) for name in path[1:])


def _prefixes(pool: Pool, name: str) -> set[str]:
    path = next(arm.path for arm in pool.plan.arms if arm.name == name)
    return {arm_of(path[:end]).name for end in range(1, len(path) + 1)}


def _node(
    pool: Pool,
    path: tuple[str, ...],
    columns: tuple[str, ...],
    margin: float,
    known: dict[tuple[str, bool], float],
    parent: dict[str, object] | None,
) -> dict[str, object]:
    arm = arm_of(path)
    row = pool.row(arm)
    node: dict[str, object] = {"arm": arm.name, "parent": str(parent["arm"]) if parent else "", "network": path[-1]}
    node |= {"role": ("teacher" if not parent else "student" if path[-1] == columns[-1] else "assistant")}
    node |= {"column": columns.index(path[-1]), "n": 0 if row is None else int(row["n"])}
    node |= {name: math.nan if row is None else float(row[name]) for name in ("mean", "low", "high")}
    before = float(str(parent["total"])) if parent else 0.0
    total = math.nan if row is None else float(row["seconds"])
    guessed = not math.isfinite(total)
    own = known.get((path[-1], len(path) > 1), math.nan) if guessed else total - before
    if not guessed and (own < 0 or not math.isfinite(own)):  # the path so far was measured at other seeds
        own = known.get((path[-1], len(path) > 1), math.nan)
    node |= {"seconds": own, "total": before + own if guessed else total, "estimated": guessed}
    gain = {"gain": math.nan, "gain_low": math.nan, "gain_high": math.nan, "gain_n": 0, "kind": "", "certain": False}
    if len(path) > 2 and row is not None:
        verdict = compare(pool.chains, arm.name, direct_name(path[0], path[-1]), margin)
        low, high = verdict.interval.low, verdict.interval.high
        gain = {"gain": verdict.interval.mean, "gain_low": low, "gain_high": high, "gain_n": verdict.n}
        gain |= {"kind": verdict.kind if verdict.n else "", "certain": certain(verdict)}
    return node | gain


def _own_seconds(pool: Pool) -> dict[tuple[str, bool], float]:
    """(network, taught by another) -> mean seconds of one such training among the finished ones of the pool: what a
    chain takes beyond the chain without its last network, at the same seed."""
    done = pool.chains[pool.chains["done"] & pool.chains["seconds"].notna()]
    seconds = {(str(a), int(s)): float(t) for a, s, t in zip(done["arm"], done["seed"], done["seconds"], strict=True)}
    found: dict[tuple[str, bool], list[float]] = {}
    for arm in measured(pool, pool.plan.arms):
        for seed in {seed for name, seed in seconds if name == arm.name}:
            before = 0.0 if len(arm.path) == 1 else seconds.get((arm_of(arm.path[:-1]).name, seed), math.nan)
            own = seconds[arm.name, seed] - before
            if math.isfinite(own) and own > 0:
                found.setdefault((arm.path[-1], len(arm.path) > 1), []).append(own)
    return {key: sum(values) / len(values) for key, values in found.items()}
