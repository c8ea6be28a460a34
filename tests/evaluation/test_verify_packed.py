"""Packed stages, of which one of weights and test answers is kept: every number is recomputed from it, whatever
somebody changes in a pack is found and named, and networks in packs teach."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from takd.data.catalogue import available_datasets
from takd.evaluation import weights_check
from takd.evaluation.verify import verify_stage
from takd.plan import build_plan
from takd.runs import packs
from takd.runs.layout import sha256, with_sum
from takd.runs.loop import train_all
from takd.runs.publish import publish
from takd.runs.stamps import StageReport
from takd.runs.states import write_run_file
from takd.runs.store import Store
from takd.runs.submit import write_plan
from takd.spec import ExperimentSpec, require_spec, to_json

WEIGHTS, PREDICTIONS = "weights.safetensors", "predictions.npz"
QUESTIONS: dict[str, dict[str, Any]] = {
    "kd": {"method": "kd"},
    "published": {"method": "kd", "options": {"protocol": "published"}},
    "dih": {"method": "dih"},
    "ipkd-ta": {"method": "ipkd-ta", "student": "slim-mlp-64"},
    "dml": {"method": "dml"},
}
TEST_NUMBERS = {"test_acc", "test_loss", "ece", "entropy", "correct_classes"}


def spec_of(name: str) -> ExperimentSpec:
    ends = {} if "student" in QUESTIONS[name] else {"teacher": "mlp-16", "student": "mlp-8"}
    asked = {"dataset": "digits", "budget": "taste", "seeds": 1, "scope": "chain", **ends, **QUESTIONS[name]}
    return require_spec(asked)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which every question is trained, and cached ones it was published to."""
    root = tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAKD_DATA", str(root / "data"))
        store = Store(root / "store")
        for name in QUESTIONS:
            plan = build_plan(spec_of(name), available_datasets()["digits"])
            folder = store.root / "runs" / f"run-{name}"
            folder.mkdir(parents=True)
            write_plan(store, folder, plan)
            write_run_file(folder, "experiment.json", {"spec": to_json(spec_of(name)), "created": "2026-01-01"})
            assert train_all(store, plan.stages, device="cpu", should_stop=lambda: False, say=print)
            write_run_file(folder, "status.json", {"state": "done"})
            publish(store, f"run-{name}", root / "smaller")
            publish(store, f"run-{name}", root / "answers", answers=True)
    return root


