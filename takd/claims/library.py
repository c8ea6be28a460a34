"""What the library of cached runs should hold: every arm that a claim reads, and the map of where an effect appears.

`cached_runs/library.json` is this list, in order of value per second, written by `python -m takd library plan --write`
and held to it by a test. It is a list of questions (ExperimentSpec), so any machine can train any of them, and as
trainings are known by their keys, what several machines have trained goes together without conflict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from takd.claims.claim import Line, Trial
from takd.claims.settings import SETTINGS, Setting
from takd.claims.table import CLAIMS
from takd.data.table import Dataset
from takd.plan import Arm, Plan, build_plan, question_of
from takd.spec import ExperimentSpec, require_spec, to_json
from takd.stage import StageSpec

FILE = Path(__file__).resolve().parents[2] / "cached_runs" / "library.json"
DECIDES, VARIANT, MAPPED = 3.0, 1.0, 0.5  # what an arm is worth to a claim, to a variant of it, and to the map
HEADLINE = "one-ta"  # the claim that README and Playground lead with
_START_SECONDS = 5.0  # of a run, whatever it trains

Seconds = Callable[[StageSpec, Mapping[str, StageSpec]], float]


@dataclass(frozen=True)
class Entry:
    """A question the library should answer. `value`: what it is worth to the claims that read it, named in `claims`;
    `seconds`: what it adds, estimated for one core of a common CPU."""

    name: str
    spec: ExperimentSpec
    value: float
    seconds: float
    claims: tuple[str, ...]

    def plan(self, datasets: Mapping[str, Dataset]) -> Plan:
        return build_plan(self.spec, datasets[self.spec.dataset])


@dataclass(frozen=True)
class Regime:
    """A place on the map: how long, on how many images, with how many wrong labels."""

    epochs: int
    images: int
    noise: float


EPOCHS, IMAGES, NOISE = (15, 60, 180), (125, 500), (0.0, 0.2, 0.4)
REGIMES = tuple(Regime(*where) for where in product(EPOCHS, IMAGES, NOISE))
MAP_SEEDS = 16  # doubled after a first look at the map, so its confidence is a little lower than it says
MAP_SETTING = "digits-noise"


def map_arms() -> tuple[Arm, ...]:
    """Direct KD from the largest size, the chain through the assistant, and direct KD from the assistant's size."""
    setting = SETTINGS[MAP_SETTING]
    large, small, student = setting.teacher, setting.assistant, setting.student
    return Arm("kd", (large, student)), Arm("takd", (large, small, student)), Arm("kd", (small, student))


def map_spec(where: Regime) -> ExperimentSpec:
    """The choices of a place on the map. What a budget says anyway is not said again, so that a place that is a
    setting of the claims is the same trainings."""
    spec = SETTINGS[MAP_SETTING].spec
    epochs, images = (0 if where.epochs == 60 else where.epochs), (0 if where.images == 500 else where.images)
    return replace(spec, epochs=epochs, images=images, noise=where.noise, seeds=MAP_SEEDS)


def wanted(datasets: Mapping[str, Dataset], seconds: Seconds) -> tuple[Entry, ...]:
    """Every question, the one with most value per second first; one whose trainings all belong to earlier ones is left
    out. Data sets without a fingerprint are left out. `seconds(stage, stages)` estimates one training."""
    worth: dict[ExperimentSpec, tuple[str, float, dict[str, None]]] = {}
    for name, spec, claim, value in _questions():
        if datasets[spec.dataset].fingerprint is None:
            continue
        title, so_far, claims = worth.get(spec, (name, 0.0, {}))
        worth[spec] = title, so_far + value, {**claims, claim: None}
    costs: dict[ExperimentSpec, dict[str, float]] = {}
    for spec in worth:
        stages = build_plan(spec, datasets[spec.dataset]).stages
        costs[spec] = {key: seconds(stage, stages) for key, stage in stages.items()}
    return tuple(_in_order(worth, costs))


def _questions() -> Iterator[tuple[str, ExperimentSpec, str, float]]:
    for claim in CLAIMS.values():
        for trial in claim.trials:
            value = VARIANT if trial.variant else DECIDES
            for name, spec in trial_questions(trial, SETTINGS[trial.setting]):
                yield name, spec, claim.name, value
    for where in REGIMES:
        for arm in map_arms()[1:]:  # direct KD from the largest size comes with the chain
            name = f"map {where.epochs} epochs, {where.images} images, noise {where.noise:g}: {arm.name}"
            yield name, question_of(map_spec(where), arm), "map", MAPPED


def trial_questions(trial: Trial, setting: Setting) -> Iterator[tuple[str, ExperimentSpec]]:
    """What has to be trained for a trial, as (name, question): one for each arm it reads."""
    for line in _arms(trial.measure(setting).lines()):
        yield f"{setting.name} {line.arm.name}", question_of(setting.changed(line.changes), line.arm)


def questions_of(claim: str, setting: Setting) -> tuple[ExperimentSpec, ...]:
    """The questions whose runs decide a claim (its name) in a setting: one per arm, as `wanted` asks for them. Variants
    are left out."""
    deciding = (t for t in CLAIMS[claim].trials if t.setting == setting.name and not t.variant)
    return tuple(dict.fromkeys(spec for trial in deciding for _, spec in trial_questions(trial, setting)))


def _arms(lines: Iterable[Line]) -> tuple[Line, ...]:
    """Lines that read the same arm, once."""
    return tuple({(line.arm, line.changes): line for line in lines}.values())


