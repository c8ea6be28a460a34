"""K networks trained together: each must become what it becomes alone, in all three ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from takd.networks.resnet import BasicBlock
from takd.runs.errors import StageFailed, StageStopped
from takd.stage import LossSpec, StageSpec
from takd.training import graphs, many
from takd.training.checkpoints import checkpoint_bytes, load_checkpoint
from takd.training.device import Images, TrainingData
from takd.training.engine import Engine
from takd.training.graphs import Session, prepare
from takd.training.loop import train
from takd.training.many import WAYS, Folded, Member, autotune, learners, side_by_side, train_many
from takd.training.many_layers import CannotBeFolded, takes_shared_images
from takd.training.progress import Hooks, Progress
from takd.training.recording import Capture, CaptureFailed, Recording, Unrecorded
from takd.training.streams import initial_network
from takd.training.teachers import StoredTeacher, TeacherLogits, live_teacher

from .conftest import make_stage
from .tape import TapeCapture
from .test_graphs import distance, equal, numbers, photographs

IMAGES, BATCH = 12, 4
LOSSES = [LossSpec("kd", 4.0, 0.9), LossSpec("ce", None, 0.0), LossSpec("kd", 1.0, 0.5)]
EXACT = {"rtol": 1e-6, "atol": 1e-9}  # of float64


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "_CHOSEN", {})


def data_of(k: int, dtype: torch.dtype = torch.float64, device: str = "cpu", images: int = IMAGES) -> TrainingData:
    """The same images for everyone, labels of one's own."""
    train_part, validation = photographs(images, 1), photographs(10, 2)
    own = torch.randint(0, 10, (images,), generator=torch.Generator().manual_seed(100 + k))
    return TrainingData(
        Images(train_part.pixels.to(device, dtype), own.to(device)),
        Images(validation.pixels.to(device, dtype), validation.labels.to(device)),
        (0.0,) * 3,
        (1.0,) * 3,
        1.0,
    )


def stages_of(name: str, **changes: object) -> list[StageSpec]:
    """Three different stages: seed, loss, T, lam and peak rate."""
    settings = {"epochs": 2, "batch": BATCH, "augmentation": "crop-flip", "schedule": "one-cycle", **changes}
    rates = [0.02, 0.01, 0.005]
    return [
        make_stage(network=name, seed=k, loss=loss, **{"lr": rates[k], **settings}) for k, loss in enumerate(LOSSES)
    ]


def test_networks_that_draw_are_not_trained_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAKD_ENGINE", raising=False)
    plain, mobile = (initial_network(name, 10, 0) for name in ("plain-2", "imagenet-mobilenet-50"))
    gpu = torch.device("cuda")
    assert side_by_side([plain, plain], gpu)
    assert not side_by_side([plain], gpu) and not side_by_side([plain, plain], torch.device("cpu"))
    assert not side_by_side([mobile, mobile], gpu)


def teachers_of(k: int, dtype: torch.dtype, device: str = "cpu") -> list[TeacherLogits]:
    if LOSSES[k].name == "ce":
        return []
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(k), dtype=dtype) * 3
    return [StoredTeacher(logits.to(device))]


def network_of(stage: StageSpec, dtype: torch.dtype, device: str = "cpu") -> nn.Module:
    network = initial_network(stage.network, stage.data.classes, stage.seed)
    return network.to(device, dtype).to(memory_format=torch.channels_last)


def group(
    stages: list[StageSpec], dtype: torch.dtype = torch.float64, device: str = "cpu", hooks: Hooks | None = None
) -> list[Member]:
    return [
        Member(
            network_of(stage, dtype, device),
            stage,
            data_of(k, dtype, device),
            teachers_of(k, dtype, device),
            hooks or Hooks(),
            Progress(),
        )
        for k, stage in enumerate(stages)
    ]


