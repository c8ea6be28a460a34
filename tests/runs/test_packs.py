"""Packed stages are read like those in folders, and nothing in the folder of packs makes a reader fail."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import threading
import time
import zlib
from pathlib import Path

import pytest

from takd.plan import build_plan
from takd.runs import files, packs
from takd.runs.errors import RunError, StoreError
from takd.runs.loop import can_teach, needed
from takd.runs.publish import publish
from takd.runs.stamps import files_of, place_of
from takd.runs.states import run_info, write_run_file
from takd.runs.store import Store
from takd.runs.submit import write_plan
from takd.spec import to_json
from takd.stage import StageSpec
from tests.runs.conftest import DATA, LADDER

PLAN = build_plan(LADDER, DATA["digits"])
STAGES = list(PLAN.stages.values())
STAGE = STAGES[0]
KEY = STAGE.key
RUN = "20260101-000000-aaaa"
WEIGHTS, PREDICTIONS = "weights.safetensors", "predictions.npz"
LONG = random.Random(0).randbytes(5000)  # a member of its own, which deflates to nothing smaller
LONGER = b"answers" * 1000


def finish(store: Store, stage: StageSpec, seconds: float = 1.0, weights: bytes = LONG) -> None:
    store.ensure(stage, own=True)
    store.append_events(stage.key, [{"epoch": 1, "val_acc": 0.25}, {"epoch": 2, "val_acc": 0.5}])
    result = {"test_acc": 0.75, "epochs": 2, "seconds": seconds}
    store.commit(stage.key, result, {WEIGHTS: weights, PREDICTIONS: LONGER})


def done_run(store: Store, run_id: str = RUN) -> str:
    folder = store.root / "runs" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    write_plan(store, folder, PLAN)
    write_run_file(folder, "experiment.json", {"spec": to_json(LADDER), "created": "2026-01-01T00:00:00+00:00"})
    write_run_file(folder, "status.json", {"state": "done", "finished": "2026-01-01T00:01:00+00:00"})
    return run_id


@pytest.fixture
def trained(tmp_path: Path) -> Store:
    """A store with a finished run of quick stages."""
    store = Store(tmp_path / "trained")
    for stage in STAGES:
        finish(store, stage)
    done_run(store)
    return store


@pytest.fixture
def cached(trained: Store, tmp_path: Path) -> Path:
    """What came of publishing it."""
    assert publish(trained, RUN, tmp_path / "cached") == len(STAGES)
    return tmp_path / "cached"


@pytest.fixture
def both(cached: Path, tmp_path: Path) -> Store:
    return Store(tmp_path / "own", [cached])


def pack_of(cached: Path) -> Path:
    return cached / "packs" / f"{RUN}.sqlar"


def change(path: Path, statement: str, *values: object) -> None:
    archive = sqlite3.connect(path)
    with archive:
        assert archive.execute(statement, values).rowcount == 1
    archive.close()


def files_in(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


def test_a_packed_stage_is_read_like_one_in_a_folder(trained: Store, both: Store, cached: Path) -> None:
    assert not (cached / "stages").exists() and len(list(cached.rglob("*.sqlar"))) == 1
    assert both.result(KEY) == trained.result(KEY) and both.stage(KEY) == STAGE and both.origin(KEY) == "cached"
    assert both.read_events(KEY) == trained.read_events(KEY)
    rows, end = both.read_events(KEY)
    first = len(files.read_bytes_or_none(both.folder(KEY) / "events.jsonl").split(b"\n")[0]) + 1  # type: ignore[union-attr]
    assert both.read_events(KEY, first) == (rows[1:], end) and both.read_events(KEY, end) == ([], end)
    assert both.has_file(KEY, WEIGHTS) and both.read_file(KEY, WEIGHTS) == LONG
    assert not both.has_file(KEY, PREDICTIONS)
    with pytest.raises(StoreError, match="left out"):
        both.read_file(KEY, PREDICTIONS)
    assert both.folder(KEY) == place_of(both, KEY) == pack_of(cached) / KEY
    assert both.ensure(STAGE) == both.folder(KEY) and not both.root.exists()
    assert files_of(both, KEY) == {name: sum_ for name, sum_ in files_of(trained, KEY).items() if name != PREDICTIONS}
    assert set(files_of(both, KEY)) == {"stage.json", "events.jsonl", "result.json", WEIGHTS}
    assert both.broken(cached) == [] and needed(both, dict(PLAN.stages)) == set()
    assert both.read_extra(KEY, "logits-1.npy") is None and not both.has_extra(KEY, "logits-1.npy")
    run = run_info(both, RUN)
    assert (run.state, run.origin, run.stages_done) == ("done", "cached", len(STAGES))


def test_only_cached_stores_are_looked_into_for_packs(cached: Path, tmp_path: Path) -> None:
    assert Store(cached).result(KEY) is None
    assert Store(tmp_path / "own", (), cached).result(KEY) is None
    assert Store(tmp_path / "own", [tmp_path / "none", cached]).origin(KEY) == "cached"


def test_a_pack_wins_over_a_folder_and_a_folder_over_the_own_store(both: Store, cached: Path) -> None:
    finish(both, STAGE, weights=b"own")
    assert both.origin(KEY) == "cached" and both.read_file(KEY, PREDICTIONS) == LONGER  # which the pack lacks
    finish(Store(cached), STAGE, weights=b"folder")
    assert both.folder(KEY) == pack_of(cached) / KEY and both.result(KEY) == Store(both.root, [cached]).result(KEY)
    pack_of(cached).unlink()
    assert both.folder(KEY) == Store(cached).own_folder(KEY) and both.read_file(KEY, WEIGHTS) == b"folder"
    shutil.rmtree(cached)
    assert both.origin(KEY) == "live" and both.read_file(KEY, WEIGHTS) == b"own"


def test_the_version_changes_with_the_pack(both: Store, cached: Path, trained: Store) -> None:
    before, events = both.version(KEY), both.events_id(KEY)
    assert before == both.version(KEY) and events == both.events_id(KEY) and str(pack_of(cached)) in str(before)
    kept = packs.members(pack_of(cached))
    files.write_atomic(pack_of(cached), packs.packed({n: raw for n, raw in kept.items() if not n.startswith(KEY)}))
    assert both.version(KEY) is None and both.origin(KEY) is None and both.origin(STAGES[1].key) == "cached"
    files.write_atomic(pack_of(cached), packs.packed(kept))
    assert both.result(KEY) is not None and both.version(KEY) != before and both.events_id(KEY) != events


def test_a_pack_changed_in_place_is_noticed(both: Store, cached: Path) -> None:
    assert both.has_file(KEY, WEIGHTS)
    change(pack_of(cached), "UPDATE sqlar SET data = ? WHERE name = ?", b"x" * 9, f"{KEY}/{WEIGHTS}")
    assert not both.has_file(KEY, WEIGHTS) and both.is_done(KEY)
    row = f"{KEY}/result.json", b"{}   "  # a member of its own stands before what lies end to end
    change(pack_of(cached), "INSERT INTO sqlar VALUES (?, 33188, 0, 5, ?)", *row)
    assert not both.is_done(KEY) and both.origin(KEY) is None
    assert both.broken(cached) == [(f"{RUN}.sqlar/{KEY}", "damaged in its pack, so the stage counts as not there")]
    assert place_of(both, KEY) == pack_of(cached) / KEY  # where a check of its numbers finds what is wrong


def test_two_packs_may_hold_the_same_stage(both: Store, cached: Path) -> None:
    other = pack_of(cached).with_name("20260101-000000-0000.sqlar")
    other.write_bytes(packs.packed({f"{KEY}/stage.json": STAGE.canonical(), f"{KEY}/result.json": b"{"}))
    assert both.folder(KEY) == pack_of(cached) / KEY, "the damaged one of them counts as not there"
    assert [name for name, _ in both.broken(cached)] == [f"{other.name}/{KEY}"]
    pack_of(cached).unlink()
    assert both.origin(KEY) is None


def foreign(cached: Path, kind: str) -> str:
    """Put something into the folder of packs that is none; returns its name."""
    path = cached / "packs" / "foreign.sqlar"
    if kind == "note":
        path = path.with_name("note.txt")
        path.write_text("?")
    elif kind == "folder":
        (path / KEY).mkdir(parents=True)
    elif kind == "link":
        path.symlink_to(pack_of(cached))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "noise":
        path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20)
    elif kind == "cut":
        path.write_bytes(pack_of(cached).read_bytes()[:1500])
    elif kind == "view":
        with sqlite3.connect(path) as archive:
            archive.execute("CREATE VIEW sqlar AS SELECT 'a' name, 0 mode, 0 mtime, 1 sz, x'00' data")
    elif kind == "names":
        with sqlite3.connect(path) as archive:
            archive.execute("CREATE TABLE sqlar(name TEXT PRIMARY KEY, mode INT, mtime INT, sz INT, data BLOB)")
            archive.execute("INSERT INTO sqlar VALUES ('../../evil', 0, 0, 1, x'00')")
    return path.name


KINDS = ["note", "folder", "link", "pipe", "empty", "noise", "cut", "view", "names"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_pack_counts_as_not_there_and_is_named(kind: str, both: Store, cached: Path) -> None:
    name = foreign(cached, kind)
    assert both.result(KEY) is not None and both.origin(KEY) == "cached" and both.result(KEY[::-1]) is None
    assert [found for found, _ in both.broken(cached)] == [name]
    pack_of(cached).unlink()
    assert both.origin(KEY) is None and both.stage(KEY) is None and both.read_events(KEY) == ([], 0)


@pytest.mark.parametrize(
    ("size", "data"),
    [
        (10**12, b"x"),
        (-1, None),
        (5000, b"not deflated"),
        (3, None),
        ("five thousand", LONG),
        (2**62, b"\x78\x9c"),
        (4999, LONG),
    ],
)
def test_a_damaged_member_is_not_there(size: object, data: object, both: Store, cached: Path) -> None:
    change(pack_of(cached), "UPDATE sqlar SET sz = ?, data = ? WHERE name = ?", size, data, f"{KEY}/{WEIGHTS}")
    assert packs.read(f"{pack_of(cached)}/{KEY}/{WEIGHTS}") is None
    assert both.is_done(KEY) and not both.has_file(KEY, WEIGHTS)


def test_paths_that_only_look_like_members_are_files(tmp_path: Path) -> None:
    folder = tmp_path / "my.sqlar" / KEY
    folder.mkdir(parents=True)
    (folder / "stage.json").write_bytes(b"plain")
    assert (
        files.read_bytes_or_none(folder / "stage.json") == b"plain" and files.size_or_none(folder / "stage.json") == 5
    )
    assert files.version(str(folder / "stage.json")) is not None and files.version(str(folder / "none")) is None
    finish(Store(tmp_path / "my.sqlar"), STAGE)
    assert Store(tmp_path / "my.sqlar").is_done(KEY)


def test_packs_are_sqlite_archives_with_equal_bytes_for_equal_members(both: Store, cached: Path) -> None:
    raw = pack_of(cached).read_bytes()
    assert packs.packed(packs.members(pack_of(cached))) == raw
    archive = sqlite3.connect(pack_of(cached))
    rows = {
        name: (mode, size, data) for name, mode, size, data in archive.execute("SELECT name, mode, sz, data FROM sqlar")
    }
    archive.close()
    texts = ("events.jsonl", "result.json", "stage.json")
    assert set(rows) == {"all.json", *(f"all/{name}" for name in texts), *(f"{one.key}/{WEIGHTS}" for one in STAGES)}
    mode, size, data = rows["all/result.json"]
    raws = {one.key: files.read_bytes_or_none(both.folder(one.key) / "result.json") or b"" for one in STAGES}
    assert mode == 0o100644 and len(data) < size == sum(map(len, raws.values()))
    assert zlib.decompress(data) == b"".join(raws[key] for key in sorted(raws))
    assert rows[f"{KEY}/{WEIGHTS}"][1:] == (5000, LONG)
    with pytest.raises(ValueError, match="pack's member"):
        packs.packed({"../x": b""})


def test_small_files_lie_end_to_end_whatever_they_hold(tmp_path: Path) -> None:
    held = {f"{one.key}/{WEIGHTS}": bytes([number]) * 2400 for number, one in enumerate(STAGES)}
    held[f"{KEY}/{WEIGHTS}"] = LONG
    path = tmp_path / "packs" / f"{RUN}.sqlar"
    path.parent.mkdir()
    path.write_bytes(packs.packed(held))
    archive = sqlite3.connect(path)
    names = {name for (name,) in archive.execute("SELECT name FROM sqlar")}
    archive.close()
    assert names == {"all.json", f"all/{WEIGHTS}", f"{KEY}/{WEIGHTS}"} and packs.members(path) == held


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{", b'{"result.json": 5}', b'{"result.json": {"../x": 1}}', b'{"../x": {"%s": 1}}' % KEY.encode(),
     b'{"result.json": {"%s": -1}}' % KEY.encode(), b'{"result.json": {"%s": true}}' % KEY.encode()],
)  # fmt: skip
def test_a_list_of_texts_that_makes_no_sense_is_named(raw: bytes, both: Store, cached: Path) -> None:
    change(pack_of(cached), "UPDATE sqlar SET sz = ?, data = ? WHERE name = 'all.json'", len(raw), raw)
    assert not both.is_done(KEY) and packs.keys(cached) == set()
    ((name, reason),) = packs.problems(cached)
    assert name == pack_of(cached).name and "list of texts" in reason


def test_texts_that_are_not_as_long_as_the_list_says_are_not_there(both: Store, cached: Path) -> None:
    change(pack_of(cached), "UPDATE sqlar SET sz = 3, data = ? WHERE name = 'all/result.json'", b"{}\n")
    assert not any(both.is_done(stage.key) for stage in STAGES)
    assert both.broken(cached) and packs.problems(cached) == []
    change(pack_of(cached), "DELETE FROM sqlar WHERE name = 'all/stage.json'")
    assert both.stage(KEY) is None


def test_a_text_that_the_list_does_not_name_is_foreign(both: Store, cached: Path) -> None:
    change(pack_of(cached), "INSERT INTO sqlar VALUES ('all/other.json', 33188, 0, 2, ?)", b"{}")
    assert packs.problems(cached) == [(pack_of(cached).name, "holds 'all/other.json', which has no place in a pack")]
    assert both.is_done(KEY)


def test_only_so_many_texts_are_kept(both: Store, cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packs._texts.clear()
    monkeypatch.setattr(packs, "_KEPT_BYTES", 1)
    for _ in range(2):
        assert [both.stage(one.key) for one in STAGES] == STAGES and both.is_done(KEY)
    assert len(packs._texts) == 1


def test_many_threads_and_more_packs_than_are_kept_open(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "_OPEN", 2)
    members = packs.members(pack_of(cached))
    for stage in STAGES:
        own = {name: raw for name, raw in members.items() if name.startswith(stage.key)}
        (cached / "packs" / f"one-{stage.key}.sqlar").write_bytes(packs.packed(own))
    pack_of(cached).unlink()
    wrong: list[object] = []

    def read(number: int) -> None:
        store = Store(tmp_path / "own", [cached])
        for stage in STAGES[number:] + STAGES[:number]:
            if store.result(stage.key) is None or store.read_file(stage.key, WEIGHTS) != LONG:
                wrong.append(stage.key)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong and len(packs._connections) <= 2


def test_a_pack_that_is_added_is_found_at_once(both: Store, cached: Path) -> None:
    extra = cached / "packs" / "later.sqlar"
    members = packs.members(pack_of(cached))
    pack_of(cached).unlink()
    assert both.origin(KEY) is None
    time.sleep(0.02)  # clocks of file systems tick every few milliseconds
    files.write_atomic(extra, packs.packed(members))
    assert both.origin(KEY) == "cached"


# Publishing


def test_publishing_twice_changes_nothing(trained: Store, cached: Path) -> None:
    before = files_in(cached)
    assert publish(trained, RUN, cached) == 0 == publish(trained, RUN, cached, answers=True)
    assert files_in(cached) == before
    assert not any(".tmp" in name for name in before)


def test_another_run_packs_only_what_is_new(trained: Store, tmp_path: Path) -> None:
    destination = tmp_path / "cached"
    finish(Store(destination), STAGE)
    for path in (Store(destination).own_folder(KEY)).iterdir():
        assert path.is_file()
    publish(trained, RUN, destination)
    assert packs.keys(destination) == {stage.key for stage in STAGES[1:]}
    shutil.rmtree(destination / "stages")
    other = done_run(trained, "20260101-000000-bbbb")
    assert publish(trained, other, destination) == 1
    assert {path.name for path in (destination / "packs").iterdir()} == {f"{RUN}.sqlar", f"{other}.sqlar"}
    assert {name[:32] for name in packs.members(destination / "packs" / f"{other}.sqlar")} == {KEY}


def test_a_pack_that_lost_a_stage_gets_it_back(trained: Store, cached: Path) -> None:
    raw = pack_of(cached).read_bytes()
    left = {name: raw for name, raw in packs.members(pack_of(cached)).items() if name != f"{KEY}/result.json"}
    pack_of(cached).write_bytes(packs.packed(left))
    assert publish(trained, RUN, cached) == 1 and pack_of(cached).read_bytes() == raw
    pack_of(cached).write_bytes(b"noise")
    assert publish(trained, RUN, cached) == len(STAGES) and pack_of(cached).read_bytes() == raw


def names_of(store: Store, key: str) -> set[str]:
    """Which of the large files a stage has."""
    return {name for name in (WEIGHTS, PREDICTIONS) if files.version(str(store.folder(key) / name)) is not None}


@pytest.mark.parametrize("pack", [True, False])
def test_what_goes_along(pack: bool, tmp_path: Path) -> None:
    """The table of the module, row by row."""
    store, destination = Store(tmp_path / "trained"), tmp_path / "cached"
    teacher = next(stage for stage in STAGES if any(stage.key in other.teachers for other in STAGES))
    taught = {key for stage in STAGES for key in stage.teachers}
    alone = next(stage for stage in STAGES if stage.key not in taught)
    small, equal, large, *_ = [stage for stage in STAGES if stage.key not in (teacher.key, alone.key)]
    for stage in STAGES:
        seconds = 60.0 if stage in (teacher, alone) else 0.5
        more = {small.key: -1, equal.key: 0, large.key: 1}.get(stage.key, -9)
        finish(store, stage, seconds, b"w" * (len(LONGER) + more))
    store.write_extra(teacher.key, "logits-1.npy", b"answers on training images")
    done_run(store)
    publish(store, RUN, destination, pack=pack)
    found = Store(tmp_path / "own", [destination])
    assert names_of(found, small.key) == {WEIGHTS}
    assert names_of(found, equal.key) == names_of(found, large.key) == {PREDICTIONS}
    assert names_of(found, teacher.key) == {PREDICTIONS, WEIGHTS} and names_of(found, alone.key) == {PREDICTIONS}
    assert all(files.version(str(found.folder(s.key) / "events.jsonl")) is not None for s in STAGES)
    assert packs.keys(destination) == ({s.key for s in STAGES} - {teacher.key, alone.key} if pack else set())
    assert not list(destination.rglob("extra")) and (destination / "packs").exists() == pack
    publish(store, RUN, tmp_path / "full", pack=pack, answers=True, weights=True)
    full = Store(tmp_path / "own", [tmp_path / "full"])
    assert names_of(full, small.key) == names_of(full, large.key) == {PREDICTIONS}
    assert names_of(full, alone.key) == {PREDICTIONS, WEIGHTS}


def test_heavy_weights_stay_at_home(trained: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("takd.runs.publish.LEAST_SECONDS", 0.5)
    monkeypatch.setattr("takd.runs.publish.MOST_WEIGHT_BYTES", 8)
    publish(trained, RUN, tmp_path / "cached", weights=True)
    assert {name for s in STAGES for name in names_of(Store(tmp_path, [tmp_path / "cached"]), s.key)} == {PREDICTIONS}


def test_what_is_damaged_or_unfinished_is_not_published(trained: Store, tmp_path: Path) -> None:
    (trained.own_folder(KEY) / WEIGHTS).write_bytes(b"harmed")
    with pytest.raises(RunError, match="damaged"):
        publish(trained, RUN, tmp_path / "cached")
    (trained.own_folder(KEY) / "result.json").unlink()
    with pytest.raises(RunError, match="missing or damaged"):
        publish(trained, RUN, tmp_path / "cached")
    write_run_file(trained.root / "runs" / RUN, "status.json", {"state": "failed", "reason": "?"})
    with pytest.raises(RunError, match="only finished runs"):
        publish(trained, RUN, tmp_path / "cached")
    assert not (tmp_path / "cached").exists()


def test_who_can_teach_from_a_pack(both: Store, trained: Store, tmp_path: Path) -> None:
    pupil = next(stage for stage in STAGES if stage.teachers)
    assert can_teach(both, pupil.teachers[0], pupil), "its weights answer everything again"
    publish(trained, RUN, tmp_path / "answers", answers=True)
    only_answers = Store(tmp_path / "own", [tmp_path / "answers"])
    assert not can_teach(only_answers, pupil.teachers[0], pupil)
    unknown = {key: stage for key, stage in PLAN.stages.items() if key != pupil.key}
    assert needed(only_answers, unknown) == set()


def test_the_command_line_publishes(trained: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from takd.runs.publish import main

    monkeypatch.setattr("sys.argv", ["publish", str(trained.root), RUN, "--to", str(tmp_path / "a"), "--folders"])
    main()
    assert capsys.readouterr().out.split()[:2] == [RUN, str(len(STAGES))] and not (tmp_path / "a" / "packs").exists()
    monkeypatch.setattr("sys.argv", ["publish", str(trained.root), RUN, "--to", str(tmp_path / "b"), "--answers"])
    main()
    assert names_of(Store(tmp_path, [tmp_path / "b"]), KEY) == {PREDICTIONS}
    assert json.loads((tmp_path / "b" / "runs" / RUN / "status.json").read_bytes())["state"] == "done"
