"""The engine under measurement: every call into the package's training goes through here.

Stages are trained by the loop that a run's worker walks, in stores that live for one measurement. Teachers that only
have to answer are put into a store untrained.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.clock import Spent, spent
from takd.data.loading import TrainingArrays, load_training
from takd.evaluation.final import pack_logits
from takd.networks.table import build
from takd.runs.loop import train_all
from takd.runs.store import Store
from takd.stage import DataSpec, LossSpec, Recipe, StageSpec
from takd.training.checkpoints import load_weights, weights_bytes
from takd.training.device import Images, TrainingData, normalise, on_device, pick_device, uses_bf16
from takd.training.engine import Engine
from takd.training.loop import train as train_one
from takd.training.many import WAYS, Member, train_many
from takd.training.progress import Hooks, Progress
from takd.training.run_stage import run_stage
from takd.training.streams import epoch_order, initial_network

__all__ = ["WAYS", "epoch_order", "initial_network"]

SETTLING = 512  # images a network sees so that its batch norms know their statistics
TEMPERATURE, LAM = 4.0, 0.9


class NotTrained(RuntimeError):
    """The engine left a stage undone; the text is its log."""


def recipe(epochs: int, batch: int = 128, lr: float = 0.01) -> Recipe:
    """The published one: constant rate, no augmentation, weight decay 1e-4; Nesterov momentum as in the paper."""
    return Recipe(epochs, batch, lr, "constant", 0.9, 1e-4, "none", "mixed")


def stage(network: str, data: DataSpec, how: Recipe, teacher: StageSpec | None = None, seed: int = 0) -> StageSpec:
    """One training, alone or taught."""
    loss = LossSpec("ce", None, 0.0) if teacher is None else LossSpec("kd", TEMPERATURE, LAM)
    return StageSpec(network, data, loss, how, seed, () if teacher is None else (teacher.key,))


def train(
    stages: Sequence[StageSpec], root: Path, cached: Sequence[Path] = (), device: str = "cpu", processes: int = 1
) -> Store:
    """Train stages (teachers before pupils) into the store at `root`; what is finished in `cached` is used.

    `processes` says how many call this at once for the same stages. Raises NotTrained where one was left out.
    """
    store, log = Store(root, cached), list[str]()
    plan = {one.key: one for one in stages}
    train_all(store, plan, device=device, should_stop=lambda: False, say=log.append, processes=processes)
    if not all(store.is_done(key) for key in plan):
        raise NotTrained("\n".join(log))
    return store


def cost(stages: Sequence[StageSpec], cached: Sequence[Path] = (), device: str = "cpu") -> Spent:
    """What training these stages into an empty store costs, files and final evaluation included."""
    return cost_and_engines(stages, cached, device)[0]


def cost_and_engines(
    stages: Sequence[StageSpec], cached: Sequence[Path] = (), device: str = "cpu"
) -> tuple[Spent, str]:
    """The same, and how the stages say they were trained: engines and precision."""
    with tempfile.TemporaryDirectory(prefix="takd-bench-") as folder:

        def work() -> None:
            train(stages, Path(folder), cached, device)
            synchronise(device)

        found = spent(work)
        results = [Store(Path(folder), cached).result(one.key) or {} for one in stages]
    made = [result.get("env", {}) for result in results]
    words = [sorted({str(env[name]) for env in made if name in env}) for name in ("engine", "precision")]
    return found, "; ".join(", ".join(some) for some in words if some) or "unnamed"


def epoch_cost(
    stages_of: Callable[[int], Sequence[StageSpec]], more: int, cached: Sequence[Path] = (), device: str = "cpu"
) -> Spent:
    """What one epoch of every stage costs: `more` additional epochs, divided. Whatever a training does only once
    (reading images, asking the teacher, the final evaluation, writing files) cancels out."""
    short, long = cost(stages_of(1), cached, device), cost(stages_of(1 + more), cached, device)
    return (long - short) * (1 / more)


def training_share(one: StageSpec, cached: Sequence[Path] = (), device: str = "cpu") -> float:
    """The share of an epoch's time that is training; the rest is the validation after it."""
    with tempfile.TemporaryDirectory(prefix="takd-bench-") as folder:
        rows = train([one], Path(folder), cached, device).read_events(one.key)[0]
    images = one.data.train_images // one.recipe.batch * one.recipe.batch
    whole = rows[-1]["seconds"] - rows[0]["seconds"]
    return sum(images / row["images_per_second"] for row in rows[1:]) / whole


def losses(one: StageSpec, cached: Sequence[Path] = (), device: str = "cpu") -> list[float]:
    """Mean loss of every epoch."""
    return many_losses([one], cached, device)[0]


