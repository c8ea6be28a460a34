"""Selection on test images: what released code of this field does, reproduced so that its effect can be seen.

A stage that asks for it is looked at on the test part after every epoch and keeps the weights of the best one. No other
stage is, and nothing that is compared as ours ever asks for it.
"""

from __future__ import annotations

import torch
from torch import nn

from takd.evaluation.final import test_images
from takd.runs.store import Store
from takd.stage import StageSpec
from takd.training.checkpoints import load_weights, weights_bytes
from takd.training.device import TrainingData
from takd.training.predicting import accuracy_and_loss
from takd.training.progress import Progress

_BEST = "best-on-test.safetensors"
COLUMN = "test_acc"  # of the events of such a stage


def look(store: Store, stage: StageSpec, network: nn.Module, data: TrainingData, progress: Progress) -> None:
    """After an epoch: note its test accuracy in its row, and keep the weights if it is the best so far."""
    training = network.training
    accuracy, _ = accuracy_and_loss(network, test_images(stage.data, data, data.train.pixels.device), bf16=False)
    network.train(training)
    earlier = [row[COLUMN] for row in progress.rows[:-1] if COLUMN in row]
    progress.rows[-1][COLUMN] = accuracy
    if accuracy > max(earlier, default=-1.0):
        store.write_extra(stage.key, _BEST, weights_bytes(network))


def take_best(store: Store, stage: StageSpec, network: nn.Module, progress: Progress) -> dict[str, float]:
    """Fill the network with the weights of the best epoch; that epoch (from 1), and the test accuracy of the last.

    Raises ValueError when they are not there any more.
    """
    raw = store.read_extra(stage.key, _BEST)
    if raw is None:
        raise ValueError("the weights of the best epoch are missing; train the stage again")
    with torch.no_grad():
        load_weights(network, raw)
    best = max(progress.rows, key=lambda row: row[COLUMN])
    return {"epoch": int(best["epoch"]), "last_test_acc": progress.rows[-1][COLUMN], "looks": len(progress.rows)}
