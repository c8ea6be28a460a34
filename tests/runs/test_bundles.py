"""Bundles: out of one store and into another, twice, beside others, out again; and what a crash on the way leaves."""

from __future__ import annotations

import ast
import io
import json
import shutil
import zipfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from takd.cli.main import cli
from takd.data.catalogue import available_datasets
from takd.evaluation.metrics import prediction_metrics
from takd.plan import build_plan
from takd.runs import bundle, bundle_import, bundle_stage, files, imported
from takd.runs.arrays import check_answers
from takd.runs.bundle import contents, write_bundle
from takd.runs.bundle_import import Imported, import_bundle
from takd.runs.bundle_stage import check_result
from takd.runs.classes import answered, classes_of
from takd.runs.errors import BundleError, RunError
from takd.runs.imported import imported_bytes, remove_imported
from takd.runs.layout import CLASSES, TAUGHT_BY
from takd.runs.locks import import_lock
from takd.runs.loop import needed
from takd.runs.memory import SPARED
from takd.runs.people import Person
from takd.runs.publish import publish
from takd.runs.stamps import stamp_path
from takd.runs.states import list_runs, run_info
from takd.runs.store import Store
from takd.runs.strict import Unfit
from takd.runs.submit import cancel, delete, resume
from takd.spec import require_spec
from takd.stage import LossSpec, canonical_json
from takd.training import run_stage
from takd.training.progress import numbers_of
from tests.faults.made_bundles import (
    ASKED,
    PART,
    RUN,
    made_store,
    members_of,
    npy,
    npz,
    packed,
    set_file,
    set_json,
    set_result,
    tensors,
)
from tests.faults.trees import tree


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return made_store(tmp_path / "source")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    root = tmp_path / "store"
    return Store(root, [], root / "imported")


def bundle_of(store: Store, *, weights: bool = True) -> bytes:
    file = io.BytesIO()
    write_bundle(store, RUN, file, weights=weights)
    return file.getvalue()


def bring(store: Store, raw: bytes) -> Imported:
    return import_bundle(store, io.BytesIO(raw))


def test_a_run_goes_into_a_file_and_comes_out_of_it(source: Store, store: Store) -> None:
    raw = bundle_of(source)
    assert raw == bundle_of(source), "the same run makes the same bytes"
    found = bring(store, raw)
    assert found == Imported(RUN, False, "imported", 3, 0, 0, True)
    run, before = run_info(store, RUN), run_info(source, RUN)
    assert (run.origin, run.state, run.keys, run.spec) == ("imported", "done", before.keys, before.spec)
    assert (run.note, run.asked_by, run.created) == (before.note, before.asked_by, before.created)
    for key in run.keys:
        assert store.origin(key) == "imported" and store.result(key) == source.result(key)
        assert store.read_file(key, "weights.safetensors") == source.read_file(key, "weights.safetensors")
        assert store.read_events(key) == source.read_events(key)
    assert "pid" not in json.loads((store.root / "imported" / "runs" / RUN / "status.json").read_text())
    assert [row.id for row in list_runs(store)] == [RUN] and store.broken(store.imported) == []
    out = io.BytesIO()
    write_bundle(store, RUN, out)
    assert out.getvalue() == raw, "what was imported can be given away again, as it came"


def test_importing_twice_changes_nothing_and_an_own_run_is_known(source: Store, store: Store) -> None:
    raw = bundle_of(source)
    bring(store, raw)
    before = tree(store.root)
    assert bring(store, raw).known and tree(store.root) == before
    again = Store(source.root, [], source.root / "imported")
    before = tree(source.root)
    assert bring(again, raw) == Imported(RUN, True, "live", 3, 3, 0, True) and tree(source.root) == before


def test_weights_may_come_later(source: Store, store: Store) -> None:
    small, whole = bundle_of(source, weights=False), bundle_of(source)
    inside = contents(source, RUN)
    assert len(small) < len(whole) and inside.bytes > inside.bytes_without_weights and inside.stages == 3
    assert not bring(store, small).weights and not store.has_file(run_info(store, RUN).keys[0], "weights.safetensors")
    assert bring(store, whole).known
    assert all(store.has_file(key, "weights.safetensors") for key in run_info(store, RUN).keys)


