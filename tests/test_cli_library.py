"""`takd library`: what it should hold, training what is missing, and putting it where it travels."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from takd.claims.library import write
from takd.cli import library as cli_library
from takd.runs import library
from takd.runs.states import list_runs, run_info
from takd.runs.store import Store, open_store
from tests.faults.made_bundles import made_store
from tests.runs.conftest import store  # noqa: F401 (a fixture: trains in moments, and its workers are gone afterwards)
from tests.runs.test_library import CIFAR, DATASETS, LONG, OTHER, READ, SMALL, entry, packs_in, trained

from .runs.test_policy import tree
from .test_cli import call, last_json


@pytest.fixture(autouse=True)
def tiny_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library should hold three questions, of which one needs images that are not here."""
    path = tmp_path / "library.json"
    path.write_bytes(write([SMALL, OTHER, entry("images", **CIFAR)]))
    monkeypatch.setattr(library, "FILE", path)
    monkeypatch.setattr(cli_library, "FILE", path)
    monkeypatch.setattr(library, "keys_read", lambda _: READ)
    return path


def test_from_an_empty_store_to_a_library(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    listed = last_json(call("library", "list", "--json"))
    assert listed["complete"] == 0
    rows = {row["name"]: row for row in listed["entries"]}
    assert list(rows) == ["small", "other", "images"]
    assert (rows["small"]["trainings"], rows["small"]["cached"], rows["small"]["here"]) == (4, 0, 0)
    assert rows["small"]["ready"] and not rows["images"]["ready"] and rows["small"]["seconds"] > 0

    done = call("library", "next", "--seconds", "60", "--only", "small")
    assert done.exit_code == 0 and "1 question completed." in done.stdout and trained(store, OTHER) == 0
    later = last_json(call("library", "next", "--seconds", "60", "--json"))
    assert len(later["completed"]) == 1 and trained(store, OTHER) == 6
    shown = call("library", "list").stdout
    assert "2 of 3 questions are complete" in shown and "images" in shown and "data not here" in shown
    assert "small" not in shown and "small" in call("library", "list", "--all").stdout

    place = tmp_path / "cached"
    assert last_json(call("library", "publish", "--to", str(place), "--json")) == {"copied": 8, "to": str(place)}
    assert f"0 trainings copied to {place}." in call("library", "publish", "--to", str(place)).stdout
    assert len(packs_in(place)) == 2
    monkeypatch.setenv("TAKD_CACHED", str(place))
    monkeypatch.setenv("TAKD_STORE", str(tmp_path / "another"))
    rows = {row["name"]: row for row in last_json(call("library", "list", "--json"))["entries"]}
    assert (rows["small"]["cached"], rows["small"]["here"], rows["small"]["seconds"]) == (4, 0, 0.0)


@pytest.mark.parametrize("name", ["all.csv", "all.parquet"])
def test_every_training_goes_into_a_table(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made_store(tmp_path / "store").root
    file = tmp_path / name
    found = last_json(call("library", "table", str(file), "--store", str(root), "--json"))
    assert (found["trainings"], found["rows"], found["file"]) == (3, 3, str(file))
    frame = pd.read_csv(file) if name.endswith("csv") else pd.read_parquet(file)
    assert list(frame.columns) == found["columns"] and sorted(frame["network"]) == ["mlp-16", "mlp-8", "mlp-8"]
    assert sorted(frame["path"]) == ["mlp-16", "mlp-16>mlp-8", "mlp-8"] and set(frame["origin"]) == {"live"}
    before = file.read_bytes()
    again = call("library", "table", str(file), "--store", str(root))
    assert again.exit_code == 2 and "already exists" in again.stderr and file.read_bytes() == before


def test_a_table_of_another_kind_is_refused_and_nothing_is_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = call("library", "table", str(tmp_path / "all.xlsx"))
    assert refused.exit_code == 2 and "neither a .csv nor a .parquet" in refused.stderr
    nowhere = call("library", "table", str(tmp_path / "no" / "all.csv"))
    assert nowhere.exit_code in (1, 2) and "Traceback" not in nowhere.output
    monkeypatch.setenv("TAKD_CACHED", "")
    none = call("library", "table", str(tmp_path / "none.csv"), "--store", str(tmp_path / "empty"))
    assert none.exit_code == 0 and "0 trainings in 0 rows" in none.stdout


def test_long_questions_and_images_that_are_not_here_are_passed_over(
    store: Store,  # noqa: F811
    tiny_list: Path,
) -> None:
    tiny_list.write_bytes(write([LONG, entry("images", **CIFAR)]))
    done = call("library", "next", "--seconds", "60", "--longest", "2")
    assert done.exit_code == 0 and "0 questions completed" in done.stdout and not (store.root / "runs").exists()
    assert (
        "cifar10 is not prepared here, passed over." in call("library", "next", "--seconds", "5", "--only", "im").stderr
    )


def test_ctrl_c_says_that_nothing_is_lost(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def interrupted(store: Store, run_id: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(library, "run_info", interrupted)
        stopped = call("library", "next", "--seconds", "60", "--only", "small")
    assert stopped.exit_code == 130 and "the same command continues" in stopped.output
    (run,) = list_runs(store)
    while run.look.active:  # until its worker has heard of it
        run = run_info(store, run.id)
    assert run.state in ("cancelled", "done")
    assert call("library", "next", "--seconds", "60", "--only", "small").exit_code == 0
    assert last_json(call("library", "list", "--json"))["complete"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("next",), "--seconds"),
        (("next", "--seconds", "0"), "0"),
        (("next", "--seconds", "nan"), "nan"),
        (("next", "--seconds", "5", "--longest", "-1"), "-1"),
        (("grow",), "grow"),
    ],
)
def test_what_cannot_be_asked_is_refused(arguments: tuple[str, ...], words: str) -> None:
    result = call("library", *arguments)
    assert result.exit_code == 2 and words in result.stderr
    assert not open_store().root.exists()


@pytest.mark.parametrize("command", ["list", "next --seconds 5", "publish"])
def test_a_damaged_list_is_one_sentence(command: str, tiny_list: Path) -> None:
    tiny_list.write_text('{"schema": 1, "entries": [{"name": "x", "spec": 5}]}')
    result = call("library", *command.split(), "--json")
    assert result.exit_code == 2 and "library plan --write" in last_json(result)["error"]
    assert len(result.stderr.splitlines()) == 1 and not (open_store().root / "runs").exists()


def test_the_list_is_written_only_when_asked(tiny_list: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "wanted", lambda datasets, seconds: (OTHER, SMALL))
    before = tiny_list.read_bytes()
    assert last_json(call("library", "plan", "--json"))["entries"] == ["other", "small"]
    assert tiny_list.read_bytes() == before
    shown = call("library", "plan", "--write")
    assert shown.exit_code == 0 and tiny_list.read_bytes() == write([OTHER, SMALL])
    assert [one.name for one in library.entries(DATASETS)] == ["other", "small"]


@pytest.mark.parametrize("command", ["next --seconds 5", "publish --to PLACE", "plan --write"])
def test_nothing_is_changed_where_the_server_is_read_only(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    monkeypatch.setattr(library, "wanted", lambda datasets, seconds: (OTHER,))
    before = tree(tmp_path)
    result = call("library", *command.replace("PLACE", str(tmp_path / "place")).split())
    assert result.exit_code == 2 and "only shows results" in result.stderr
    assert tree(tmp_path) == before


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    result = call("library", "next", "--seconds", "5")
    assert result.exit_code == 2 and "Nothing can be stored in" in result.stderr and "TAKD_STORE" in result.stderr


def test_strangers_words_are_plain_text(tiny_list: Path) -> None:
    tiny_list.write_bytes(write([entry("small \x1b[31m")]))
    shown = call("library", "list").stdout
    assert "\x1b" not in shown and json.loads(call("library", "list", "--json").stdout)["complete"] == 0
