"""Is this file a bundle, and is everything in it what this program would have written? Reads, and writes nothing.

The rule is that a bundle may only say what could have been trained here: its plan is made again from its question and
must be the same, so no stage, teacher, network or setting gets in that this version does not know.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from takd.data.table import Dataset
from takd.networks.own import gone, gone_sentence
from takd.plan import Plan, build_plan
from takd.runs.archive import Archive
from takd.runs.bundle import (
    BUNDLE_SCHEMA,
    EXPERIMENT,
    EXPERIMENT_FIELDS,
    FORMAT,
    LARGEST,
    LIMITS,
    MANIFEST,
    MEMBER,
    OPTIONAL,
    PLAN,
    REQUIRED,
    STATUS,
    STATUS_FIELDS,
    UNLISTED,
    WEIGHTS,
)
from takd.runs.bundle_stage import (
    check_arrays,
    check_events,
    check_result,
    check_stage_spec,
    is_utc,
    newer,
    quoted,
)
from takd.runs.errors import BundleError
from takd.runs.layout import EVENTS, RESULT, RUN_ID, STAGE, sha256
from takd.runs.states import RUN_SCHEMA
from takd.runs.strict import Unfit, clean_text, is_plain_text, strict_object
from takd.spec import ExperimentSpec, SpecError, require_spec, to_json
from takd.stage import StageSpec, canonical_json

AGAIN = (
    "Ask whoever made it to download the bundle once more (Runs page, or python -m takd bundle), and import the file "
    "as it is, without unpacking or renaming anything in it."
)
_UNPACKED = 10  # times what may be taken in: a bundle is mostly numbers, which hardly get smaller
_UPDATE = "Update this copy of the program, then import the file again."


@dataclass(frozen=True)
class Checked:
    """A bundle that may be imported. `run_id` is what the run is called in it; `run_files` are its files as they will
    be stored, `stages` the SHA-256 of every file by key and name; `digest` says which question with which results."""

    run_id: str
    version: str
    spec: ExperimentSpec
    run_files: Mapping[str, bytes]
    stages: Mapping[str, Mapping[str, str]]
    digest: str
    bytes: int
    weights: bool


def check_bundle(file: BinaryIO, datasets: Mapping[str, Dataset], most: int) -> Checked:
    """Read a bundle of at most `most` bytes once from end to end. Raises BundleError with a sentence that says what is
    wrong and what to do."""
    size = file.seek(0, os.SEEK_END)
    if size > most:
        raise refused(
            f"is {size / 1e6:,.0f} MB, and at most {most / 1e6:,.0f} MB can be taken in here",
            "Ask for a bundle without weights, or import it with: python -m takd import FILE",
        )
    try:
        with Archive(file, replace(LIMITS, total=min(LIMITS.total, _UNPACKED * most))) as archive:
            return _checked(archive, datasets)
    except Unfit as error:
        raise refused(str(error)) from error


def refused(why: str, then: str = AGAIN) -> BundleError:
    """A refusal in the words every refusal has: `why` ends a sentence about the file, `then` is the next action."""
    return BundleError(f"This file cannot be imported: it {why}. Nothing was imported. {then}")


def _checked(archive: Archive, datasets: Mapping[str, Dataset]) -> Checked:
    run_id, version = _manifest(archive)
    experiment = _run_file(archive, EXPERIMENT, EXPERIMENT_FIELDS)
    status = _run_file(archive, STATUS, STATUS_FIELDS)
    listed = _run_file(archive, PLAN, ("arms", "chains", "stages"))["stages"]
    stages = _stages(archive, listed)
    spec, dataset = _question(experiment["spec"], datasets)
    plan = _plan(spec, dataset, stages)
    sums: dict[str, dict[str, str]] = {}
    images: set[int] = set()
    for key, stage in stages.items():
        names = [name for name in (*REQUIRED, *OPTIONAL) if f"stages/{key}/{name}" in archive.names]
        there = {name: archive.read(f"stages/{key}/{name}") for name in names}
        try:
            check_result(stage, there[RESULT], {n: raw for n, raw in there.items() if n not in UNLISTED})
            check_events(stage, there[EVENTS])
            images.add(check_arrays(stage, there, dataset.test))
        except Unfit as error:
            raise Unfit(f"holds a stage ({key[:8]}, {stage.network}) that does not fit: {error}") from error
        sums[key] = {name: sha256(raw) for name, raw in there.items()}
    if len(images - {0}) > 1:
        raise Unfit("holds test answers for different numbers of images")
    return Checked(
        run_id,
        version,
        spec,
        _as_stored(experiment, status, spec, plan),
        sums,
        content_digest(spec, experiment["created"], {key: row[RESULT] for key, row in sums.items()}),
        archive.total,
        any(WEIGHTS in row for row in sums.values()),
    )


def content_digest(spec: ExperimentSpec, created: str, results: Mapping[str, str]) -> str:
    """What two runs have in common that are the same: the question, when it was asked, and every result."""
    value = {"spec": to_json(spec), "created": created, "results": dict(results)}
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _member(archive: Archive, name: str) -> dict[str, Any]:
    if name not in archive.names:
        raise Unfit(f"has no {name}, so it is no bundle of this program")
    try:
        return strict_object(archive.read(name), LARGEST[name])
    except Unfit as error:
        raise Unfit(f"holds {name}, which {error}") from error


def _manifest(archive: Archive) -> tuple[str, str]:
    """(run id, version of the program that made it)"""
    value = _member(archive, MANIFEST)
    if value.get("format") != FORMAT:
        raise Unfit("is no bundle of this program")
    if newer(value, BUNDLE_SCHEMA):
        raise refused("was made by a newer version of this program", _UPDATE)
    if type(value.get("schema")) is not int or value["schema"] != BUNDLE_SCHEMA:
        raise Unfit(f"holds {MANIFEST} of a schema that never was")
    run, version = value.get("run"), value.get("version")
    if set(value) != {"format", "schema", "run", "version"} or not is_plain_text(version, 40):
        raise Unfit(f"holds {MANIFEST} with other fields than a bundle has")
    if not isinstance(run, str) or not RUN_ID.fullmatch(run):
        raise Unfit("names its run in a way no run is named")
    return run, str(version)


def _run_file(archive: Archive, name: str, fields: Iterable[str]) -> dict[str, Any]:
    value = _member(archive, name)
    if newer(value, RUN_SCHEMA):
        raise refused(f"holds {name} of a newer version of this program", _UPDATE)
    if type(value.get("schema")) is not int or value.pop("schema") != RUN_SCHEMA:
        raise Unfit(f"holds {name} of a schema that never was")
    if set(value) - set(fields):
        raise Unfit(f"holds {name} with a field that does not belong there, {quoted(min(set(value) - set(fields)))}")
    if name == EXPERIMENT and (
        not isinstance(value.get("spec"), dict)
        or not is_utc(value.get("created"))
        or not all(isinstance(value.get(text, ""), str) for text in ("asked_by", "note"))
    ):
        raise Unfit(f"holds {name} without a question, or with something else than text")
    if name == STATUS and value.get("state") != "done":
        raise Unfit(f"holds {name} of a run that is not finished")
    if name == STATUS and (wrong := [field for field, fits in _SAID.items() if not fits(value.get(field))]):
        raise Unfit(f"holds {name} with an impossible value for {wrong[0]}")
    if name == PLAN and not isinstance(value.get("stages"), list):
        raise Unfit(f"holds {name} without stages")
    return value


_SAID: dict[str, Callable[[Any], bool]] = {  # of STATUS_FIELDS; all but the state may be missing
    **dict.fromkeys(("started", "finished"), lambda value: value is None or is_utc(value)),
    "device": lambda value: value is None or is_plain_text(value),
    "processes": lambda value: value is None or (type(value) is int and 0 <= value < 10_000),
}


def _stages(archive: Archive, listed: list[Any]) -> dict[str, StageSpec]:
    """Every stage by key, in the order of the plan, its stage.json checked. All of the plan are there, and no other."""
    found = dict.fromkeys(match[1] for name in archive.names if (match := MEMBER.fullmatch(name)))
    if len(listed) != len(found) or any(not isinstance(key, str) or key not in found for key in listed):
        raise Unfit("does not hold exactly the stages of its plan, each of them once")
    stages: dict[str, StageSpec] = {}
    for key in listed:
        for name in REQUIRED:
            if f"stages/{key}/{name}" not in archive.names:
                raise Unfit(f"lacks {name} of stage {key[:8]}")
        try:
            stages[key] = check_stage_spec(archive.read(f"stages/{key}/{STAGE}"), key)
        except Unfit as error:
            raise Unfit(f"holds {STAGE} of stage {key[:8]}, which {error}") from error
    if len(stages) != len(listed):
        raise Unfit("names a stage twice in its plan")
    for key, stage in stages.items():
        if not set(stage.teachers) <= set(stages):
            raise Unfit(f"lacks a teacher of stage {key[:8]}, or its stages teach each other in a circle")
    return stages


def _question(value: dict[str, Any], datasets: Mapping[str, Dataset]) -> tuple[ExperimentSpec, Dataset]:
    """What the run asks, understood strictly, and its data set as it is here."""
    name = value.get("dataset")
    dataset = datasets.get(name) if isinstance(name, str) else None
    if dataset is None:
        raise refused(
            f"is about a data set that is not here, {quoted(str(name))}",
            "Bring its images here first (python -m takd data import-folder PATH --name NAME), then import it again.",
        )
    if dataset.fingerprint is None:
        raise refused(
            f"is about {dataset.label}, which was never prepared here, so nobody knows whether the images are the same",
            f"Prepare them (python -m takd data prepare {dataset.name}), then import it again.",
        )
    if missing := gone(value):
        raise refused(
            "uses somebody's own network whose file is not on this machine, " + ", ".join(missing),
            f"{gone_sentence(missing)} Get that file and check it (python -m takd networks --add FILE), then import "
            "this one again.",
        )
    try:
        return require_spec(value, datasets), dataset
    except SpecError as error:
        raise refused(f"asks a question this version does not understand. {error.problems[0].rstrip('.')}") from error


def _plan(spec: ExperimentSpec, dataset: Dataset, stages: Mapping[str, StageSpec]) -> Plan:
    """The plan of the question, which has to be that of the bundle."""
    if any(stage.data.fingerprint != dataset.fingerprint for stage in stages.values()):
        raise refused(
            f"was trained on other images than those that are called {dataset.name} here",
            f"Prepare the same images (python -m takd data prepare {dataset.name}), then import it again.",
        )
    plan = build_plan(spec, dataset)
    if set(plan.stages) != set(stages):
        raise refused(
            "holds other trainings than this version makes of its question; it was made by another version, or changed",
            f"Use the version it was made with, or ask whoever made it to train it again with this one. {AGAIN}",
        )
    return plan


def _as_stored(
    experiment: Mapping[str, Any], status: Mapping[str, Any], spec: ExperimentSpec, plan: Plan
) -> dict[str, bytes]:
    """The files of the run as they will be written: from what was understood, never the bytes that came. The folder is
    a run once experiment.json is there."""
    texts = {name: clean_text(experiment.get(name, ""), most) for name, most in (("asked_by", 60), ("note", 500))}
    return {
        name: canonical_json({**value, "schema": RUN_SCHEMA})
        for name, value in (
            ("plan.json", plan.to_json()),
            ("status.json", {field: item for field, item in status.items() if item is not None}),
            ("experiment.json", {"spec": to_json(spec), "created": experiment["created"], **texts}),
        )
    }
