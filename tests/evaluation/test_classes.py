"""Where weights and logits were left out of the library, the answered classes say how many answers were right."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from takd.claims.library import Entry, Read
from takd.data.catalogue import available_datasets
from takd.evaluation.verify import verify_stage
from takd.evaluation.weights_check import material
from takd.runs import packs
from takd.runs.classes import TIED, classes_of, read_classes
from takd.runs.errors import RunError
from takd.runs.layout import CLASSES
from takd.runs.loop import train_all
from takd.runs.shelf import shelve
from takd.runs.stamps import files_of
from takd.runs.store import Store, stage_folder
from takd.spec import require_spec
from tests.evaluation.test_verify_packed import PREDICTIONS, differing, forged, member, put

DATASETS = available_datasets()


def archive(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_one_byte_per_image_first_the_stage_then_its_parts() -> None:
    logits = np.array([[0, 2, 1], [3, 1, 0], [1, 0, 1], [0, 0, 5]], np.float16)  # the third image: two equal ones
    parts = np.stack([logits[:, ::-1], logits], axis=1)
    assert classes_of(archive(logits=logits)) == bytes([1, 0, TIED, 2])
    raw = classes_of(archive(logits=logits, parts=parts)) or b""
    assert raw == bytes([1, 0, TIED, 2, 1, 2, TIED, 0, 1, 0, TIED, 2])
    best, tied = read_classes(raw, 4, 3)
    assert best.tolist() == [[1, 0, 0, 2], [1, 2, 0, 0], [1, 0, 0, 2]]
    assert tied.tolist() == [[False, False, True, False]] * 3
    twice = np.array([[0, 3, 3]], np.float16)
    assert classes_of(archive(logits=twice)) == bytes([TIED + 1])  # the first of them


def test_what_is_none_is_said() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        classes_of(b"no archive")
    with pytest.raises(ValueError, match="cannot be read"):
        classes_of(archive(answers=np.zeros((2, 3))))
    with pytest.raises(ValueError, match="3 answers to 2 images"):
        read_classes(bytes(3), 2, 10)
    with pytest.raises(ValueError, match="0 answers"):
        read_classes(b"", 2, 10)
    with pytest.raises(ValueError, match="a class above 9"):
        read_classes(bytes([3, 10]), 2, 10)
    assert classes_of(archive(logits=np.zeros((1, TIED), np.float16))) is not None
    assert classes_of(archive(logits=np.zeros((1, TIED + 1), np.float16))) is None  # no byte for the last class


# In the library


def question(**choices: Any) -> Entry:
    asked = {"dataset": "digits", "scope": "chain", "budget": "taste", "epochs": 10, "seeds": 1, **choices}
    return Entry("question", require_spec(asked, DATASETS), 1.0, 1.0, ())


CHAIN = question(method="takd", teacher="mlp-64", assistants=("mlp-32",), student="mlp-16")
WIDTHS = question(method="ipkd-ta", student="slim-mlp-64", seed=5)


@pytest.fixture(scope="module")
def shelved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, and the library of both questions; of the chain's teacher the logits are kept."""
    root = tmp_path_factory.mktemp("classes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAKD_DATA", str(root / "data"))
        store = Store(root / "store")
        for entry in (CHAIN, WIDTHS):
            plan = entry.plan(DATASETS)
            assert train_all(store, plan.stages, device="cpu", should_stop=lambda: False, say=print)
            kept = frozenset(key for key, stage in plan.stages.items() if not stage.teachers and entry is CHAIN)
            every = frozenset(plan.stages)
            shelve(store, entry, plan, root / "cached", Read(every, decide=every, answers=kept))
    return root


