"""The worker of a run: `python -m takd.runs.worker --store S --run ID`. Detached, needs no page and no server.

The lead holds the run's lock, waits for the device, starts helpers (the same program with --helper), trains with them
and writes how it ended. With --warm it is the store's idle worker and does the runs it is told (takd.runs.warm), with
--stay it becomes that one after its run. Exit codes: 0 done, 3 somebody else does this already, 4 stopped, 5 failed.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from takd.plan import build_plan
from takd.runs.causes import named
from takd.runs.errors import RunError, StageFailed, StageStopped
from takd.runs.estimates import Estimate, estimate_of
from takd.runs.failures import utc_now
from takd.runs.history import Kept, keep
from takd.runs.locks import run_lock, try_acquire
from takd.runs.loop import clear_failures, failures_among, needed, title, train_all
from takd.runs.process import (
    STOPPED,
    Stop,
    allow_many_files,
    forget_peak_memory,
    kill_after,
    memory_bytes,
    print_to,
    say,
    trim,
    watch,
)
from takd.runs.states import FINAL, plan_keys, read_run_file, read_status, run_folder, write_run_file
from takd.runs.store import REPO, Store, open_store
from takd.runs.submit import write_plan
from takd.runs.tickets import drop_tickets
from takd.runs.trainer import pick_device, prepare_trainer, trainer_state
from takd.runs.turn import wait_for_turn
from takd.runs.warm import Idle, Kind, this_kind, warm, warm_log
from takd.spec import SpecError, require_spec
from takd.stage import StageSpec

DONE, BUSY, FAILED = 0, 3, 5
_CATALOGUE = "takd.data.catalogue"  # imported when needed: a worker that only waits stays without numpy
_HELPER_RESTARTS = 3
_NICE = 10
_MOST_IDLE_BYTES = 1_000_000_000  # a process that has grown beyond this ends, and a fresh one waits in its place


class Lead:
    """One run from queue to end."""

    def __init__(self, store: Store, run_id: str, wish: str, processes: int | None) -> None:
        self.store, self.run_id, self.wish, self.processes = store, run_id, wish, processes
        self.folder = run_folder(store, run_id)
        self.stop = Stop(self.folder)
        self.helpers: list[subprocess.Popen[bytes]] = []
        self.restarts = _HELPER_RESTARTS
        self.ended = threading.Event()
        self.status: dict[str, Any] = {"pid": os.getpid(), "started": read_status(self.folder).get("started")}

    def run(self) -> int:
        """Do the run; the caller holds its lock."""
        self.tell(state="queued")
        log = self.folder / "log.txt"
        watch(self.stop, self.ended, self._give_up, lambda: trim(log))
        try:
            return self._run()
        except StageStopped:
            return self._stopped()
        except StageFailed as error:
            return self._failed(error.cause_class, error.sentence)
        except Exception as error:
            traceback.print_exc()
            found = named(error)
            return self._failed(found.cause_class, found.why)
        finally:
            self.ended.set()
            drop_tickets(self.store.root, [self.run_id])

    def _run(self) -> int:
        stages = self._stages()
        wanted = needed(self.store, stages)
        if not wanted:
            return self._done()
        self._prepare(next(iter(stages.values())).data.name)
        clear_failures(self.store, stages, wanted)
        device = pick_device(self.wish, stages)
        slot = self._wait_for(device)
        try:
            began, expected = time.monotonic(), self._start_training(device, stages, wanted)
            complete = train_all(
                self.store,
                stages,
                device=device,
                should_stop=self.stop,
                say=say,
                between=self._mind_helpers,
                processes=self.processes or 1,
                run_id=self.run_id,
            )
            if not complete:
                self._end_helpers()
                return self._stopped()
            self.status["seconds"] = round(time.monotonic() - began, 3)
            return self._completed(stages, wanted, expected)
        except BaseException:
            self._terminate_helpers()
            raise
        finally:
            self._end_helpers()  # after a run that is done they have nothing left to do, so it need not wait for them
            slot.release()

    def _completed(self, stages: Mapping[str, StageSpec], wanted: set[str], expected: Estimate) -> int:
        """Everything that can be trained is: done, or the first failure."""
        stuck = failures_among(self.store, stages, needed(self.store, stages))
        for key, found in stuck.items():
            if found is not None:
                more = f" {len(stuck) - 1} more trainings could not be done." if len(stuck) > 1 else ""
                return self._failed(found.cause_class, f"{title(stages[key], stages)}: {found.why}{more}")
        self._remember_estimate(stages, wanted, expected)
        return self._done()

    def _stages(self) -> dict[str, StageSpec]:
        """The stages of the plan; where there is none yet, prepare the data set and make it."""
        found = {key: self.store.stage(key) for key in plan_keys(self.store, self.folder)}
        stages = {key: stage for key, stage in found.items() if stage is not None}
        if stages and len(stages) == len(found):
            return stages
        values = read_run_file(self.store, self.folder, "experiment.json").get("spec")
        if not isinstance(values, dict):
            raise StageFailed("bad-run", "experiment.json is damaged; delete the run and start it again.")
        name = str(values.get("dataset"))
        self._prepare(name)
        try:
            known = importlib.import_module(_CATALOGUE).available_datasets()
            plan = build_plan(require_spec(values, known), known[name])
        except (SpecError, KeyError, ValueError) as error:
            raise StageFailed("bad-data", f"The data set {name} cannot answer this question: {error}") from error
        write_plan(self.store, self.folder, plan)
        return plan.stages

    def _prepare(self, name: str) -> None:
        """Have the images of a data set on this machine, downloading them if they are not."""
        if importlib.import_module(_CATALOGUE).is_ready(name):
            return
        self.tell(state="starting", phase="preparing", reason="Preparing the data set")
        try:
            importlib.import_module("takd.data.sources").prepare(name, progress=self._preparing)
        except StageStopped:
            raise
        except Exception as error:
            traceback.print_exc()
            raise StageFailed("bad-data", f"The data set {name} could not be prepared: {error}") from error
        self.tell(state="queued")

    def _preparing(self, what: str, share: float | None) -> None:
        if self.stop():
            raise StageStopped("stopped while preparing the data set")
        percent = "" if share is None else f" ({share:.0%})"
        self.tell(state="starting", phase="preparing", reason=f"{what}{percent}")

    def _wait_for(self, device: str) -> FileLock:
        """The device's slot, in the order in which runs were asked for."""
        self.tell(state="queued", device=device)
        slot = wait_for_turn(self.store, self.run_id, device, self.stop)
        if slot is None:
            raise StageStopped("stopped while waiting")
        return slot

    def _start_training(self, device: str, stages: Mapping[str, StageSpec], wanted: set[str]) -> Estimate:
        if device == "cpu" and hasattr(os, "nice"):
            with contextlib.suppress(OSError):
                os.nice(max(0, _NICE - os.nice(0)))  # once, however many runs this process does
        todo = {key: stage for key, stage in stages.items() if key in wanted}
        begun = trainer_state() == "ready"
        expected = estimate_of(todo, stages, self.store, self.processes, device, begun=begun)
        self.processes = min(expected.processes, len(todo))
        self.tell(
            state="running",
            device=device,
            processes=self.processes,
            started=self.status["started"] or utc_now(),
            expected_seconds=round(expected.seconds, 3),
        )
        say(f"run {self.run_id} on {device} with {self.processes} process(es), about {expected.seconds:.1f} s")
        self.helpers = [self._start_helper() for _ in range(self.processes - 1)]
        return expected

    def _remember_estimate(self, stages: Mapping[str, StageSpec], wanted: set[str], expected: Estimate) -> None:
        """Keep how good the estimate was, where everything that was expected was trained by this run."""
        peaks = [(self.store.result(key) or {}).get("peak_memory_mb") for key in stages if key in wanted]
        known = [float(peak) for peak in peaks if isinstance(peak, (int, float))]
        if len(known) < len(wanted):
            return
        row = Kept(
            self.run_id,
            str(self.status["device"]),
            len(wanted),
            expected.seconds,
            self.status["seconds"],
            expected.memory_mb / expected.processes,
            max(known),
        )
        with contextlib.suppress(OSError):  # only doctor would tell
            keep(self.store, row)

    def _start_helper(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "takd.runs.worker", "--store", str(self.store.root), "--run", self.run_id]
        command += ["--helper", str(os.getpid()), "--device", str(self.status["device"])]
        command += ["--processes", str(self.processes)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, close_fds=True, cwd=REPO)

    def _mind_helpers(self) -> None:
        """Replace helpers that were killed, a few times; their stages are free again at once."""
        for place, helper in enumerate(self.helpers):
            code = helper.poll()
            if code not in (None, DONE, STOPPED) and self.restarts > 0:
                self.restarts -= 1
                say(f"a helper ended with code {code}; starting another one")
                self.helpers[place] = self._start_helper()

    def _end_helpers(self) -> None:
        """Wait for the helpers; the operating system's wish to stop is passed on, and patience is limited."""
        if self.stop() and not self.stop.cancelled():
            self._terminate_helpers()
        deadline = time.monotonic() + kill_after()
        for helper in self.helpers:
            try:
                helper.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                say("a helper did not stop and is ended")
                helper.kill()
                helper.wait()
                self._forget_progress()

    def _terminate_helpers(self) -> None:
        for helper in self.helpers:
            helper.terminate()

    def _give_up(self) -> None:
        for helper in self.helpers:
            helper.kill()
        self._forget_progress()
        self._stopped()

    def _forget_progress(self) -> None:
        """A process that was ended because a person wanted it has not died of its stages; see guard.py."""
        for key in plan_keys(self.store, self.folder) if self.stop.cancelled() else ():
            with contextlib.suppress(OSError):
                self.store.clear_progress(key)

    def tell(self, **changes: Any) -> None:
        """Write status.json; `phase`, `reason` and `class` are forgotten unless given."""
        for name in ("phase", "reason", "class"):
            self.status.pop(name, None)
        self.status.update(changes, updated=utc_now())
        # After a power cut a run that had not ended is lost, whatever it said last.
        write_run_file(self.folder, "status.json", self.status, durable=self.status.get("state") in FINAL)

    def _done(self) -> int:
        self.ended.set()  # from here on a wish to stop changes nothing
        say(f"run {self.run_id} is done")
        self.tell(state="done", finished=utc_now())
        return DONE

    def _stopped(self) -> int:
        if self.stop.cancelled():
            say(f"run {self.run_id} was cancelled")
            self.tell(state="cancelled", finished=utc_now())
        else:  # the state is left as it is, so a free lock says what happened: lost, to be resumed
            say(f"run {self.run_id} was stopped by the system")
        return STOPPED

    def _failed(self, cause_class: str, reason: str) -> int:
        self.ended.set()
        say(f"run {self.run_id} failed ({cause_class}): {reason}")
        try:
            self.tell(state="failed", finished=utc_now(), reason=reason, **{"class": cause_class})
        except OSError:  # a full disk may take a few words; if not, a free lock says lost
            self.status, short = {}, "The log says why. Fix what it names, then resume."
            with contextlib.suppress(OSError):
                self.tell(state="failed", reason=short, **{"class": cause_class})
        return FAILED


