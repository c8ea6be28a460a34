"""Checks that tell whether this machine can train and store, each with a sentence and the next action. No torch here:
another process is asked about the device."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from takd.data.catalogue import available_datasets, damaged, is_ready
from takd.data.meta import data_root
from takd.runs.estimates import known_rates
from takd.runs.history import kept, quartiles
from takd.runs.locks import LOCK, is_held, run_lock, try_acquire
from takd.runs.policy import limits, problems, public, read_only, require_changes_allowed
from takd.runs.states import list_runs
from takd.runs.store import REPO, Store
from takd.runs.submit import LEAST_FREE_BYTES
from takd.spec import CHOOSABLE

OK, NOTE, FAILED = "ok", "note", "failed"
LEAST_PYTHON = (3, 11)
_LOW_FREE_BYTES = 2_000_000_000  # below this a data set and a long run may not fit
_ASK_SECONDS = 180.0  # importing torch from a cold disk takes a while
_SHOWN = 5  # of a long list of things that are wrong

# The training package decides about device and precision, so it is asked itself, where torch may be imported.
_ASK_DEVICE = """
import json
from takd.training.device import environment, pick_device, uses_bf16
device = pick_device()
print(json.dumps(environment(device, uses_bf16(device, "mixed"))))
"""
_ASK_LOCK = """
import sys
from pathlib import Path
from takd.runs.locks import is_held
print(is_held(Path(sys.argv[1])))
"""


@dataclass(frozen=True)
class Check:
    """One line of the report. `status` is ok, note (works, but worth knowing) or failed; `text` ends with the next
    action where there is one."""

    name: str
    status: str
    text: str


def run_checks(store: Store, tell: Callable[[str], None] = lambda name: None) -> list[Check]:
    """Every check in order; `tell` hears each one's name before it starts. Never raises for what it finds."""
    checks: list[Check] = []
    for name, check in _CHECKS.items():
        tell(name)
        try:
            checks += [Check(name, status, text) for status, text in check(store)]
        except OSError as error:
            text = f"This could not be checked ({error}). Look at the folder and try again."
            checks.append(Check(name, FAILED, text))
    return checks


Found = Iterator[tuple[str, str]]  # (status, sentence)


def _python(_: Store) -> Found:
    wanted = ".".join(map(str, LEAST_PYTHON))
    if sys.version_info < LEAST_PYTHON:
        yield FAILED, f"Python {platform.python_version()} is too old. Install Python {wanted} or newer."
    else:
        yield OK, f"Python {platform.python_version()} on {platform.platform(terse=True)}"


def _packages(_: Store) -> Found:
    missing, other, shown = [], [], {}
    for name, wanted in pinned().items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if name in ("streamlit", "torch", "torchvision"):
            shown[name] = found
        if Version(found).public != wanted:  # 2.14.1+cpu is a build of 2.14.1
            other.append(f"{name} {found} (tested with {wanted})")
    install = "Run: python -m pip install -r requirements.txt"
    if missing:
        yield FAILED, f"Not installed: {_few(missing)}. {install}"
    if other:
        yield NOTE, f"Other versions than the tested ones: {_few(other)}. {install}"
    yield OK, ", ".join(f"{name} {version}" for name, version in shown.items()) or "no package could be looked up"


