"""How long a plan will take here: speeds measured on this machine, else a table, and a schedule over the processes."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import math
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

from filelock import FileLock, Timeout

from takd.answers import passes
from takd.batching import compiled
from takd.costs import times_as_much
from takd.data.table import DATASETS
from takd.methods.table import form_of
from takd.networks.table import FAMILIES, NETWORKS, capacity_or_least, family_of, is_tiny, layout
from takd.plan import Plan
from takd.runs import files
from takd.runs.memory import image_shape, peak_mb
from takd.runs.store import Store
from takd.runs.warm import is_warm
from takd.stage import StageSpec, canonical_json

_FILE = "rates.json"
_NEW_WEIGHT = 0.3  # of the newest measurement in the running mean
# Images per second of training on one core, where nothing has been measured yet. MLPs: a step of 50 images in the
# compiled engine takes 10 to 104 us. A step of the small CNNs is mostly the calls of its layers.
_CPU_RATES = {
    "plain-2": 8_000.0,
    "plain-4": 3_200.0,
    "plain-6": 2_500.0,
    "plain-8": 2_100.0,
    "plain-10": 600.0,
    "resnet-8": 1_400.0,
    "cnn8-2": 28_000.0,
    "cnn8-4": 28_000.0,
    "cnn8-8": 27_000.0,
    "cnn8-16": 22_000.0,
    "cnn8-32": 16_000.0,
    "mlp-4": 5_000_000.0,
    "mlp-8": 4_500_000.0,
    "mlp-16": 3_600_000.0,
    "mlp-32": 2_500_000.0,
    "mlp-64": 1_500_000.0,
    "mlp-128": 960_000.0,
    "mlp-256": 480_000.0,
}
_CUDA_FACTOR = 20.0  # how much faster a GPU is taken to be than one core, until it is measured
_CUDA_LIMIT = 60_000.0  # small networks do not fill a GPU
_SLOWER_THAN_LARGER = 10.0  # times: a stored speed so far below that of a larger relative was disturbed
_FORWARD = 3.0  # answering is about three times as fast as training
_STAGE_SECONDS, _SMALL_STAGE_SECONDS = 0.1, 0.01  # data, files, final figures; of an MLP, which comes with many others
_LOOP_STEP_SECONDS = 8e-4  # of an MLP in the plain loop
_COLD_START_SECONDS, _WARM_START_SECONDS = 4.0, 0.2  # importing torch and its first step, once
# MLPs that take less in one process gain nothing from helpers: each imports torch first, and one process already trains
# on all cores.
_HELPED_SECONDS = 120.0
_TEST_IMAGES = 10_000
_BYTES_PER_PROCESS = 10**9


@dataclass(frozen=True)
class Estimate:
    """What is left of a plan. `calibrated`: every speed used was measured on this machine. `processes` train side by
    side; `memory_mb` is the peak of all of them together, in MB."""

    new_stages: int
    total_stages: int
    seconds: float
    calibrated: bool
    processes: int = 1
    memory_mb: float = 0.0


def estimate(
    plan: Plan,
    store: Store,
    classes: int,
    processes: int | None = None,
    device: str | None = None,
    *,
    begun: bool = False,
) -> Estimate:
    """Time until the plan is done when `processes` train side by side (default: as many as a worker would use).

    `device` defaults to a GPU this store has measured, else the CPU. Stages that are done cost nothing. `begun`: the
    workers are there already, so no start is to be waited for.
    """
    todo = {key: stage for key, stage in plan.stages.items() if not store.without_imports.is_done(key)}
    return estimate_of(todo, plan.stages, store, processes, device, begun=begun)


def estimate_of(
    todo: Mapping[str, StageSpec],
    stages: Mapping[str, StageSpec],
    store: Store,
    processes: int | None = None,
    device: str | None = None,
    *,
    begun: bool = False,
) -> Estimate:
    """As estimate, for the stages `todo` among all `stages` of a run."""
    known = known_rates(store)
    place = device or likely_device(known, stages)
    measured = True
    seconds: dict[str, float] = {}
    for key, stage in todo.items():
        teachers = [stages[t].network for t in stage.teachers if t in stages]
        seconds[key], sure = _stage_seconds(stage, teachers, stage.data.classes, known.get(place, {}), place)
        measured = measured and sure
    teachers_of = {key: stage.teachers for key, stage in todo.items()}
    side_by_side = processes or _processes(todo, sum(seconds.values()), place)
    total = makespan(seconds, teachers_of, side_by_side)
    if todo and not begun:
        total += _WARM_START_SECONDS if is_warm(store) else _COLD_START_SECONDS
    memory = side_by_side * peak_mb(todo.values(), place)
    return Estimate(len(todo), len(stages), total, measured, side_by_side, memory)


def reference_seconds(stage: StageSpec, stages: Mapping[str, StageSpec]) -> float:
    """What one training takes on one core of the CPU the table was measured on, the same on every machine: for lists
    that are kept in the repository."""
    teachers = [stages[t].network for t in stage.teachers if t in stages]
    return _stage_seconds(stage, teachers, stage.data.classes, {}, "cpu")[0]


def _processes(todo: Mapping[str, StageSpec], seconds: float, device: str) -> int:
    """How many processes share stages that take so many seconds in one."""
    if device == "cpu" and not asked_processes() and seconds <= _HELPED_SECONDS and only_mlps(todo):
        return 1
    return max(1, min(default_processes(device), len(todo)))


def only_mlps(stages: Mapping[str, StageSpec]) -> bool:
    """Whether every network is an MLP: one process trains many of them at once."""
    return all(family_of(stage.network) == "mlp" for stage in stages.values())


def only_tiny(stages: Mapping[str, StageSpec]) -> bool:
    """Whether every network is one for 8x8 images: those train on the CPU, whatever the machine has."""
    return all(is_tiny(stage.network) for stage in stages.values())


def default_processes(device: str) -> int:
    """Training processes of a run: one on a GPU; on the CPU one per core this process may use, as far as memory
    goes. $TAKD_PROCESSES overrides."""
    if asked := asked_processes():
        return asked
    if device != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(AttributeError, ValueError, OSError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return max(1, min(cores, memory // _BYTES_PER_PROCESS))
    return cores


def asked_processes() -> int:
    """$TAKD_PROCESSES; 0 where it is not set or not a number."""
    asked = os.environ.get("TAKD_PROCESSES", "")
    return int(asked) if asked.isascii() and asked.isdigit() else 0


def makespan(seconds: Mapping[str, float], teachers: Mapping[str, tuple[str, ...]], processes: int) -> float:
    """End of the last task when each free process takes the first one, in order, whose teachers have ended: the rule
    of the worker. Teachers outside `seconds` are done already."""
    free = [0.0] * max(1, processes)
    ended: dict[str, float] = {}
    waiting = dict.fromkeys(seconds)
    while waiting:
        now = heapq.heappop(free)
        for key in waiting:
            if all(ended.get(t, math.inf) <= now for t in teachers.get(key, ()) if t in seconds):
                del waiting[key]
                ended[key] = now + seconds[key]
                heapq.heappush(free, ended[key])
                break
        else:
            later = [end for end in ended.values() if end > now]
            if not later:
                raise ValueError("the stages wait for each other in a circle")
            heapq.heappush(free, min(later))
    return max(ended.values(), default=0.0)


def _stage_seconds(
    stage: StageSpec, teachers: list[str], classes: int, known: Mapping[str, float], device: str
) -> tuple[float, bool]:
    rate, sure = _rate(stage.network, classes, known, device)
    if not sure and (family := FAMILIES[family_of(stage.network)]).sides is not None:
        rate *= (family.input_shape[1] / image_shape(stage)[1]) ** 2  # its MACs are those at the family's own side
    images = stage.data.train_images
    row = DATASETS.get(stage.data.name)
    tested = (row.test if row is not None else 0) or _TEST_IMAGES
    total = (training_images(stage) * times_as_much(stage) + tested / _FORWARD) / rate
    sure = sure and form_of(stage.loss) == "network"
    if _step_by_step(stage) or not sure:  # calls may cost more than products
        steps = stage.recipe.last * max(1, images // stage.recipe.batch)
        networks = max(1, len(NETWORKS[stage.network].subs)) + len(stage.peers)
        total, sure = max(total, networks * steps * _LOOP_STEP_SECONDS * (not _in_one_pass(stage))), False
    for teacher in teachers:
        teacher_rate, teacher_sure = _rate(teacher, classes, known, device)
        total += passes(stage) * images / (_FORWARD * teacher_rate)
        sure = sure and teacher_sure
    return total + _overhead(stage), sure


def _step_by_step(stage: StageSpec) -> bool:
    """Whether this is an MLP that the compiled engine cannot train: each of its steps is a round of torch's calls."""
    return family_of(stage.network) == "mlp" and not compiled(stage)


