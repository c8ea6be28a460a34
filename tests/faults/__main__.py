"""`python -m tests.faults`: inject faults, print what was survived. Exit code 1 where something was lost.

--kills 1000 (the long version: half of them at points of the code, half on workers, leads, helpers and askers of shared
chains, a tenth more on real trainings, and 20 changed bundles for each), --jobs 2 (so many processes at a time), --only
CLASS, --size N, --seconds N, --seed N, --json. The normal tests run a short version of each class (test_faults.py).
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from takd.runs.store import REPO
from tests.faults.common import Figures

Class = Callable[[int, int, Path], Figures]
Row = dict[str, Any]
CLASSES = ("crash_points", "damage", "refused", "racing", "resume", "soak", "bad_inputs")
SHORT = {"crash_points": 12, "damage": 20, "refused": 3, "racing": 2, "resume": 12, "soak": 4, "bad_inputs": 120}
LONG = {"crash_points": 0.5, "damage": 0.3, "refused": 0.02, "racing": 0.02, "resume": 0.1, "soak": 0.5}  # of the kills
LONG["bad_inputs"] = 20  # bundles with random changes: they cost milliseconds
APART = ("crash_points", "resume", "soak")  # long enough to be shared out among --jobs
_NEXT_SEED = 1000


def run_class(name: str, size: int, seed: int) -> Figures:
    """One class of faults in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="takd-faults-") as folder:
        os.environ.update(
            TAKD_STORE=f"{folder}/store",
            TAKD_CACHED="",
            TAKD_DATA=f"{folder}/data",
            TAKD_TRAINER="tests.runs.fake_trainer:run_stages",
            TAKD_PROCESSES="2",
            TAKD_WARM_MINUTES="0",
            FAKE_EPOCH_MS="0",
        )
        if name != "soak":
            os.fsync = lambda _: None  # no power is cut here, so waiting for the disk would only make it slow
        run: Class = importlib.import_module(f"tests.faults.{name}").run
        return run(size, seed, Path(folder))


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, help="of the long version; without it the short one runs")
    parser.add_argument("--only", choices=CLASSES)
    parser.add_argument("--size", type=int, help="how many faults, with --only")
    parser.add_argument("--jobs", type=int, default=1, help="processes that inject faults at the same time")
    parser.add_argument("--seconds", type=float, help="for each class, after which nothing more is injected")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    parts = [part for name in (options.only,) * bool(options.only) or CLASSES for part in _parts(name, options)]
    if options.jobs > 1:
        with ThreadPoolExecutor(options.jobs) as pool:
            found = list(pool.map(lambda part: _elsewhere(part, options), parts))
    else:
        found = [_here(part, options) for part in parts]
    rows = _merged(parts, found)
    if options.json:
        print(json.dumps(rows))
    else:
        for row in rows:
            show_kinds(row)
        print(f"\n{table(rows)}")
        print(
            f"seed {options.seed}, kills {options.kills or 'few'}, jobs {options.jobs}, "
            f"{time.monotonic() - began:.0f} s; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
            f"Python {platform.python_version()}, {platform.system()}"
        )
    return int(any(row["injected"] != row["survived"] or row["lost"] for row in rows))


Part = tuple[str, int, int]  # class, size, seed


def _parts(name: str, options: argparse.Namespace) -> list[Part]:
    """What is done for a class: in one go, or shared out."""
    size = SHORT[name] if options.kills is None else max(SHORT[name], int(LONG[name] * options.kills))
    size = options.size or size
    count = options.jobs if name in APART and size >= 2 * SHORT[name] else 1
    shares = [size // count + (number < size % count) for number in range(count)]
    return [(name, share, options.seed + _NEXT_SEED * number) for number, share in enumerate(shares)]


def _here(part: Part, options: argparse.Namespace) -> Row:
    began = time.monotonic()
    os.environ["TAKD_FAULTS_UNTIL"] = str(began + (options.seconds or math.inf))
    row = run_class(*part).as_json() | {"seconds": round(time.monotonic() - began, 1)}
    if not options.json:
        print(f"{row['name']}: {row['seconds']} s", flush=True)
    return row


def _elsewhere(part: Part, options: argparse.Namespace) -> Row:
    """In a process of its own."""
    name, size, seed = part
    command = [sys.executable, "-m", "tests.faults", "--only", name, "--size", str(size), "--seed", str(seed), "--json"]
    command += ["--seconds", str(options.seconds)] if options.seconds else []
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    (row,) = json.loads(done.stdout.splitlines()[-1])
    if not options.json:
        print(f"{row['name']} (seed {seed}): {row['seconds']} s", flush=True)
    found: Row = row
    return found


def _merged(parts: Sequence[Part], rows: Sequence[Row]) -> list[Row]:
    """One row a class."""
    found: dict[str, Row] = {}
    for (name, *_), row in zip(parts, rows, strict=True):
        if (known := found.get(name)) is None:
            found[name] = dict(row)
            continue
        for what in ("injected", "survived"):
            known[what] = dict(Counter(known[what]) + Counter(row[what]))
        for what in ("stages", "once", "lost", "seconds", "notes"):
            known[what] = known[what] + row[what]
    return list(found.values())


def show_kinds(row: Row) -> None:
    """One class as a line for each kind."""
    print(f"\n{row['name']}")
    for kind, number in row["injected"].items():
        print(f"    {kind:<46}{row['survived'].get(kind, 0):>6} of {number}")
    for note in row["notes"][:40]:
        print(f"    - {note}")


def table(rows: Sequence[Row]) -> str:
    """What there is to know, a line a class and one for all."""
    cells = [("class", "injected", "survived", "results lost", "stages trained once", "seconds")]
    totals = [0, 0, 0, 0, 0, 0.0]
    for row in rows:
        numbers = [sum(row["injected"].values()), sum(row["survived"].values())]
        numbers += [row["lost"], row["once"], row["stages"], row["seconds"]]
        totals = [total + number for total, number in zip(totals, numbers, strict=True)]
        cells.append(_cells(row["name"], numbers))
    cells.append(_cells("all", totals))
    return "\n".join(f"{name:<28}" + "".join(f"{text:>21}" for text in rest) for name, *rest in cells)


def _cells(name: str, numbers: Sequence[float]) -> tuple[str, ...]:
    injected, survived, lost, once, stages, seconds = numbers
    return name, f"{injected}", f"{survived}", f"{lost}", f"{once} of {stages}", f"{seconds:.0f}"


if __name__ == "__main__":
    sys.exit(main())
