"""The real trainer, whose steps write down when they begin: for tests of what happens after a wish to stop.

$NOTED_STEPS names a folder, which gets a file per process; $NOTED_STEP_MS makes every step take at least so long.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from takd.training import loop
from takd.training.run_stage import run_stages
from takd.training.step import Step

__all__ = ["run_stages"]


class Noted(Step):
    def __call__(self, *args: Any) -> Any:
        with open(Path(os.environ["NOTED_STEPS"]) / str(os.getpid()), "a") as file:
            file.write(f"{time.monotonic()}\n")  # one clock for all processes
        time.sleep(float(os.environ.get("NOTED_STEP_MS", "0")) / 1000)
        return super().__call__(*args)


if "NOTED_STEPS" in os.environ:  # in a worker; the tests' own process imports this too
    loop.Step = Noted  # type: ignore[misc]


def begun(folder: Path) -> dict[str, list[float]]:
    """When each process began its steps."""
    return {path.name: [float(line) for line in path.read_text().splitlines()] for path in folder.iterdir()}
