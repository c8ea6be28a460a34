"""The queue: its order, who may change it, when a run starts, what a look costs, workers that hang while they wait."""

from __future__ import annotations

import os
import signal
import statistics
import time
from dataclasses import replace
from pathlib import Path

import pytest

from takd.plan import build_plan
from takd.runs import submit as submit_module
from takd.runs.errors import RunError
from takd.runs.locks import queue_lock
from takd.runs.people import MACHINE, Person
from takd.runs.queue import move, queue
from takd.runs.signs import SILENT_SECONDS
from takd.runs.states import run_info, waiting_before, write_run_file
from takd.runs.store import Store
from takd.runs.submit import cancel, delete, resume, submit, write_plan
from takd.runs.tickets import ticket_of, tickets, touch_ticket
from tests.runs.conftest import CHAIN, DATA, LONE, lead_of, seeded, wait_end, wait_for, workers
from tests.runs.fake_trainer import notes
from tests.runs.test_policy import ADA, BEN, make_run

Env = pytest.MonkeyPatch


def line(store: Store) -> list[str]:
    return [entry.run.id[-1] for entry in queue(store) if entry.run.position is not None]


def ticket_path(store: Store, run_id: str) -> Path:
    ticket = ticket_of(store.root, run_id)
    assert ticket is not None
    return store.root / "queue" / ticket.name


def waiting(store: Store, *owners: Person) -> list[str]:
    """Runs 0, 1, 2, ... that wait, in this order."""
    return [make_run(store, f"20260101-000000-000{n}", who.id) for n, who in enumerate(owners)]


def test_whoever_has_the_machine_moves_runs_anywhere(store: Store) -> None:
    runs = waiting(store, ADA, BEN, ADA, MACHINE)
    assert line(store) == ["0", "1", "2", "3"]
    for run, to, expected in [
        (3, "front", "3012"),
        (3, "up", "3012"),
        (3, "down", "0312"),
        (0, "back", "3120"),
        (2, "up", "3210"),
        (0, "down", "3210"),
        (1, "front", "1320"),
    ]:
        move(store, runs[run], to)
        assert line(store) == list(expected), (run, to)
    assert [run_info(store, run).position for run in runs] == [4, 1, 3, 2]


def test_others_are_never_overtaken(store: Store) -> None:
    """Whatever Ada does, Ben's runs start no later than they would have."""
    runs = waiting(store, ADA, BEN, ADA, BEN, ADA)
    moves = {entry.run.id[-1]: entry.moves for entry in queue(store, ADA)}
    assert moves["0"] == ("down", "back") and moves["1"] == () and moves["2"] == ("front", "up", "down", "back")
    assert moves["4"] == ("front", "up")
    ahead = {run: set(line(store)[: line(store).index(run)]) for run in ("1", "3")}
    for run in (4, 2, 0, 4):
        for to in ("up", "front", "down", "back", "front"):
            move(store, runs[run], to, ADA)
            for other in ("1", "3"):
                before = [name for name in line(store)[: line(store).index(other)] if name in "024"]
                assert len(before) <= len([name for name in ahead[other] if name in "024"]), (run, to)
    assert [name for name in line(store) if name in "13"] == ["1", "3"]
    with pytest.raises(RunError, match="belongs to"):
        move(store, runs[1], "back", ADA)


def test_what_cannot_be_moved(store: Store) -> None:
    (run,) = waiting(store, MACHINE)
    move(store, run, "back")
    assert line(store) == ["0"]
    with pytest.raises(RunError, match="no place in the queue"):
        move(store, run, "sideways")
    write_run_file(store.root / "runs" / run, "status.json", {"state": "done"})
    with pytest.raises(RunError, match="does not wait"):
        move(store, run, "front")
    with pytest.raises(RunError, match="no run"):
        move(store, "../x", "front")


