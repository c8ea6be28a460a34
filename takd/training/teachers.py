"""How a student hears its teacher: frozen networks asked live, or their answers looked up."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
import torch
from torch import Tensor, nn

from takd.answers import answers_file, answers_suffice, keeps_random
from takd.data.augment import draws, views
from takd.methods.losses.answers import Answers
from takd.methods.table import form_of
from takd.networks.staged import Staged
from takd.networks.table import build, stage_shapes
from takd.runs import packs
from takd.runs.errors import StageFailed
from takd.runs.store import Store
from takd.stage import StageSpec
from takd.training.checkpoints import load_weights
from takd.training.device import TrainingData, on_device, uses_bf16
from takd.training.fold import folded
from takd.training.predicting import View, as_they_are, predict
from takd.training.streams import stream_seed
from takd.training.trainees import Every, Trainee, feature_pairs, kept, trainee_for

TeacherLogits = Callable[[Tensor, Tensor], Tensor]
"""(sample index (B,), images (B, C, H, W) as the student sees them) -> teacher logits (B, classes)."""

Teacher = Callable[[Tensor, Tensor], Tensor | Answers]
"""The same, or all a teacher answers where the student looks at hidden layers."""


@dataclass
class StoredTeacher:
    """Answers looked up by sample. `logits` (N, classes) belong to the views of one epoch and stay where they are in
    memory; `answers` gives those of another epoch (0-based), None where every epoch shows the same."""

    logits: Tensor
    answers: Callable[[int], Tensor] | None = None

    def begin_epoch(self, epoch: int) -> None:
        if self.answers is not None:
            self.logits.copy_(self.answers(epoch))

    def __call__(self, index: Tensor, _: Tensor) -> Tensor:
        return self.logits[index]


def begin_epoch(teachers: Sequence[Teacher], epoch: int) -> None:
    """Let those teachers whose answers are looked up know which epoch (0-based) comes."""
    for teacher in teachers:
        if isinstance(teacher, StoredTeacher):
            teacher.begin_epoch(epoch)


def teachers_of(
    store: Store,
    stage: StageSpec,
    data: TrainingData,
    device: torch.device,
    bf16: bool,
    *,
    pupils: Mapping[str, int],
    live: bool = False,
) -> list[TeacherLogits]:
    """How this stage hears its teachers, in order: takd.answers has the rule, and `live` asks them for every batch all
    the same.

    `pupils` says how many stages of the run learn from each. How a student hears its teacher never depends on who else
    does: only whether answers are kept.

    A stage of heads is as many teachers as it has heads.
    """
    found: list[TeacherLogits] = []
    for key in stage.teachers:
        if live:
            asked = _live(load_teacher(store, key, device), bf16)
            found += [partial(_as_they_are, one, data) for one in asked] if stage.view == "own" else asked
        else:
            found += _stored(_Source(store, key, stage, data, device, bf16), pupils.get(key, 1))
    return found


def _stored(source: _Source, pupils: int) -> list[TeacherLogits]:
    """One teacher, or one for each head, whose answers are looked up."""
    stage, data = source.stage, source.data
    answers: Callable[[int], Tensor] | None = None
    if answers_suffice(stage):
        first = source.on_images()
    else:
        voices = _voices(source.store, source.key)
        shape = (len(data.train), *voices, stage.data.classes)
        first = torch.zeros(shape, device=source.device)
        keep = keeps_random(stage, pupils)
        flips = stage.recipe.augmentation == "flip"
        answers = source.mirrored_or_not() if flips else partial(source.on_views, keep=keep)
    if first.dim() == 2:
        return [StoredTeacher(first, answers)]
    of_epoch = None if answers is None else lru_cache(maxsize=1)(answers)  # asked once for all heads
    each = [None if of_epoch is None else partial(_one_head, of_epoch, k) for k in range(first.shape[1])]
    return [StoredTeacher(first[:, k].contiguous(), answer) for k, answer in enumerate(each)]


def _as_they_are(teacher: TeacherLogits, data: TrainingData, index: Tensor, _: Tensor) -> Tensor:
    """A teacher that is asked about the images as they are, not about the student's view of them."""
    return teacher(index, data.train.batch(index))


def _one_head(answers: Callable[[int], Tensor], head: int, epoch: int) -> Tensor:
    return answers(epoch)[:, head]


def _voices(store: Store, key: str) -> tuple[int, ...]:
    """(heads,) of a stage of heads, () of a network."""
    stage = store.stage(key)
    if stage is None or form_of(stage.loss) != "heads":
        return ()
    return (len(stage_shapes(stage.network, stage.data.classes)),)


def observed_teachers_of(store: Store, stage: StageSpec, device: torch.device, bf16: bool) -> list[Teacher]:
    """The teachers of a stage that looks at hidden layers: asked for every batch."""
    found: list[Teacher] = []
    for key in stage.teachers:
        teacher = store.stage(key)
        network = load_teacher(store, key, device)
        if teacher is None or not isinstance(network, Staged):
            raise StageFailed("bad-parent", f"{stage.network} is to look at hidden layers its teacher does not have.")
        found.append(observed_teacher(network, [place for _, place in feature_pairs(stage, teacher.network)], bf16))
    return found


def teacher_logits(
    store: Store, key: str, stage: StageSpec, data: TrainingData, device: torch.device, bf16: bool
) -> Tensor:
    """A teacher's logits (N, classes) on the training images as they are, computed once and kept beside the teacher."""
    return _Source(store, key, stage, data, device, bf16).on_images()


