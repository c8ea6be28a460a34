"""kill -9 of real processes at random: leads, helpers, idle workers and the processes that asked, over chains that
several people share. Interrupted runs are resumed, people ask again, until everything is done.

The dice are seeded; when the system runs whom is not, so two soaks of one seed kill alike but not at the same byte.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

import psutil

from takd.runs import states
from takd.runs.errors import RunError
from takd.runs.states import list_runs, run_info
from takd.runs.store import REPO, Store
from takd.runs.submit import resume
from takd.spec import ExperimentSpec, to_json
from tests.faults.common import USERS, Bytes, Figures, calm_bytes, digests, stages_of, time_is_over
from tests.runs.conftest import workers

ROUND_SECONDS = 60.0  # from the last kill on, after which a round that is not done counts as lost
ROUND_KILLS = 40
_MANY = 20  # kills for which all four people come
HELPER_SECONDS = 1.0
PAUSE = (0.05, 0.7)  # seconds between kills: long enough for a new worker to get somewhere, mostly
_ASK = (
    "import sys, time\n"
    "from takd.runs.store import open_store; from takd.runs.submit import submit\n"
    "from takd.runs.warm import warm\n"
    "from tests.faults.common import USERS; from tests.runs.conftest import DATA\n"
    "store = open_store(); sys.argv[2] == 'warm' and warm(store)\n"
    "submit(store, USERS[sys.argv[1]], sys.argv[1], datasets=DATA)\n"
    "time.sleep(600)\n"  # a server goes on
)


class People:
    """The processes that ask, one a person; one that was killed is started again and asks again if nobody knows of
    its wish."""

    def __init__(self, store: Store, warm: bool, users: Collection[str]) -> None:
        self.store, self.warm, self.users = store, warm, users
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def come(self) -> None:
        """Whoever is not there and has no run starts a process."""
        known = {run.asked_by for run in list_runs(self.store)}
        for name in self.users:
            process = self.processes.get(name)
            if name not in known and (process is None or process.poll() is not None):
                arguments = [sys.executable, "-c", _ASK, name, "warm" if self.warm else "cold"]
                self.processes[name] = subprocess.Popen(arguments, cwd=REPO, stderr=subprocess.DEVNULL)

    def go(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


def run(size: int, seed: int, root: Path) -> Figures:
    """Rounds, each with a store of its own, until `size` processes were killed."""
    figures = Figures("kill -9 of processes")
    states.START_SECONDS = 4.0  # who was killed before it took its lock counts as starting until then
    os.environ["FAKE_EPOCH_MS"] = os.environ["TAKD_FAKE_MS"] = "0"
    users = USERS if size >= _MANY else {name: USERS[name] for name in ("Ben", "Cy")}
    stages = stages_of(*users.values())
    calm = calm_bytes(root / "calm", stages)
    os.environ["FAKE_EPOCH_MS"] = os.environ["TAKD_FAKE_MS"] = "15"
    left, number = size, 0
    while left > 0 and not time_is_over():
        left -= _round(
            figures, root / f"round-{number}", random.Random(seed + number), left, calm, users, number % 2 == 1
        )
        number += 1
    figures.notes.insert(0, f"{number} rounds of {len(users)} people, {len(stages)} stages")
    return figures


def _round(
    figures: Figures,
    root: Path,
    dice: random.Random,
    most: int,
    calm: Bytes,
    users: dict[str, ExperimentSpec],
    warm: bool,
) -> int:
    """Kill until everything is done, then compare; how many were killed."""
    os.environ.update(TAKD_STORE=str(root), TAKD_WARM_MINUTES="1" if warm else "0")
    root.mkdir()
    store, killed = Store(root), []
    people = People(store, warm, users)
    deadline = time.monotonic() + ROUND_SECONDS
    loops, changed = 0, ""
    while time.monotonic() < deadline:
        people.come()
        loops += _resume_all(store)
        changed = changed or _changed(store, calm)
        if _all_done(store, users):
            break
        time.sleep(dice.uniform(*PAUSE))
        if len(killed) < min(most, ROUND_KILLS) and not time_is_over() and (kind := _kill_one(store, people, dice)):
            killed.append(kind)
            deadline = time.monotonic() + ROUND_SECONDS
    people.go()
    seen = {run.asked_by: run.state for run in list_runs(store)}
    problem = "" if _all_done(store, users) else f"not done in {ROUND_SECONDS:.0f} s: {seen}"
    problem = problem or changed or figures.count(store, calm)
    for kind in killed:
        figures.add(kind, problem)
    if loops:
        figures.notes.append(f"{loops} crash loops named and resumed in {root.name}")
    for process in workers(store):
        with contextlib.suppress(psutil.Error):
            process.kill()
    return len(killed) or most  # nothing could be killed: do not go on for ever


def _changed(store: Store, calm: Bytes) -> str:
    """Looked at after every kill: what is finished by now has the bytes of an undisturbed run."""
    wrong = [key for key, found in digests(store, calm).items() if found != calm[key]]
    return f"{wrong} differ" if wrong else ""


def _kill_one(store: Store, people: People, dice: random.Random) -> str:
    """Kill a worker or somebody who asked; what it was. Every other time a helper is waited for, which lives shorter
    than the lead that starts it."""
    if dice.random() < 0.5:
        _wait_for_a_helper(store)
    victims = [(process.pid, "who asked") for process in people.processes.values() if process.poll() is None]
    for process in workers(store):
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            kind = "helper" if "--helper" in line else "idle or its run" if "--warm" in line else "lead"
            victims += [(process.pid, kind)]
    if not victims:
        return ""
    # Who asked is seldom the victim, else nobody would ever have asked.
    askers_too = dice.random() < 0.15
    kinds = sorted({kind for _, kind in victims if kind != "who asked" or askers_too})
    if not kinds:
        return ""
    kind = dice.choice(kinds)
    pid = dice.choice(sorted(pid for pid, what in victims if what == kind))
    with contextlib.suppress(psutil.Error):
        psutil.Process(pid).kill()
        return kind
    return ""


def _wait_for_a_helper(store: Store) -> None:
    end = time.monotonic() + HELPER_SECONDS
    while time.monotonic() < end:
        for process in workers(store):
            with contextlib.suppress(psutil.Error):
                if "--helper" in process.cmdline():
                    return
        time.sleep(0.02)


def _resume_all(store: Store) -> int:
    """What a person does who sees "Interrupted" or "Failed"; how many of them were crash loops."""
    loops = 0
    for run in list_runs(store):
        with contextlib.suppress(RunError):
            if run.state in ("lost", "failed"):
                loops += run_info(store, run.id).cause == "crash-loop"
                resume(store, run.id)
    return loops


def _all_done(store: Store, users: dict[str, ExperimentSpec]) -> bool:
    done = [run.spec for run in list_runs(store) if run.state == "done"]
    return all(to_json(spec) in done for spec in users.values())