def _in_one_pass(stage: StageSpec) -> bool:
    """Whether this is an MLP of the compiled engine, which makes no calls in a step."""
    return family_of(stage.network) == "mlp" and compiled(stage)


def _overhead(stage: StageSpec) -> float:
    return _SMALL_STAGE_SECONDS if family_of(stage.network) == "mlp" else _STAGE_SECONDS


def training_images(stage: StageSpec) -> float:
    """Images a stage trains on, with the looks at the validation images counted at their cost."""
    row = DATASETS.get(stage.data.name)
    checked = row.validation if row is not None else stage.data.train_images // 9
    return stage.recipe.last * (stage.data.train_images + checked / _FORWARD)


def measured_rate(stages: Sequence[StageSpec], results: Sequence[Mapping[str, Any]], elapsed: float) -> float:
    """Images per second of finished stages of one network that were trained together within `elapsed` seconds of wall
    time, validation included; 0 when unknown.

    A result's `seconds` are that stage's share. Where a batch uses several cores the shares add up to more than the
    wall time that its training took, which is then `elapsed` without what comes around each training.
    """
    shares = [result.get("seconds") for result in results]
    if not stages or not all(_is_rate(share) for share in shares):
        return 0.0
    if any(_step_by_step(stage) or form_of(stage.loss) != "network" for stage in stages):
        return 0.0  # says nothing of the network's usual speed
    total = sum(share for share in shares if _is_rate(share))
    if len(stages) > 1:
        total = min(total, max(elapsed - sum(_overhead(stage) for stage in stages), total / (os.cpu_count() or 1)))
    return sum(training_images(stage) for stage in stages) / total


