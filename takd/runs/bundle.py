"""A run as one file that can be given away: what is in it, and how it is made. Reading one is bundle_check.py.

A zip file of plain files: `bundle.json` (schema, run, version of the program), `run/` (experiment.json, plan.json,
status.json) and `stages/<key>/` for every stage of the plan: stage.json, events.jsonl, result.json and, where they are
here, predictions.npz, weights.safetensors and classes.bin (which the library keeps in place of both). The same run
gives the same bytes. No code is ever in it: a user's own network travels as its file, by other ways.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from takd import __version__
from takd.runs import files
from takd.runs.archive import Limits
from takd.runs.errors import BundleError
from takd.runs.layout import CLASSES, EVENTS, RESULT, STAGE, sha256
from takd.runs.states import RUN_SCHEMA, RunInfo, read_run_file, read_status, run_folder, run_info, seen_by
from takd.runs.store import Store
from takd.stage import canonical_json

BUNDLE_SCHEMA = 1
FORMAT = "takd-bundle"
MANIFEST, EXPERIMENT, PLAN, STATUS = "bundle.json", "run/experiment.json", "run/plan.json", "run/status.json"
WEIGHTS, PREDICTIONS = "weights.safetensors", "predictions.npz"
REQUIRED, LISTED = (STAGE, EVENTS, RESULT), (PREDICTIONS, WEIGHTS)  # the latter by result.json, with their sums
OPTIONAL = (*LISTED, CLASSES)
UNLISTED = (STAGE, RESULT, CLASSES)
MEMBER = re.compile(rf"stages/([0-9a-f]{{32}})/({'|'.join(re.escape(name) for name in (*REQUIRED, *OPTIONAL))})")
LARGEST = {
    MANIFEST: 2_000,
    EXPERIMENT: 50_000,
    PLAN: 4_000_000,
    STATUS: 4_000,
    STAGE: 50_000,
    EVENTS: 2_000_000,
    RESULT: 500_000,
    PREDICTIONS: 250_000_000,
    WEIGHTS: 1_000_000_000,
    CLASSES: 10_000_000,
}
MOST_MEMBERS = 4_000
MOST_BYTES = 2_000_000_000  # of a bundle from a file
MOST_UPLOADED = 20_000_000  # of one that comes through the page: server.maxUploadSize in .streamlit/config.toml
MOST_DOWNLOADED = 100_000_000  # of one that strangers take from the page, which makes it in memory
EXPERIMENT_FIELDS = ("spec", "created", "asked_by", "note")
STATUS_FIELDS = ("state", "started", "finished", "device", "processes")  # not the process ids, which say nothing here


@dataclass(frozen=True)
class Contents:
    """What a bundle of a run holds: how many `stages`, and about how many `bytes` with and without weights."""

    stages: int
    bytes: int
    bytes_without_weights: int


def largest(name: str) -> int | None:
    """How many bytes a member of this name may have; None for a name that has no place in a bundle."""
    match = MEMBER.fullmatch(name)
    return LARGEST[match[2]] if match else LARGEST[name] if name in (MANIFEST, EXPERIMENT, PLAN, STATUS) else None


def stored(name: str) -> bool:
    """Whether a member is never packed: numbers do not get smaller, answers are packed already."""
    return name.endswith((WEIGHTS, PREDICTIONS))


LIMITS = Limits(MOST_MEMBERS, MOST_BYTES, largest, stored=stored)
MOST_OF_STAGES = MOST_BYTES - sum(LARGEST[name] for name in (MANIFEST, EXPERIMENT, PLAN, STATUS))


def contents(store: Store, run_id: str) -> Contents:
    """What a bundle of a finished run would hold. Raises BundleError where none can be made."""
    run = _finished(store, run_id)
    sizes = [(name, size) for _, name, size in _stage_files(store, run)]
    weights = sum(size for name, size in sizes if name == WEIGHTS)
    every = sum(size for _, size in sizes)
    return Contents(len(run.keys), every, every - weights)


def write_bundle(store: Store, run_id: str, file: BinaryIO, *, weights: bool = True) -> int:
    """Write the bundle of a finished run to `file`, which can be sought in; returns the number of its stages.

    Nothing in the store changes. Raises BundleError where the run is not finished, its files are damaged or more than
    a bundle may hold, RunError where there is none.
    """
    run = _finished(store, run_id)
    size = sum(size for _, name, size in _stage_files(store, run) if weights or name != WEIGHTS)
    if size > MOST_OF_STAGES:
        raise BundleError(
            f"The trainings of run {run_id} take {size / 1e6:,.0f} MB, and a bundle holds at most "
            f"{MOST_OF_STAGES / 1e6:,.0f} MB of them. Leave the weights out (--no-weights), or ask for fewer seeds."
        )
    seen = seen_by(store, run.origin)
    folder = run_folder(store, run_id)
    with zipfile.ZipFile(file, "w") as archive:
        about = {"format": FORMAT, "schema": BUNDLE_SCHEMA, "run": run_id, "version": __version__}
        _add(archive, MANIFEST, canonical_json(about))
        for name, fields in ((EXPERIMENT, EXPERIMENT_FIELDS), (PLAN, None), (STATUS, STATUS_FIELDS)):
            short = name.removeprefix("run/")
            value = read_status(folder) if name == STATUS else read_run_file(store, folder, short)
            _add(archive, name, canonical_json({"schema": RUN_SCHEMA} | _chosen(value, fields)))
        for key, name, _ in _stage_files(store, run):
            if name == WEIGHTS and not weights:
                continue
            raw = files.read_bytes_or_none(seen.folder(key) / name)
            if raw is None or (name not in UNLISTED and sha256(raw) != _sum(seen, key, name)):
                raise BundleError(_damaged(run_id, f"{name} of stage {key}"))
            _add(archive, f"stages/{key}/{name}", raw)
    return len(run.keys)


def _chosen(value: dict[str, Any], fields: tuple[str, ...] | None) -> dict[str, Any]:
    return {name: item for name, item in value.items() if fields is None or name in fields}


def _sum(store: Store, key: str, name: str) -> str:
    return str(((store.result(key) or {}).get("files") or {}).get(name, {}).get("sha256"))


def _damaged(run_id: str, what: str) -> str:
    return (
        f"No bundle can be made of run {run_id}: {what} is damaged or missing. Start the same question again: what is "
        "damaged is trained anew."
    )


def _finished(store: Store, run_id: str) -> RunInfo:
    run = run_info(store, run_id)
    if run.state != "done":
        word, then = run.look.word.lower(), run.look.next_action
        raise BundleError(f"Run {run_id} is {word}; only a finished run fits into a bundle. {then}")
    if sum(1 for _ in _stage_files(store, run)) + 4 > MOST_MEMBERS:
        raise BundleError(f"Run {run_id} has {len(run.keys)} stages, too many for a bundle; ask for fewer seeds.")
    return run


def _stage_files(store: Store, run: RunInfo) -> Iterator[tuple[str, str, int]]:
    """(key, name, bytes) of every file of the run's stages: those every stage needs, then those that are here (what
    comes with the program leaves some out)."""
    seen = seen_by(store, run.origin)
    for key in run.keys:
        folder = seen.folder(key)
        for name in (*REQUIRED, *OPTIONAL):
            size = files.size_or_none(folder / name)
            if size is not None:
                yield key, name, size
            elif name in REQUIRED:
                raise BundleError(_damaged(run.id, f"{name} of stage {key}"))


def _add(archive: zipfile.ZipFile, name: str, raw: bytes) -> None:
    member = zipfile.ZipInfo(name)  # dated 1980: equal runs make equal bundles
    member.external_attr = 0o644 << 16
    archive.writestr(member, raw, zipfile.ZIP_STORED if stored(name) else zipfile.ZIP_DEFLATED)
