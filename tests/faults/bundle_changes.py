"""Ways to change a sound bundle in one thing."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.faults.made_bundles import (
    Members,
    move_stage,
    npz,
    packed,
    pupil_in,
    set_file,
    set_json,
    set_result,
    set_stage,
    stages_in,
    tensors,
)

Make = Callable[[Members], bytes]
PICKLE = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x94\x85\x94R\x94."  # runs `true`


class Bad(NamedTuple):
    """A bundle, what the sentence that refuses it says, and the sound bundle that differs from it in nothing else."""

    name: str
    make: Make
    says: str
    fine: Make = packed


def extra(name: str, raw: bytes = b"evil", **options: Any) -> Make:
    """One more member."""

    def make(members: Members) -> bytes:
        info = zipfile.ZipInfo("x")
        info.filename = info.orig_filename = name
        for option, value in options.items():
            setattr(info, option, value)
        return packed(members, (info, raw))

    return make


def bombs(size: int) -> Make:
    """A file of epochs of so many bytes in 120 stages beside those of the bundle, each packed 100 times smaller: the
    first part cannot be packed, the rest is nothing. With few bytes, none beside them."""

    def make(members: Members) -> bytes:
        hard = np.random.default_rng(0).bytes(size // 100)
        raw = hard + bytes(size - len(hard))
        beside = {f"stages/{n:032x}/events.jsonl": raw for n in range(120 if size > 100 else 0)}
        return packed({**members, **beside}, method=zipfile.ZIP_DEFLATED)

    return make


def packed_file(name: str) -> Make:
    """A file of the first stage packed in the bundle, as nothing this program writes of this name is."""

    def make(members: Members) -> bytes:
        info = zipfile.ZipInfo(f"stages/{stages_in(members)[0]}/{name}")
        info.compress_type = zipfile.ZIP_DEFLATED
        return packed(members, (info, members.pop(info.filename)))

    return make


def kind_of_file(mode: int) -> Make:
    """bundle.json as a link, a device or a plain file."""

    def make(members: Members) -> bytes:
        info = zipfile.ZipInfo("bundle.json")
        info.external_attr = (mode | 0o644) << 16
        raw = members.pop("bundle.json")
        return packed(members, (info, raw))

    return make


def patched(change: Callable[[bytearray], None]) -> Make:
    """The bytes of the sound file, changed."""

    def make(members: Members) -> bytes:
        raw = bytearray(packed(members))
        change(raw)
        return bytes(raw)

    return make


def in_both(local: int, central: int, value: bytes) -> Make:
    """A field of the first member, in the header before it and in the list."""

    def change(raw: bytearray) -> None:
        raw[local : local + len(value)] = value
        at = list_of(raw) + central
        raw[at : at + len(value)] = value

    return patched(change)


def list_of(raw: bytearray) -> int:
    """Where the list of members begins."""
    return int(struct.unpack_from("<L", raw, len(raw) - 6)[0])


def second_begins_with_first(raw: bytearray) -> None:
    at = raw.index(b"PK\1\2", list_of(raw) + 4) + 42
    raw[at : at + 4] = bytes(4)


def flip_in_data(raw: bytearray) -> None:
    raw[30 + len("bundle.json") + 5] ^= 1


def longer_list(raw: bytearray) -> None:
    end = len(raw) - 22
    struct.pack_into("<L", raw, end + 12, 2**31)


def locator(raw: bytearray) -> None:
    raw[-22:-22] = b"PK\6\7" + bytes(16)


def written(name: str, change: Callable[[bytes], bytes]) -> Make:
    """A member with other bytes."""

    def make(members: Members) -> bytes:
        members[name] = change(members[name])
        return packed(members)

    return make


def value_of(name: str, **fields: Any) -> Make:
    """A JSON member with other fields, written as the program writes it."""

    def make(members: Members) -> bytes:
        set_json(members, name, lambda value: {**value, **fields})
        return packed(members)

    return make


def asks(**fields: Any) -> Make:
    """Another question."""

    def make(members: Members) -> bytes:
        set_json(members, "run/experiment.json", lambda value: {**value, "spec": {**value["spec"], **fields}})
        return packed(members)

    return make


def result(**fields: Any) -> Make:
    """Other fields in the first stage's result."""

    def make(members: Members) -> bytes:
        set_result(members, **fields)
        return packed(members)

    return make


def taught(**numbers: float) -> Make:
    """Other numbers with its teacher in the pupil's result."""

    def make(members: Members) -> bytes:
        name = f"stages/{pupil_in(members)}/result.json"
        set_json(members, name, lambda value: {**value, **{n: dict.fromkeys(value[n], x) for n, x in numbers.items()}})
        return packed(members)

    return make