def test_workers_follow_a_changed_order(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("FAKE_EPOCH_MS", "60000")
    first = submit(store, LONE, datasets=DATA)
    wait_for(lambda: run_info(store, first).state == "running")
    monkeypatch.setenv("FAKE_EPOCH_MS", "1")
    second, third, fourth = (submit(store, seeded(LONE, seed), datasets=DATA) for seed in (7, 8, 9))
    wait_for(lambda: all(run_info(store, run).state == "queued" for run in (second, third, fourth)))
    assert [entry.run.id for entry in queue(store)] == [first, second, third, fourth]
    move(store, fourth, "front")
    move(store, second, "down")
    cancel(store, first)
    assert wait_end(store, second).state == wait_end(store, third).state == wait_end(store, fourth).state == "done"
    assert [row[2] for row in notes(store, "end")] == ["9", "8", "7"]
    wait_for(lambda: not workers(store))
    assert tickets(store.root) == []


def test_a_resumed_run_goes_behind_those_that_wait(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setattr(submit_module, "start_worker", lambda *_: None)
    first, _, _ = waiting(store, ADA, BEN, ADA)
    write_run_file(store.root / "runs" / first, "status.json", {"state": "cancelled"})
    resume(store, first, ADA)
    assert line(store) == ["1", "2", "0"]
    write_run_file(store.root / "runs" / first, "status.json", {"state": "cancelled"})
    delete(store, first, ADA)
    assert [ticket.run_id[-1] for ticket in tickets(store.root)] == ["1", "2"]


def test_nobody_deletes_a_run_while_it_is_resumed(store: Store, monkeypatch: Env) -> None:
    (run_id,) = waiting(store, ADA)
    write_run_file(store.root / "runs" / run_id, "status.json", {"state": "cancelled"})
    monkeypatch.setattr(submit_module, "_PATIENCE", 0.05)
    with queue_lock(store.root), pytest.raises(RunError, match="try again"):  # as who resumes a run holds it
        delete(store, run_id, ADA)
    assert run_info(store, run_id).state == "cancelled"
    delete(store, run_id, ADA)
    with pytest.raises(RunError, match="no run"):
        resume(store, run_id, ADA)


def test_a_disk_that_takes_nothing_is_said(store: Store, monkeypatch: Env) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    (run_id,) = waiting(store, ADA)
    with monkeypatch.context() as patch:
        patch.setattr(submit_module.files, "write_atomic", full)
        with pytest.raises(RunError, match=r"could not be cancelled \(No space"):
            cancel(store, run_id, ADA)
    write_run_file(store.root / "runs" / run_id, "status.json", {"state": "cancelled"})
    for name in ("write_run_file", "draw_ticket"):
        with monkeypatch.context() as patch:
            patch.setattr(submit_module, name, full)
            with pytest.raises(RunError, match=r"could not be resumed \(No space"):
                resume(store, run_id, ADA)
        write_run_file(store.root / "runs" / run_id, "status.json", {"state": "cancelled"})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(RunError, match=r"could not be deleted \(No space"):
            delete(store, run_id, ADA)
    delete(store, run_id, ADA)  # its lock is free


def test_when_a_run_starts(store: Store) -> None:
    runs = waiting(store, MACHINE, MACHINE, MACHINE)
    for run, spec in zip(runs, (CHAIN, replace(CHAIN, temperature=7.0), replace(CHAIN, temperature=7.0)), strict=True):
        write_plan(store, store.root / "runs" / run, build_plan(spec, DATA["digits"]))
    first, second, third = queue(store)
    assert (first.starts_in, first.left is not None) == (0.0, True)
    assert first.left is not None and second.left is not None and third.left is not None
    assert second.starts_in == pytest.approx(first.left)
    assert third.starts_in == pytest.approx(first.left + second.left)
    assert second.left < first.left and third.left == 0.0  # what they share is trained once
    (store.root / "runs" / runs[1] / "plan.json").unlink()
    assert [entry.starts_in is None for entry in queue(store)] == [False, False, True]


def test_a_look_at_the_queue_costs_the_same_in_a_large_library(store: Store) -> None:
    runs = waiting(store, ADA, BEN, ADA)

    def milliseconds() -> float:
        took = []
        for _ in range(30):
            begin = time.perf_counter()
            next(waiting_before(store, runs[-1]), None)
            took.append(1000 * (time.perf_counter() - begin))
        return statistics.median(took)

    small = milliseconds()
    for n in range(300):
        make_run(store, f"20250101-000000-{n:04x}", state="done")
    large = milliseconds()
    print(f"a look: {small:.2f} ms with 3 runs, {large:.2f} ms with 303")
    assert large < max(5 * small, 2.0)


# A worker that hangs while it waits


@pytest.mark.faults
def test_a_worker_that_hangs_in_the_queue_is_passed_over(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("FAKE_EPOCH_MS", "60000")
    first = submit(store, LONE, datasets=DATA)
    wait_for(lambda: run_info(store, first).state == "running")
    monkeypatch.setenv("FAKE_EPOCH_MS", "1")
    hung, behind = submit(store, seeded(LONE, 7), datasets=DATA), submit(store, seeded(LONE, 8), datasets=DATA)
    wait_for(lambda: all(run_info(store, run).state == "queued" for run in (hung, behind)))
    lead = lead_of(store, hung)
    lead.send_signal(signal.SIGSTOP)
    try:
        past = time.time() - SILENT_SECONDS - 5  # as if it had been stopped a while ago
        os.utime(ticket_path(store, hung), (past, past))
        info = run_info(store, hung)
        assert (info.state, info.cause) == ("queued", "quiet") and f"process {lead.pid}" in info.reason
        assert run_info(store, behind).position == 1
        cancel(store, first)
        assert wait_end(store, behind).state == "done"
        assert run_info(store, hung).state == "queued"
    finally:
        lead.send_signal(signal.SIGCONT)
    assert wait_end(store, hung).state == "done"  # it takes its place again


def test_a_waiting_worker_gives_signs_of_life(store: Store) -> None:
    (run,) = waiting(store, MACHINE)
    path = ticket_path(store, run)
    place = tickets(store.root)[0].place
    os.utime(path, (1, 1))
    assert tickets(store.root)[0].silent > SILENT_SECONDS
    touch_ticket(store.root, run)
    assert tickets(store.root)[0].silent < 5 and tickets(store.root)[0].place == place
    path.unlink()
    touch_ticket(store.root, run)  # somebody deleted it: the run goes behind the others
    assert [ticket.run_id for ticket in tickets(store.root)] == [run]


def test_moving_does_not_wake_a_worker_that_hangs(store: Store) -> None:
    runs = waiting(store, MACHINE, MACHINE)
    os.utime(ticket_path(store, runs[0]), (1, 1))
    move(store, runs[1], "front")
    assert line(store) == ["1", "0"]
    assert [ticket.silent > SILENT_SECONDS for ticket in tickets(store.root)] == [False, True]


def test_foreign_tickets_harm_nothing(store: Store, tmp_path: Path) -> None:
    runs = waiting(store, MACHINE, MACHINE)
    name = "20260101-000000-0008"
    for foreign in (
        "gone.1",
        "..1",
        "UPPER.1",
        "x.txt",
        f"{name}.1.2",
        f"{name}.-1",
        f"{runs[1]}.99999999999999999999",
    ):
        (store.root / "queue" / foreign).write_text("{}")
    (store.root / "queue" / f"{name}.7").symlink_to(tmp_path / "nowhere")
    assert line(store) == ["0", "1"]
    move(store, runs[1], "front")
    assert line(store)[0] == "1"
    for path in (store.root / "queue").iterdir():
        path.unlink()
    assert line(store) == [] and run_info(store, runs[0]).position == 1  # no ticket: still a run
