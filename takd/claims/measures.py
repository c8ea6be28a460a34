"""Measures that several claims are made of, each for a setting's own ladder. Names of the arms, nothing measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, pairwise

from takd.claims.claim import MARGIN, Effect, Line, Measure
from takd.claims.settings import Setting
from takd.data.table import DATASETS
from takd.methods.options import Value, take_options
from takd.methods.table import METHODS
from takd.networks.table import capacity, stage_shapes, sub_models
from takd.plan import Arm

NATS = 0.02  # of entropy or KL: a difference within it counts as none
KAPPA = 0.01
COUNTS = 0.001  # 0.1 points: an optimism below it does not count
PUBLISHED = "as published: best epoch on test images"  # what is different about `as_published`
AS_LONG = "against direct KD that trains as many epochs as both together"  # what is different about `longer_instead`


def scratch(network: str, **reading: str) -> Line:
    """A network trained alone."""
    return Line(Arm("scratch", (network,)), **reading)  # type: ignore[arg-type]


def kd(teacher: str, student: str, **options: Value) -> Line:
    """Direct KD."""
    return Line(Arm("kd", (teacher, student), _sorted(options)))


def chain(path: Sequence[str], method: str = "takd", **options: Value) -> Line:
    """A method along a path, teacher first."""
    return Line(Arm(method, tuple(path), _sorted(options)))


def _sorted(options: dict[str, Value]) -> tuple[tuple[str, Value], ...]:
    return tuple(sorted(options.items()))


def minus(one: Line, other: Line) -> Effect:
    """one - other."""
    return ((1.0, one), (-1.0, other))


def effect(one: Line, other: Line, **more: object) -> Measure:
    """A single difference."""
    return Measure("effect", (minus(one, other),), **more)  # type: ignore[arg-type]


def doublings(network: str, setting: Setting) -> float:
    """log2 of a network's multiply-accumulates."""
    return math.log2(capacity(network, classes(setting)).macs)


def classes(setting: Setting) -> int:
    return DATASETS[setting.spec.dataset].classes


def gap(setting: Setting) -> Measure:
    """The best student of a smaller teacher minus the largest teacher's."""
    *smaller, largest = [((1.0, kd(t, setting.student)),) for t in reversed(setting.ladder[:-1])]
    return Measure("best against best", tuple(smaller), (largest,))


def rise_before(setting: Setting) -> Measure:
    """The best student of a larger teacher minus the smallest teacher's."""
    *larger, smallest = [((1.0, kd(t, setting.student)),) for t in setting.ladder[:-1]]
    return Measure("best against best", tuple(larger), (smallest,))


def teachers_grow(setting: Setting) -> Measure:
    """The weakest step from one teacher to the next larger, each trained alone."""
    steps = pairwise(setting.ladder[:-1])
    return Measure("least", tuple(minus(scratch(large), scratch(small)) for large, small in steps))


def middle_students(setting: Setting) -> Measure:
    """KD's gain for the best student in the middle minus its gain for the best one at the ends."""
    students = setting.ladder[1:]
    gains = [minus(kd(setting.teacher, s), scratch(s)) for s in students]
    return Measure("best against best", tuple(gains[1:-1]), (gains[0], gains[-1]))


def one_assistant(setting: Setting) -> Measure:
    return effect(chain((setting.teacher, setting.assistant, setting.student)), kd(setting.teacher, setting.student))


def as_published(measure: Callable[[Setting], Measure]) -> Callable[[Setting], Measure]:
    """A measure of taught students with the released code's mistakes on every side; DGKD adds its terms up there."""

    def changed(setting: Setting) -> Measure:
        found = measure(setting)
        return replace(found, effects=_published(found.effects), others=_published(found.others))

    return changed


def _published(effects: Sequence[Effect]) -> tuple[Effect, ...]:
    def faulty(line: Line) -> Line:
        options = _sorted({**dict(line.arm.options), "protocol": "published"})
        return replace(line, arm=replace(line.arm, options=options))

    return tuple(tuple((weight, faulty(line)) for weight, line in effect) for effect in effects)


def any_assistant(setting: Setting) -> Measure:
    """The gain of the weakest single assistant."""
    direct = kd(setting.teacher, setting.student)
    return Measure("least", tuple(minus(line, direct) for line in single_assistants(setting)))


