"""Runs from asking to the end, with real worker processes and a trainer without torch."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from takd.plan import build_plan
from takd.runs import submit as submit_module
from takd.runs.errors import RunError
from takd.runs.failures import failure
from takd.runs.locks import is_held, run_lock, stage_lock
from takd.runs.loop import needed, train_all
from takd.runs.states import STATES, list_runs, log_tail, run_folder, run_info, write_run_file
from takd.runs.store import REPO, Store
from takd.runs.submit import cancel, delete, resume, submit
from takd.runs.tickets import draw_ticket
from takd.spec import ExperimentSpec, to_json
from tests.runs.conftest import CHAIN, DATA, LADDER, LONE, helpers_of, lead_of, seeded, wait_end, wait_for, workers
from tests.runs.fake_trainer import notes

Env = pytest.MonkeyPatch


def ask(store: Store, spec: ExperimentSpec, asked_by: str = "", replaces: str | None = None) -> str:
    return submit(store, spec, asked_by, datasets=DATA, replaces=replaces)


def digests(store: Store, spec: ExperimentSpec) -> dict[str, tuple[bytes, ...]]:
    """All bytes a stage leaves that do not depend on time, in the order of the plan."""
    found = {}
    for key in build_plan(spec, DATA["digits"]).stages:
        result = store.result(key)
        assert result is not None
        found[key] = tuple(store.read_file(key, name) for name in sorted(result["files"]))
    return found


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, ...]]:
    """What a ladder leaves when nothing disturbs it."""
    with pytest.MonkeyPatch.context() as env:
        env.setenv("TAKD_TRAINER", "tests.runs.fake_trainer:run_stages")
        store = Store(tmp_path_factory.mktemp("calm"))
        stages = build_plan(LADDER, DATA["digits"]).stages
        assert train_all(store, stages, device="cpu", should_stop=lambda: False, say=lambda _: None)
        return digests(store, LADDER)


def test_from_asking_to_done(store: Store, calm: dict[str, tuple[bytes, ...]]) -> None:
    run_id = ask(store, LADDER, "Ada")
    first = run_info(store, run_id)
    assert first.state in ("starting", "queued", "running") and first.asked_by == "Ada" and first.origin == "live"
    info = wait_end(store, run_id)
    assert (info.state, info.stages_done, info.reason, info.device) == ("done", info.stages_total, "", "cpu")
    assert info.spec == to_json(LADDER) and info.started and info.finished and info.current == ()
    assert digests(store, LADDER) == calm
    plan = build_plan(LADDER, DATA["digits"])
    written = json.loads((run_folder(store, run_id) / "plan.json").read_text())
    assert written["stages"] == list(plan.stages)
    assert [arm["name"] for arm in written["arms"]] == [arm.name for arm in plan.arms]
    assert [chain["keys"] for chain in written["chains"]] == [list(chain.keys) for chain in plan.chains]
    assert "is done" in log_tail(store, run_id, 5) and (store.root / "rates.json").exists()
    assert [run.id for run in list_runs(store)] == [run_id] and store.broken() == []
    trained = [key for key, *_ in notes(store, "end")]
    assert sorted(trained) == sorted(plan.stages)  # each exactly once
    wait_for(lambda: not workers(store))


def test_a_run_of_finished_stages_ends_at_once(store: Store) -> None:
    wait_end(store, ask(store, CHAIN))
    before = notes(store, "start")
    again = wait_end(store, ask(store, CHAIN), 5.0)
    assert again.state == "done" and again.stages_done == again.stages_total and notes(store, "start") == before
    fresh = Store(store.root.with_name("fresh"), [store.root])
    cached = [run for run in list_runs(fresh) if run.origin == "cached"]
    assert [run.state for run in cached] == ["done", "done"]
    for refused in (cancel, resume, delete):
        with pytest.raises(RunError, match="comes with the program"):
            refused(fresh, again.id)
    own = wait_end(fresh, ask(fresh, CHAIN), 5.0)
    assert own.state == "done" and own.origin == "live" and not (fresh.root / "stages").exists()


def test_a_cached_teacher_without_weights_is_trained_again(store: Store, monkeypatch: Env) -> None:
    stages = build_plan(CHAIN, DATA["digits"]).stages
    say = lambda _: None  # noqa: E731
    assert train_all(store, stages, device="cpu", should_stop=lambda: False, say=say)
    expected = digests(store, CHAIN)
    cached = store.root.with_name("cached")
    store.root.rename(cached)
    teacher = next(key for key, stage in stages.items() if stage.network == "mlp-256")
    for key in stages:
        (cached / "stages" / key[:2] / key / "weights.safetensors").unlink()
    both = Store(store.root, [cached])
    assert needed(both, stages) == set()
    colder = build_plan(replace(CHAIN, temperature=7.0), DATA["digits"]).stages
    new = set(colder) - set(stages)
    assert needed(both, colder) == new | {teacher}
    assert train_all(both, colder, device="cpu", should_stop=lambda: False, say=say)
    assert sorted(key for key, *_ in notes(both, "end")) == sorted(new | {teacher})
    assert both.read_file(teacher, "weights.safetensors") == expected[teacher][-1]
    assert both.origin(teacher) == "cached" and needed(both, colder) == set()


def test_six_processes_train_each_stage_once(store: Store, calm: dict[str, tuple[bytes, ...]]) -> None:
    code = (
        "from takd.runs.store import open_store; from takd.runs.loop import train_all\n"
        "from takd.plan import build_plan; from tests.runs.conftest import LADDER, DATA\n"
        "stages = build_plan(LADDER, DATA['digits']).stages\n"
        "train_all(open_store(), stages, device='cpu', should_stop=lambda: False, say=print)\n"
    )
    racers = [subprocess.Popen([sys.executable, "-c", code], cwd=REPO, stdout=subprocess.DEVNULL) for _ in range(6)]
    assert [racer.wait(40) for racer in racers] == [0] * 6
    assert sorted(key for key, *_ in notes(store, "start")) == sorted(calm)
    assert digests(store, LADDER) == calm


def test_cancel_within_a_second_then_resume(store: Store, monkeypatch: Env, calm: dict[str, tuple[bytes, ...]]) -> None:
    monkeypatch.setenv("FAKE_EPOCH_MS", "400")
    run_id = ask(store, LADDER)
    info = wait_for(lambda: i if len((i := run_info(store, run_id)).current) == 2 else None)
    assert info.state == "running" and all(progress["epochs"] > 0 for _, progress in info.current)
    with pytest.raises(RunError, match="cancel it before"):
        delete(store, run_id)
    with pytest.raises(RunError, match="still running"):
        resume(store, run_id)
    start = time.monotonic()
    cancel(store, run_id)
    assert run_info(store, run_id).state in ("cancelling", "cancelled")
    info = wait_end(store, run_id)
    assert info.state == "cancelled" and time.monotonic() - start < 1.0
    wait_for(lambda: not workers(store))
    monkeypatch.delenv("FAKE_EPOCH_MS")
    resume(store, run_id)
    assert wait_end(store, run_id).state == "done" and digests(store, LADDER) == calm
    with pytest.raises(RunError, match="nothing left"):
        resume(store, run_id)
    delete(store, run_id)
    assert list_runs(store) == [] and store.is_done(next(iter(calm))) and store.broken() == []


@pytest.mark.faults
@pytest.mark.parametrize("victim", ["lead", "helper", "both"])
def test_kill_9_then_resume_gives_the_same_bytes(
    store: Store, monkeypatch: Env, calm: dict[str, tuple[bytes, ...]], victim: str
) -> None:
    monkeypatch.setenv("FAKE_EPOCH_MS", "40")
    run_id = ask(store, LADDER)
    wait_for(lambda: len(notes(store, "end")) >= 2 and helpers_of(store, run_id))
    lead, helpers = lead_of(store, run_id), helpers_of(store, run_id)
    for process in {"lead": [lead], "helper": helpers, "both": [*helpers, lead]}[victim]:
        process.kill()
    if victim != "helper":
        info = wait_end(store, run_id)
        assert (info.state, info.cause) == ("lost", "lost") and "without a word" in info.reason
        assert info.look.word == "Interrupted" and "checkpoint" in info.look.next_action
        resume(store, run_id)  # at once: a helper of the dead lead may still be stopping
    info = wait_end(store, run_id)
    assert info.state == "done" and digests(store, LADDER) == calm
    if victim == "helper":
        assert "starting another one" in log_tail(store, run_id, 100)


@pytest.mark.faults
def test_sigterm_stops_softly_and_can_be_resumed(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("FAKE_EPOCH_MS", "300")
    run_id = ask(store, CHAIN)
    wait_for(lambda: len(run_info(store, run_id).current) == 2)
    lead_of(store, run_id).send_signal(signal.SIGTERM)
    assert wait_end(store, run_id).state == "lost" and "stopped by the system" in log_tail(store, run_id)
    wait_for(lambda: not workers(store))


def test_a_training_that_does_not_listen_is_ended(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("FAKE_HANG", "mlp-256")
    monkeypatch.setenv("TAKD_KILL_AFTER", "0.2")
    run_id = ask(store, CHAIN)
    wait_for(lambda: any(row[1] == "mlp-256" for row in notes(store, "start")))
    cancel(store, run_id)
    assert wait_end(store, run_id, 8.0).state == "cancelled"
    wait_for(lambda: not workers(store))


def test_cancel_does_not_wait_for_a_slow_import(store: Store, monkeypatch: Env, tmp_path: Path) -> None:
    (tmp_path / "slow_trainer.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TAKD_TRAINER", "slow_trainer:run_stages")
    run_id = ask(store, CHAIN)
    wait_for(lambda: len(run_info(store, run_id).current) == 2)
    start = time.monotonic()
    cancel(store, run_id)
    assert wait_end(store, run_id).state == "cancelled" and time.monotonic() - start < 1.5
    wait_for(lambda: not workers(store))


def test_runs_train_in_the_order_they_were_asked_for(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("FAKE_EPOCH_MS", "60000")
    first = ask(store, LONE)
    wait_for(lambda: run_info(store, first).state == "running")
    monkeypatch.setenv("FAKE_EPOCH_MS", "1")
    second, third = ask(store, seeded(LONE, 7)), ask(store, seeded(LONE, 8))
    wait_for(lambda: [run_info(store, run).state for run in (second, third)] == ["queued", "queued"])
    assert [run_info(store, run).position for run in (first, second, third)] == [None, 1, 2]
    assert [run.id for run in list_runs(store)] == [third, second, first]
    cancel(store, first)
    assert wait_end(store, third).state == wait_end(store, second).state == "done"
    assert [row[2] for row in notes(store, "end")] == ["7", "8"]


@pytest.mark.faults
def test_a_killed_run_hands_the_device_on(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("FAKE_EPOCH_MS", "60000")
    first = ask(store, LONE)
    wait_for(lambda: run_info(store, first).state == "running")
    monkeypatch.setenv("FAKE_EPOCH_MS", "1")
    second = ask(store, seeded(LONE, 7))
    wait_for(lambda: run_info(store, second).state == "queued")
    lead_of(store, first).kill()
    assert wait_end(store, second).state == "done" and run_info(store, first).state == "lost"


@pytest.mark.parametrize("cause", ["diverged", "crash"])
def test_a_failure_is_named_and_blocks_only_what_needs_it(store: Store, monkeypatch: Env, cause: str) -> None:
    monkeypatch.setenv("FAKE_FAIL", f"mlp-64:{cause}")
    run_id = ask(store, LADDER)
    info = wait_end(store, run_id)
    stages = build_plan(LADDER, DATA["digits"]).stages
    failed = {key for key, stage in stages.items() if stage.network == "mlp-64"}
    blocked = {key for key, stage in stages.items() if failed & set(stage.teachers)}
    assert failed and blocked
    assert {key for key in stages if not store.is_done(key)} == failed | blocked
    assert {key for key in stages if failure(store, key)} == failed
    assert info.state == "failed" and info.cause == ("diverged" if cause == "diverged" else "code-error")
    assert info.reason.startswith("mlp-64") and "more trainings could not be done" in info.reason
    assert ("RuntimeError: boom" in log_tail(store, run_id, 200)) == (cause == "crash")
    monkeypatch.delenv("FAKE_FAIL")
    resume(store, run_id)
    info = wait_end(store, run_id)
    assert (info.state, info.reason, info.stages_done) == ("done", "", info.stages_total)


def test_a_missing_package_is_named(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_TRAINER", "no_such_package:run_stages")
    info = wait_end(store, ask(store, LONE))
    assert (info.state, info.cause) == ("failed", "missing-package") and "pip install" in info.reason


def test_a_data_set_that_was_never_prepared_is_prepared_by_the_worker(store: Store) -> None:
    unprepared = {"digits": replace(DATA["digits"], fingerprint=None)}
    run_id = submit(store, LONE, datasets=unprepared)
    info = wait_end(store, run_id, 40.0)
    assert (info.state, info.stages_total) == ("done", 1), info.reason


# States without a worker


def make_run(store: Store, run_id: str = "20260101-000000-0000", **status: object) -> Path:
    folder = store.root / "runs" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    write_run_file(folder, "experiment.json", {"spec": to_json(LONE), "created": "2026-01-01T00:00:00+00:00"})
    if status:
        write_run_file(folder, "status.json", status)
    return folder


def test_states_follow_from_files_and_lock(store: Store) -> None:
    folder = make_run(store)
    name = folder.name

    def state() -> str:
        return run_info(store, name).state

    assert state() == "starting"
    make_run(store, state="starting", requested=time.time() - 60)
    assert state() == "lost" and "did not start" in run_info(store, name).reason
    for said, free, held in [
        ("starting", "lost", "starting"),
        ("queued", "lost", "queued"),
        ("running", "lost", "running"),
        ("done", "done", "done"),
        ("failed", "failed", "failed"),
        ("cancelled", "cancelled", "cancelled"),
        ("nonsense", "lost", "starting"),
    ]:
        make_run(store, state=said, requested=0)
        assert state() == free
        with run_lock(folder):
            assert state() == held
    make_run(store, state="running")
    (folder / "cancel").touch()
    assert state() == "cancelled"
    with run_lock(folder):
        assert state() == "cancelling"
    (folder / "status.json").write_text("{torn")
    assert state() in STATES and all(row.icon and row.word and row.next_action for row in STATES.values())


def test_probing_a_lock_never_creates_it(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "lock") and list(tmp_path.iterdir()) == []
    with stage_lock(tmp_path):
        assert is_held(tmp_path / "lock")
    assert not is_held(tmp_path / "lock") and (tmp_path / "lock").exists()


@pytest.mark.parametrize("run_id", ["", "../x", "A", "a" * 65, "x\n", "x/y", "20260101-000000-0000", "\0"])
def test_unknown_runs_get_a_sentence(store: Store, run_id: str) -> None:
    for act in (run_info, cancel, resume, delete, log_tail):
        with pytest.raises(RunError, match="no run"):
            act(store, run_id)


def test_damaged_runs_are_left_out_of_the_list(store: Store) -> None:
    make_run(store)
    (make_run(store, "20260101-000000-0001") / "experiment.json").write_text("[]")
    (make_run(store, "20260101-000000-0002") / "plan.json").write_text('{"schema":1,"stages":["../x"]}')
    assert [run.id[-1] for run in list_runs(store)] == ["2", "0"] and list_runs(store)[0].stages_total == 0
    assert [name for name, _ in store.broken()] == ["20260101-000000-0001"]


# Refusals


def test_submit_refuses_with_a_sentence(store: Store, monkeypatch: Env, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not on this machine"):
        ask(store, replace(LONE, dataset="folder-gone"))
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="TAKD_STORE"):
        ask(Store(tmp_path / "file" / "store"), LONE)
    for number in range(50):
        folder = make_run(store, f"20990101-000000-{number:04x}", state="starting", requested=time.time())
        draw_ticket(store.root, folder.name)
    with pytest.raises(RunError, match="50 runs are waiting"):
        ask(store, LONE)
    usage = shutil.disk_usage(tmp_path)._replace(free=10**8)
    monkeypatch.setattr(submit_module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(RunError, match="100 MB are free"):
        ask(store, LONE)
    assert workers(store) == []


def test_a_full_disk_leaves_no_half_made_run(store: Store, monkeypatch: Env) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(submit_module, "write_plan", full)
    with pytest.raises(RunError, match="No space"):
        ask(store, LONE)
    assert list((store.root / "runs").iterdir()) == [] and workers(store) == []


def test_run_ids_sort_by_time_and_never_repeat(store: Store) -> None:
    names = [submit_module._new_folder(store).name for _ in range(50)]
    assert names == sorted(set(names))


def test_a_second_worker_for_the_same_run_goes_away(store: Store, monkeypatch: Env) -> None:
    folder = make_run(store)
    with run_lock(folder):
        command = [sys.executable, "-m", "takd.runs.worker", "--store", str(store.root), "--run", folder.name]
        assert subprocess.run(command, cwd=REPO, timeout=30, check=False).returncode == 3
    command[-1] = "none"
    done = subprocess.run(command, cwd=REPO, timeout=30, check=False, capture_output=True)
    assert done.returncode == 5 and b"no run" in done.stdout


def test_the_worker_starts_without_torch() -> None:
    code = "import sys, takd.runs.worker, takd.runs.submit; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, timeout=30, check=False).returncode == 0
