"""What a stage trains, where that is more than one plain network: regressors along with it, heads on a frozen teacher,
sub-models of one network, several networks side by side.

A trainee is a module with everything that is trained, so that a checkpoint holds all of it. `kept` is the part whose
weights are stored. Called, it gives the logits of what it is there for, like any network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from takd.methods.losses.answers import Answers
from takd.methods.losses.features import build_regressor
from takd.methods.losses.heads import Heads
from takd.methods.shapes import attention_pairs, hint_pair, regressor_for
from takd.methods.table import form_of, loss_and_options
from takd.networks.multi import MultiNetwork
from takd.networks.staged import Staged
from takd.networks.table import NETWORKS, build, stage_shapes
from takd.runs.errors import StageFailed
from takd.stage import StageSpec
from takd.training.streams import initial_network, stream_seed

Module = TypeVar("Module", bound=nn.Module)


class Trainee(nn.Module):
    """`parts` names all that answers where that is more than one; `main` is the place of the one that counts."""

    parts: tuple[str, ...] = ()
    main = 0

    @property
    def kept(self) -> nn.Module:
        """The module whose weights are stored."""
        raise NotImplementedError

    def answers(self, x: Tensor) -> Answers:
        """Everything the loss looks at, for images (B, C, H, W)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of what the stage is there for."""
        found = self.answers(x)
        return found.logits[found.main]


class Every(nn.Module):
    """All answers of a trainee with parts as one tensor (B, parts, classes)."""

    def __init__(self, trainee: Trainee) -> None:
        super().__init__()
        self.trainee = trainee

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack(self.trainee.answers(x).logits, dim=1)


class SubModels(Trainee):
    """All sub-models of one network; the largest is its main answer."""

    main = -1

    def __init__(self, whole: MultiNetwork, names: Sequence[str]) -> None:
        super().__init__()
        self.whole, self.parts = whole, tuple(names)

    @property
    def kept(self) -> nn.Module:
        return self.whole

    def answers(self, x: Tensor) -> Answers:
        return Answers(self.whole.forward_all(x), main=self.main)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.whole(x)
        return logits


class Cohort(Trainee):
    """Networks side by side; the first is the student."""

    def __init__(self, networks: Sequence[nn.Module], names: Sequence[str]) -> None:
        super().__init__()
        self.networks, self.parts = nn.ModuleList(networks), tuple(names)

    @property
    def kept(self) -> nn.Module:
        return self.networks[0]

    def answers(self, x: Tensor) -> Answers:
        return Answers(tuple(network(x) for network in self.networks))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.networks[0](x)
        return logits


class Headed(Trainee):
    """Heads on a frozen network, whose deepest is the main answer. The network is no part of the module: it is neither
    trained nor stored again."""

    main = -1

    def __init__(self, network: Staged, heads: Heads) -> None:
        super().__init__()
        self.heads, self.parts = heads, tuple(f"head {i}" for i in range(1, len(heads.layers) + 1))
        self._network = (network,)

    @property
    def kept(self) -> nn.Module:
        return self.heads

    def answers(self, x: Tensor) -> Answers:
        with torch.no_grad():
            _, outputs = self._network[0].forward_stages(x)
        return Answers(self.heads(outputs), main=self.main)


class Observed(Trainee):
    """A network whose stage outputs are compared with its teacher's, through regressors where there are any."""

    def __init__(self, network: Staged, places: Sequence[int], regressors: Sequence[nn.Module]) -> None:
        super().__init__()
        self.network, self.regressors = network, nn.ModuleList(regressors)
        self._places = tuple(places)

    @property
    def kept(self) -> nn.Module:
        return self.network

    def answers(self, x: Tensor) -> Answers:
        logits, outputs = self.network.forward_stages(x)
        chosen = [outputs[place] for place in self._places]
        if len(self.regressors):
            chosen = [regressor(output) for regressor, output in zip(self.regressors, chosen, strict=True)]
        return Answers((logits,), tuple(chosen))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


