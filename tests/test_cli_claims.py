"""`takd claims` and `takd reproduce`: the field's claims on the stored runs, and one of them again from nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from takd.claims import amendments
from takd.claims.library import Entry, questions_of
from takd.claims.settings import SETTINGS
from takd.claims.table import CLAIMS
from takd.cli import claims as cli_claims
from takd.data.catalogue import available_datasets
from takd.plan import build_plan
from takd.runs.states import list_runs
from takd.runs.store import REPO, Store, open_store

from .runs.test_policy import tree
from .test_cli import call, last_json

SMALL = ("reproduce", "one-ta", "--seeds", "3", "--budget", "taste", "--setting", "digits-clean")


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stored runs that travel with the program."""
    monkeypatch.setenv("TAKD_CACHED", str(REPO / "cached_runs"))


def test_the_board_has_every_claim_with_its_status(cached: None) -> None:
    shown = call("claims")
    assert shown.exit_code == 0
    assert [row.title for row in CLAIMS.values() if row.title not in shown.stdout] == []
    assert "supported" in shown.stdout and "refuted" in shown.stdout


def test_the_table_says_in_how_many_settings_a_claim_holds(cached: None) -> None:
    claim = CLAIMS["one-ta"]
    findings = [row for row in last_json(call("claims", "one-ta", "--json"))["claims"] if not row["variant"]]
    run = [row for row in findings if row["n"]]
    share = f"{sum(row['status'] == 'supported' for row in run)} of {len(run)}"
    line = next(line for line in call("claims").stdout.splitlines() if claim.title in line)
    assert line.split()[-3:] == share.split() and 2 < len(run) < len(findings)


def test_a_claim_says_what_every_setting_trains_with(cached: None) -> None:
    shown = call("claims", "one-ta").stdout
    assert "In CIFAR-10: 6 epochs, 45,000 images, rate 0.02, T 8, lam 0.5, seeds 0 to 4." in shown
    assert "In Digits, noisy, tuned: 60 epochs, 500 images, rate 0.01, T 1, lam 0.5, seeds 100 to 129." in shown
    assert shown.count("\nIn ") == len({trial.setting for trial in CLAIMS["one-ta"].trials})


def test_one_claim_by_its_number(cached: None) -> None:
    shown = call("claims", "4").stdout
    claim = CLAIMS["one-ta"]
    lines = shown.splitlines()
    assert lines[0] == f"4. {claim.title}" and claim.source in shown and "not measured here" in shown
    assert f"Rule: {claim.rule}" in shown
    assert sum(line.startswith("- ") for line in lines) == len(claim.trials)


@pytest.mark.parametrize(("name", "changes"), [("rivals", 2), ("gap", 11), ("dense", 1), ("mimic", 0)])
def test_a_claim_says_what_was_changed_since_its_rule(cached: None, name: str, changes: int) -> None:
    shown = call("claims", name).stdout
    assert shown.count("Changed since: ") + shown.count("Added later: ") == changes
    assert all(f"{row.word}: {row.text}" in shown for row in amendments.of(name))
    assert ("Added later: " in shown) == (name == "gap")  # settings that came before any run of their own


def test_one_claim_by_its_name_as_json(cached: None) -> None:
    value = last_json(call("claims", "one-ta", "--json"))
    assert len(value["claims"]) == len(CLAIMS["one-ta"].trials)
    assert any(30 in row.values() for row in value["claims"])  # chains on digits


def test_without_stored_runs_no_claim_has_an_outcome() -> None:
    shown = call("claims", "one-ta").stdout
    for text in (CLAIMS["one-ta"].rule, *(row.text for row in amendments.of("one-ta"))):
        shown = shown.replace(text, "")
    assert "supported" not in shown and "refuted" not in shown


@pytest.mark.parametrize("command", ["claims", "reproduce"])
@pytest.mark.parametrize("asked", ["99", "two-ta", "", "²", "\x1b[31m"])
def test_an_unknown_claim_is_refused_with_the_list(command: str, asked: str) -> None:
    result = call(command, asked, "--json")
    assert result.exit_code == 2 and "\x1b" not in result.stderr
    error = last_json(result)["error"]
    assert "is no claim" in error and all(f"{row.number} {row.name}" in error for row in CLAIMS.values())
    assert not open_store().root.exists()


