"""The command line: what it accepts and refuses, its JSON, its exit codes, and one true run from end to end."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from takd import __version__
from takd.cli import main as program
from takd.cli import serve as cli_serve
from takd.cli import tables as cli_tables
from takd.cli.main import cli
from takd.cli.output import Refused, plain, to_json
from takd.data.catalogue import available_datasets
from takd.methods.table import METHODS
from takd.networks.table import NETWORKS
from takd.plan import build_plan
from takd.presets import PRESETS
from takd.runs.states import run_folder, write_run_file
from takd.runs.store import Store, open_store
from takd.spec import PARAMETERS, ExperimentSpec, require_spec
from takd.spec import to_json as spec_json

ROOT = Path(__file__).resolve().parents[1]
TINY = ["--dataset", "digits", "--teacher", "mlp-64", "--assistants", "mlp-16", "--student", "mlp-8"]
TINY += ["--scope", "chain", "--seeds", "3"]


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, list(arguments), prog_name="python -m takd")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def last_json(result: Result) -> dict[str, Any]:
    """The last line of standard output, which must be strict JSON."""

    def refuse(text: str) -> float:
        raise AssertionError(f"{text} is not JSON")

    value = json.loads(result.stdout.splitlines()[-1], parse_constant=refuse)
    assert isinstance(value, dict)
    return value


def test_version_and_help() -> None:
    assert __version__ in call("--version").stdout
    text = call("--help").stdout
    assert [f"{n}. python -m takd" in text for n in (1, 2, 3)] == [True] * 3
    options = call("run", "--help").stdout
    assert [name for name in PARAMETERS if f"--{name}" not in options] == []
    assert "resnet-110" in options
    assert "from 0 up to 0.4" in options


def test_starts_without_torch() -> None:
    code = (
        "import sys, takd.cli.main; print(sorted({'torch', 'torchvision', 'pandas', 'streamlit'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


BAD_CHOICES = [
    (["--teacher", "plain-99"], ["'plain-99'", "plain-10"]),
    (["--dataset", "mnist"], ["'mnist'", "digits", "cifar10"]),
    (["--dataset", "digits", "--teacher", "plain-10"], ["plain-10", "Digits", "mlp-256"]),
    (["--teacher", "plain-6", "--assistants", "plain-10"], ["plain-10", "plain-6", "plain-4"]),
    (["--student", "plain-6", "--assistants", "plain-4"], ["plain-4", "plain-6", "plain-8"]),
    (["--assistants", "plain-6,plain-6"], ["plain-6", "twice"]),
    (["--assistants", "plain-4", "--assistants", "plain-6"], ["plain-6 > plain-4"]),
    (["--assistants", ""], ["takd", "kd"]),
    (["--teacher", "plain-2", "--student", "plain-10"], ["plain-2", "plain-10", "larger"]),
    (["--method", "magic"], ["'magic'", "scratch, kd, takd"]),
    (["--budget", "huge"], ["'huge'", "taste, standard, paper"]),
    (["--scope", "all"], ["'all'", "chain, ladder"]),
    (["--temperature", "0"], ["'0'", "greater than 0 up to 100"]),
    (["--temperature", "-1"], ["'-1'", "greater than 0 up to 100"]),
    (["--temperature", "nan"], ["'nan'", "greater than 0 up to 100"]),
    (["--temperature", "hot"], ["'hot'", "greater than 0 up to 100"]),
    (["--lam", "1.5"], ["'1.5'", "from 0 up to 1"]),
    (["--lam", "inf"], ["'inf'", "from 0 up to 1"]),
    (["--noise", "0.5"], ["'0.5'", "from 0 up to 0.4"]),
    (["--seeds", "0"], ["'0'", "from 1 up to 100"]),
    (["--seeds", "10000"], ["'10000'", "from 1 up to 100"]),
    (["--seeds", "1e400"], ["'1e400'", "from 1 up to 100"]),
    (["--seed", "-5"], ["'-5'", "whole numbers from 0"]),
    (["--preset", "nope"], ["'nope'", "digits-noise"]),
    (["--preset", "\x1b[31m\x00"], ["'?[31m?'", "digits-noise"]),
    (["--spec", "missing.json"], ["'missing.json'", "No such file", "check the path"]),
    (["--spec", "a\0b"], ["'a?b'", "check the path"]),
    (["--spec", "."], ["'.'", "check the path"]),
    (["--preset", "digits-noise", "--spec", "x.json"], ["--preset or --spec, not both"]),
    (["--preset", "digits-noise", "--teacher", "plain-10"], ["plain-10", "mlp-256"]),
]


@pytest.mark.parametrize(("options", "words"), BAD_CHOICES, ids=lambda value: " ".join(value)[:40])
@pytest.mark.parametrize("command", ["plan", "run"])
def test_bad_choices_are_refused_in_words(command: str, options: list[str], words: list[str]) -> None:
    result = call(command, *options, "--json")
    assert result.exit_code == 2
    assert [word for word in words if word not in result.stderr] == []
    value = last_json(result)
    assert value["problems"]
    assert value["error"] == " ".join(value["problems"])
    assert len(result.stderr.splitlines()) == len(value["problems"])  # one sentence each
    assert not open_store().root.exists()  # nothing was started


BAD_FILES = {
    "not json": ("{", "not JSON"),
    "a list": ("[]", "one JSON object"),
    "NaN": ('{"temperature": NaN}', "'nan' is not allowed"),
    "infinity": ('{"lam": 1e999}', "'inf' is not allowed"),
    "a flag": ('{"seeds": true}', "'True' is not allowed"),
    "a list for a name": ('{"dataset": []}', "Data set"),
    "an unknown choice": ('{"colour": 1}', "'colour'"),
    "deep": ("[" * 100_000, "not JSON"),
    "large": (" " * 1_000_001, "larger than 1 MB"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_spec_files_are_refused(kind: str, tmp_path: Path) -> None:
    text, words = BAD_FILES[kind]
    (tmp_path / "spec.json").write_text(text)
    result = call("plan", "--spec", str(tmp_path / "spec.json"), "--json")
    assert result.exit_code == 2
    assert words in result.stderr
    assert "spec.json" in last_json(result)["error"] or len(str(tmp_path)) > 25  # the name is cut when it is long


def test_options_change_a_preset_field_by_field() -> None:
    start = PRESETS["digits-noise"].spec
    value = last_json(call("plan", "--preset", "digits-noise", "--seeds", "2", "--noise", "0.1", "--json"))
    assert value["spec"] == {**spec_json(start), "seeds": 2, "noise": 0.1}
    direct = last_json(call("plan", "--preset", "digits-noise", "--method", "kd", "--json"))["spec"]
    assert (direct["method"], direct["assistants"]) == ("kd", [])


def test_spec_file_and_options(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text(json.dumps({"dataset": "digits", "seeds": 5}))
    value = last_json(call("plan", "--spec", str(file), "--scope", "chain", "--json"))["spec"]
    assert value == {**spec_json(require_spec({"dataset": "digits", "seeds": 5})), "scope": "chain"}


def test_assistants_by_comma_or_repeated() -> None:
    base = ["plan", "--dataset", "digits", "--json"]
    comma = last_json(call(*base, "--assistants", "mlp-64, mlp-16"))
    repeated = last_json(call(*base, "--assistants", "mlp-64", "--assistants", "mlp-16"))
    assert comma == repeated
    assert comma["spec"]["assistants"] == ["mlp-64", "mlp-16"]


def test_plan_counts_stages_and_says_what_is_downloaded() -> None:
    value = last_json(call("plan", *TINY, "--json"))
    assert [arm["path"] for arm in value["arms"]] == [["mlp-8"], ["mlp-64", "mlp-8"], ["mlp-64", "mlp-16", "mlp-8"]]
    assert (value["stages"], value["trained"], value["new"]) == (15, 0, 15)
    assert value["seconds"] > 0
    assert value["calibrated"] is False
    assert value["dataset"] == {"name": "digits", "ready": True, "download": None}
    for name, size in (("cifar10", "170 MB"), ("svhn", "246 MB")):  # with and without a known fingerprint
        assert last_json(call("plan", "--dataset", name, "--json"))["dataset"]["download"] == size
        assert f"{size} will be downloaded first" in call("plan", "--dataset", name).stdout


def test_networks_have_published_sizes() -> None:
    rows = {row["name"]: row for row in last_json(call("networks", "--json"))["networks"]}
    assert rows.keys() == NETWORKS.keys()
    assert rows["plain-2"]["params"] == {"10": 13082, "100": 215172}
    assert rows["plain-2"]["macs"]["10"] == 1042432
    text = call("networks").stdout
    assert "13,082" in text
    assert "215,172" in text


def test_recount_writes_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr("takd.networks.counting.write_counts", lambda: called.append(True))
    assert call("networks", "--recount").exit_code == 0
    assert called == [True]


def test_tables() -> None:
    assert [row["name"] for row in last_json(call("methods", "--json"))["methods"]] == list(METHODS)
    assert [row["name"] for row in last_json(call("presets", "--json"))["presets"]] == list(PRESETS)
    rows = {row["name"]: row for row in last_json(call("datasets", "--json"))["datasets"]}
    assert rows["digits"]["ready"] is True
    assert rows["cifar10"]["ready"] is False
    assert len(rows["cifar10"]["fingerprint"]) == 64
    for command in ("methods", "presets", "datasets", "list"):
        assert call(command).exit_code == 0


HOSTILE = ["../../etc/passwd", "a\0b", "x" * 1_000_000, "", ".", "..", "-", "\x1b[2J", "runs/../..", "ä", "\udcff"]


@pytest.mark.parametrize("run_id", HOSTILE, ids=lambda value: ascii(value[:20]))
@pytest.mark.parametrize("command", ["show", "cancel", "resume", "delete"])
def test_hostile_run_ids_are_refused(command: str, run_id: str, tmp_path: Path) -> None:
    result = call(command, "--json", "--store", str(tmp_path / "s"), "--", run_id)
    assert result.exit_code == 2
    assert "no run" in result.stderr
    assert len(result.output) < 1000
    assert "\x1b" not in result.output
    assert "no run" in last_json(result)["error"]
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "arguments",
    [["bogus"], ["plan", "--bogus"], ["show"], ["serve", "--port", "0"], ["list", "--store", ""], ["data", "import"]],
    ids=" ".join,
)
def test_wrong_usage_ends_with_json_too(arguments: list[str]) -> None:
    result = call(*arguments, "--json")
    assert result.exit_code == 2
    assert last_json(result)["problems"]


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "deeper"):
        result = call("run", *TINY, "--store", str(place), "--json")
        assert result.exit_code == 2
        assert str(place)[:20] in last_json(result)["error"]


def test_no_escape_characters_reach_the_terminal() -> None:
    assert plain("a\x1b[31mb\0c\nd\u202ee") == "a?[31mb?c d?e"


def test_json_holds_only_finite_numbers() -> None:
    value = {"a": math.nan, "b": [math.inf, np.float64(0.5), np.int64(3), np.bool_(True)], "c": Path("x"), "d": ("e",)}
    assert json.loads(to_json(value)) == {"a": None, "b": [None, 0.5, 3, True], "c": "x", "d": ["e"]}


# Runs, with a worker that is not there


def finish(store: Store, spec: ExperimentSpec) -> None:
    """Results for all stages of an experiment: the student gains a point by direct KD and three by the chain."""
    made = build_plan(spec, available_datasets()[spec.dataset])
    for stage in made.stages.values():
        store.ensure(stage)
        gain = {0: 0.0, 1: 0.01}.get(len(stage.teachers), 0.0)
        if stage.teachers and made.stages[stage.teachers[0]].network == "mlp-16":
            gain = 0.03
        accuracy = 0.8 + gain + 0.001 * stage.seed
        store.commit(stage.key, {"test_acc": accuracy, "val_acc": accuracy, "seconds": 2.0}, {})


def fake_worker(monkeypatch: pytest.MonkeyPatch, **status: Any) -> None:
    """Instead of a worker: write how the run ended."""
    monkeypatch.setattr(
        "takd.runs.submit.start_worker",
        lambda store, run_id: write_run_file(run_folder(store, run_id), "status.json", status),
    )


TINY_SPEC = require_spec(
    {
        "dataset": "digits",
        "teacher": "mlp-64",
        "assistants": ["mlp-16"],
        "student": "mlp-8",
        "scope": "chain",
        "seeds": 3,
    }
)


def test_run_reports_arms_and_verdicts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    finish(open_store(), TINY_SPEC)
    fake_worker(monkeypatch, state="done")
    result = call("run", *TINY, "--json")
    assert result.exit_code == 0
    value = last_json(result)
    assert value["state"] == "done"
    assert value["spec"] == spec_json(TINY_SPEC)
    arms = {row["arm"]: row for row in value["arms"]}
    assert list(arms) == ["scratch 8", "kd 64>8", "takd 64>16>8"]
    chain = arms["takd 64>16>8"]
    assert (chain["path"], chain["method"]) == (["mlp-64", "mlp-16", "mlp-8"], "takd")
    assert (chain["n"], chain["trainings"]) == (3, 3)
    assert chain["mean"] == pytest.approx(0.831)
    assert chain["half"] == pytest.approx(4.302653 * 0.001 / math.sqrt(3), rel=1e-5)
    assert (chain["seconds"], chain["origin"]) == (6.0, "live")
    first = value["verdicts"][0]
    assert (first["arm"], first["against"], first["kind"], first["n"]) == ("takd 64>16>8", "kd 64>8", "helps", 3)
    assert first["mean"] == pytest.approx(0.02)
    assert first["p"] == 0.25
    assert first["p_holm"] == 0.25
    assert first["sentence"].startswith("Helps: ")
    assert value["gap"] is None
    assert "added +2" in value["headline"]

    shown = call("show", value["run"])
    assert shown.exit_code == 0
    assert "83.1 %" in shown.stdout
    assert value["headline"] in shown.stdout
    assert last_json(call("show", value["run"], "--json"))["verdicts"] == value["verdicts"]

    # The same store as cached runs, on a machine where the data set is not known
    os.rename(tmp_path / "store", tmp_path / "cached")
    monkeypatch.setenv("TAKD_CACHED", str(tmp_path / "cached"))
    cached = last_json(call("show", value["run"], "--json"))
    assert cached["origin"] == "cached"
    assert {row["origin"] for row in cached["arms"]} == {"cached"}
    assert cached["verdicts"] == value["verdicts"]
    assert [row["origin"] for row in last_json(call("list", "--json"))["runs"]] == ["cached"]
    assert call("delete", value["run"]).exit_code == 2


def test_a_ladder_has_a_gap_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    options = [*TINY[:-4], "--scope", "ladder", "--seeds", "3"]
    finish(open_store(), require_spec({**spec_json(TINY_SPEC), "scope": "ladder"}))
    fake_worker(monkeypatch, state="done")
    found = last_json(call("run", *options, "--json"))["gap"]
    assert found["n"] == 3
    assert (found["peak"], found["largest"]) == ("kd 16>8", "kd 64>8")
    assert found["kind"] == "gap"
    assert found["mean"] == pytest.approx(0.02)
    assert "bigger teacher" in found["sentence"]


@pytest.mark.parametrize(("state", "code"), [("failed", 5), ("cancelled", 4)])
def test_run_that_ends_badly_says_why(monkeypatch: pytest.MonkeyPatch, state: str, code: int) -> None:
    fake_worker(monkeypatch, **{"state": state, "reason": "The disk is full.", "class": "disk-full"})
    result = call("run", *TINY, "--json")
    assert result.exit_code == code
    assert "The disk is full." in result.stderr
    assert "resume" in result.stderr
    value = last_json(result)
    assert (value["state"], value["reason"]) == (state, "The disk is full.")
    assert [row["n"] for row in value["arms"]] == [0, 0, 0]
    assert call("resume", value["run"]).exit_code == 0
    deleted = call("delete", value["run"], "--json")
    assert last_json(deleted) == {"run": value["run"], "deleted": True}
    assert last_json(call("list", "--json"))["runs"] == []


def test_detach_cancel_and_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("takd.runs.submit.start_worker", lambda store, run_id: None)
    value = last_json(call("run", *TINY, "--detach", "--json"))
    assert value["state"] == "starting"
    assert call("delete", value["run"]).exit_code == 2
    assert last_json(call("cancel", value["run"], "--json"))["state"] == "cancelling"
    second = call("run", *TINY, "--detach").stdout.strip()
    assert [row["run"] for row in last_json(call("list", "--json"))["runs"]] == [second, value["run"]]


def test_ctrl_c_leaves_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("takd.runs.submit.start_worker", lambda store, run_id: None)
    monkeypatch.setattr(program, "_follow", interrupted)
    result = call("run", *TINY, "--json")
    assert result.exit_code == 130
    value = last_json(result)
    assert f"python -m takd cancel {value['run']}" in result.stderr
    assert value["state"] == "starting"


def test_a_missing_data_set_is_fetched_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def no_network(name: str) -> None:
        asked.append(name)
        raise Refused(["There is no network."])

    monkeypatch.setattr(cli_tables, "prepare_apart", no_network)
    result = call("run", "--preset", "cifar-gap", "--json")
    assert (result.exit_code, asked) == (2, []) and "Add --yes to start it" in result.output  # it takes hours
    result = call("run", "--preset", "cifar-gap", "--json", "--yes")
    assert (result.exit_code, asked) == (2, ["cifar10"])
    assert "170 MB" in result.stderr
    assert last_json(result)["error"] == "There is no network."
    assert not open_store().root.exists()


def test_preparing_apart_passes_sentences_on() -> None:
    with pytest.raises(Refused, match="No published data set is called 'nope'") as caught:
        cli_tables.prepare_apart("nope")
    assert caught.value.said  # by the other process


@pytest.mark.parametrize(
    "damage",
    [
        {"arms": []},
        {"chains": [{"arm": 9, "seed": 0, "keys": []}]},
        {"stages": ["0" * 32]},
        {"arms": [{"method": "kd", "path": ["nope", "mlp-8"], "name": "x"}] * 3},
        {"chains": 5},
    ],
    ids=str,
)
def test_show_of_a_damaged_plan(monkeypatch: pytest.MonkeyPatch, damage: dict[str, Any]) -> None:
    fake_worker(monkeypatch, state="done")
    run_id = last_json(call("run", *TINY, "--json"))["run"]
    folder = run_folder(open_store(), run_id)
    whole = json.loads((folder / "plan.json").read_text())
    write_run_file(folder, "plan.json", {**whole, **damage})
    value = last_json(call("show", run_id, "--json"))
    assert value["arms"] == []


def test_list_survives_strange_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_worker(monkeypatch, state="done")
    run_id = last_json(call("run", *TINY, "--json"))["run"]
    strange = {"dataset": [], "teacher": "\x1b[31m[red]", "assistants": 5, "seeds": {"a": 1}, "noise": "x" * 9999}
    write_run_file(run_folder(open_store(), run_id), "experiment.json", {"spec": strange, "created": "[b]"})
    assert "\x1b" not in call("list").output
    assert call("show", run_id).exit_code == 0


# Data


def test_prepare_digits_and_import_npz(tmp_path: Path) -> None:
    result = call("data", "prepare", "digits", "--json")
    value = last_json(result)
    assert value["ready"] is True
    assert "scikit-learn" in result.stderr
    cache = tmp_path / "data" / "digits"
    arrays = {f"{part}_{kind}": np.load(cache / f"{part}_{kind}.npy") for part in ("train", "test") for kind in "xy"}
    np.savez(tmp_path / "d.npz", classes=[str(n) for n in range(10)], **arrays)
    again = call("data", "import-npz", str(tmp_path / "d.npz"), "--name", "digits", "--json")
    assert last_json(again)["fingerprint"] == value["fingerprint"]
    wrong = call("data", "import-npz", str(tmp_path / "d.npz"), "--name", "cifar10", "--json")
    assert wrong.exit_code == 2
    assert "50000" in last_json(wrong)["error"]
    assert call("data", "import-npz", "a\0b", "--name", "digits").exit_code == 2


@pytest.mark.parametrize("short", [False, True])
def test_import_folder(tmp_path: Path, short: bool) -> None:
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for n in range(40):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{n}.png")
    pets = str(tmp_path / "pets")
    command = ["import", pets, "pets"] if short else ["import-folder", pets, "--name", "pets"]
    result = call("data", *command, "--json")
    assert last_json(result)["name"] == "folder-pets"
    assert "Reading" in result.stderr
    plan = last_json(call("plan", "--dataset", "folder-pets", "--budget", "taste", "--json"))
    assert plan["dataset"]["ready"] is True
    assert call("data", "import-folder", str(tmp_path / "none"), "--name", "x").exit_code == 2


# Serve


def test_serve_starts_streamlit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("")
    started: list[Any] = []
    monkeypatch.setattr(cli_serve, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
    assert call("serve", "--port", "8600", "--address", "localhost", "--store", "there").exit_code == 0
    program_path, command, environment = started[0]
    assert program_path == sys.executable
    assert command[1:4] == ["-m", "streamlit", "run"]
    assert command[-2:] == ["--server.port=8600", "--server.address=localhost"]
    assert environment["TAKD_STORE"] == str(tmp_path / "there")

    done: subprocess.CompletedProcess[str] = subprocess.CompletedProcess([], 3)
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: done)
    result = call("serve", "--json")
    assert result.exit_code == 3
    assert last_json(result)["exit_code"] == 3
    (tmp_path / "app.py").unlink()
    assert call("serve").exit_code == 2


# The real thing


def test_a_tiny_study_from_end_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "takd", "run", *TINY[:-1], "1", "--json", "--store", str(tmp_path / "s")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    value = json.loads(done.stdout.splitlines()[-1])
    assert value["state"] == "done"
    assert (value["stages_done"], value["stages_total"]) == (5, 5)
    assert [row["n"] for row in value["arms"]] == [1, 1, 1]
    assert all(0.5 < row["mean"] < 1 for row in value["arms"])
    assert {row["kind"] for row in value["verdicts"]} == {"cannot tell yet"}
    store = ["--store", str(tmp_path / "s"), "--json"]
    assert last_json(call("show", value["run"], *store))["arms"] == value["arms"]
    plan = last_json(call("plan", *TINY[:-1], "1", *store))
    assert (plan["trained"], plan["new"]) == (5, 0)