@cache
def alone(stage: StageSpec, k: int, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Member:
    member = replace(group([stage], dtype, device)[0], data=data_of(k, dtype, device), teachers=())
    heard = teachers_of(k, dtype, device)
    train(
        member.network,
        stage,
        member.data,
        heard,
        bf16=False,
        hooks=Hooks(),
        progress=member.progress,
    )
    return member


def assert_alike(member: Member, own: Member, rtol: float, atol: float) -> None:
    """Loss trajectory, weights, batch norm's statistics and counts, momentum."""
    for ours, theirs in zip(numbers(member.progress), numbers(own.progress), strict=True):
        assert ours == pytest.approx(theirs, rel=10 * rtol, abs=10 * atol)
    state = own.network.state_dict()
    for name, tensor in member.network.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=rtol, atol=atol, msg=lambda m: f"{name}: {m}")  # noqa: B023
    for ours, theirs in zip(member.progress.momentum or [], own.progress.momentum or [], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=10 * atol)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["plain-2", "plain-4", "plain-8", "resnet-8"])
def test_each_of_many_is_what_it_is_alone(name: str, way: str) -> None:
    """Own labels, order, views, teacher, T, lam and learning rate; two epochs of three steps in float64."""
    stages = stages_of(name)
    members, engine = group(stages), Engine()
    outcomes = train_many(members, bf16=False, engine=engine, ways=[way])
    assert engine.name == f"loop x 3 ({way})"
    for k, member in enumerate(members):
        assert outcomes[k] is member.progress
        assert member.progress.epochs == 2
        assert_alike(member, alone(stages[k], k), **EXACT)


@pytest.mark.parametrize("way", WAYS)
def test_each_of_many_is_what_it_is_alone_in_float32(way: str) -> None:
    """To a thousandth of the loss: sums in another order, and max-pools that choose another of two equals."""
    stages = stages_of("plain-4")
    members = group(stages, torch.float32)
    train_many(members, bf16=False, ways=[way])
    for k, member in enumerate(members):
        own = alone(stages[k], k, torch.float32)
        assert distance(member.network, own.network) < 1e-2
        losses = [row["loss"] for row in own.progress.rows]
        assert [row["loss"] for row in member.progress.rows] == pytest.approx(losses, rel=1e-3)


@pytest.mark.parametrize("way", WAYS)
def test_a_recording_of_many_is_what_is_done_step_by_step(way: str) -> None:
    """Tables, counters and rates of many, replayed from a tape."""
    stages = stages_of("plain-2")
    taped, stepped = group(stages), group(stages)
    engine = Engine()
    train_many(taped, bf16=False, engine=engine, capture=TapeCapture(), ways=[way])
    train_many(stepped, bf16=False, ways=[way])
    assert engine.name == f"tape x 3 ({way})"
    for a, b in zip(taped, stepped, strict=True):
        assert equal(a.network, b.network)
        assert numbers(a.progress) == numbers(b.progress)


