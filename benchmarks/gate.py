"""The same small problem trained by every contender: speed counts only where their losses agree."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import baselines, engine
from benchmarks.images import Source, small_set
from benchmarks.report import Gate, judge
from takd.data.table import DATASETS, SPLIT_SEED
from takd.stage import DataSpec, LossSpec, StageSpec

TOLERANCES = {"fp32": 1e-3, "bf16": 1e-2}
# Of all widths of a slimmable network: the modules themselves, channels-last or not, differ by up to 2.6e-3 there.
WIDTHS_TOLERANCE = 1e-2
STEPS, EPOCHS = 4, 16  # 64 steps, compared as the mean loss of every four
_LEFT_OVER = 127  # images more than the steps need, so that every epoch sees other ones


def cnn_gate(source: Source, teacher: str, student: str, device: str, quick: bool) -> Gate:
    """A student of a briefly trained teacher: the plain script and the library against the engine."""
    epochs = 2 if quick else EPOCHS
    images = STEPS * 128 + _LEFT_OVER
    data, _ = small_set(source, 10, images, -(-images // 9))
    taught_by = engine.stage(teacher, data, engine.recipe(1 if quick else 3))
    pupil = engine.stage(student, data, engine.recipe(epochs), taught_by)
    with tempfile.TemporaryDirectory(prefix="takd-bench-") as folder:
        root = Path(folder)
        engine.train([taught_by], root, device=device)
        network, arrays = engine.network_of(root, taught_by), engine.arrays_of(pupil)
        plain = _epoch_losses(baselines.PlainScript(pupil, network, arrays, device=device), epochs)
        others = {"engine": engine.losses(pupil, [root], device)}
        if baselines.library_problem() is None:
            library = baselines.Library(pupil, network, arrays, device=device)
            others["torchdistill"] = _epoch_losses(library, epochs)
        unlike = engine.losses(replace(pupil, seed=1), [root], device)
    tolerance = TOLERANCES[engine.precision(device)]
    what = f"losses of {STEPS * epochs} steps of {student} from {teacher} against the plain script"
    return judge(what, plain, others, unlike, tolerance)


def sub_models_gate(source: Source, network: str, quick: bool) -> Gate:
    """All sub-models of one network by the labels: the engine against a torch loop."""
    epochs = 2 if quick else EPOCHS
    images = STEPS * 128 + _LEFT_OVER
    data, _ = small_set(source, 10, images, -(-images // 9))
    one = joint(network, data, epochs)
    plain = _epoch_losses(baselines.JointLoop(one, None, engine.arrays_of(one)), epochs)
    what = f"losses of {STEPS * epochs} steps of {network} against a torch loop"
    unlike = engine.losses(replace(one, seed=1))
    return judge(what, plain, {"engine": engine.losses(one)}, unlike, WIDTHS_TOLERANCE)


def joint(network: str, data: DataSpec, epochs: int) -> StageSpec:
    """All sub-models of one network, each taught by the labels."""
    return StageSpec(network, data, LossSpec("joint", None, 0.0), engine.recipe(epochs), 0, ())


def mlp_gate(quick: bool) -> Gate:
    """Four students of one network, seeds and temperatures mixed, side by side in the engine and alone in a loop."""
    epochs = 2 if quick else EPOCHS
    how = replace(engine.recipe(epochs, batch=50, lr=0.05), weight_decay=0.0, precision="fp32")
    data = digits(240)
    teacher = engine.stage("mlp-64", data, how)
    temperatures = (1.0, 2.0, 4.0, 8.0)
    pupils = [taught(teacher, "mlp-16", seed, t, 0.9) for seed, t in enumerate(temperatures)]
    other = replace(pupils[0], seed=len(pupils))
    with tempfile.TemporaryDirectory(prefix="takd-bench-") as folder:
        root = Path(folder)
        engine.train([teacher], root)
        found = engine.many_losses([*pupils, other], [root])
        network, arrays = engine.network_of(root, teacher), engine.arrays_of(teacher)
        with torch.no_grad():
            answers = network(engine.images(arrays, slice(None)))
        alone = [_epoch_losses(baselines.MemoryLoop(p, answers, engine.arrays_of(p)), epochs) for p in pupils]
    steps = epochs * (data.train_images // how.batch)
    what = f"losses of {steps} steps of {len(pupils)} students of mlp-64, together against one by one in a torch loop"
    flat, together = [value for one in alone for value in one], [value for one in found[:-1] for value in one]
    unlike = [*found[-1], *together[epochs:]]
    return judge(what, flat, {"engine": together}, unlike, TOLERANCES["fp32"])


def digits(images: int = 500, noise: float = 0.2) -> DataSpec:
    """The digits with a share of wrong labels, where a gap shows."""
    return DataSpec("digits", str(DATASETS["digits"].fingerprint), 10, images, noise, SPLIT_SEED)


def taught(teacher: StageSpec, network: str, seed: int, temperature: float, lam: float) -> StageSpec:
    """A pupil with the images and recipe of its teacher."""
    loss = LossSpec("kd", temperature, lam)
    return StageSpec(network, teacher.data, loss, teacher.recipe, seed, (teacher.key,))


def _epoch_losses(baseline: baselines.Baseline, epochs: int) -> list[float]:
    found = []
    for epoch in range(epochs):
        losses = list(baseline.batches(epoch))
        found.append(sum(losses) / len(losses))
    return found
