"""From one arm at one seed to its stages: one function per wiring of the table of methods. Imports no torch.

Along a path each stage is taught by earlier ones. The other wirings add stages beside the path (heads on a teacher, a
teacher at earlier epochs, more teachers like it) or train several networks in one stage (sub-models, a cohort).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from takd.answers import looks_inside
from takd.budgets import budget_for
from takd.data.table import SPLIT_SEED, Dataset
from takd.methods.method import Method
from takd.methods.options import Value, read_options
from takd.methods.rows.chains import ALONE, PUBLISHED
from takd.methods.scale import Training, anchor_epochs, equal_cost_epochs, stopping_epoch
from takd.methods.shapes import head_params
from takd.methods.table import METHODS, heads_recipe, recipe_at
from takd.networks.table import OWN, capacity, family_of, stage_shapes
from takd.spec import ExperimentSpec
from takd.stage import DataSpec, LossSpec, Recipe, StageSpec

COPY_SEEDS = 1_000_000  # from a network's seed to that of the next one like it: further than a question's seeds reach
_OF_THE_PATH = ("protocol", "assistants", "members")  # options that say what is trained, not with which loss


@dataclass
class Way:
    """One arm at one seed on its way to stages: a method's name, its options where they differ from their defaults, the
    path (teacher first), and the stages found so far by key, teachers before pupils."""

    method: str
    options: Mapping[str, Value]
    path: tuple[str, ...]
    seed: int
    spec: ExperimentSpec
    dataset: Dataset
    stages: dict[str, StageSpec] = field(default_factory=dict)

    @property
    def row(self) -> Method:
        return METHODS[self.method]

    @property
    def as_published(self) -> bool:
        """Whether the released code's behaviour is wanted, faults and all."""
        return self.options.get("protocol") == PUBLISHED

    def alone(self, position: int) -> bool:
        """Whether the network at a position of the path is an assistant that nobody teaches."""
        return self.options.get("assistants") == ALONE and 0 < position < len(self.path) - 1

    def loss(self, position: int) -> LossSpec:
        """The loss of the network at a position of the path."""
        spec = self.spec
        if self.alone(position):
            return recipe_at(METHODS["scratch"], {}, 0, 1, temperature=spec.temperature, lam=spec.lam)
        options = {name: value for name, value in self.options.items() if name not in _OF_THE_PATH}
        if self.as_published:
            options["reduction"] = "mean"
            if self.method == "dgkd":
                options.setdefault("sum", "code")
        return recipe_at(self.row, options, position, len(self.path), temperature=spec.temperature, lam=spec.lam)

    def stage(self, network: str, loss: LossSpec, teachers: tuple[str, ...] = (), *, first: bool = False) -> StageSpec:
        """The stage of one network at this seed; `first` for the teacher of a path and what is trained on it."""
        made = stage_for(network, teachers, loss, self.seed, self.spec, self.dataset)
        if self.spec.view == "split":
            half = made.data.train_images // 2
            made = replace(made, data=replace(made.data, train_images=half, skip=0 if first else half))
        if self.spec.view == "own" and teachers and made.recipe.augmentation != "none" and not looks_inside(made):
            made = replace(made, view="own")
        if self.as_published:
            return replace(made, recipe=replace(made.recipe, schedule="constant", selection="test"))
        return made

    def add(self, stage: StageSpec) -> str:
        """Keep a stage; its key."""
        self.stages.setdefault(stage.key, stage)
        return stage.key


def stages_along(way: Way) -> tuple[str, ...]:
    """Fill `way.stages`; the keys of the networks of the path that are stages of their own, student last."""
    return _WIRINGS[way.row.wiring](way)


def _path(way: Way) -> tuple[str, ...]:
    """Networks in a row, each taught by earlier ones."""
    keys: list[str] = []
    for position, network in enumerate(way.path):
        teachers = () if way.alone(position) else tuple(keys[i] for i in way.row.teachers_of(position))
        stage = way.stage(network, way.loss(position), teachers, first=position == 0 < len(way.path) - 1)
        if way.row.spends_assistants and teachers:
            epochs = whole_budget(way.options, way.path, way.spec, way.dataset)
            stage = replace(stage, recipe=replace(stage.recipe, epochs=epochs))
        keys.append(way.add(stage))
    return tuple(keys)


def _heads(way: Way) -> tuple[str, ...]:
    """The student hears the teacher and heads on it, which are a stage and so trained once for all students."""
    teacher, student = way.path
    first = way.add(way.stage(teacher, way.loss(0), first=True))
    heads = way.add(way.stage(teacher, heads_recipe(way.row, way.options), (first,), first=True))
    return first, way.add(way.stage(student, way.loss(1), (first, heads)))


