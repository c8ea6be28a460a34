"""The stage: one training of one network given its finished teachers. Its key is the hash of all that matters.

Two requests with equal keys are the same training, so a stage is trained once and shared by every chain, user and
experiment. What does not change the weights (names, machine, device, time) is not in the key.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property, lru_cache
from json.encoder import encode_basestring_ascii as _text
from typing import Any

from takd.methods.options import Value

STAGE_SCHEMA = 1
ENGINE_VERSION = 1  # raise when the numbers a stage produces change; a golden test fails if it was forgotten


@dataclass(frozen=True)
class DataSpec:
    """Which images a stage learns from.

    `train_images` counts images of the published training part; `noise` is the share of training labels replaced by
    another class, drawn from the stage's seed (never on validation or test images). `skip` counts images before them
    that are left to another network. `noise_shift` is added to the stage's seed where the wrong labels are drawn, so
    that networks of several seeds learn from the same ones.
    """

    name: str
    fingerprint: str
    classes: int
    train_images: int
    noise: float
    split_seed: int
    skip: int = 0
    noise_shift: int = 0

    @property
    def clean(self) -> DataSpec:
        """The same images with the labels they have."""
        return replace(self, noise=0.0, noise_shift=0)


@dataclass(frozen=True)
class LossSpec:
    """How a stage listens to its teachers: a loss of takd.methods.table by name, `ce` with no teacher.

    `temperature` is None and `lam` 0 where the loss does not read them; `options` holds those that differ from their
    default, by name (a mapping is understood).
    """

    name: str
    temperature: float | None
    lam: float
    options: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(sorted(dict(self.options).items())))


@dataclass(frozen=True)
class Recipe:
    """How a stage is optimised: SGD with Nesterov momentum.

    `schedule` is constant, step (a tenth at 1/2 and 3/4) or one-cycle; `augmentation` is none, flip or crop-flip;
    `precision` is fp32 or mixed (bf16 where the device has it). `until` ends the training after so many epochs of the
    schedule, for a teacher at an earlier epoch of its own training; 0 goes to the end. `selection` is empty (the last
    epoch), or `test`: the best epoch on test images, a fault of released code that is shown and never used.
    """

    epochs: int
    batch: int
    lr: float
    schedule: str
    momentum: float
    weight_decay: float
    augmentation: str
    precision: str
    until: int = 0
    selection: str = ""

    @property
    def last(self) -> int:
        """The epoch (counted from 1) the training ends with."""
        return self.until or self.epochs


@dataclass(frozen=True)
class StageSpec:
    """Everything that changes the weights of one training; `teachers` are keys of finished stages, in order, and
    `peers` names of networks trained beside this one, in the same steps. `view` is empty (teachers see what the student
    sees) or `own` (they see images as they are, while the student's views change)."""

    network: str
    data: DataSpec
    loss: LossSpec
    recipe: Recipe
    seed: int
    teachers: tuple[str, ...] = ()
    engine: int = ENGINE_VERSION
    schema: int = STAGE_SCHEMA
    peers: tuple[str, ...] = ()
    view: str = ""

    @property
    def noise_seed(self) -> int:
        """What the wrong ones among its training labels are drawn from."""
        return self.seed + self.data.noise_shift

    @cached_property
    def key(self) -> str:
        """32 hex digits: the SHA-256 of the canonical bytes, cut to 128 bits."""
        return hashlib.sha256(self.canonical()).hexdigest()[:32]

    def canonical(self) -> bytes:
        """The bytes that are stored and hashed."""
        return self._canonical

    @cached_property
    def _canonical(self) -> bytes:
        # Byte for byte canonical_json of all fields. Plans make thousands of stages that share their parts, so the text
        # of a part is made once.
        text = {name: _part_text(name, part) for name, part in _parts_of(self)}
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in text}
        text |= {name: _written(value, "\n ") for name, value in own.items() if value or name not in ("peers", "view")}
        lines = ",\n".join(f' "{name}": {text[name]}' for name in sorted(text))
        return f"{{\n{lines}\n}}\n".encode()

    @staticmethod
    def from_bytes(raw: bytes) -> StageSpec:
        """Read `stage.json`; anything but canonical bytes of a known schema is refused with a ValueError."""
        try:
            value = json.loads(raw)
            stage = StageSpec.from_mapping(value)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"stage.json cannot be read: {error}") from error
        if stage.canonical() != raw:
            raise ValueError("stage.json is not in canonical form, so its key cannot be trusted")
        return stage

    @staticmethod
    def from_mapping(value: Mapping[str, Any]) -> StageSpec:
        """Build from parsed JSON; raises KeyError or TypeError when a field is missing, extra or of the wrong kind."""
        if value["schema"] != STAGE_SCHEMA:
            raise ValueError(f"schema {value['schema']!r} is not one this version reads ({STAGE_SCHEMA})")
        parts: dict[str, Any] = dict(value)
        for name, kind in (("data", DataSpec), ("loss", LossSpec), ("recipe", Recipe)):
            parts[name] = _checked(kind(**value[name]))
        for name in ("teachers", "peers"):
            parts[name] = tuple(value.get(name, ()) if name == "peers" else value[name])
        return _checked(StageSpec(**parts))