@dataclass
class _Source:
    """A teacher's answers for one student, from the store or asked now.

    They are rounded to float16 before first use, so the first student and the hundredth hear the same numbers,
    whether the teacher's stage is live or cached.
    """

    store: Store
    key: str
    stage: StageSpec
    data: TrainingData
    device: torch.device
    bf16: bool
    network: nn.Module | None = None

    @cached_property
    def _teacher(self) -> StageSpec | None:
        return self.store.stage(self.key)

    def on_images(self) -> Tensor:
        return self._stored()

    def mirrored_or_not(self) -> Callable[[int], Tensor]:
        plain, mirrored = (
            self._stored(name, view)
            for name, view in (("", as_they_are), ("mirrored", lambda _, batch: batch.flip(-1)))
        )
        wide = (-1, *[1] * (plain.dim() - 1))
        return lambda epoch: torch.where(self._draws(epoch)[0].view(wide), mirrored, plain)

    def on_views(self, epoch: int, keep: bool) -> Tensor:
        kind = self.stage.recipe.augmentation
        flip, down, right = self._draws(epoch)

        def view(index: Tensor, batch: Tensor) -> Tensor:
            return views(batch, kind, flip[index], down[index], right[index])

        if not keep:
            return torch.from_numpy(self._ask(view).astype(np.float32)).to(self.device)
        return self._stored(f"{kind}/{self.stage.seed}/{epoch}", view)

    def _draws(self, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        everything = torch.arange(len(self.data.train), device=self.device)
        return draws(stream_seed(self.stage.seed, "shared", "augment"), epoch, everything)

    def _stored(self, kind: str = "", view: View = as_they_are) -> Tensor:
        name = answers_file(self.stage, self._teacher, kind)
        raw = self.store.read_extra(self.key, name)
        if raw is None:
            buffer = io.BytesIO()
            np.save(buffer, self._ask(view))
            raw = buffer.getvalue()
            self.store.write_extra(self.key, name, raw)
        return _unpacked(raw, self.device)

    def _ask(self, view: View) -> np.ndarray:
        if self.network is None:
            self.network = load_teacher(self.store, self.key, self.device, fold=True)
        precision = (self._teacher or self.stage).recipe.precision
        bf16 = self.bf16 and uses_bf16(self.device, precision)  # its own where the student has it too
        return predict(self.network, self.data.train, bf16, view).cpu().numpy().astype(np.float16)


@lru_cache(maxsize=4)
def _unpacked(raw: bytes, device: torch.device) -> Tensor:
    return torch.from_numpy(np.load(io.BytesIO(raw), allow_pickle=False).astype(np.float32)).to(device)


def load_teacher(store: Store, key: str, device: torch.device, *, fold: bool = False) -> nn.Module:
    """A finished stage's network, frozen; of a stage of heads, all of them on their network: (B, heads, classes).

    A missing or foreign file is an error, never a random teacher. `fold` takes batch norm into the convolutions.
    """
    stage = store.stage(key)
    if stage is None:
        raise StageFailed("bad-parent", f"Teacher stage {key} cannot be read; train it again.")
    if form_of(stage.loss) == "heads":
        below = load_teacher(store, stage.teachers[0], device, fold=fold)
        network = trainee_for(stage, lambda: below, stage.network)
        _fill(kept(network), store, key, stage.network)
        assert isinstance(network, Trainee)
        return freeze(on_device(Every(network), device))
    network = build(stage.network, stage.data.classes)
    _fill(network, store, key, stage.network)
    frozen = freeze(on_device(network, device))
    return folded(frozen) if fold else frozen


def _fill(network: nn.Module, store: Store, key: str, name: str) -> None:
    try:
        load_weights(network, store.read_file(key, "weights.safetensors"))
    except ValueError as error:
        raise StageFailed(
            "bad-parent",
            f"The weights of teacher {name} are unusable: {error}. Delete {packs.on_disk(store.folder(key))}, then "
            "resume: the teacher is trained again.",
        ) from error


def freeze(network: nn.Module) -> nn.Module:
    """A teacher: evaluation mode, no gradients, ever."""
    network.eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network


def _live(network: nn.Module, bf16: bool) -> list[TeacherLogits]:
    """A frozen network, or each head of one, asked for every batch."""
    teacher = live_teacher([network], bf16)
    if not isinstance(network, Every):
        return [teacher]

    def head(number: int, index: Tensor, images: Tensor) -> Tensor:
        return teacher(index, images)[:, number]

    return [partial(head, number) for number in range(len(network.trainee.parts))]


def observed_teacher(network: Staged, places: Sequence[int], bf16: bool) -> Teacher:
    """A frozen network asked for its logits and these stage outputs, for every batch."""

    def answers(_: Tensor, images: Tensor) -> Answers:
        with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            logits, outputs = network.forward_stages(images)
        return Answers((logits.float(),), tuple(outputs[place].float() for place in places))

    return answers


def live_teacher(networks: Sequence[nn.Module], bf16: bool) -> TeacherLogits:
    """Ask the frozen teacher for every batch: what the reference mode does."""
    (network,) = networks

    def logits(_: Tensor, images: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            answer = network(images).float()
        return answer.clone()  # a normal tensor: autograd refuses to keep inference tensors for the student's backward

    return logits