def help_lead(store: Store, run_id: str, lead: int, device: str, processes: int) -> int:
    """Train beside the lead until nothing is left, or the lead is gone."""
    folder = run_folder(store, run_id)
    stop = Stop(folder, lead)
    found = {key: store.stage(key) for key in plan_keys(store, folder)}
    stages = {key: stage for key, stage in found.items() if stage is not None}
    ended = threading.Event()
    watch(stop, ended, lambda: None)
    try:
        done = train_all(store, stages, device=device, should_stop=stop, say=say, processes=processes, run_id=run_id)
        return DONE if done else STOPPED
    finally:
        ended.set()


def do_run(
    store: Store, run_id: str, lock: FileLock, device: str, processes: int | None = None
) -> tuple[int, Literal["stays", "replaced", "ends"]]:
    """Do a run whose lock this process holds, and let go of it. Returns the exit code, and what becomes of a process
    that is wanted as the idle one: it ends if the system asked it to, and is replaced by a fresh one after a failure,
    on a GPU whose memory it keeps, or when it has grown large."""
    try:
        if read_status(run_folder(store, run_id)).get("state") in FINAL:
            return BUSY, "stays"  # somebody else has done it since it was asked for
        lead = Lead(store, run_id, device, processes)
        code = lead.run()
        if lead.stop.signalled:
            return code, "ends"
        as_asked = code == DONE or lead.stop.cancelled()
        small = lead.status.get("device", "cpu") == "cpu" and memory_bytes() < _MOST_IDLE_BYTES
        return code, "stays" if as_asked and small else "replaced"
    finally:
        lock.release()


