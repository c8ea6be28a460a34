"""The worker of one run: `python -m takd.runs.worker --store S --run ID`. Detached, needs no page and no server.

The lead holds the run's lock, waits for the device, starts helpers (the same program with --helper), trains with them
and writes how it ended. Exit codes: 0 done, 3 somebody else works on the run, 4 stopped, 5 failed.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from takd.networks.table import NETWORKS
from takd.plan import build_plan
from takd.runs.errors import RunError, StageFailed, StageStopped
from takd.runs.estimates import default_processes
from takd.runs.failures import utc_now
from takd.runs.locks import run_lock, slot_lock, try_acquire
from takd.runs.loop import clear_failures, failures_among, named, needed, title, train_all
from takd.runs.states import plan_keys, read_run_file, read_status, run_folder, waiting_before, write_run_file
from takd.runs.store import REPO, Store, open_store
from takd.runs.submit import write_plan
from takd.spec import SpecError, require_spec
from takd.stage import StageSpec

DONE, BUSY, STOPPED, FAILED = 0, 3, 4, 5
_KILL_AFTER = 10.0  # seconds a process gets to stop by itself ($TAKD_KILL_AFTER)
_CANCEL_LOOK = 0.05
_QUEUE_LOOK = 0.3
_CATALOGUE = "takd.data.catalogue"  # imported when needed: a worker that only waits stays without numpy
_HELPER_RESTARTS = 3


class Stop:
    """Whether to stop: asked by the cancel file, a signal, or the death of the lead. Cheap enough for every batch."""

    def __init__(self, folder: Path, lead: int | None = None) -> None:
        self.cancel_file = folder / "cancel"
        self.lead = lead
        self.asked = False
        self._next_look = 0.0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, *_: object) -> None:
        self.asked = True

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self.asked and now >= self._next_look:
            self._next_look = now + _CANCEL_LOOK
            self.asked = self.cancelled() or (self.lead is not None and os.getppid() != self.lead)
        return self.asked

    def cancelled(self) -> bool:
        """Whether a person asked, and not the operating system."""
        return self.cancel_file.exists()


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
        watch(self.stop, self.ended, self._give_up)
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
            self._start_training(device, len(wanted))
            complete = train_all(
                self.store, stages, device=device, should_stop=self.stop, say=say, between=self._mind_helpers
            )
            if not complete:
                self._end_helpers()
                return self._stopped()
            code = self._completed(stages)
            self._end_helpers()  # they have nothing left to do, so the run need not wait to be called done
            return code
        finally:
            slot.release()

    def _completed(self, stages: Mapping[str, StageSpec]) -> int:
        """Everything that can be trained is: done, or the first failure."""
        stuck = failures_among(self.store, stages, needed(self.store, stages))
        for key, found in stuck.items():
            if found is not None:
                more = f" {len(stuck) - 1} more trainings could not be done." if len(stuck) > 1 else ""
                return self._failed(found.cause_class, f"{title(stages[key], stages)}: {found.why}{more}")
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
        slot = slot_lock(self.store.root, device)
        while not self.stop():
            if not waiting_before(self.store, self.run_id) and try_acquire(slot):
                return slot
            time.sleep(_QUEUE_LOOK)
        raise StageStopped("stopped while waiting")

    def _start_training(self, device: str, stages: int) -> None:
        if device == "cpu" and hasattr(os, "nice"):
            with contextlib.suppress(OSError):
                os.nice(10)
        self.processes = min(self.processes or default_processes(device), stages)
        self.tell(state="running", device=device, processes=self.processes, started=self.status["started"] or utc_now())
        say(f"run {self.run_id} on {device} with {self.processes} process(es)")
        self.helpers = [self._start_helper() for _ in range(self.processes - 1)]

    def _start_helper(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "takd.runs.worker", "--store", str(self.store.root), "--run", self.run_id]
        command += ["--helper", str(os.getpid()), "--device", str(self.status["device"])]
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
            for helper in self.helpers:
                helper.terminate()
        deadline = time.monotonic() + kill_after()
        for helper in self.helpers:
            try:
                helper.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                say("a helper did not stop and is ended")
                helper.kill()
                helper.wait()

    def _give_up(self) -> None:
        for helper in self.helpers:
            helper.kill()
        self._stopped()

    def tell(self, **changes: Any) -> None:
        """Write status.json; `phase`, `reason` and `class` are forgotten unless given."""
        for name in ("phase", "reason", "class"):
            self.status.pop(name, None)
        self.status.update(changes, updated=utc_now())
        write_run_file(self.folder, "status.json", self.status)

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
        with contextlib.suppress(OSError):  # a full disk: then a free lock says lost, and the log says why
            self.tell(state="failed", finished=utc_now(), reason=reason, **{"class": cause_class})
        return FAILED


def help_lead(store: Store, run_id: str, lead: int, device: str) -> int:
    """Train beside the lead until nothing is left, or the lead is gone."""
    folder = run_folder(store, run_id)
    stop = Stop(folder, lead)
    found = {key: store.stage(key) for key in plan_keys(store, folder)}
    stages = {key: stage for key, stage in found.items() if stage is not None}
    ended = threading.Event()
    watch(stop, ended, lambda: None)
    try:
        return DONE if train_all(store, stages, device=device, should_stop=stop, say=say) else STOPPED
    finally:
        ended.set()


def watch(stop: Stop, ended: threading.Event, give_up: Callable[[], None]) -> None:
    """End this process, after `give_up`, when it was asked to stop and a training does not listen."""

    def look() -> None:
        while not ended.wait(0.1):
            if stop():
                if not ended.wait(kill_after() + 1.0):  # the lead gives its helpers kill_after seconds first
                    say("the training does not stop by itself and is ended")
                    give_up()
                    os._exit(STOPPED)
                return

    threading.Thread(target=look, name="watchdog", daemon=True).start()


def pick_device(wish: str, stages: Mapping[str, StageSpec]) -> str:
    """`auto`: the first GPU if torch can use it and a network is large enough to gain from it, else the CPU.

    torch is asked in another process, so that a waiting worker stays small.
    """
    if wish != "auto":
        return wish
    small = all(NETWORKS[stage.network].family == "mlp" for stage in stages.values())
    if small or (shutil.which("nvidia-smi") is None and not os.path.exists("/proc/driver/nvidia/version")):
        return "cpu"
    question = "import torch; print(torch.cuda.is_available())"
    with contextlib.suppress(subprocess.SubprocessError, OSError):
        answer = subprocess.run([sys.executable, "-c", question], capture_output=True, timeout=120, check=False)
        return "cuda:0" if answer.stdout.strip() == b"True" else "cpu"
    return "cpu"


def kill_after() -> float:
    """Seconds a process gets to stop by itself."""
    try:
        return float(os.environ.get("TAKD_KILL_AFTER", _KILL_AFTER))
    except ValueError:
        return _KILL_AFTER


def say(text: str) -> None:
    """One line of the log."""
    print(f"{utc_now()} [{os.getpid()}] {text}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m takd.runs.worker", description="Train the stages of one run.")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:0")
    parser.add_argument("--helper", type=int, metavar="PID", help="help the lead with this process id")
    options = parser.parse_args(arguments)
    faulthandler.enable()  # a crash inside a library leaves its stack in the log
    store = open_store(options.store)
    try:
        if options.helper is not None:
            return help_lead(store, options.run, options.helper, options.device)
        lock = run_lock(run_folder(store, options.run))
        if not try_acquire(lock, timeout=2.0):
            return BUSY
        try:
            return Lead(store, options.run, options.device, options.processes).run()
        finally:
            lock.release()
    except (RunError, OSError) as error:
        say(str(error))
        return FAILED


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # at once: taking torch down costs a second, and it may still be half imported
