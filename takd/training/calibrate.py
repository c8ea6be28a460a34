"""Measure how fast this machine trains: `python -m takd.training.calibrate --store DIR`, a few seconds to a minute.

Every network runs through the engine that would train it, on random images, so that estimates are right before the
first run. One line of JSON per network on standard output; the speeds go into the store's rates.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from takd.budgets import budget_for
from takd.data.table import SPLIT_SEED
from takd.networks.table import FAMILIES, NETWORKS, is_tiny
from takd.runs.estimates import rate_name, record_rate
from takd.runs.store import open_store
from takd.spec import CHOOSABLE
from takd.stage import DataSpec, LossSpec, Recipe, StageSpec
from takd.training import mlp_batch
from takd.training.device import Images, TrainingData, on_device, pick_device, uses_bf16
from takd.training.loop import train
from takd.training.progress import Hooks, Progress
from takd.training.streams import initial_network

CLASSES = 10
SECONDS = 0.3  # of measuring per network
_FIRST_BATCH = 16  # for the first, rough measurement
_MOST_STEPS, _MOST_EPOCHS = 100, 1000
_LEAST_EPOCHS = 3  # that share the seconds of a measurement, as far as there are steps
_MOST_TRIES = 4


def measure(name: str, device: torch.device, seconds: float = SECONDS) -> float:
    """Images per second of training one network on `device`, in its recipe's batches and precision.

    What else runs on the machine can only make a measurement too slow, most of all a short one. One that shows that the
    speed it was sized by was far too low was too short itself, so another is made. A network that is too slow for whole
    batches within `seconds` is measured in smaller ones: its speed per image hardly depends on them.
    """
    recipe = budget_for(NETWORKS[name].family, "standard").recipe
    fastest = _rate(name, device, recipe, _FIRST_BATCH, 2)
    for _ in range(_MOST_TRIES):
        images = int(fastest * seconds)
        if images <= 2 * _FIRST_BATCH:
            break
        batch = min(recipe.batch, images)
        steps = max(1, min(_MOST_STEPS, images // (batch * _LEAST_EPOCHS)))
        before = fastest
        rate = _rate(name, device, recipe, batch, steps, max(1, min(_MOST_EPOCHS, images // (batch * steps))))
        fastest = max(before, rate)
        if fastest <= 2 * before:
            break
    return fastest


def _rate(name: str, device: torch.device, recipe: Recipe, batch: int, steps: int, epochs: int = 1) -> float:
    """The engine's own figure for the fastest of `epochs` of `steps` batches and one more, which warms up."""
    # Labels are random, so a careful learning rate keeps the loss finite; speed does not depend on it.
    calm = replace(recipe, epochs=1 + epochs, batch=batch, lr=1e-4, schedule="constant")
    images = DataSpec("random", "", CLASSES, batch * steps, 0.0, SPLIT_SEED)
    stage = StageSpec(name, images, LossSpec("ce", None, 0.0), calm, seed=0)
    bf16 = uses_bf16(device, recipe.precision)
    network = on_device(initial_network(name, CLASSES, 0), device)
    data, progress = _random_images(name, batch * steps, device, bf16), Progress()
    if mlp_batch.fits(stage, device.type):
        mlp_batch.train_mlps([mlp_batch.Pupil(network, stage, data, (), Hooks(), progress)], threads=1)
    else:
        train(network, stage, data, (), bf16=bf16, hooks=Hooks(), progress=progress)
    return max(row["images_per_second"] for row in progress.rows)


def _random_images(name: str, count: int, device: torch.device, bf16: bool) -> TrainingData:
    channels, height, width = FAMILIES[NETWORKS[name].family].input_shape
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(count, height, width, channels, generator=generator).to(device)
    labels = torch.randint(CLASSES, (count,), generator=generator).to(device)
    train_part = Images(pixels.to(torch.bfloat16) if bf16 else pixels, labels)
    validation = Images(train_part.pixels[:1], labels[:1])
    return TrainingData(train_part, validation, (0.0,) * channels, (1.0,) * channels, 1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m takd.training.calibrate", description="Measure training speeds.")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--network", action="append", choices=list(NETWORKS), help="only these")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="per network")
    options = parser.parse_args(arguments)
    store = open_store(options.store)
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        for name in options.network or CHOOSABLE:
            device = pick_device("cpu" if is_tiny(name) else "auto")  # as the worker decides
            rate = measure(name, device, options.seconds)
            record_rate(store, str(device), rate_name(name, CLASSES), rate)
            row = {"network": name, "classes": CLASSES, "device": str(device), "images_per_second": round(rate, 1)}
            print(json.dumps(row), flush=True)
    except OSError as error:
        print(f"{store.root} cannot be written ({error.strerror or error}); use another --store.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
