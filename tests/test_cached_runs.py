"""What travels with the program: every cached number is what its own files say, and every preset that is promised to
open at once does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from takd.data.catalogue import available_datasets
from takd.data.meta import DataError
from takd.data.sources import import_npz
from takd.data.test_part import load_test
from takd.evaluation.answers_read import labels
from takd.evaluation.verify import verify_stage
from takd.plan import build_plan
from takd.presentation.study import study
from takd.presets import PRESETS
from takd.runs import files, packs
from takd.runs.classes import classes_of, read_classes
from takd.runs.layout import CLASSES
from takd.runs.loop import can_teach
from takd.runs.states import list_runs
from takd.runs.store import Store
from takd.runs.sums import SUMS, wrong_files
from takd.spec import require_spec
from takd.stage import DataSpec

CACHED = Path(__file__).parents[1] / "cached_runs"
SHARED = Path(__file__).parents[2] / "shared" / "data"
STAGES = sorted(path.parent for path in CACHED.glob("stages/*/*/stage.json"))
ALLOWED = {"stage.json", "events.jsonl", "result.json", "predictions.npz", "weights.safetensors", "extra"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "own", [CACHED])


def test_there_are_cached_stages_and_nothing_foreign_among_them(store: Store) -> None:
    assert len(STAGES) > 80
    assert store.broken(CACHED) == []
    for folder in STAGES:
        assert {path.name for path in folder.iterdir()} <= ALLOWED


def test_every_stage_of_a_run_is_what_its_key_says_and_its_result_agrees_with_its_events(store: Store) -> None:
    keys = {key for run in list_runs(store) if run.origin == "cached" for key in run.keys}
    assert {folder.name for folder in STAGES} <= keys and len(keys) > 400
    for key in keys:
        stage, result = store.stage(key), store.result(key)
        assert stage is not None and result is not None and stage.key == key
        folder = Path(store.folder(key))
        rows, _ = store.read_events(key)
        assert [row["epoch"] for row in rows] == list(range(1, stage.recipe.epochs + 1))
        assert result["epochs"] == stage.recipe.epochs
        assert rows[-1]["val_acc"] == pytest.approx(result["val_acc"], abs=1e-6)
        assert rows[-1]["train_acc"] == pytest.approx(result["train_acc"], abs=1e-6)
        assert max(row["val_acc"] for row in rows) == pytest.approx(result["val_best"], abs=1e-6)
        assert set(result["agreement"]) == set(stage.teachers)
        lam = stage.loss.lam
        for row in rows:
            assert row["loss"] == pytest.approx((1 - lam) * row["loss_ce"] + lam * row["loss_kl"], rel=2e-4, abs=1e-5)
        for name, listed in result["files"].items():
            if files.version(str(folder / name)) is not None:
                assert store.has_file(key, name) and len(store.read_file(key, name)) == listed["bytes"], (folder, name)


def test_every_packed_stage_is_what_its_key_says(store: Store) -> None:
    """Read from the packs of the library: result and stage are sound, and so is every file that came along."""
    keys = sorted(packs.keys(CACHED))
    assert len(keys) > 5_000
    for key in keys:
        result = store.result(key)
        assert store.origin(key) == "cached" and result is not None and 0.0 < result["test_acc"] <= 1.0
    for key in keys[::7]:
        stage, result = store.stage(key), store.result(key)
        assert stage is not None and result is not None and stage.key == key
        assert set(result["agreement"]) == set(stage.teachers)
        there = [name for name in result["files"] if files.version(str(store.folder(key) / name)) is not None]
        assert all(store.has_file(key, name) for name in there)
    for path in sorted((CACHED / "packs").iterdir()):
        if (CACHED / "runs" / path.stem).is_dir():
            continue  # a run's own pack: its folder says where it comes from
        about = json.loads(packs.about(path) or b"{}")
        assert {"question", "spec", "machines", "seconds", "finished", "commit"} <= set(about), path.name


def test_every_cached_run_is_planned_alike_today(store: Store) -> None:
    """A change of keys would orphan every stored stage."""
    runs = [run for run in list_runs(store) if run.origin == "cached"]
    assert len(runs) >= 5
    for run in runs:
        spec = require_spec(dict(run.spec))
        plan = build_plan(spec, available_datasets()[spec.dataset])
        assert run.state == "done"
        assert set(plan.stages) == set(run.keys)


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_opens_with_all_its_seeds(name: str, store: Store) -> None:
    spec = PRESETS[name].spec
    shown = study(spec, available_datasets()[spec.dataset], store)
    assert shown.verdict is not None
    assert shown.verdict.n == spec.seeds >= 3
    assert (shown.arms["n"] == spec.seeds).all()
    assert shown.gap_verdict.verdict.n == spec.seeds


def test_cached_cifar_covers_both_students_over_the_whole_ladder(store: Store) -> None:
    for student, sizes in (("plain-2", (4, 6, 8, 10)), ("plain-4", (6, 8, 10))):
        spec = next(p.spec for p in PRESETS.values() if p.spec.dataset == "cifar10" and p.spec.student == student)
        shown = study(spec, available_datasets()["cifar10"], store)
        assert set(shown.kd_arms["teacher"]) == {f"plain-{n}" for n in sizes}
        chains = shown.arms[shown.arms["method"] == "takd"]
        assert len(chains) >= len(sizes) - 1
        stage = next(iter(shown.plan.stages.values()))
        assert stage.data.train_images == 45_000


def test_teachers_can_still_teach(store: Store) -> None:
    """A pupil that is not cached needs its cached teacher's answers or weights. To keep the library small, those of
    size 8 were left out, as no question's teacher is one of them, and those of size 6 at two of five seeds."""
    spec = PRESETS["cifar-gap"].spec
    plan = build_plan(spec, available_datasets()["cifar10"])
    pairs = [(plan.stages[t], pupil) for pupil in plan.stages.values() for t in pupil.teachers]
    able = {(teacher.network, teacher.seed) for teacher, pupil in pairs if can_teach(store, teacher.key, pupil)}
    sizes = {"plain-10": range(5), "plain-6": range(3), "plain-4": range(5)}
    assert able == {(network, seed) for network, seeds in sizes.items() for seed in seeds}