def single_assistants(setting: Setting) -> list[Line]:
    return [chain((setting.teacher, size, setting.student)) for size in setting.ladder[1:-1]]


def midpoint(setting: Setting) -> Measure:
    """The accuracy rule's assistant minus the size rule's."""
    effects: tuple[Effect, ...] = tuple(((1.0, line),) for line in single_assistants(setting))
    return Measure("midpoint", effects, alone=tuple(scratch(name) for name in setting.ladder))


def full_path(setting: Setting) -> Measure:
    """The longest path minus the best of the shorter ones, direct KD among them."""
    *shorter, longest = paths(setting)
    return Measure("best against best", (((1.0, longest),),), tuple(((1.0, line),) for line in shorter))


def paths(setting: Setting) -> list[Line]:
    """Every path from teacher to student through `inside`, short to long."""
    found = [kd(setting.teacher, setting.student)]
    for length in range(1, len(setting.inside) + 1):
        found += [chain((setting.teacher, *some, setting.student)) for some in combinations(setting.inside, length)]
    return found


def long_path(setting: Setting) -> tuple[str, ...]:
    return (setting.teacher, *setting.inside, setting.student)


def against_losses(lines: Sequence[str]) -> Callable[[Setting], Measure]:
    """The chain minus the best of direct KD and other ways to listen to the same teacher."""

    def measure(setting: Setting) -> Measure:
        ways = [kd(setting.teacher, setting.student), *(remedy(name, setting.teacher, setting) for name in lines)]
        rivals = tuple(((1.0, way),) for way in ways)
        taught = chain((setting.teacher, setting.assistant, setting.student))
        return Measure("best against best", (((1.0, taught),),), rivals)

    return measure


_EQUAL: dict[str, dict[str, Value]] = {name: {"scale": "equal"} for name in ("dkd", "ls")}


def remedy(method: str, teacher: str, setting: Setting) -> Line:
    """Another loss between the answers; those that pull harder than KD are brought to its scale. DIST as published,
    at T = 1."""
    line = chain((teacher, setting.student), method, **_EQUAL.get(method, {}))
    return Line(line.arm, (("temperature", 1.0),)) if method == "dist" else line


def flatter_slope(method: str) -> Callable[[Setting], Measure]:
    """How much more a remedy's student gains per doubling of the teacher than KD's."""

    def measure(setting: Setting) -> Measure:
        teachers = setting.ladder[:-1]
        effects = tuple(minus(remedy(method, t, setting), kd(t, setting.student)) for t in teachers)
        return Measure("slope", effects, x=tuple(doublings(t, setting) for t in teachers), margin=0.001)

    return measure


def flatter(setting: Setting) -> Measure:
    """How much more the loss rises around direct KD's student than around the chain's."""
    direct, chained = kd(setting.teacher, setting.student), chain((setting.teacher, setting.assistant, setting.student))
    return effect(replace(direct, value="rise"), replace(chained, value="rise"), unit="nats", margin=NATS)


def harder_targets(setting: Setting) -> Measure:
    """The weakest of: entropy of a smaller network minus the next larger's; of an assistant minus the teacher's."""
    alone = [scratch(name, value="entropy") for name in setting.ladder[:-1]]
    steps = [minus(small, large) for large, small in pairwise(alone)]
    taught = Line(Arm("kd", (setting.teacher, setting.assistant)), value="entropy")
    return Measure("least", (*steps, minus(taught, alone[0])), unit="nats", margin=NATS)


def harder_to_follow(setting: Setting) -> Measure:
    """Rise of the student's KL to its teacher, on training images, per doubling of the teacher."""
    teachers = setting.ladder[:-1]
    lines = [Line(Arm("kd", (t, setting.student)), value="train_kl") for t in teachers]
    x = tuple(doublings(t, setting) for t in teachers)
    return Measure("slope", tuple(((1.0, line),) for line in lines), x=x, unit="nats", margin=0.001)


def dense(**options: Value) -> Callable[[Setting], Measure]:
    """DGKD minus the chain along the same long path."""

    def measure(setting: Setting) -> Measure:
        path = long_path(setting)
        return effect(chain(path, "dgkd", **options), chain(path))

    return measure


