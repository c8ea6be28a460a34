"""Replay: the clock worked out by hand, and the store as it was at each tick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from takd.analysis.frames import arm_frame, chain_frame, progress_frame
from takd.analysis.replay import Replayed, is_replayed, timeline
from takd.data.catalogue import available_datasets
from takd.plan import Plan, build_plan
from takd.runs.store import Store, open_store
from takd.starts import ExperimentSpec

CACHED = Path(__file__).parents[2] / "cached_runs"
SPEC = ExperimentSpec(seeds=2)  # plain-10 > plain-4 > plain-2, six epochs each
TICKS = 18


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch) -> tuple[Plan, Store]:
    monkeypatch.setenv("TAKD_CACHED", str(CACHED))
    return build_plan(SPEC, available_datasets()["cifar10"]), open_store()


def then(cached: tuple[Plan, Store], tick: int) -> tuple[Plan, Replayed]:
    plan, store = cached
    return plan, Replayed(store, plan, timeline(plan, plan.chosen), tick)


def test_each_training_begins_when_its_teachers_are_done(cached: Any) -> None:
    plan, _ = cached
    clock = timeline(plan, plan.chosen)
    assert [(hop.network, hop.teacher, hop.role, hop.start, hop.end) for hop in clock.hops] == [
        ("plain-10", "", "teacher", 0, 6),
        ("plain-4", "plain-10", "assistant", 6, 12),
        ("plain-2", "plain-4", "student", 12, 18),
    ]
    assert clock.length == TICKS and clock.hop_at(6).network == "plain-10" and clock.hop_at(7).network == "plain-4"
    for key, stage in plan.stages.items():
        assert all(clock.ends[teacher] <= clock.starts[key] for teacher in stage.teachers)


def test_rows_come_in_one_epoch_at_a_time_and_results_at_the_end(cached: Any) -> None:
    plan, store = cached
    assistant = plan.chains_of(plan.chosen)[0].keys[1]
    for tick, rows, done in ((0, 0, False), (6, 0, False), (7, 1, False), (11, 5, False), (12, 6, True), (18, 6, True)):
        _, past = then(cached, tick)
        seen = past.read_events(assistant)[0]
        assert [row["epoch"] for row in seen] == list(range(1, rows + 1))
        assert past.is_done(assistant) is done
        assert (past.result(assistant) == store.result(assistant)) is done
        assert past.origin(assistant) == ("cached" if done else None)
        assert (past.progress(assistant) is not None) is (6 < tick < 12)
    assert is_replayed(past) and not is_replayed(store)


def test_frames_at_the_end_are_those_of_the_store(cached: Any) -> None:
    plan, store = cached
    _, past = then(cached, TICKS)
    assert arm_frame(chain_frame(plan, past)).equals(arm_frame(chain_frame(plan, store)))


def test_frames_in_the_middle_know_no_student_of_a_chain(cached: Any) -> None:
    plan, past = then(cached, 13)
    arms = arm_frame(chain_frame(plan, past)).set_index("arm")["n"]
    assert (arms["takd 10>4>2"], arms["kd 10>2"], arms["scratch 2"]) == (0, 2, 2)
    states = progress_frame(plan, past).set_index("key")["state"]
    teacher, assistant, student = plan.chains_of(plan.chosen)[0].keys
    assert [states[key] for key in (teacher, assistant, student)] == ["done", "done", "training"]


def test_what_was_never_trained_does_not_appear(tmp_path: Path, cached: Any) -> None:
    plan, _ = cached
    past = Replayed(Store(tmp_path), plan, timeline(plan, plan.chosen), 9)
    key = plan.chains_of(plan.chosen)[0].keys[1]
    assert past.result(key) is None and past.progress(key) is None and past.read_events(key)[0] == []
