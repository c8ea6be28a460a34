"""The stored weights answer the test images again, and their answers are compared with the stored ones.

Bits are not expected: another processor adds in another order. A logit may differ by the rounding to float16 and by
MACHINE of the image's largest logit, which is far more than fp32 makes of it and far less than another network would.
Networks trained on a GPU answered there, with convolutions that may have been multiplied in TF32 (10 bits, 5e-4 of a
product): ON_GPU, an allowance for some layers of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from takd.data.meta import DataError
from takd.data.test_part import load_test
from takd.evaluation.answers_check import Stored
from takd.evaluation.final import test_images, unpack_logits
from takd.evaluation.notes import Notes
from takd.methods.parts import part_names
from takd.methods.table import form_of
from takd.networks.table import NetworkError, build, is_tiny
from takd.runs.errors import StageFailed, StoreError
from takd.runs.layout import environment_of
from takd.runs.loop import PREDICTIONS, WEIGHTS
from takd.runs.store import Store
from takd.stage import DataSpec, StageSpec
from takd.training.checkpoints import load_weights
from takd.training.device import TrainingData, on_device, pick_device, validation_data
from takd.training.predicting import predict
from takd.training.teachers import load_teacher
from takd.training.trainees import Every, Trainee, kept, trainee_for

MACHINE, ON_GPU = 2e-4, 1e-2
IN_BF16 = 2e-3  # of the largest logit: what images in bf16 make of it, with which val_acc of parts was once measured
_CPU = torch.device("cpu")
LOGITS = "logits from the weights"
_LARGEST = 65_504.0  # of float16


@dataclass(frozen=True)
class Material:
    """The images of a data set that a check needs; each part is loaded when it is first asked for."""

    data: DataSpec

    def labels(self) -> np.ndarray:
        """Test labels (N,). Raises DataError where the data set is not prepared here, or is another one."""
        return _labels(self.data)

    def images(self, device: torch.device) -> TrainingData:
        """Validation images with what normalises them. The training images stay on the disk: nothing is trained."""
        return validation_data(self.data, device)


def material(data: DataSpec) -> Material:
    """The images of a stage; noise changes training labels only."""
    return Material(data.clean)


@lru_cache(maxsize=2)
def _labels(data: DataSpec) -> np.ndarray:
    return load_test(data)[1]


@dataclass(frozen=True)
class Asked:
    """What stored weights answer now: `answers` (N, parts, classes) to test images and `checked` to validation images,
    whose labels are `labels`, as float64; `allowed` is what machines may differ by, of an image's largest logit."""

    answers: np.ndarray
    checked: np.ndarray
    labels: np.ndarray
    allowed: float

    def stored(self, main: int) -> Stored | None:
        """The answers as if they were stored; `main` is the part that counts as the stage's. None where numbers of them
        do not fit float16, which no stored answers do."""
        if not (np.abs(self.answers) < _LARGEST).all():
            return None
        each = [self._part(k) for k in range(self.answers.shape[1])]
        return replace(each[main], parts=tuple(each)) if len(each) > 1 else each[0]

    def _part(self, number: int) -> Stored:
        logits = np.ascontiguousarray(self.answers[:, number])
        off = self.allowed * np.maximum(1.0, np.abs(logits).max(1, keepdims=True))
        return Stored(logits.astype(np.float16), again=logits, off=off)


def ask_weights(
    notes: Notes, store: Store, stage: StageSpec, result: Mapping[str, Any], raw: bytes | None
) -> Asked | None:
    """Let the stored weights answer; None, and why, where they cannot."""
    accuracies = [f"{row.get('name')}: val_acc" for row in _part_rows(result)]
    if raw is None:
        notes.skip_all([LOGITS, *accuracies], "its weights are not stored here")
        return None
    device = torch.device("cpu") if is_tiny(stage.network) else pick_device()
    try:
        network = stored_network(store, stage, raw, device)
    except ValueError as error:
        notes.differs("weights.safetensors", f"weights of {stage.network}", str(error)[:300])
        return None
    except (StageFailed, StoreError, NetworkError, OSError) as error:
        notes.skip_all([LOGITS, *accuracies], f"its network cannot be built again here: {error}")
        return None
    try:
        data = material(stage.data).images(device)
    except DataError as error:
        notes.skip_all([LOGITS, *accuracies], str(error)[:300])
        return None
    images = test_images(stage.data, data, device)
    exact = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        answers = predict(network, images, bf16=False).double().cpu().numpy()
        checked = predict(network, data.validation, bf16=False).double().cpu().numpy()
    finally:
        torch.backends.cudnn.allow_tf32 = exact
    allowed = ON_GPU if environment_of(result).get("device") == "cuda" else MACHINE
    labels = data.validation.labels.cpu().numpy()
    if answers.ndim == 2:
        answers, checked = answers[:, None], checked[:, None]
    return Asked(answers, checked, labels, allowed)


def _part_rows(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in result.get("parts") or () if isinstance(row, dict)]