def graded(setting: Setting) -> Measure:
    """DGKD minus the average of networks of the same sizes that were trained alone, along the long path."""
    path = long_path(setting)
    return effect(chain(path, "dgkd"), chain(path, "dgkd", assistants="alone"))


def several_large(setting: Setting) -> Measure:
    """DGKD along the long path minus an ensemble of as many teachers, all of the largest size, as its student hears."""
    path = long_path(setting)
    members, _ = take_options(METHODS["ensemble"].options, {"members": len(path) - 1})
    return effect(chain(path, "dgkd"), chain((path[0], path[-1]), "ensemble", **dict(members)))


def or_small(setting: Setting) -> Measure:
    """DGKD along the long path minus direct KD from its smallest assistant's size alone."""
    path = long_path(setting)
    return effect(chain(path, "dgkd"), kd(path[-2], path[-1]))


def dense_one(**options: Value) -> Callable[[Setting], Measure]:
    """The same along the path with one assistant."""

    def measure(setting: Setting) -> Measure:
        path = (setting.teacher, setting.assistant, setting.student)
        return effect(chain(path, "dgkd", **options), chain(path))

    return measure


def dense_slope(setting: Setting) -> Measure:
    """How much DGKD's lead over the chain grows with every further assistant. Assistants are added from the small
    end, so that each longer path contains the shorter one."""
    inside = setting.ladder[1:-1]
    ways = [(setting.teacher, *inside[-count:], setting.student) for count in range(1, len(inside) + 1)]
    effects = tuple(minus(chain(path, "dgkd"), chain(path)) for path in ways)
    return Measure("slope", effects, x=tuple(float(len(path) - 2) for path in ways), margin=0.001)


def per_assistant(method: str, sign: float) -> Callable[[Setting], Measure]:
    """How much a method itself gains (sign 1) or loses (-1) with every further assistant."""

    def measure(setting: Setting) -> Measure:
        both = dense_slope(setting)
        lines = [next(line for _, line in effect if line.arm.method == method) for effect in both.effects]
        return replace(both, effects=tuple(((sign, line),) for line in lines))

    return measure


def shared_errors(setting: Setting) -> Measure:
    """Errors shared with the predecessor, beyond chance: the chain's minus DGKD's."""
    path = long_path(setting)
    ours, theirs = (Line(Arm(name, path), value="shared_errors") for name in ("takd", "dgkd"))
    return effect(ours, theirs, unit="kappa", margin=KAPPA)


def dropping(long: bool) -> Callable[[Setting], Measure]:
    """Stochastic teaching with p = 0.75 minus all teachers always."""

    def measure(setting: Setting) -> Measure:
        path = long_path(setting) if long else (setting.teacher, setting.assistant, setting.student)
        return effect(chain(path, "dgkd", gate="bernoulli"), chain(path, "dgkd"))

    return measure


def dropping_some(setting: Setting) -> Measure:
    """The best of three probabilities of being heard minus all teachers always."""
    path = long_path(setting)
    published = chain(path, "dgkd", gate="bernoulli")  # 0.75, the default
    some = (*(chain(path, "dgkd", gate="bernoulli", p=p) for p in (0.25, 0.5)), published)
    return Measure("best against best", tuple(((1.0, line),) for line in some), (((1.0, chain(path, "dgkd")),),))


def sub_model(method: str, part: int, network: str, **options: Value) -> Line:
    """A sub-model of a network whose sub-models are trained together; part 0 is the smallest."""
    ends: tuple[tuple[str, object], ...] = (("teacher", network), ("assistants", ()), ("student", network))
    return Line(Arm(method, (network,), _sorted(options)), (*ends, ("temperature", 1.0)), part=part)


def in_place(method: str, against: str) -> Callable[[Setting], Measure]:
    """One way to train sub-models minus another, at the smallest."""
    return lambda s: effect(sub_model(method, 0, s.sub_models), sub_model(against, 0, s.sub_models))


