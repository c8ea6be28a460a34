"""The idle worker: it takes runs over at once, takes none twice, loses none, and goes when it should."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from takd.plan import build_plan
from takd.runs import warm as warm_module
from takd.runs.launch import start_detached, worker_environment
from takd.runs.locks import is_held, run_lock, try_acquire
from takd.runs.states import log_tail, read_status, run_folder, run_info
from takd.runs.store import REPO, Store
from takd.runs.submit import resume
from takd.runs.warm import Idle, Kind, Order, hand_over, is_warm, this_kind, warm
from takd.runs.worker import Lead, do_run
from tests.runs.conftest import CHAIN, DATA, LONE, seeded, wait_end, wait_for, workers
from tests.runs.fake_trainer import notes
from tests.runs.test_runs import ask, make_run

Env = pytest.MonkeyPatch
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here, so no idle worker")


@pytest.fixture(autouse=True)
def one_process(store: Store, monkeypatch: Env) -> Iterator[None]:
    monkeypatch.setenv("TAKD_PROCESSES", "1")
    for name, value in worker_environment(store).items():
        if name.startswith(("OMP_", "GOMP_")):
            monkeypatch.setenv(name, value)  # this process plays the idle worker in some tests
    monkeypatch.setattr(warm_module, "ANSWER_SECONDS", 5.0)  # of a busy machine; what is waited for is seen at once
    yield
    warm_module._kept.clear()
    warm_module._started.clear()


def idle_one(store: Store) -> psutil.Process:
    """The idle worker, once it listens."""

    def found() -> list[psutil.Process]:
        """A worker being killed has no command line any more while its last thread still holds lock and bell."""
        return workers(store, "--warm") if warm(store) and listens(store) else []

    wait_for(lambda: len(found()) == 1)
    return found()[0]


def listens(store: Store) -> bool:
    bell = warm_module._open_bell(store)
    if bell is None:
        return False
    os.close(bell)
    return is_warm(store)


def pid_of(store: Store, run_id: str) -> int:
    return int(read_status(run_folder(store, run_id))["pid"])


def test_runs_are_handed_over_one_after_another(store: Store) -> None:
    process = idle_one(store)
    assert not (store.root / "slots").exists() and warm(store) and len(workers(store)) == 1
    open_files = []
    for seed in (1, 2, 3):
        run_id = ask(store, seeded(CHAIN, seed))
        assert wait_end(store, run_id).state == "done" and pid_of(store, run_id) == process.pid
        assert "is done" in log_tail(store, run_id) and f"run {run_id} on cpu" in log_tail(store, run_id)
        wait_for(lambda: listens(store))
        assert not is_held(run_folder(store, run_id) / "lock") and not is_held(store.root / "slots" / "cpu.lock")
        open_files.append(process.num_fds())
    assert open_files[1] == open_files[2]
    trained = [key for key, *_ in notes(store, "start")]
    assert len(trained) == len(set(trained)) and [one.pid for one in workers(store)] == [process.pid]
    assert list((store.root / "warm" / "orders").iterdir()) == []


def test_a_run_that_is_replaced_stops_and_its_worker_does_the_next_one(store: Store, monkeypatch: Env) -> None:
    process = idle_one(store)
    monkeypatch.setattr("takd.runs.submit._STOPS_WITHIN", 5.0)
    monkeypatch.setenv("TAKD_FAKE_MS", "60000")
    first = ask(store, seeded(LONE, 1))
    wait_for(lambda: run_info(store, first).current)
    monkeypatch.delenv("TAKD_FAKE_MS")
    second = ask(store, seeded(LONE, 2), replaces=first)
    assert wait_end(store, second).state == "done" and run_info(store, first).state == "cancelled"
    assert pid_of(store, first) == pid_of(store, second) == process.pid
    wait_for(lambda: listens(store))
    third = ask(store, seeded(LONE, 1), replaces="20200101-000000-0000")  # one that is not there is no hindrance
    assert wait_end(store, third).state == "done"
    assert wait_end(store, ask(store, seeded(LONE, 3), replaces=second)).state == "done"
    assert run_info(store, second).state == "done"  # what had ended stays as it was


def test_it_takes_over_the_settings_of_whoever_asks(store: Store, monkeypatch: Env) -> None:
    process = idle_one(store)
    monkeypatch.setenv("TAKD_PROCESSES", "2")
    monkeypatch.setenv("TAKD_TRAINER", "no_such_package:run_stages")
    run_id = ask(store, CHAIN)
    info = wait_end(store, run_id)
    assert (info.processes, info.cause) == (2, "missing-package") and pid_of(store, run_id) == process.pid


def test_only_one_is_idle_whoever_starts_it(store: Store) -> None:
    (store.root / "warm").mkdir(parents=True)
    both = [start_detached(store, ["--warm"], store.root / "log.txt") for _ in range(4)]
    wait_for(lambda: [one.poll() for one in both].count(3) == 3)
    wait_for(lambda: listens(store))
    assert len(workers(store)) == 1


def test_after_a_cold_start_the_worker_stays_where_one_is_wanted(store: Store) -> None:
    first = ask(store, seeded(LONE, 1))
    wait_end(store, first)
    wait_for(lambda: not workers(store))  # a command line wants none
    warm_module._kept.add(store.root)
    second = ask(store, seeded(LONE, 2))
    wait_end(store, second)
    wait_for(lambda: listens(store))
    third = ask(store, seeded(LONE, 3))
    assert wait_end(store, third).state == "done" and pid_of(store, second) == pid_of(store, third)


def test_it_ends_itself_when_nobody_comes(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_WARM_MINUTES", "0.005")
    assert warm(store)
    wait_for(lambda: listens(store))
    wait_for(lambda: not workers(store))
    assert not is_warm(store)
    monkeypatch.setenv("TAKD_WARM_MINUTES", "0")
    assert not warm(store) and not hand_over(store, "x")
    monkeypatch.setenv("TAKD_WARM_MINUTES", "soon")
    assert warm_module.idle_minutes() == 10.0


def test_it_goes_with_its_store_and_with_a_signal(store: Store) -> None:
    idle_one(store).send_signal(signal.SIGTERM)
    wait_for(lambda: not workers(store))
    idle_one(store)
    shutil.rmtree(store.root)
    wait_for(lambda: not workers(store))


def test_a_trainer_that_cannot_be_imported_ends_it(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_TRAINER", "no_such_package:run_stages")
    assert warm(store)
    wait_for(lambda: not workers(store))
    assert wait_end(store, ask(store, LONE)).cause == "missing-package"


def test_it_warms_up_before_it_is_asked(store: Store, monkeypatch: Env, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom tests.runs.fake_trainer import run_stages\n"
        f"def warm_up():\n    Path({str(tmp_path / 'warmed')!r}).touch()\n    raise ValueError('not so warm')\n"
    )
    (tmp_path / "warm_trainer.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TAKD_TRAINER", "warm_trainer:run_stages")
    process = idle_one(store)
    wait_for((tmp_path / "warmed").exists)
    run_id = ask(store, LONE)  # what went wrong while warming up is no reason to refuse
    assert wait_end(store, run_id).state == "done" and pid_of(store, run_id) == process.pid
    assert "not so warm" in warm_module.warm_log(store).read_text()


@pytest.mark.faults
def test_killed_while_idle_or_at_work_it_loses_nothing(store: Store, monkeypatch: Env) -> None:
    process = idle_one(store)
    process.kill()
    process.wait()
    first = ask(store, seeded(LONE, 1))
    assert wait_end(store, first).state == "done"
    wait_for(lambda: listens(store))
    monkeypatch.setenv("TAKD_FAKE_MS", "60000")
    second = ask(store, seeded(LONE, 2))
    wait_for(lambda: run_info(store, second).current)
    psutil.Process(pid_of(store, second)).kill()
    assert wait_end(store, second).state == "lost"
    monkeypatch.delenv("TAKD_FAKE_MS")
    resume(store, second)
    assert wait_end(store, second).state == "done"


# This process plays the idle worker, to stop at any line of it


def play(store: Store, kind: Kind, serve: Callable[[Order | None], None]) -> threading.Thread:
    """Be the idle worker in a thread until the first order, which `serve` gets."""
    idle = Idle.begin(store, kind)
    assert idle is not None and Idle.begin(store, kind) is None
    thread = threading.Thread(target=lambda: serve(idle.wait()), daemon=True)
    thread.start()
    return thread


@pytest.mark.faults
def test_killed_between_taking_the_order_and_the_first_word_the_run_is_started_again(store: Store) -> None:
    taken: list[str] = []

    def die(order: Order | None) -> None:
        assert order is not None
        taken.append(order.run_id)
        order.lock.release()  # as the system does

    thread = play(store, this_kind(), die)
    run_id = ask(store, LONE)
    thread.join(10)
    assert taken == [run_id] and wait_end(store, run_id).state == "done"
    assert len(notes(store, "start")) == 1


@pytest.mark.parametrize("kind", ["code", "environment"])
def test_another_program_or_environment_is_refused(store: Store, kind: str) -> None:
    got: list[Order | None] = []
    thread = play(store, replace(this_kind(), **{kind: "another"}), got.append)
    run_id = ask(store, LONE)
    assert wait_end(store, run_id).state == "done" and pid_of(store, run_id) != os.getpid()
    if kind == "code":  # it will never be right again
        thread.join(10)
        assert got == [None] and not is_warm(store)
    else:
        assert got == [] and is_warm(store)


def test_libraries_settings_matter_and_a_terminal_does_not(store: Store, monkeypatch: Env) -> None:
    before = this_kind()
    monkeypatch.setenv("TERM", "other")
    monkeypatch.setenv("TAKD_PROCESSES", "7")
    assert this_kind() == before
    for name in ("CUDA_VISIBLE_DEVICES", "https_proxy"):
        with monkeypatch.context() as changed:
            changed.setenv(name, "3")
            assert this_kind() != before and this_kind().code == before.code
    assert this_kind() == before
    monkeypatch.setattr(sys, "prefix", "/another/python")
    assert this_kind() != before


def test_a_worker_looks_for_images_where_whoever_asks_does(store: Store, monkeypatch: Env, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # a worker works in the folder of the program
    monkeypatch.setenv("TAKD_DATA", "images")
    assert worker_environment(store)["TAKD_DATA"] == str(tmp_path / "images")
    monkeypatch.setenv("TAKD_DATA", "~/images")
    assert worker_environment(store)["TAKD_DATA"] == str(Path.home() / "images")
    monkeypatch.delenv("TAKD_DATA")
    assert "TAKD_DATA" not in worker_environment(store)


def test_an_order_is_taken_away_once(store: Store) -> None:
    """Orders withdrawn while the worker is about to take them are not done by it."""
    folder = make_run(store, state="starting", requested=time.time())
    idle = Idle.begin(store, this_kind())
    assert idle is not None
    order = store.root / "warm" / "orders" / f"{folder.name}.json"
    row = {"schema": 1, "run": folder.name, "asked": time.time(), "settings": {}}
    order.write_text(json.dumps({**row, "environment": this_kind().environment}))
    assert warm_module._withdraw(order) and not warm_module._withdraw(order)
    assert idle._take(order) is None and not is_held(folder / "lock")
    order.write_text(json.dumps({**row, "environment": this_kind().environment, "settings": {"TAKD_A": "1", "X": "2"}}))
    taken = idle._take(order)
    assert taken is not None and taken.settings == {"TAKD_A": "1"} and is_held(folder / "lock")
    assert not order.exists()
    taken.lock.release()
    idle.end()


@pytest.mark.parametrize(
    "change",
    [
        {"asked": 0.0},
        {"asked": "now"},
        {"run": "../x"},
        {"run": "20200101-000000-0000"},
        {"run": 7},
        {"schema": 2},
        {"environment": "x"},
    ],
    ids=str,
)
def test_orders_that_make_no_sense_are_refused(store: Store, change: dict[str, object]) -> None:
    folder = make_run(store, state="starting", requested=time.time())
    idle = Idle.begin(store, this_kind())
    assert idle is not None
    order = store.root / "warm" / "orders" / "a.json"
    row = {"schema": 1, "run": folder.name, "asked": time.time(), "environment": this_kind().environment}
    for text in (json.dumps({**row, **change}), "{torn", "[]"):
        order.write_text(text)
        assert idle._take(order) is None and not order.exists() and not is_held(folder / "lock")
    idle.end()
    order.write_text(json.dumps(row))  # left by somebody who asked a worker that died
    torn = order.with_name(".b.json.1.0a1b2c3d.tmp")
    torn.touch()
    again = Idle.begin(store, this_kind())
    assert again is not None and not order.exists() and not torn.exists()
    again.end()


def test_a_run_somebody_works_on_is_not_taken(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setattr(warm_module, "ANSWER_SECONDS", 0.3)
    folder = make_run(store, state="starting", requested=time.time())
    thread = play(store, this_kind(), lambda order: None)
    with run_lock(folder):
        assert not hand_over(store, folder.name) or is_held(folder / "lock")
    assert not list((store.root / "warm" / "orders").iterdir())
    assert thread.is_alive() and try_acquire(run_lock(folder))


def test_a_worker_begins_no_run_that_has_ended_since(store: Store) -> None:
    run_id = ask(store, LONE)
    wait_end(store, run_id)
    wait_for(lambda: not workers(store))
    command = [sys.executable, "-m", "takd.runs.worker", "--store", str(store.root), "--run", run_id]
    assert subprocess.run(command, cwd=REPO, timeout=30, check=False).returncode == 3


@pytest.mark.parametrize(
    ("code", "asked", "then"), [(0, True, "ends"), (4, True, "ends"), (0, False, "stays"), (5, False, "replaced")]
)
def test_what_becomes_of_a_worker_after_a_run(
    store: Store, monkeypatch: Env, code: int, asked: bool, then: str
) -> None:
    """Also one that the system asked to end when its run was as good as done goes."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("takd.runs.worker.memory_bytes", lambda: 0)

    def run(lead: Lead) -> int:
        if asked:
            lead.stop._on_signal()
        return code

    monkeypatch.setattr(Lead, "run", run)
    folder = make_run(store, state="starting", requested=time.time())
    lock = run_lock(folder)
    assert try_acquire(lock)
    assert do_run(store, folder.name, lock, "cpu") == (code, then) and not is_held(folder / "lock")


