"""A trainer without torch: deterministic bytes, a checkpoint per epoch, and faults on request.

$FAKE_EPOCHS and $FAKE_EPOCH_MS set its length. $FAKE_FAIL=network:class makes a network fail (crash: an unexpected
error), $FAKE_HANG=network makes it deaf to should_stop.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

from takd.runs.errors import StageFailed, StageStopped
from takd.runs.store import Store


def run_stage(
    store: Store,
    key: str,
    *,
    device: str = "cpu",
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
) -> None:
    stage = store.stage(key)
    assert stage is not None
    note(store, f"start {key} {stage.network} {stage.seed} {os.getpid()}")
    network, _, cause = os.environ.get("FAKE_FAIL", "").partition(":")
    if network == stage.network:
        if cause == "crash":
            raise RuntimeError("boom")
        raise StageFailed(cause, f"{network} went wrong; choose something else.")
    while os.environ.get("FAKE_HANG") == stage.network:
        time.sleep(0.05)
    epochs, pause = int(os.environ.get("FAKE_EPOCHS", "4")), float(os.environ.get("FAKE_EPOCH_MS", "4")) / 1000
    names = ("weights.safetensors", "predictions.npz")
    teachers = b"".join(store.read_file(teacher, name) for teacher in stage.teachers for name in names)
    raw = store.load_checkpoint(key)
    saved = json.loads(raw) if raw is not None else {"rows": [], "state": hashlib.sha256(teachers).hexdigest()}
    rows, state = saved["rows"], saved["state"]
    store.rewrite_events(key, rows)
    for epoch in range(len(rows), epochs):
        until = time.monotonic() + pause
        while time.monotonic() < until:
            if should_stop():
                raise StageStopped("stopped")
            time.sleep(0.001)
        state = hashlib.sha256(f"{state}/{key}/{epoch}".encode()).hexdigest()
        rows.append({"epoch": epoch + 1, "loss": 1 / (epoch + 1), "val_acc": int(state[:6], 16) / 16**6})
        store.save_checkpoint(key, json.dumps({"rows": rows, "state": state}).encode())
        store.append_event(key, rows[-1])
        report({"epoch": epoch + 1, "epochs": epochs})
    result = {"epochs": epochs, "test_acc": rows[-1]["val_acc"], "seconds": 1.0, "images_per_second": 1000.0}
    weights = (state * 100).encode()
    store.commit(key, result, {"weights.safetensors": weights, "predictions.npz": weights[:64]})
    note(store, f"end {key} {stage.network} {stage.seed} {os.getpid()}")


def note(store: Store, line: str) -> None:
    descriptor = os.open(store.root / "trained.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode() + b"\n")
    os.close(descriptor)


def notes(store: Store, word: str) -> list[list[str]]:
    path = store.root / "trained.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[1:] for line in lines if line.startswith(word)]
