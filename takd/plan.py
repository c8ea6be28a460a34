"""ExperimentSpec -> Plan: the graph of stages an experiment needs, each identical stage once.

Nothing here looks at a disk: what is already trained is a question for the store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from takd.data.table import Dataset
from takd.methods.options import Value
from takd.methods.rows.chains import PUBLISHED
from takd.methods.table import METHODS
from takd.networks.table import NETWORKS, OWN, sub_models
from takd.spec import ExperimentSpec, between
from takd.stage import StageSpec
from takd.wiring import Way, stages_along


@dataclass(frozen=True)
class Arm:
    """One bar or line in a comparison: a method, its options where they differ from their defaults, and the path it
    runs along (teacher first, student last)."""

    method: str
    path: tuple[str, ...]
    options: tuple[tuple[str, Value], ...] = ()

    @property
    def name(self) -> str:
        """Short and unique within an experiment, e.g. `takd 10>4>2`; the family is named once where it changes, and
        options stand behind the method: `dgkd[gate=drop-one] 10>4>2`."""
        rows = [NETWORKS[n] for n in self.path]
        if len({row.family for row in rows}) == 1 and not any(
            row.subs or row.part or row.family == OWN for row in rows
        ):
            steps = [str(row.size) for row in rows]
        else:
            steps = list(self.path)
        return f"{self.how} {'>'.join(steps)}"

    @property
    def how(self) -> str:
        """The method with its options, as names write it."""
        chosen = ",".join(f"{name}={value}" for name, value in self.options)
        return f"{self.method}[{chosen}]" if chosen else self.method

    @property
    def usual(self) -> bool:
        """Whether this is training alone, direct KD or a chain as they are: what every comparison holds the others
        against."""
        return self.method in ("scratch", "kd", "takd") and not self.options

    @property
    def as_published(self) -> bool:
        """Whether it makes the released code's mistakes, on purpose."""
        return dict(self.options).get("protocol") == PUBLISHED

    @property
    def part(self) -> int | None:
        """Which sub-model of a network that holds several is the student: the smallest; None of an ordinary one."""
        return 0 if NETWORKS[self.path[-1]].subs else None


@dataclass(frozen=True)
class Chain:
    """One arm at one seed: the stage keys along the path, teacher first, student last, and those of stages beside it
    (heads, a teacher at earlier epochs, more teachers like it). Networks that are trained in the student's own stage
    have no key."""

    arm: Arm
    seed: int
    keys: tuple[str, ...]
    beside: tuple[str, ...] = ()

    @property
    def student(self) -> str:
        return self.keys[-1]


@dataclass(frozen=True)
class Plan:
    """The stages of an experiment by key, in an order in which every teacher precedes its pupils."""

    spec: ExperimentSpec
    chosen: Arm
    arms: tuple[Arm, ...]
    chains: tuple[Chain, ...]
    stages: dict[str, StageSpec]

    def chains_of(self, arm: Arm) -> tuple[Chain, ...]:
        """An arm's chains, one per seed."""
        return self._by_arm.get(arm, ())

    @cached_property
    def _by_arm(self) -> dict[Arm, tuple[Chain, ...]]:
        found: dict[Arm, list[Chain]] = {}
        for chain in self.chains:
            found.setdefault(chain.arm, []).append(chain)
        return {arm: tuple(chains) for arm, chains in found.items()}

    def to_json(self) -> dict[str, Any]:
        """As a run keeps it: arms, chains (arm index, seed, keys, keys beside), all keys, teachers first."""
        places = {arm: index for index, arm in enumerate(self.arms)}
        return {
            "arms": [
                {"method": arm.method, "path": list(arm.path), "options": dict(arm.options), "name": arm.name}
                for arm in self.arms
            ],
            "chains": [
                {"arm": places[c.arm], "seed": c.seed, "keys": list(c.keys), "beside": list(c.beside)}
                for c in self.chains
            ],
            "stages": list(self.stages),
        }