def test_another_run_of_the_same_id_gets_an_id_of_its_own(source: Store, store: Store) -> None:
    bring(store, bundle_of(source))
    members = members_of(source)
    set_result(members, test_acc=0.75)
    other = packed(members)
    found = bring(store, other)
    assert found.run_id.startswith(f"{RUN}-") and found.kept == 1, "one training was imported before with other numbers"
    assert bring(store, other).run_id == found.run_id and len(list_runs(store)) == 2
    members = members_of(source)
    set_json(members, "run/experiment.json", lambda value: {**value, "created": "2026-01-02T00:00:00"})
    assert bring(store, packed(members)).run_id not in (RUN, found.run_id)


def test_own_results_are_shown_and_imported_ones_never_train(source: Store, store: Store) -> None:
    bring(store, bundle_of(source))
    stages = build_plan(require_spec(ASKED), available_datasets()["digits"]).stages
    assert needed(store, stages) == set(stages), "everything is trained here all the same"
    key = next(iter(stages))
    shutil.copytree(source.folder(key), store.own_folder(key))
    assert store.origin(key) == "live" and needed(store, stages) == set(stages) - {key}
    assert bring(store, bundle_of(source)).own == 1


def test_an_imported_run_can_be_removed_and_not_changed(source: Store, store: Store) -> None:
    bring(store, bundle_of(source))
    members = members_of(source)
    set_json(members, "run/experiment.json", lambda value: {**value, "created": "2026-01-02T00:00:00"})
    twin = bring(store, packed(members)).run_id
    for action in (cancel, resume):
        with pytest.raises(RunError, match="was imported and cannot be changed"):
            action(store, RUN)
    stamp = stamp_path(store, RUN)
    assert stamp == store.root / "verified" / f"{RUN}.json"
    stamp.parent.mkdir()
    stamp.write_text("{}")
    assert "and 0 trainings" in delete(store, RUN) and not stamp.exists()
    assert run_info(store, twin).state == "done", "the other run needs the same trainings"
    assert remove_imported(store, twin) == 3 and imported_bytes(store) == 0 and list_runs(store) == []
    with pytest.raises(RunError, match="no run"):
        remove_imported(store, twin)
    with pytest.raises(RunError, match="was not imported"):
        remove_imported(Store(source.root, [], source.root / "imported"), RUN)


@pytest.mark.parametrize("crash", range(4))  # at one of three stages, or at the run
def test_a_crash_on_the_way_leaves_no_run_and_the_next_import_cleans_up(
    source: Store, store: Store, monkeypatch: pytest.MonkeyPatch, crash: int
) -> None:
    raw, rename, renames = bundle_of(source), Path.rename, []

    def dies(path: Path, target: Path) -> Path:
        renames.append(target)
        if len(renames) > crash:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as dead:
        dead.setattr(bundle_import.shutil, "rmtree", lambda *_, **__: None)  # a dead process tidies nothing up
        dead.setattr(bundle_import, "sweep", lambda _: 0)
        dead.setattr(imported, "sweep", lambda _: 0)
        dead.setattr(Path, "rename", dies)
        with pytest.raises(KeyboardInterrupt):
            bring(store, raw)
    assert len(renames) == crash + 1 and list_runs(store) == [] and store.broken(store.imported) == []
    bring(store, raw)
    left = {path.name for path in (store.root / "imported").iterdir()}
    assert left == {"lock", "runs", "stages"} and run_info(store, RUN).state == "done"


