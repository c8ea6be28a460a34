"""`python -m tests.faults`: inject faults, print what was survived. Exit code 1 where something was lost.

--kills 1000 (the long version; half of them at points of the code, half on real workers), --only CLASS, --seconds N,
--seed N, --json. The normal tests run a short version of each class (test_faults.py).
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.common import Figures

Class = Callable[[int, int, Path], Figures]
CLASSES = ("crash_points", "damage", "refused", "racing", "resume", "soak")
SHORT = {"crash_points": 12, "damage": 20, "refused": 3, "racing": 2, "resume": 12, "soak": 4}
LONG = {"crash_points": 0.5, "damage": 0.3, "refused": 0.02, "racing": 0.02, "resume": 0.1, "soak": 0.5}  # of the kills


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
    parser.add_argument("--seconds", type=float, help="for each class, after which nothing more is injected")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for name in CLASSES if options.only is None else (options.only,):
        size = SHORT[name] if options.kills is None else max(SHORT[name], int(LONG.get(name, 0) * options.kills))
        began = time.monotonic()
        os.environ["TAKD_FAULTS_UNTIL"] = str(began + (options.seconds or math.inf))
        found = run_class(name, size, options.seed)
        rows.append(found.as_json() | {"seconds": round(time.monotonic() - began, 1)})
        if not options.json:
            show(rows[-1])
    if options.json:
        print(json.dumps(rows))
    else:
        injected, survived = (sum(sum(row[what].values()) for row in rows) for what in ("injected", "survived"))
        stages, once, lost = (sum(row[what] for row in rows) for what in ("stages", "once", "lost"))
        print(f"\nfaults survived {survived} of {injected}; stages once {once} of {stages}; results lost {lost}")
        print(f"seed {options.seed}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return int(any(row["injected"] != row["survived"] or row["lost"] for row in rows))


def show(row: dict) -> None:  # type: ignore[type-arg]
    """One class as a line for each kind."""
    print(f"{row['name']} ({row['seconds']} s): stages once {row['once']} of {row['stages']}, lost {row['lost']}")
    for kind, number in row["injected"].items():
        print(f"    {kind:<34}{row['survived'].get(kind, 0):>6} of {number}")
    for note in row["notes"][:12]:
        print(f"    - {note}")


if __name__ == "__main__":
    sys.exit(main())
