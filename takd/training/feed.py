"""What a step of K networks reads, in tensors that stay where they are: samples, views, labels, rates and teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from takd.data.augment import PAD, draws
from takd.stage import StageSpec
from takd.training.device import TrainingData
from takd.training.schedules import learning_rate
from takd.training.step import side_by_side
from takd.training.streams import epoch_order, stream_seed
from takd.training.teachers import StoredTeacher, TeacherLogits, begin_epoch


class Feed:
    """What the next step of K networks reads, by a counter on the device.

    All see the same images, (N, H, W, C), with labels of their own. Networks of different seeds have orders and views
    of their own; those of one seed share them, and their images come as (1, B, H, W, C).
    """

    def __init__(self, stages: Sequence[StageSpec], data: Sequence[TrainingData]) -> None:
        recipe, part = stages[0].recipe, data[0].train
        device = part.pixels.device
        self.stages, self.kind, self.device = stages, recipe.augmentation, device
        self.batch = min(recipe.batch, len(part))
        self.steps = len(part) // self.batch  # a last, smaller batch is left out: the order changes every epoch
        self.images, (self.height, self.width) = len(part), part.pixels.shape[1:3]
        self.sources = stages[:1] if len({stage.seed for stage in stages}) == 1 else stages
        framed = self.kind == "crop-flip"  # once for all steps; the zeros are what a crop finds outside the image
        self.pixels = F.pad(part.pixels, (0, 0, PAD, PAD, PAD, PAD)) if framed else part.pixels
        self.labels = torch.stack([each.train.labels for each in data])
        self.models = len(stages)
        alike = len({(stage.recipe.lr, stage.recipe.schedule) for stage in stages}) == 1
        self.rated = stages[:1] if alike else stages
        rows = {"none": 1, "flip": 3, "crop-flip": 4}[self.kind]
        self.table = torch.zeros(self.steps, rows, len(self.sources), self.batch, dtype=torch.int64, device=device)
        # CUDA's fused update reads an fp32 rate; the CPU's reads any, and fp64 is what a Python float is
        kind = torch.float32 if device.type == "cuda" else torch.float64
        self.rates = torch.zeros(self.steps, len(self.rated), dtype=kind, device=device)
        self.last_rates: list[float] = [recipe.lr] * self.models
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.rows_of_image = torch.arange(self.height, device=device)
        self.columns = torch.arange(self.width, device=device)

    def begin_epoch(self, epoch: int) -> None:
        """Fill the tables for an epoch (0-based) and go back to their first row."""
        used = self.steps * self.batch
        orders = [epoch_order(self.images, s.seed, s.network, epoch)[:used] for s in self.sources]
        self.table.copy_(self._places(torch.stack(orders).to(self.device), epoch))
        steps = range(epoch * self.steps, (epoch + 1) * self.steps)
        rates = [
            [learning_rate(s.recipe.schedule, s.recipe.lr, i, self.steps * s.recipe.epochs) for s in self.rated]
            for i in steps
        ]
        self.rates.copy_(torch.tensor(rates, dtype=torch.float64))
        self.last_rates = rates[-1] * (self.models // len(self.rated))
        self.rewind()

    def rewind(self) -> None:
        """Back to the first row of the tables."""
        self.position.zero_()

    def _places(self, orders: Tensor, epoch: int) -> Tensor:
        """(steps, rows, sources, batch): the sample; for views the column's sign and start, and the first row."""
        rows = [orders]
        if self.kind != "none":
            keys = [stream_seed(s.seed, "shared", "augment") for s in self.sources]
            drawn = [draws(key, epoch, order) for key, order in zip(keys, orders, strict=True)]
            flip, down, right = (torch.stack(parts) for parts in zip(*drawn, strict=True))
            crop = self.kind == "crop-flip"
            rows += [1 - 2 * flip.long(), flip * (self.width - 1) + (right if crop else 0)]
            rows += [down] if crop else []
        return torch.stack(rows).unflatten(2, (self.steps, self.batch)).permute(2, 0, 1, 3)

    def take(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Samples (K, B), images (K or 1, B, H, W, C), labels (K, B) and learning rates (K,) or (1,) of this step."""
        sample, *view = self.table.index_select(0, self.position)[0]
        if view:
            sign, start, *down = view
            across = torch.addcmul(start[..., None], sign[..., None], self.columns)
            below = down[0][..., None] + self.rows_of_image if down else self.rows_of_image
            images = self.pixels[sample[..., None, None], below[..., :, None], across[..., None, :]]
        else:
            images = self.pixels[sample]
        index = sample.expand(self.models, -1)
        rate = self.rates.index_select(0, self.position)[0]
        self.position.add_(1)
        return index, images, self.labels.gather(1, index), rate


@dataclass(frozen=True)
class Heard:
    """What K networks hear: `ask` (index (K, B), images) gives the answers of all of them per place in their lists of
    teachers, each (K, B, C)."""

    ask: Callable[[Tensor, Tensor], list[Tensor]]
    refresh: Sequence[Callable[[], None]]
    teachers: Sequence[TeacherLogits]

    def begin_epoch(self, epoch: int) -> None:
        """Fetch the answers of an epoch (0-based) where they are looked up and differ from the last one's."""
        begin_epoch(self.teachers, epoch)
        for again in self.refresh:
            again()


def hear_many(teachers: Sequence[Sequence[TeacherLogits]], shared: bool) -> Heard:
    """Each network's teachers as one tensor (K, B, C) per place in the list; what a network without one hears there has
    no weight in its loss.

    `shared` networks see the same images, so a teacher of several of them is asked once. Stored answers are looked up
    for all networks at once.
    """
    places = max(map(len, teachers), default=0)
    columns = [[own[i] if i < len(own) else None for own in teachers] for i in range(places)]
    refresh: list[Callable[[], None]] = []
    asked = [_hear(column, shared, refresh) for column in columns]
    each = {id(teacher): teacher for own in teachers for teacher in own}
    return Heard(lambda index, images: [ask(index, images) for ask in asked], refresh, list(each.values()))


def _hear(column: Sequence[TeacherLogits | None], shared: bool, refresh: list[Callable[[], None]]) -> TeacherLogits:
    stored = {id(teacher): teacher for teacher in column if isinstance(teacher, StoredTeacher)}
    if all(teacher is None or id(teacher) in stored for teacher in column):
        return _looked_up(column, list(stored.values()), refresh)

    def ask(index: Tensor, images: Tensor) -> Tensor:
        known: dict[tuple[int, int], Tensor] = {}
        names = [(id(teacher), 0 if shared else k) for k, teacher in enumerate(column)]
        for k, (name, teacher) in enumerate(zip(names, column, strict=True)):
            if teacher is not None and name not in known:
                known[name] = teacher(index[k], images[min(k, len(images) - 1)].permute(0, 3, 1, 2))
        some = next(iter(known.values()))
        return side_by_side([known.get(name, some) for name in names])

    return ask


def _looked_up(
    column: Sequence[TeacherLogits | None], stored: Sequence[StoredTeacher], refresh: list[Callable[[], None]]
) -> TeacherLogits:
    """Stored answers by sample, and by network where they differ. Who has none hears somebody's, at no weight."""
    if len({id(teacher.logits) for teacher in stored}) == 1:
        return lambda index, _: stored[0].logits[index]
    places = {id(teacher): place for place, teacher in enumerate(stored)}
    stack = torch.stack([teacher.logits for teacher in stored])
    if any(teacher.answers for teacher in stored):
        refresh.append(lambda: _fill(stack, stored))
    rows = torch.tensor([places.get(id(teacher), 0) for teacher in column])
    offsets, flat = rows.to(stack.device)[:, None] * stack.shape[1], stack.flatten(0, 1)
    return lambda index, _: flat[index + offsets]


def _fill(stack: Tensor, stored: Sequence[StoredTeacher]) -> None:
    for row, teacher in zip(stack, stored, strict=True):
        row.copy_(teacher.logits)
