"""Links and a chain of CNNs: the cost of an epoch of 50,000 images, engine against plain script and library."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from benchmarks import baselines, engine
from benchmarks.clock import NOTHING, Spent, in_turns, spent_on
from benchmarks.gate import cnn_gate, joint, sub_models_gate
from benchmarks.images import Source, small_set
from benchmarks.report import Fact, Gate, Ratio, Row
from takd.stage import StageSpec

IMAGES, TESTS = 50_000, 10_000  # per epoch, trained on and evaluated
EPOCHS = 160  # of the published trainings: a teacher is asked once in so many
BATCH = 128
ENGINE, SCRIPT, WORKERS, LIBRARY = "engine", "plain script", "plain script, 2 workers", "torchdistill"
LOOP = "torch loop"
PASS = "engine: teacher's answers, once"

COUNTED = (
    f"an epoch is training on {IMAGES:,} images in batches of {BATCH} and evaluating {TESTS:,}, as many for everybody;",
    "it is measured on the batches named with each row and multiplied. The first batches of the baselines warm up; the",
    "engine's epoch is the difference of a longer and a shorter training: what is done once per training is not in it",
)


@dataclass(frozen=True)
class Options:
    """What a row needs to know."""

    source: Source
    rounds: int
    quick: bool
    evaluation: bool
    device: str = "cpu"


@dataclass(frozen=True)
class _Link:
    """A student and its teacher, with everything that was prepared for measuring them."""

    student: StageSpec
    teacher: StageSpec | None
    bare: Path | None  # the store with the teacher
    asked: Path | None  # the same with the teacher's answers
    scale: float  # from the measured images to IMAGES
    images: str  # what they are
    evaluation: bool
    device: str

    def epochs(self, count: int) -> list[StageSpec]:
        return [replace(self.student, recipe=engine.recipe(count))]

    def ours(self, more: int) -> Spent:
        """An epoch of the engine, the teacher's answers known."""
        cached = [] if self.asked is None else [self.asked]
        whole = engine.epoch_cost(self.epochs, more, cached, self.device)
        share = 1.0 if self.evaluation else engine.training_share(self.epochs(1 + more)[0], cached, self.device)
        return whole * (share * self.scale)

    def answers(self) -> Spent:
        """What asking the teacher about every image adds to a training."""
        if self.bare is None or self.asked is None:
            return NOTHING
        with_pass = engine.cost(self.epochs(1), [self.bare], self.device)
        return (with_pass - engine.cost(self.epochs(1), [self.asked], self.device)) * self.scale

    def theirs(self, make: Callable[..., baselines.Baseline], workers: int = 0) -> Spent:
        """An epoch of a baseline."""
        network = None if self.bare is None or self.teacher is None else engine.network_of(self.bare, self.teacher)
        rival = make(self.student, network, engine.arrays_of(self.student), workers, self.device)
        batches = self.student.data.train_images // BATCH
        cost = _steps(rival.batches(0), batches)
        if self.evaluation:
            cost = cost + _steps(rival.evaluation(), batches * TESTS // IMAGES)
        return cost * self.scale


def _steps(steps: object, count: int) -> Spent:
    return spent_on(steps, min(2, count // 2), count)  # type: ignore[arg-type]


def _link(options: Options, folder: Path, teacher: str | None, student: str, batches: int, classes: int) -> _Link:
    train = batches * BATCH
    data, what = small_set(options.source, classes, train, train * TESTS // IMAGES)
    boss = None if teacher is None else engine.stage(teacher, data, engine.recipe(EPOCHS))
    pupil = engine.stage(student, data, engine.recipe(EPOCHS), boss)
    bare = asked = None
    if boss is not None:
        bare = folder / f"{teacher}-{student}"
        engine.untrained(boss, bare)
        asked = engine.answers_remembered(bare, folder / f"{teacher}-{student}-asked", pupil, options.device)
    return _Link(pupil, boss, bare, asked, IMAGES / train, what, options.evaluation, options.device)


def link_row(
    options: Options, name: str, teacher: str, student: str, batches: int, targets: tuple[float, float], limits: str
) -> Row:
    """One student of one teacher, per epoch."""
    small = ("plain-4", "plain-2") if student.startswith("plain") else ("resnet-14", "resnet-8")
    gate = gate_for(options, *small)
    batches = 5 if options.quick else batches
    with tempfile.TemporaryDirectory(prefix="takd-bench-") as folder:
        link = _link(options, Path(folder), teacher, student, batches, 10)
        contenders: dict[str, Callable[[], Spent]] = {
            ENGINE: lambda: link.ours(1 if options.quick else 4),
            PASS: link.answers,
            SCRIPT: lambda: link.theirs(baselines.PlainScript),
        }
        ratios = [Ratio(ENGINE, SCRIPT, targets[0])]
        if not options.quick:
            contenders[WORKERS] = lambda: link.theirs(baselines.PlainScript, 2)
            ratios.append(Ratio(ENGINE, WORKERS))
        problem = baselines.library_problem()
        if problem is None:
            contenders[LIBRARY] = lambda: link.theirs(baselines.Library)
            ratios.append(Ratio(ENGINE, LIBRARY, targets[1]))
        times = in_turns(contenders, options.rounds)
        made = engine.cost_and_engines(link.epochs(1), [link.asked] if link.asked else [], options.device)[1]
    notes = [f"measured on {batches} batches of {link.images}; {limits}; engine: {made}"]
    if problem is not None:
        notes.append(problem)
    title = f"link {teacher} -> {student}, cached answers"
    return Row(name, title, _unit(options), times, ratios, [_pass_share(times)], gate, notes)


def chain_row(options: Options) -> Row:
    """A whole chain with the teacher's own training: an epoch of each of its three trainings."""
    gate = gate_for(options, "plain-4", "plain-2")
    batches = 5 if options.quick else 20
    hops = ((None, "plain-10"), ("plain-10", "plain-4"), ("plain-4", "plain-2"))
    with tempfile.TemporaryDirectory(prefix="takd-bench-") as folder:
        links = [_link(options, Path(folder), teacher, student, batches, 10) for teacher, student in hops]

        def ours() -> Spent:
            total = NOTHING
            for link, more in zip(links, (1, 1, 1) if options.quick else (1, 2, 4), strict=True):
                total = total + link.ours(more) + link.answers() * (1 / EPOCHS)
            return total

        def theirs(workers: int) -> Spent:
            total = NOTHING
            for link in links:
                total = total + link.theirs(baselines.PlainScript, workers)
            return total

        contenders: dict[str, Callable[[], Spent]] = {ENGINE: ours, SCRIPT: lambda: theirs(0)}
        ratios = [Ratio(ENGINE, SCRIPT, 8.0)]
        if not options.quick:
            contenders[WORKERS] = lambda: theirs(2)
            ratios.append(Ratio(ENGINE, WORKERS))
        times = in_turns(contenders, options.rounds)
    notes = [
        f"measured on {batches} batches of {links[0].images}; counted limit x15;",
        f"the engine's figure holds 1/{EPOCHS} of asking each teacher once",
    ]
    title = "chain plain-10 > plain-4 > plain-2 with the teacher's own training"
    return Row("chain", title, _unit(options) + " of each of the three trainings", times, ratios, [], gate, notes)


def sub_models_row(options: Options) -> Row:
    """All widths of one slimmable network in every step, by the labels alone."""
    network, batches = "slim-plain-4", 5 if options.quick else 20
    train = batches * BATCH
    scale = IMAGES / train
    gate = sub_models_gate(options.source, network, options.quick)
    data, what = small_set(options.source, 10, train, train * TESTS // IMAGES)

    def ours() -> Spent:
        return engine.epoch_cost(lambda epochs: [joint(network, data, epochs)], 1 if options.quick else 3) * scale

    def theirs() -> Spent:
        one = joint(network, data, 1)
        rival = baselines.JointLoop(one, None, engine.arrays_of(one))
        return (_steps(rival.batches(0), batches) + _steps(rival.evaluation(), 1)) * scale

    times = in_turns({ENGINE: ours, LOOP: theirs}, options.rounds)
    notes = [f"measured on {batches} batches of {what}, evaluated on the largest width"]
    title = f"all widths of {network}, taught by the labels"
    return Row("sub-models", title, _unit(options), times, [Ratio(ENGINE, LOOP)], [], gate, notes)


def _pass_share(times: dict[str, list[Spent]]) -> Fact:
    pairs = zip(times[PASS], times[ENGINE], strict=True)
    shares = [100 * one.cpu / EPOCHS / ours.cpu for one, ours in pairs if ours.cpu > 0]
    return Fact(f"answers, as a share of {EPOCHS} epochs of the engine", shares, "%")


def _unit(options: Options) -> str:
    return "seconds per epoch" if options.evaluation else "seconds per epoch, nothing evaluated"


def gate_for(options: Options, teacher: str, student: str) -> Gate:
    """The gate of a family, run once."""
    return _gate(options.source, teacher, student, options.device, options.quick)


@cache
def _gate(source: Source, teacher: str, student: str, device: str, quick: bool) -> Gate:
    return cnn_gate(source, teacher, student, device, quick)
