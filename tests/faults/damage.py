"""Files that are torn, flipped, foreign or gone: what is left must read as before or as not there, and heal."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from takd.runs.store import Store
from takd.stage import StageSpec
from tests.faults.common import USERS, Bytes, Figures, calm_bytes, digests, in_child, stages_of, time_is_over, train

FINISHED = ("result.json", "stage.json", "weights.safetensors", "predictions.npz")
HALFWAY = ("events.jsonl", "checkpoint.safetensors", "checkpoint.sha256", "progress.json", "stage.json")


def run(size: int, seed: int, root: Path) -> Figures:
    """Cuts at every byte of an event line; then `size` random injuries to files of finished and of halfway stages."""
    figures, dice = Figures("damaged files"), random.Random(seed)
    stages = stages_of(USERS["Ben"])
    calm = calm_bytes(root / "calm", stages)
    _cut_events(figures, root / "events", next(iter(stages.values())))
    for number in range(size):
        if time_is_over():
            break
        place = root / f"damaged-{number}"
        store = Store(place)
        if number % 2:
            shutil.copytree(root / "calm", place)
            names: tuple[str, ...] = FINISHED
        else:
            _halfway(store, stages)
            names = HALFWAY
        kind, problem = _injure(store, stages, calm, dice, names)
        if not problem and in_child(lambda s=store: train(s, stages)) != 0:
            problem = "not trained again"
        figures.add(kind, problem or _healed(store, calm, kind) or figures.count(store, _read(calm, store), again=True))
        shutil.rmtree(place)
    return figures


def _cut_events(figures: Figures, root: Path, stage: StageSpec) -> None:
    """A line of events cut at each of its bytes: the rows before it are read, and the next one is added after them."""
    store = Store(root)
    path = store.ensure(stage) / "events.jsonl"
    store.append_events(stage.key, [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "val_acc": 0.125}])
    raw = path.read_bytes()
    first = raw.index(b"\n") + 1
    for cut in range(first, len(raw)):
        path.write_bytes(raw[:cut])
        read = [row["epoch"] for row in store.read_events(stage.key)[0]]
        store.append_events(stage.key, [{"epoch": 9}])
        after = [row["epoch"] for row in store.read_events(stage.key)[0]]
        figures.add("events cut at a byte", "" if (read, after) == ([1], [1, 9]) else f"{cut}: {read}, then {after}")
    shutil.rmtree(root)


def _halfway(store: Store, stages: dict[str, StageSpec]) -> None:
    """Every stage that needs nobody has two epochs and a checkpoint of them; nothing is finished."""
    from tests.runs import fake_trainer

    for key, stage in stages.items():
        store.ensure(stage)
        if not stage.teachers:
            saved = fake_trainer._start(store, key, ())
            for epoch in range(2):
                fake_trainer._one_epoch(store, key, epoch, saved)
            store.write_progress(key, {"epoch": 2, "epochs": 4})


def _injure(
    store: Store, stages: dict[str, StageSpec], calm: Bytes, dice: random.Random, names: tuple[str, ...]
) -> tuple[str, str]:
    """Harm one file and look at everything: (kind, problem)."""
    name = dice.choice(names)
    paths = [path for key in stages if (path := store.own_folder(key) / name).is_file()]
    path, others = dice.choice(paths), list(paths)
    raw = path.read_bytes()
    how = dice.choice(("cut", "flip", "foreign", "empty", "gone", "garbage", "link"))
    path.unlink()
    if how == "foreign":
        others.remove(path)
        other = dice.choice(others or [store.own_folder(next(iter(stages))) / "stage.json"])
        path.write_bytes(other.read_bytes() if other.is_file() else b"{}")
    elif how == "link":
        path.symlink_to("/etc/passwd")
    elif how != "gone":
        place = dice.randrange(max(1, len(raw)))
        flipped = raw[:place] + bytes([raw[place] ^ (1 << dice.randrange(8))]) + raw[place + 1 :]
        path.write_bytes({"cut": raw[:place], "flip": flipped, "empty": b""}.get(how, dice.randbytes(len(raw))))
    kind = f"{name} {how}"
    try:
        for key in stages:
            for look in (store.result, store.stage, store.progress, store.load_checkpoint, store.read_events):
                look(key)
            store.has_file(key, "weights.safetensors")
        store.broken()
    except Exception as error:
        return kind, f"reading raised {error!r}"
    return kind, ""


def _healed(store: Store, calm: Bytes, kind: str) -> str:
    """Everything a pupil reads is whole again. A flipped digit inside result.json cannot be known for one."""
    if kind == "result.json flip":
        return ""
    missing = [key for key in calm if not Store(store.root).is_done(key)]
    return f"{len(missing)} not done" if missing else ""


def _read(calm: Bytes, store: Store) -> Bytes:
    """What must be equal: files that are whole by their sums. Damaged ones nobody asks for are known as damaged."""
    fresh = Store(store.root)
    found = digests(fresh, calm)
    for key in calm:
        result = fresh.result(key)
        table = {} if result is None else result["files"]
        if any(not fresh.has_file(key, name) for name in table):
            calm = {**calm, key: found[key]}
    return calm