def stand_by(store: Store, kind: Kind) -> int:
    """Be the store's idle worker, again after each run, until it is time to end."""
    while (idle := Idle.begin(store, kind)) is not None:
        print_to(warm_log(store))
        trim(warm_log(store))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)  # an idle process has nothing to bring to an end
        prepare_trainer()
        order = idle.wait(lambda: trainer_state() != "broken")
        if order is None:
            return DONE
        for name in [name for name in os.environ if name.startswith("TAKD_")]:
            del os.environ[name]
        os.environ.update(order.settings)
        store = open_store(store.root)
        print_to(order.log)
        forget_peak_memory()
        code, then = do_run(store, order.run_id, order.lock, "auto")
        if then != "stays":
            if then == "replaced":
                warm(store)
            return code
    return BUSY


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m takd.runs.worker", description="Train the stages of one run.")
    parser.add_argument("--store", type=Path, required=True)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run")
    what.add_argument("--warm", action="store_true", help="wait to be told a run")
    parser.add_argument("--stay", action="store_true", help="wait to be told another run afterwards")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:0")
    parser.add_argument("--helper", type=int, metavar="PID", help="help the lead with this process id")
    options = parser.parse_args(arguments)
    kind = this_kind()
    faulthandler.enable()  # a crash inside a library leaves its stack in the log
    allow_many_files()
    store = open_store(options.store)
    try:
        if options.warm:
            return stand_by(store, kind)
        if options.helper is not None:
            return help_lead(store, options.run, options.helper, options.device, options.processes or 1)
        lock = run_lock(run_folder(store, options.run))
        if not try_acquire(lock, timeout=2.0):
            return BUSY
        code, then = do_run(store, options.run, lock, options.device, options.processes)
        if options.stay and then == "stays":
            return stand_by(store, kind)
        if options.stay and then == "replaced":
            warm(store)
        return code
    except (RunError, OSError) as error:
        say(str(error))
        return FAILED


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # at once: taking torch down costs a second, and it may still be half imported
