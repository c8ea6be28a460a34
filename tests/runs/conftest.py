"""A store, a data set with a fingerprint, and workers that are gone when the test is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest

from takd.data.table import DATASETS, Dataset
from takd.runs.states import RunInfo, run_info
from takd.runs.store import Store, open_store
from takd.spec import ExperimentSpec, start_for

DATA: dict[str, Dataset] = {"digits": replace(DATASETS["digits"], fingerprint="f" * 64)}
LADDER = replace(start_for("digits"), seeds=1)
CHAIN = replace(LADDER, scope="chain")
LONE = replace(CHAIN, method="scratch", assistants=())


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("TAKD_TRAINER", "tests.runs.fake_trainer:run_stages")
    monkeypatch.setenv("TAKD_PROCESSES", "2")
    found = open_store()
    yield found
    for process in workers(found):
        with contextlib.suppress(psutil.Error):
            process.kill()


def workers(store: Store, run_id: str = "") -> list[psutil.Process]:
    """Live workers of this test's store, which lies in the test's own temporary folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if "takd.runs.worker" in line and str(store.root) in line and run_id in (*line, ""):
                found.append(process)
    return found


def lead_of(store: Store, run_id: str) -> psutil.Process:
    return next(p for p in workers(store, run_id) if "--helper" not in p.cmdline())


def helpers_of(store: Store, run_id: str) -> list[psutil.Process]:
    return [p for p in workers(store, run_id) if "--helper" in p.cmdline()]


def wait_for(check: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The first true value of `check`; fails after the deadline."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := check():
            return value
        time.sleep(0.01)
    raise AssertionError(f"nothing happened in {seconds} s")


def wait_end(store: Store, run_id: str, seconds: float = 20.0) -> RunInfo:
    return wait_for(lambda: None if (info := run_info(store, run_id)).look.active else info, seconds)


def seeded(spec: ExperimentSpec, seed: int) -> ExperimentSpec:
    return replace(spec, seed=seed)