def stage(**fields: Any) -> Make:
    """A stage with other fields, under its own right hash."""

    def make(members: Members) -> bytes:
        set_stage(members, lambda value: {**value, **fields})
        return packed(members)

    return make


def file(name: str, raw: bytes | Callable[[bytes], bytes]) -> Make:
    """Another file of the first stage, which result.json agrees with."""

    def make(members: Members) -> bytes:
        key = stages_in(members)[0]
        set_file(members, key, name, raw(members[f"stages/{key}/{name}"]) if callable(raw) else raw)
        return packed(members)

    return make


def weights(header: Callable[[int], Any] | None = None, numbers: Callable[[Any], Any] | None = None) -> Make:
    """Other weights of the right number for the first stage; `header(bytes)` says what is in the file."""

    def change(old: bytes) -> bytes:
        length = struct.unpack("<Q", old[:8])[0]
        found = np.frombuffer(old[8 + length :], "<f4").copy()
        found = found if numbers is None else numbers(found)
        return tensors(found, None if header is None else header(found.nbytes))

    return file("weights.safetensors", change)


def answers(*arrays: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Make:
    """Other test answers."""
    return file("predictions.npz", npz(*arrays, method=method))


def classes(raw: bytes, *, alone: bool = True) -> Make:
    """These answered classes for the first stage, in place of its answers where they are `alone`."""

    def make(members: Members) -> bytes:
        folder = f"stages/{stages_in(members)[0]}"
        if alone:
            members.pop(f"{folder}/predictions.npz")
        return packed({**members, f"{folder}/classes.bin": raw})

    return make


def row(size: int, **fields: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size], **fields}


def two(size: int, first: list[int], second: list[int]) -> dict[str, Any]:
    """A header with two tensors at these places."""
    return {
        name: {"dtype": "F32", "shape": [(end - begin) // 4], "data_offsets": [begin, end]}
        for name, (begin, end) in {"a": first, "b": second}.items()
    }


def events(change: Callable[[list[bytes]], list[bytes]]) -> Make:
    return file("events.jsonl", lambda raw: b"\n".join([*change(raw.split(b"\n")[:-1]), b""]))


def event(old: bytes, new: bytes) -> Make:
    """One thing in the first row written otherwise."""
    return events(lambda rows: [rows[0].replace(old, new), *rows[1:]])


def self_taught(members: Members) -> bytes:
    key = pupil_in(members)
    set_json(members, f"stages/{key}/stage.json", lambda value: {**value, "teachers": [key]})
    return packed(members)


def circle(members: Members) -> bytes:
    """Teacher and pupil name each other; no hash can do that, so that of the teacher is a lie."""
    pupil = pupil_in(members)
    teacher = json.loads(members[f"stages/{pupil}/stage.json"])["teachers"][0]
    set_json(members, f"stages/{teacher}/stage.json", lambda value: {**value, "teachers": [pupil]})
    return packed(members)


def wrong_folder(members: Members) -> bytes:
    move_stage(members, stages_in(members)[0], "0" * 32)
    return packed(members)


def without(*parts: str) -> Make:
    def make(members: Members) -> bytes:
        key = stages_in(members)[0]
        names = [part.replace("KEY", key) for part in parts]
        return packed({name: raw for name, raw in members.items() if not name.startswith(tuple(names))})

    return make


def without_teacher(members: Members) -> bytes:
    """The teacher's stage is neither there nor in the plan; its pupil still names it."""
    pupil = pupil_in(members)
    teacher = json.loads(members[f"stages/{pupil}/stage.json"])["teachers"][0]
    drop = lambda value: {**value, "stages": [key for key in value["stages"] if key != teacher]}  # noqa: E731
    set_json(members, "run/plan.json", drop)
    return packed({name: raw for name, raw in members.items() if teacher not in name})


def plan_twice(members: Members) -> bytes:
    first = stages_in(members)[0]
    set_json(members, "run/plan.json", lambda value: {**value, "stages": [first, first, *value["stages"][2:]]})
    return packed(members)


def part_of_stage(members: Members, part: str, fields: dict[str, Any]) -> bytes:
    set_stage(members, lambda value: {**value, part: {**value[part], **fields}})
    return packed(members)


def recipe(members: Members, **fields: Any) -> bytes:
    return part_of_stage(members, "recipe", fields)


def loss(members: Members, **fields: Any) -> bytes:
    return part_of_stage(members, "loss", fields)


def data(members: Members, **fields: Any) -> bytes:
    return part_of_stage(members, "data", fields)


def flipped(members: Members) -> bytes:
    name = f"stages/{stages_in(members)[0]}/weights.safetensors"
    members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])
    return packed(members)