def _rate(network: str, classes: int, known: Mapping[str, float], device: str) -> tuple[float, bool]:
    """(images per second, whether measured): the network's own speed, else a relative's scaled by MACs."""
    own = known.get(rate_name(network, classes))
    if own:
        return own, True
    measured = {name: rate for name, rate in known.items() if _family(name) == family_of(network)}
    cost = capacity_or_least(network, classes).macs
    if measured:
        nearest = min(measured, key=lambda name: abs(math.log(_macs(name) / cost)))
        return measured[nearest] * _times_as_fast(network, nearest, cost), False
    if layout(classes) == "small" and network in _CPU_RATES:
        rate = _CPU_RATES[network]
    else:
        family = [name for name in _CPU_RATES if _family(name) == family_of(network)]
        others = [name for name in _CPU_RATES if _family(name) != "mlp"]  # nothing is as fast as they are
        nearest = min(family or others, key=lambda name: abs(math.log(_macs(name) / cost)))
        rate = _CPU_RATES[nearest] * _times_as_fast(network, nearest, cost)
    if device.startswith("cuda") and family_of(network) != "mlp":
        rate = min(rate * _CUDA_FACTOR, _CUDA_LIMIT)
    return rate, False


def _times_as_fast(network: str, known: str, cost: int) -> float:
    """The speed of a network of `cost` MACs in terms of a relative's: inverse to MACs, but tiny networks hardly differ,
    so theirs follow the table."""
    if network in _CPU_RATES and is_tiny(network):
        return _CPU_RATES[network] / _CPU_RATES[known.split("/")[0]]
    return _macs(known) / cost


