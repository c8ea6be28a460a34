from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from takd.data import catalogue
from takd.data.cache import write_cache
from takd.data.catalogue import available_datasets, damaged, find_dataset, is_ready
from takd.data.meta import DataError
from takd.data.table import DATASETS, RGB_32


def write(name: str, root: Path, seed: int = 0, count: int = 30) -> dict:
    x = np.random.default_rng(seed).integers(0, 256, (count + 10, 2, 2, 3), dtype=np.uint8)
    y = np.arange(count + 10) % 3
    return write_cache(name, x[:count], y[:count], x[count:], y[count:], "abc", root, label=f"Label of {name}")


def test_table_without_a_cache(tmp_path: Path) -> None:
    assert available_datasets(tmp_path / "none") == DATASETS
    assert damaged(tmp_path / "none") == []
    assert [name for name in DATASETS if is_ready(name, tmp_path / "none")] == ["digits"]


def test_fingerprint_is_filled_in_from_the_cache(tmp_path: Path) -> None:
    meta = write("svhn", tmp_path)
    known = available_datasets(tmp_path)
    assert known["svhn"] == replace(DATASETS["svhn"], fingerprint=meta["fingerprint"], classes=3)
    assert is_ready("svhn", tmp_path)
    assert (known["fashion-mnist"], known["cifar10"]) == (DATASETS["fashion-mnist"], DATASETS["cifar10"])


def test_folders_are_found(tmp_path: Path) -> None:
    meta = write("folder-b", tmp_path)
    write("folder-a", tmp_path, seed=1)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "folder-file").write_text("not a folder")
    found = available_datasets(tmp_path)
    assert list(found) == [*DATASETS, "folder-a", "folder-b"]
    row = found["folder-b"]
    assert (row.label, row.families, row.classes) == ("Label of folder-b", RGB_32, 3)
    assert (row.train_pool, row.validation, row.test) == (30, 3, 0)
    assert row.fingerprint == meta["fingerprint"]
    assert find_dataset("folder-b", tmp_path) == (row, meta)
    assert damaged(tmp_path) == []


def test_damaged_folders_are_left_out_and_listed(tmp_path: Path) -> None:
    write("folder-good", tmp_path)
    write("folder-bad", tmp_path)
    (tmp_path / "folder-bad" / "meta.json").write_text("{")
    (tmp_path / "folder-BAD name").mkdir()
    write("svhn", tmp_path)
    (tmp_path / "svhn" / "train_x.npy").unlink()
    found = available_datasets(tmp_path)
    assert list(found) == [*DATASETS, "folder-good"]
    assert found["svhn"] == DATASETS["svhn"]
    assert not is_ready("svhn", tmp_path)
    assert not is_ready("folder-bad", tmp_path)
    problems = dict(damaged(tmp_path))
    assert sorted(problems) == ["folder-BAD name", "folder-bad", "svhn"]
    assert "train_x.npy is missing" in problems["svhn"]
    assert "import it again" in problems["folder-bad"]
    with pytest.raises(DataError, match="damaged"):
        find_dataset("svhn", tmp_path)


def test_other_images_under_a_published_name_are_not_trusted(tmp_path: Path) -> None:
    write("cifar10", tmp_path)
    assert not is_ready("cifar10", tmp_path)
    assert available_datasets(tmp_path)["cifar10"] == DATASETS["cifar10"]
    assert [name for name, _ in damaged(tmp_path)] == ["cifar10"]
    with pytest.raises(DataError, match="does not hold the published images"):
        find_dataset("cifar10", tmp_path)


def test_unknown_names(tmp_path: Path) -> None:
    write("other", tmp_path)  # prepared, but neither in the table nor a folder import
    for name in ("mnist", "folder-none", "other"):
        with pytest.raises(DataError, match="No data set is called"):
            find_dataset(name, tmp_path)


def test_only_small_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meta = write("folder-a", tmp_path)
    monkeypatch.setattr(np, "load", None)  # calling it would raise
    assert available_datasets(tmp_path)["folder-a"].fingerprint == meta["fingerprint"]


def test_meta_with_hostile_values_is_skipped(tmp_path: Path) -> None:
    meta = write("folder-a", tmp_path)
    for change in ({"classes": "3"}, {"train": 1.5}, {"label": 7}, {"class_names": [1, 2, 3]}):
        (tmp_path / "folder-a" / "meta.json").write_text(json.dumps(meta | change))
        assert "folder-a" not in available_datasets(tmp_path)
        assert [name for name, _ in damaged(tmp_path)] == ["folder-a"]


def test_folder_row_leaves_images_to_train_on() -> None:
    meta = {"name": "folder-x", "label": "x", "classes": 2, "train": 10, "fingerprint": "0" * 64}
    assert catalogue.folder_dataset(meta).validation == 1


def test_a_cache_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("svhn", tmp_path)

    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", closed)
    assert available_datasets(tmp_path) == DATASETS
    assert "Permission denied" in dict(damaged(tmp_path))["svhn"]
