"""K networks of one architecture trained together on one device: seeds, temperatures, lams and teachers of a sweep.

A GPU runs a step of one small network hardly faster than a step of several. Three ways to put them side by side give
the same training up to rounding: `grouped` and `bmm` fold them into one network (takd.training.many_layers), and
`branches` leaves them apart and records their steps as parallel branches of one graph. Which is fastest depends on
network, K and device, so it is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from takd.runs.errors import StageFailed
from takd.stage import StageSpec
from takd.training.device import TrainingData
from takd.training.engine import Engine, reference_mode
from takd.training.graphs import Branches, Learners, Outcome, Session, prepare, train_recorded
from takd.training.loop import train
from takd.training.many_layers import Stack, enter, fold, takes_shared_images
from takd.training.objective import changes
from takd.training.progress import Hooks, Progress
from takd.training.recording import Capture, CaptureFailed, CudaCapture, Unrecorded
from takd.training.step import sgd_, sgd_of_many_
from takd.training.streams import draws_in_layers
from takd.training.teachers import TeacherLogits

WAYS = ("grouped", "bmm", "branches")
TRIAL_SECONDS = 0.3  # of measuring per way
_TRIAL_STEPS = 10  # between two looks at the clock
_CHOSEN: dict[tuple[object, ...], str] = {}  # what was fastest, by what it depends on


class Folded:
    """K networks as one, `way` grouped or bmm. The networks' own tensors stay as they are until `adopt`."""

    def __init__(self, networks: Sequence[nn.Module], way: str) -> None:
        self.networks = networks
        states = [dict(network.state_dict()) for network in networks]
        names = [name for name, tensor in states[0].items() if tensor.ndim]  # all but batch norms' counters
        learnt = {name for name, _ in networks[0].named_parameters()}
        self.tensors = {name: torch.cat([state[name] for state in states]) for name in names}
        if way == "bmm":
            self.tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        self.learnt = [name for name in names if name in learnt]
        self.parameters: list[Tensor] = [self.tensors[name].requires_grad_() for name in self.learnt]
        self.buffers = [tensor for name, tensor in self.tensors.items() if name not in learnt]
        self.stack = Stack(len(networks), way, self.tensors)
        self.shared = takes_shared_images(networks[0])
        self.run = fold(networks[0], "", self.stack)

    def forward(self, images: Tensor) -> Tensor:
        return self.run(enter(images, self.stack, self.shared))

    def training(self, mode: bool) -> None:
        self.stack.learns = mode

    def update(self, momenta: Sequence[Tensor], rates: Tensor, stage: StageSpec) -> None:
        if len(rates) == 1:
            sgd_(self.parameters, momenta, rates, stage.recipe)
        else:
            sgd_of_many_(self.parameters, momenta, rates, stage.recipe)

    def pieces(self, tensors: Sequence[Tensor], k: int) -> list[Tensor]:
        return [tensor.detach().unflatten(0, (len(self.networks), -1))[k] for tensor in tensors]

    def adopt(self) -> None:
        """Parameters and statistics of every network become views of the stacked ones: nothing is ever copied back."""
        for k, network in enumerate(self.networks):
            views = dict(zip(self.tensors, self.pieces(list(self.tensors.values()), k), strict=True))
            for name, parameter in network.named_parameters():
                parameter.data = views[name]
            for name, _ in list(network.named_buffers()):
                if name in views:
                    owner, _, own_name = name.rpartition(".")
                    setattr(network.get_submodule(owner), own_name, views[name])


def learners(networks: Sequence[nn.Module], way: str) -> Learners:
    """The networks side by side in one of WAYS; raises many_layers.CannotBeFolded where a module has no rule."""
    return Branches(networks) if way == "branches" else Folded(networks, way)


@dataclass(frozen=True)
class Member:
    """One network of a group: trained in place, and `progress` is carried on in place."""

    network: nn.Module
    stage: StageSpec
    data: TrainingData
    teachers: Sequence[TeacherLogits]
    hooks: Hooks
    progress: Progress


def side_by_side(networks: Sequence[nn.Module], device: torch.device) -> bool:
    """Whether these are trained together: several, on a GPU, none of which needs the device's generator for itself."""
    together = device.type == "cuda" and len(networks) > 1 and not reference_mode()
    return together and not any(map(draws_in_layers, networks))


