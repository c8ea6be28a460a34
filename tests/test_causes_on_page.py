"""Every named cause as a visitor meets it: what happened, the last lines of the log, and what to do next."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest

from takd.data.catalogue import available_datasets
from takd.data.folder import import_folder
from takd.data.meta import data_root
from takd.plan import build_plan
from takd.runs.causes import named
from takd.runs.errors import StageFailed, StoreError
from takd.runs.guard import crash_loop
from takd.runs.locks import run_lock
from takd.runs.states import STATES, run_info, write_run_file
from takd.runs.store import Store
from takd.runs.submit import resume, submit
from takd.spec import ExperimentSpec, require_spec, to_json
from takd.training.checkpoints import weights_bytes
from takd.training.run_stage import run_stage
from takd.training.streams import initial_network
from tests.data.test_folder import picture
from tests.runs.conftest import store, wait_end

from .pages_support import SMALL, open_page

__all__ = ["store"]
Env = pytest.MonkeyPatch
LOG = ["2026-01-01T00:00:00+00:00 [7] mlp-8, seed 0: training", "the last line of the log"]


@pytest.fixture(autouse=True)
def fresh_cache() -> None:
    st.cache_resource.clear()


def run_of(store: Store, spec: ExperimentSpec = SMALL, **status: object) -> Path:
    """A run as its worker has left it."""
    folder = store.root / "runs" / "20260101-000000-0000"
    folder.mkdir(parents=True)
    write_run_file(folder, "experiment.json", {"spec": to_json(spec), "created": "2026-01-01T00:00:00+00:00"})
    write_run_file(folder, "status.json", status)
    (folder / "log.txt").write_text("\n".join([*["an early line"] * 30, *LOG, ""]))
    return folder


def card(page: str | None = None) -> tuple[str, str, list[str]]:
    """(all sentences, the log, the buttons) of the page on which the question was asked, or of another one."""
    at: AppTest = open_page(SMALL, page)
    assert not at.exception
    said = " ".join([*(one.value for one in at.caption), *(one.value for one in at.markdown)]).replace("\\", "")
    return said, at.code[-1].value, [one.label for one in at.button]


def plain(text: str) -> str:
    """A sentence as the page escapes it, without the escapes."""
    return text.replace("\\", "")


FAILED: dict[str, tuple[BaseException, str, str]] = {
    "disk full": (OSError(errno.ENOSPC, "No space left on device"), "disk-full", "Free some space"),
    "read-only": (OSError(errno.EROFS, "Read-only file system"), "read-only", "set TAKD_STORE"),
    "permission denied": (PermissionError(errno.EACCES, "x", "/store/lock"), "no-permission", "/store/lock"),
    "file removed": (FileNotFoundError(errno.ENOENT, "x", "/store/stage.json"), "missing-file", "is gone"),
    "out of memory": (torch.OutOfMemoryError("CUDA out of memory"), "out-of-memory", "smaller network"),
    "truncated weights": (
        StoreError("weights.safetensors of stage x was left out or is damaged; train it again."),
        "bad-parent",
        "train it again",
    ),
    "an error of our own": (RuntimeError("boom"), "code-error", "The log has the details"),
}


@pytest.mark.parametrize("name", FAILED)
def test_a_failed_run_says_why_and_what_to_do(store: Store, name: str) -> None:
    error, cause, what = FAILED[name]
    found = named(error)
    assert found.cause_class == cause
    run_of(store, state="failed", reason=found.why, **{"class": found.cause_class})
    said, log, buttons = card()
    assert "Failed" in said and plain(found.why) in said and what in said
    assert STATES["failed"].next_action in said and "Resume" in buttons and "Cancel" not in buttons
    assert log.endswith(LOG[-1]) and len(log.splitlines()) == 20


def test_a_crash_loop_says_how_often_it_died(store: Store) -> None:
    stage = next(iter(build_plan(SMALL, available_datasets()["digits"]).stages.values()))
    store.ensure(stage)
    error = crash_loop(store, stage.key, 3)
    run_of(store, state="failed", reason=f"mlp-8, seed 0: {error.sentence}", **{"class": error.cause_class})
    said, log, buttons = card()
    assert "died 3 times in epoch 1" in said and "Close other programs" in said
    assert LOG[-1] in log and "Resume" in buttons


@pytest.mark.parametrize("cause", ["disk-full", "read-only", "no-permission", "lost"])
def test_a_run_that_could_not_say_why_it_ended_is_explained(store: Store, monkeypatch: Env, cause: str) -> None:
    """The worker could write nothing any more: the page finds out by itself."""
    run_of(store, state="running", requested=0)
    real = os.statvfs(store.root)

    class Disk:
        f_flag, f_frsize = (os.ST_RDONLY if cause == "read-only" else 0), real.f_frsize
        f_bavail = 0 if cause == "disk-full" else 10**6

    monkeypatch.setattr("takd.runs.causes.os.statvfs", lambda _: Disk)
    if cause == "no-permission":
        monkeypatch.setattr("takd.runs.causes.os.access", lambda *_: False)
    info = run_info(store, "20260101-000000-0000")
    assert (info.state, info.cause) == ("lost", cause)
    said, log, buttons = card()
    assert "Interrupted" in said and plain(info.reason) in said and STATES["lost"].next_action in said
    assert LOG[-1] in log and "Resume" in buttons


def test_no_sign_of_life_is_said_of_a_run_that_hangs(store: Store) -> None:
    folder = run_of(store, state="running", pid=4711)
    with run_lock(folder):
        for path in folder.iterdir():
            os.utime(path, (time.time() - 400,) * 2)
        assert run_info(store, folder.name).cause == "quiet"
        said, log, buttons = card()
    assert "Running" in said and "No sign of life for 6 minutes" in said and "end process 4711" in said
    assert "Cancel" in buttons and LOG[-1] in log


def test_foreign_weights_are_named_with_their_teacher(store: Store) -> None:
    """A file whose sums are right, but which is of another network: what the real loader says, on the page."""
    plan = build_plan(SMALL, available_datasets()["digits"])
    pupil = next(stage for stage in plan.stages.values() if stage.teachers)
    pupil = replace(pupil, recipe=replace(pupil.recipe, epochs=1))
    teacher = plan.stages[pupil.teachers[0]]
    for stage in (teacher, pupil):
        store.ensure(stage)
    foreign = weights_bytes(initial_network("mlp-4", 10, 0))
    contents = {"weights.safetensors": foreign, "predictions.npz": b"nobody reads them"}
    store.commit(teacher.key, {"epochs": 1, "test_acc": 0.5}, contents)
    with pytest.raises(StageFailed) as caught:
        run_stage(store, pupil.key, device="cpu")
    assert caught.value.cause_class == "bad-parent"
    run_of(store, state="failed", reason=caught.value.sentence, **{"class": "bad-parent"})
    said, log, _ = card()
    assert "The weights of teacher" in said and "are unusable" in said and "Delete the folder" in said
    assert LOG[-1] in log


# With a worker


def pictures(top: Path) -> dict[str, Any]:
    for part, count in (("train", 60), ("test", 10)):
        for place, name in enumerate(("cat", "dog")):
            for number in range(count):
                picture(top / part / name / f"{number}.png", 1000 * place + number + (500 if part == "test" else 0))
    return import_folder(top, "pets")


@pytest.mark.faults
def test_a_data_set_removed_under_a_run_is_named_and_the_run_goes_on_when_it_is_back(
    store: Store, tmp_path: Path, monkeypatch: Env
) -> None:
    monkeypatch.delenv("TAKD_TRAINER")  # the real one: it is the one that reads images
    monkeypatch.setenv("TAKD_WARM_MINUTES", "0")
    monkeypatch.setenv("TAKD_PROCESSES", "1")
    pictures(tmp_path / "pictures")
    name = "folder-pets"
    values = {"dataset": name, "teacher": "plain-2", "student": "plain-2", "assistants": [], "method": "scratch"}
    spec = require_spec({**values, "seeds": 1, "budget": "taste"}, available_datasets())
    run_id = submit(store, spec, datasets=available_datasets())
    place, away = data_root() / name, tmp_path / "away"
    place.rename(away)  # while the worker starts: its images are gone when it wants them
    info = wait_end(store, run_id, 60.0)
    assert (info.state, info.cause) == ("failed", "bad-data") and "python -m takd data import PATH pets" in info.reason
    # The Playground asks about data sets that are here; the Runs page shows every run that stopped early
    said, log, buttons = card(str(Path(__file__).parents[1] / "pages" / "runs.py"))
    assert plain(info.reason) in said and "Failed" in said and log and "Resume" in buttons
    away.rename(place)
    resume(store, run_id)
    info = wait_end(store, run_id, 120.0)
    assert (info.state, info.reason) == ("done", "")