@pytest.mark.parametrize("way", WAYS)
def test_networks_of_one_seed_that_share_their_images(way: str) -> None:
    """T and lam of a sweep, and one live teacher for all."""
    losses = [LossSpec("kd", t, lam) for t, lam in ((1.0, 0.2), (4.0, 0.9), (2.0, 1.0))]
    stages = [replace(stages_of("plain-2")[0], loss=loss) for loss in losses]
    teacher = live_teacher([initial_network("plain-4", 10, 9).double().eval()], False)
    together = live_teacher([initial_network("plain-4", 10, 9).double().eval()], False)
    members = [replace(member, teachers=[together], data=data_of(0)) for member in group(stages)]
    train_many(members, bf16=False, ways=[way])
    for member in members:
        own = replace(member, network=network_of(member.stage, torch.float64), progress=Progress())
        train(own.network, own.stage, own.data, [teacher], bf16=False, hooks=Hooks(), progress=own.progress)
        # the live teacher's answers are in float32
        assert_alike(member, own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", ["grouped", "bmm"])
def test_gradients_of_one_do_not_depend_on_the_others(way: str) -> None:
    networks = [network_of(stage, torch.float64) for stage in stages_of("plain-8")]
    folded = learners(networks, way)
    images = torch.randn(3, 4, 32, 32, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    folded.forward(images)[1].square().sum().backward()
    gradients = [parameter.grad for parameter in folded.parameters]
    assert all(gradient is not None for gradient in gradients)
    networks[1](images[1].permute(0, 3, 1, 2)).square().sum().backward()
    for k in range(3):
        pieces = folded.pieces([g for g in gradients if g is not None], k)
        for piece, parameter in zip(pieces, networks[k].parameters(), strict=True):
            expected = torch.zeros_like(parameter) if k != 1 else parameter.grad
            torch.testing.assert_close(piece, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("way", ["grouped", "bmm"])
def test_folding_leaves_networks_alone_until_they_adopt(way: str) -> None:
    stages = stages_of("resnet-8")
    networks = [network_of(stage, torch.float32) for stage in stages]
    folded = learners(networks, way)
    with torch.no_grad():
        for tensor in (*folded.parameters, *folded.buffers):
            tensor.add_(1.0)
    for network, stage in zip(networks, stages, strict=True):
        assert equal(network, network_of(stage, torch.float32))
    folded.adopt()
    for network, stage in zip(networks, stages, strict=True):
        before = network_of(stage, torch.float32).state_dict()
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, before[name] + 1 if tensor.ndim else before[name])
    # and from now on they change with the stack
    with torch.no_grad():
        folded.parameters[0].zero_()
    assert all(not next(network.parameters()).any() for network in networks)


@pytest.mark.parametrize("way", WAYS)
def test_one_that_diverges_leaves_the_others_alone(way: str) -> None:
    stages = stages_of("plain-2", schedule="constant")
    stages[1] = replace(stages[1], recipe=replace(stages[1].recipe, lr=1e30))
    members = group(stages)
    outcomes = train_many(members, bf16=False, ways=[way])
    failure = outcomes[1]
    assert isinstance(failure, StageFailed)
    assert failure.cause_class == "diverged"
    assert members[1].progress.epochs < 2
    for k in (0, 2):
        assert outcomes[k] is members[k].progress
        assert_alike(members[k], alone(stages[k], k), **EXACT)


def test_all_diverge() -> None:
    stages = [replace(s, recipe=replace(s.recipe, lr=1e30)) for s in stages_of("plain-2", schedule="constant")]
    assert all(isinstance(out, StageFailed) for out in train_many(group(stages), bf16=False, ways=["grouped"]))


@pytest.mark.parametrize("way", WAYS)
def test_a_stopped_group_goes_on_from_checkpoints_of_different_epochs(way: str) -> None:
    stages = stages_of("plain-2", epochs=3)
    whole = group(stages)
    train_many(whole, bf16=False, ways=[way])
    kept: dict[int, list[bytes]] = {k: [] for k in range(3)}
    asked = iter(range(100))
    members = group(stages)
    for k, member in enumerate(members):

        def epoch_done(progress: Progress, k: int = k, network: nn.Module = member.network) -> None:
            kept[k].append(checkpoint_bytes(network, progress))

        hooks = Hooks(stop=lambda: next(asked) >= 21, epoch_done=epoch_done)
        members[k] = replace(member, hooks=hooks)
    with pytest.raises(StageStopped):
        train_many(members, bf16=False, ways=[way])  # each of the three is asked before every step
    resumed = group(stages)
    for k, member in enumerate(resumed):
        raw = kept[k][0 if k == 1 else 1]
        resumed[k] = replace(member, progress=load_checkpoint(member.network, raw))
    assert [member.progress.epochs for member in resumed] == [2, 1, 2]
    train_many(resumed, bf16=False, ways=[way])
    for a, b in zip(resumed, whole, strict=True):
        assert_alike(a, b, **EXACT)


def test_what_the_outside_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "LOOK", 4)
    rows: list[tuple[int, int]] = []
    reports: list[tuple[int, dict[str, float]]] = []
    members = group(stages_of("plain-2", batch=1, epochs=1))
    for k, member in enumerate(members):
        hooks = Hooks(
            report=lambda row, k=k: reports.append((k, row)), epoch_done=lambda p, k=k: rows.append((k, p.epochs))
        )
        members[k] = replace(member, hooks=hooks)
    train_many(members, bf16=False, ways=["grouped"])
    assert rows == [(0, 1), (1, 1), (2, 1)]
    assert [(k, row["step"], row["steps"]) for k, row in reports[:3]] == [(0, 4, 12), (1, 4, 12), (2, 4, 12)]
    last = [member.progress.rows[-1] for member in members]
    assert last[1]["loss_kl"] == 0.0
    assert last[0]["loss_kl"] > 0.0
    assert last[0]["seconds"] == last[2]["seconds"] > 0.0


def test_unlike_stages_are_refused() -> None:
    stages = stages_of("plain-2")
    stages[1] = replace(stages[1], network="plain-4")
    with pytest.raises(ValueError, match="together"):
        train_many(group(stages), bf16=False)
    stages = stages_of("plain-2")
    stages[1] = replace(stages[1], recipe=replace(stages[1].recipe, weight_decay=1.0))
    with pytest.raises(ValueError, match="together"):
        train_many(group(stages), bf16=False)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.BatchNorm2d(4, momentum=None),
        nn.Flatten(2),
        nn.Tanh(),
    ],
    ids=lambda module: type(module).__name__,
)
def test_a_module_without_a_rule_is_trained_as_branches(module: nn.Module) -> None:
    with pytest.raises(CannotBeFolded):
        Folded([nn.Sequential(module), nn.Sequential(module)], "grouped")
    assert learners([nn.Sequential(nn.Linear(2, 2), module)], "branches")