def test_a_full_disk_leaves_nothing(source: Store, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    raw = bundle_of(source)
    monkeypatch.setattr(files, "write_together", full)
    with pytest.raises(BundleError, match=r"No space left.*Make room"):
        bring(store, raw)
    assert imported_bytes(store) == 0 and list_runs(store) == []


def test_imports_have_a_quota_and_take_turns(source: Store, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = bundle_of(source)
    monkeypatch.setenv("TAKD_IMPORTS_MB", "0")
    with pytest.raises(BundleError, match="Remove an imported run"):
        bring(store, raw)
    assert tree(store.root) == {}
    monkeypatch.setenv("TAKD_IMPORTS_MB", "1")
    bring(store, raw)
    monkeypatch.setattr(imported, "_WAIT", 0.05)
    with import_lock(store.root), pytest.raises(RunError, match="in a moment"):
        remove_imported(store, RUN)


def test_what_a_server_allows(source: Store, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = bundle_of(source)
    monkeypatch.setenv("TAKD_PUBLIC", "1")
    with pytest.raises(RunError, match="takes no runs from outside"):
        bring(store, raw)
    monkeypatch.setenv("TAKD_IMPORTS", "1")
    bring(store, raw)
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    for action in (lambda: bring(store, raw), lambda: remove_imported(store, RUN)):
        with pytest.raises(RunError, match="only shows results"):
            action()


def test_texts_of_strangers_are_kept_as_plain_lines(source: Store, store: Store) -> None:
    members = members_of(source)
    texts = {"note": "<img src=x>\u202eevil\x1b[31m a\u0301\u0301\u0301\u0301\n" + "x" * 900, "asked_by": "\u200bEve\0"}
    set_json(members, "run/experiment.json", lambda value: {**value, **texts})
    bring(store, packed(members))
    run = run_info(store, RUN)
    assert (
        run.asked_by == "Eve"
        and run.note.startswith("img src=x evil [31m \u00e1\u0301\u0301 xxx")
        and len(run.note) == 500
    )


def test_a_run_that_is_not_finished_or_damaged_makes_no_bundle(source: Store) -> None:
    key = run_info(source, RUN).keys[0]
    path = source.folder(key) / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleError, match="is damaged or missing"):
        bundle_of(source)
    path.unlink()
    assert bundle_of(source), "weights may be left out"
    (source.folder(key) / "result.json").unlink()
    with pytest.raises(BundleError, match="is damaged or missing"):
        bundle_of(source)
    (source.root / "runs" / RUN / "status.json").write_text('{"schema": 1, "state": "cancelled"}')
    with pytest.raises(BundleError, match="is cancelled; only a finished run"):
        bundle_of(source)


def test_a_run_in_a_pack_makes_a_bundle(source: Store, store: Store, tmp_path: Path) -> None:
    publish(source, RUN, tmp_path / "cached")
    packed_run = Store(tmp_path / "own", [tmp_path / "cached"])
    assert run_info(packed_run, RUN).origin == "cached" and contents(packed_run, RUN).stages == 3
    raw = bundle_of(packed_run)
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        large = [name for name in archive.namelist() if name.endswith(("weights.safetensors", "predictions.npz"))]
    assert len(large) == 3, "of each stage what the pack has"
    bring(store, raw)
    assert run_info(store, RUN).state == "done"


def test_answered_classes_travel_in_place_of_answers(source: Store, store: Store) -> None:
    members, keys = members_of(source), run_info(source, RUN).keys
    for key in keys:
        found = classes_of(members.pop(f"stages/{key}/predictions.npz"))
        assert found is not None
        members[f"stages/{key}/{CLASSES}"] = found
    bring(store, packed(members))
    for key in keys:
        one, other = answered(store, key, 900, 10), answered(source, key, 900, 10)
        assert one is not None and other is not None and (one[0] == other[0]).all()
    assert bundle_of(store) and members_of(store) == members, "and out again"


def test_a_status_of_an_earlier_import_breaks_no_list(source: Store, store: Store) -> None:
    bring(store, bundle_of(source))
    path = store.root / "imported" / "runs" / RUN / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "processes": "many"}))
    assert [(run.id, run.processes) for run in list_runs(store)] == [(RUN, 0)]


def test_who_may_start_nothing_imports_nothing(source: Store, store: Store) -> None:
    with pytest.raises(RunError, match="Sign in first"):
        import_bundle(store, io.BytesIO(bundle_of(source)), person=Person(refused="Sign in first."))
    assert tree(store.root) == {}


