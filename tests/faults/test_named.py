"""Faults with a name: each gives a word for programs and a sentence with the next action."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from takd.runs import process, signs
from takd.runs.causes import named, unwritable
from takd.runs.errors import StageFailed, StoreError
from takd.runs.failures import failure
from takd.runs.guard import MOST_DEATHS, deaths
from takd.runs.locks import run_lock
from takd.runs.states import log_tail, run_folder, run_info
from takd.runs.store import Store
from takd.runs.submit import cancel, resume
from tests.runs.conftest import LONE, lead_of, wait_end, wait_for
from tests.runs.fake_trainer import notes
from tests.runs.test_loop import STAGES
from tests.runs.test_runs import ask, make_run

Env = pytest.MonkeyPatch
pytestmark = pytest.mark.faults


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.ENOSPC, "x"), "disk-full"),
        (OSError(errno.EDQUOT, "x"), "disk-full"),
        (OSError(errno.EFBIG, "x", "/s/weights"), "disk-full"),
        (OSError(errno.EROFS, "x"), "read-only"),
        (PermissionError(errno.EACCES, "x", "/s/lock"), "no-permission"),
        (FileNotFoundError(errno.ENOENT, "x", "/s/stage.json"), "missing-file"),
        (OSError(errno.EMFILE, "x"), "too-many-files"),
        (OSError(errno.EIO, "x", "/s/weights"), "disk-error"),
        (MemoryError(), "out-of-memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out-of-memory"),
        (StoreError("Train it again."), "bad-parent"),
        (StageFailed("diverged", "Try a smaller temperature."), "diverged"),
        (RuntimeError("boom"), "code-error"),
    ],
)
def test_every_cause_has_a_sentence(error: Exception, cause: str) -> None:
    found = named(error)
    assert found.cause_class == cause and found.why.endswith(".") and "{" not in found.why
    if getattr(error, "filename", None):
        assert error.filename in found.why  # type: ignore[attr-defined]


def test_a_store_that_takes_nothing_says_why_a_run_is_lost(store: Store, monkeypatch: Env) -> None:
    folder = make_run(store, state="running", requested=0)
    assert unwritable(store) is None and run_info(store, folder.name).cause == "lost"
    real = os.statvfs(store.root)

    class Full:
        f_flag, f_frsize, f_bavail = 0, real.f_frsize, 0

    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    info = run_info(store, folder.name)
    assert (info.state, info.cause) == ("lost", "disk-full") and "Free some space" in info.reason
    Full.f_flag = os.ST_RDONLY
    assert run_info(store, folder.name).cause == "read-only"
    Full.f_flag, Full.f_bavail = 0, 10**6
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert run_info(store, folder.name).cause == "no-permission"


def test_a_worker_that_hangs_is_shown_and_its_run_goes_on_after_it_is_ended(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("FAKE_EPOCH_MS", "300")
    run_id = ask(store, LONE)
    wait_for(lambda: run_info(store, run_id).current)
    lead = lead_of(store, run_id)
    lead.send_signal(signal.SIGSTOP)
    try:
        assert run_info(store, run_id).reason == ""
        monkeypatch.setattr("takd.runs.states.QUIET_SECONDS", 0.2)
        info = wait_for(lambda: i if (i := run_info(store, run_id)).cause else None)
        assert (info.state, info.cause) == ("running", "quiet")
        assert "No sign of life" in info.reason and f"end process {lead.pid}" in info.reason
        cancel(store, run_id)
        assert run_info(store, run_id).state == "cancelling" and "No sign of life" in run_info(store, run_id).reason
    finally:
        lead.kill()  # what the sentence says
    assert wait_end(store, run_id).state == "cancelled"
    monkeypatch.setenv("FAKE_EPOCH_MS", "0")
    resume(store, run_id)
    assert wait_end(store, run_id).state == "done"


def test_silence_is_not_said_of_a_clock_that_was_set_back(store: Store, monkeypatch: Env) -> None:
    folder = make_run(store, state="running")
    with run_lock(folder):
        now = folder.stat().st_mtime
        monkeypatch.setattr(signs.time, "time", lambda: now - 86_400)
        assert signs.silence(store, folder, ()) == 0 and run_info(store, folder.name).reason == ""
        monkeypatch.setattr(signs.time, "time", lambda: now + 400)
        assert "6 minutes" in run_info(store, folder.name).reason


def test_a_crash_loop_ends_and_a_new_try_starts_afresh(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_TRAINER", "tests.faults.test_named:lethal")
    run_id = ask(store, LONE)
    for _ in range(MOST_DEATHS - 1):
        assert wait_end(store, run_id).state == "lost"
        resume(store, run_id)
    assert wait_end(store, run_id).state == "lost"
    resume(store, run_id)
    info = wait_end(store, run_id)
    assert (info.state, info.cause) == ("failed", "crash-loop")
    assert "died 3 times in epoch 1" in info.reason and "resume" in info.reason
    assert len(notes(store, "dying")) == MOST_DEATHS
    found = failure(store, info.keys[0])
    assert found is not None and "training" in found.log
    monkeypatch.setenv("TAKD_TRAINER", "tests.runs.fake_trainer:run_stages")
    resume(store, run_id)
    assert wait_end(store, run_id).state == "done"
    assert "attempts.json" not in os.listdir(store.own_folder(info.keys[0]))


def lethal(store: Store, *_: object, **__: object) -> None:
    from tests.runs.fake_trainer import note

    note(store, "dying now")
    os.kill(os.getpid(), signal.SIGKILL)


def test_deaths_are_counted_until_there_is_a_new_epoch(store: Store) -> None:
    key, stage = next(iter(STAGES.items()))
    store.ensure(stage)

    def dies(epochs: int) -> int:
        store.rewrite_events(key, [{"epoch": epoch + 1} for epoch in range(epochs)])
        (store.own_folder(key) / "progress.json").write_text("{}")
        return deaths(Store(store.root), key)

    assert deaths(store, key) == 0 and [dies(0), dies(0), dies(1), dies(1), dies(0), dies(2)] == [1, 2, 1, 2, 3, 1]
    assert deaths(store, key) == 1  # stopped in order in between: no new death
    (store.own_folder(key) / "attempts.json").write_text('{"deaths": "many"}')
    assert dies(0) == 1


def test_a_death_is_not_blamed_on_those_trained_beside_it(store: Store, monkeypatch: Env) -> None:
    """Three deaths of a batch: from the second on each is trained alone, so only the culprit reaches the limit."""
    from tests.faults.common import in_child, train

    monkeypatch.setenv("FAKE_EPOCH_MS", "0")
    monkeypatch.setenv("TAKD_TRAINER", "tests.faults.test_named:picky")
    some = {key: stage for key, stage in STAGES.items() if not stage.teachers and stage.network == "mlp-256"}
    assert len(some) == 3
    for _ in range(2):
        assert in_child(lambda: train(store, some)) == -signal.SIGKILL
    codes = [in_child(lambda: train(store, some)) for _ in range(2)]
    assert codes == [-signal.SIGKILL, 0]
    causes = {stage.seed: (failure(store, key), store.is_done(key)) for key, stage in some.items()}
    assert {seed: done for seed, (_, done) in causes.items()} == {0: True, 1: False, 2: True}
    culprit = causes[1][0]
    assert culprit is not None and culprit.cause_class == "crash-loop"


def picky(store: Store, keys: list[str], **options: object) -> object:
    from tests.runs import fake_trainer

    if any(STAGES[key].seed == 1 for key in keys):
        os.kill(os.getpid(), signal.SIGKILL)
    return fake_trainer.run_stages(store, keys, **options)  # type: ignore[arg-type]


def test_a_log_keeps_its_beginning_and_its_end(tmp_path: Path, monkeypatch: Env) -> None:
    log = tmp_path / "log.txt"
    monkeypatch.setattr(process, "LOG_MOST", 1000)
    monkeypatch.setattr(process, "_LOG_HEAD", 100)
    monkeypatch.setattr(process, "_LOG_TAIL", 300)
    with open(log, "ab", buffering=0) as appending:
        for number in range(40):
            appending.write(b"line %d\n" % number)
        process.trim(log)
        assert b"left out" not in log.read_bytes()
        for number in range(40, 400):
            appending.write(b"line %d\n" % number)
            process.trim(log)
        appending.write(b"the end\n")
    raw = log.read_bytes()
    assert len(raw) <= 1100 and raw.startswith(b"line 0\nline 1\n") and raw.endswith(b"line 399\nthe end\n")
    assert b"bytes left out" in raw
    process.trim(tmp_path / "none")


def test_a_run_that_prints_without_end_keeps_a_small_log(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_TRAINER", "tests.faults.test_named:talkative")
    monkeypatch.setenv("FAKE_EPOCH_MS", "60")
    run_id = ask(store, LONE)
    assert wait_end(store, run_id).state == "done"
    log = run_folder(store, run_id) / "log.txt"
    assert log.stat().st_size < 2_000_000 and b"bytes left out" in log.read_bytes()
    assert "is done" in log_tail(store, run_id, 5)


def talkative(store: Store, keys: list[str], **options: object) -> object:
    from tests.runs import fake_trainer

    for _ in range(30):
        print("A warning of a library, once a step. " * 3000, flush=True)
        time.sleep(0.02)
    return fake_trainer.run_stages(store, keys, **options)  # type: ignore[arg-type]
