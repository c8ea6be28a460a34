"""The process that checks stored numbers: `python -m takd.evaluation.verifier --store S (--run ID | --all)
[--again SECONDS] --id N [--owner PERSON]`.

Detached like a worker: it needs no page and no server, and ends by itself. It holds the store's lock of checks while it
lives, says how far it is after every stage, and writes its stamps when it has seen everything it was asked to. Exit
codes: 0 done, 3 another check goes on, 4 stopped, 5 failed.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import platform
import sys
import time
import traceback
from functools import partial
from pathlib import Path

from takd import __version__
from takd.runs.errors import RunError
from takd.runs.failures import utc_now
from takd.runs.locks import try_acquire, verify_lock
from takd.runs.process import STOPPED, Stop, say
from takd.runs.stamps import StageReport, Stamp, stamps_folder, write_stamp
from takd.runs.states import RunInfo, run_ids, run_info
from takd.runs.store import Store, open_store
from takd.runs.verification import write_progress

DONE, BUSY, FAILED = 0, 3, 5
_NICE = 10  # trainings and pages go first
_EVERY = 0.2  # seconds between words about the progress


class Check:
    """One check from start to end; its lock is held. `again` is how many seconds large networks may be trained."""

    def __init__(self, store: Store, what: str, number: str, owner: str = "", again: float = 0.0) -> None:
        self.store, self.what, self.again = store, what, again
        self.row: dict[str, object] = {"id": number, "what": what, "done": 0, "total": 0, "owner": owner}
        self.stop = Stop(stamps_folder(store))
        self._said = 0.0

    def run(self) -> int:
        """Do it; returns the exit code."""
        self._tell("running", "")
        try:
            return self._run()
        except Exception as error:
            traceback.print_exc()
            self._tell("failed", f"{type(error).__name__}: {error}"[:300])
            return FAILED

    def _run(self) -> int:
        runs = self._runs()
        expected: dict[str, bool] = {}
        for run in runs:
            for key in run.keys:
                expected[key] = expected.get(key, False) or run.state == "done"
        if not self.what:
            for key in self.store.stage_keys():
                expected.setdefault(key, False)
        self.row["total"] = len(expected)
        from takd.evaluation.verify import verify_stage  # here: the lock is taken before torch is loaded

        reports: dict[str, StageReport] = {}
        for key, wanted in expected.items():
            if self.stop():
                self._tell("cancelled", "")
                return STOPPED
            reports[key] = verify_stage(self.store, key, expected=wanted)
            for one in reports[key].differences:
                say(f"{reports[key].title} ({key}): {one.what}: stored {one.stored}, found {one.found}")
            self.row["done"] = len(reports)
            if time.monotonic() - self._said >= _EVERY:
                self._tell("running", reports[key].title)
        from takd.evaluation.looks_check import check_looks
        from takd.evaluation.train_again import check_again, check_large

        if not self.what:
            self._tell("running", "how steep losses are, by looking again")
            reports = check_looks(self.store, reports, self.stop)
        reports = check_again(self.store, reports, self.stop, say, partial(self._trained, "small"), not self.what)
        if self.again > 0:
            reports = check_large(self.store, reports, self.again, self.stop, say, partial(self._trained, "large"))
        if self.stop():
            self._tell("cancelled", "")
            return STOPPED
        when, versions = utc_now(), _versions()
        for run in runs:
            write_stamp(self.store, Stamp(run.id, when, versions, tuple(reports[key] for key in run.keys)))
        if not self.what:
            write_stamp(self.store, Stamp("", when, versions, tuple(reports.values())))
        self._tell("done", "")
        return DONE

    def _trained(self, size: str, done: int, total: int) -> None:
        self.row |= {"done": done, "total": total}  # of this part, which may take longer than all before
        self._tell("running", f"{size} networks, by training them again")

    def _runs(self) -> list[RunInfo]:
        if self.what:
            return [run_info(self.store, self.what)]
        found = []
        for name in sorted({name for root in self.store.roots for name in run_ids(root)}):
            try:
                found.append(run_info(self.store, name))
            except RunError as error:  # a damaged folder: Store.broken lists it
                say(str(error))
        return found

    def _tell(self, state: str, text: str) -> None:
        self._said = time.monotonic()
        write_progress(self.store, {**self.row, "state": state, "text": text})


def _versions() -> dict[str, str]:
    import numpy
    import torch

    found = {"takd": __version__, "python": platform.python_version(), "platform": platform.platform(terse=True)}
    return found | {"torch": str(torch.__version__), "numpy": numpy.__version__}


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m takd.evaluation.verifier", description="Check stored numbers.")
    parser.add_argument("--store", type=Path, required=True)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", default="")
    what.add_argument("--all", action="store_true")
    parser.add_argument("--again", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--id", default="")
    parser.add_argument("--owner", default="")
    options = parser.parse_args(arguments)
    faulthandler.enable()
    store = open_store(options.store)
    stamps_folder(store).mkdir(parents=True, exist_ok=True)
    lock = verify_lock(store.root)
    if not try_acquire(lock, timeout=2.0):
        return BUSY
    try:
        if hasattr(os, "nice"):
            os.nice(_NICE)
        return Check(store, options.run, options.id, options.owner, options.again).run()
    finally:
        lock.release()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # at once: taking torch down costs a second
