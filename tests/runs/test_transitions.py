"""Runs under everything people and the system do to them, in any order: no state and no step that is not in the table.

hypothesis thinks out what happens; the workers are real processes. `-m slow` tries more of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from takd.runs import states
from takd.runs.errors import RunError
from takd.runs.locks import run_lock
from takd.runs.states import STATES, RunInfo, list_runs, observe, run_info, write_run_file
from takd.runs.store import REPO, Store
from takd.runs.submit import cancel, delete, resume
from takd.runs.transitions import EVENTS, NONE, READ_FROM, after, reachable, table
from tests.runs.conftest import CHAIN, LADDER, LONE, wait_end, workers
from tests.runs.test_runs import ask, make_run

SPECS = {"Ada": CHAIN, "Ben": LADDER, "Cy": replace(CHAIN, temperature=CHAIN.temperature + 1), "Di": LONE}
MOST_RUNS = 4
START_SECONDS = 6.0  # instead of 15: how long a run whose worker was killed at once counts as starting


# The table


def test_the_table_names_every_state_and_nothing_else() -> None:
    assert set(READ_FROM) == set(STATES)
    named = {state for event in EVENTS for pair in event.leads.items() for state in pair}
    assert named == {NONE, *STATES} and len({event.name for event in EVENTS}) == len(EVENTS)
    assert {event.who for event in EVENTS} == {"person", "worker", "system"}


def test_an_active_run_always_comes_to_an_end_and_an_ended_one_stays() -> None:
    for name, state in STATES.items():
        ends = {one for one in reachable(name) if not STATES[one].active}
        assert ends if state.active else reachable(name) == {name}
    assert after(NONE, "ask") == {NONE, "starting", *reachable("starting")}
    assert after("done", "resume") == {"done"} and NONE in after("lost", "delete")


def test_the_table_is_the_one_in_the_documentation() -> None:
    text = (REPO / "ARCHITECTURE.md").read_text()
    assert all(part in text for part in table().split("\n\n")), table()


def test_every_combination_of_files_and_lock_is_the_state_the_table_reads_from_it(store: Store) -> None:
    """The sentences of READ_FROM, as code, against takd.runs.states."""
    folder, now = make_run(store), time.time()
    for said in (None, "nonsense", *STATES):
        for wish in (False, True):
            for asked in (now, now - 60):
                write_run_file(folder, "status.json", {"state": said, "requested": asked})
                (folder / "cancel").unlink(missing_ok=True)
                if wish:
                    (folder / "cancel").touch()
                coming = said in (None, "starting") and asked == now
                for held in (False, True):
                    with run_lock(folder) if held else contextlib.nullcontext():
                        found = observe(store, folder)[0]
                    alive = "cancelling" if wish else said if said in ("queued", "running") and held else "starting"
                    gone = "cancelled" if wish else "lost"
                    wanted = said if said in states.FINAL else alive if held or coming else gone
                    assert found == wanted, (said, wish, coming, held)


# One event at a time


def test_of_several_who_resume_at_once_one_does(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_EPOCH_MS", "20")
    folder = make_run(store, state="running")

    def go_on(_: int) -> bool:
        with contextlib.suppress(RunError):
            resume(store, folder.name)
            return True
        return False

    with ThreadPoolExecutor(8) as people:
        assert sum(people.map(go_on, range(8))) == 1
    assert wait_end(store, folder.name).state == "done"


# All of them in any order


class Watched:
    """A store with its runs, what was seen of them last, and what must never change again."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="takd-machine-"))
        self.store = Store(self.folder / "store")
        self.seen: dict[str, str] = {}
        self.bytes: dict[str, str] = {}
        self.deleted: set[str] = set()

    def look(self, run_id: str = "", event: str = "") -> None:
        """Everything that must hold; `event` was just done to a run."""
        for name, before in list(self.seen.items()):
            allowed = after(before, event) if name == run_id else reachable(before)
            info = self.info(name)
            now = info.state if info else NONE
            assert now in allowed, f"{name}: {before} -> {now} after {event if name == run_id else 'nothing'}"
            self.seen[name] = now
            if info is not None:
                self._one(info)
        self._finished()
        self._trained_once()
        self._queue()

    def info(self, name: str) -> RunInfo | None:
        if name in self.deleted:
            with pytest.raises(RunError):
                run_info(self.store, name)
            return None
        return run_info(self.store, name)  # never raises

    def _one(self, info: RunInfo) -> None:
        assert info.state in STATES and info.stages_done <= info.stages_total
        assert (info.position is not None) == (info.state in ("queued", "starting"))
        assert bool(info.reason) or info.state not in ("failed", "lost")
        if info.state == "done":
            fresh = Store(self.store.root)
            assert info.keys and all(fresh.is_done(key) for key in info.keys)
            assert all(fresh.has_file(key, name) for key in info.keys for name in (fresh.result(key) or {})["files"])

    def _finished(self) -> None:
        """A finished stage stays, byte for byte."""
        for path in (self.store.root / "stages").glob("*/*/result.json"):
            key = path.parent.name
            whole = hashlib.sha256()
            for name in sorted(p.name for p in path.parent.iterdir()):
                if name in ("result.json", "stage.json", "events.jsonl", "weights.safetensors", "predictions.npz"):
                    whole.update((path.parent / name).read_bytes())
            assert self.bytes.setdefault(key, whole.hexdigest()) == whole.hexdigest(), f"{key} changed"
        gone = {key for key in self.bytes if not (self.store.own_folder(key) / "result.json").exists()}
        assert not gone, f"{gone} vanished"

    def _trained_once(self) -> None:
        """A stage has one owner: nobody finishes what another one has begun since."""
        path = self.store.root / "trained.log"
        owner: dict[str, str] = {}
        ends: list[str] = []
        for line in path.read_text().splitlines() if path.exists() else ():
            word, key, _, _, pid, *_ = line.split()
            if word == "start":
                owner[key] = pid
            else:
                assert owner[key] == pid, f"{key} was finished by {pid}, but {owner[key]} had it"
                ends.append(key)
        assert len(ends) == len(set(ends)), "a stage was finished twice"

    def _queue(self) -> None:
        """Places 1, 2, ..., each once, where nothing moves meanwhile. Who resumes goes to the back."""

        def waiting() -> list[tuple[str, int | None]]:
            runs = sorted(list_runs(self.store), key=lambda run: run.id)
            return [(run.id, run.position) for run in runs if run.position is not None]

        first, second = waiting(), waiting()
        if first == second:
            assert sorted(place or 0 for _, place in first) == list(range(1, len(first) + 1))

    def settle(self) -> None:
        """Whatever has happened: let everything go on, and it ends well."""
        deadline = time.monotonic() + 60.0
        while (left := [name for name in self.seen if name not in self.deleted]) and time.monotonic() < deadline:
            states_now = {name: run_info(self.store, name).state for name in left}
            if set(states_now.values()) <= {"done"}:
                break
            for name, state in states_now.items():
                if state in ("cancelled", "failed", "lost"):
                    with contextlib.suppress(RunError):
                        resume(self.store, name)
                        self.look(name, "resume")
            time.sleep(0.02)
        self.look()
        assert all(self.seen[name] == "done" for name in left), self.seen

    def end(self) -> None:
        for process in workers(self.store):
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def quick_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_TRAINER", "tests.runs.fake_trainer:run_stages")
    monkeypatch.setenv("TAKD_WARM_MINUTES", "0")
    monkeypatch.setenv("FAKE_EPOCH_MS", "15")
    monkeypatch.setattr(states, "START_SECONDS", START_SECONDS)