def chosen_arm(spec: ExperimentSpec) -> Arm:
    """The arm the user built."""
    if spec.method == "scratch":
        return Arm("scratch", (spec.student,))
    if METHODS[spec.method].in_one_network:
        return Arm(spec.method, (spec.student,), spec.options)
    ends = METHODS[spec.method].spends_assistants
    return Arm(spec.method, (spec.teacher, spec.student) if ends else spec.path, spec.options)


def question_of(spec: ExperimentSpec, arm: Arm) -> ExperimentSpec:
    """An arm of a question as a question of its own, with the same data, budget, seeds and settings."""
    ends = METHODS[arm.method].spends_assistants  # its path leaves them out, and its budget counts them
    alone = len(arm.path) == 1
    return replace(
        spec,
        method=arm.method,
        teacher=spec.teacher if alone else arm.path[0],
        assistants=spec.assistants if ends and not alone else arm.path[1:-1],
        student=arm.path[-1],
        options=arm.options,
        scope="chain",
    )


def arms_for(spec: ExperimentSpec, dataset: Dataset) -> tuple[Arm, ...]:
    """Every arm of an experiment, controls first.

    A comparison always brings its controls: the student alone, direct KD from the same teacher and, for a method with
    assistants, the chain through the same ones. The ladder scope
    adds direct KD from every size between, and a chain through every single assistant. Those sizes are the rungs of the
    ladder and the chosen assistants: a size added to the table between two rungs changes no plan, so that no stored run
    comes to miss stages.

    Sub-models of one network are compared among the ways to train them together, and with the smallest one alone.
    """
    if METHODS[spec.method].in_one_network:
        alone = sub_models(spec.student, dataset.classes)[0]
        others = [Arm(name, (spec.student,)) for name in ("joint", "ipkd", "ipkd-ta")]
        return tuple(dict.fromkeys((Arm("scratch", (alone.name,)), *others, chosen_arm(spec))))
    arms = [Arm("scratch", (spec.student,))]
    if spec.method != "scratch" or spec.scope == "ladder":
        arms.append(Arm("kd", (spec.teacher, spec.student)))
    if spec.scope == "ladder":
        possible = between(spec.teacher, spec.student, dataset)
        inside = [size for size in possible if NETWORKS[size].rung or size in spec.assistants]
        arms += [Arm("kd", (size, spec.student)) for size in inside]
        arms += [Arm("takd", (spec.teacher, size, spec.student)) for size in inside]
    if spec.assistants:  # what another method makes of these assistants is held against the chain through them
        arms.append(Arm("takd", spec.path))
    if chosen_arm(spec).as_published:  # a faulty number has its like beside it
        arms.append(Arm("kd", (spec.teacher, spec.student), (("protocol", PUBLISHED),)))
    arms.append(chosen_arm(spec))
    return tuple(dict.fromkeys(arms))


def build_plan(spec: ExperimentSpec, dataset: Dataset, arms: tuple[Arm, ...] | None = None) -> Plan:
    """The plan of an experiment: of the arms its scope asks for, or of those given, at the same settings.

    `dataset` must carry its fingerprint (see takd.data.catalogue); without one the keys would be meaningless, so a
    ValueError is raised.
    """
    if dataset.fingerprint is None:
        raise ValueError(f"{dataset.label} has not been prepared on this machine yet, so its stages have no keys.")
    arms = arms_for(spec, dataset) if arms is None else arms
    stages: dict[str, StageSpec] = {}
    chains = []
    for seed in range(spec.seed, spec.seed + spec.seeds):
        for arm in arms:
            way = Way(arm.method, dict(arm.options), arm.path, seed, spec, dataset)
            keys = stages_along(way)
            chains.append(Chain(arm, seed, keys, tuple(key for key in way.stages if key not in keys)))
            for key, stage in way.stages.items():
                stages.setdefault(key, stage)
    # A training that ends early comes before the whole one, which goes on from there.
    early = sorted((stage for stage in stages.values() if stage.recipe.until), key=lambda stage: stage.recipe.until)
    ordered = {stage.key: stage for stage in (*early, *stages.values())}
    return Plan(spec, chosen_arm(spec), arms, tuple(chains), ordered)
