"""Where the training function comes from, and the device: this room never imports torch by itself."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import ModuleType
from typing import Any, Protocol

from takd.runs.errors import StageFailed, StageStopped
from takd.runs.estimates import only_tiny
from takd.runs.store import Store
from takd.stage import StageSpec

_STOP_LOOK = 0.02
_TRAINER = "takd.training.run_stage:run_stages"


class Trainer(Protocol):
    """Trains stages whose locks the caller holds, of one batch_shape where there are several; returns the failures by
    key. Raises StageStopped after a stop. `pupils` says how many stages of the run learn from each key. See
    takd.training.run_stage."""

    def __call__(
        self,
        store: Store,
        keys: Sequence[str],
        *,
        device: str,
        should_stop: Callable[[], bool],
        report: Callable[[str, Mapping[str, Any]], None],
        pupils: Mapping[str, int],
    ) -> Mapping[str, StageFailed]: ...


def find_trainer(should_stop: Callable[[], bool]) -> Trainer:
    """The training function, imported on first use (this is where torch comes in); $TAKD_TRAINER names another one
    as `module:function`.

    Importing takes seconds on a busy machine, so it happens in a thread that a wish to stop leaves behind. Raises
    StageStopped, and StageFailed when a package is missing.
    """
    answer = _importing()
    while True:
        try:
            trainer: Trainer = getattr(answer.result(_STOP_LOOK), _trainer()[1])
            return trainer
        except TimeoutError:
            if should_stop():
                raise StageStopped("stopped before training began") from None
        except ImportError as error:
            raise StageFailed(
                "missing-package",
                f"A package that training needs is missing ({error}). Install it with: "
                "python -m pip install -r requirements.txt",
            ) from error


def prepare_trainer() -> None:
    """Begin to import the trainer, and call its module's `warm_up()` if it has one, for a process that waits for work;
    a training that comes meanwhile waits for both."""
    _importing(warm=True)


def trainer_state() -> str:
    """`none` where nothing was imported yet, `importing`, `ready` or `broken`."""
    answer = _imports.get(_trainer()[0])
    if answer is None or not answer.done():
        return "none" if answer is None else "importing"
    return "ready" if answer.exception() is None else "broken"


def pick_device(wish: str, stages: Mapping[str, StageSpec]) -> str:
    """`auto`: the first GPU if torch can use it and a network is large enough to gain from it, else the CPU.

    torch is asked in another process where this one has not imported it, so that a waiting worker stays small.
    """
    if wish != "auto":
        return wish
    if only_tiny(stages) or (shutil.which("nvidia-smi") is None and not os.path.exists("/proc/driver/nvidia/version")):
        return "cpu"
    if trainer_state() == "ready" and "torch" in sys.modules:
        return "cuda:0" if sys.modules["torch"].cuda.is_available() else "cpu"
    question = "import torch; print(torch.cuda.is_available())"
    with contextlib.suppress(subprocess.SubprocessError, OSError):
        answer = subprocess.run([sys.executable, "-c", question], capture_output=True, timeout=120, check=False)
        return "cuda:0" if answer.stdout.strip() == b"True" else "cpu"
    return "cpu"


def _trainer() -> tuple[str, str]:
    module, _, function = os.environ.get("TAKD_TRAINER", _TRAINER).partition(":")
    return module, function


_imports: dict[str, Future[ModuleType]] = {}


def _importing(warm: bool = False) -> Future[ModuleType]:
    module = _trainer()[0]
    if module not in _imports:
        _imports[module] = Future()
        threading.Thread(target=_import, args=(module, _imports[module], warm), name="import", daemon=True).start()
    return _imports[module]


def _import(name: str, answer: Future[ModuleType], warm: bool) -> None:
    try:
        module = importlib.import_module(name)
        if warm and hasattr(module, "warm_up"):
            try:
                module.warm_up()
            except Exception:  # the training itself will say what is wrong
                traceback.print_exc()
        answer.set_result(module)
    except BaseException as error:
        answer.set_exception(error)
