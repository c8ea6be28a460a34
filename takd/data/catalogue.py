"""Which data sets can be chosen here: the table, what is prepared, imported folders. Reads small files, no images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from takd.data.meta import DataError, data_root, read_meta
from takd.data.table import DATASETS, FOLDER_PREFIX, IMAGENET, RGB_32, Dataset
from takd.networks.table import FAMILIES


def available_datasets(root: Path | None = None) -> dict[str, Dataset]:
    """Every data set that can be chosen, by name: the table's rows, then prepared folders in name order.

    Fingerprint and class count are filled in from the cache where the table does not know them. Never raises for a
    damaged folder: it is left out (or, for a row of the table, shown as not prepared); see `damaged`.
    """
    found = {name: _filled(row, _usable_meta(name, root)) for name, row in DATASETS.items()}
    for name in _folder_names(root):
        meta = _usable_meta(name, root)
        if meta is not None and families_of_side(meta.get("side", 32)):
            found[name] = folder_dataset(meta)
    return found


def is_ready(name: str, root: Path | None = None) -> bool:
    """Whether training can start without a download; digits always can, it is prepared on first use."""
    return name == "digits" or _usable_meta(name, root) is not None


def damaged(root: Path | None = None) -> list[tuple[str, str]]:
    """(name, sentence with the next action) of every prepared data set that cannot be trusted."""
    problems: list[tuple[str, str]] = []
    for name in (*DATASETS, *_folder_names(root)):
        try:
            _trusted_meta(name, root)
        except DataError as error:
            problems.append((name, str(error)))
    return problems


def find_dataset(name: str, root: Path | None = None) -> tuple[Dataset, dict[str, Any] | None]:
    """One data set and its meta (None where it is not prepared).

    Raises DataError when the prepared copy is damaged or the name is neither in the table nor an imported folder.
    """
    meta = _trusted_meta(name, root)
    if name in DATASETS:
        return _filled(DATASETS[name], meta), meta
    if meta is None or not name.startswith(FOLDER_PREFIX):
        raise DataError(
            f"No data set is called {name[:60]!r} here; the choices are {', '.join(available_datasets(root))}. "
            "A folder of your own images is imported with: python -m takd data import PATH NAME"
        )
    return folder_dataset(meta), meta


def folder_dataset(meta: dict[str, Any]) -> Dataset:
    """The row of an imported folder: a tenth of its training pool validates, and it brings its own test part."""
    return Dataset(
        name=meta["name"],
        label=meta["label"],
        families=families_of_side(meta.get("side", 32)),
        classes=meta["classes"],
        train_pool=meta["train"],
        validation=max(1, meta["train"] // 10),
        test=0,
        source="folder",
        download="nothing to download",
        fingerprint=meta["fingerprint"],
        input_shape=(3, meta.get("side", 32), meta.get("side", 32)),
    )


def families_of_side(side: int) -> tuple[str, ...]:
    """The ladders offered on RGB squares of that many pixels; none for sides that no network here reads."""
    return tuple(name for name in (*RGB_32, *IMAGENET) if FAMILIES[name].reads((3, side, side)))


def folder_shape(name: str) -> tuple[int, int, int] | None:
    """Shape of an imported folder's images, None where it is not here."""
    meta = _usable_meta(name, None) if name.startswith(FOLDER_PREFIX) else None
    return None if meta is None else folder_dataset(meta).input_shape


def _filled(row: Dataset, meta: dict[str, Any] | None) -> Dataset:
    return row if meta is None else replace(row, fingerprint=meta["fingerprint"], classes=meta["classes"])


def _trusted_meta(name: str, root: Path | None) -> dict[str, Any] | None:
    """The meta; DataError when it is damaged or holds other images than the table publishes."""
    meta = read_meta(name, root)
    row = DATASETS.get(name)
    if meta is not None and row is not None and row.fingerprint not in (None, meta["fingerprint"]):
        raise DataError(
            f"The prepared copy of {name} does not hold the published images. Delete {data_root(root) / name} and run: "
            f"python -m takd data prepare {name}"
        )
    return meta


def _usable_meta(name: str, root: Path | None) -> dict[str, Any] | None:
    try:
        return _trusted_meta(name, root)
    except DataError:
        return None


def _folder_names(root: Path | None) -> list[str]:
    try:
        return sorted(p.name for p in data_root(root).iterdir() if p.name.startswith(FOLDER_PREFIX) and p.is_dir())
    except OSError:
        return []  # no cache yet, or not ours to read: nothing has been imported
