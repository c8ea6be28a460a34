"""The SHA-256 of every file of a library, in one list: whoever changes a result, a pack, a look at a network or a
report of tuning without it is found by `verify`, also where nothing in the file itself says what it should be.

`python -m takd.runs.sums cached_runs` writes the list anew; what publishes does so by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from takd.runs import files
from takd.runs.layout import sha256
from takd.runs.packs import PACKS
from takd.stage import canonical_json

SUMS = "sums.json"
MISSING, NEW = "missing", "not in the list"


def write_sums(library: Path) -> None:
    """Write the list of this library as it is now."""
    files.write_atomic(library / SUMS, canonical_json(_found(library)))


def renew_sums(library: Path) -> None:
    """The same where there is a list already: a library without one gets none."""
    if (library / SUMS).exists():
        write_sums(library)


def wrong_files(library: Path) -> Mapping[str, tuple[str, str]]:
    """What is not as the list says, {path: (listed, found)}; nothing for a library without a list."""
    version = files.version(str(library / SUMS))
    return {} if version is None else _wrong(library, version)


def wrong_of_stage(library: Path, folder: Path, key: str) -> dict[str, tuple[str, str]]:
    """Those of them that a stage rests on: its files or the pack they are in, and what was looked at in it. `folder`
    is where the stage lies."""
    place = folder.relative_to(library)
    own = "/".join(place.parts[:2]) if place.parts[0] == PACKS else f"{place.as_posix()}/"
    starts = (own, f"extra-looks/{key}-")
    return {path: found for path, found in wrong_files(library).items() if path.startswith(starts)}


@lru_cache(maxsize=4)
def _wrong(library: Path, version: object) -> dict[str, tuple[str, str]]:
    listed, found = files.read_json_or_none(library / SUMS), _found(library)
    if not isinstance(listed, dict):
        return {SUMS: ("a list of sums", "cannot be read")}
    paths = sorted({*listed, *found})
    said = {path: (str(listed.get(path, NEW)), found.get(path, MISSING)) for path in paths}
    return {path: pair for path, pair in said.items() if pair[0] != pair[1]}


def _found(library: Path) -> dict[str, str]:
    paths = (path for path in library.rglob("*") if path.is_file() and path.name != SUMS)
    return {
        path.relative_to(library).as_posix(): sha256(path.read_bytes())
        for path in paths
        if not path.name.endswith((".lock", ".tmp"))
    }


if __name__ == "__main__":
    write_sums(Path(sys.argv[1]))
