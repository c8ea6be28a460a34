"""ExperimentSpec -> Plan: the graph of stages an experiment needs, each identical stage once.

Nothing here looks at a disk: what is already trained is a question for the store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from takd.budgets import Budget, budget_for
from takd.data.table import SPLIT_SEED, Dataset
from takd.methods.options import Value, read_options
from takd.methods.scale import Training, equal_cost_epochs
from takd.methods.table import METHODS, recipe_at
from takd.networks.table import NETWORKS, OWN, capacity, family_of
from takd.spec import ExperimentSpec, between
from takd.stage import DataSpec, LossSpec, StageSpec


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
        families = {family_of(n) for n in self.path}
        if len(families) == 1 and OWN not in families:
            steps = [str(NETWORKS[n].size) for n in self.path]
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


@dataclass(frozen=True)
class Chain:
    """One arm at one seed: the stage keys along the path, teacher first, student last."""

    arm: Arm
    seed: int
    keys: tuple[str, ...]

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
        return tuple(chain for chain in self.chains if chain.arm == arm)


def chosen_arm(spec: ExperimentSpec) -> Arm:
    """The arm the user built."""
    if spec.method == "scratch":
        return Arm("scratch", (spec.student,))
    ends = METHODS[spec.method].spends_assistants
    return Arm(spec.method, (spec.teacher, spec.student) if ends else spec.path, spec.options)


def arms_for(spec: ExperimentSpec, dataset: Dataset) -> tuple[Arm, ...]:
    """Every arm of an experiment, controls first.

    A comparison always brings its controls: the student alone, direct KD from the same teacher and, for a method with
    assistants, the chain through the same ones. The ladder scope
    adds direct KD from every size between, and a chain through every single assistant. Those sizes are the rungs of the
    ladder and the chosen assistants: a size added to the table between two rungs changes no plan, so that no stored run
    comes to miss stages.
    """
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
    arms.append(chosen_arm(spec))
    return tuple(dict.fromkeys(arms))


def build_plan(spec: ExperimentSpec, dataset: Dataset) -> Plan:
    """The plan of an experiment.

    `dataset` must carry its fingerprint (see takd.data.catalogue); without one the keys would be meaningless, so a
    ValueError is raised.
    """
    if dataset.fingerprint is None:
        raise ValueError(f"{dataset.label} has not been prepared on this machine yet, so its stages have no keys.")
    arms = arms_for(spec, dataset)
    stages: dict[str, StageSpec] = {}
    chains = [
        Chain(arm, seed, _stages_along(arm, seed, spec, dataset, stages))
        for seed in range(spec.seed, spec.seed + spec.seeds)
        for arm in arms
    ]
    return Plan(spec, chosen_arm(spec), arms, tuple(chains), stages)


def _stages_along(
    arm: Arm, seed: int, spec: ExperimentSpec, dataset: Dataset, stages: dict[str, StageSpec]
) -> tuple[str, ...]:
    keys: list[str] = []
    for position, network in enumerate(arm.path):
        method = METHODS[arm.method]
        teachers = tuple(keys[i] for i in method.teachers_of(position))
        loss = recipe_at(method, dict(arm.options), position, len(arm.path), temperature=spec.temperature, lam=spec.lam)
        stage = stage_for(network, teachers, loss, seed, spec, dataset)
        if method.spends_assistants and teachers:
            stage = replace(stage, recipe=replace(stage.recipe, epochs=whole_budget(arm, spec, dataset)))
        keys.append(stage.key)
        stages.setdefault(stage.key, stage)
    return tuple(keys)


def whole_budget(arm: Arm, spec: ExperimentSpec, dataset: Dataset) -> int:
    """Epochs of a student that may spend what the assistants of the experiment would have cost."""

    def training(network: str) -> Training:
        budget = budget_for(family_of(network), spec.budget, _available(dataset))
        macs, images = capacity(network, dataset.classes).macs, _images(budget, dataset)
        return Training(budget.recipe.epochs, macs, images=images)

    measure = read_options(METHODS[arm.method].options, dict(arm.options))["measure"]
    return equal_cost_epochs(training(arm.path[-1]), [training(name) for name in spec.assistants], str(measure))


def _available(dataset: Dataset) -> int:
    return dataset.train_pool - dataset.validation - dataset.test


def _images(budget: Budget, dataset: Dataset) -> int:
    available = _available(dataset)
    return min(budget.train_images or available, available)


def stage_for(
    network: str, teachers: tuple[str, ...], loss: LossSpec, seed: int, spec: ExperimentSpec, dataset: Dataset
) -> StageSpec:
    """The stage of one network given its teachers' keys and its loss."""
    budget = budget_for(family_of(network), spec.budget, _available(dataset))
    data = DataSpec(
        name=dataset.name,
        fingerprint=str(dataset.fingerprint),
        classes=dataset.classes,
        train_images=_images(budget, dataset),
        noise=float(spec.noise),
        split_seed=SPLIT_SEED,
    )
    return StageSpec(network, data, loss, budget.recipe, seed, teachers)