def test_helpers_end_before_the_slot_is_free_when_the_lead_fails(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("takd.runs.worker.needed", lambda *_: {"a"})
    monkeypatch.setattr("takd.runs.worker.clear_failures", lambda *_: None)
    monkeypatch.setattr(Lead, "_stages", lambda _: build_plan(LONE, DATA["digits"]).stages)
    monkeypatch.setattr(Lead, "_prepare", lambda *_: None)
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    def start(lead: Lead, *_: object) -> None:
        lead.helpers = [helper]

    def full(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(Lead, "_start_training", start)
    monkeypatch.setattr("takd.runs.worker.train_all", full)
    folder = make_run(store, state="starting", requested=time.time())
    try:
        assert Lead(store, folder.name, "cpu", 2).run() == 5
        assert helper.poll() is not None and not is_held(store.root / "slots" / "cpu.lock")
        assert read_status(folder)["class"] == "disk-full"
    finally:
        helper.kill()


def test_where_nobody_listens_nothing_is_left_behind(store: Store) -> None:
    folder = make_run(store, state="starting", requested=time.time())
    assert not hand_over(store, folder.name) and not (store.root / "warm").exists()
    (store.root / "warm" / "orders").mkdir(parents=True)
    (store.root / "warm" / "bell").write_bytes(b"no FIFO")
    assert not hand_over(store, folder.name)
    assert (store.root / "warm" / "bell").read_bytes() == b"no FIFO"
