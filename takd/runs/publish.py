"""Copy a finished run into a store that travels with the program: results and events of every stage and, where pupils
take long to train, what they need of their teachers: small weights, or a large teacher's answers."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from takd.runs import files
from takd.runs.errors import RunError
from takd.runs.states import plan_keys, run_folder, run_info
from takd.runs.store import Store, stage_folder

MOST_WEIGHT_BYTES = 1_000_000
LEAST_SECONDS = 10.0  # a stage that trains faster than this is trained again rather than shipped with its weights
_ALWAYS = ("stage.json", "events.jsonl")


def publish(store: Store, run_id: str, destination: Path) -> int:
    """Copy a run and its stages to `destination`; returns the number of stages copied anew.

    Stages that train in under LEAST_SECONDS come without weights and predictions: their numbers are all a page shows,
    and a pupil that needs such a teacher has it again in moments. result.json is written last, as everywhere. Raises
    RunError when the run is not finished.
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
    result = store.result(key) or {}
    if result.get("seconds", 0.0) >= LEAST_SECONDS:
        _copy_what_pupils_need(source, target)
    files.write_atomic(target / "result.json", (source / "result.json").read_bytes())
    return True


def _copy_what_pupils_need(source: Path, target: Path) -> None:
    weights, answers = source / "weights.safetensors", source / "extra"
    files.write_atomic(target / "predictions.npz", (source / "predictions.npz").read_bytes())
    if weights.exists() and weights.stat().st_size <= MOST_WEIGHT_BYTES:
        files.write_atomic(target / weights.name, weights.read_bytes())
    elif answers.is_dir():
        shutil.copytree(answers, target / "extra", dirs_exist_ok=True)


def main() -> None:
    """`python -m takd.runs.publish STORE RUN [RUN ...] --to cached_runs`"""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--to", type=Path, required=True)
    arguments = parser.parse_args()
    for run_id in arguments.runs:
        print(run_id, publish(Store(arguments.store), run_id, arguments.to), "stages copied")


if __name__ == "__main__":
    main()
