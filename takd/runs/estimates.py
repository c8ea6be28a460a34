"""How long a plan will take here: speeds measured on this machine, else a table, and a schedule over the processes."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from filelock import FileLock, Timeout

from takd.data.table import DATASETS
from takd.networks.table import FAMILIES, NETWORKS, capacity, layout
from takd.plan import Plan
from takd.runs import files
from takd.runs.store import Store
from takd.stage import StageSpec, canonical_json

_FILE = "rates.json"
_NEW_WEIGHT = 0.3  # of the newest measurement in the running mean
# Images per second of training on one core, where nothing has been measured yet.
_CPU_RATES = {
    "plain-2": 8_000.0,
    "plain-4": 3_200.0,
    "plain-6": 2_500.0,
    "plain-8": 2_100.0,
    "plain-10": 600.0,
    "resnet-8": 1_400.0,
    "mlp-64": 150_000.0,
}
_CUDA_FACTOR = 20.0  # how much faster a GPU is taken to be than one core, until it is measured
_CUDA_LIMIT = 60_000.0  # small networks do not fill a GPU
_FORWARD = 3.0  # answering is about three times as fast as training
_STAGE_SECONDS = 0.1  # data, files, final figures
_START_SECONDS = 5.0  # importing torch and its first step, once
_TEST_IMAGES = 10_000
_BYTES_PER_PROCESS = 10**9


@dataclass(frozen=True)
class Estimate:
    """What is left of a plan. `calibrated`: every speed used was measured on this machine."""

    new_stages: int
    total_stages: int
    seconds: float
    calibrated: bool


def estimate(
    plan: Plan, store: Store, classes: int, processes: int | None = None, device: str | None = None
) -> Estimate:
    """Time until the plan is done when `processes` train side by side (default: as many as a worker would use).

    `device` defaults to a GPU this store has measured, else the CPU. Stages that are done cost nothing.
    """
    known = _known(store)
    place = device or likely_device(known, plan.stages)
    todo = {key: stage for key, stage in plan.stages.items() if not store.is_done(key)}
    measured = True
    seconds: dict[str, float] = {}
    for key, stage in todo.items():
        teachers = [plan.stages[t].network for t in stage.teachers if t in plan.stages]
        seconds[key], sure = _stage_seconds(stage, teachers, classes, known.get(place, {}), place)
        measured = measured and sure
    side_by_side = processes or default_processes(place)
    total = makespan(seconds, {key: stage.teachers for key, stage in todo.items()}, side_by_side)
    return Estimate(len(todo), len(plan.stages), total + (_START_SECONDS if todo else 0.0), measured)


def default_processes(device: str) -> int:
    """Training processes of a run: one on a GPU; on the CPU one per core this process may use, as far as memory
    goes. $TAKD_PROCESSES overrides."""
    asked = os.environ.get("TAKD_PROCESSES", "")
    if asked.isascii() and asked.isdigit() and int(asked) > 0:
        return int(asked)
    if device != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(AttributeError, ValueError, OSError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return max(1, min(cores, memory // _BYTES_PER_PROCESS))
    return cores


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
    images, epochs = stage.data.train_images, stage.recipe.epochs
    row = DATASETS.get(stage.data.name)
    tested = (row.test if row is not None else 0) or _TEST_IMAGES
    total = (_training_images(stage) + tested / _FORWARD) / rate
    for teacher in teachers:
        # A pupil that always sees the same pixels hears its teacher once, else with every batch.
        passes = 1 if stage.recipe.augmentation == "none" else epochs
        teacher_rate, teacher_sure = _rate(teacher, classes, known, device)
        total += passes * images / (_FORWARD * teacher_rate)
        sure = sure and teacher_sure
    return total + _STAGE_SECONDS, sure


def _training_images(stage: StageSpec) -> float:
    """Images a stage trains on, with the looks at the validation images counted at their cost."""
    row = DATASETS.get(stage.data.name)
    checked = row.validation if row is not None else stage.data.train_images // 9
    return stage.recipe.epochs * (stage.data.train_images + checked / _FORWARD)


def measured_rate(stage: StageSpec, result: Mapping[str, Any]) -> float:
    """Images per second of a finished stage over all its training time, validation included; 0 when unknown."""
    seconds = result.get("seconds")
    return _training_images(stage) / seconds if _is_rate(seconds) else 0.0


def _rate(network: str, classes: int, known: Mapping[str, float], device: str) -> tuple[float, bool]:
    """(images per second, whether measured): the network's own speed, else a relative's scaled by MACs."""
    own = known.get(rate_name(network, classes))
    if own:
        return own, True
    measured = {name: rate for name, rate in known.items() if _family(name) == NETWORKS[network].family}
    cost = capacity(network, classes).macs
    if measured:
        nearest = min(measured, key=lambda name: abs(math.log(_macs(name) / cost)))
        return _scaled(measured[nearest], nearest, network, cost), False
    if layout(classes) == "small" and network in _CPU_RATES:
        rate = _CPU_RATES[network]
    else:
        family = [name for name in _CPU_RATES if _family(name) == NETWORKS[network].family]
        nearest = min(family or _CPU_RATES, key=lambda name: abs(math.log(_macs(name) / cost)))
        rate = _scaled(_CPU_RATES[nearest], nearest, network, cost)
    if device.startswith("cuda") and NETWORKS[network].family != "mlp":
        rate = min(rate * _CUDA_FACTOR, _CUDA_LIMIT)
    return rate, False


def _scaled(rate: float, known: str, network: str, cost: int) -> float:
    """The speed of a network from a relative's: inverse to MACs, but an MLP's step is mostly fixed cost."""
    return rate if NETWORKS[network].family == "mlp" else rate * _macs(known) / cost


def rate_name(network: str, classes: int) -> str:
    """The name a speed is kept under: `plain-4`, or `plain-4/large` for the layout of more than ten classes."""
    return network if layout(classes) == "small" else f"{network}/large"


def _family(name: str) -> str:
    row = NETWORKS.get(name.split("/")[0])
    return row.family if row is not None else ""


def _macs(name: str) -> int:
    network, _, large = name.partition("/")
    return capacity(network, 100 if large else 10).macs


def likely_device(known: Mapping[str, Mapping[str, float]], stages: Mapping[str, StageSpec]) -> str:
    """Where the worker will train, as far as can be told without torch: MLPs on the CPU, the rest on a GPU if this
    machine has ever trained on one."""
    if all(NETWORKS[stage.network].family == "mlp" for stage in stages.values()):
        return "cpu"
    return next((name for name in sorted(known) if name.startswith("cuda")), "cpu")


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


def _known(store: Store) -> dict[str, dict[str, float]]:
    """{device: {network: images per second}} of this machine; only what is well-formed."""
    host = (files.read_json_or_none(store.root / _FILE) or {}).get(host_key())
    if not isinstance(host, dict):
        return {}
    return {
        device: {name: float(rate) for name, rate in rates.items() if _is_rate(rate) and _family(name) in FAMILIES}
        for device, rates in host.items()
        if isinstance(rates, dict)
    }


def _is_rate(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def host_key() -> str:
    """This machine without its name: kind, cores, and eight digits that tell machines apart."""
    digest = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
    return f"{platform.machine()}-{os.cpu_count()}-{digest}"
