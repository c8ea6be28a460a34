"""Test answers and weights of strangers, looked at without torch and without loading anything that could run.

Headers are read before a byte of the numbers is, and every size follows from them.
"""

from __future__ import annotations

import io
import math
import re
import struct
from typing import Any

import numpy as np

from takd.runs.archive import Archive, Limits
from takd.runs.strict import Unfit, is_plain_text, strict_object

_MOST_IMAGES, _MOST_CLASSES = 200_000, 10_000
_MOST_ANSWERS = 250_000_000  # bytes of one array: the test part of ImageNet takes 100 MB
_ARRAY_NAMES = ("logits.npy", "parts.npy")
_NPY = b"\x93NUMPY\x01\x00"
_NPY_HEADER = re.compile(
    rb"\{'descr': '<f2', 'fortran_order': (?:False|True), 'shape': \((\d{1,7}(?:, \d{1,7}){1,2})\), \} *\n"
)
_WEIGHTS_HEADER = 2_000_000  # bytes
_TENSOR_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_BYTES_OF = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_NOT_TRAINED = ("running_mean", "running_var")  # buffers of batch norm


def check_answers(raw: bytes, classes: int, parts: int) -> int:
    """The number of images in predictions.npz: float16 logits (images, classes), and (images, parts, classes) beside
    them where several answer, `parts` of them (else 0). Raises Unfit."""
    names = _ARRAY_NAMES if parts else _ARRAY_NAMES[:1]
    limits = Limits(len(names), len(names) * _MOST_ANSWERS, lambda name: _MOST_ANSWERS if name in names else None)
    with Archive(io.BytesIO(raw), limits) as archive:
        if set(archive.names) != set(names):
            raise Unfit("holds no answers" if _ARRAY_NAMES[0] not in archive.names else "holds no answers of its parts")
        shapes = {name: _array(name, archive.read(name)) for name in archive.names}
    logits = shapes[_ARRAY_NAMES[0]]
    if len(logits) != 2 or logits[1] != classes:
        raise Unfit(f"holds answers of shape {logits}, and its data set has {classes} classes")
    if parts and shapes[_ARRAY_NAMES[1]] != (logits[0], parts, classes):
        raise Unfit(f"holds answers of {parts} parts in the shape {shapes[_ARRAY_NAMES[1]]} beside {logits}")
    return logits[0]


def _array(name: str, raw: bytes) -> tuple[int, ...]:
    """The shape of an .npy file of float16 numbers, all finite."""
    length = struct.unpack("<H", raw[8:10])[0] if len(raw) >= 10 else 0
    header = _NPY_HEADER.fullmatch(raw[10 : 10 + length])
    if not raw.startswith(_NPY) or header is None:
        raise Unfit(f"holds {name}, which is not an array of answers")
    shape = tuple(int(number) for number in header[1].split(b", "))
    if not 0 < shape[0] <= _MOST_IMAGES or not 0 < shape[-1] <= _MOST_CLASSES or 0 in shape:
        raise Unfit(f"holds {name} of shape {shape}")
    if len(raw) != 10 + length + 2 * math.prod(shape):
        raise Unfit(f"holds {name} in another size than its shape says")
    if not np.isfinite(np.frombuffer(raw, "<f2", offset=10 + length)).all():
        raise Unfit(f"holds {name} with numbers that are not finite")
    return shape


def check_weights(raw: bytes) -> int:
    """The number of trained weights in a safetensors file whose header is sound, whose tensors lie side by side and
    whose numbers are finite. Raises Unfit."""
    length = struct.unpack("<Q", raw[:8])[0] if len(raw) >= 8 else 0
    if not 2 <= length <= min(_WEIGHTS_HEADER, len(raw) - 8):
        raise Unfit("has a header that is longer than the file or than any network's")
    header = strict_object(raw[8 : 8 + length], _WEIGHTS_HEADER, canonical=False)
    said = header.pop("__metadata__", {})
    if not isinstance(said, dict) or len(said) > 20 or not all(map(is_plain_text, (*said, *said.values()))):
        raise Unfit("has a header with notes that are no plain text")
    if not header:
        raise Unfit("holds no weights")
    rows = sorted((_tensor(name, row) for name, row in header.items()), key=lambda row: row[2:])
    numbers, place, trained = raw[8 + length :], 0, 0
    for name, kind, begin, end, count in rows:
        if begin != place or end - begin != count * _BYTES_OF[kind] or end > len(numbers):
            raise Unfit(f"has a header by which {name} overlaps another tensor, leaves a hole or has another size")
        if not _finite(numbers[begin:end], kind):
            raise Unfit(f"holds {name} with numbers that are not finite")
        place = end
        if (kind in _FLOATS or kind == "BF16") and not name.endswith(_NOT_TRAINED):
            trained += count
    if place != len(numbers):
        raise Unfit("holds bytes that belong to no tensor")
    return trained


def _tensor(name: str, row: Any) -> tuple[str, str, int, int, int]:
    """(name, kind, begin, end, how many numbers) of one row of the header."""
    if not _TENSOR_NAME.fullmatch(name) or not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        raise Unfit("has a header with a row that describes no tensor")
    kind, shape, place = row["dtype"], row["shape"], row["data_offsets"]
    if kind not in _BYTES_OF:
        raise Unfit(f"holds {name} as numbers of a kind this program does not know")
    if not _whole(shape, 8) or not _whole(place, 2) or len(place) != 2:
        raise Unfit(f"has a header by which {name} has an impossible shape or place")
    return name, kind, place[0], place[1], math.prod(shape)


def _whole(value: Any, most: int) -> bool:
    return isinstance(value, list) and len(value) <= most and all(type(n) is int and 0 <= n < 2**40 for n in value)


def _finite(raw: bytes, kind: str) -> bool:
    if kind == "BF16":  # the upper half of an fp32: not finite where all bits of the exponent are set
        return not ((np.frombuffer(raw, "<u2") & 0x7F80) == 0x7F80).any()
    return kind not in _FLOATS or bool(np.isfinite(np.frombuffer(raw, _FLOATS[kind])).all())
