from __future__ import annotations

import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from takd.plan import build_plan
from takd.runs.errors import StoreError
from takd.runs.failures import clear_failure, failure, record_failure
from takd.runs.loop import can_teach, needed
from takd.runs.store import Store, open_store
from takd.stage import StageSpec
from tests.runs.conftest import DATA, LADDER

PLAN = build_plan(LADDER, DATA["digits"])
STAGES = list(PLAN.stages.values())
STAGE = STAGES[0]
KEY = STAGE.key
FILES = {"weights.safetensors": b"weights", "predictions.npz": b"answers"}


def finish(store: Store, stage: StageSpec = STAGE, files: dict[str, bytes] | None = None) -> str:
    store.ensure(stage, own=True)
    store.append_events(stage.key, [{"epoch": 1, "loss": 0.12345678, "val_acc": 0.5}])
    store.commit(stage.key, {"test_acc": 0.75, "epochs": 1}, FILES if files is None else files)
    return stage.key


def test_a_stage_from_nothing_to_done(store: Store) -> None:
    assert (store.stage(KEY), store.result(KEY), store.origin(KEY)) == (None, None, None)
    assert store.read_events(KEY) == ([], 0)
    folder = store.ensure(STAGE)
    assert folder == store.folder(KEY) == store.ensure(STAGE)
    assert (folder / "stage.json").read_bytes() == STAGE.canonical()
    assert store.stage(KEY) == STAGE and not store.is_done(KEY)
    store.write_progress(KEY, {"epoch": 1})
    store.write_progress(KEY, {"epoch": 2})  # within a second: dropped
    assert store.progress(KEY) == {"epoch": 1}
    store.save_checkpoint(KEY, b"half")
    finish(store)
    result = store.result(KEY)
    assert result is not None and result["test_acc"] == 0.75 and result["schema"] == 1 and result["key"] == KEY
    assert set(result["files"]) == {*FILES, "events.jsonl"} and result["files"]["weights.safetensors"]["bytes"] == 7
    assert store.origin(KEY) == "live" and store.read_file(KEY, "weights.safetensors") == b"weights"
    assert store.read_events(KEY)[0] == [{"epoch": 1, "loss": 0.123457, "val_acc": 0.5}]
    assert store.progress(KEY) is None and store.load_checkpoint(KEY) is None
    assert Store(store.root).result(KEY) == result


def test_events_can_be_rewritten(store: Store) -> None:
    store.ensure(STAGE)
    for epoch in (1, 2, 3):
        store.append_events(KEY, [{"epoch": epoch}])
    store.rewrite_events(KEY, [{"epoch": 1}])
    store.append_events(KEY, [{"epoch": 2}])
    assert [row["epoch"] for row in store.read_events(KEY)[0]] == [1, 2]
    with pytest.raises(ValueError, match="JSON"):
        store.append_events(KEY, [{"loss": float("nan")}])
    store.rewrite_events(KEY, [])
    assert store.read_events(KEY) == ([], 0)


def test_events_of_several_epochs_are_added_at_once_or_not_at_all(store: Store) -> None:
    path = store.ensure(STAGE) / "events.jsonl"
    store.append_events(KEY, [])
    store.rewrite_events(KEY, [])
    assert not path.exists()
    store.append_events(KEY, [{"epoch": 1}, {"epoch": 2}])
    with pytest.raises(ValueError, match="JSON"):
        store.append_events(KEY, [{"epoch": 3}, {"epoch": float("inf")}])
    with path.open("ab") as file:
        file.write(b'{"epoch":3')  # torn by a kill
    store.append_events(KEY, [{"epoch": 3, "loss": 0.12345678}, {"epoch": 4}])
    assert path.read_bytes() == b'{"epoch":1}\n{"epoch":2}\n{"epoch":3,"loss":0.123457}\n{"epoch":4}\n'


