"""What is known of a prepared data set without reading its images: where it lies, and its meta. No numpy, no torch.

Layout: see "Data cache" in ARCHITECTURE.md.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

CACHE_SCHEMA = 1
PARTS = ("train", "test")
ARRAYS = tuple(f"{part}_{kind}.npy" for part in PARTS for kind in "xy")
_NAME = re.compile(r"[a-z0-9-]{1,60}")
_HEX64 = re.compile(r"[0-9a-f]{64}")


class DataError(RuntimeError):
    """Images that cannot be used; the message is a sentence and the next action."""


def data_root(root: Path | None = None) -> Path:
    """Where prepared data sets live: `root`, or $TAKD_DATA, or ~/.cache/takd/data."""
    if root is not None:
        return Path(root)
    chosen = os.environ.get("TAKD_DATA")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "takd" / "data"


def read_meta(name: str, root: Path | None = None) -> dict[str, Any] | None:
    """The meta of a prepared data set, None where it is not prepared. Reads one small file.

    Raises DataError when the folder is there but cannot be trusted.
    """
    folder = folder_of(name, data_root(root))
    try:
        if not folder.is_dir():
            return None
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        missing = [file for file in ARRAYS if not (folder / file).is_file()]
    except (OSError, ValueError, RecursionError) as error:
        raise damaged_copy(name, folder, f"meta.json cannot be read: {error}") from error
    problem = _meta_problem(meta, name)
    if problem is None and missing:
        problem = f"{missing[0]} is missing"
    if problem is not None:
        raise damaged_copy(name, folder, problem)
    return meta


def not_prepared(name: str) -> DataError:
    """The error for a data set that is not in the cache, with what to do about it."""
    if name.startswith("folder-"):
        return DataError(
            f"The image folder {name} has not been imported on this machine. Run: "
            f"python -m takd data import PATH {name.removeprefix('folder-')}"
        )
    return DataError(f"{name} is not prepared on this machine. Run: python -m takd data prepare {name}")


def folder_of(name: str, base: Path) -> Path:
    """The folder of one data set; names that could leave the cache are refused."""
    if not _NAME.fullmatch(name):
        raise DataError(f"{name[:60]!r} cannot name a data set; use lower-case letters, digits and hyphens.")
    return base / name


def _meta_problem(meta: Any, name: str) -> str | None:
    if not isinstance(meta, dict):
        return "meta.json does not hold an object"
    if meta.get("schema") != CACHE_SCHEMA:
        return f"it was written by another version (schema {meta.get('schema')!r}, this one reads {CACHE_SCHEMA})"
    if meta.get("name") != name:
        return f"meta.json names {meta.get('name')!r}"
    names = meta.get("class_names")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names) or meta.get("classes") != len(names):
        return "meta.json does not name its classes"
    if not isinstance(meta.get("label"), str):
        return "meta.json has no label"
    if not isinstance(meta.get("fingerprint"), str) or not _HEX64.fullmatch(meta["fingerprint"]):
        return "meta.json has no fingerprint"
    side = meta.get("side", 32)
    if not isinstance(side, int) or isinstance(side, bool) or not 1 <= side <= 1024:
        return "meta.json does not name the side of its images"
    for part in PARTS:
        count = meta.get(part)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            return f"meta.json does not count its {part} images"
    return None


def damaged_copy(name: str, folder: Path, problem: str) -> DataError:
    again = "import it again" if name.startswith("folder-") else f"run: python -m takd data prepare {name}"
    return DataError(f"The prepared copy of {name} is damaged: {problem}. Delete {folder} and {again}")