def test_shared_images_need_a_convolution_first() -> None:
    assert takes_shared_images(initial_network("resnet-8", 10, 0))
    assert takes_shared_images(nn.Sequential(BasicBlock(3, 8, 1)))
    assert not takes_shared_images(initial_network("mlp-8", 10, 0))
    networks = [initial_network("mlp-8", 10, seed) for seed in range(3)]
    images = torch.randn(1, 5, 8, 8, 1)
    expected = torch.stack([network(images[0].permute(0, 3, 1, 2)) for network in networks])
    for way in WAYS:
        torch.testing.assert_close(learners(networks, way).forward(images), expected)


class Slow:
    """A recording that sleeps, by the clock of the test."""

    def __init__(self, function: Callable[[], None], clock: list[float], seconds: float) -> None:
        self.function, self.clock, self.seconds, self.closed = function, clock, seconds, False

    def replay(self) -> None:
        self.function()
        self.clock[0] += self.seconds

    def close(self) -> None:
        self.closed = True


class Paced:
    """Records functions that take given times, or fail where the time is None."""

    name = "paced"

    def __init__(self, clock: list[float], seconds: list[float | None]) -> None:
        self.clock, self.seconds, self.made = clock, seconds, []

    def rehearse(self, function: Callable[[], None]) -> None: ...

    def record(self, function: Callable[[], None]) -> Recording:
        seconds = self.seconds[len(self.made) // 2]  # a step and a validation each
        if seconds is None:
            self.seconds.remove(None)
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.made.append(Slow(function, self.clock, seconds))
        return self.made[-1]


def test_autotune_takes_the_fastest_and_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(many.time, "perf_counter", lambda: clock[0])
    stages = stages_of("plain-2")
    networks = [network_of(stage, torch.float32) for stage in stages]
    capture, notes = Paced(clock, [0.2, 0.1, None, 0.3]), []

    def build(way: str) -> Session:
        data = [data_of(k, torch.float32) for k in range(3)]
        progress = [Progress() for _ in stages]
        real = "branches" if way == "short of memory" else way
        return prepare(
            lambda: Session(learners(networks, real), stages, data, [[], [], []], progress, False),
            capture,
            notes.append,
        )

    ways = ["grouped", "bmm", "short of memory", "branches"]
    way, session = autotune(build, ways, torch.device("cpu"), notes.append, 0.3)
    assert way == "bmm"
    assert [made.closed for made in capture.made] == [True, True, False, False, True, True]
    assert len(notes) == 1 and "short of memory" in notes[0]
    for network, stage, k in zip(networks, stages, range(3), strict=True):
        assert equal(network, network_of(stage, torch.float32))
        own = [p.detach() for p in network.parameters()]
        for piece, parameter in zip(session.learners.pieces(session.learners.parameters, k), own, strict=True):
            assert torch.equal(piece, parameter)
    with pytest.raises(CaptureFailed) as caught:
        autotune(build, [], torch.device("cpu"), notes.append)
    assert not caught.value.memory


class NeverMore:
    """Runs out of memory where more than `most` networks are trained together, or cannot record at all."""

    name = "loop"

    def __init__(self, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
        original = many.learners

        def build(networks: list[nn.Module], way: str) -> object:
            if len(networks) > most:
                raise torch.OutOfMemoryError("CUDA out of memory") if most else RuntimeError("cannot be captured")
            return original(networks, way)

        monkeypatch.setattr(many, "learners", build)

    def rehearse(self, function: Callable[[], None]) -> None: ...

    def record(self, function: Callable[[], None]) -> Recording:
        return Unrecorded(function)


@pytest.mark.parametrize("most", [2, 0])
def test_too_many_are_halved_and_what_cannot_be_recorded_is_trained_alone(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = stages_of("plain-2", epochs=1)
    members, notes = group(stages), []
    capture: Capture = NeverMore(most, monkeypatch)
    engine = Engine(notes.append)
    train_many(members, bf16=False, engine=engine, capture=capture, ways=["grouped"])
    assert any(("halved" if most else "one by one") in note for note in notes)
    for k, member in enumerate(members):
        assert_alike(member, alone(stages[k], k), **EXACT)
    assert engine.name == ("loop x 2 (grouped)" if most else "loop")


def test_the_fastest_way_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[list[str]] = []
    original = many.autotune

    def spy(build: Callable[[str], Session], ways: list[str], *rest: object) -> tuple[str, Session]:
        tried.append(list(ways))
        return original(build, ways[-1:], *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(many, "autotune", spy)
    for _ in range(2):
        train_many(group(stages_of("plain-2", epochs=1)), bf16=False, ways=["grouped", "bmm"])
    assert tried == [["grouped", "bmm"], ["bmm"]]


def test_the_reference_mode_trains_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_ENGINE", "reference")
    engine, members = Engine(), group(stages_of("plain-2", epochs=1))
    train_many(members, bf16=False, engine=engine)
    assert engine.name == "reference"
    assert all(member.progress.epochs == 1 for member in members)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> str:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return "cuda"


def loop_on_gpu(stage: StageSpec, k: int, monkeypatch: pytest.MonkeyPatch) -> Member:
    monkeypatch.setenv("TAKD_ENGINE", "reference")
    member = alone(stage, k, torch.float32, "cuda")
    monkeypatch.delenv("TAKD_ENGINE")
    return member


@pytest.mark.gpu
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["plain-2", "plain-8", "resnet-8"])
def test_many_in_one_graph_are_what_they_are_alone(
    gpu: str, name: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp32 without TF32, to 1e-3 of the loss: other algorithms add in another order."""
    stages = stages_of(name)
    members, notes = group(stages, torch.float32, gpu), []
    engine = Engine(notes.append)
    train_many(members, bf16=False, engine=engine, ways=[way])
    assert (engine.name, notes) == (f"cuda graph x 3 ({way})", [])
    for k, member in enumerate(members):
        own = loop_on_gpu(stages[k], k, monkeypatch)
        for ours, theirs in zip(member.progress.rows, own.progress.rows, strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        assert distance(member.network, own.network) < 1e-2


@pytest.mark.gpu
@pytest.mark.parametrize("way", WAYS)
def test_one_that_diverges_on_the_gpu_leaves_the_others_alone(
    gpu: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A convolution in groups must not let one group's NaN into another's sums."""
    stages = stages_of("plain-2", schedule="constant")
    stages[1] = replace(stages[1], recipe=replace(stages[1].recipe, lr=1e30))
    members = group(stages, torch.float32, gpu)
    outcomes = train_many(members, bf16=False, ways=[way])
    assert isinstance(outcomes[1], StageFailed)
    for k in (0, 2):
        own = loop_on_gpu(stages[k], k, monkeypatch)
        assert members[k].progress.rows[-1]["loss"] == pytest.approx(own.progress.rows[-1]["loss"], rel=1e-3)


@pytest.mark.gpu
def test_autotune_on_the_gpu_tries_all_ways(gpu: str) -> None:
    engine = Engine()
    train_many(group(stages_of("plain-2"), torch.float32, gpu), bf16=True, engine=engine)
    assert engine.name in {f"cuda graph x 3 ({way})" for way in WAYS}