NO_KEYS = ["", "../../etc", "A" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n", "٣" * 32, "\0" * 32, 7]


@pytest.mark.parametrize("key", NO_KEYS, ids=range(len(NO_KEYS)))
def test_what_is_not_a_key_never_becomes_a_path(store: Store, key: str) -> None:
    for ask in (store.folder, store.result, store.stage, store.read_events, store.progress, store.own_folder):
        with pytest.raises(StoreError, match="key of a stage"):
            ask(key)


@pytest.mark.parametrize("name", ["../x", "stage.json", "result.json", "Events", "", "lock", "a/b", ".hidden"])
def test_bad_file_names_are_refused(store: Store, name: str) -> None:
    store.ensure(STAGE)
    with pytest.raises(ValueError, match="name"):
        store.commit(KEY, {"test_acc": 0.5}, {name: b""})
    assert not store.is_done(KEY)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r | {"schema": 2},
        lambda r: r | {"key": "0" * 32},
        lambda r: r | {"test_acc": "high"},
        lambda r: r | {"test_acc": True},
        lambda r: {k: v for k, v in r.items() if k != "files"},
        lambda r: r | {"files": {"../x": {"sha256": "", "bytes": 0}}},
        lambda r: r | {"files": {"x": 7}},
        lambda r: [r],
    ],
)
def test_a_bad_result_is_not_done_and_is_listed(store: Store, change) -> None:
    finish(store)
    path = store.folder(KEY) / "result.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    assert store.result(KEY) is None and store.origin(KEY) is None
    assert [(name, "train it again" in why) for name, why in store.broken()] == [(KEY, True)]


def test_numbers_that_are_not_finite_are_not_results(store: Store) -> None:
    finish(store)
    path = store.folder(KEY) / "result.json"
    good = path.read_text()
    for bad in (good.replace("0.75", "NaN"), good.replace("0.75", "1e999"), good[:-20], "", "{" * 100_000):
        path.write_text(bad)
        assert store.result(KEY) is None
    path.write_text(good)
    assert store.is_done(KEY)
    store.ensure(STAGES[1])
    with pytest.raises(ValueError, match="JSON"):
        store.commit(STAGES[1].key, {"test_acc": float("inf")}, {})
    assert not store.is_done(STAGES[1].key)


def test_a_bad_stage_is_listed_and_healed(store: Store) -> None:
    finish(store)
    path = store.folder(KEY) / "stage.json"
    for bad in (STAGES[1].canonical(), STAGE.canonical()[:-1], b"", b"[" * 50_000):
        path.write_bytes(bad)
        assert store.stage(KEY) is None and not store.is_done(KEY)
        assert [name for name, _ in store.broken()] == [KEY]
    store.ensure(STAGE)
    assert store.is_done(KEY) and store.broken() == []


def test_foreign_things_are_listed_and_skipped(store: Store) -> None:
    finish(store)
    for name in ("stages/xyz", f"stages/{KEY[:2]}/hello", f"stages/00/{KEY}", "runs/Bad Name", "runs/empty"):
        (store.root / name).mkdir(parents=True)
    (store.root / "stages" / "note.txt").write_text("?")
    names = [name for name, _ in store.broken()]
    assert sorted(names) == sorted(["xyz", "hello", KEY, "note.txt", "Bad Name", "empty"])
    assert store.broken(store.root / "nowhere") == []


def test_damaged_files_are_noticed(store: Store) -> None:
    finish(store)
    path = store.folder(KEY) / "weights.safetensors"
    assert store.has_file(KEY, path.name) and not store.has_file(KEY, "other")
    path.write_bytes(b"Weights")
    assert not store.has_file(KEY, path.name)
    with pytest.raises(StoreError, match="trained again"):
        store.read_file(KEY, path.name)
    with pytest.raises(StoreError, match="not finished"):
        store.read_file(STAGES[1].key, path.name)


def test_a_cached_stage_wins_and_its_missing_files_come_from_the_own_root(store: Store, tmp_path: Path) -> None:
    cached = tmp_path / "cached"
    finish(Store(cached), files={"predictions.npz": b"cached answers"})
    both = Store(store.root, [tmp_path / "nowhere", cached])
    assert both.origin(KEY) == "cached" and both.ensure(STAGE) == both.folder(KEY)
    assert not store.own_folder(KEY).exists()
    assert not both.has_file(KEY, "weights.safetensors")
    finish(both)
    assert both.origin(KEY) == "cached" and both.read_file(KEY, "predictions.npz") == b"cached answers"
    assert both.read_file(KEY, "weights.safetensors") == b"weights"
    shutil.rmtree(cached)
    assert both.origin(KEY) == "live"