@pytest.fixture
def library(shelved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("TAKD_DATA", str(shelved / "data"))
    return Store(tmp_path / "own", [Path(shutil.copytree(shelved / "cached", tmp_path / "cached"))])


def key_of(entry: Entry, network: str, taught_by: str) -> str:
    """The stage of a network that this one taught."""
    stages = entry.plan(DATASETS).stages
    return next(
        k for k, s in stages.items() if s.network == network and [stages[t].network for t in s.teachers] == [taught_by]
    )


def bare(library: Store, entry: Entry) -> list[str]:
    """Stages of which only the classes are there."""
    return [key for key in entry.plan(DATASETS).stages if CLASSES in files_of(library, key)]


def test_accuracies_and_agreement_are_recomputed_and_the_rest_is_named(library: Store) -> None:
    keys = bare(library, CHAIN)
    assert len(keys) == 3
    for key in keys:
        stage, report = library.stage(key), verify_stage(library, key)
        assert stage is not None and not report.differences
        taught = {f"agreement with {teacher[:8]}" for teacher in stage.teachers}
        assert {"test_acc", "correct_classes", f"answers in {CLASSES}"} | taught <= set(report.checked)
        assert {"test_loss", "ece", "entropy"} <= set(report.skipped)
        assert CLASSES in report.seen


def test_every_width_of_a_network_is_recomputed(library: Store) -> None:
    key = next(k for k in bare(library, WIDTHS) if (library.result(k) or {}).get("parts"))
    report = verify_stage(library, key)
    names = [row["name"] for row in (library.result(key) or {})["parts"]]
    assert len(names) > 1 and not report.differences
    assert {f"{name}: {what}" for name in names for what in ("test_acc", "correct_classes")} <= set(report.checked)

    def change(result: dict[str, Any]) -> None:
        row = result["parts"][0]
        row["correct_classes"][3] -= 1
        row["test_acc"] = sum(row["correct_classes"]) / 900

    forged(library, key, change)
    assert differing(verify_stage(library, key)) == {f"{names[0]}: test_acc", f"{names[0]}: correct_classes"}


@pytest.mark.parametrize("images", [1, -1])
def test_a_single_image_more_or_less_is_found(images: int, library: Store) -> None:
    key = key_of(CHAIN, "mlp-16", "mlp-32")

    def change(result: dict[str, Any]) -> None:
        result["correct_classes"][0] += images
        result["test_acc"] = sum(result["correct_classes"]) / 900

    forged(library, key, change)
    assert library.is_done(key)
    assert differing(verify_stage(library, key)) == {"test_acc", "correct_classes"}


@pytest.mark.parametrize(("network", "teacher"), [("mlp-32", "mlp-64"), ("mlp-16", "mlp-32")])
def test_agreement_is_found_wrong_with_logits_and_with_classes_of_the_teacher(
    network: str, teacher: str, library: Store
) -> None:
    key = key_of(CHAIN, network, teacher)
    (other,) = (library.result(key) or {})["agreement"]
    assert library.has_file(other, PREDICTIONS) == (teacher == "mlp-64")
    forged(library, key, lambda result: result["agreement"].update({other: result["agreement"][other] + 1 / 900}))
    assert differing(verify_stage(library, key)) == {f"agreement with {other[:8]}"}


def test_a_tie_may_count_either_way(library: Store) -> None:
    key = key_of(CHAIN, "mlp-16", "mlp-32")
    stage, raw = library.stage(key), member(library, key, CLASSES)
    assert stage is not None
    labels = material(stage.data).labels()
    right = int(np.flatnonzero(np.frombuffer(raw, np.uint8) == labels)[0])

    def said(answer: int) -> bytes:
        return raw[:right] + bytes([answer]) + raw[right + 1 :]

    put(library, key, {CLASSES: said(TIED + raw[right])})
    report = verify_stage(library, key)
    assert not report.differences and report.ties == 1
    put(library, key, {CLASSES: said((raw[right] + 1) % 10)})
    assert differing(verify_stage(library, key)) >= {"correct_classes", "test_acc"}


@pytest.mark.parametrize(
    "harm", [lambda raw: raw[:-1], lambda raw: raw * 2, lambda raw: b"\x0a" + raw[1:], lambda _: b""]
)
def test_harmed_classes_are_named(harm: Callable[[bytes], bytes], library: Store) -> None:
    key = key_of(CHAIN, "mlp-16", "mlp-32")
    put(library, key, {CLASSES: harm(member(library, key, CLASSES))})
    found = differing(verify_stage(library, key))
    assert found in ({CLASSES}, {f"answers in {CLASSES}"})


def test_classes_that_lie_beside_weights_are_counted_too(library: Store, shelved: Path) -> None:
    key = key_of(CHAIN, "mlp-16", "mlp-32")
    weights = (stage_folder(shelved / "store", key) / "weights.safetensors").read_bytes()
    put(library, key, {"weights.safetensors": weights})
    report = verify_stage(library, key)
    assert report.weights and not report.differences and f"answers in {CLASSES}" in report.checked
    raw = member(library, key, CLASSES)
    put(library, key, {CLASSES: bytes([(raw[0] + 1) % 10]) + raw[1:]})
    assert "correct_classes" in differing(verify_stage(library, key))


def test_answers_that_cannot_be_read_are_not_published(shelved: Path, tmp_path: Path) -> None:
    from takd.runs.layout import sha256, with_sum

    store = Store(Path(shutil.copytree(shelved / "store", tmp_path / "store")))
    key = key_of(CHAIN, "mlp-16", "mlp-32")
    result = {**(store.result(key) or {})}
    result["files"] = {**result["files"], PREDICTIONS: {"sha256": sha256(b"none"), "bytes": 4}}
    (store.own_folder(key) / PREDICTIONS).write_bytes(b"none")
    (store.own_folder(key) / "result.json").write_bytes(with_sum(result))
    plan = CHAIN.plan(DATASETS)
    read = Read(frozenset(plan.stages), decide=frozenset(plan.stages))
    with pytest.raises(RunError, match=f"Nothing was put into the library: stage {key}: .*cannot be read"):
        shelve(Store(store.root), CHAIN, plan, tmp_path / "cached", read)
    assert not (tmp_path / "cached").exists()


def test_packs_keep_them_end_to_end(library: Store) -> None:
    import sqlite3

    (place,) = [
        p
        for p in library.cached[0].glob("packs/*")
        if f"{key_of(CHAIN, 'mlp-16', 'mlp-32')}/{CLASSES}" in packs.members(p)
    ]
    connection = sqlite3.connect(place)
    names = {name for (name,) in connection.execute("SELECT name FROM sqlar")}
    connection.close()
    assert f"all/{CLASSES}" in names and not any(
        name.endswith(f"/{CLASSES}") and not name.startswith("all/") for name in names
    )
