"""What the package weighs: importing it without training, and the most memory the chain takes on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.cnn_rows import Options
from benchmarks.images import small_set
from benchmarks.report import Fact, Row
from benchmarks.weigh import CHAIN_STEPS, IMPORTS

REPO = Path(__file__).resolve().parents[1]
SECONDS, MEGABYTES, CHAIN_MEGABYTES = 1.0, 300.0, 2048.0
_NAMES = {
    "plan": "import takd, its tables and plan",
    "cli": "import the command line",
    "web": "import all that a page imports, Streamlit included",
}


def memory_row(options: Options) -> Row:
    """Seconds and megabytes of importing, and the peak of plain-10 > plain-4 > plain-2 with all images in memory."""
    facts: list[Fact] = []
    loaded: set[str] = set()
    for kind in IMPORTS:
        weighed(kind)  # once unmeasured: files come from the disk and are compiled
        found = [weighed(kind) for _ in range(options.rounds)]
        loaded.update(*(one["heavy"] for one in found))
        # The second aimed at is the package's own: Streamlit alone takes longer.
        facts.append(Fact(_NAMES[kind], [one["seconds"] for one in found], "s", None if kind == "web" else SECONDS))
        facts.append(Fact(_NAMES[kind], [one["megabytes"] for one in found], "MB", MEGABYTES))
    facts.append(Fact("of torch, torchvision, scikit-learn imported", [float(len(loaded))], "packages", 0.0))
    data, what = small_set(options.source, 10, *((900, 100) if options.quick else (45_000, 5_000)))
    peak = weighed("chain", data.name, str(data.train_images))
    facts.append(Fact("most memory of the CPU chain", [peak["megabytes"]], "MB", CHAIN_MEGABYTES))
    notes = [
        f"the chain's process holds {data.train_images:,} training images ({what}), asks each teacher about all of",
        f"them and trains {CHAIN_STEPS} batches of every network",
    ]
    return Row("memory", "memory and imports", "most resident memory of a process", {}, [], facts, None, notes)


def weighed(*arguments: str) -> dict[str, Any]:
    """One process's figures."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.weigh", *arguments]
    done = subprocess.run(command, cwd=REPO, stdout=subprocess.PIPE, check=True)
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return value
