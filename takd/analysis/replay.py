"""A finished question as it was while it was trained: one clock in epochs, and the store as it stood at each of them.

On the clock every training begins when its teachers are done and takes one tick an epoch, all seeds side by side.
What is read from `Replayed` are the stored numbers, no others: the frames and figures of live runs work on it as they
are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from takd.analysis.curves import CurveReader
from takd.analysis.frames import Store
from takd.plan import Arm, Plan


@dataclass(frozen=True)
class Hop:
    """One training along the chosen path: `network` learns from `teacher` (empty: from the labels alone) from tick
    `start` on until tick `end`, when it is done."""

    network: str
    teacher: str
    role: str
    start: int
    end: int


@dataclass(frozen=True)
class Timeline:
    """When each stage begins and is done, in ticks; `length`: when the chosen arm's student is. `hops`: the trainings
    along the chosen path, teacher first."""

    starts: Mapping[str, int]
    ends: Mapping[str, int]
    hops: tuple[Hop, ...]

    @property
    def length(self) -> int:
        return self.hops[-1].end

    def hop_at(self, tick: int) -> Hop:
        """The training along the path that goes on at a tick, 1-based; the last one after the end."""
        return next((hop for hop in self.hops if tick <= hop.end), self.hops[-1])


def timeline(plan: Plan, arm: Arm) -> Timeline:
    """The clock of a plan, with the hops of one of its arms."""
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    for key, stage in _teachers_first(plan):
        starts[key] = max((ends[teacher] for teacher in stage.teachers), default=0)
        ends[key] = starts[key] + stage.recipe.last
    chain = plan.chains_of(arm)[0]
    path = arm.path[len(arm.path) - len(chain.keys) :]
    hops = []
    for place, (key, network) in enumerate(zip(chain.keys, path, strict=True)):
        taught = bool(plan.stages[key].teachers)
        role = "student" if place == len(path) - 1 else "assistant" if taught else "teacher"
        hops.append(Hop(network, path[place - 1] if taught and place else "", role, starts[key], ends[key]))
    return Timeline(starts, ends, tuple(hops))


def _teachers_first(plan: Plan) -> list[tuple[str, Any]]:
    """The plan's stages so that every teacher comes before its pupils, whatever else their order is."""
    done: dict[str, Any] = {}

    def visit(key: str) -> None:
        if key not in done:
            for teacher in plan.stages[key].teachers:
                visit(teacher)
            done[key] = plan.stages[key]

    for key in plan.stages:
        visit(key)
    return list(done.items())


class Replayed:
    """The part of a store that frames read, as it was at one tick of the clock. Only stages of the plan are there."""

    def __init__(self, store: Any, plan: Plan, clock: Timeline, tick: int, reader: CurveReader | None = None) -> None:
        self._store: Store = store
        self._plan, self._clock, self.tick = plan, clock, tick
        self._reader = reader or CurveReader(store)
        self.root = store.root  # what is kept for this store is kept for all of its ticks together

    def _epoch(self, key: str) -> int:
        """Epochs of a stage that are over: 0 before it begins."""
        if key not in self._clock.starts:
            return 0
        epochs = self._clock.ends[key] - self._clock.starts[key]
        return min(max(self.tick - self._clock.starts[key], 0), epochs)

    def is_done(self, key: str) -> bool:
        return self.result(key) is not None

    def result(self, key: str) -> dict[str, Any] | None:
        over = key in self._clock.ends and self.tick >= self._clock.ends[key]
        return self._store.result(key) if over else None

    def origin(self, key: str) -> str | None:
        return self._store.origin(key) if self.is_done(key) else None

    def version(self, key: str) -> object:
        return (self._store.events_id(key), self.tick) if self.is_done(key) else None

    def read_events(self, key: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        rows: Sequence[dict[str, Any]] = self._reader.read(key, self._plan.stages[key].recipe.last)
        return [row for row in rows if row["epoch"] <= self._epoch(key)], 0

    def events_id(self, key: str) -> tuple[object, object]:
        file, version = self._store.events_id(key)
        return (file, self.tick), version

    def progress(self, key: str) -> dict[str, Any] | None:
        if self.is_done(key) or self._store.result(key) is None or self.tick <= self._clock.starts.get(key, self.tick):
            return None
        epochs = self._clock.ends[key] - self._clock.starts[key]
        return {"epoch": min(self._epoch(key) + 1, epochs), "epochs": epochs, "step": 0, "steps": 1}


def is_replayed(store: object) -> bool:
    """Whether a store is one of the past: what is kept for the real one does not hold there."""
    return isinstance(store, Replayed)
