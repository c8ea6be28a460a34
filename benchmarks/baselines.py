"""What the engine is measured against: a plain script, a library, and a plain loop on tensors in memory.

All train the same stage: the same networks, images, initial weights, order of images, loss formula and optimiser.
(The published scripts divide the KL term by the number of classes as well; that fault is not repeated, because the
losses are compared.)
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from benchmarks.engine import epoch_order, images, initial_network
from takd.data.loading import TrainingArrays
from takd.networks.multi import MultiNetwork
from takd.stage import StageSpec


class Baseline(Protocol):
    """A training whose steps can be taken one by one."""

    def batches(self, epoch: int) -> Iterator[float]:
        """Train an epoch (0-based); yields the loss of every batch."""
        ...

    def evaluation(self) -> Iterator[int]:
        """Look at the evaluation images; yields the right answers of every batch."""
        ...


class PilImages(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's CIFAR10 keeps them: an array; each access makes a picture and transforms it."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, arrays: TrainingArrays) -> None:
        self.pixels, self.targets = pixels, labels.tolist()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(arrays.mean, arrays.std)])

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.targets[index]

    def __len__(self) -> int:
        return len(self.targets)


class EngineOrder(Sampler[int]):
    """The engine's own order of an epoch's images."""

    def __init__(self, one: StageSpec) -> None:
        self.stage, self.epoch = one, 0

    def __iter__(self) -> Iterator[int]:
        return iter(epoch_order(len(self), self.stage.seed, self.stage.network, self.epoch).tolist())

    def __len__(self) -> int:
        return self.stage.data.train_images


def _loaders(
    one: StageSpec, arrays: TrainingArrays, workers: int
) -> tuple[EngineOrder, DataLoader[Any], DataLoader[Any]]:
    order = EngineOrder(one)
    train = PilImages(arrays.train_x, arrays.train_y, arrays)
    test = PilImages(arrays.val_x, arrays.val_y, arrays)
    batch = one.recipe.batch
    return (
        order,
        DataLoader(train, batch, sampler=order, num_workers=workers, drop_last=True),
        DataLoader(test, batch, shuffle=False, num_workers=workers),
    )


def _sgd(network: nn.Module, one: StageSpec) -> torch.optim.SGD:
    how = one.recipe
    return torch.optim.SGD(
        network.parameters(), how.lr, momentum=how.momentum, weight_decay=how.weight_decay, nesterov=True
    )


def _kd(one: StageSpec, answers: Tensor, labels: Tensor, teacher_answers: Tensor | None) -> Tensor:
    hard = F.cross_entropy(answers, labels)
    if teacher_answers is None:
        return hard
    assert one.loss.temperature is not None
    t, lam = one.loss.temperature, one.loss.lam
    soft = F.kl_div(F.log_softmax(answers / t, 1), F.softmax(teacher_answers / t, 1), reduction="batchmean")
    return (1 - lam) * hard + lam * t * t * soft


class PlainScript:
    """A script as the published ones are: DataLoader of PIL images, fp32, contiguous (N, C, H, W), the teacher asked
    anew for every batch and not under no_grad, so that the backward pass runs through it as well."""

    def __init__(
        self, one: StageSpec, teacher: nn.Module | None, arrays: TrainingArrays, workers: int = 0, device: str = "cpu"
    ) -> None:
        self.stage, self.device = one, device
        self.student = initial_network(one.network, one.data.classes, one.seed).to(device)
        self.teacher = None if teacher is None else copy.deepcopy(teacher).to(device).eval()
        self.optimiser = _sgd(self.student, one)
        self.order, self.train, self.test = _loaders(one, arrays, workers)

    def batches(self, epoch: int) -> Iterator[float]:
        self.order.epoch = epoch
        self.student.train()
        for pixels, labels in self.train:
            pixels, labels = pixels.to(self.device), labels.to(self.device)
            self.optimiser.zero_grad()
            answers = self.student(pixels)
            loss = _kd(self.stage, answers, labels, None if self.teacher is None else self.teacher(pixels))
            loss.backward()
            self.optimiser.step()
            yield loss.item()

    def evaluation(self) -> Iterator[int]:
        self.student.eval()
        with torch.no_grad():
            for pixels, labels in self.test:
                answers = self.student(pixels.to(self.device))
                yield int((answers.argmax(1) == labels.to(self.device)).sum())


class MemoryLoop:
    """The usual loop with nothing to wait for: images and the teacher's answers in memory, one small network."""

    def __init__(self, one: StageSpec, answers: Tensor | None, arrays: TrainingArrays) -> None:
        self.stage, self.answers = one, answers
        self.student = initial_network(one.network, one.data.classes, one.seed)
        self.optimiser = _sgd(self.student, one)
        self.pixels, self.labels = images(arrays, slice(None)), torch.from_numpy(arrays.train_y)
        whole = TrainingArrays(**{**vars(arrays), "train_x": arrays.val_x})
        self.test_pixels, self.test_labels = images(whole, slice(None)), torch.from_numpy(arrays.val_y)

    def batches(self, epoch: int) -> Iterator[float]:
        self.student.train()
        order = epoch_order(len(self.labels), self.stage.seed, self.stage.network, epoch)
        batch = self.stage.recipe.batch
        for index in order[: len(order) // batch * batch].split(batch):
            self.optimiser.zero_grad()
            loss = self.loss(index)
            loss.backward()
            self.optimiser.step()
            yield loss.item()

    def loss(self, index: Tensor) -> Tensor:
        """Of one batch."""
        teacher_answers = None if self.answers is None else self.answers[index]
        return _kd(self.stage, self.student(self.pixels[index]), self.labels[index], teacher_answers)

    def evaluation(self) -> Iterator[int]:
        self.student.eval()
        with torch.no_grad():
            yield int((self.student(self.test_pixels).argmax(1) == self.test_labels).sum())


def library_problem() -> str | None:
    """Why the library's column has to be left out; None where it can be measured."""
    try:
        import torchdistill
        from torchdistill.core.distillation import get_distillation_box
    except ImportError as error:
        return f"torchdistill is left out ({error}); install it with: pip install -r requirements-bench.txt"
    assert torchdistill and get_distillation_box
    return None


class JointLoop(MemoryLoop):
    """The same for all sub-models of one network, each taught by the labels: the sum of their losses."""

    def loss(self, index: Tensor) -> Tensor:
        assert isinstance(self.student, MultiNetwork)
        answers = self.student.forward_all(self.pixels[index])
        return torch.stack([F.cross_entropy(logits, self.labels[index]) for logits in answers]).sum()


class Library:
    """torchdistill's DistillationBox with its KDLoss, configured and driven as its image classification example is."""

    def __init__(
        self, one: StageSpec, teacher: nn.Module, arrays: TrainingArrays, workers: int = 0, device: str = "cpu"
    ) -> None:
        from torchdistill.core.distillation import get_distillation_box
        from torchdistill.models.registry import get_model, register_model

        register_model(initial_network, key="takd")
        self.device = torch.device(device)
        self.order, train, self.test = _loaders(one, arrays, workers)
        loader = {
            "dataset_id": "train",
            "sampler": {"class_or_func": lambda _: self.order},
            "kwargs": {"batch_size": one.recipe.batch, "num_workers": workers, "drop_last": True},
        }
        how = one.recipe
        settings = {
            "num_epochs": how.epochs,
            "train_data_loader": loader,
            "val_data_loader": {},
            "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
            "student": {"forward_proc": "forward_batch_only", "requires_grad": True},
            "optimizer": {
                "key": "SGD",
                "kwargs": {
                    "lr": how.lr,
                    "momentum": how.momentum,
                    "weight_decay": how.weight_decay,
                    "nesterov": True,
                },
            },
            "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": _kd_term(one)}}},
        }
        student = get_model("takd", name=one.network, classes=one.data.classes, seed=one.seed)
        datasets = {"train": train.dataset}
        self.box = get_distillation_box(
            copy.deepcopy(teacher).eval(), student, datasets, settings, self.device, None, False, 1
        )

    def batches(self, epoch: int) -> Iterator[float]:
        self.order.epoch = epoch
        self.box.pre_epoch_process(epoch=epoch)
        for pixels, labels, extra in self.box.train_data_loader:
            pixels, labels = pixels.to(self.device), labels.to(self.device)
            loss = self.box.forward_process(pixels, labels, extra)
            self.box.post_forward_process(loss=loss)
            yield loss.item()
        self.box.post_epoch_process()

    def evaluation(self) -> Iterator[int]:
        network = self.box.student_model
        network.eval()
        with torch.inference_mode():
            for pixels, labels in self.test:
                yield int((network(pixels.to(self.device)).argmax(1) == labels.to(self.device)).sum())


def _kd_term(one: StageSpec) -> dict[str, Any]:
    """KDLoss is alpha * CE + (1 - alpha) * T**2 * KL."""
    ends = {
        f"{who}_module_{what}": word
        for who in ("student", "teacher")
        for what, word in (("path", "."), ("io", "output"))
    }
    values = {**ends, "temperature": one.loss.temperature, "alpha": 1 - one.loss.lam, "reduction": "batchmean"}
    return {"criterion": {"key": "KDLoss", "kwargs": values}, "weight": 1.0}
