"""The SHA-256 of every file of a library, in one list: whoever changes a result, a pack, a look at a network or a
report of tuning without it is found by `verify`, also where nothing in the file itself says what it should be.

The list is as sha256sum writes it, one line a file (`sha256sum --check SHA256SUMS`), so that git puts two branches that
each added files together without a conflict (.gitattributes: union). A path may then stand in it twice: what is there
has to be one of the two. `python -m takd.runs.sums cached_runs` writes it anew; what publishes does so by itself.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from takd.runs import files
from takd.runs.layout import sha256
from takd.runs.packs import PACKS

SUMS = "SHA256SUMS"
MISSING, NEW = "missing", "not in the list"
_LINE = re.compile(r"([0-9a-f]{64})  ([^\0-\x1f]+)")


def write_sums(library: Path) -> None:
    """Write the list of this library as it is now."""
    lines = (f"{said}  {path}\n" for path, said in sorted(_found(library).items()))
    files.write_atomic(library / SUMS, "".join(lines).encode())


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
    listed, found = _listed(files.read_bytes_or_none(library / SUMS) or b""), _found(library)
    if listed is None:
        return {SUMS: ("a list of sums", "cannot be read")}
    said = {path: (listed.get(path, [NEW]), found.get(path, MISSING)) for path in sorted({*listed, *found})}
    return {path: (" or ".join(sums), there) for path, (sums, there) in said.items() if there not in sums}


def _listed(raw: bytes) -> dict[str, list[str]] | None:
    """The sums in a list, by path; None where a line is none, as those are that a failed merge leaves."""
    found: dict[str, list[str]] = {}
    for line in raw.decode(errors="replace").splitlines():
        if (match := _LINE.fullmatch(line)) is None:
            return None
        found.setdefault(match[2], []).append(match[1])
    return found


def _found(library: Path) -> dict[str, str]:
    paths = (path for path in library.rglob("*") if path.is_file() and path.name != SUMS)
    return {
        path.relative_to(library).as_posix(): sha256(path.read_bytes())
        for path in paths
        if not path.name.endswith((".lock", ".tmp"))
    }


if __name__ == "__main__":
    write_sums(Path(sys.argv[1]))
