"""How fast the engine is on a CPU against a plain script and a library. `python -m takd bench` starts this.

    python -m benchmarks.cpu [--row NAME]... [--rounds 5] [--quick] [--json FILE] [--no-evaluation]

Contenders take turns in every round, one torch thread each. A row whose contenders did not train alike is void.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import cnn_rows, memory_row, mlp_rows
from benchmarks.cnn_rows import Options
from benchmarks.images import Source
from benchmarks.report import Row, report, text, write_json
from takd.data.meta import data_root
from takd.training.device import environment, pick_device, uses_bf16

ROWS: dict[str, Callable[[Options], Row]] = {
    "digits": mlp_rows.study_row,
    "sweep": mlp_rows.sweep_row,
    "link-plain": lambda options: cnn_rows.link_row(
        options, "link-plain", "plain-10", "plain-2", 25, (30.0, 12.0), "counted limits x150 and x60"
    ),
    "link-resnet": lambda options: cnn_rows.link_row(
        options, "link-resnet", "resnet-110", "resnet-8", 10, (30.0, 11.0), "counted limits x100 and x35"
    ),
    "chain": cnn_rows.chain_row,
    "sub-models": cnn_rows.sub_models_row,
    "memory": memory_row.memory_row,
}
LEAST_ROUNDS = 5


def machine(device: str = "cpu") -> dict[str, Any]:
    """What the figures were measured on."""
    where = pick_device(device)
    made = environment(where, uses_bf16(where, "mixed"))
    names = ("device", "device_name", "platform", "python", "torch", "threads", "precision", "cpu_capability")
    return {name: made[name] for name in names if name in made} | {"cores": os.cpu_count()}


def load() -> list[float] | None:
    """Load averages of 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def measure(names: Sequence[str], rounds: int, quick: bool, evaluation: bool, folder: Path) -> dict[str, Any]:
    """The report of some rows; data sets and stores are made in `folder`."""
    torch.set_num_threads(1)
    source = Source(data_root(), folder / "data")
    os.environ["TAKD_DATA"] = str(source.folder)
    options = Options(source, rounds, quick, evaluation)
    about: dict[str, Any] = {"machine": machine(), "load": {"start": load()}, "counted": list(cnn_rows.COUNTED)}
    about["options"] = {"rows": list(names), "rounds": rounds, "quick": quick, "evaluation": evaluation}
    rows = []
    try:
        for name in names:
            print(f"{name}:", file=sys.stderr, flush=True)
            rows.append(ROWS[name](options))
    finally:
        os.environ["TAKD_DATA"] = str(source.prepared)
    about["load"]["end"] = load()
    return report(rows, about)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit code: 1 where a row is void."""
    parser = argparse.ArgumentParser(prog="python -m takd bench", description="Measure the engine on this CPU.")
    parser.add_argument("--row", action="append", choices=list(ROWS), help="only this one; may be given again")
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS, help="how often every contender takes its turn")
    parser.add_argument("--quick", action="store_true", help="one round on few images: a look, not a measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report here")
    parser.add_argument("--no-evaluation", action="store_true", help="leave the evaluation out of an epoch")
    options = parser.parse_args(arguments)
    rounds = 1 if options.quick else max(1, options.rounds)
    with tempfile.TemporaryDirectory(prefix="takd-bench-") as folder:
        value = measure(options.row or list(ROWS), rounds, options.quick, not options.no_evaluation, Path(folder))
    print(text(value))
    if options.json is not None:
        write_json(options.json, value)
    return int(any(row["void"] for row in value["rows"]))


if __name__ == "__main__":
    sys.exit(main())
