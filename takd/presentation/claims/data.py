"""The board and the map of this server: worked out once for everybody, behind the pages.

They read thousands of results, which takes a second or more. So a page never waits for them: it shows what was worked
out last while a thread works out the next, and nothing but the claims' texts before there is a first. They are worked
out anew when somebody looks and another run has ended, a minute has passed while one trains, or ten have passed anyway.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd
import streamlit as st

from takd.analysis.claims import Row, board
from takd.analysis.regimes import regime_frame
from takd.claims.library import MAP_SETTING
from takd.claims.settings import SETTINGS
from takd.data.table import Dataset
from takd.presentation import live
from takd.presentation.claims import words
from takd.presentation.claims.answers import Reader
from takd.runs.states import read_status, run_ids
from takd.runs.store import Store

_log = logging.getLogger(__name__)
SECONDS, QUIET_SECONDS = 60.0, 600.0  # how old a board may be while a run of this server trains or waits, and else
_REST = 4.0  # between two boards there are as many times the seconds that one takes: the server has pages to draw
_ENDED = ("done", "failed", "cancelled")
_RECENT = 200  # newest runs that are asked whether they have ended


@dataclass(frozen=True)
class Known:
    """What is known of every claim: the board's rows, and the map (regime_frame), None where it has no data set."""

    rows: tuple[Row, ...]
    regimes: pd.DataFrame | None
    version: tuple[str, ...]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All findings as a table."""
        return words.board_frame(self.rows)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """What the board's figure draws."""
        return words.cells(self.rows)

    def row(self, claim: str) -> Row:
        return next(row for row in self.rows if row.claim.name == claim)


@dataclass
class _Slot:
    """One store's board. `ready` is set while nobody works on it."""

    value: Known | None = None
    failed: bool = False
    made: float = -float("inf")
    took: float = 0.0
    ready: threading.Event = field(default_factory=threading.Event)
    working: bool = False
    extras: dict[str, object] = field(default_factory=dict)


@dataclass
class _Memory:
    slots: dict[tuple[object, ...], _Slot] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)
    worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "takd-claims"))


@st.cache_resource
def _memory() -> _Memory:
    return _Memory()


def known(store: Store, datasets: Mapping[str, Dataset], patience: float = 0.0) -> Known | None:
    """What was worked out last; None before the first time is over, for which it waits `patience` seconds. Starts
    working out the next where this is old."""
    memory = _memory()
    version, active = seen(store)
    with memory.guard:
        slot = memory.slots.setdefault(_name(store, datasets), _Slot())
        age = time.monotonic() - slot.made
        changed = slot.value is not None and slot.value.version != version
        old = age >= (SECONDS if active else QUIET_SECONDS)
        if not slot.working and age >= _REST * slot.took and (changed or old):
            slot.working = True
            slot.ready.clear()
            memory.worker.submit(_make, memory, slot, store, dict(datasets), version)
    if slot.value is None:
        slot.ready.wait(patience)
    return slot.value


def failed(store: Store, datasets: Mapping[str, Dataset]) -> bool:
    """Whether the board could not be worked out; the server's log says why."""
    slot = _memory().slots.get(_name(store, datasets))
    return slot is not None and slot.failed


def kept(store: Store, datasets: Mapping[str, Dataset], name: str, make: Callable[[Known], object]) -> object:
    """make(known), remembered as long as this board is the newest."""
    slot = _memory().slots[_name(store, datasets)]
    value, extras = slot.value, slot.extras
    assert value is not None
    if name not in extras:
        extras[name] = make(value)
    return extras[name]


def _make(
    memory: _Memory, slot: _Slot, store: Store, datasets: Mapping[str, Dataset], version: tuple[str, ...]
) -> None:
    begun = time.monotonic()
    try:
        rows = board(store, datasets, Reader(store))
        dataset = datasets[SETTINGS[MAP_SETTING].spec.dataset]
        regimes = regime_frame(dataset, store) if dataset.fingerprint is not None else None
        value = Known(rows, regimes, version)
        _ = value.frame, value.cells  # here, and not in somebody's page
        with memory.guard:
            slot.value, slot.failed, slot.extras = value, False, {}
    except Exception:  # a thread of its own: nobody else would hear of it
        _log.exception("the board of claims cannot be worked out")
        slot.failed = True
    finally:
        with memory.guard:
            slot.made = time.monotonic()
            slot.took, slot.working = slot.made - begun, False
        slot.ready.set()


def _name(store: Store, datasets: Mapping[str, Dataset]) -> tuple[object, ...]:
    used = sorted({setting.spec.dataset for setting in SETTINGS.values()})
    return (store.root, tuple(store.cached), tuple(datasets[name].fingerprint for name in used))


def seen(store: Store) -> tuple[tuple[str, ...], bool]:
    """(what changes when another board is worth its time, whether a run of this server trains or waits): own runs that
    have ended, of the newest, and the states of the folders with the runs of others."""
    names = run_ids(store.root)[-_RECENT:]
    over = [name for name in names if read_status(store.root / "runs" / name).get("state") in _ENDED]
    return (*over, *(_changed(place / "runs") for place in store.roots[1:])), bool(live.active_runs(store))


def _changed(folder: Path) -> str:
    try:
        return str(folder.stat().st_mtime_ns)
    except OSError:
        return ""