def machine() -> Any:
    """The machine's class: made here, so that this file can be read without hypothesis."""
    stateful = pytest.importorskip("hypothesis.stateful")
    some = pytest.importorskip("hypothesis.strategies")
    rule = stateful.rule

    class Runs(stateful.RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.all = Watched()

        def pick(self, number: int) -> str | None:
            left = sorted(name for name in self.all.seen if name not in self.all.deleted)
            return left[number % len(left)] if left else None

        def do(self, action: Any, event: str, number: int) -> None:
            name = self.pick(number)
            if name is not None:
                refused = False
                try:
                    action(self.all.store, name)
                except RunError:
                    refused = True
                if event == "delete" and not refused:
                    self.all.deleted.add(name)
                self.all.look("" if refused else name, event)

        @stateful.initialize(who=some.sampled_from(sorted(SPECS)), processes=some.sampled_from("12"))
        def first(self, who: str, processes: str) -> None:
            os.environ["TAKD_PROCESSES"] = processes
            self.somebody_asks(who)

        @rule(who=some.sampled_from(sorted(SPECS)))
        def somebody_asks(self, who: str) -> None:
            if len(self.all.seen) < MOST_RUNS:
                name = ask(self.all.store, SPECS[who], who)
                self.all.seen[name] = NONE
                self.all.look(name, "ask")

        @rule(seconds=some.sampled_from((0.05, 0.3, 0.6)))
        def it_goes_on(self, seconds: float) -> None:
            time.sleep(seconds)
            self.all.look()

        @rule(number=some.integers(0, 3), how=some.sampled_from(("kill", "kill", "terminate")), all_=some.booleans())
        def workers_die(self, number: int, how: str, all_: bool) -> None:
            found = sorted(workers(self.all.store), key=lambda process: process.pid)
            for process in found if all_ else found[number : number + 1]:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGTERM)
            self.all.look()

        @rule(number=some.integers(0, 3))
        def is_cancelled(self, number: int) -> None:
            self.do(cancel, "cancel", number)

        @rule(number=some.integers(0, 3))
        def goes_on_again(self, number: int) -> None:
            self.do(resume, "resume", number)

        @rule(number=some.integers(0, 3))
        def two_let_it_go_on(self, number: int) -> None:
            def twice(store: Store, name: str) -> None:
                with ThreadPoolExecutor(2) as people:
                    answers = [people.submit(resume, store, name) for _ in range(2)]
                refused = [answer.exception() for answer in answers if answer.exception() is not None]
                assert refused, "both were let through"
                if len(refused) == 2:
                    raise RunError("refused")

            self.do(twice, "resume", number)

        @rule(number=some.integers(0, 3))
        def is_deleted(self, number: int) -> None:
            self.do(delete, "delete", number)

        def teardown(self) -> None:
            try:
                self.all.settle()
            finally:
                self.all.end()

    return Runs


def run_machine(examples: int, steps: int, *, chance: bool) -> None:
    hypothesis = pytest.importorskip("hypothesis")
    stateful = pytest.importorskip("hypothesis.stateful")
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=not chance,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],  # when the system runs whom is not repeated, so nothing can be shrunk
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    stateful.run_state_machine_as_test(machine(), settings=settings)


@pytest.mark.faults
@pytest.mark.usefixtures("quick_workers")
def test_no_run_leaves_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_PROCESSES", "1")  # set by each example, put back here
    run_machine(5, 10, chance=False)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.usefixtures("quick_workers")
def test_no_run_leaves_the_table_however_long_one_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_PROCESSES", "1")
    run_machine(80, 30, chance=True)
