"""`takd list` and `takd move`, and commands on a read-only server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from takd.cli.main import cli
from takd.runs.store import open_store

from .runs.test_policy import ADA, BEN, make_run, tree

FIRST, SECOND = "20260101-000000-0000", "20260101-000000-0001"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_the_list_says_who_waits_and_for_how_long() -> None:
    store = open_store()
    make_run(store, FIRST, ADA.id, name="Ada \x1b[31m")
    make_run(store, SECOND, BEN.id, name="Ben")
    shown = call("list").stdout
    assert "next" in shown and "1 run ahead" in shown and "Ben" in shown and "\x1b" not in shown
    rows = {row["run"]: row for row in json.loads(call("list", "--json").stdout)["runs"]}
    assert [rows[run]["position"] for run in (FIRST, SECOND)] == [1, 2]
    assert rows[FIRST]["starts_in_seconds"] == 0.0 and rows[SECOND]["asked_by"] == "Ben"


def test_whoever_has_the_machine_moves_runs() -> None:
    store = open_store()
    make_run(store, FIRST, ADA.id)
    make_run(store, SECOND, BEN.id)
    result = call("move", SECOND, "--to", "front", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["position"] == 1
    assert "number 2 of those waiting" in call("move", SECOND, "--to", "down").stdout
    for arguments in (("move", "nothing", "--to", "up"), ("move", FIRST, "--to", "away"), ("move", FIRST)):
        assert call(*arguments).exit_code == 2
    assert call("delete", FIRST).exit_code == 2  # it waits


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--dataset", "digits"),
        ("cancel", FIRST),
        ("resume", FIRST),
        ("delete", FIRST),
        ("move", FIRST, "--to", "back"),
        ("verify", "--all"),
        ("data", "prepare", "digits"),
        ("data", "import-folder", "PATH", "--name", "x"),
        ("data", "import-npz", "PATH", "--name", "cifar10"),
        ("networks", "--add", "PATH", "--data", "digits"),
        ("doctor", "--calibrate"),
    ],
)
def test_commands_change_nothing_where_the_server_is_read_only(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_run(open_store(), FIRST)
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    before = tree(tmp_path)
    result = call(*command)
    assert result.exit_code == 2 and "only shows results" in result.stderr, result.output
    assert tree(tmp_path) == before
