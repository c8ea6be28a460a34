"""Stages nobody should take in: their results and epochs, their answers, their weights."""

from __future__ import annotations

import json
import struct
import zipfile

import numpy as np

from tests.faults.bundle_changes import (
    PICKLE,
    Bad,
    answers,
    classes,
    event,
    events,
    file,
    flipped,
    result,
    row,
    taught,
    two,
    weights,
)
from tests.faults.made_bundles import PART, npy, packed

LOGITS = np.random.default_rng(0).normal(size=(900, 10)).astype(np.float16)
HALVES = npy(LOGITS)
IMPOSSIBLE = "impossible value"
NO_SUM = {"sha256": "0" * 64, "bytes": 1}
RESULTS = [
    Bad("an accuracy of 1.5", result(test_acc=1.5), IMPOSSIBLE, result(test_acc=0.25)),
    Bad("an accuracy that is true", result(test_acc=True), "not a result", result(test_acc=1)),
    Bad("a calibration error of 2", result(ece=2.0), IMPOSSIBLE, result(ece=1.0)),
    Bad("a loss of 10^308", result(test_loss=1e308), IMPOSSIBLE, result(test_loss=1e6)),
    Bad("minus one second", result(seconds=-1.0), IMPOSSIBLE, result(seconds=1e9)),
    Bad("a speed of 10^300", result(images_per_second=1e300), IMPOSSIBLE, result(images_per_second=1e6)),
    Bad("a machine with 10^308 threads", result(env={"threads": 1e308}), IMPOSSIBLE, result(env={"threads": 96})),
    Bad("an agreement of 300 digits", taught(agreement=-5e300), IMPOSSIBLE, taught(agreement=1.0)),
    Bad("a distance of 300 digits", taught(kl=5e300), IMPOSSIBLE, taught(kl=7.5)),
    Bad("less memory in a way nobody knows", result(memory="evil"), IMPOSSIBLE, result(memory="half batch")),
    Bad("less memory as a list", result(memory=["half batch"]), IMPOSSIBLE),
    Bad("an end in the future", result(finished="9998-01-01T00:00:00"), IMPOSSIBLE),
    Bad("parts of a plain network", result(parts=[PART]), "another number of parts", result(parts=[])),
    Bad("a part with an accuracy of 2", result(parts=[PART | {"val_acc": 2}]), IMPOSSIBLE),
    Bad("a part with a loss of 10^308", result(parts=[PART | {"test_loss": 1e308}]), IMPOSSIBLE),
    Bad("a list for a mapping", result(agreement=[]), IMPOSSIBLE, result(agreement={})),
    Bad("a text for a number", result(kl={"a": "b"}), IMPOSSIBLE, result(kl={})),
    Bad(
        "a machine with HTML",
        result(env={"device_name": "<img src=x>"}),
        IMPOSSIBLE,
        result(env={"device_name": "H200"}),
    ),
    Bad("a machine written backwards", result(env={"device_name": "\u202eabc"}), IMPOSSIBLE),
    Bad("a note with a line break", result(note="a\nb"), IMPOSSIBLE, result(note="a sentence")),
    Bad("a field too many", result(evil=1), "'evil'"),
    Bad("a newer result", result(schema=2), "newer version"),
    Bad("the result of another stage", result(key="0" * 32), "not a result"),
    Bad("another number of epochs", result(epochs=7), "number of epochs or classes"),
    Bad("another number of classes", result(correct_classes=[1]), "number of epochs or classes"),
    Bad("a teacher it has not", result(kl={"0" * 32: 0.5}), "names a teacher"),
    Bad("files it must not have", result(files={"../evil": NO_SUM}), "not a result"),
    Bad(
        "a sum of a file that differs",
        result(files={"events.jsonl": NO_SUM}),
        "is not the file",
    ),
    Bad("10,000 epochs", events(lambda rows: rows * (10_000 // len(rows))), "rows, and its stage"),
    Bad("an epoch too few", events(lambda rows: rows[:-1]), "rows, and its stage"),
    Bad("epochs in another order", events(lambda rows: rows[::-1]), "another epoch in the place"),
    Bad("NaN in an epoch", event(b'"loss":0.5', b'"loss":NaN'), "not a number", event(b'"loss":0.5', b'"loss":0.25')),
    Bad("text in an epoch", event(b'"loss":0.5', b'"loss":"x"'), "else than numbers"),
    Bad("HTML as a column", event(b'"lr"', b'"<b>"'), "else than numbers", event(b'"lr"', b'"lr2"')),
    Bad(
        "an accuracy of 10^308",
        event(b'"val_acc":0.5', b'"val_acc":1e308'),
        "impossible value for val_acc",
        event(b'"val_acc":0.5', b'"val_acc":1'),
    ),
    Bad(
        "a loss of -10^300 in an epoch",
        event(b'"loss_kl":0.0', b'"loss_kl":-1e300'),
        "impossible value for loss_kl",
        event(b'"loss_kl":0.0', b'"loss_kl":-0.001'),
    ),
    Bad(
        "seconds before the start",
        event(b'"seconds":', b'"seconds":-'),
        "impossible value for seconds",
        event(b'"seconds":', b'"seconds":1'),
    ),
    Bad("a column too few", event(b'"val_acc"', b'"other"'), "lacks a number"),
]

TORN = "does not belong|not an array|is not a|whole zip"
ANSWERS = [
    Bad("a pickle for answers", file("predictions.npz", PICKLE * 9), "zip"),
    Bad("an array of objects", answers(("logits.npy", npy(np.array([{}]), allow_pickle=True))), "not an array"),
    Bad("no logits", answers(), "no answers", answers(("logits.npy", HALVES))),
    Bad("parts in place of logits", answers(("parts.npy", HALVES)), "does not belong"),
    Bad(
        "another array",
        answers(("logits.npy", HALVES), ("evil.npy", HALVES)),
        "holds \\d+ files|does not belong|at most",
    ),
    Bad(
        "answers of parts it has not",
        answers(("logits.npy", HALVES), ("parts.npy", npy(np.stack([LOGITS, LOGITS], 1)))),
        "holds \\d+ files|does not belong|at most",
    ),
    Bad("fp64 answers", answers(("logits.npy", npy(LOGITS.astype("f8")))), "not an array"),
    Bad("answers for 7 images", answers(("logits.npy", npy(LOGITS[:7]))), "answers for 7 images"),
    Bad("answers of 9 classes", answers(("logits.npy", npy(LOGITS[:, :9]))), "has 10 classes"),
    Bad("NaN answers", answers(("logits.npy", npy(LOGITS + np.float16("nan")))), "not finite"),
    Bad("a shape that lies", answers(("logits.npy", HALVES.replace(b"(900, 10)", b"(901, 10)"))), "than its shape"),
    Bad(
        "a shape of 10^14",
        answers(("logits.npy", HALVES.replace(b"(900, 10), }    ", b"(9000000, 10), }"))),
        "of shape",
    ),
    Bad(
        "an array with code in its header", answers(("logits.npy", HALVES.replace(b"False", b"f()  "))), "not an array"
    ),
    Bad(
        "a bomb of answers",
        answers(("logits.npy", HALVES + bytes(20_000_000))),
        "times smaller|than its shape",
        answers(("logits.npy", HALVES), method=zipfile.ZIP_STORED),
    ),
]

SEVENS = bytes([7]) * 900
ANSWERS += [
    Bad("answered classes that are none", classes(SEVENS[:-1] + b"\x0a"), "else than the class", classes(SEVENS)),
    Bad("classes answered to one image too few", classes(SEVENS[1:]), "answers for 899 images", classes(SEVENS)),
    Bad("classes answered to no image", classes(b""), "else than the class", classes(SEVENS)),
    Bad("other classes than the answers", classes(SEVENS, alone=False), "other answers than predictions.npz"),
]

HEADER = "overlaps another tensor, leaves a hole or has another size"
WEIGHTS = [
    Bad(
        "a header of 2^63 bytes",
        file("weights.safetensors", lambda raw: struct.pack("<Q", 2**63) + raw[8:]),
        "longer than",
    ),
    Bad(
        "a header longer than the file",
        file("weights.safetensors", lambda raw: struct.pack("<Q", len(raw)) + raw[8:]),
        "longer",
    ),
    Bad("eight bytes", file("weights.safetensors", bytes(8)), "longer than"),
    Bad("a header that is no JSON", weights(lambda _: b"{]"), "not JSON"),
    Bad(
        "a header with a name twice", weights(lambda n: json.dumps({"a": row(n)}).encode()[:-1] + b', "a": 1}'), "twice"
    ),
    Bad("notes with HTML", weights(lambda n: {"a": row(n), "__metadata__": {"a": "<b>"}}), "no plain text"),
    Bad(
        "a tensor with a path as name",
        weights(lambda n: {"../a": row(n)}),
        "no tensor",
        weights(lambda n: {"a": row(n)}),
    ),
    Bad("offsets past the end", weights(lambda n: {"a": row(n, data_offsets=[0, n + 4])}), HEADER),
    Bad("negative offsets", weights(lambda n: {"a": row(n, data_offsets=[-4, n - 4])}), "impossible"),
    Bad(
        "tensors that overlap",
        weights(lambda n: two(n, [0, n], [n - 4, n])),
        HEADER,
        weights(lambda n: two(n, [0, n - 4], [n - 4, n])),
    ),
    Bad("a hole", weights(lambda n: two(n, [0, n - 8], [n - 4, n])), HEADER),
    Bad("bytes of no tensor", weights(lambda n: {"a": row(n - 4)}), "belong to no tensor"),
    Bad("a shape of 2^120", weights(lambda n: {"a": row(n, shape=[2**39] * 3)}), HEADER),
    Bad("a shape with too many places", weights(lambda n: {"a": row(n, shape=[1] * 99)}), "impossible"),
    Bad("a kind of number nobody knows", weights(lambda n: {"a": row(n, dtype="O")}), "do not know|does not know"),
    Bad("numbers of another kind", weights(lambda n: {"a": row(n, dtype="F64")}), HEADER),
    Bad(
        "a wider network",
        weights(numbers=lambda x: np.tile(x, 2)),
        "another number of them",
        weights(numbers=lambda x: -x),
    ),
    Bad(
        "a tensor too many",
        weights(lambda n: two(n, [0, n - 4], [n - 4, n]), lambda x: np.append(x, x[:1])),
        "another number",
    ),
    Bad("NaN weights", weights(numbers=lambda x: x + np.float32("nan")), "not finite"),
    Bad("infinite weights", weights(numbers=lambda x: np.append(x[:-1], np.float32("inf"))), "not finite"),
    Bad("a bit flipped", lambda m: flipped(m), "is not the file that its result.json names"),
    Bad("a pickle for weights", file("weights.safetensors", PICKLE * 9), "longer than|JSON"),
    Bad("a zip for weights", file("weights.safetensors", packed({"a": b"b"})), "longer than|JSON"),
]
