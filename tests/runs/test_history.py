"""The history of estimates: what is kept, what is forgiven, and what a real run leaves in it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest

from takd.runs.history import Kept, keep, kept, quartiles
from takd.runs.locks import history_lock
from takd.runs.states import read_status, run_folder
from takd.runs.store import Store
from takd.runs.submit import resume
from tests.runs.conftest import CHAIN, LADDER, wait_end
from tests.runs.test_runs import ask

ROW = Kept("run", "cpu", 3, 2.0, 3.0, 500.0, 400.0)


def test_the_last_fifty_are_kept_in_order(store: Store) -> None:
    assert kept(store) == []
    store.root.mkdir()
    for number in range(60):
        keep(store, replace(ROW, run=f"r{number}"))
    assert [row.run for row in kept(store)] == [f"r{number}" for number in range(10, 60)]
    assert kept(store)[0].ratio == 1.5


def test_nonsense_is_left_out(store: Store) -> None:
    store.root.mkdir()
    path, good = store.root / "history.json", asdict(ROW)
    bad = [{}, [], 7, None, {**good, "seconds": "x"}, {**good, "seconds": 0.0}, {**good, "expected_seconds": -1.0}]
    path.write_text(json.dumps({"schema": 1, "runs": [*bad, good, {**good, "more": 1}]}))
    assert kept(store) == [ROW, ROW]
    for text in ("", "[]", "{", json.dumps({"schema": 2, "runs": [good]}), json.dumps({"schema": 1, "runs": good})):
        path.write_text(text)
        assert kept(store) == []
    keep(store, ROW)
    assert kept(store) == [ROW]


def test_a_busy_file_is_left_as_it_is(store: Store) -> None:
    store.root.mkdir()
    with history_lock(store.root):
        keep(store, ROW)
    assert kept(store) == []


def test_quartiles() -> None:
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0) and all(math.isnan(value) for value in quartiles([]))


def test_a_run_leaves_what_was_expected_and_what_it_took(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = ask(store, CHAIN)
    info = wait_end(store, run_id)
    (row,) = kept(store)
    assert (row.run, row.device, row.trainings, row.peak_mb) == (run_id, "cpu", info.stages_total, 100.0)
    status = read_status(run_folder(store, run_id))
    assert status["seconds"] == row.seconds > 0 and status["expected_seconds"] == round(row.expected_seconds, 3)
    wait_end(store, ask(store, CHAIN))
    assert len(kept(store)) == 1  # nothing was trained, so nothing was estimated
    monkeypatch.setenv("FAKE_FAIL", "mlp-64:diverged")
    failed = ask(store, LADDER)
    assert wait_end(store, failed).state == "failed" and len(kept(store)) == 1
    monkeypatch.delenv("FAKE_FAIL")
    resume(store, failed)
    assert wait_end(store, failed).state == "done"
    assert [row.run for row in kept(store)] == [run_id, failed]
