"""A worker's wait for its device: cheap, in the order of the queue, with a sign of life."""

from __future__ import annotations

import time
from collections.abc import Callable

from filelock import FileLock

from takd.runs.locks import slot_lock, try_acquire
from takd.runs.signs import TOUCH_SECONDS
from takd.runs.states import waiting_before
from takd.runs.store import Store
from takd.runs.tickets import touch_ticket

_LOOKS = (0.01, 0.3)  # seconds between looks at the queue: at first, in the end


def wait_for_turn(store: Store, run_id: str, device: str, stop: Callable[[], bool]) -> FileLock | None:
    """The device's slot when it is this run's turn; None when it is to stop first."""
    slot = slot_lock(store.root, device)
    pause, longest = _LOOKS
    touched = -TOUCH_SECONDS
    while not stop():
        if (now := time.monotonic()) - touched >= TOUCH_SECONDS:
            touched = now
            touch_ticket(store.root, run_id)
        if not waiting_before(store, run_id, device) and try_acquire(slot):
            return slot
        time.sleep(pause)
        pause = min(1.5 * pause, longest)
    return None