def trainee_for(stage: StageSpec, network_of: Callable[[], nn.Module], teacher: str) -> nn.Module:
    """What this stage trains, with its initial weights, on the CPU.

    `network_of` gives the frozen first teacher, which heads need; `teacher` names its network. Raises StageFailed where
    the networks do not fit the method.
    """
    form = form_of(stage.loss)
    try:
        return _MAKERS[form](stage, network_of, teacher)
    except ValueError as error:
        raise StageFailed("bad-stage", f"{stage.network} cannot be trained like this: {error}") from error


def _network(stage: StageSpec, *_: object) -> nn.Module:
    return initial_network(stage.network, stage.data.classes, stage.seed)


def _sub_models(stage: StageSpec, *_: object) -> nn.Module:
    network = _network(stage)
    if not isinstance(network, MultiNetwork):
        raise ValueError("it has no sub-models")
    return SubModels(network, NETWORKS[stage.network].subs)


def _cohort(stage: StageSpec, *_: object) -> nn.Module:
    classes = stage.data.classes
    peers = [_drawn(stage, f"peer {i}", partial(build, name, classes)) for i, name in enumerate(stage.peers, 1)]
    return Cohort([_network(stage), *peers], [stage.network, *stage.peers])


def _headed(stage: StageSpec, network_of: Callable[[], nn.Module], teacher: str) -> nn.Module:
    network = network_of()
    _, options = loss_and_options(stage.loss)
    shapes = stage_shapes(teacher, stage.data.classes)
    if not isinstance(network, Staged):
        raise ValueError("its teacher has no stages to put heads on")
    return Headed(network, _drawn(stage, "heads", partial(Heads, shapes, stage.data.classes, str(options["pooling"]))))


def _observed(stage: StageSpec, _: object, teacher: str) -> nn.Module:
    network = _network(stage)
    if not isinstance(network, Staged):
        raise ValueError("it has no stages to compare")
    own, wanted = (stage_shapes(name, stage.data.classes) for name in (stage.network, teacher))
    pairs = feature_pairs(stage, teacher)
    if not pairs:
        raise ValueError("it has no stages to compare")
    regressors: list[nn.Module] = []
    if stage.loss.name == "fitnets":
        rules = [regressor_for(own[i], wanted[j]) for i, j in pairs]
        regressors = [_drawn(stage, "regressor", partial(build_regressor, rule)) for rule in rules]
    return Observed(network, [i for i, _ in pairs], regressors)


def feature_pairs(stage: StageSpec, teacher: str) -> tuple[tuple[int, int], ...]:
    """(stage of the student, stage of the teacher) whose outputs are compared. Raises ValueError where none fit."""
    own, wanted = (stage_shapes(name, stage.data.classes) for name in (stage.network, teacher))
    _, options = loss_and_options(stage.loss)
    if stage.loss.name == "fitnets":
        return (hint_pair(own, wanted, str(options["stage"])),)
    return attention_pairs(own, wanted)


def _drawn(stage: StageSpec, purpose: str, make: Callable[[], Module]) -> Module:
    """A module with initial weights from a stream of its own, so that the student starts as it always does."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(stage.seed, stage.network, purpose))
        return make()


_MAKERS: dict[str, Callable[[StageSpec, Callable[[], nn.Module], str], nn.Module]] = {
    "network": _network,
    "features": _observed,
    "heads": _headed,
    "sub-models": _sub_models,
    "cohort": _cohort,
}


def kept(network: nn.Module) -> nn.Module:
    """The part of a trainee whose weights are stored; a plain network is all of it."""
    return network.kept if isinstance(network, Trainee) else network


def parts(network: nn.Module) -> tuple[str, ...]:
    """Names of all that answers, where that is more than one."""
    return network.parts if isinstance(network, Trainee) else ()