def test_it_all_stays_small() -> None:
    assert sum(f.stat().st_size for f in CACHED.rglob("*") if f.is_file()) < 60e6


def test_every_file_is_as_the_list_of_sums_says() -> None:
    """Written anew with python -m takd.runs.sums cached_runs."""
    assert wrong_files(CACHED) == {}
    listed = {line.split("  ")[1].split("/")[0] for line in (CACHED / SUMS).read_text().splitlines()}
    assert listed >= {"packs", "stages", "runs", "extra-looks", "labels", "tuning"}


def test_every_accuracy_without_weights_recomputes_from_the_answers_that_travel(store: Store) -> None:
    """Whatever has no weights has logits or classes, with true labels beside them: no data set is needed."""
    checked = dict.fromkeys(("digits", "cifar10", "cifar100"), 0)
    for key in sorted({*packs.keys(CACHED), *(folder.name for folder in STAGES)}):
        folder, stage, result = store.folder(key), store.stage(key), store.result(key)
        assert stage is not None and result is not None
        raw = files.read_bytes_or_none(folder / CLASSES)
        if raw is None:
            kept = files.read_bytes_or_none(folder / "predictions.npz")
            assert kept is not None or files.version(str(folder / "weights.safetensors")) is not None, key
            raw = None if kept is None else classes_of(kept)
        if raw is None:
            continue
        truth, rows = labels(store, stage.data), (result, *result.get("parts", ()))
        assert truth is not None
        best, tied = read_classes(raw, len(truth), stage.data.classes)
        for row, answered, ties in zip(rows, best, tied, strict=True):
            right = int((answered == truth).sum())
            assert abs(row["test_acc"] * len(truth) - right) <= ties.sum() + 1e-6, (key, row.get("name"))
            assert sum(row["correct_classes"]) == round(row["test_acc"] * len(truth))
        checked[stage.data.name] += 1
    assert checked["digits"] > 4_000 and checked["cifar10"] > 100 and checked["cifar100"] >= 30


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with CIFAR-10."""
    if not (SHARED / "cifar10").is_dir():
        pytest.skip("CIFAR-10 is not beside the repository")
    import importlib.util

    spec = importlib.util.spec_from_file_location("shared_cifar", SHARED / "cifar.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    place = tmp_path_factory.mktemp("cifar")
    module.export_npz("cifar10", place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAKD_DATA", str(place / "data"))
        try:
            import_npz(place / "cifar10.npz", "cifar10")
        except DataError as error:
            pytest.fail(str(error))
    return place / "data"


@pytest.fixture
def cifar_labels(cifar: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Its test labels; it is prepared for this test."""
    monkeypatch.setenv("TAKD_DATA", str(cifar))
    data = DataSpec("cifar10", str(available_datasets()["cifar10"].fingerprint), 10, 45_000, 0.0, 0)
    return np.asarray(load_test(data)[1])


@pytest.mark.shared_data
def test_accuracies_recompute_from_the_stored_answers(cifar_labels: np.ndarray) -> None:
    """Test labels are not in the repository; where CIFAR-10 is at hand, every stored accuracy is computed again."""
    checked = 0
    for folder in STAGES:
        stage = json.loads((folder / "stage.json").read_text())
        if stage["data"]["name"] == "cifar10" and (folder / "predictions.npz").exists():
            logits = np.load(folder / "predictions.npz", allow_pickle=False)["logits"]
            accuracy = float((logits.argmax(1) == cifar_labels).mean())
            stored = json.loads((folder / "result.json").read_text())["test_acc"]
            assert accuracy == pytest.approx(stored, abs=5e-4)  # half precision can break a tie the other way
            checked += 1
    assert checked > 50


@pytest.mark.shared_data
@pytest.mark.usefixtures("cifar_labels")
def test_a_network_of_every_third_cifar_pack_is_recomputed(store: Store) -> None:
    """From its weights: its test numbers, and its agreement with each teacher of which the library holds the copy that
    taught it. `python -m takd verify --all` asks all of them."""
    asked = 0
    for path in sorted((CACHED / packs.PACKS).glob("cifar10-*"))[::3]:
        keys = [name.partition("/")[0] for name in packs.members(path) if name.endswith("/weights.safetensors")]
        for key in keys[-1:]:
            report = verify_stage(store, key)
            assert not report.differences, (report.title, path.name, report.differences)
            assert "test_acc" in report.checked
            asked += 1
    assert asked > 8