def rate_name(network: str, classes: int) -> str:
    """The name a speed is kept under: `plain-4`, or `plain-4/large` for the layout of more than ten classes."""
    return network if layout(classes) == "small" else f"{network}/large"


def _family(name: str) -> str:
    row = NETWORKS.get(name.split("/")[0])
    return row.family if row is not None else ""


def _macs(name: str) -> int:
    network, _, large = name.partition("/")
    return capacity_or_least(network, 100 if large else 10).macs


def likely_device(known: Mapping[str, Mapping[str, float]], stages: Mapping[str, StageSpec]) -> str:
    """Where the worker will train, as far as can be told without torch: networks for 8x8 images on the CPU, the
    rest on a GPU if this machine has ever trained on one."""
    if only_tiny(stages):
        return "cpu"
    return next((name for name in sorted(known) if name.startswith("cuda")), "cpu")


def cpu_only(store: Store) -> bool:
    """Whether this machine trains everything on its processor, as far as can be told without torch: its speeds were
    measured there and nowhere else, or none was measured and no graphics card shows."""
    if known := known_rates(store):
        return set(known) == {"cpu"}
    return not (shutil.which("nvidia-smi") or Path("/dev/nvidiactl").exists() or sys.platform == "darwin")


def record_rate(store: Store, device: str, network: str, images_per_second: float) -> None:
    """Add a measured training speed to this machine's running mean; `network` as in rate_name.

    Nonsense is ignored, and so is a store whose rates are busy for more than a second. Raises OSError.
    """
    if not (math.isfinite(images_per_second) and images_per_second > 0 and _family(network) in FAMILIES):
        return
    try:
        with FileLock(store.root / "rates.lock", fallback_to_soft=False, preserve_lock_file=True).acquire(timeout=1.0):
            every = files.read_json_or_none(store.root / _FILE) or {}
            rates = _table(_table(every, host_key()), device)
            old = rates.get(network)
            mean = old if _is_rate(old) else images_per_second
            rates[network] = round(mean + _NEW_WEIGHT * (images_per_second - mean), 1)
            files.write_atomic(store.root / _FILE, canonical_json(every), durable=False)
    except Timeout:
        return


def _table(parent: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(parent.get(name), dict):
        parent[name] = {}
    child: dict[str, Any] = parent[name]
    return child


def known_rates(store: Store) -> dict[str, dict[str, float]]:
    """{device: {network: images per second}} of this machine; only what is well-formed and can be believed."""
    host = (files.read_json_or_none(store.root / _FILE) or {}).get(host_key())
    if not isinstance(host, dict):
        return {}
    return {
        device: _believable(
            {name: float(rate) for name, rate in rates.items() if _is_rate(rate) and _family(name) in FAMILIES}
        )
        for device, rates in host.items()
        if isinstance(rates, dict)
    }


def _believable(rates: dict[str, float]) -> dict[str, float]:
    """Without speeds that hold a start or a stall: a network is never ten times as slow as a larger one of its family.
    Its speed then follows from its relatives'."""

    def disturbed(name: str, rate: float) -> bool:
        return any(
            faster > _SLOWER_THAN_LARGER * rate and _family(other) == _family(name) and _macs(other) >= _macs(name)
            for other, faster in rates.items()
        )

    return {name: rate for name, rate in rates.items() if not disturbed(name, rate)}


def _is_rate(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


@cache
def host_key() -> str:
    """This machine without its name: kind, cores, and eight digits that tell machines apart. A virtual machine that
    has moved to another processor under its old name is another one: what the processor can do is in the digits."""
    digest = hashlib.sha256(f"{platform.node()}{_processor()}".encode()).hexdigest()[:8]
    return f"{platform.machine()}-{os.cpu_count()}-{digest}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    except OSError:
        return platform.processor()
