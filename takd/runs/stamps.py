"""Whether a run's numbers were checked, what the check found, and whether what it saw is still there.

The check itself recomputes everything from the stored files (takd.evaluation.verify); this module keeps its outcome:
one stamp per run, `verified.json` in the run's folder, or `<store>/verified/<run id>.json` for a cached or imported
run, whose folder is only read. A stamp counts while every file it saw still has the bytes it had.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from takd.runs import files
from takd.runs.layout import CLASSES, RESULT, STAGE, is_key, sha256
from takd.runs.states import plan_keys, run_folder
from takd.runs.store import Store
from takd.stage import canonical_json

STAMP_SCHEMA = 1
STAMP = "verified.json"
SAID = "trained again"  # among what was checked of a stage
EXACTLY = "the same to the last digit"  # likewise: on the kind of machine that trained it, weights too


@dataclass(frozen=True)
class Difference:
    """`what` a file or a number of a result is, what is `stored` and what was `found` by computing it again."""

    what: str
    stored: str
    found: str


@dataclass(frozen=True)
class StageReport:
    """What a check of one stage did.

    `checked` names what was recomputed and compared, `skipped` says why something could not be, by what it is; nothing
    is in both. `ties` counts test images whose best answers are equal as stored (float16), so that either may be the
    one that was counted. `weights` says whether the network was asked again. `seen` holds the SHA-256 of every file.
    """

    key: str
    title: str
    checked: tuple[str, ...]
    skipped: Mapping[str, str]
    differences: tuple[Difference, ...]
    ties: int
    weights: bool
    seen: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are stored."""
        return {**asdict(self), "checked": list(self.checked), "differences": [asdict(d) for d in self.differences]}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> StageReport:
        """The inverse; raises KeyError, TypeError or ValueError for anything else."""
        texts = [{str(k): str(v) for k, v in dict(value[name]).items()} for name in ("skipped", "seen")]
        found = tuple(
            Difference(*(str(row[name]) for name in ("what", "stored", "found"))) for row in value["differences"]
        )
        checked = tuple(str(name) for name in value["checked"])
        weights, ties = value["weights"] is True, int(value["ties"])
        return StageReport(str(value["key"]), str(value["title"]), checked, texts[0], found, ties, weights, texts[1])


@dataclass(frozen=True)
class Stamp:
    """One check of a run (or, without `run`, of everything): `when` in UTC, with which `versions`, stage by stage."""

    run: str
    when: str
    versions: Mapping[str, str]
    stages: tuple[StageReport, ...]

    @property
    def differences(self) -> tuple[tuple[StageReport, Difference], ...]:
        """Every difference with its stage."""
        return tuple((stage, one) for stage in self.stages for one in stage.differences)

    @property
    def looked_at(self) -> tuple[StageReport, ...]:
        """The stages of which anything could be checked: not those that are not trained."""
        return tuple(stage for stage in self.stages if stage.checked or stage.differences)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are stored, with counts for those who only want these."""
        counts = {
            "stages": len(self.looked_at),
            "numbers": sum(len(stage.checked) for stage in self.stages),
            "complete": sum(1 for stage in self.looked_at if not stage.skipped),
            "weights": sum(stage.weights for stage in self.stages),
            "differences": len(self.differences),
        }
        named = {"run": self.run, "when": self.when, "versions": dict(self.versions), "counts": counts}
        return {"schema": STAMP_SCHEMA, **named, "stages": [stage.to_json() for stage in self.stages]}


def parse_stamp(raw: bytes) -> Stamp | None:
    """The stamp in a file's bytes, or None where it is none."""
    value = files.parse_object(raw)
    if value is None or value.get("schema") != STAMP_SCHEMA:
        return None
    try:
        stages = tuple(StageReport.from_json(row) for row in value["stages"])
        versions = {str(name): str(text) for name, text in value["versions"].items()}
        return Stamp(str(value["run"]), str(value["when"]), versions, stages)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def stamps_folder(store: Store) -> Path:
    """Where checks leave what belongs to no run folder of the own root."""
    return store.root / "verified"


def stamp_path(store: Store, run_id: str) -> Path:
    """Where the stamp of a run lies, or of everything for an empty id. Raises RunError when there is no such run."""
    if not run_id:
        return stamps_folder(store) / "all-stages.json"
    folder = run_folder(store, run_id)
    own = folder.parent.parent == store.root
    return folder / STAMP if own else stamps_folder(store) / f"{run_id}.json"


def write_stamp(store: Store, stamp: Stamp) -> None:
    """Keep it in place of an earlier one. Raises OSError, or RunError for a run that is gone."""
    path = stamp_path(store, stamp.run)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, canonical_json(stamp.to_json()))


def read_stamp(store: Store, run_id: str) -> Stamp | None:
    """The last stamp of a run, whether it still holds or not; None where there is none. Raises RunError for no run."""
    found: Stamp | None = store.remember(stamp_path(store, run_id), parse_stamp)
    return found


def valid_stamp(store: Store, run_id: str) -> Stamp | None:
    """The stamp of a run while it holds: it is about the stages the run has now, and each file has the bytes it had.

    The files are read once per process and version, so asking again costs a look at their dates.
    """
    stamp = read_stamp(store, run_id)
    if stamp is None or {stage.key for stage in stamp.stages} != set(plan_keys(store, run_folder(store, run_id))):
        return None
    return stamp if all(files_of(store, stage.key) == stage.seen for stage in stamp.stages) else None


def files_of(store: Store, key: str) -> dict[str, str]:
    """SHA-256 of the files a stage has where it is read from: stage.json, result.json, those its result lists and
    its answered classes."""
    if not is_key(key):
        return {}
    folder = place_of(store, key)
    result = store.result(key) or files.read_json_or_none(folder / RESULT) or {}
    listed = result.get("files")
    names = {*(listed if isinstance(listed, dict) else ()), CLASSES}
    sums = {name: store.remember(folder / name, sha256) for name in names}
    for name in (STAGE, RESULT):  # by another spelling of the path: the store remembers under this one what they hold
        sums[name] = store.remember(os.path.join(folder, ".", name), sha256)
    return {name: found for name, found in sums.items() if isinstance(found, str)}


def place_of(store: Store, key: str) -> Path:
    """Where a stage is read from; where no store has it finished, the first place that has a result at all."""
    if store.is_done(key):
        return store.folder(key)
    places = (Path(place) for place in store.places(key))
    there = (place for place in places if files.version(str(place / RESULT)) is not None)
    return next(there, store.own_folder(key))