# Fields that came later, (part, name): stages of before keep their keys.
_LATER = (
    ("loss", "options"),
    ("recipe", "until"),
    ("recipe", "selection"),
    ("data", "skip"),
    ("data", "noise_shift"),
    ("stage", "peers"),
    ("stage", "view"),
)
_JSON_KINDS = {"int": (int,), "float": (float,), "str": (str,), "float | None": (float, type(None))}


def _checked(part: Any) -> Any:
    """The same dataclass if every plain field has exactly its declared kind (1 and 1.0 must not make two keys)."""
    values = vars(part)
    for name, kinds, declared in _plain_fields(type(part)):  # type: ignore[arg-type]
        if type(values[name]) not in kinds:
            raise TypeError(f"{name} should be {declared}, not {values[name]!r}")
    return part


@cache
def _plain_fields(kind: Hashable) -> tuple[tuple[str, tuple[type, ...], str], ...]:
    """(name, kinds, as declared) of the fields that are plain values: looked up once, as pages read thousands."""
    rows = [(field.name, _JSON_KINDS.get(str(field.type)), str(field.type)) for field in fields(kind)]  # type: ignore[arg-type]
    return tuple((name, kinds, declared) for name, kinds, declared in rows if kinds)


def named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object (an object_pairs_hook) in which nothing is named twice; two readers could read it differently."""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("it names something twice")
    return found


def _parts_of(stage: StageSpec) -> tuple[tuple[str, Any], ...]:
    return ("data", stage.data), ("loss", stage.loss), ("recipe", stage.recipe)


@lru_cache(maxsize=4096)
def _part_text(name: str, part: Any) -> str:
    value = dict(vars(part))
    if name == "loss":
        value["options"] = dict(value["options"])
    for place, later in _LATER:  # left out where nothing is said, as if there were no such field
        if place == name and not value[later]:
            del value[later]
    return _written(value, "\n ")


def canonical_json(value: Any) -> bytes:
    """One byte string per value: sorted keys, ASCII, no NaN, a newline at the end. It is what json.dumps writes with an
    indent of 1, several times as fast: there an indent means slow code, and a store reads thousands of stages."""
    try:
        text = _written(value, "\n")
    except (TypeError, RecursionError):  # another kind of number or of name, or something that is no JSON
        text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False)
    return (text + "\n").encode()


def _written(value: Any, line: str) -> str:
    """JSON of plain values; `line` is the line break with its indent. Raises TypeError for anything else."""
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is int or (kind is float and math.isfinite(value)):
        return repr(value)
    if value is None or kind is bool:
        return "null" if value is None else "true" if value else "false"
    inner = line + " "
    if kind is dict:
        rows = [
            f"{_text(name)}: {_text(item) if type(item := value[name]) is str else _written(item, inner)}"
            for name in sorted(value)
        ]
    elif kind is list or kind is tuple:
        rows = [_written(item, inner) for item in value]
    else:
        raise TypeError(f"{kind} is not a plain value")
    left, right = "{}" if kind is dict else "[]"
    return left + inner + ("," + inner).join(rows) + line + right if rows else left + right