def check_weights(
    notes: Notes, stage: StageSpec, result: Mapping[str, Any], stored: Stored | None, asked: Asked
) -> None:
    """Compare the answers of the stored weights with the stored ones, and the validation accuracy with the result's."""
    rows = _part_rows(result)
    accuracies = [f"{row.get('name')}: val_acc" for row in rows]
    answers, checked, labels, allowed = asked.answers, asked.checked, asked.labels, asked.allowed
    rounded = max(allowed, IN_BF16) if environment_of(result).get("precision") != "fp32" else allowed
    if stored is None:
        notes.skip(LOGITS, "its test answers (predictions.npz) cannot be read")
    elif stored.again is not None:  # the metrics are theirs
        notes.weights = True
    else:
        several = stored.parts is not None and len(stored.parts) == answers.shape[1]
        each = stored.parts if several and stored.parts is not None else (stored,)
        notes.weights = _compare(notes, each, answers, allowed)
    if rows and len(rows) == checked.shape[1]:
        for k, (name, row) in enumerate(zip(accuracies, rows, strict=True)):
            _validation(notes, name, row.get("val_acc"), checked[:, k], labels, rounded)
    elif rows:  # of a cohort the student's weights are kept
        _validation(notes, accuracies[0], rows[0].get("val_acc"), checked[:, 0], labels, rounded)
        notes.skip_all(accuracies[1:], "the weights of peers are not stored")
    else:
        _own_validation(notes, stage, result, checked[:, 0], labels, allowed)


@lru_cache(maxsize=64)
def _asked_teacher(store: Store, key: str, sha: str) -> Stored | None:
    stage, result = store.stage(key), store.result(key)
    if stage is None or result is None:
        return None
    asked = ask_weights(Notes(), store, stage, result, store.read_file(key, WEIGHTS))
    return None if asked is None else asked.stored(part_names(stage)[1] if asked.answers.shape[1] > 1 else 0)


def answers_of_weights(store: Store, key: str) -> Stored | None:
    """The test answers of a finished stage whose weights are stored, asked now (and remembered: many pupils share a
    teacher); None where they cannot be asked."""
    listed = (store.result(key) or {}).get("files", {}).get(WEIGHTS, {})
    try:
        return _asked_teacher(store, key, str(listed.get("sha256")))
    except StoreError:
        return None


def teacher_answers(store: Store, key: str) -> torch.Tensor:
    """What a pupil's answers are compared with: the test logits (N, classes) of a teacher as stored, as float32, else
    those its weights give now, rounded alike. Raises StoreError where the teacher has neither, ValueError on damage."""
    if not store.has_file(key, PREDICTIONS) and (found := answers_of_weights(store, key)) is not None:
        return torch.from_numpy(found.half.astype(np.float32))
    return unpack_logits(store.read_file(key, PREDICTIONS))


def stored_network(store: Store, stage: StageSpec, raw: bytes, device: torch.device = _CPU) -> nn.Module:
    """The network of a finished stage with its stored weights: all answers of one with several, where they are stored.

    Raises ValueError where the weights are not this network's.
    """
    form = form_of(stage.loss)
    network: nn.Module
    if form in ("heads", "sub-models"):
        network = trainee_for(stage, lambda: load_teacher(store, stage.teachers[0], device), stage.network)
    else:
        network = build(stage.network, stage.data.classes)
    load_weights(kept(network), raw)
    return on_device(Every(network) if isinstance(network, Trainee) else network, device).eval()


def _compare(notes: Notes, each: tuple[Stored, ...], answers: np.ndarray, allowed: float) -> bool:
    """Whether they could be compared."""
    count = answers.shape[1]
    for k in range(count):
        stored, found = each[k], answers[:, k]
        what = LOGITS if count == 1 else f"{LOGITS} (part {k + 1} of {count})"
        if stored.half.shape != found.shape:
            notes.differs(what, f"{stored.half.shape}", f"{found.shape}")
            return False
        slack = stored.spacing / 2 + allowed * np.maximum(1.0, np.abs(stored.logits).max(1, keepdims=True))
        wrong = ~(np.abs(found - stored.logits) <= slack)  # a number that is not finite is wrong too
        if not wrong.any():
            notes.checked(what)
            continue
        image, place = np.unravel_index(int(np.argmax(np.where(wrong, np.abs(found - stored.logits), -1))), wrong.shape)
        many = f"{int(wrong.sum())} of {wrong.size} logits differ; test image {image}, class {place}"
        notes.differs(what, f"{many}: {stored.logits[image, place]:.6g}", f"{found[image, place]:.6g}")
    return True


def _own_validation(
    notes: Notes, stage: StageSpec, result: Mapping[str, Any], logits: np.ndarray, labels: np.ndarray, allowed: float
) -> None:
    """val_acc of the last epoch, where the stored weights are those of the last epoch and it was measured in fp32."""
    what = "val_acc from the weights"
    if stage.recipe.selection:
        notes.skip(what, "the stored weights are not those of the last epoch")
    elif environment_of(result).get("precision") != "fp32":
        notes.skip(what, "it was measured in bf16 while training")
    else:
        _validation(notes, what, result.get("val_acc"), logits, labels, allowed)


def _validation(
    notes: Notes, what: str, stored: object, logits: np.ndarray, labels: np.ndarray, allowed: float
) -> None:
    """An accuracy on validation images, up to those whose two best logits are closer than machines are."""
    best = np.sort(logits, 1)[:, -2:]
    unsure = int((best[:, 1] - best[:, 0] <= 2 * allowed * np.maximum(1.0, np.abs(logits).max(1))).sum())
    found = float((logits.argmax(1) == labels).mean())
    notes.same(what, stored, found, within=unsure / len(labels) + 1e-6)
