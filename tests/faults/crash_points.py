"""kill -9 before, and in the middle of, every operation on files, and reads that fail once: the same points each time,
by number."""

from __future__ import annotations

import builtins
import errno
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from takd.runs import files
from takd.runs.store import Store
from tests.faults.common import USERS, Figures, calm_bytes, in_child, stages_of, time_is_over, train

_NAMES = ("replace", "unlink", "ftruncate", "fsync", "open")
KILLED = -signal.SIGKILL


class Bomb:
    """Counts the operations on files of this process and kills it at one of them. A write is cut in half first, as a
    kill or a power cut would."""

    def __init__(self, point: int, bad_read: int = 0) -> None:
        self.point, self.seen, self.bad_read, self.reads = point, 0, bad_read, 0
        for name in _NAMES:
            setattr(os, name, self._around(getattr(os, name)))
        self._write = os.write
        setattr(os, "write", self._half_write)  # noqa: B010
        setattr(files, "open", self._open)  # noqa: B010
        files._SYNCS = 1  # in order, so that a number names the same point each time

    def _due(self) -> bool:
        self.seen += 1
        return self.seen == self.point

    def _around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self._due():
                os.kill(os.getpid(), signal.SIGKILL)
            # No power is cut here, so waiting for the disk would only make it slow.
            return None if real.__name__ == "fsync" else real(*args, **options)

        return call

    def _half_write(self, descriptor: int, data: bytes) -> int:
        if self._due():
            self._write(descriptor, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return self._write(descriptor, data)

    def _open(self, path: Any, mode: str = "r") -> Any:
        if mode == "rb":
            self.reads += 1
            if self.reads == self.bad_read:
                os.close(path)
                raise OSError(errno.EMFILE, "Too many open files")
            return builtins.open(path, mode)
        file = builtins.open(path, mode)  # noqa: SIM115
        if self._due():
            file.write(b"torn")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return file


def run(size: int, seed: int, root: Path) -> Figures:
    """`size` kills spread over all points of one question's training; then a resumed one is compared with calm."""
    figures, dice = Figures("kill -9 at a point"), random.Random(seed)
    stages = stages_of(USERS["Ben"])
    calm = calm_bytes(root / "calm", stages)

    def disturbed(store_root: Path, point: int, bad_read: int = 0) -> Callable[[], None]:
        def action() -> None:
            bomb = Bomb(point, bad_read)
            train(Store(store_root), stages)
            (root / "points").write_text(f"{bomb.seen} {bomb.reads}")

        return action

    assert in_child(disturbed(root / "count", 0)) == 0
    points, reads = map(int, (root / "points").read_text().split())
    figures.notes.append(f"{points} points and {reads} reads in {len(stages)} stages")
    order = list(range(1, points + 1))
    for number in range(size):
        if time_is_over():
            break
        if number % points == 0:
            dice.shuffle(order)
        place = root / f"kill-{number}"
        code = in_child(disturbed(place, order[number % points]))
        # every other time a second kill hits the resumed one
        if code == KILLED and number % 2:
            in_child(disturbed(place, dice.randint(1, points)))
            figures.add("second kill")
        store = Store(place)
        early = "" if code == KILLED else f"point {order[number % points]}: ended with {code}"
        problem = early or ("" if in_child(lambda s=store: train(s, stages)) == 0 else "not resumed")
        figures.add("kill", problem or figures.count(store, calm))
        shutil.rmtree(place)
    for number in range(size // 2):
        if time_is_over():
            break
        place = root / f"read-{number}"
        in_child(disturbed(place, 0, dice.randint(1, reads)), quiet=True)
        store = Store(place)
        problem = "" if in_child(lambda s=store: train(s, stages)) == 0 else "not resumed"
        # what cannot be read counts as not there, so it may be trained again: the bytes are the same
        figures.add("read that fails once", problem or figures.count(store, calm, again=True))
        shutil.rmtree(place)
    return figures