def train_many(
    members: Sequence[Member],
    *,
    bf16: bool,
    engine: Engine | None = None,
    capture: Capture | None = None,
    ways: Sequence[str] = WAYS,
) -> list[Outcome]:
    """Train networks together for the epochs each still misses; by position the progress or, where a loss did not stay
    finite, the failure, which leaves the others alone.

    The stages may differ in seed, loss, teachers, label noise, peak rate and schedule; anything else raises
    ValueError. Images and validation part are taken from the first. `engine.name` says how it was done; where nothing
    could be recorded `engine` gets a note and each is trained alone. Raises StageStopped when a hook asks to stop.
    """
    _require_alike([member.stage for member in members])
    device = members[0].data.train.pixels.device
    if capture is None:
        capture = CudaCapture(device) if device.type == "cuda" else Unrecorded()
    group = _Group(bf16, engine or Engine(), capture, ways, device)
    failed: dict[int, StageFailed] = {}
    epochs = members[0].stage.recipe.last
    # Checkpoints may be of different epochs: those that lag catch up with the next ones first
    while waiting := [k for k, m in enumerate(members) if k not in failed and m.progress.epochs < epochs]:
        levels = sorted({members[k].progress.epochs for k in waiting})
        chosen = [k for k in waiting if members[k].progress.epochs == levels[0]]
        outcomes = group.train([members[k] for k in chosen], [*levels, epochs][1])
        failed |= {k: out for k, out in zip(chosen, outcomes, strict=True) if isinstance(out, StageFailed)}
    return [failed.get(k, member.progress) for k, member in enumerate(members)]


def _require_alike(stages: Sequence[StageSpec]) -> None:
    shapes = {(s.network, s.data.clean, replace(s.recipe, lr=0.0, schedule="")) for s in stages}
    if len(shapes) != 1:
        raise ValueError("Only stages of one network, recipe and set of images can be trained together.")


@dataclass(frozen=True)
class _Group:
    """How to train members that stand at the same epoch."""

    bf16: bool
    engine: Engine
    capture: Capture
    ways: Sequence[str]
    device: torch.device

    def train(self, members: Sequence[Member], until: int) -> list[Outcome]:
        """Together up to an epoch (0-based, not included); one that has to be trained alone goes to its end."""
        count, name = len(members), members[0].stage.network
        if count == 1 or reference_mode() or any(changes(member.stage.loss) for member in members):
            return [self._alone(member) for member in members]
        started = time.perf_counter()
        try:
            way, session = self._fastest(members)
        except CaptureFailed as error:
            if error.memory:
                self.engine.note(f"{count} x {name} do not fit into memory together, so they are halved")
                half = count // 2
                return self.train(members[:half], until) + self.train(members[half:], until)
            self.engine.note(f"{count} x {name} are trained one by one: no step could be recorded ({error})")
            return [self._alone(member) for member in members]
        self.engine.name = f"{self.capture.name} x {count} ({way})"
        try:
            session.learners.adopt()
            return train_recorded(session, [m.hooks for m in members], [m.progress for m in members], until, started)
        finally:
            session.close()

    def _fastest(self, members: Sequence[Member]) -> tuple[str, Session]:
        stage = members[0].stage
        shared = len({member.stage.seed for member in members}) == 1
        question = (stage.network, stage.data.classes, stage.recipe.batch, len(members), shared, self.bf16, self.device)
        known = _CHOSEN.pop(question, None)  # forgotten until it has worked again
        ways = [known] if known is not None and known in self.ways else self.ways
        way, session = autotune(lambda way: self._session(members, way), ways, self.device, self.engine.note)
        _CHOSEN[question] = way
        return way, session

    def _session(self, members: Sequence[Member], way: str) -> Session:
        def build() -> Session:
            return Session(
                learners([member.network for member in members], way),
                [member.stage for member in members],
                [member.data for member in members],
                [member.teachers for member in members],
                [member.progress for member in members],
                self.bf16,
            )

        return prepare(build, self.capture, self.engine.note)

    def _alone(self, member: Member) -> Outcome:
        try:
            return train(
                member.network,
                member.stage,
                member.data,
                member.teachers,
                bf16=self.bf16,
                hooks=member.hooks,
                progress=member.progress,
                engine=self.engine,
            )
        except StageFailed as error:
            return error


def autotune(
    build: Callable[[str], Session],
    ways: Sequence[str],
    device: torch.device,
    note: Callable[[str], None],
    seconds: float = TRIAL_SECONDS,
) -> tuple[str, Session]:
    """The fastest of some ways on this device and its recorded session, everything as before the trial.

    A way that cannot be built or recorded is left out with a note; raises CaptureFailed where none is left. One way
    alone is not timed.
    """
    best: tuple[float, str, Session] | None = None
    failure = CaptureFailed("there is no way to try")
    for way in ways:
        try:
            session = build(way)
            speed = steps_per_second(session, device, seconds) if len(ways) > 1 else 1.0
        except CaptureFailed as error:
            failure = CaptureFailed(f"{way}: {error}", memory=error.memory or failure.memory)
            note(f"left out: {failure}")
            continue
        if best is None:
            best = speed, way, session
        elif speed > best[0]:
            best[2].close()
            best = speed, way, session
        else:
            session.close()
    if best is None:
        raise failure
    return best[1], best[2]


def steps_per_second(session: Session, device: torch.device, seconds: float) -> float:
    """Speed of a session's recorded step; the session and its networks are left as they were."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda _: None
    some = min(_TRIAL_STEPS, session.feed.steps)
    done = 0
    with session.kept():
        session.training.replay()
        wait(device)
        began = time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds or not done:
            session.feed.rewind()
            for _ in range(some):
                session.training.replay()
            wait(device)
            done += some
    return done / spent
