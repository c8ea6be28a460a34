"""What lies in a store that this version cannot use."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from takd.runs import files, packs
from takd.runs.layout import RESULT, RUN_ID, STAGE, is_key, listed, only_extras

Reader = Callable[[Path, str], Any]
"""(folder of a stage, its key) -> what is read there, None where it is not valid."""


def broken(base: Path, stage_in: Reader, done_in: Reader, *, packed: bool) -> list[tuple[str, str]]:
    """(name, reason) of everything under stages/, runs/ and, where stages are read from `packed` ones, packs/ of the
    root `base` that cannot be used. Never raises."""
    found: list[tuple[str, str]] = []
    for shard in listed(base / "stages"):
        inside = listed(shard)
        if not re.fullmatch(r"[0-9a-f]{2}", shard.name) or not shard.is_dir():
            found.append((shard.name, "not a folder of stages"))
            continue
        found += [(path.name, why) for path in inside if (why := _why_broken(path, stage_in, done_in))]
    for path in listed(base / "runs"):
        if not path.is_dir() or not RUN_ID.fullmatch(path.name):
            found.append((path.name, "not a run"))
        elif files.read_json_or_none(path / "experiment.json") is None:
            found.append((path.name, "experiment.json is missing or cannot be read; delete the folder"))
    return found + _in_packs(base, stage_in, done_in) if packed else found


def _why_broken(folder: Path, stage_in: Reader, done_in: Reader) -> str | None:
    key = folder.name
    if not is_key(key) or folder.parent.name != key[:2] or not folder.is_dir():
        return "not a stage"
    if not os.path.lexists(folder / STAGE) and only_extras(folder):
        return None
    if stage_in(folder, key) is None:
        return "stage.json is missing, damaged or belongs to another stage; delete the folder or train it again"
    if os.path.lexists(folder / RESULT) and done_in(folder, key) is None:
        return "result.json is damaged, so the stage counts as not trained; train it again"
    return None


def _in_packs(base: Path, stage_in: Reader, done_in: Reader) -> list[tuple[str, str]]:
    found = packs.problems(base)
    for key in sorted(packs.keys(base)):
        for place in packs.places(base, key):
            if stage_in(Path(place), key) is None or done_in(Path(place), key) is None:
                found.append(
                    (f"{Path(place).parent.name}/{key}", "damaged in its pack, so the stage counts as not there")
                )
    return found
