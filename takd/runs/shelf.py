"""Put what was trained for a question into the library that travels with the program: one pack, without a run.

The library is looked into by the keys of stages, so it needs no run for each of its questions. A pack's name ends in
a sum of its contents: two machines that trained the same question add two files, and either can be read.

What of a stage goes along beside stage.json and result.json, so that `verify` can recompute its numbers:

| | |
|---|---|
| a claim reads its answers to single images | classes.bin beside the rest; of the first SHOWN seeds, which pages |
| | show, predictions.npz and events.jsonl and no weights |
| only the map of regimes reads it | nothing |
| it is for 8x8 images | weights.safetensors up to LIGHT bytes if a claim's own measure reads it, events.jsonl if a |
| | claim reads that, else nothing: a check trains it again in moments |
| it is a student of the headline's first chain | events.jsonl, classes.bin and weights.safetensors of any size |
| anything else | events.jsonl and the smaller of weights.safetensors and predictions.npz; both never |
| that smaller one is over HEAVY bytes | events.jsonl alone, and `verify` says so: large networks and their heads, |
| | networks of 100 classes, ResNets. A handful of them would be larger than all else |

Where neither weights nor predictions go along, classes.bin always does (takd.runs.classes): accuracies and agreement
with the teachers follow from it to the image.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from takd import __version__
from takd.claims.library import Entry, Read
from takd.commit import commit
from takd.networks.table import is_tiny
from takd.plan import Plan
from takd.runs import files, packs
from takd.runs.classes import classes_of
from takd.runs.errors import RunError
from takd.runs.layout import CLASSES, EVENTS, environment_of, sha256
from takd.runs.loop import PREDICTIONS, WEIGHTS
from takd.runs.policy import require_changes_allowed
from takd.runs.publish import contents_of, smaller, stage_alone
from takd.runs.store import Store
from takd.spec import to_json
from takd.stage import StageSpec, canonical_json

_LONGEST_NAME = 50
_OTHERWISE = "Nothing was put into the library"
HEAVY = 50_000  # it was more while there was room: some that are there are larger
SHOWN = 3  # seeds
LIGHT = 4_000  # what students of 8x8 images have: their test numbers follow from weights without a training


def shelve(store: Store, entry: Entry, plan: Plan, destination: Path, read: Read) -> int:
    """Pack those finished stages of a question that claims read, were trained in this store and are not in the library
    yet; returns their number. Raises RunError when one of them is damaged."""
    require_changes_allowed()
    own, there = store.without_imports, Store(store.root, [destination])
    keys = [k for k in plan.stages if k in read.every and own.origin(k) == "live" and there.origin(k) != "cached"]
    if not keys:
        return 0
    members: dict[str, bytes] = {}
    for key in keys:
        stage, answers = plan.stages[key], key in read.answers
        shown = answers and stage.seed < entry.spec.seed + SHOWN
        kept = [] if key in read.mapped else _kept(stage, own, shown, read)
        for name, raw in _contents(own, key, kept, answers or key in read.headline).items():
            members[f"{key}/{name}"] = raw
    members[packs.ABOUT] = _about(own, entry, keys)
    raw = packs.packed(members)
    slug = re.sub(r"[^a-z0-9]+", "-", entry.name.lower()).strip("-")[:_LONGEST_NAME].strip("-")
    path = destination / packs.PACKS / f"{slug}-{sha256(raw)[:8]}{packs.ENDING}"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, raw)
    return len(keys)


def trained_again(stage: StageSpec) -> bool:
    """Whether a check trains this stage again where its files were left out."""
    return is_tiny(stage.network)


def _kept(stage: StageSpec, store: Store, shown: bool, read: Read) -> list[str]:
    listed: dict[str, dict[str, int]] = (store.result(stage.key) or {}).get("files", {})
    if shown:
        return [EVENTS, PREDICTIONS]
    if stage.key in read.headline:
        return [EVENTS, WEIGHTS]
    if trained_again(stage):
        light = 0 < listed.get(WEIGHTS, {}).get("bytes", 0) <= LIGHT
        whole = light and stage_alone(stage) and stage.key in read.decide
        return [*([EVENTS] if stage.key in read.curves else []), *([WEIGHTS] if whole else [])]
    return [EVENTS, *(name for name in smaller(stage, listed) if listed[name]["bytes"] <= HEAVY)]


def _contents(store: Store, key: str, kept: Collection[str], answers: bool) -> dict[str, bytes]:
    """The bytes of these files of a stage, and its answered classes where nothing else says what it answered, or where
    only its weights would say and `answers` are asked for."""
    bare = PREDICTIONS not in kept and (answers or WEIGHTS not in kept)
    contents = contents_of(store, key, [*kept, PREDICTIONS] if bare else kept, _OTHERWISE)
    if not bare:
        return contents
    try:
        found = classes_of(contents.pop(PREDICTIONS))
    except ValueError as error:
        raise RunError(f"{_OTHERWISE}: stage {key}: {error}") from error
    return contents if found is None else {CLASSES: found, **contents}


def _about(store: Store, entry: Entry, keys: Collection[str]) -> bytes:
    """Where a pack's numbers come from."""
    results = [result for key in keys if (result := store.result(key)) is not None]
    ends = sorted(str(result.get("finished") or "") for result in results)
    machines = {
        ", ".join(str(env.get(name)) for name in ("device_name", "platform", "python", "torch"))
        for result in results
        if (env := environment_of(result))
    }
    return canonical_json(
        {
            "schema": 1,
            "question": entry.name,
            "spec": to_json(entry.spec),
            "stages": len(results),
            "seconds": round(sum(float(result.get("seconds") or 0.0) for result in results), 1),
            "machines": sorted(machines),
            "finished": [ends[0], ends[-1]] if ends else [],
            "program": __version__,
            "commit": commit(),
        }
    )