def in_place_mean(method: str, against: str) -> Callable[[Setting], Measure]:
    """The same, as a mean over all sub-models but the largest, which nobody teaches."""

    def measure(setting: Setting) -> Measure:
        taught = len(sub_models(setting.sub_models, classes(setting))) - 1
        pairs = [
            pair
            for part in range(taught)
            for pair in minus(*(sub_model(m, part, setting.sub_models) for m in (method, against)))
        ]
        return Measure("effect", (tuple((weight / taught, line) for weight, line in pairs),))

    return measure


def heads(**options: Value) -> Callable[[Setting], Measure]:
    """DIH minus direct KD."""

    def measure(setting: Setting) -> Measure:
        path = (setting.teacher, setting.student)
        return effect(chain(path, "dih", **options), kd(*path))

    return measure


def heads_ladder(setting: Setting) -> Measure:
    """The weakest step in accuracy from one head to the next deeper, the teacher itself last."""
    return Measure("least", tuple(minus(deep, shallow) for shallow, deep in pairwise(_heads(setting))))


def heads_surer(setting: Setting) -> Measure:
    """The weakest fall in entropy along the same steps."""
    lines = [replace(line, value="entropy") for line in _heads(setting)]
    steps = tuple(minus(shallow, deep) for shallow, deep in pairwise(lines))
    return Measure("least", steps, unit="nats", margin=NATS)


def _heads(setting: Setting) -> list[Line]:
    arm = Arm("dih", (setting.teacher, setting.student))
    count = len(stage_shapes(setting.teacher, classes(setting)))
    return [*(Line(arm, of="heads", part=i) for i in range(count)), scratch(setting.teacher)]


def early_stopped(setting: Setting) -> Measure:
    path = (setting.teacher, setting.student)
    return effect(chain(path, "eskd"), kd(*path))


def earlier_teachers(setting: Setting) -> Measure:
    """The better of an early-stopped teacher and the teacher's route, minus the chain with one assistant."""
    path = (setting.teacher, setting.student)
    remedies = tuple(((1.0, chain(path, name)),) for name in ("early-teacher", "rco"))
    taught = chain((setting.teacher, setting.assistant, setting.student))
    return Measure("best against best", remedies, (((1.0, taught),),), turn=-MARGIN)


def step_size(setting: Setting) -> Measure:
    """The size of what the smaller step does minus the size of what the other balance does, |a| - |b|, which is the
    better of a and -a minus the better of b and -b.

    (1 - lam) CE + lam T^2 KL / C is s times a loss with another lam': s is the step size, lam' the balance. Between the
    published loss and ours lies KD with lam' at our step size.
    """
    lam, c = setting.spec.lam, classes(setting)
    other = (lam / c) / (1 - lam + lam / c)
    path = (setting.teacher, setting.student)
    between = Line(Arm("kd", path), (("lam", round(other, 6)),))
    published, ours = kd(*path, reduction="mean"), kd(*path)
    step, balance = (minus(between, published), minus(published, between)), (minus(ours, between), minus(between, ours))
    return Measure("best against best", step, balance)


def optimism(setting: Setting) -> Measure:
    """Accuracy at the epoch that was best on test images minus that of the last epoch of the same training. It cannot
    be negative; the claim turns where it would count."""
    return replace(effect(*_best_and_last(setting)), margin=COUNTS, turn=COUNTS)


def optimism_of_the_gain(setting: Setting) -> Measure:
    """The same of what the chain gains over direct KD: the chain's minus direct KD's."""
    taught, direct = _best_and_last(setting), _best_and_last(setting, assisted=False)
    return Measure("effect", ((*minus(*taught), *minus(*reversed(direct))),), margin=COUNTS, turn=COUNTS)


def _best_and_last(setting: Setting, assisted: bool = True) -> tuple[Line, Line]:
    path = (setting.teacher, *((setting.assistant,) if assisted else ()), setting.student)
    line = chain(path, "takd" if assisted else "kd", protocol="published")
    return line, replace(line, value="last_test_acc")


def longer_instead(setting: Setting) -> Measure:
    """The chain with one assistant minus direct KD that may train as long as assistant and student together."""
    path = (setting.teacher, setting.student)
    longer = Line(Arm("kd-long", path), (("assistants", (setting.assistant,)),))
    return effect(chain((setting.teacher, setting.assistant, setting.student)), longer)
