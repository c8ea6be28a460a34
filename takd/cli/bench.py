"""The command that measures how fast this machine trains, against other programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from takd.cli.output import Refused

ROOT = Path(__file__).resolve().parents[2]
ROWS = ("digits", "sweep", "link-plain", "link-resnet", "chain", "sub-models", "memory")


@click.command()
@click.option("--row", "rows", multiple=True, type=click.Choice(ROWS), help="Only this one; may be repeated.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=5, show_default=True, help="Rounds of every program.")
@click.option("--quick", is_flag=True, help="One round on few images: a look, not a measurement.")
@click.option("--no-evaluation", is_flag=True, help="Leave the evaluation out of an epoch.")
@click.option("--json", "file", type=click.Path(dir_okay=False), metavar="FILE", help="Also write the report here.")
@click.pass_context
def bench(
    context: click.Context, rows: tuple[str, ...], rounds: int, quick: bool, no_evaluation: bool, file: str | None
) -> None:
    """Measure the training engine against a plain script and a library.

    Takes about half an hour on a quiet machine (--quick: some minutes) and ends with 1 where the programs compared did
    not train alike. The library is measured where requirements-bench.txt is installed.
    """
    if not (ROOT / "benchmarks").is_dir():
        raise Refused([f"There is no benchmarks folder in {ROOT}; start the command from a complete copy."])
    command = [sys.executable, "-m", "benchmarks.cpu", "--rounds", str(rounds)]
    command += [word for row in rows for word in ("--row", row)]
    command += ["--quick"] * quick + ["--no-evaluation"] * no_evaluation
    command += [] if file is None else ["--json", os.path.abspath(file)]
    # In a process of its own: it loads torch, and the command line never does.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"}
    context.exit(subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode)
