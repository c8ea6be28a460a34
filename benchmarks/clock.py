"""Seconds of processor and of wall clock, and contenders measured in turns so that a busy machine is busy for all."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

try:
    import resource
except ImportError:  # Windows: workers of a DataLoader are then not counted
    resource = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Spent:
    """Seconds: `cpu` of this process and of those it started and that ended, `wall` of the clock."""

    cpu: float
    wall: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.cpu + other.cpu, self.wall + other.wall)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.cpu - other.cpu, self.wall - other.wall)

    def __mul__(self, factor: float) -> Spent:
        return Spent(self.cpu * factor, self.wall * factor)


NOTHING = Spent(0.0, 0.0)


def spent(work: Callable[[], object]) -> Spent:
    """What one call costs."""
    before = _now()
    work()
    return _now() - before


def spent_on(steps: Iterator[object], skip: int, whole: int) -> Spent:
    """What `whole` steps cost, measured on all but the first `skip`, which warm up: caches, workers, allocations.

    Processes that end while the steps are taken (a DataLoader's workers) are counted whole, from their start.
    """
    children, taken, before = _children(), 0, _now()
    for taken, _ in enumerate(steps, start=1):
        if taken == skip:
            before = _now()
    after = _now()
    if taken <= skip:
        raise ValueError(f"{taken} steps were taken and {skip} of them only warm up")
    own = after - before - Spent(_children() - children, 0.0)
    return own * (whole / (taken - skip)) + Spent((_children() - children) * (whole / taken), 0.0)


def in_turns(
    contenders: Mapping[str, Callable[[], Spent]], rounds: int, tell: Callable[[str], None] | None = None
) -> dict[str, list[Spent]]:
    """Measure every contender once a round, each round beginning with another one."""
    found: dict[str, list[Spent]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            found[name].append(contenders[name]())
            (tell or _tell)(f"  round {turn + 1} of {rounds}: {name} {found[name][-1].wall:.3g} s")
    return found


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _now() -> Spent:
    return Spent(time.process_time() + _children(), time.perf_counter())


def _children() -> float:
    if resource is None:
        return 0.0
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