# Again from nothing


def test_what_cannot_be_done_again_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_claims, "_reproduce", lambda *_: pytest.fail("something was trained"))
    own = CLAIMS["one-ta"].trials
    cases: list[tuple[tuple[str, ...], list[str]]] = [
        (("one-ta", "--setting", "mars"), ["not tested in 'mars'", *{trial.setting for trial in own}]),
        (("gap", "--setting", "\x1b[1m"), ["is not tested in '?[1m'"]),
        (("one-ta", "--setting", "cifar10"), ["cifar10 are not here", "python -m takd data prepare cifar10"]),
        (("one-ta", "--seeds", "0"), ["--seeds"]),
        (("one-ta", "--budget", "huge"), ["--budget"]),
    ]
    for arguments, words in cases:
        result = call("reproduce", *arguments)
        assert result.exit_code == 2
        assert [word for word in words if word not in " ".join(result.stderr.split())] == [], result.stderr
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    before = tree(tmp_path)
    result = call("reproduce", "one-ta", "--keep", str(tmp_path / "kept"))
    assert result.exit_code == 2 and "only shows results" in result.stderr and tree(tmp_path) == before


def answering(store: Store, gain: float, seeds: int = 3) -> list[Entry]:
    """Finish the trainings of SMALL at once: chains are better than direct KD by `gain` and a little."""
    setting = replace(SETTINGS["digits-clean"], spec=replace(SETTINGS["digits-clean"].spec, seeds=seeds))
    entries = []
    for spec in questions_of("one-ta", setting):
        spec = replace(spec, seeds=seeds)
        plan = build_plan(spec, available_datasets()["digits"])
        for chain in plan.chains:
            for key in chain.keys:
                better = gain * (1 + 0.01 * (chain.seed % 3)) if len(chain.keys) == 3 and key == chain.student else 0.0
                store.ensure(plan.stages[key], own=True)
                store.commit(key, {"test_acc": 0.7 + better, "seconds": 1.0, "epochs": 60}, {})
        entries.append(Entry("", spec, 1.0, 1.0, ()))
    return entries


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[Any]]:
    """What training from nothing gives, in no time; what was asked for is noted."""

    def make(gain: float) -> list[Any]:
        asked: list[Any] = []

        def train(store: Store, datasets: Any, wished: Iterable[Entry], *_: Any, **__: Any) -> list[str]:
            asked.append((store.root, list_runs(store), [entry.spec for entry in wished]))
            answering(store, gain)
            return []

        monkeypatch.setattr(cli_claims.shelves, "train_next", train)
        return asked

    return make


def test_the_stored_runs_are_judged_as_on_the_board_and_other_choices_beside_it(
    cached: None, pretend: Callable[[float], list[Any]]
) -> None:
    """Claim 4 on clean digits is told at the board's confidence, which is that of several tests; with three seeds, or
    at another budget, at 95 % with the board's finding beside it."""
    pretend(0.05)
    (there,) = (
        row
        for row in last_json(call("claims", "one-ta", "--json"))["claims"]
        if row["setting"] == "Digits, clean" and not row["variant"]
    )
    assert there["confidence"] > 0.96
    whole = last_json(call("reproduce", "one-ta", "--setting", "digits-clean", "--json"))
    assert whole["stored"].pop("status") == whole["board"].pop("status") == there["status"]
    assert whole["stored"] == pytest.approx(whole["board"]) and whole["stored"]["n"] == 30
    assert whole["stored"]["low"] == pytest.approx(there["low"] / 100)
    few = call(*SMALL)
    assert (
        "On the board (60 epochs, " in few.stdout
        and "Trained now: 60 epochs, " in few.stdout
        and "n = 30 chains" in few.stdout
    )
    longer = last_json(call("reproduce", "one-ta", "--setting", "digits-clean", "--budget", "standard", "--json"))
    assert longer["stored"] is None and longer["board"]["mean"] == whole["board"]["mean"]


