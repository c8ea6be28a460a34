"""A small sound bundle made without training, and ways to make it unsound that change one thing and nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from takd.data.catalogue import available_datasets
from takd.networks.table import capacity
from takd.plan import build_plan
from takd.runs.bundle import stored, write_bundle
from takd.runs.layout import with_sum
from takd.runs.store import Store
from takd.runs.submit import write_plan
from takd.spec import require_spec
from takd.spec import to_json as spec_json
from takd.stage import StageSpec, canonical_json

RUN = "20260101-000000-0001"
ASKED = {"dataset": "digits", "budget": "taste", "seeds": 1, "scope": "chain", "method": "kd"}
ASKED |= {"teacher": "mlp-16", "student": "mlp-8"}
# A row of the parts of a stage in which several answer.
PART = {"name": "a", "val_acc": 0.5, "test_acc": 0.5, "test_loss": 1.0, "ece": 0.1, "entropy": 1.0}
PART |= {"correct_classes": [45] * 10}
Members = dict[str, bytes]
Change = Callable[[Members], None]


def made_store(root: Path) -> Store:
    """A store with one finished run whose numbers nobody trained, but whose files are what a training leaves."""
    store, data = Store(root), available_datasets()["digits"]
    plan = build_plan(require_spec(ASKED), data)
    folder = root / "runs" / RUN
    folder.mkdir(parents=True)
    write_plan(store, folder, plan)
    experiment = {"spec": spec_json(plan.spec), "created": "2026-01-01T00:00:00.000+00:00", "asked_by": "Ada"}
    for name, value in (
        ("experiment.json", {**experiment, "note": "first"}),
        ("status.json", {"state": "done", "pid": 7, "device": "cpu"}),
    ):
        (folder / name).write_bytes(canonical_json({**value, "schema": 1}))
    for number, stage in enumerate(plan.stages.values()):
        _finish(store, stage, data.test, number)
    return store


def _finish(store: Store, stage: StageSpec, images: int, seed: int) -> None:
    dice, epochs, classes = np.random.default_rng(seed), stage.recipe.last, stage.data.classes
    numbers = {"loss": 0.5, "loss_ce": 0.5, "loss_kl": 0.0, "lr": 0.1, "val_loss": 0.5, "images_per_second": 9.0}
    rows = [{"epoch": n, "seconds": n / 8, "val_acc": 0.5, "train_acc": 0.5, **numbers} for n in range(1, epochs + 1)]
    store.append_events(stage.key, rows)
    answers = io.BytesIO()
    np.savez_compressed(answers, logits=dice.normal(size=(images, classes)).astype(np.float16))
    weights = dice.normal(size=capacity(stage.network, classes).params).astype("<f4")
    result = {
        "epochs": epochs,
        "test_acc": 0.5,
        "test_loss": 1.0,
        "ece": 0.1,
        "entropy": 1.0,
        "val_acc": 0.5,
        "val_best": 0.5,
        "val_best_epoch": 1,
        "train_acc": 0.5,
        "seconds": epochs / 8,
        "images_per_second": 9.0,
        "agreement": dict.fromkeys(stage.teachers, 0.5),
        "kl": dict.fromkeys(stage.teachers, 0.1),
        "correct_classes": [images // 20] * classes,
        "peak_memory_mb": 1.0,
        "finished": "2026-01-01T00:00:01+00:00",
        "env": {"device": "cpu", "device_name": "a machine", "threads": 1},
    }
    store.commit(stage.key, result, {"weights.safetensors": tensors(weights), "predictions.npz": answers.getvalue()})


def tensors(numbers: np.ndarray[Any, Any], header: Any = None, name: str = "net.weight") -> bytes:
    """A safetensors file of one tensor; `header` in place of the right one (bytes, or what JSON makes of it)."""
    row = {name: {"dtype": "F32", "shape": list(numbers.shape), "data_offsets": [0, numbers.nbytes]}}
    raw = header if isinstance(header, bytes) else json.dumps(row if header is None else header).encode()
    return struct.pack("<Q", len(raw)) + raw + numbers.tobytes()


def members_of(store: Store) -> Members:
    """The files of the sound bundle by name."""
    file = io.BytesIO()
    write_bundle(store, RUN, file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: Members, *more: tuple[zipfile.ZipInfo | str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file of these members, and more that may repeat names. `method` is not for what is never packed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings(action="ignore"):  # a name may be there twice
        for name, raw in (*members.items(), *more):
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            how = zipfile.ZIP_STORED if stored(info.filename) else method
            archive.writestr(info, raw, how if isinstance(name, str) else info.compress_type)
    return file.getvalue()


def stages_in(members: Members) -> list[str]:
    """Keys of the stages, teachers first."""
    return list(json.loads(members["run/plan.json"])["stages"])


def pupil_in(members: Members) -> str:
    """The stage that has a teacher."""
    return next(key for key in stages_in(members) if json.loads(members[f"stages/{key}/stage.json"])["teachers"])


def set_json(members: Members, name: str, change: Callable[[Any], Any]) -> None:
    """Change the values of a JSON member, written as the program writes it."""
    value = json.loads(members[name])
    value = change(value) or value
    if name.endswith("/result.json") and value.pop("sum", None) is not None:
        members[name] = with_sum(value)  # as whoever forges one would
    else:
        members[name] = canonical_json(value)


def set_file(members: Members, key: str, name: str, raw: bytes) -> None:
    """Put other bytes in place of a stage's file, with a result.json that agrees."""
    members[f"stages/{key}/{name}"] = raw
    row = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    set_json(members, f"stages/{key}/result.json", lambda value: {**value, "files": {**value["files"], name: row}})


def set_result(members: Members, **fields: Any) -> None:
    """Change fields of the first stage's result."""
    set_json(members, f"stages/{stages_in(members)[0]}/result.json", lambda value: {**value, **fields})


def set_stage(members: Members, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change what the pupil's stage is, and put everything under its new key."""
    old = pupil_in(members)
    raw = canonical_json(change(json.loads(members[f"stages/{old}/stage.json"])))
    new = hashlib.sha256(raw).hexdigest()[:32]
    move_stage(members, old, new)
    members[f"stages/{new}/stage.json"] = raw


def move_stage(members: Members, old: str, new: str) -> None:
    """Put a stage under another key: folder, plan and result say the new one."""
    for name in [name for name in members if name.startswith(f"stages/{old}/")]:
        members[name.replace(old, new)] = members.pop(name)
    members["run/plan.json"] = members["run/plan.json"].replace(old.encode(), new.encode())
    name = f"stages/{new}/result.json"
    members[name] = members[name].replace(old.encode(), new.encode())
    set_json(members, name, lambda value: value)


def npz(*arrays: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A file of answers from raw members."""
    return packed(dict(arrays), method=method)


def npy(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    """The bytes of an .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()
