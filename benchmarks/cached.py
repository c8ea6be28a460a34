"""How long a fresh process needs for the results of a large cached library: packs beside folders. Prints; no test.

    python -m benchmarks.cached [--packs 60] [--stages 50] [--rounds 5]

One small network on digits is trained; the other stages are copies of it under other seeds, in stores that are deleted
afterwards, so none of them is a result. The same files lie in folders and in packs. Each round is a process of its own
that imports the store first and is then timed: open, ask for every result. The operating system has read the files
before, in both. "Sum" is what the check of every result's own SHA-256 takes of that, in the same process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from takd.data.catalogue import available_datasets
from takd.plan import build_plan
from takd.runs import files, packs
from takd.runs.layout import SUM, sha256, with_sum
from takd.runs.store import Store, stage_folder
from takd.spec import start_for
from takd.training.run_stage import run_stage

ONE = """
import json, sys, time
from pathlib import Path
from takd.runs import layout
from takd.runs.store import Store
root, keys = Path(sys.argv[1]), json.load(sys.stdin)
began = time.perf_counter()
store = Store(root / "own", [root])
results = [store.result(key) for key in keys]
first = time.perf_counter() - began
assert len(results) == len(keys) and None not in results
began = time.perf_counter()
again = [store.result(key) for key in keys]
warm = time.perf_counter() - began
raws = [layout.with_sum(result) for result in results]
said = [json.loads(raw)["sum"] for raw in raws]
began = time.perf_counter()
assert all(layout.is_sum_of_the_rest(one, raw) for one, raw in zip(said, raws))
print(json.dumps([first, warm, time.perf_counter() - began]))
"""


def fill(root: Path, count: int, per_pack: int) -> list[str]:
    """`root`/folders and `root`/packs with the same stages; returns their keys."""
    live = Store(root / "live")
    spec = replace(start_for("digits"), method="kd", teacher="mlp-32", student="mlp-8", seeds=1, scope="chain")
    plan = build_plan(spec, available_datasets()["digits"])
    for stage in plan.stages.values():
        live.ensure(stage)
        run_stage(live, stage.key, device="cpu")
    model = next(stage for stage in plan.stages.values() if stage.teachers)
    contents = {path.name: path.read_bytes() for path in live.folder(model.key).iterdir() if path.is_file()}
    names = ("events.jsonl", min("weights.safetensors", "predictions.npz", key=lambda name: len(contents[name])))
    result = {name: value for name, value in json.loads(contents["result.json"]).items() if name != SUM}
    keys: list[str] = []
    for number in range(count):
        members: dict[str, bytes] = {}
        for copy in range(per_pack):
            seed = 1000 + number * per_pack + copy
            teachers = tuple(sha256(f"{seed} {teacher}".encode())[:32] for teacher in model.teachers)
            stage = replace(model, seed=seed, teachers=teachers)
            key = stage.key
            own = {**result, "key": key} | {what: dict.fromkeys(teachers, 0.5) for what in ("agreement", "kl")}
            raws = {"stage.json": stage.canonical(), **{name: contents[name] for name in names}}
            raws["result.json"] = with_sum(own)
            folder = stage_folder(root / "folders", key)
            folder.mkdir(parents=True)
            for name, raw in raws.items():
                (folder / name).write_bytes(raw)
                members[f"{key}/{name}"] = raw
            keys.append(key)
        (root / "packs" / "packs").mkdir(parents=True, exist_ok=True)
        files.write_atomic(root / "packs" / "packs" / f"run-{number}{packs.ENDING}", packs.packed(members))
    return keys


def measured(root: Path, keys: list[str]) -> list[float]:
    """Seconds of a fresh process: first look, second look, sums alone."""
    command = [sys.executable, "-c", ONE, str(root)]
    done = subprocess.run(command, input=json.dumps(keys), capture_output=True, text=True, check=True)
    return [float(value) for value in json.loads(done.stdout)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=int, default=60)
    parser.add_argument("--stages", type=int, default=50, help="of one pack")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        keys = fill(root, arguments.packs, arguments.stages)
        print(f"{len(keys)} stages, {arguments.packs} packs, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        found: dict[str, list[list[float]]] = {"folders": [], "packs": []}
        for _ in range(arguments.rounds):  # in turn: a busy moment hits both
            for kind, rounds in found.items():
                rounds.append(measured(root / kind, keys))
        for kind, rounds in found.items():
            paths = [path for path in (root / kind).rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in paths)
            disk = sum(path.stat().st_blocks * 512 for path in paths)
            first, warm, sums = (1000 * statistics.median(column) for column in zip(*rounds, strict=True))
            least = 1000 * min(row[0] for row in rounds)
            print(
                f"{kind}: {len(paths)} files, {size / 1e6:.1f} MB ({disk / 1e6:.1f} MB on the disk); all results "
                f"{first:.0f} ms (fastest {least:.0f}), of which sums {sums:.0f}; asked again {warm:.0f} ms"
            )
        ratios = [b[0] / a[0] for a, b in zip(found["folders"], found["packs"], strict=True)]
        print(f"packs / folders: {statistics.median(ratios):.2f} of the time")


if __name__ == "__main__":
    main()
