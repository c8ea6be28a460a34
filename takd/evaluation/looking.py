"""The process that looks inside finished networks: `python -m takd.evaluation.looking --store S --what WHAT --id N
[--owner PERSON] KEY ...`. WHAT is `line` or `plane` (loss landscapes), `rise` (how steep the loss is) or `map`
(t-SNE of the answers).

Detached like a worker: it needs no page and no server, and ends by itself. It holds the store's lock of looks while it
lives, says how far it is, and keeps each stage's look as soon as it is there. Exit codes: 0 done, 3 another request
goes on, 4 stopped, 5 failed.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from takd.data.meta import DataError
from takd.evaluation.answers_read import answers
from takd.machine import machine
from takd.runs.errors import StageFailed, StoreError
from takd.runs.locks import look_lock, try_acquire
from takd.runs.looking import WHATS, folder, read_look, write_look, write_progress
from takd.runs.process import STOPPED, Stop, say
from takd.runs.store import Store, open_store
from takd.stage import StageSpec

DONE, BUSY, FAILED = 0, 3, 5
_NICE = 10  # trainings and pages go first
_EVERY = 0.3  # seconds between words about the progress
MAPPED = 600  # test images of a map


class CannotLook(RuntimeError):
    """A sentence saying why a stage cannot be looked at here."""


def map_of(logits: np.ndarray, count: int = MAPPED) -> dict[str, Any]:
    """t-SNE (van der Maaten and Hinton 2008) of the answers to `count` test images, spread evenly over the test part:
    logits (N, classes), each class standardised. The same logits give the same map on one machine."""
    from sklearn.manifold import TSNE

    images = np.linspace(0, len(logits) - 1, min(count, len(logits))).round().astype(int)
    rows = logits[images].astype(np.float64)
    rows = (rows - rows.mean(0)) / np.where(rows.std(0) > 0, rows.std(0), 1.0)
    near = min(30.0, (len(images) - 1) / 3)
    points = TSNE(n_components=2, perplexity=near, init="pca", random_state=0).fit_transform(rows)
    points = points / np.abs(points).max()
    return {
        "images": [int(i) for i in images],
        "x": [round(float(v), 4) for v in points[:, 0]],
        "y": [round(float(v), 4) for v in points[:, 1]],
        "perplexity": round(float(near), 2),
    }


def look(store: Store, stage: StageSpec, what: str, step: Callable[[float], bool]) -> dict[str, Any] | None:
    """What is found out about one stage, as it is stored; None when `step(share done)` says to stop.

    Raises CannotLook where its answers, its weights or its images are not here.
    """
    if what == "map":
        found = answers(store, stage.key)
        if found is None:
            raise CannotLook(f"The answers of {stage.network} are not stored, so they cannot be mapped.")
        return None if step(0.0) else map_of(found.logits)
    import torch

    from takd.evaluation.landscape import landscape, rise, subset
    from takd.evaluation.weights_check import stored_network
    from takd.methods.table import form_of

    torch.set_num_threads(1)  # the sums, and so the bytes, do not depend on how many there are
    if form_of(stage.loss) in ("heads", "sub-models"):
        raise CannotLook(f"{stage.network} has several answers, and so several losses.")
    try:
        network = stored_network(store, stage, store.read_file(stage.key, "weights.safetensors"))
        images = subset(stage.data, stage.noise_seed)
    except StoreError as error:
        raise CannotLook(f"The weights of {stage.network} are not stored here.") from error
    except (DataError, StageFailed, OSError, ValueError) as error:
        raise CannotLook(str(error)[:300]) from error
    if what == "rise":
        return rise(network, stage.key, images, step)
    return landscape(network, stage.key, images, what, step)


class Request:
    """One request from start to end; its lock is held."""

    def __init__(self, store: Store, what: str, keys: Sequence[str], number: str, owner: str = "") -> None:
        self.store, self.what, self.keys = store, what, list(dict.fromkeys(keys))
        self.row: dict[str, object] = {"id": number, "what": what, "owner": owner}
        self.stop = Stop(folder(store))
        self._said = 0.0

    def run(self) -> int:
        """Do it; returns the exit code."""
        try:
            return self._run()
        except CannotLook as error:
            say(str(error))
            self._tell("failed", 0.0, str(error))
        except Exception as error:
            traceback.print_exc()
            self._tell("failed", 0.0, f"{type(error).__name__}: {error}"[:300])
        return FAILED

    def _run(self) -> int:
        for place, key in enumerate(self.keys):
            if read_look(self.store, key, self.what) is not None:
                continue
            stage = self.store.stage(key)
            if stage is None:
                raise CannotLook("One of these networks is not here any more.")

            def step(share: float, place: int = place, name: str = stage.network) -> bool:
                if time.monotonic() - self._said >= _EVERY:
                    self._tell("running", (place + share) / len(self.keys), name)
                return self.stop()

            self._said, began = 0.0, time.monotonic()
            found = look(self.store, stage, self.what, step)
            if found is None:
                self._tell("cancelled", place / len(self.keys), "")
                return STOPPED
            write_look(self.store, key, self.what, {**found, **_made_on(self.what, time.monotonic() - began)})
        self._tell("done", 1.0, "")
        return DONE

    def _tell(self, state: str, share: float, text: str) -> None:
        self._said = time.monotonic()
        write_progress(self.store, {**self.row, "state": state, "share": share, "text": text})


def _made_on(what: str, seconds: float) -> dict[str, Any]:
    """What a look was made on, as a result says it."""
    library = "scikit-learn" if what == "map" else "torch"
    return {"env": {**machine(), library: version(library)}, "seconds": round(seconds, 2)}


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m takd.evaluation.looking", description="Look inside networks.")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--what", choices=WHATS, required=True)
    parser.add_argument("--id", default="")
    parser.add_argument("--owner", default="")
    parser.add_argument("keys", nargs="+")
    options = parser.parse_args(arguments)
    faulthandler.enable()
    store = open_store(options.store)
    folder(store).mkdir(parents=True, exist_ok=True)
    lock = look_lock(store.root)
    if not try_acquire(lock, timeout=2.0):
        return BUSY
    try:
        if hasattr(os, "nice"):
            os.nice(_NICE)
        return Request(store, options.what, options.keys, options.id, options.owner).run()
    finally:
        lock.release()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # at once: taking torch down costs a second
