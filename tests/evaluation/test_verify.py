"""Every number of a stage is recomputed from its files, and whatever somebody changes in them is found and named."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from takd.data.catalogue import available_datasets
from takd.evaluation.answers_check import ANOTHER_COPY, Stored, check_metrics, read_stored
from takd.evaluation.metrics import prediction_metrics
from takd.evaluation.notes import Notes
from takd.evaluation.verify import verify_stage
from takd.evaluation.weights_check import LOGITS
from takd.plan import build_plan
from takd.runs import files, packs
from takd.runs.layout import sha256, with_sum
from takd.runs.loop import train_all
from takd.runs.shelf import trained_again
from takd.runs.stamps import StageReport, Stamp, parse_stamp
from takd.runs.states import list_runs
from takd.runs.store import Store
from takd.spec import require_spec
from takd.stage import StageSpec, canonical_json

CACHED = Path(__file__).parents[2] / "cached_runs"
QUESTIONS: dict[str, dict[str, Any]] = {
    "kd": {"method": "kd"},
    "published": {"method": "kd", "options": {"protocol": "published"}},
    "dih": {"method": "dih"},
    "ipkd-ta": {"method": "ipkd-ta", "student": "slim-mlp-64"},
    "dml": {"method": "dml"},
}
TEST_NUMBERS = {"test_acc", "test_loss", "ece", "entropy", "correct_classes"}


def stages_of(name: str) -> dict[str, StageSpec]:
    ends = {} if "student" in QUESTIONS[name] else {"teacher": "mlp-32", "student": "mlp-8"}
    asked = {"dataset": "digits", "budget": "taste", "seeds": 1, "scope": "chain", **ends, **QUESTIONS[name]}
    return dict(build_plan(require_spec(asked), available_datasets()["digits"]).stages)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with every question trained, in seconds, and its data set."""
    root = tmp_path_factory.mktemp("verify")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAKD_DATA", str(root / "data"))
        for name in QUESTIONS:
            store = Store(root / "store")
            stages = stages_of(name)
            for stage in stages.values():
                store.ensure(stage)
            assert train_all(store, stages, device="cpu", should_stop=lambda: False, say=print)
    return root / "store"


