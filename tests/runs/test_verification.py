"""A check of stored numbers in its own process: its stamp, what makes the stamp void, one at a time, stopping, the
command line's exit codes."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from takd.cli.main import cli
from takd.data.catalogue import available_datasets
from takd.evaluation.verifier import main
from takd.plan import build_plan
from takd.presentation.runs.stamp_words import skipped_sentences, stamp_label, stamp_sentence
from takd.runs import files, jobs, stamps, verification
from takd.runs.errors import RunError
from takd.runs.layout import sha256
from takd.runs.locks import verify_lock
from takd.runs.loop import train_all
from takd.runs.people import MACHINE, Person
from takd.runs.process import STOPPED
from takd.runs.stamps import Difference, StageReport, Stamp, parse_stamp, read_stamp, stamp_path, valid_stamp
from takd.runs.store import Store
from takd.runs.submit import write_plan
from takd.spec import require_spec
from takd.spec import to_json as spec_json
from takd.stage import canonical_json

from .conftest import wait_for
from .test_policy import ADA, BEN

RUN = "20260101-000000-0001"
ASKED = {"dataset": "digits", "budget": "taste", "seeds": 1, "scope": "chain", "method": "kd"}
ASKED |= {"teacher": "mlp-16", "student": "mlp-8"}


def add_run(store: Store, run_id: str = RUN) -> None:
    """Its files, as a worker that is done leaves them."""
    spec = require_spec(ASKED)
    folder = store.root / "runs" / run_id
    folder.mkdir(parents=True)
    write_plan(store, folder, build_plan(spec, available_datasets()["digits"]))
    row = {"schema": 1, "spec": spec_json(spec), "created": "2026-01-01T00:00:00", "asked_by": ""}
    (folder / "experiment.json").write_text(json.dumps(row))
    (folder / "status.json").write_text(json.dumps({"schema": 1, "state": "done"}))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAKD_DATA", str(root / "data"))
        store = Store(root / "store")
        add_run(store)
        stages = build_plan(require_spec(ASKED), available_datasets()["digits"]).stages
        assert train_all(store, stages, device="cpu", should_stop=lambda: False, say=print)
    return root


@pytest.fixture
def store(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy of the trained run that may be harmed; the environment names it."""
    monkeypatch.setenv("TAKD_DATA", str(trained / "data"))
    return Store(Path(shutil.copytree(trained / "store", tmp_path / "store")), [tmp_path / "no-cached-runs"])


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["verify", *arguments])


def told(result: Result) -> dict[str, Any]:
    return dict(json.loads(result.stdout.splitlines()[-1]))


def student_of(store: Store) -> str:
    stages = build_plan(require_spec(ASKED), available_datasets()["digits"]).stages
    return next(key for key, stage in stages.items() if stage.teachers)


def test_a_run_is_verified_and_its_stamp_holds_until_something_changes(store: Store) -> None:
    assert valid_stamp(store, RUN) is None and stamp_label(None) == "Not verified"
    result = call(RUN, "--json")
    assert result.exit_code == 0, result.output
    value = told(result)
    assert value["equal"] and value["counts"] == {
        "stages": 3, "numbers": value["counts"]["numbers"], "complete": 3, "weights": 3, "differences": 0,
    }  # fmt: skip
    assert value["versions"]["torch"]
    stamp = valid_stamp(store, RUN)
    assert stamp is not None and stamp_path(store, RUN).parent == store.root / "runs" / RUN
    assert stamp_sentence(stamp) == (
        f"Verified {stamp.when[:10]}: 3 stages, every number recomputed, weights re-evaluated for 3"
    )
    now = verification.verification(store)
    assert now is not None and (now.state, now.done, now.total, now.what) == ("done", 3, 3, RUN)
    key = student_of(store)
    for name in ("result.json", "stage.json", "predictions.npz", "weights.safetensors", "events.jsonl"):
        path = store.own_folder(key) / name
        before = path.read_bytes()
        path.write_bytes(before.replace(b"1", b"2") + b" ")
        assert valid_stamp(store, RUN) is None, name
        path.write_bytes(before)
        assert valid_stamp(store, RUN) == stamp
        path.unlink()
        assert valid_stamp(store, RUN) is None, name
        path.write_bytes(before)
    assert valid_stamp(Store(store.root), RUN) == stamp


def test_a_difference_is_told_with_both_values(store: Store) -> None:
    path = store.own_folder(student_of(store)) / "result.json"
    path.write_bytes(canonical_json({**json.loads(path.read_bytes()), "test_acc": 0.9875}))
    shown = call(RUN)
    assert shown.exit_code == 1, shown.output
    assert "mlp-8 from mlp-16, seed 0" in shown.stdout and "test_acc" in shown.stdout and "0.9875" in shown.stdout
    everything = call("--all", "--json")
    assert everything.exit_code == 1
    value = told(everything)
    assert {one["what"] for stage in value["stages"] for one in stage["differences"]} >= {"test_acc"}
    stamp = valid_stamp(store, RUN)
    assert stamp is not None and len(stamp.differences) == value["counts"]["differences"]
    assert stamp_label(stamp) == f"{len(stamp.differences)} differences"
    assert stamp_sentence(stamp).startswith(f"{len(stamp.differences)} differences found {stamp.when[:10]}: 3 stages")


def test_what_cannot_be_done_ends_with_two(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["no-such-run"], ["../x"], [], [RUN, "--all"]):
        result = call(*arguments, "--json")
        assert result.exit_code == 2, arguments
        assert told(result)["problems"]
    store.root.joinpath("verified").mkdir(exist_ok=True)
    with verify_lock(store.root):
        verification.write_progress(store, {"id": "0", "what": RUN, "state": "running", "done": 1, "total": 2})
        result = call(RUN)
        assert result.exit_code == 2 and "is going on" in result.stderr
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    assert call(RUN).exit_code == 2


