"""How fast the engine is on a GPU; benchmarks/gpu.sh starts this after the tests that need one.

    python -m benchmarks.gpu [--device cuda:0] [--row NAME]... [--limit 150] [--quick] [--json FILE]

A study that would take longer than the limit is extrapolated from short ones, and its row says so. The report is
written after every row, so that a run that is cut off leaves what it has.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.cnn_rows import Options
from benchmarks.cpu import load, machine
from benchmarks.gpu_rows import QUICK, ROWS, Size, Work
from benchmarks.images import Source
from benchmarks.report import Row, report, row_lines, text, write_json
from takd.data.meta import data_root


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit code: 1 where a row is void or could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure the engine on a GPU.")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--row", action="append", choices=list(ROWS), help="only this one; may be given again")
    parser.add_argument("--limit", type=float, default=150.0, help="seconds a study may take, else it is extrapolated")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see that it runs, not to measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report here")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="takd-bench-") as folder:
        source = Source(data_root(), Path(folder, "data"))
        before = os.environ.get("TAKD_DATA")
        os.environ["TAKD_DATA"] = str(source.folder)
        try:
            value = _measure(asked, source)
        finally:
            os.environ.pop("TAKD_DATA")
            if before is not None:
                os.environ["TAKD_DATA"] = before
    print(text({**value, "rows": []}))
    return int(any(row["void"] or row["failed"] for row in value["rows"]))


def _measure(asked: argparse.Namespace, source: Source) -> dict[str, Any]:
    options = Options(source, 1, asked.quick, True, asked.device)
    work = Work(options, QUICK if asked.quick else Size(), asked.limit)
    about: dict[str, Any] = {"machine": machine(asked.device), "load": {"start": load()}}
    about["options"] = {"quick": asked.quick, "limit": asked.limit}
    rows: list[Row] = []
    value = report(rows, about)
    for name in asked.row or ROWS:
        try:
            rows.append(ROWS[name](work))
        except Exception as error:  # the other rows are still worth their time
            traceback.print_exc()
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            rows.append(Row(name, name, "not measured", notes=[why], failed=True))
        about["load"]["end"] = load()
        value = report(rows, about)
        print("\n".join(["", *row_lines(value["rows"][-1])]), flush=True)
        if asked.json is not None:
            write_json(asked.json, value)
    return value


if __name__ == "__main__":
    sys.exit(main())