def test_a_bundle_is_no_larger_than_one_that_can_be_imported(source: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = contents(source, RUN)
    monkeypatch.setattr(bundle, "MOST_OF_STAGES", inside.bytes)
    assert bundle_of(source)
    monkeypatch.setattr(bundle, "MOST_OF_STAGES", inside.bytes - 1)
    with pytest.raises(BundleError, match="Leave the weights out"):
        bundle_of(source)
    assert bundle_of(source, weights=False)


def test_answers_of_parts_are_those_of_the_stage() -> None:
    one = np.zeros((7, 10), np.float16)
    three = npz(("logits.npy", npy(one)), ("parts.npy", npy(np.stack([one, one, one], 1))))
    assert check_answers(three, 10, 3) == 7
    for raw, parts in ((three, 2), (three, 0), (npz(("logits.npy", npy(one))), 3)):
        with pytest.raises(Unfit, match=r"parts|files"):
            check_answers(raw, 10, parts)


def test_the_parts_of_a_result_are_those_of_its_stage(source: Store) -> None:
    key = run_info(source, RUN).keys[0]
    stage, value = source.stage(key), source.result(key)
    assert stage is not None and value is not None
    pair = replace(stage, loss=LossSpec("dml", 1.0, 0.5), peers=("mlp-16",))
    for count in range(4):
        raw = canonical_json({**value, "key": pair.key, "parts": [PART] * count})
        with nullcontext() if count == 2 else pytest.raises(Unfit, match="another number of parts"):
            check_result(pair, raw, {})


def test_a_bundle_takes_every_field_a_training_writes() -> None:
    """`_finished` of run_stage.py writes result.json from literals, what its epochs and the test part gave, who taught
    it, and what commit adds."""
    code = ast.parse(Path(run_stage.__file__).read_text(encoding="utf-8"))
    finished = next(n for n in ast.walk(code) if isinstance(n, ast.FunctionDef) and n.name == "_finished")
    table = next(n.value for n in finished.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "result")
    assert isinstance(table, ast.Dict)
    spread = [n for key, value in zip(table.keys, table.values, strict=True) if key is None for n in ast.walk(value)]
    dicts = [table, *(n for n in spread if isinstance(n, ast.Dict))]
    written = {key.value for one in dicts for key in one.keys if isinstance(key, ast.Constant)}
    assert {"memory", "note", "env"} <= written
    measured = {*prediction_metrics(torch.zeros(4, 10), torch.zeros(4, dtype=torch.long), 10), "agreement", "kl"}
    row = {"val_acc": 0.5, "train_acc": 0.5, "images_per_second": 1.0, "epoch": 1}
    measured |= {*numbers_of([row]), TAUGHT_BY}
    assert written | measured | {"parts", "selected_on_test", "schema", "key", "files"} == set(bundle_stage._KINDS)
    assert all(bundle_stage._KINDS["memory"](way) for way in SPARED)
    taught = bundle_stage._KINDS[TAUGHT_BY]
    assert taught({"ab" * 16: 0.5}) and taught({"ab" * 16: None})
    assert not taught({"ab" * 16: "0.5"}) and not taught({"x": 0.5}) and not taught([0.5])


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_the_commands(source: Store, tmp_path: Path) -> None:
    file, other = str(tmp_path / "run.zip"), str(tmp_path / "other")
    out = call("bundle", RUN, "-o", file, "--store", str(source.root), "--json")
    assert out.exit_code == 0 and json.loads(out.output)["stages"] == 3
    assert call("bundle", RUN, "-o", file, "--store", str(source.root)).exit_code == 2, "nothing is overwritten"
    assert "no run" in call("bundle", "nothing", "-o", f"{file}2", "--store", str(source.root)).output
    assert not Path(f"{file}2").exists() and [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    came = call("import", file, "--store", other)
    assert came.exit_code == 0 and "3 trainings with weights" in came.output and "Verify" in came.output
    assert json.loads(call("import", file, "--store", other, "--json").output)["known"] is True
    listed = json.loads(call("list", "--store", other, "--json").output)["runs"]
    assert [(row["run"], row["origin"]) for row in listed] == [(RUN, "imported")]
    shown = json.loads(call("show", RUN, "--store", other, "--json").output)
    assert {row["origin"] for row in shown["arms"]} == {"imported"}
    Path(file).write_bytes(Path(file).read_bytes()[:-40])
    bad = call("import", file, "--store", other)
    assert bad.exit_code == 2 and "Nothing was imported" in bad.output and "Traceback" not in bad.output
    assert call("import", str(tmp_path), "--store", other).exit_code == 2
    gone = call("delete", RUN, "--store", other)
    assert gone.exit_code == 0 and "3 trainings" in gone.output


def test_the_store_a_bundle_changed_while_it_was_read_stays_as_it_was(
    source: Store, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, members = bundle_of(source), members_of(source)
    key = run_info(source, RUN).keys[0]
    set_file(members, key, "weights.safetensors", tensors(np.zeros(7, "<f4")))
    checked = bundle_import.check_bundle(io.BytesIO(first), available_datasets(), 10**9)
    monkeypatch.setattr(bundle_import, "check_bundle", lambda *_: checked)
    with pytest.raises(BundleError, match="changed while it was read"):
        bring(store, packed(members))
    assert list_runs(store) == [] and imported_bytes(store) == 0