def test_a_cached_run_is_stamped_in_the_own_store(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    monkeypatch.setenv("TAKD_STORE", str(own))
    monkeypatch.setenv("TAKD_CACHED", str(store.root))
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    key = student_of(store)
    weights = store.own_folder(key) / "weights.safetensors"
    weights.unlink()
    before.pop(weights)
    before[weights.parent] = weights.parent.stat().st_mtime_ns
    assert call(RUN).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before
    mixed = Store(own, [store.root])
    stamp = valid_stamp(mixed, RUN)
    assert stamp is not None and stamp_path(mixed, RUN) == own / "verified" / f"{RUN}.json"
    assert "every number recomputed, weights re-evaluated for 2" in stamp_sentence(stamp)
    assert any("weights.safetensors" in text and "1 stage:" in text for text in skipped_sentences(stamp))


def test_only_one_check_goes_on_and_it_can_be_stopped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(jobs, "start_detached", lambda _, arguments, *__: started.append(arguments))
    number = verification.start(store, RUN)
    assert started == [["--run", RUN, "--id", number]]
    now = verification.verification(store)
    assert now is not None and now.active and now.state == "starting"
    with pytest.raises(RunError, match="going on"):
        verification.start(store)
    verification.stop(store)
    assert (store.root / "verified" / "cancel").exists()
    path = store.root / "verified" / "progress.json"
    row = json.loads(path.read_bytes())
    files.write_atomic(path, canonical_json({**row, "state": "running"}))
    lost = verification.verification(store)
    assert lost is not None and lost.state == "lost" and not lost.active
    files.write_atomic(path, b"{")
    assert verification.verification(store) is None


def test_a_check_is_stopped_by_who_asked_for_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(jobs, "start_detached", lambda _, arguments, *__: started.append(arguments))
    number = verification.start(store, RUN, ADA)
    assert started == [["--run", RUN, "--id", number, "--owner", ADA.id]]
    for stranger in (BEN, Person(), Person(ADA.id, "Ada", refused="Sign in first.")):
        with pytest.raises(RunError, match=r"only they can stop it|Sign in first"):
            verification.stop(store, stranger)
    assert not (store.root / "verified" / "cancel").exists()
    verification.stop(store, ADA)
    assert (store.root / "verified" / "cancel").exists()
    assert main(["--store", str(store.root), "--run", RUN, "--id", number, "--owner", ADA.id]) == STOPPED
    now = verification.verification(store)
    assert now is not None and (now.state, now.owner) == ("cancelled", ADA.id)


def test_strangers_have_one_check_in_ten_minutes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "start_detached", lambda *_: None)

    def start(person: Person) -> None:
        number = verification.start(store, RUN, person)
        verification.write_progress(store, {"id": number, "what": RUN, "state": "done", "done": 3, "total": 3})

    start(ADA)
    start(ADA)  # who uses this server knows each other
    monkeypatch.setenv("TAKD_PUBLIC", "1")
    start(ADA)
    with pytest.raises(RunError, match=r"every 10 minutes; ask again in 10\."):
        start(ADA)
    start(BEN)
    start(MACHINE)
    start(MACHINE)
    later = time.time() + 601
    monkeypatch.setattr(jobs.time, "time", lambda: later)
    start(ADA)
    assert list(json.loads((store.root / "verified" / "asked.json").read_bytes())) == [ADA.id]


@pytest.mark.faults
def test_the_process_outlives_its_caller_and_obeys(store: Store) -> None:
    for name in range(2, 40):
        add_run(store, f"20260101-000000-{name:04x}")
    verification.start(store)
    wait_for(lambda: (now := verification.verification(store)) is not None and now.state == "running")
    verification.stop(store)
    ended = wait_for(lambda: (now := verification.verification(store)) is not None and not now.active and now, 60)
    assert ended.state in ("cancelled", "done")
    if ended.state == "cancelled":
        assert read_stamp(store, RUN) is None
        verification.start(store)
        wait_for(lambda: (now := verification.verification(store)) is not None and now.state == "done", 60)
    assert valid_stamp(store, RUN) is not None
    time.sleep(0.05)


def test_a_stamp_that_is_not_one_counts_as_none(store: Store) -> None:
    report = StageReport("0" * 32, "mlp-8", ("a",), {"b": "why"}, (Difference("c", "1", "2"),), 3, True, {"d": "e"})
    stamp = Stamp(RUN, "2026-01-01T00:00:00+00:00", {"takd": "1"}, (report,))
    raw = canonical_json(stamp.to_json())
    assert parse_stamp(raw) == stamp
    value = json.loads(raw)
    bad: list[Any] = [
        {**value, "schema": 9},
        {**value, "stages": [{}]},
        {**value, "stages": 3},
        {**value, "versions": []},
    ]
    for wrong in (*(canonical_json(one) for one in bad), b"", b"[]", raw[:-20]):
        assert parse_stamp(wrong) is None
    stamp_path(store, RUN).write_bytes(raw)
    assert read_stamp(store, RUN) == stamp
    assert valid_stamp(store, RUN) is None, "its stages are not those of the run"
    assert stamps.files_of(store, "not a key") == {}
    key = student_of(store)
    assert stamps.files_of(store, key)["stage.json"][:32] == key == sha256(store.stage(key).canonical())[:32]  # type: ignore[union-attr]