@pytest.fixture
def smaller(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with a copy of the packs, which may be harmed."""
    monkeypatch.setenv("TAKD_DATA", str(published / "data"))
    return Store(tmp_path / "own", [Path(shutil.copytree(published / "smaller", tmp_path / "cached"))])


def keys_of(name: str) -> list[str]:
    return list(build_plan(spec_of(name), available_datasets()["digits"]).stages)


def student_of(name: str) -> str:
    stages = build_plan(spec_of(name), available_datasets()["digits"]).stages
    return next(key for key, stage in stages.items() if stage.teachers)


def pack_of(store: Store, key: str) -> Path:
    return next(path for path in store.cached[0].glob("packs/*") if f"{key}/result.json" in packs.members(path))


def put(store: Store, key: str, contents: Mapping[str, bytes]) -> None:
    """Change members of a pack in place, as sqlite3 lets anybody."""
    archive = sqlite3.connect(pack_of(store, key))
    with archive:
        for name, raw in contents.items():
            row = (f"{key}/{name}", len(raw), raw)
            archive.execute(
                "INSERT OR REPLACE INTO sqlar (name, mode, mtime, sz, data) VALUES (?, 33188, 0, ?, ?)", row
            )
    archive.close()


def member(store: Store, key: str, name: str) -> bytes:
    return packs.members(pack_of(store, key))[f"{key}/{name}"]


def forged(store: Store, key: str, change: Callable[[dict[str, Any]], None], **contents: bytes) -> None:
    """Change files and the result, with every sum made to fit."""
    raws = {name.replace("_", "."): raw for name, raw in contents.items()}
    result = json.loads(member(store, key, "result.json"))
    change(result)
    result["files"] |= {name: {"sha256": sha256(raw), "bytes": len(raw)} for name, raw in raws.items()}
    result.pop("sum")
    put(store, key, {**raws, "result.json": with_sum(result)})


def unchanged(_: dict[str, Any]) -> None:
    pass


def differing(report: StageReport) -> set[str]:
    return {one.what for one in report.differences}


@pytest.mark.parametrize("name", list(QUESTIONS))
def test_packed_stages_are_clean_and_small_ones_complete(name: str, smaller: Store, published: Path) -> None:
    here = Store(published / "store")
    for key in keys_of(name):
        report, whole, stage = verify_stage(smaller, key), verify_stage(here, key), smaller.stage(key)
        assert stage is not None and not report.differences, (report.title, differing(report))
        assert set(report.checked) >= TEST_NUMBERS | {"val_acc", "key"}
        if not smaller.has_file(key, PREDICTIONS):
            assert report.weights and set(report.skipped) == set(whole.skipped), report.skipped
            files = {
                PREDICTIONS,
                "logits from the weights",
                "parts in predictions.npz",
            }  # what is about the file itself
            files |= {what for what in whole.checked if what.startswith("logits from the weights")}
            assert set(whole.checked) - set(report.checked) <= files
        else:
            assert not report.weights and WEIGHTS in report.skipped
    kinds = {smaller.has_file(key, PREDICTIONS) for key in keys_of("kd")}
    assert kinds == {False}, "the networks of these tests are smaller than their answers"
    assert smaller.has_file(keys_of("dml")[-1], PREDICTIONS), "its weights alone do not give what its peer answered"


def test_every_packed_stage_is_among_those_a_check_of_everything_looks_at(smaller: Store) -> None:
    assert set(smaller.stage_keys()) == {key for name in QUESTIONS for key in keys_of(name)}


@pytest.mark.parametrize(
    ("number", "by"),
    [("test_acc", 1 / 360), ("test_loss", 0.01), ("ece", 0.02), ("entropy", 0.01), ("val_acc", 0.02), ("kl", 0.05),
     ("agreement", 0.02)],
)  # fmt: skip
def test_a_changed_number_is_caught_however_well_its_sums_fit(number: str, by: float, smaller: Store) -> None:
    key = student_of("kd")

    def change(result: dict[str, Any]) -> None:
        if isinstance(result[number], dict):
            result[number] = {teacher: value + by for teacher, value in result[number].items()}
        else:
            result[number] += by

    forged(smaller, key, change)
    assert smaller.is_done(key)
    found = differing(verify_stage(smaller, key))
    assert any(what == number or what.startswith(f"{number} ") for what in found), found


def test_a_changed_number_is_caught_by_the_sum_of_its_result(smaller: Store) -> None:
    key = student_of("kd")
    raw = member(smaller, key, "result.json")
    accuracy = str(json.loads(raw)["test_acc"]).encode()
    put(smaller, key, {"result.json": raw.replace(b'"test_acc": ' + accuracy, b'"test_acc": 0.987', 1)})
    assert not smaller.is_done(key) and smaller.origin(key) is None
    assert {"result.json's own sum", "test_acc"} <= differing(verify_stage(smaller, key))


def harmed(raw: bytes) -> bytes:
    changed = np.frombuffer(raw[-4 * 8 :], np.float32) + np.float32(0.75)
    return raw[: -4 * 8] + changed.tobytes()


def test_changed_weights_are_caught_by_their_sum(smaller: Store) -> None:
    key = student_of("kd")
    put(smaller, key, {WEIGHTS: harmed(member(smaller, key, WEIGHTS))})
    assert smaller.is_done(key) and not smaller.has_file(key, WEIGHTS)
    assert WEIGHTS in differing(verify_stage(smaller, key))


def test_changed_weights_are_caught_by_what_they_answer(smaller: Store) -> None:
    key = student_of("kd")
    forged(smaller, key, unchanged, weights_safetensors=harmed(member(smaller, key, WEIGHTS)))
    assert smaller.has_file(key, WEIGHTS)
    assert {"test_loss", "entropy"} <= differing(verify_stage(smaller, key))


def test_a_changed_teacher_shows_in_its_student_too(smaller: Store) -> None:
    key = student_of("kd")
    stage = smaller.stage(key)
    assert stage is not None
    (teacher,) = stage.teachers
    forged(smaller, teacher, unchanged, weights_safetensors=harmed(member(smaller, teacher, WEIGHTS)))
    assert f"kl with {teacher[:8]}" in differing(verify_stage(smaller, key))


def test_weights_that_explode_are_no_answers(smaller: Store) -> None:
    key = student_of("kd")
    raw = member(smaller, key, WEIGHTS)
    forged(smaller, key, unchanged, weights_safetensors=raw[:-4] + np.float32(1e30).tobytes())
    report = verify_stage(smaller, key)
    assert WEIGHTS in differing(report) and set(report.skipped) >= TEST_NUMBERS


def test_changed_answers_are_caught_with_and_without_their_sums(
    smaller: Store, published: Path, tmp_path: Path
) -> None:
    key = student_of("kd")
    store = Store(tmp_path / "own", [Path(shutil.copytree(published / "answers", tmp_path / "answers"))])
    assert not verify_stage(store, key).differences and not store.has_file(key, WEIGHTS)
    with np.load(io.BytesIO(store.read_file(key, PREDICTIONS))) as archive:
        logits = np.roll(archive["logits"], 1, axis=1)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, logits=logits)
    put(store, key, {PREDICTIONS: buffer.getvalue()})
    assert {PREDICTIONS, "test_acc"} <= differing(verify_stage(store, key))
    forged(store, key, unchanged, predictions_npz=buffer.getvalue())
    found = differing(verify_stage(store, key))
    assert "test_acc" in found and PREDICTIONS not in found


def test_a_stage_with_neither_is_skipped_with_the_reason(smaller: Store) -> None:
    key = student_of("kd")
    place = pack_of(smaller, key)
    kept = {name: raw for name, raw in packs.members(place).items() if name != f"{key}/{WEIGHTS}"}
    place.write_bytes(packs.packed(kept))
    report = verify_stage(smaller, key)
    assert not report.differences and not report.weights
    assert "predictions.npz" in report.skipped["test_acc"] and WEIGHTS in report.skipped


def test_without_its_data_set_a_packed_stage_is_not_called_checked(
    smaller: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from takd.data.meta import DataError

    def not_here(*_: object) -> None:
        raise DataError("digits is not prepared here")

    weights_check._labels.cache_clear()
    monkeypatch.setattr("takd.evaluation.weights_check.load_test", not_here)
    report = verify_stage(smaller, student_of("kd"))
    assert not report.differences and not report.weights
    assert set(report.skipped) >= TEST_NUMBERS | {PREDICTIONS, "logits from the weights"}


@pytest.mark.parametrize(("kept", "again"), [("smaller", 0), ("answers", 1)])
def test_a_packed_network_teaches_where_its_weights_are_kept(
    kept: str, again: int, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pupil of a packed teacher is the one it would have been beside a live teacher."""
    monkeypatch.setenv("TAKD_DATA", str(published / "data"))
    plan = build_plan(require_spec({**to_json(spec_of("kd")), "temperature": 7.0}), available_datasets()["digits"])
    live = Store(Path(shutil.copytree(published / "store", tmp_path / "live")))
    packed = Store(tmp_path / "own", [published / kept])
    (pupil,) = [key for key in plan.stages if not live.is_done(key)]
    trained: list[str] = []
    for store in (live, packed):
        assert train_all(store, plan.stages, device="cpu", should_stop=lambda: False, say=trained.append)
    results = [store.result(pupil) or {} for store in (live, packed)]
    for name in (*TEST_NUMBERS, "kl", "agreement", "val_acc"):
        assert results[0][name] == results[1][name], name
    assert live.read_file(pupil, WEIGHTS) == packed.read_file(pupil, WEIGHTS)
    own = [path.name for path in packed.root.glob("stages/*/*") if (path / "result.json").exists()]
    assert len(own) == 1 + again
    assert not verify_stage(packed, pupil).differences