@pytest.fixture
def copy(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that may be harmed, beside the data set it was trained on."""
    monkeypatch.setenv("TAKD_DATA", str(trained.parent / "data"))
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def told(report: StageReport) -> str:
    return "; ".join(f"{one.what}: {one.stored} / {one.found}" for one in report.differences)


@pytest.mark.parametrize("name", list(QUESTIONS))
def test_a_trained_question_is_clean(name: str, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_DATA", str(trained.parent / "data"))
    store = Store(trained)
    for key, stage in stages_of(name).items():
        report = verify_stage(store, key)
        assert not report.differences, (report.title, told(report))
        assert set(report.checked) >= TEST_NUMBERS | {"val_acc", "train_acc", "val_best", "val_best_epoch", "key"}
        assert report.weights, report.skipped
        for teacher in stage.teachers:
            assert {f"agreement with {teacher[:8]}", f"kl with {teacher[:8]}"} <= set(report.checked)
        left = {"val_acc from the weights"} if stage.recipe.selection else set()
        left |= {f"{peer}: val_acc" for peer in stage.peers}
        assert set(report.skipped) == left
        again = parse_stamp(canonical_json(Stamp("", "2026", {}, (report,)).to_json()))
        assert again is not None and again.stages == (report,)


def student(copy: Path, name: str = "kd") -> tuple[Store, str, Path]:
    """The first stage of a question that has a teacher, in the copy."""
    key, _ = next((key, stage) for key, stage in stages_of(name).items() if stage.teachers)
    store = Store(copy)
    return store, key, store.own_folder(key)


def rewrite(folder: Path, name: str, raw: bytes) -> None:
    """Replace a file and, as a careful forger would, its sum in result.json."""
    (folder / name).write_bytes(raw)
    result = json.loads((folder / "result.json").read_bytes())
    result["files"][name] = {"sha256": sha256(raw), "bytes": len(raw)}
    with_result(folder, **result)


def with_result(folder: Path, **changes: Any) -> None:
    """Change values of a result, and its own sum."""
    result = json.loads((folder / "result.json").read_bytes()) | changes
    result.pop("sum", None)
    (folder / "result.json").write_bytes(with_sum(result))


def with_logits(folder: Path, change: Callable[[np.ndarray], None]) -> None:
    with np.load(folder / "predictions.npz") as archive:
        arrays = {name: archive[name].copy() for name in archive.files}
    change(arrays["logits"])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    rewrite(folder, "predictions.npz", buffer.getvalue())


def with_row(folder: Path, place: int, **changes: Any) -> None:
    rows = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    rows[place].update(changes)
    rewrite(folder, "events.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def without_row(folder: Path, place: int) -> None:
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    rewrite(folder, "events.jsonl", b"".join(line for i, line in enumerate(lines) if i != place % len(lines)))


def one_weight(folder: Path) -> None:
    raw = bytearray((folder / "weights.safetensors").read_bytes())
    raw[-1] ^= 0x40  # the exponent of the last number
    rewrite(folder, "weights.safetensors", bytes(raw))


def one_logit(logits: np.ndarray) -> None:
    logits[3, 2] += 1


HARM: dict[str, tuple[Callable[[Path], None], str]] = {
    "test_acc": (lambda f: with_result(f, test_acc=0.987), "test_acc"),
    "test_loss": (lambda f: with_result(f, test_loss=0.0987), "test_loss"),
    "ece": (lambda f: with_result(f, ece=0.4321), "ece"),
    "entropy": (lambda f: with_result(f, entropy=1.987), "entropy"),
    "classes": (lambda f: with_result(f, correct_classes=[36] * 10), "correct_classes"),
    "agreement": (lambda f: with_result(f, agreement={}), "teachers of agreement"),
    "taught by": (lambda f: with_result(f, taught_by={}), "teachers of taught_by"),
    "val_best": (lambda f: with_result(f, val_best=0.99), "val_best"),
    "val_best_epoch": (lambda f: with_result(f, val_best_epoch=1), "val_best_epoch"),
    "selected": (lambda f: with_result(f, selected_on_test={"epoch": 1}), "selected_on_test"),
    "speed": (lambda f: with_result(f, images_per_second=1e6), "images_per_second"),
    "last row": (lambda f: with_row(f, -1, val_acc=0.999), "val_acc"),
    "loss of a row": (lambda f: with_row(f, 2, loss=0.001), "loss of the epochs (epoch 3)"),
    "rate of a row": (lambda f: with_row(f, 2, lr=0.9), "lr of the epochs (epoch 3)"),
    "test image looked at": (lambda f: with_row(f, 1, test_acc=0.5), "test_acc in the events"),
    "row taken out": (lambda f: without_row(f, 4), "rows of the epochs"),
    "last row taken out": (lambda f: without_row(f, -1), "rows of the epochs"),
    "one logit": (lambda f: with_logits(f, one_logit), "logits from the weights"),
    "logits not finite": (lambda f: with_logits(f, lambda z: z.fill(np.nan)), "predictions.npz"),
    "one weight": (one_weight, "logits from the weights"),
    "weights of another": (lambda f: rewrite(f, "weights.safetensors", b"?"), "weights.safetensors"),
    "bytes of a file": (lambda f: (f / "events.jsonl").write_bytes(b"\n"), "events.jsonl"),
    "no predictions": (lambda f: (f / "predictions.npz").unlink(), "predictions.npz"),
    "no weights": (lambda f: (f / "weights.safetensors").unlink(), "weights.safetensors"),
    "no events": (lambda f: (f / "events.jsonl").unlink(), "events.jsonl"),
    "no result": (lambda f: (f / "result.json").unlink(), "result.json"),
    "result garbage": (lambda f: (f / "result.json").write_text("{"), "result.json"),
    "result of another": (lambda f: with_result(f, key="0" * 32), "key in result.json"),
    "no stage": (lambda f: (f / "stage.json").unlink(), "stage.json"),
    "stage": (lambda f: (f / "stage.json").write_bytes((f / "stage.json").read_bytes() + b" "), "key"),
}


@pytest.mark.parametrize("harm", list(HARM))
def test_what_somebody_changed_is_found_and_named(harm: str, copy: Path) -> None:
    store, key, folder = student(copy)
    change, what = HARM[harm]
    change(folder)
    report = verify_stage(store, key)
    assert what in [one.what for one in report.differences], told(report)
    assert not set(report.skipped) & set(report.checked)


@pytest.mark.parametrize("junk", ["text", [1, "a"], {"a": None}, False, None, 10**400, -1], ids=repr)
def test_values_of_another_kind_are_differences_and_no_crash(junk: object, copy: Path) -> None:
    store, key, folder = student(copy)
    sound = (folder / "result.json").read_bytes()
    never = {"peak_memory_mb", "finished", "env", "sum"}
    for name in sorted(set(json.loads(sound)) - never):
        with_result(folder, **{name: junk})
        assert verify_stage(store, key).differences, name
        (folder / "result.json").write_bytes(sound)
    for name in ("epoch", "val_acc", "train_acc", "loss", "lr", "seconds", "images_per_second"):
        with_row(folder, -1, **{name: junk})
        assert verify_stage(store, key).differences, name
        (folder / "result.json").write_bytes(sound)


def test_a_changed_digit_is_no_result_any_more(copy: Path) -> None:
    _, key, folder = student(copy)
    raw = (folder / "result.json").read_bytes()
    value = json.loads(raw)["test_acc"]
    (folder / "result.json").write_bytes(raw.replace(f'"test_acc": {value}'.encode(), b'"test_acc": 0.987'))
    assert (folder / "result.json").read_bytes() != raw
    assert not Store(copy).is_done(key)
    assert "result.json's own sum" in {one.what for one in verify_stage(Store(copy), key).differences}


def test_a_changed_teacher_shows_in_its_student_too(copy: Path) -> None:
    store, key, _ = student(copy)
    teacher = stages_of("kd")[key].teachers[0]
    with_logits(store.own_folder(teacher), lambda z: z.sort(axis=1))
    assert {"test_acc", "logits from the weights"} <= {one.what for one in verify_stage(store, teacher).differences}
    assert {one.what for one in verify_stage(store, key).differences} == {
        f"agreement with {teacher[:8]}",
        f"kl with {teacher[:8]}",
    }


@pytest.mark.parametrize("said", [0.5, None], ids=["its loss", "nothing known of it"])
def test_agreement_with_a_copy_that_is_not_here_is_named_and_not_called_checked(said: float | None, copy: Path) -> None:
    store, key, folder = student(copy)
    (teacher,) = stages_of("kd")[key].teachers
    taught, names = store.result(key), {f"agreement with {teacher[:8]}", f"kl with {teacher[:8]}"}
    assert taught is not None
    assert taught["taught_by"] == {teacher: (store.result(teacher) or {})["test_loss"]}
    assert names <= set(verify_stage(store, key).checked)
    with_result(folder, taught_by={teacher: said}, agreement={teacher: 0.5})
    report = verify_stage(Store(copy), key)
    assert not report.differences, told(report)
    assert {report.skipped[name] for name in names} == {ANOTHER_COPY} and not names & set(report.checked)


@pytest.mark.parametrize("name", ["dih", "ipkd-ta", "dml"])
def test_numbers_of_parts_are_checked_too(name: str, copy: Path) -> None:
    store = Store(copy)
    key = next(key for key in stages_of(name) if "parts" in (store.result(key) or {}))
    folder = store.own_folder(key)
    parts = json.loads((folder / "result.json").read_bytes())["parts"]
    changed = [{**row, "ece": row["ece"] + 0.2} if k == 0 else row for k, row in enumerate(parts)]
    with_result(folder, parts=changed)
    assert f"{parts[0]['name']}: ece" in {one.what for one in verify_stage(Store(copy), key).differences}
    with_result(folder, parts=[{**parts[0], "name": "another", "val_acc": 0.123}, *parts[1:]])
    assert {"parts", "another: val_acc"} <= {one.what for one in verify_stage(Store(copy), key).differences}


def test_selection_on_test_images_is_recomputed(copy: Path) -> None:
    store = Store(copy)
    key = next(key for key, stage in stages_of("published").items() if stage.recipe.selection)
    folder = store.own_folder(key)
    said = json.loads((folder / "result.json").read_bytes())["selected_on_test"]
    with_result(folder, selected_on_test={**said, "epoch": said["epoch"] % 10 + 1, "looks": 3})
    found = {one.what for one in verify_stage(Store(copy), key).differences}
    assert {"selected_on_test: epoch", "selected_on_test: looks"} <= found


def test_without_its_data_set_a_stage_is_not_called_checked(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from takd.evaluation import weights_check
    from takd.training import device

    weights_check._labels.cache_clear()
    device.validation_data.cache_clear()
    store, key, folder = student(copy)
    monkeypatch.setattr("takd.evaluation.weights_check.load_test", _not_here)
    with_result(folder, test_acc=0.5)
    report = verify_stage(store, key)
    assert not report.weights and not report.differences
    assert set(report.skipped) >= TEST_NUMBERS | {"logits from the weights"}
    assert "val_acc" in report.checked and not TEST_NUMBERS & set(report.checked)


def _not_here(*_: object) -> None:
    from takd.data.meta import DataError

    raise DataError("digits is not prepared here")


def test_a_stage_that_is_not_trained_is_no_difference_unless_it_should_be(copy: Path) -> None:
    store, key, folder = student(copy)
    (folder / "result.json").unlink()
    unfinished = verify_stage(store, key, expected=False)
    assert not unfinished.differences and unfinished.skipped["result"] == "not trained yet"
    shutil.rmtree(folder)
    assert not verify_stage(Store(copy), key, expected=False).differences
    assert verify_stage(Store(copy), key).differences


@pytest.mark.parametrize("scale", [1.0, 8.0, 60.0])
def test_float16_explains_what_is_tolerated(scale: float) -> None:
    """Correct results pass whatever the size of their logits, although rounding moves every number."""
    generator = np.random.default_rng(int(scale))
    labels = generator.integers(0, 10, 3000)
    for _ in range(20):
        exact = (scale * generator.standard_normal((3000, 10))).astype(np.float32)
        exact[::7, 3] = exact[::7].max(1) * np.float32(1.00001)  # nearly a tie: half precision often makes it one
        import torch

        row = prediction_metrics(torch.from_numpy(exact), torch.from_numpy(labels), 10)
        notes = Notes()
        ties = check_metrics(notes, "", row, Stored(exact.astype(np.float16)), labels, 10)
        assert ties > 100
        assert not notes.report("", "", {}).differences


def test_broken_answers_are_refused() -> None:
    def packed(**arrays: Any) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    half = np.zeros((4, 3), np.float16)
    assert read_stored(packed(logits=half)).logits.shape == (4, 3)
    bad = [b"", b"PK", packed(x=half), packed(logits=half.astype(np.float32)), packed(logits=half[0])]
    for raw in [*bad, packed(logits=half + np.float16(np.inf)), packed(logits=half, parts=half)]:
        with pytest.raises(ValueError, match=r"cannot be read|are |hold"):
            read_stored(raw)


def test_cached_runs_are_clean(tmp_path: Path) -> None:
    store = Store(tmp_path, [CACHED])
    keys = sorted({key for run in list_runs(store) if run.origin == "cached" for key in run.keys})
    reports = [verify_stage(store, key) for key in keys]
    assert {report.key[:8]: told(report) for report in reports if report.differences} == {}
    assert len(reports) > 400
    for report in reports:
        assert len(report.checked) >= 12
        stage = store.stage(report.key)
        assert stage is not None
        if stage.data.name == "digits":
            assert "test_acc of correct_classes" in report.checked
        else:  # not prepared in a test: its true labels travel with the library, its images do not
            assert set(report.checked) >= TEST_NUMBERS and LOGITS in report.skipped


def test_the_library_is_clean(tmp_path: Path) -> None:
    """Every third digits network whose weights travel, and every seventeenth of the other thousands of stages: no
    number differs, and students' test numbers are recomputed from their weights."""
    store = Store(tmp_path, [CACHED])
    keys = sorted(packs.keys(CACHED))
    weighty = (key for key in keys if files.version(f"{store.folder(key)}/weights.safetensors") is not None)
    own = [key for key in weighty if (stage := store.stage(key)) is not None and stage.data.name == "digits"]
    assert len(own) > 3_500
    reports = [verify_stage(store, key) for key in sorted({*own[::3], *keys[::17]})]
    assert {report.key[:8]: told(report) for report in reports if report.differences} == {}
    recomputed = [report for report in reports if "test_acc of correct_classes" in report.checked]
    assert len(recomputed) > 1_100
    for report in reports:
        stage = store.stage(report.key)
        assert stage is not None
        assert report in recomputed or stage.data.name != "digits" or trained_again(stage)
