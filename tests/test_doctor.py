"""The checks of this machine, and the measurement of its speed."""

from __future__ import annotations

import json
import subprocess
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from takd.cli.main import cli
from takd.runs import doctor
from takd.runs.estimates import known_rates, record_rate
from takd.runs.history import Kept, keep
from takd.runs.store import open_store
from takd.spec import CHOOSABLE


def found(name: str, monkeypatch: pytest.MonkeyPatch) -> list[doctor.Check]:
    """The lines of one check on the test's store."""
    monkeypatch.setattr(doctor, "_CHECKS", {name: doctor._CHECKS[name]})
    return doctor.run_checks(open_store())


def statuses(checks: list[doctor.Check]) -> list[str]:
    return [check.status for check in checks]


def test_a_fresh_store_passes() -> None:
    result = CliRunner().invoke(cli, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout.splitlines()[-1])
    assert value["ok"] is True
    assert [check["name"] for check in value["checks"] if check["status"] == "failed"] == []
    assert {check["name"] for check in value["checks"]} == set(doctor._CHECKS)
    texts = {check["name"]: check["text"] for check in value["checks"]}
    assert "mixed precision computes in" in texts["device"]
    assert "refused to others" in texts["locks"]
    assert "Checking device" in result.stderr
    assert [path.name for path in open_store().root.iterdir()] == []  # nothing is left behind


def test_a_failed_check_ends_with_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("in the way")
    monkeypatch.setattr(doctor, "_CHECKS", {"store": doctor._CHECKS["store"]})
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 1
    assert "1 of 1 checks failed." in result.stdout
    assert "TAKD_STORE" in result.stdout


def test_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    Usage = namedtuple("Usage", "total used free")
    for free, status in ((10**6, "failed"), (10**9, "note"), (10**10, "ok")):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: Usage(10**12, 0, free))
        assert statuses(found("disk", monkeypatch)) == [status, status]


@pytest.mark.parametrize(("answer", "words"), [("False", "another process got a lock"), ("", "gave no answer")])
def test_locks_that_do_not_lock(monkeypatch: pytest.MonkeyPatch, answer: str, words: str) -> None:
    open_store().root.mkdir(parents=True)
    monkeypatch.setattr(doctor, "_ask", lambda *_: subprocess.CompletedProcess([], 0, answer, ""))
    (check,) = found("locks", monkeypatch)
    assert check.status == "failed"
    assert words in check.text
    assert "local disk" in check.text
    monkeypatch.setattr(doctor, "is_held", lambda path: False)
    assert "second handle" in found("locks", monkeypatch)[0].text


def test_torch_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = subprocess.CompletedProcess([], 1, "", "Traceback ...\nImportError: no torch here\n")
    monkeypatch.setattr(doctor, "_ask", lambda *_: broken)
    (check,) = found("device", monkeypatch)
    assert (check.status, "no torch here" in check.text) == ("failed", True)

    def late(*_: str) -> Any:
        raise subprocess.TimeoutExpired("torch", 1)

    monkeypatch.setattr(doctor, "_ask", late)
    assert statuses(found("device", monkeypatch)) == ["failed"]


def test_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.pinned()["click"].count(".") == 2
    monkeypatch.setattr(doctor, "pinned", lambda: {"click": "0.0.1", "no-such-package-here": "1.0", "torch": "2.14.1"})
    checks = found("packages", monkeypatch)
    assert statuses(checks) == ["failed", "note", "ok"]
    assert "no-such-package-here" in checks[0].text
    assert "tested with 0.0.1" in checks[1].text


def test_broken_folders_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAKD_CACHED", str(tmp_path / "cached"))
    bad = "ab" + "0" * 30
    (tmp_path / "store" / "stages" / "ab" / bad).mkdir(parents=True)
    (tmp_path / "store" / "stages" / "ab" / bad / "stage.json").write_text("{}")
    (tmp_path / "cached" / "runs" / "some-run").mkdir(parents=True)
    own, cached = found("folders", monkeypatch)
    assert (own.status, cached.status) == ("failed", "failed")
    assert bad in own.text
    assert "stage.json" in own.text
    assert "some-run" in cached.text


def test_damaged_data_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data" / "cifar10").mkdir(parents=True)
    checks = found("data sets", monkeypatch)
    assert statuses(checks) == ["failed", "ok", "ok"]
    assert "cifar10" in checks[0].text
    assert "cifar10 (" not in checks[2].text


def test_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store()
    assert statuses(found("speeds", monkeypatch)) == ["note"]
    store.root.mkdir(parents=True)
    record_rate(store, "cpu", "plain-2", 1000.0)
    assert known_rates(store) == {"cpu": {"plain-2": 1000.0}}
    (check,) = doctor.run_checks(store)
    assert f"{len(CHOOSABLE) - 1} networks without one" in check.text
    (store.root / "rates.json").write_text("garbage")
    assert known_rates(store) == {}


def test_calibration_measures_and_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from takd.training import calibrate

    arguments = ["--store", str(tmp_path / "s"), "--seconds", "0.05"]
    assert calibrate.main([*arguments, "--network", "mlp-8", "--network", "plain-2", "--network", "resnet-8"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["network"] for row in rows] == ["mlp-8", "plain-2", "resnet-8"]
    assert all(row["images_per_second"] > 1 for row in rows)
    rates = known_rates(open_store(tmp_path / "s"))
    assert {name for table in rates.values() for name in table} == {"mlp-8", "plain-2", "resnet-8"}
    (tmp_path / "file").write_text("")
    assert calibrate.main(["--store", str(tmp_path / "file")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_calibration_that_fails_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="could not be measured"):
        doctor.calibrate(open_store(tmp_path / "file"))

    def fails(*_: object) -> None:
        raise ValueError("The speeds could not be measured.")

    monkeypatch.setattr(doctor, "calibrate", fails)
    result = CliRunner().invoke(cli, ["doctor", "--calibrate", "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout.splitlines()[-1])["problems"] == ["The speeds could not be measured."]


def test_estimates_are_held_against_what_runs_took(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store()
    assert statuses(found("estimates", monkeypatch)) == ["note"]
    store.root.mkdir(parents=True)
    for number, seconds in enumerate((5.0, 10.0, 20.0, 40.0, 80.0)):
        keep(store, Kept(f"run-{number}", "cpu", 19, 20.0, seconds, 600.0, 500.0 + number))
    time, memory = found("estimates", monkeypatch)
    assert (time.status, memory.status) == ("ok", "ok")
    assert "the last 5 runs took 1.00 times" in time.text
    assert "half of them 0.50 to 2.00" in time.text
    assert "504 MB on cpu, 600 MB estimated" in memory.text
