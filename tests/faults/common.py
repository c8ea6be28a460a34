"""What every class of faults needs: the plan, what it leaves undisturbed, children to harm, and the figures."""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from takd.plan import build_plan
from takd.runs import files, loop
from takd.runs.store import Store
from takd.spec import ExperimentSpec
from takd.stage import StageSpec
from tests.runs.conftest import CHAIN, DATA, LADDER
from tests.runs.fake_trainer import notes

Bytes = dict[str, tuple[bytes, ...]]

# Four people who ask for overlapping chains: many stages are wanted by more than one of them.
USERS: dict[str, ExperimentSpec] = {
    "Ada": LADDER,
    "Ben": CHAIN,
    "Cy": replace(CHAIN, temperature=CHAIN.temperature + 1),
    "Di": replace(CHAIN, seeds=2),
}


@dataclass
class Figures:
    """What became of the faults of one class."""

    name: str
    injected: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    stages: int = 0  # asked for, over all runs of the suite
    once: int = 0  # of these, committed exactly once
    lost: int = 0  # results that were missing or had other bytes
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, problem: str = "") -> None:
        """One fault, survived unless something is said against it."""
        self.injected[kind] += 1
        if problem:
            self.notes.append(f"{kind}: {problem}")
        else:
            self.survived[kind] += 1

    def count(self, store: Store, calm: Bytes, *, again: bool = False) -> str:
        """Compare a store with what an undisturbed run leaves; what is wrong, or nothing. `again` allows that stages
        were trained again, as after damage."""
        found = digests(store, calm)
        wrong = [key for key, value in calm.items() if found.get(key) != value]
        ends = Counter(key for key, *_ in notes(store, "end"))
        self.stages += 0 if again else len(calm)
        # a kill may come between the commit and its note
        self.once += 0 if again else sum(ends[key] <= 1 and key not in wrong for key in calm)
        self.lost += len(wrong)
        left = [path.name for path in (store.root / "stages").rglob("*.tmp") if ".stage.json." not in path.name]
        problems = [f"{len(wrong)} results differ"] * bool(wrong) + [f"left behind: {left}"] * bool(left)
        problems += [f"committed {ends[key]} times: {key}" for key in calm if ends[key] > 1 and not again]
        problems += [f"broken: {row}" for row in store.broken() if "experiment.json" not in row[1]]
        return "; ".join(problems)

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "injected": dict(self.injected), "survived": dict(self.survived)}


def time_is_over() -> bool:
    """Whether --seconds are over: what is begun is finished, nothing more is injected."""
    return time.monotonic() > float(os.environ.get("TAKD_FAULTS_UNTIL", "inf"))


def stages_of(*specs: ExperimentSpec) -> dict[str, StageSpec]:
    """All stages of some questions, teachers first."""
    return {key: stage for spec in specs for key, stage in build_plan(spec, DATA["digits"]).stages.items()}


def train(store: Store, stages: Mapping[str, StageSpec], say: Callable[[str], None] = lambda _: None) -> None:
    """What a worker does, in this process; a new start gives failed stages another try."""
    loop.clear_failures(store, stages, loop.needed(store, stages))
    assert loop.train_all(store, stages, device="cpu", should_stop=lambda: False, say=say)


def digests(store: Store, keys: Mapping[str, Any]) -> Bytes:
    """All bytes finished stages leave that do not depend on time: weights, answers, events, and the result itself."""
    found = {}
    for key in keys:
        result = Store(store.root, store.cached).result(key)
        if result is not None:
            parts = [files.read_bytes_or_none(store.folder(key) / name) or b"" for name in sorted(result["files"])]
            found[key] = (json.dumps(result, sort_keys=True).encode(), *parts)
    return found


def calm_bytes(root: Path, stages: Mapping[str, StageSpec]) -> Bytes:
    """What the stages leave when nothing disturbs them."""
    store = Store(root)
    train(store, stages)
    found = digests(store, stages)
    assert len(found) == len(stages)
    return found


def in_child(action: Callable[[], None], seconds: int = 60, *, quiet: bool = False) -> int:
    """Do something in a forked process: 0, 1 after an exception (printed, unless `quiet`), or minus the signal that
    ended it. Only for processes without threads."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(seconds)
            files._threads.cache_clear()
            if quiet:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
