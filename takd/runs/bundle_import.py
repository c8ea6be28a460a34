"""Take a bundle into the store.

A bundle is checked from end to end before anything is written. Then its files are written into a hidden folder of
`<store>/imported/`, stages are renamed into place one by one, and the run comes last: whatever ends the import, a
reader sees the whole run or none. What is left behind is removed by the next import.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from takd import __version__
from takd.data.catalogue import available_datasets
from takd.data.table import Dataset
from takd.runs import files
from takd.runs.archive import Archive
from takd.runs.bundle import BUNDLE_SCHEMA, LIMITS, MANIFEST, MOST_BYTES
from takd.runs.bundle_check import Checked, check_bundle, content_digest, refused
from takd.runs.errors import BundleError, RunError
from takd.runs.imported import HIDDEN, alone, imported_bytes, imports_root, sweep
from takd.runs.layout import RESULT, sha256, stage_folder
from takd.runs.people import MACHINE, Person, require_may_start
from takd.runs.policy import import_quota, require_imports_allowed
from takd.runs.states import RUN_SCHEMA, plan_keys, read_run_file, run_folder, run_info, seen_by
from takd.runs.store import Store
from takd.runs.strict import Unfit
from takd.spec import SpecError, require_spec
from takd.stage import canonical_json

_LEAST_FREE = 200_000_000  # bytes that stay free on the disk


@dataclass(frozen=True)
class Imported:
    """What an import came to. `run_id` is how the run is called here, `known` whether it was here already, `origin`
    where it stands. Of its `stages`, `own` are shown with this machine's own or cached results, which come first, and
    `kept` with what was imported for the same training before."""

    run_id: str
    known: bool
    origin: str
    stages: int
    own: int
    kept: int
    weights: bool


def import_bundle(
    store: Store,
    file: BinaryIO,
    *,
    datasets: Mapping[str, Dataset] | None = None,
    most: int = MOST_BYTES,
    person: Person = MACHINE,
) -> Imported:
    """Check a bundle and add its run to the imported ones, on the wish of `person`. `file` can be sought in; `most`
    bytes are taken.

    A bundle that was imported before changes nothing. One with the id of a run that is another gets an id of its own.
    Raises BundleError for what is no sound bundle or finds no room, RunError where nothing may be imported; nothing is
    left of it then.
    """
    require_imports_allowed()
    require_may_start(person)
    root = imports_root(store)
    checked = check_bundle(file, available_datasets() if datasets is None else datasets, most)
    run_id, origin = _place(store, checked)
    if origin in ("live", "cached"):
        return Imported(run_id, True, origin, len(checked.stages), len(checked.stages), 0, checked.weights)
    if not origin:
        _require_room(store, checked)
    if (problem := store.writable()) is not None:
        raise BundleError(problem.replace("no training can start", "nothing can be imported"))
    try:
        with alone(store):
            run_id, origin = _place(store, checked)  # again: another import may have ended in between
            kept = _write(root, run_id, checked, file)
    except OSError as error:
        raise BundleError(
            f"The run could not be stored in {root} ({error.strerror or error}), and nothing of it was kept. Make room "
            "on the disk or set TAKD_STORE to a folder you may write to, then import it again."
        ) from error
    own = sum(store.origin(key) in ("live", "cached") for key in checked.stages)
    return Imported(run_id, origin == "imported", "imported", len(checked.stages), own, kept, checked.weights)


def _place(store: Store, checked: Checked) -> tuple[str, str]:
    """(the id the run gets here, the origin of the same run where it is here already, else nothing)."""
    for length in (0, 6, 12, 24):
        run_id = checked.run_id if not length else f"{checked.run_id[:32]}-{checked.digest[:length]}"
        try:
            folder = run_folder(store, run_id)
        except RunError:
            return run_id, ""
        if _digest_of(store, folder) == checked.digest:
            return run_id, run_info(store, run_id).origin
    raise BundleError(f"There are several other runs called {checked.run_id} here; remove one of them, then try again.")


def _digest_of(store: Store, folder: Path) -> str:
    """What a run that is here holds, in the same words as a bundle; empty where it cannot be read."""
    root = folder.parent.parent
    if root == store.imported:  # as it came: its stages may be shown with other results of the same trainings
        return str(read_run_file(store, folder, MANIFEST).get("digest"))
    experiment = read_run_file(store, folder, "experiment.json")
    try:
        spec = require_spec(experiment.get("spec") or {}, available_datasets())
    except SpecError:
        return ""
    seen = seen_by(store, "live")
    raws = {key: files.read_bytes_or_none(seen.folder(key) / RESULT) for key in plan_keys(store, folder)}
    return content_digest(spec, str(experiment.get("created")), {key: sha256(raw or b"") for key, raw in raws.items()})


def _require_room(store: Store, checked: Checked) -> None:
    quota, used = import_quota(), imported_bytes(store)
    if used + checked.bytes > quota:
        raise refused(
            f"takes {checked.bytes / 1e6:,.0f} MB, and imported runs may take {quota / 1e6:,.0f} MB together, of which "
            f"{used / 1e6:,.0f} MB are used",
            "Remove an imported run you do not need (Runs page, or python -m takd delete), or set TAKD_IMPORTS_MB.",
        )
    there = next(path for path in (store.root, *store.root.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < checked.bytes + _LEAST_FREE:
        raise refused(
            f"takes {checked.bytes / 1e6:,.0f} MB, and only {free / 1e6:,.0f} MB are free on the disk",
            "Delete something, or set TAKD_STORE to a folder on another disk, then import it again.",
        )


def _write(root: Path, run_id: str, checked: Checked, file: BinaryIO) -> int:
    """Write what was checked; returns of how many stages other results were here already and stay."""
    hidden = root / f"{HIDDEN}{secrets.token_hex(4)}"
    kept = 0
    try:
        hidden.mkdir()
        with Archive(file, LIMITS) as archive:
            for key, sums in checked.stages.items():
                target = stage_folder(root, key)
                raws = {name: files.read_bytes_or_none(target / name) for name in sums}
                here = {name: None if raw is None else sha256(raw) for name, raw in raws.items()}
                if here[RESULT] not in (None, sums[RESULT]) and Store(root).is_done(key):
                    kept += 1
                elif here != sums:
                    _add_stage(archive, key, sums, hidden / key, target)
        folder = root / "runs" / run_id
        if not folder.exists():
            about = {"schema": RUN_SCHEMA, "bundle": BUNDLE_SCHEMA, "run": checked.run_id, "digest": checked.digest}
            about |= {"made_with": checked.version, "imported_with": __version__}
            from_scratch = hidden / run_id
            from_scratch.mkdir()
            manifest = canonical_json(about)
            files.write_together(
                {from_scratch / name: raw for name, raw in ({MANIFEST: manifest} | dict(checked.run_files)).items()}
            )
            folder.parent.mkdir(exist_ok=True)
            from_scratch.rename(folder)
            files.sync_folder(folder.parent)
    except Unfit as error:
        sweep(root)
        raise refused(f"changed while it was read: {error}") from error
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        sweep(root)
        raise
    shutil.rmtree(hidden, ignore_errors=True)
    return kept


def _add_stage(archive: Archive, key: str, sums: Mapping[str, str], fresh: Path, target: Path) -> None:
    """One stage, whole, in place of what may be there of it: the same one without weights, or damaged."""
    raws = {name: archive.read(f"stages/{key}/{name}") for name in sums if f"stages/{key}/{name}" in archive.names}
    if any(sha256(raw) != sums[name] for name, raw in raws.items()) or len(raws) != len(sums):
        raise Unfit(f"stage {key[:8]} is not the one that was checked")
    fresh.mkdir()
    files.write_together({fresh / name: raw for name, raw in raws.items()})
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(fresh.with_name(f"{key}-before"))
    fresh.rename(target)
    files.sync_folder(target.parent)
