"""Copy a finished run into a store that travels with the program: results and events of every stage, weights where
they are small, and a large teacher's answers instead of its weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from takd.runs import files
from takd.runs.errors import RunError
from takd.runs.states import plan_keys, run_folder, run_info
from takd.runs.store import Store, stage_folder

MOST_WEIGHT_BYTES = 2_000_000
_ALWAYS = ("stage.json", "events.jsonl", "predictions.npz")


def publish(store: Store, run_id: str, destination: Path) -> int:
    """Copy a run and its stages to `destination`; returns the number of stages copied anew.

    result.json is written last, as everywhere. Raises RunError when the run is not finished.
    """
    run = run_info(store, run_id)
    if run.state != "done":
        raise RunError(f"Run {run_id} is {run.state}; only finished runs can be published.")
    source = run_folder(store, run_id)
    copied = sum(_copy_stage(store, key, destination) for key in plan_keys(store, source))
    target = destination / "runs" / run_id
    target.mkdir(parents=True, exist_ok=True)
    for name in ("plan.json", "status.json", "experiment.json"):
        files.write_atomic(target / name, (source / name).read_bytes())
    return copied


def _copy_stage(store: Store, key: str, destination: Path) -> bool:
    source, target = store.folder(key), stage_folder(destination, key)
    if (target / "result.json").exists():
        return False
    target.mkdir(parents=True, exist_ok=True)
    for name in _ALWAYS:
        files.write_atomic(target / name, (source / name).read_bytes())
    weights, answers = source / "weights.safetensors", source / "extra"
    if weights.exists() and weights.stat().st_size <= MOST_WEIGHT_BYTES:
        files.write_atomic(target / weights.name, weights.read_bytes())
    elif answers.is_dir():
        shutil.copytree(answers, target / "extra", dirs_exist_ok=True)
    files.write_atomic(target / "result.json", (source / "result.json").read_bytes())
    return True
