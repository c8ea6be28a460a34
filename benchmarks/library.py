"""How long the server needs for the list of runs: 300 finished runs in one store. Prints; no test.

    python -m benchmarks.library [--runs 300] [--rounds 5]

One small study on digits is trained; the other runs are copies of it under other seeds, in a store that is deleted
afterwards, so none of them is a result. "Cold" is a server's first look, "warm" every further one. Needs no browser:
the Runs page is run as Streamlit's own tests run pages, and its time is the page's, without the network.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
from streamlit.testing.v1 import AppTest

from takd.data.catalogue import available_datasets
from takd.plan import build_plan
from takd.runs.states import list_runs, write_run_file
from takd.runs.store import Store
from takd.runs.submit import write_plan
from takd.spec import start_for, to_json
from takd.training.run_stage import run_stage

FRAME = Path(__file__).parents[1] / "takd" / "presentation" / "frame.py"
SPEC = replace(start_for("digits"), teacher="mlp-32", assistants=("mlp-16",), student="mlp-8", seeds=3, scope="chain")


def fill(root: Path, runs: int) -> int:
    """Make the store; returns the stages of one run."""
    store, dataset = Store(root), available_datasets()["digits"]
    first = build_plan(SPEC, dataset)
    for stage in first.stages.values():
        store.ensure(stage)
        run_stage(store, stage.key, device="cpu")
    for number in range(runs):
        spec = replace(SPEC, seed=100 * number)
        plan = build_plan(spec, dataset)
        folder = root / "runs" / f"20260101-{number // 3600:02d}{number // 60 % 60:02d}{number % 60:02d}-0000"
        folder.mkdir(parents=True)
        write_plan(store, folder, plan)
        if number:
            for model, key in zip(first.stages, plan.stages, strict=True):
                result = store.result(model) or {}
                files = {name: store.read_file(model, name) for name in result["files"] if name != "events.jsonl"}
                store.append_events(key, store.read_events(model)[0])
                store.commit(key, result, files)
        created = f"2026-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}+00:00"
        write_run_file(folder, "experiment.json", {"spec": to_json(spec), "created": created})
        write_run_file(folder, "status.json", {"state": "done", "finished": created})
    return len(first.stages)


def page() -> tuple[AppTest, float]:
    """The Runs page of a session that has another page open, and its seconds."""
    at = AppTest.from_file(str(FRAME), default_timeout=600)
    at.switch_page("../../pages/runs.py")
    began = time.perf_counter()
    at.run()
    return at, time.perf_counter() - began


def rows(at: AppTest) -> int:
    """Runs of the library whose numbers stand on the page."""
    tables: list[pd.DataFrame] = [table.value for table in at.dataframe if "question" in table.value.columns]
    return int((tables[0]["n"] > 0).sum()) if tables else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        os.environ |= {"TAKD_STORE": str(root), "TAKD_CACHED": "", "TAKD_CALIBRATE": "0"}
        stages = fill(root, arguments.runs)
        print(f"{arguments.runs} runs of {stages} stages, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        store, times = Store(root), []
        for _ in range(1 + arguments.rounds):
            began = time.perf_counter()
            found = len(list_runs(store))
            times.append(time.perf_counter() - began)
        print(
            f"list_runs, {found} runs: cold {1000 * times[0]:.0f} ms, warm {1000 * statistics.median(times[1:]):.0f} ms"
        )
        at, first = page()
        print(f"Runs page: first {1000 * first:.0f} ms with {rows(at)} rows that have their numbers")
        began, looks = time.perf_counter(), 1
        while rows(at) < arguments.runs and looks < 300:
            at, _ = page()
            looks += 1
        print(f"  all after {looks} looks and {time.perf_counter() - began:.1f} s")
        warm = [page()[1] for _ in range(arguments.rounds)]
        print(f"Runs page, warm: median {1000 * statistics.median(warm):.0f} ms, longest {1000 * max(warm):.0f} ms")


if __name__ == "__main__":
    main()
