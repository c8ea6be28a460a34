"""Copy a finished run into a store that travels with the program: what is shown and checked, and what pupils need.

What of a stage goes along, beside stage.json, events.jsonl and result.json:

| | trains in under LEAST_SECONDS | takes longer |
|---|---|---|
| where | the run's pack, `packs/<run id>.sqlar` | a folder |
| predictions.npz | if it is the smaller (or equal) of the two, if the weights | always |
| | alone do not answer for the stage, and always with `answers` | |
| weights.safetensors | if predictions.npz does not go along | up to MOST_WEIGHT_BYTES, if a stage of the run |
| | | was taught by it, and always with `weights` |

One of the two is enough to recompute every number that follows from test answers: weights answer the test images again.
Pages that look at single images read stored answers only, which is what `answers` is for. A pupil that needs a packed
teacher without weights has it again in moments. Answers on training images (`extra/`) never go along: they follow from
the weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

from takd.methods.table import form_of
from takd.runs import files, packs
from takd.runs.errors import RunError, StoreError
from takd.runs.layout import EVENTS, RESULT, STAGE
from takd.runs.loop import PREDICTIONS, WEIGHTS
from takd.runs.states import plan_keys, run_folder, run_info
from takd.runs.store import Store, stage_folder
from takd.runs.sums import renew_sums
from takd.stage import StageSpec

MOST_WEIGHT_BYTES = 1_000_000
LEAST_SECONDS = 10.0  # a stage that trains faster than this is packed, and trained again where its weights are needed
_ALONE = ("network", "sub-models")  # forms whose own weights give every answer of a stage without peers


def publish(
    store: Store, run_id: str, destination: Path, *, pack: bool = True, answers: bool = False, weights: bool = False
) -> int:
    """Copy a run and its stages to `destination`; returns the number of stages copied anew.

    What goes along is in the table above. With `pack` false the stages that would be packed get folders with the same
    files. A stage that is finished in `destination`, in a folder or in any pack, is left as it is, so publishing again
    changes nothing. The pack, then folders (result.json last, as everywhere), then the run's own files are written,
    each at once or not at all. Raises RunError when the run is not finished or a file of it is missing or damaged;
    nothing is written then, unless the disk is full (OSError).
    """
    run = run_info(store, run_id)
    if run.state != "done":
        raise RunError(f"Run {run_id} is {run.state}; only finished runs can be published.")
    source = run_folder(store, run_id)
    there = Store(store.root, [destination])
    keys = [key for key in plan_keys(store, source) if there.origin(key) != "cached"]
    stages = {key: stage for key in plan_keys(store, source) if (stage := store.stage(key)) is not None}
    teachers = {teacher for stage in stages.values() for teacher in stage.teachers}
    copied: dict[str, dict[str, bytes]] = {}
    small: set[str] = set()
    for key in keys:
        result = store.result(key)
        if result is None or key not in stages:
            raise RunError(f"Stage {key} of run {run_id} is missing or damaged here; start the same question again.")
        if result.get("seconds", 0.0) < LEAST_SECONDS:
            small.add(key)
            names = [PREDICTIONS] if answers else smaller(stages[key], result["files"])
        else:
            light = result["files"].get(WEIGHTS, {}).get("bytes", 0) <= MOST_WEIGHT_BYTES
            names = [PREDICTIONS, *([WEIGHTS] if light and (weights or key in teachers) else [])]
        copied[key] = contents_of(store, key, (EVENTS, *names), "This run cannot be published")
    if pack and small:
        _write_pack(destination / packs.PACKS / f"{run_id}{packs.ENDING}", {key: copied.pop(key) for key in small})
    for key, contents in copied.items():
        target = stage_folder(destination, key)
        target.mkdir(parents=True, exist_ok=True)
        files.write_together({target / name: raw for name, raw in contents.items()})
    _write_run(source, destination / "runs" / run_id)
    renew_sums(destination)
    return len(keys)


def smaller(stage: StageSpec, listed: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Which of the two large files of a stage goes along where one is enough."""
    if not stage_alone(stage):
        return [PREDICTIONS]
    sizes = {name: listed[name]["bytes"] for name in (PREDICTIONS, WEIGHTS) if name in listed}
    return [min(sizes, key=sizes.__getitem__, default=PREDICTIONS)]  # the first of equal ones


def stage_alone(stage: StageSpec) -> bool:
    """Whether the stage's own weights give every answer of it."""
    return not stage.peers and form_of(stage.loss) in _ALONE


def contents_of(store: Store, key: str, names: Iterable[str], otherwise: str) -> dict[str, bytes]:
    """The bytes of these files of a stage, checked against its result, and of stage.json and result.json, which comes
    last. Raises RunError where one is missing or damaged; `otherwise` says what then does not happen."""
    folder = store.folder(key)
    try:
        raws = {name: store.read_file(key, name) for name in names}
    except StoreError as error:
        raise RunError(f"{otherwise}: {error}") from error
    stage, result = (files.read_bytes_or_none(folder / name) for name in (STAGE, RESULT))
    if stage is None or result is None:
        raise RunError(f"{otherwise}: stage {key} changed while it was read; try it again.")
    return {STAGE: stage, **raws, RESULT: result}


def _write_pack(path: Path, stages: dict[str, dict[str, bytes]]) -> None:
    """Replace the run's pack by one that has these stages too; what was damaged in it is left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = {f"{key}/{name}": raw for key, contents in stages.items() for name, raw in contents.items()}
    kept = {name: raw for name, raw in packs.members(path).items() if name.partition("/")[0] not in stages}
    files.write_atomic(path, packs.packed(kept | fresh))


def _write_run(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in ("plan.json", "status.json", "experiment.json"):
        raw = (source / name).read_bytes()
        if files.read_bytes_or_none(target / name) != raw:
            files.write_atomic(target / name, raw)


def main() -> None:
    """`python -m takd.runs.publish STORE RUN [RUN ...] --to cached_runs [--folders] [--answers] [--weights]`"""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--folders", action="store_true", help="a folder for every stage, no pack")
    parser.add_argument("--answers", action="store_true", help="keep the test answers of packed stages too")
    parser.add_argument("--weights", action="store_true", help="keep the small weights of all stages that take long")
    asked = parser.parse_args()
    for run_id in asked.runs:
        options = {"pack": not asked.folders, "answers": asked.answers, "weights": asked.weights}
        print(run_id, publish(Store(asked.store), run_id, asked.to, **options), "stages copied")


if __name__ == "__main__":
    main()