def test_a_budget_is_asked_for_in_full(pretend: Callable[[float], list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNets have four epochs of their own; who names a budget gets all of it."""
    monkeypatch.setattr(cli_claims, "is_ready", lambda name: True)
    asked = pretend(0.0)
    for words in ((), ("--budget", "paper")):
        call("reproduce", "one-ta", "--setting", "resnet", "--seeds", "3", *words)
    assert [{spec.epochs for spec in specs} for _, _, specs in asked] == [{4}, {0}]


@pytest.mark.parametrize(
    ("stored", "now", "code", "words"),
    [
        (0.05, 0.05, 0, ("supported", "supported")),
        (0.05, 0.04, 0, ("supported", "supported")),
        (0.05, -0.05, 1, ("supported", "refuted")),
    ],
)
def test_it_ends_with_0_where_the_status_is_the_stored_one_and_with_1_where_it_is_not(
    stored: float, now: float, code: int, words: tuple[str, str], pretend: Callable[[float], list[Any]], tmp_path: Path
) -> None:
    answering(open_store(), stored)
    asked = pretend(now)
    result = call(*SMALL, "--json")
    value = last_json(result)
    assert result.exit_code == code, result.output
    assert (value["stored"]["status"], value["now"]["status"]) == words
    assert (value["now"]["n"], value["stored"]["n"], value["seeds_compared"]) == (3, 3, 3)
    assert value["seeds_equal"] == 3 * (stored == now)
    assert value["largest_difference"] == pytest.approx(1.02 * abs(stored - now), abs=1e-9)
    assert value["now"]["mean"] == pytest.approx(1.01 * now)
    (networks,) = value["networks"]  # these results have no other number
    assert (networks["number"], networks["trainings"]) == ("test_acc", 15)
    assert networks["equal"] == (15 if stored == now else 12) and value["variants"] == []
    assert networks["largest"] == pytest.approx(1.02 * abs(stored - now), abs=1e-9)
    ((root, runs, specs),) = asked
    assert root != open_store().root and not root.exists() and runs == []  # from nothing, and thrown away
    assert {spec.seeds for spec in specs} == {3} and {spec.budget for spec in specs} == {"taste"}
    said = call(*SMALL).stdout
    assert "Now: " in said and "Stored: " in said
    assert f"{3 * (stored == now)} of 3 chains gave exactly the stored numbers." in said
    assert f"{102 * abs(stored - now):.3g} points" in said


def test_variants_are_trained_and_compared_when_they_are_asked_for(pretend: Callable[[float], list[Any]]) -> None:
    asked = pretend(0.05)
    result = call(*SMALL[:-1], "digits-noise", "--variants", "--json")
    assert [row["variant"] for row in last_json(result)["variants"]] == [
        "as published: best epoch on test images",
        "against direct KD that trains as many epochs as both together",
    ]
    methods = [(spec.method, dict(spec.options).get("protocol")) for spec in asked[0][2]]
    assert methods == [("takd", None), ("kd", None), ("takd", "published"), ("kd", "published"), ("kd-long", None)]


def test_nothing_stored_is_nothing_to_compare_with(pretend: Callable[[float], list[Any]], tmp_path: Path) -> None:
    pretend(0.05)
    kept = tmp_path / "kept"
    result = call(*SMALL, "--keep", str(kept))
    assert result.exit_code == 0 and "nothing to compare with" in result.stdout
    assert len(list((kept / "stages").glob("*/*/result.json"))) == 15 and not open_store().root.exists()
    assert last_json(call(*SMALL, "--json"))["stored"] is None


def test_a_claim_is_trained_again_from_nothing(cached: None, tmp_path: Path) -> None:
    """True trainings of two chains, held against those that travel with the program."""
    kept = tmp_path / "kept"
    arguments = ("--seeds", "2", "--budget", "taste", "--setting", "digits-clean", "--keep", str(kept), "--json")
    result = call("reproduce", "one-ta", *arguments)
    value = last_json(result)
    assert result.exit_code == 0, result.output
    assert (value["claim"], value["setting"], value["seeds_compared"]) == ("one-ta", "digits-clean", 2)
    assert value["now"]["n"] == value["stored"]["n"] == 2 and value["now"]["status"] == "undecided"
    assert value["largest_difference"] < 0.05
    runs = list_runs(Store(kept))
    assert {run.state for run in runs} == {"done"} and {run.spec["seeds"] for run in runs} == {2}
    assert not open_store().root.exists()