def _trajectory(way: Way) -> tuple[str, ...]:
    """The student hears its teacher at earlier epochs, one or several in order of epoch."""
    teacher, student = way.path
    whole = way.stage(teacher, way.loss(0), first=True)
    options = read_options(way.row.options, way.options)
    epochs = whole.recipe.epochs
    if "anchors" in options:  # every anchor has its turn in the student's training, the finished teacher the last
        wanted = min(int(float(options["anchors"])), epochs, way.stage(student, way.loss(1)).recipe.epochs)
        heard = [_until(whole, epoch) for epoch in anchor_epochs(epochs, wanted)]
    else:
        stop = stopping_epoch(float(options["stop"]), epochs)
        short = replace(whole, recipe=replace(whole.recipe, epochs=stop))
        heard = [short if options["teacher_run"] == "short" else _until(whole, stop)]
    keys = tuple(way.add(stage) for stage in heard)
    return keys[-1], way.add(way.stage(student, way.loss(1), keys))


def _until(stage: StageSpec, epoch: int) -> StageSpec:
    """The same training, ended after an epoch; the whole one is not another stage."""
    return replace(stage, recipe=replace(stage.recipe, until=0 if epoch == stage.recipe.epochs else epoch))


def _copies(way: Way) -> tuple[str, ...]:
    """The student hears its teacher and networks like it from other seeds, all of which learnt from the same labels."""
    teacher, student = way.path
    first = way.stage(teacher, way.loss(0), first=True)
    members = int(float(read_options(way.row.options, way.options)["members"]))
    keys = tuple(way.add(_copy(first, number)) for number in (*range(1, members), 0))
    return keys[-1], way.add(way.stage(student, way.loss(1), keys))


def _copy(stage: StageSpec, number: int) -> StageSpec:
    """The same training from another seed; number 0 is the stage itself. Without wrong labels it is an ordinary
    training, shared with questions that begin at that seed."""
    away = number * COPY_SEEDS
    data = replace(stage.data, noise_shift=-away) if stage.data.noise else stage.data
    return replace(stage, seed=stage.seed + away, data=data)


def _sub_models(way: Way) -> tuple[str, ...]:
    """One network, whose sub-models are trained together."""
    return (way.add(way.stage(way.path[-1], way.loss(0))),)


def _cohort(way: Way) -> tuple[str, ...]:
    """The student and its peers in one stage; the stage belongs to the student."""
    copies = read_options(way.row.options, way.options)["peers"] == "copies"
    peers = way.path[-1:] if copies else way.path[:-1]
    stage = replace(way.stage(way.path[-1], way.loss(len(way.path) - 1)), peers=peers)
    if any(family_of(peer) == OWN for peer in peers):  # a user's code is tried in nothing else
        stage = replace(stage, recipe=replace(stage.recipe, precision="fp32"))
    return (way.add(stage),)


_WIRINGS: dict[str, Callable[[Way], tuple[str, ...]]] = {
    "path": _path,
    "heads": _heads,
    "trajectory": _trajectory,
    "copies": _copies,
    "sub-models": _sub_models,
    "cohort": _cohort,
}


def whole_budget(options: Mapping[str, Value], path: tuple[str, ...], spec: ExperimentSpec, dataset: Dataset) -> int:
    """Epochs of a student that may spend what another method's extra networks would have cost: the assistants of the
    experiment, or heads on the teacher. `options` are those of the equal-cost control."""

    def training(network: str) -> Training:
        recipe, images = schedule_of(network, spec, dataset)
        return Training(recipe.epochs, capacity(network, dataset.classes).macs, images=images)

    values = read_options(METHODS["kd-long"].options, options)
    extra = [training(name) for name in spec.assistants]
    if values["spends"] == "heads":
        teacher = training(path[0])
        heads = sum(head_params(stage_shapes(path[0], dataset.classes), dataset.classes, "flatten"))
        extra = [replace(teacher, macs=heads, teacher_macs=teacher.macs)]
    return equal_cost_epochs(training(path[-1]), extra, str(values["measure"]))


def schedule_of(network: str, spec: ExperimentSpec, dataset: Dataset) -> tuple[Recipe, int]:
    """How a network is trained and on how many images: what the budget says, with the spec's own epochs, images and
    learning rate in place of the budget's where it has some. Nothing else of the recipe follows them (a rate schedule
    spans whatever epochs there are), so that two questions that differ in one of them differ in nothing besides."""
    budget = budget_for(family_of(network), spec.budget, dataset.available)
    images = spec.images or budget.train_images or dataset.available
    recipe = budget.recipe
    own = replace(recipe, epochs=spec.epochs or recipe.epochs, lr=spec.lr or recipe.lr)
    return own, min(images, dataset.available)


def stage_for(
    network: str, teachers: tuple[str, ...], loss: LossSpec, seed: int, spec: ExperimentSpec, dataset: Dataset
) -> StageSpec:
    """The stage of one network given its teachers' keys and its loss."""
    recipe, images = schedule_of(network, spec, dataset)
    data = DataSpec(
        name=dataset.name,
        fingerprint=str(dataset.fingerprint),
        classes=dataset.classes,
        train_images=images,
        noise=float(spec.noise),
        split_seed=SPLIT_SEED,
    )
    return StageSpec(network, data, loss, recipe, seed, teachers)