def test_an_imported_stage_comes_last_and_trains_nothing(store: Store, tmp_path: Path) -> None:
    brought = store.root / "imported"
    finish(Store(brought))
    found = Store(store.root, [tmp_path / "cached"], brought)
    assert found.origin(KEY) == "imported" and found.is_done(KEY) and found.broken(brought) == []
    assert not found.without_imports.is_done(KEY) and found.ensure(STAGE) == found.own_folder(KEY)
    assert needed(found, {KEY: STAGE}) == {KEY}, "what was imported is trained all the same"
    assert not can_teach(found.without_imports, KEY, STAGE)
    finish(Store(tmp_path / "cached"))
    assert found.origin(KEY) == "cached"
    shutil.rmtree(tmp_path / "cached")
    finish(found)
    assert found.origin(KEY) == "live" and found.folder(KEY) == found.own_folder(KEY)
    assert Store(store.root).without_imports.roots == (store.root,) and found.roots[-1] == brought


def test_extras_are_checked_and_go_beside_cached_stages(store: Store, tmp_path: Path) -> None:
    finish(Store(tmp_path / "cached"))
    both = Store(store.root, [tmp_path / "cached"])
    assert both.read_extra(KEY, "logits-1.npy") is None
    both.write_extra(KEY, "logits-1.npy", b"numbers")
    assert both.read_extra(KEY, "logits-1.npy") == b"numbers" and both.broken() == []
    (both.own_folder(KEY) / "extra" / "logits-1.npy").write_bytes(b"Numbers")
    assert both.read_extra(KEY, "logits-1.npy") is None
    with pytest.raises(StoreError, match="name"):
        both.write_extra(KEY, "../x", b"")


def test_checkpoints_survive_a_kill_between_their_two_writes_and_notice_damage(store: Store, monkeypatch) -> None:
    folder = store.ensure(STAGE)
    store.save_checkpoint(KEY, b"first")
    from takd.runs import files

    write = files.write_atomic

    def killed(path: Path, data: bytes, **options: bool) -> None:
        if path.name == "checkpoint.safetensors":
            raise KeyboardInterrupt
        write(path, data, **options)

    monkeypatch.setattr(files, "write_atomic", killed)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            store.save_checkpoint(KEY, b"second")
    monkeypatch.setattr(files, "write_atomic", write)
    assert store.load_checkpoint(KEY) == b"first"
    store.save_checkpoint(KEY, b"second")
    assert store.load_checkpoint(KEY) == b"second"
    (folder / "checkpoint.safetensors").write_bytes(b"sekond")
    assert store.load_checkpoint(KEY) is None
    store.drop_checkpoint(KEY)
    assert sorted(p.name for p in folder.iterdir()) == ["stage.json"]


def test_failures_are_kept_until_the_next_try(store: Store) -> None:
    store.ensure(STAGE)
    record_failure(store, KEY, "diverged", "It went wrong.")
    found = failure(store, KEY)
    assert found is not None and (found.cause_class, found.why) == ("diverged", "It went wrong.")
    clear_failure(store, KEY)
    assert failure(store, KEY) is None


def test_ensure_races(store: Store) -> None:
    def all_of_them() -> None:
        other = Store(store.root)
        for stage in STAGES:
            other.ensure(stage)

    threads = [threading.Thread(target=all_of_them) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(store.stage(stage.key) == stage for stage in STAGES) and store.broken() == []


def test_listing_200_done_stages_is_fast(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)  # only so that making them is quick
    stages = [replace(STAGE, seed=seed) for seed in range(200)]
    for stage in stages:
        finish(store, stage)
    keys = [stage.key for stage in stages]
    times = []
    for _ in range(6):
        start = time.perf_counter()
        assert all(store.result(key) for key in keys)
        times.append(time.perf_counter() - start)
    assert min(times[1:]) < 0.030


def test_a_store_that_cannot_be_written_says_so(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert store.writable() is None and list(store.root.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert "TAKD_STORE" in (Store(tmp_path / "file" / "store").writable() or "")
    from takd.runs import files

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files, "write_atomic", refuse)
    assert "Read-only file system" in (store.writable() or "")


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAKD_STORE", str(tmp_path / "a"))
    monkeypatch.setenv("TAKD_CACHED", "")
    assert open_store().root == tmp_path / "a" and open_store().cached == ()
    monkeypatch.delenv("TAKD_STORE")
    monkeypatch.delenv("TAKD_CACHED")
    found = open_store()
    assert found.root.name == "runs" and [path.name for path in found.cached] == ["cached_runs"]
    assert open_store(tmp_path).root == tmp_path
