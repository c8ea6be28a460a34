"""Freeing disk space: what can be had again goes, what a run needs stays."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from takd.cli.main import cli
from takd.runs.errors import RunError
from takd.runs.locks import run_lock, stage_lock
from takd.runs.loop import WEIGHTS, train_all
from takd.runs.states import run_info, write_run_file
from takd.runs.store import Store
from takd.runs.tidy import remove, spare
from tests.faults.common import digests
from tests.runs.test_loop import STAGES
from tests.runs.test_runs import make_run

KEYS = list(STAGES)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """All stages are done, the first three have answers beside them, the oldest first."""
    monkeypatch.setenv("TAKD_TRAINER", "tests.runs.fake_trainer:run_stages")
    monkeypatch.setenv("FAKE_EPOCH_MS", "0")
    store = Store(tmp_path / "store")
    assert train_all(store, STAGES, device="cpu", should_stop=lambda: False, say=lambda _: None)
    for age, key in zip((300, 200, 100), KEYS, strict=False):
        store.write_extra(key, "logits-1.npy", bytes(1000))
        path = store.own_folder(key) / "extra" / "logits-1.npy"
        os.utime(path, (time.time() - age,) * 2)
    return store


def names(found: list) -> list[str]:  # type: ignore[type-arg]
    return [one.key for one in found]


def test_answers_go_and_results_stay(store: Store) -> None:
    before = digests(store, STAGES)
    found = spare(store)
    assert names(found) == KEYS[:3] and all(one.bytes == 1065 for one in found)
    assert remove(store, found) == 3 * 1065
    assert spare(store) == [] and digests(store, STAGES) == before and store.broken() == []
    assert not any((store.own_folder(key) / "extra").exists() for key in KEYS)
    assert store.read_extra(KEYS[0], "logits-1.npy") is None  # as if it had never been asked


def test_the_newest_may_be_kept(store: Store) -> None:
    assert names(spare(store, 1065)) == KEYS[:2] and names(spare(store, 2500)) == KEYS[:1]
    assert spare(store, 10**9) == []


def test_what_a_run_needs_is_left_alone(store: Store) -> None:
    (store.own_folder(KEYS[0]) / WEIGHTS).unlink()  # its answers are all a pupil can learn from
    (store.own_folder(KEYS[1]) / "result.json").unlink()  # it is still being trained
    assert names(spare(Store(store.root))) == [KEYS[2]]
    folder = make_run(store, state="running")
    write_run_file(folder, "plan.json", {"stages": KEYS, "arms": [], "chains": []})
    with run_lock(folder):
        assert run_info(store, folder.name).look.active and spare(Store(store.root)) == []
    found = spare(Store(store.root))
    with stage_lock(store.own_folder(KEYS[2])):  # somebody has begun to train it again since
        assert remove(store, found) == 0
    assert remove(store, found) == 1065


def test_beside_a_cached_stage_nothing_is_left_that_looks_broken(store: Store) -> None:
    own = Store(store.root.with_name("own"), [store.root])
    own.write_extra(KEYS[0], "logits-2.npy", bytes(10))
    found = spare(own)
    assert [one.path.name for one in found] == ["logits-2.npy"]
    assert remove(own, found) == 75 and not own.own_folder(KEYS[0]).exists() and own.broken() == []
    assert store.has_extra(KEYS[0], "logits-1.npy")


def test_what_killed_processes_left_goes_when_it_is_old(store: Store) -> None:
    folder = store.own_folder(KEYS[0])
    old, new = folder / ".result.json.1.abc.tmp", folder / "extra" / ".logits-1.npy.2.def.tmp"
    for path in (old, new):
        path.write_bytes(bytes(10))
    os.utime(old, (time.time() - 7200,) * 2)
    gone = store.root / "runs" / ".deleted-20260101-000000-0000-ab"
    gone.mkdir(parents=True)
    (gone / "log.txt").write_bytes(bytes(7))
    found = spare(store, 10**9)
    assert {one.path for one in found} == {old, gone} and remove(store, found) == 17
    assert new.exists() and not old.exists() and not gone.exists()


def test_the_command_says_first_and_does_it_when_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def tidy(*options: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["tidy", "--store", str(store.root), *options])
        return done.exit_code, done.output

    code, said = tidy()
    assert code == 0 and "in 3 files could be freed" in said and "--yes" in said
    assert json.loads(tidy("--json")[1])["freed"] == 0 and len(spare(store)) == 3
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    code, said = tidy("--yes")
    assert code == 2 and "only shows results" in said and len(spare(store)) == 3
    with pytest.raises(RunError):
        remove(store, spare(store))
    monkeypatch.delenv("TAKD_READ_ONLY")
    assert json.loads(tidy("--yes", "--json")[1])["freed"] == 3 * 1065
    assert tidy()[1].startswith("There is nothing to free") and tidy("--keep", "-1")[0] == 2


def test_a_plan_is_trained_after_tidying(store: Store) -> None:
    remove(store, spare(store))
    shutil.rmtree(store.own_folder(KEYS[-1]))
    assert train_all(Store(store.root), STAGES, device="cpu", should_stop=lambda: False, say=lambda _: None)
