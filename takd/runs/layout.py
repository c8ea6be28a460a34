"""Where things lie in a store, and what its files must hold to count. No state: the store itself is store.py."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from takd.runs import files
from takd.runs.errors import StoreError
from takd.stage import StageSpec, canonical_json

RESULT_SCHEMA = 1
SUM = "sum"  # of the result itself
TAUGHT_BY = "taught_by"  # which copies of its teachers taught a pupil, see copies.py
SELECTED = "selected_on_test"  # epoch and last_test_acc, where the epoch was chosen on test images
CLASSES = "classes.bin"  # see classes.py
STAGE, EVENTS, RESULT, PROGRESS, FAILED = "stage.json", "events.jsonl", "result.json", "progress.json", "failed.json"
CHECKPOINT, CHECKPOINT_SUM = "checkpoint.safetensors", "checkpoint.sha256"
ATTEMPTS = "attempts.json"  # see guard.py
OWN_NAMES = {STAGE, EVENTS, PROGRESS, RESULT, FAILED, ATTEMPTS, "lock"}
IMPORTED = "imported"  # the folder of a store that holds what came in bundles: a store of its own, only read
RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
KEY = re.compile(r"[0-9a-f]{32}")
_ONE_LINE = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)  # made once: rows are many
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")


def is_key(value: Any) -> bool:
    """Whether something is 32 hex digits, as every stage's key is."""
    return isinstance(value, str) and KEY.fullmatch(value) is not None


@lru_cache(maxsize=4096)
def stage_folder(root: Path, key: str) -> Path:
    """`<root>/stages/<2 hex>/<key>`; raises StoreError for anything that is not 32 hex digits."""
    return Path(f"{root}{stage_part(key)}")


def stage_part(key: str) -> str:
    """`/stages/<2 hex>/<key>`: what a stage's folder adds to its root's path; raises StoreError like stage_folder."""
    if not is_key(key):
        raise StoreError(f"{str(key)[:40]!r} is not the key of a stage; a key is 32 digits 0-9 a-f.")
    return f"{os.sep}stages{os.sep}{key[:2]}{os.sep}{key}"


def extra_path(folder: Path, name: str) -> Path:
    """Where a file beside a stage lies; raises StoreError for a bad name."""
    if not FILE_NAME.fullmatch(name):
        raise StoreError(f"{name[:80]!r} cannot be the name of a file beside a stage.")
    return folder / "extra" / name


class StoredStage:
    """The bytes of a stage.json that are those of its key. What they say is read when somebody asks: for a key that a
    plan has made the bytes can be no others, and reading a stage takes longer than reading its result."""

    def __init__(self, raw: bytes, key: str) -> None:
        self._raw, self._key = raw, key

    @cached_property
    def spec(self) -> StageSpec | None:
        """The stage; None where the bytes are none, or none that this version reads."""
        try:
            stage = StageSpec.from_bytes(self._raw)
        except (ValueError, RecursionError):
            return None
        vars(stage)["key"] = self._key  # what its cached property would find: the hash of these bytes
        return stage


def parse_stage(raw: bytes, key: str) -> StoredStage | None:
    """The stage in the bytes of stage.json, or None where they are not this key's."""
    return StoredStage(raw, key) if sha256(raw)[:32] == key else None


def with_sum(result: Mapping[str, Any]) -> bytes:
    """The bytes of result.json: the result with the SHA-256 of its own canonical form, so that a damaged digit is
    noticed like a damaged file. Raises ValueError for a number that is not finite."""
    return canonical_json({**result, SUM: sha256(canonical_json(result))})


def parse_result(raw: bytes, key: str) -> dict[str, Any] | None:
    """The result in the bytes of result.json without its sum, or None where they are not a valid result of this key.
    Results of earlier versions have no sum."""
    value = files.parse_object(raw)
    if value is None or value.get("schema") != RESULT_SCHEMA or value.get("key") != key:
        return None
    said = value.pop(SUM, None)
    if said is not None and not is_sum_of_the_rest(said, raw) and said != sha256(canonical_json(value)):
        return None
    table = value.get("files")
    if not isinstance(table, dict) or not all(_is_file_row(name, row) for name, row in table.items()):
        return None
    accuracy = value.get("test_acc")
    return value if isinstance(accuracy, (int, float)) and not isinstance(accuracy, bool) else None


def environment_of(result: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a stage was trained on (machine, versions, precision), as far as its result says: files of others may say
    anything."""
    env = (result or {}).get("env")
    return env if isinstance(env, dict) else {}


def is_sum_of_the_rest(said: Any, raw: bytes) -> bool:
    """Whether this is the SHA-256 of a canonical result's bytes without the line of its sum, which are the canonical
    JSON of the rest: a twentieth of the work of writing the value again, which only another spelling needs."""
    if not isinstance(said, str) or not re.fullmatch(r"[0-9a-f]{64}", said):
        return False
    before, line, after = raw.partition(f'\n "{SUM}": "{said}"'.encode())
    rest = before + after[1:] if after.startswith(b",") else before.removesuffix(b",") + after
    return bool(line) and sha256(rest) == said


def _is_file_row(name: str, row: Any) -> bool:
    return bool(FILE_NAME.fullmatch(name)) and isinstance(row, dict) and isinstance(row.get("sha256"), str)


def event_line(row: Mapping[str, Any]) -> bytes:
    """One row of events.jsonl, floats rounded to 6 decimals. Raises ValueError for a number that is not finite."""
    return one_line({name: round(value, 6) if type(value) is float else value for name, value in row.items()})


def one_line(row: Mapping[str, Any]) -> bytes:
    """JSON in one line, sorted by name. Raises ValueError for a number that is not finite."""
    return _ONE_LINE.encode(row).encode()


def only_extras(folder: Path) -> bool:
    """Whether a stage's folder holds nothing but files kept beside a cached stage."""
    return all(path.name == "extra" for path in listed(folder))


def listed(folder: Path) -> list[Path]:
    """What is in a folder, sorted, without hidden files; nothing where it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def stage_folders(root: Path) -> list[Path]:
    """The folders of stages in a root that are named as keys are, whatever is in them."""
    return [folder for shard in listed(root / "stages") for folder in listed(shard) if is_key(folder.name)]


def remove_those_there(folder: Path, names: set[str]) -> None:
    """Delete the files of these names; looking once costs less than trying each."""
    for name in names & set(os.listdir(folder)):
        (folder / name).unlink(missing_ok=True)


def sha256(raw: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(raw).hexdigest()
