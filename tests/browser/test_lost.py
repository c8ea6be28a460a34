"""kill -9 of the worker, of the server, and of both: within 15 seconds the page says "Interrupted" by itself, and
resuming goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil

from takd.runs.states import run_info
from takd.runs.store import Store
from tests.runs.conftest import workers

from .conftest import TRAINED, Server, settled
from .test_app import states

QUESTION = (
    "d=digits&t=cnn8-32&ta=cnn8-8&s=cnn8-2&scope=chain&n=6"  # some twenty seconds: long enough to be killed three times
)
WITHIN = 20.0  # seconds: 15, and what a busy machine adds while other browsers are tested beside this one


def kill_workers(store: Path) -> int:
    """kill -9 of every worker of a store, helpers and the idle one among them; how many there were."""
    found = workers(Store(store))
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return len(found)


def kill_server(server: Server) -> None:
    assert server.process is not None
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait(timeout=30)
    server.process = None


def interrupted(page: Any, since: float) -> None:
    page.get_by_text("Interrupted").first.wait_for(timeout=1000 * WITHIN)
    page.get_by_role("button", name="Resume").first.wait_for(timeout=1000 * WITHIN)
    assert time.monotonic() - since < WITHIN


def test_lost_is_seen_within_15_seconds_and_resuming_goes_on(patient_server: Server, visitor: Any) -> None:
    server, page = patient_server, visitor()
    page.goto(f"{server.url}/?{QUESTION}")
    settled(page)
    page.get_by_role("button", name="Run for real").click()
    page.get_by_text("Now:").first.wait_for()

    assert kill_workers(server.store) >= 1  # nobody touches the page
    interrupted(page, time.monotonic())
    assert page.get_by_text("ended without a word").count() and page.get_by_text("Last lines of the log").count()
    page.get_by_role("button", name="Resume").click()
    page.get_by_text("Now:").first.wait_for()

    kill_server(server)  # the training does not notice
    assert states(server)[0] == "running" and workers(Store(server.store))
    server.start()
    page.goto(f"{server.url}/?{QUESTION}")
    page.get_by_text("stages trained").wait_for()
    assert page.get_by_text("Interrupted").count() == 0

    kill_server(server)  # and both at once
    kill_workers(server.store)
    server.start()
    began = time.monotonic()
    page.goto(f"{server.url}/?{QUESTION}")
    interrupted(page, began)
    (run_id,) = [path.name for path in (server.store / "runs").iterdir()]
    store = Store(server.store)
    before = run_info(store, run_id)
    assert before.state == "lost"
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Everything is trained").wait_for(timeout=TRAINED)
    assert run_info(store, run_id).state == "done" and run_info(store, run_id).stages_done > before.stages_done
    assert page.errors == []