def pinned() -> dict[str, str]:
    """Packages this machine needs and the tested version of each, from requirements.txt; empty without the file."""
    try:
        lines = (REPO / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        text = line.split(" #")[0].strip()
        try:
            row = Requirement(text)
        except InvalidRequirement:  # an empty line, a comment
            continue
        if row.marker is None or row.marker.evaluate():
            found[row.name] = str(row.specifier).removeprefix("==")
    return found


def _device(_: Store) -> Found:
    try:
        asked = _ask(_ASK_DEVICE)
        row = json.loads(asked.stdout.splitlines()[-1])
        yield OK, f"{row['device_name']} ({row['device']}), mixed precision computes in {row['precision']}"
    except subprocess.TimeoutExpired:
        yield FAILED, f"torch did not answer within {_ASK_SECONDS:.0f} s. Close other programs and try again."
    except (ValueError, KeyError, IndexError, TypeError):
        reason = (asked.stderr.strip().splitlines() or ["no message"])[-1][:200]
        yield FAILED, f"torch cannot be used ({reason}). Run: python -m pip install -r requirements.txt"


def _ask(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a short program in a fresh process of this Python."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=REPO,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_ASK_SECONDS,
        check=False,
    )


def _server(_: Store) -> Found:
    """What this machine's settings let people do."""
    for sentence in problems():
        yield FAILED, sentence
    kind = "read-only: nothing can be started or changed" if read_only() else "public" if public() else "of one person"
    most = limits()
    parts = [f"at most {most.waiting} runs wait"] if most.waiting else []
    parts += [f"{most.per_person} runs a person"] if most.per_person else []
    parts += [f"{most.hours:g} hours a run"] if most.hours else []
    parts += [f"{most.store_gb:g} GB in the store"] if most.store_gb else []
    yield OK, kind if read_only() else f"{kind}; {', '.join(parts) or 'no limits'}"


_NOT_ASKED = "Not checked: TAKD_READ_ONLY is set, so nothing is written here."


def _writable(store: Store) -> Found:
    if read_only():
        yield OK, _NOT_ASKED
        return
    problem = store.writable()
    yield (OK, f"{store.root} can be written") if problem is None else (FAILED, problem)


def _disk(store: Store) -> Found:
    places = {"the store": store.root, "the data sets": data_root()}
    for what, folder in places.items():
        free = shutil.disk_usage(_existing(folder)).free
        text = f"{free / 1e9:.1f} GB free for {what} in {folder}"
        if free < LEAST_FREE_BYTES:
            yield FAILED, f"{text}: too little to train. Delete something or choose a folder on another disk."
        else:
            yield (OK, text) if free >= _LOW_FREE_BYTES else (NOTE, f"{text}: large data sets may not fit.")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next((place for place in (folder, *folder.parents) if place.is_dir()), Path(folder.anchor or "."))


def _locks(store: Store) -> Found:
    """Hold a lock beside the real ones: another process and another handle must be refused, and then let in."""
    if read_only() or not store.root.is_dir():
        yield (OK, _NOT_ASKED) if read_only() else (NOTE, "Not checked, because there is no store yet.")
        return
    folder = Path(tempfile.mkdtemp(prefix=".doctor-", dir=store.root))
    path, problem = folder / LOCK, None
    try:
        lock = run_lock(folder)
        if not try_acquire(lock):
            problem = "a new lock could not be taken"
        elif not is_held(path):
            problem = "a second handle got a lock that is held"
        elif (answer := _ask(_ASK_LOCK, str(path)).stdout.strip()) != "True":
            got = answer == "False"
            problem = "another process got a lock that is held" if got else "another process gave no answer"
        lock.release()
        if problem is None and is_held(path):
            problem = "a lock stayed held after it was released"
    except subprocess.TimeoutExpired:
        problem = "another process gave no answer"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if problem is None:
        yield OK, "a lock that is held is refused to others, and is free again afterwards"
    else:
        yield (
            FAILED,
            f"Locks do not work in {store.root}: {problem}, so two programs could train the same network. "
            "Set TAKD_STORE to a folder on a local disk.",
        )


def _datasets(_: Store) -> Found:
    for name, problem in damaged():
        yield FAILED, f"{name}: {problem}"
    harmed = {name for name, _ in damaged()}
    rows = available_datasets()
    ready = [name for name in rows if is_ready(name) and name not in harmed]
    yield OK, f"ready: {', '.join(ready)}"
    rest = [f"{name} ({row.download})" for name, row in rows.items() if name not in ready and name not in harmed]
    if rest:
        yield OK, f"prepared when they are needed: {', '.join(rest)}"


def _folders(store: Store) -> Found:
    for root in store.roots:
        broken = [f"{name}: {why}" for name, why in store.broken(root)]
        if broken:
            yield FAILED, f"{len(broken)} in {root} cannot be used: {_few(broken, '; ')}."
    if not any(store.broken(root) for root in store.roots):
        yield OK, f"everything in {store.root} and {len(store.cached)} cached store(s) can be read"


def _rates(store: Store) -> Found:
    found = known_rates(store)
    if not found:
        yield NOTE, "No speed was measured here, so times are rough guesses. Run: python -m takd doctor --calibrate"
    for device, rates in found.items():
        missing = len(set(CHOOSABLE) - rates.keys())
        rest = f", {missing} networks without one" if missing else ""
        yield OK, f"speeds measured on {device}: {len(rates)}{rest}"


def _estimates(store: Store) -> Found:
    """What the last runs took against what was said before them."""
    rows = kept(store)
    if not rows:
        yield NOTE, "No run has ended here yet, so nothing is known about how good the estimates are."
        return
    low, middle, high = quartiles([row.ratio for row in rows])
    last = "the last run" if len(rows) == 1 else f"the last {len(rows)} runs"
    half = "" if len(rows) == 1 else f" (half of them {low:.2f} to {high:.2f})"
    yield OK, f"{last} took {middle:.2f} times the estimated time at the median{half}"
    most = max(rows, key=lambda row: row.peak_mb)
    yield (
        OK,
        f"largest memory of a process: {most.peak_mb:,.0f} MB on {most.device}, {most.expected_mb:,.0f} MB estimated",
    )


def calibrate_in_background(store: Store) -> bool:
    """Measure this machine's speeds once, detached, when none is known yet; whether that was started.

    The server calls this when it starts, so that the first estimate is not a guess. TAKD_CALIBRATE=0 turns it off, and
    a read-only server starts nothing.
    """
    if read_only() or os.environ.get("TAKD_CALIBRATE") == "0" or known_rates(store) or store.writable() is not None:
        return False
    subprocess.Popen(
        [sys.executable, "-m", "takd.training.calibrate", "--store", str(store.root)],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=REPO,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"},
    )
    return True


def _queue(store: Store) -> Found:
    runs = [run for run in list_runs(store) if run.origin == "live"]
    active = [f"{run.id} ({run.look.word.lower()})" for run in runs if run.look.active]
    lost = [run.id for run in runs if run.state == "lost"]
    yield OK, f"{len(runs)} run(s), active: {_few(active) if active else 'none'}"
    if lost:
        yield NOTE, f"Interrupted: {_few(lost)}. Continue one with: python -m takd resume {lost[0]}"


def _few(items: list[str], joint: str = ", ") -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return joint.join(items[:_SHOWN]) + more


_CHECKS: dict[str, Callable[[Store], Found]] = {
    "python": _python,
    "packages": _packages,
    "device": _device,
    "server": _server,
    "store": _writable,
    "disk": _disk,
    "locks": _locks,
    "data sets": _datasets,
    "folders": _folders,
    "speeds": _rates,
    "estimates": _estimates,
    "runs": _queue,
}


def calibrate(store: Store, tell: Callable[[str], None] = lambda line: None) -> list[dict[str, object]]:
    """Measure training speeds in another process, with the workers' number of threads; `tell` hears each result.

    Raises ValueError with a sentence when that process fails.
    """
    require_changes_allowed()
    command = [sys.executable, "-m", "takd.training.calibrate", "--store", str(store.root)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as problems:
        with subprocess.Popen(
            command, cwd=REPO, env=environment, stdout=subprocess.PIPE, stderr=problems, text=True
        ) as process:
            for line in process.stdout or ():
                row = json.loads(line)
                rows.append(row)
                tell(f"{row['network']}: {row['images_per_second']:,.0f} images/s on {row['device']}")
        problems.seek(0)
        reason = (problems.read().strip().splitlines() or ["no message"])[-1][:300]
    if process.returncode != 0:
        raise ValueError(f"The speeds could not be measured ({reason}). Run doctor without --calibrate to see why.")
    return rows