def many_losses(stages: Sequence[StageSpec], cached: Sequence[Path] = (), device: str = "cpu") -> list[list[float]]:
    """The same for several stages of one plan, side by side where the engine does so."""
    with tempfile.TemporaryDirectory(prefix="takd-bench-") as folder:
        store = train(stages, Path(folder), cached, device)
        return [[row["loss"] for row in store.read_events(one.key)[0]] for one in stages]


def untrained(one: StageSpec, root: Path) -> None:
    """Put a stage into the store at `root` as if it were finished: initial weights, batch norms that have seen
    images, so that its answers are ordinary numbers."""
    arrays = load_training(one.data, one.noise_seed)
    network = initial_network(one.network, one.data.classes, one.seed).train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = None  # a plain mean over all it sees
        network(images(arrays, slice(0, SETTLING)))
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum
    store = Store(root)
    store.ensure(one)
    result = {"test_acc": 1.0 / one.data.classes}
    predictions = pack_logits(torch.zeros(100, one.data.classes))
    store.commit(one.key, result, {"weights.safetensors": weights_bytes(network), "predictions.npz": predictions})


def images(arrays: TrainingArrays, which: slice) -> Tensor:
    """Training images as networks read them: normalised fp32 (N, C, H, W), contiguous."""
    pixels = torch.from_numpy(arrays.train_x[which])
    return normalise(pixels, arrays.mean, arrays.std, arrays.scale, torch.float32).permute(0, 3, 1, 2).contiguous()


def network_of(root: Path, one: StageSpec) -> nn.Module:
    """A finished stage's network in evaluation mode, its parameters still able to take gradients."""
    network: nn.Module = build(one.network, one.data.classes)
    return load_weights(network, Store(root).read_file(one.key, "weights.safetensors")).eval()


def answers_remembered(root: Path, target: Path, pupil: StageSpec, device: str = "cpu") -> Path:
    """A copy of the store at `root` whose teachers' answers for this pupil's images are stored too."""
    shutil.copytree(root, target)
    one_epoch = replace(pupil, recipe=replace(pupil.recipe, epochs=1))
    train([one_epoch], target, device=device)
    return target


def arrays_of(one: StageSpec) -> TrainingArrays:
    """The images a stage learns from, its labels (noise included) and its validation images."""
    return load_training(one.data, one.noise_seed)


def precision(device: str) -> str:
    """What `mixed` means on this device."""
    return "bf16" if uses_bf16(pick_device(device), "mixed") else "fp32"


def synchronise(device: str) -> None:
    """Wait for what a GPU still has to do."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def start(one: StageSpec, root: Path, batches: int) -> None:
    """Begin a training and stop it after so many batches; raises StageStopped."""
    store, asked = Store(root), 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > batches

    store.ensure(one)
    run_stage(store, one.key, device="cpu", should_stop=stop)


def step_seconds(network: str, count: int, way: str, device: str, steps: int, batch: int = 128) -> tuple[float, str]:
    """Seconds of one training step of one of `count` networks on random images, and how it was done.

    `way` is one of WAYS, `default` (one network as the engine trains it) or `eager` (one network, step by step).
    """
    where = pick_device(device)
    bf16 = uses_bf16(where, "mixed")
    calm = replace(recipe(3, batch, lr=1e-4), precision="mixed")  # labels are random: the loss has to stay finite
    data = DataSpec("random", "", 10, batch * steps, 0.0, 0)
    engine, members = Engine(), list[Member]()
    shared = _random_images(batch * steps, where, bf16)
    for seed in range(count):
        one = stage(network, data, calm, seed=seed)
        learner = on_device(initial_network(network, 10, seed), where)
        members.append(Member(learner, one, shared, (), Hooks(), Progress()))
    if way in WAYS:
        train_many(members, bf16=bf16, engine=engine, ways=(way,))
    else:
        with _engine_named("reference" if way == "eager" else None):
            (only,) = members
            train_one(
                only.network,
                only.stage,
                shared,
                (),
                bf16=bf16,
                hooks=only.hooks,
                progress=only.progress,
                engine=engine,
            )
    rates = [row["images_per_second"] for member in members for row in member.progress.rows[1:]]
    return batch / (sum(rates) / len(rates)), engine.name


def _random_images(count: int, device: torch.device, bf16: bool) -> TrainingData:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randn(count, 32, 32, 3, generator=draw).to(device, torch.bfloat16 if bf16 else torch.float32)
    labels = torch.randint(10, (count,), generator=draw).to(device)
    part = Images(pixels, labels)
    return TrainingData(part, Images(pixels[:1], labels[:1]), (0.0,) * 3, (1.0,) * 3, 1.0)


@contextmanager
def _engine_named(name: str | None) -> Iterator[None]:
    """$TAKD_ENGINE for a while."""
    before = os.environ.pop("TAKD_ENGINE", None)
    if name is not None:
        os.environ["TAKD_ENGINE"] = name
    try:
        yield
    finally:
        os.environ.pop("TAKD_ENGINE", None)
        if before is not None:
            os.environ["TAKD_ENGINE"] = before
