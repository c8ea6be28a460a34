"""The loop inside one process: what is handed to the trainer together, and what becomes of failures."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from takd.plan import build_plan
from takd.runs.failures import failure
from takd.runs.locks import stage_lock, try_acquire
from takd.runs.loop import Left, Reporter, can_teach, needed, titles, train_all
from takd.runs.store import Store
from takd.stage import StageSpec
from tests.runs.conftest import CHAIN, DATA, LADDER, wait_for
from tests.runs.fake_trainer import notes

Env = pytest.MonkeyPatch
STAGES = build_plan(replace(LADDER, seeds=3), DATA["digits"]).stages


@pytest.fixture(autouse=True)
def quick(monkeypatch: Env) -> None:
    monkeypatch.setenv("FAKE_EPOCH_MS", "0")


def train(store: Store, stages: Mapping[str, StageSpec] = STAGES, processes: int = 1, **more: Any) -> list[str]:
    """Train everything; what the loop said."""
    said: list[str] = []
    options = {"device": "cpu", "should_stop": lambda: False, "say": said.append, **more}
    assert train_all(store, stages, processes=processes, **options)
    return said


def sizes(store: Store) -> dict[str, int]:
    """How many stages each one was trained with."""
    return {key: int(together) for key, _, _, _, together, _ in notes(store, "end")}


def test_stages_of_one_network_whose_teachers_are_done_go_together(store: Store) -> None:
    train(store)
    together = sizes(store)
    assert sorted(together) == sorted(STAGES)
    first = [key for key, stage in STAGES.items() if not stage.teachers and stage.network == "mlp-256"]
    assert len(first) == 3 and all(together[key] == 3 for key in first)
    # the lone student and those of every teacher: all that wait for nothing else
    assert max(together.values()) > 3
    learners = Counter(teacher for stage in STAGES.values() for teacher in stage.teachers)
    assert {key: int(pupils) for key, *_, pupils in notes(store, "end")} == {key: learners[key] for key in STAGES}


def test_networks_that_fill_the_processor_go_alone(store: Store) -> None:
    train(store, device="cuda:0")  # where it is the MLPs that are trained one by one
    assert set(sizes(store).values()) == {1}


def test_every_process_gets_its_share(store: Store) -> None:
    one = next(stage for stage in STAGES.values() if not stage.teachers)
    lone = {(stage := replace(one, seed=seed)).key: stage for seed in range(40)}
    train(store, lone, processes=2)
    assert sorted(Counter(sizes(store).values())) == [4, 16, 20]  # 20 of 40, 16 of the 20 left, the rest


def test_the_same_bytes_together_and_alone(store: Store) -> None:
    train(store)
    alone = Store(store.root.with_name("alone"))
    for key, stage in STAGES.items():
        alone.ensure(stage)
        train(alone, {key: stage})
    assert set(sizes(alone).values()) == {1}
    for key in STAGES:
        names = sorted((store.result(key) or {})["files"])
        assert [store.read_file(key, name) for name in names] == [alone.read_file(key, name) for name in names]


def test_stages_that_somebody_else_trains_are_left_out(store: Store) -> None:
    students = [key for key, stage in STAGES.items() if stage.network == "mlp-8" and not stage.teachers]
    lock = stage_lock(store.ensure(STAGES[students[0]]))
    assert try_acquire(lock)
    over = threading.Event()
    thread = threading.Thread(target=lambda: (train(store), over.set()), daemon=True)
    thread.start()
    wait_for(lambda: len(notes(store, "end")) == len(STAGES) - 1)
    assert not store.is_done(students[0]) and store.is_done(students[1]) and not over.is_set()
    lock.release()
    wait_for(over.is_set)
    assert store.is_done(students[0]) and sizes(store)[students[0]] == 1


def test_one_failure_leaves_the_others_of_its_batch_alone(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("FAKE_FAIL", "mlp-256:diverged:1")
    said = train(store)
    failed = {key for key, stage in STAGES.items() if stage.network == "mlp-256" and stage.seed == 1}
    assert {key for key in STAGES if failure(store, key)} == failed and len(failed) == 1
    stuck = {key for key, stage in STAGES.items() if stage.teachers and stage.teachers[0] in failed}
    stuck |= {key for key, stage in STAGES.items() if set(stage.teachers) & stuck}
    assert {key for key in STAGES if not store.is_done(key)} == failed | stuck
    assert any("mlp-256, seed 1: failed (diverged)" in line for line in said)


def test_an_error_of_a_batch_is_not_blamed_on_all_of_it(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("FAKE_FAIL", "mlp-256:together")
    said = train(store)
    assert all(store.is_done(key) for key in STAGES) and not any(failure(store, key) for key in STAGES)
    together = sizes(store)
    assert {together[key] for key, stage in STAGES.items() if stage.network == "mlp-256"} == {1}
    assert any("one by one" in line for line in said)


def test_a_trainer_that_forgets_a_stage_is_found_out(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_TRAINER", "tests.runs.test_loop:forget")
    stages = build_plan(CHAIN, DATA["digits"]).stages
    train(store, stages)
    lone = {key for key, stage in stages.items() if not stage.teachers}
    found = {key: failure(store, key) for key in lone}
    assert all(row is not None and "without a complete result" in row.why for row in found.values())


def forget(*_: object, **__: object) -> dict[str, Exception]:
    return {}


def test_what_is_done_is_remembered_and_what_others_finish_is_seen(store: Store) -> None:
    left, other = Left(store, STAGES), Store(store.root)
    assert list(left.look()) == list(STAGES)
    train(other)
    assert left.look() == {} and needed(store, STAGES) == set()


def test_a_damaged_teacher_is_needed_again_only_by_those_who_still_learn(store: Store) -> None:
    train(store)
    teacher = next(key for key, stage in STAGES.items() if stage.network == "mlp-256")
    pupil = next(key for key, stage in STAGES.items() if stage.teachers == (teacher,))
    (store.own_folder(teacher) / "weights.safetensors").write_bytes(b"harmed")
    assert not can_teach(store, teacher, STAGES[pupil]) and needed(store, STAGES) == set()
    (store.own_folder(pupil) / "result.json").unlink()
    assert needed(store, STAGES) == {teacher, pupil}
    train(store)
    assert can_teach(store, teacher, STAGES[pupil]) and store.is_done(pupil)


def test_what_trains_at_once_is_named_by_network() -> None:
    students = [key for key, stage in STAGES.items() if stage.network == "mlp-8" and stage.teachers]
    teacher = next(key for key, stage in STAGES.items() if stage.network == "mlp-256")
    assert titles([*students[:2], teacher], STAGES) == ["2 trainings of mlp-8", "mlp-256, seed 0"]
    assert titles([], STAGES) == []


def test_progress_is_written_seldom_and_from_any_thread(store: Store, monkeypatch: Env) -> None:
    now = [0.0]
    monkeypatch.setattr("takd.runs.loop.time.monotonic", lambda: now[0])
    written: list[str] = []
    monkeypatch.setattr(Store, "write_progress", lambda _, key, row: written.append(f"{key}{row['epoch']}"))
    report = Reporter(store)
    for epoch in range(100):
        report("a", {"epoch": epoch})
        report("b", {"epoch": epoch})
    assert written == []
    now[0] = 0.6
    report("a", {"epoch": 100})
    assert written == ["a100", "b99"]  # the latest of each
    written.clear()
    threads = [threading.Thread(target=_report_often, args=(report, str(n), now)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report.flush()
    assert {line for line in written if line.endswith("-999")} == {f"{n}-999" for n in range(8)}


def _report_often(report: Reporter, name: str, now: list[float]) -> None:
    for epoch in range(1000):
        now[0] += 0.1
        report(f"{name}-", {"epoch": epoch})
