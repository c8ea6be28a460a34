"""What one process weighs: `python -m benchmarks.weigh NAME` imports or trains something and prints a line of JSON.

Imports little itself, so that what is measured has everything still to import.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

IMPORTS = ("plan", "cli", "web")
CHAIN_STEPS = 3  # of every training: memory does not grow after the first
REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_RUN_BY_OTHERS = ("takd.runs.worker", "takd.presentation.frame")  # programs and scripts, not imported


def weigh_import(kind: str) -> dict[str, Any]:
    """Seconds, megabytes and heavy modules after importing the tables and plan, the command line, or a page's part."""
    modules = {"plan": ["takd", "takd.spec", "takd.plan"], "cli": ["takd.cli.main"]}.get(kind) or web_modules()
    began = time.perf_counter()
    for name in modules:
        importlib.import_module(name)
    seconds = time.perf_counter() - began
    heavy = sorted({"torch", "torchvision", "sklearn"} & sys.modules.keys())
    return {"seconds": seconds, "megabytes": _peak_megabytes(), "heavy": heavy}


def web_modules() -> list[str]:
    """What a page and its server import."""
    rooms = ("presentation", "analysis", "runs")
    found = [
        f"takd.{room}.{file[:-3]}"
        for room in rooms
        for file in sorted(os.listdir(f"{REPO}/takd/{room}"))
        if file.endswith(".py")
    ]
    left_out = (*_RUN_BY_OTHERS, *(f"takd.{room}.__init__" for room in rooms))
    modules = [name for name in found if name not in left_out]
    return ["streamlit", "takd.cli.main", *modules]


def weigh_chain(name: str, images: int) -> dict[str, Any]:
    """Megabytes at the worst moment of plain-10 > plain-4 > plain-2 with all images of a prepared set in memory; every
    network trains a few batches, every teacher answers about all images."""
    import contextlib
    import tempfile
    from dataclasses import replace
    from pathlib import Path

    import torch

    from benchmarks import engine
    from takd.data.catalogue import find_dataset
    from takd.data.table import SPLIT_SEED
    from takd.runs.errors import StageStopped
    from takd.stage import DataSpec

    torch.set_num_threads(1)
    dataset, _ = find_dataset(name)
    data = DataSpec(name, str(dataset.fingerprint), dataset.classes, images, 0.0, SPLIT_SEED)
    with tempfile.TemporaryDirectory(prefix="takd-bench-") as folder:
        teacher = None
        for network in ("plain-10", "plain-4", "plain-2"):
            one = engine.stage(network, data, engine.recipe(1), teacher)
            with contextlib.suppress(StageStopped):
                engine.start(one, Path(folder), CHAIN_STEPS)
            teacher = replace(one, recipe=engine.recipe(2))
            engine.untrained(teacher, Path(folder))
    return {"megabytes": _peak_megabytes()}


def _peak_megabytes() -> float:
    """The most this process has held. (On Linux getrusage also counts what its parent held when it was started.)"""
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**10
    except (OSError, StopIteration):
        import psutil

        used = psutil.Process().memory_info()
        return float(getattr(used, "peak_wset", used.rss) / 2**20)


def main() -> None:
    name, *more = sys.argv[1:]
    print(json.dumps(weigh_import(name) if name in IMPORTS else weigh_chain(more[0], int(more[1]))))


if __name__ == "__main__":
    main()