def _in_order(
    worth: Mapping[ExperimentSpec, tuple[str, float, Mapping[str, None]]],
    costs: Mapping[ExperimentSpec, Mapping[str, float]],
) -> Iterator[Entry]:
    """Greedily: at each turn the question with most value for what it adds to those before it."""
    left, covered = dict(worth), set[str]()
    while left:
        adds = {spec: sum(s for key, s in costs[spec].items() if key not in covered) for spec in left}
        for spec in [spec for spec in left if costs[spec].keys() <= covered]:
            del left[spec], adds[spec]
        if not left:
            return
        best = max(adds, key=lambda spec: left[spec][1] / (adds[spec] + _START_SECONDS))
        name, value, claims = left.pop(best)
        covered |= costs[best].keys()
        yield Entry(name, best, value, round(adds[best], 1), tuple(claims))


def rises_of(trial: Trial, setting: Setting, dataset: Dataset) -> frozenset[str]:
    """Keys of the stages around which a trial looks at the loss. `dataset` must carry its fingerprint."""
    lines = [line for line in trial.measure(setting).lines() if line.value == "rise"]
    plans = [build_plan(setting.changed(line.changes), dataset, (line.arm,)) for line in lines]
    return frozenset(chain.student for plan in plans for chain in plan.chains)


def all_rises(datasets: Mapping[str, Dataset]) -> frozenset[str]:
    """Keys of the stages around which any claim looks at the loss."""
    places = [(trial, SETTINGS[trial.setting]) for claim in CLAIMS.values() for trial in claim.trials]
    known = [(trial, setting, datasets[setting.spec.dataset]) for trial, setting in places]
    return frozenset().union(*(rises_of(*place) for place in known if place[2].fingerprint is not None))


@dataclass(frozen=True)
class Read:
    """Keys of stages that claims and map rest on: `every` one, those that only the map reads (`mapped`), those that a
    claim's own measure reads and not a variant of it alone (`decide`), those whose `answers` to single test images are
    read, those whose rows of epochs (`curves`) are, and students of the first chain of the README's `headline`, in a
    setting's tuned version where there is one."""

    every: frozenset[str]
    mapped: frozenset[str] = frozenset()
    decide: frozenset[str] = frozenset()
    answers: frozenset[str] = frozenset()
    curves: frozenset[str] = frozenset()
    headline: frozenset[str] = frozenset()


def keys_read(datasets: Mapping[str, Dataset]) -> Read:
    """See Read. A question also trains its usual controls, which nobody may ask for."""
    every, decide, answers, curves, headline = (set[str]() for _ in range(5))
    trials = [trial for claim in CLAIMS.values() for trial in claim.trials]
    lines, own = _lines(trials), _lines(trial for trial in trials if not trial.variant)
    deciding = {(name, line.arm, line.changes) for name, line in own}
    leading = {
        (name, line.arm)
        for name, line in _lines(t for t in CLAIMS[HEADLINE].trials if not t.variant)
        if f"{name}-tuned" not in SETTINGS  # which then stands for it
    }
    for name, arm, changes, value in {(name, line.arm, line.changes, line.value) for name, line in lines}:
        spec = SETTINGS[name].changed(changes)
        if datasets[spec.dataset].fingerprint is None:
            continue
        for chain in build_plan(spec, datasets[spec.dataset], (arm,)).chains:
            every.update(chain.keys, chain.beside)
            if (name, arm, changes) in deciding:
                decide.update(chain.keys, chain.beside)
            if (name, arm) in leading and chain.seed == spec.seed:
                headline.add(chain.student)
            if value == "train_kl":
                curves.add(chain.student)
            elif value == "shared_errors":
                answers.update(chain.keys[-2:])  # the student and its predecessor
    dataset = datasets[SETTINGS[MAP_SETTING].spec.dataset]
    mapped = {key for where in REGIMES for key in build_plan(map_spec(where), dataset, map_arms()).stages} - every
    return Read(*map(frozenset, (every | mapped, mapped, decide, answers, curves, headline)))


def _lines(trials: Iterable[Trial]) -> set[tuple[str, Line]]:
    """(name of the setting, line) of everything that these trials read."""
    return {(trial.setting, line) for trial in trials for line in trial.measure(SETTINGS[trial.setting]).lines()}


def write(entries: Iterable[Entry]) -> bytes:
    """The list as the repository keeps it: one entry a line, most value per second first."""
    rows = [
        {"name": e.name, "value": e.value, "seconds": e.seconds, "claims": list(e.claims), "spec": to_json(e.spec)}
        for e in entries
    ]
    lines = ",\n".join(json.dumps(row, sort_keys=True) for row in rows)
    return f'{{"schema": 1, "entries": [\n{lines}\n]}}\n'.encode()


def read(raw: bytes, datasets: Mapping[str, Dataset]) -> tuple[Entry, ...]:
    """The list from the repository's file. Raises ValueError for what is none."""
    value = json.loads(raw)
    if not isinstance(value, dict) or value.get("schema") != 1 or not isinstance(value.get("entries"), list):
        raise ValueError("not a list of what the library should hold")
    return tuple(_entry(row, datasets) for row in value["entries"])


def _entry(row: Mapping[str, Any], datasets: Mapping[str, Dataset]) -> Entry:
    if not isinstance(row["spec"], dict):
        raise ValueError(f"{str(row['name'])[:60]!r} has no choices")
    spec = require_spec(row["spec"], datasets)
    return Entry(str(row["name"]), spec, float(row["value"]), float(row["seconds"]), tuple(row["claims"]))
