"""N processes that race for the same stages, some of them stopped in the middle (SIGSTOP), and clocks that are set."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from takd.runs import files, submit
from takd.runs.states import run_info, waiting_before
from takd.runs.store import Store
from tests.faults.common import USERS, Figures, calm_bytes, stages_of, train
from tests.runs.conftest import DATA
from tests.runs.fake_trainer import notes

RACERS = 8


def run(size: int, seed: int, root: Path) -> Figures:
    """`size` races, with a racer stopped for a while in every other one; then clocks."""
    figures, dice = Figures("races, stops, clocks"), random.Random(seed)
    stages = stages_of(USERS["Ben"])
    calm = calm_bytes(root / "calm", stages)
    for number in range(size):
        store = Store(root / f"race-{number}")
        store.root.mkdir()
        os.environ["FAKE_EPOCH_MS"] = "4"
        racers = [_start(lambda s=store: train(s, stages)) for _ in range(RACERS)]
        problem, kind = "", f"{RACERS} processes race"
        if number % 2:
            kind += ", one is stopped"
            problem = _stop_one(store, dice, racers)
        codes = [os.waitstatus_to_exitcode(os.waitpid(racer, 0)[1]) for racer in racers]
        problem = problem or ("" if codes == [0] * RACERS else f"ended with {codes}")
        starts = [key for key, *_ in notes(store, "start")]
        problem = problem or ("" if sorted(starts) == sorted(calm) else f"{len(starts)} starts")
        figures.add(kind, problem or figures.count(store, calm))
    os.environ["FAKE_EPOCH_MS"] = "0"
    for back in (-86_400.0, -60.0, 60.0, 86_400.0):
        _set_clock(figures, root / f"clock{back:.0f}", back)
    return figures


def _start(action: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            files._threads.cache_clear()  # its threads are not forked
            action()
            code = 0
        finally:
            os._exit(code)
    return child


def _stop_one(store: Store, dice: random.Random, racers: list[int]) -> str:
    """Stop whoever trains: nobody else may train that stage meanwhile, and everything else goes on."""
    while not notes(store, "start"):
        time.sleep(0.002)
    key, _, _, pid, *_ = notes(store, "start")[0]
    os.kill(int(pid), signal.SIGSTOP)
    time.sleep(dice.uniform(0.05, 0.3))
    again = [row[3] for row in notes(store, "start") if row[0] == key]
    os.kill(int(pid), signal.SIGCONT)
    return "" if int(pid) in racers and again == [pid] else f"{key} was started by {again}"


def _set_clock(figures: Figures, root: Path, by: float) -> None:
    """A run is asked for, the clock is set, and the run is trained and another one asked for."""
    submit.start_worker = lambda *_: None  # type: ignore[assignment]
    store, real = Store(root), time.time
    first = submit.submit(store, USERS["Ben"], datasets=DATA)
    problem = ""
    try:
        time.time = lambda: real() + by  # type: ignore[assignment]
        second = submit.submit(store, USERS["Cy"], datasets=DATA)
        seen = {run_info(store, name).state for name in (first, second)}
        if not seen <= {"starting", "lost"}:  # lost: what to do is said, and resuming does it
            problem = f"states {seen}"
        if len([name for name in (first, second) if not [*waiting_before(store, name)]]) < 1:
            problem = "each waits for the other"
        stages = stages_of(USERS["Ben"])
        train(store, stages)
        if not all(store.is_done(key) for key in stages):
            problem = "not trained"
        if run_info(store, first).reason and "No sign of life" in run_info(store, first).reason:
            problem = "said to hang"
    finally:
        time.time = real
    figures.add(f"clock set by {by:+.0f} s", problem)
