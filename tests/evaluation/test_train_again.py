"""Small networks whose files were left out of the library are checked by training them again."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from takd.claims.library import Entry, Read
from takd.cli.main import cli
from takd.data.catalogue import available_datasets
from takd.evaluation import train_again, verifier
from takd.evaluation.notes import ROWS
from takd.evaluation.train_again import AGAIN, WITHIN, check_again, check_large
from takd.evaluation.twice import TIMED, numbers_of
from takd.evaluation.verify import verify_stage
from takd.plan import Plan
from takd.runs import packs
from takd.runs.errors import RunError
from takd.runs.layout import CLASSES, EVENTS
from takd.runs.loop import train_all
from takd.runs.shelf import shelve
from takd.runs.stamps import EXACTLY, SAID, StageReport, read_stamp, stamps_folder
from takd.runs.store import Store
from takd.spec import require_spec
from tests.evaluation.test_verify_packed import PREDICTIONS, WEIGHTS, differing, forged, pack_of

NUMBERS = {"test_acc", "val_acc", "val_best", "train_acc", "test_loss", "ece", "entropy"}
TEST_IMAGES = 900


def question(**choices: Any) -> Entry:
    asked = {"dataset": "digits", "method": "kd", "teacher": "mlp-32", "student": "mlp-16", "seeds": 1, **choices}
    spec = require_spec({"scope": "chain", "budget": "taste", "epochs": 10, **asked}, available_datasets())
    return Entry("question", spec, 1.0, 1.0, ())


PAIR = question()
LIGHT = question(teacher="mlp-16", student="mlp-8", seed=40)  # its students are small enough to keep their weights
PUBLISHED = question(teacher="mlp-128", student="mlp-8", seed=80, options={"protocol": "published"})
CHAIN = question(method="takd", teacher="mlp-64", assistants=("mlp-32",), student="mlp-16", seed=60)


def plan_of(entry: Entry) -> Plan:
    return entry.plan(available_datasets())


def key_of(entry: Entry, network: str, taught: bool) -> str:
    return next(k for k, s in plan_of(entry).stages.items() if s.network == network and bool(s.teachers) == taught)


@pytest.fixture(scope="module")
def shelved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three questions in one library."""
    root = tmp_path_factory.mktemp("again")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAKD_DATA", str(root / "data"))
        store = Store(root / "store")
        for entry in (PAIR, LIGHT, PUBLISHED, CHAIN):
            plan = plan_of(entry)
            assert train_all(store, plan.stages, device="cpu", should_stop=lambda: False, say=print)
            read = Read(frozenset(plan.stages), decide=frozenset(plan.stages))
            shelve(store, entry, plan, root / "cached" / entry.spec.teacher, read)
    return root


@pytest.fixture
def library(shelved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Store]:
    """Makes a store with copies of the libraries of these questions."""
    monkeypatch.setenv("TAKD_DATA", str(shelved / "data"))

    def make(*entries: Entry) -> Store:
        names = [entry.spec.teacher for entry in entries]
        copies = [shutil.copytree(shelved / "cached" / name, tmp_path / f"cached-{name}") for name in names]
        return Store(tmp_path / "own", copies)

    return make


def reports_of(store: Store, entry: Entry) -> dict[str, StageReport]:
    return {key: verify_stage(store, key) for key in plan_of(entry).stages}


def checked_again(store: Store, reports: dict[str, StageReport], **more: Any) -> tuple[dict[str, StageReport], str]:
    said: list[str] = []
    return check_again(store, reports, say=said.append, **more), "\n".join(said)


def test_a_stage_without_files_is_trained_again_and_all_its_numbers_are_checked(library: Callable[..., Store]) -> None:
    store = library(PAIR)
    before = reports_of(store, PAIR)
    assert all({WEIGHTS, PREDICTIONS, "test_loss"} <= set(report.skipped) for report in before.values())
    told: list[tuple[int, int]] = []
    after, _ = checked_again(store, before, trained=lambda *row: told.append(row))
    assert list(after) == list(before)
    assert told[0] == (0, len(before)) and told[-1] == (len(before), len(before))
    for key, report in after.items():
        assert not report.differences and {SAID} | NUMBERS <= set(report.checked), report
        assert not set(report.checked) & set(report.skipped) and set(before[key].checked) <= set(report.checked)
        assert not {WEIGHTS, PREDICTIONS} & set(report.skipped)  # nothing is open that these would have answered
        assert len(report.checked) == len(set(report.checked))
    assert not (store.root / "stages").exists()  # trained in a store that is thrown away


def moved(images: int) -> Callable[[dict[str, Any]], None]:
    """Says that so many test images more were right, in every number that follows from it."""

    def change(result: dict[str, Any]) -> None:
        counts = list(result["correct_classes"])
        right = sum(counts) + images
        result["test_acc"] = round(right / TEST_IMAGES, 9)
        result["correct_classes"] = [counts[0] + images, *counts[1:]]

    return change


def put(name: str, change: Callable[[Any], object]) -> Callable[[dict[str, Any]], None]:
    return lambda result: result.update({name: change(result[name])})


def without_classes(store: Store, key: str) -> None:
    """As the libraries of earlier versions were: nothing of a stage's answers is there."""
    place = pack_of(store, key)
    kept = {name: raw for name, raw in packs.members(place).items() if not name.endswith(CLASSES)}
    place.write_bytes(packs.packed(kept))


def elsewhere(result: dict[str, Any]) -> None:
    result["env"]["cpu_capability"] = "of another processor"


@pytest.mark.parametrize(
    ("change", "caught"),
    [
        (moved(120), {"test_acc"}),
        (moved(-120), {"test_acc"}),
        (moved(10), set()),  # 1.1 points, less than rounding may make
        (put("val_best", lambda v: v + 0.15), {"val_best"}),
        (put("test_loss", lambda v: v + 2.0), {"test_loss"}),
        (put("test_loss", lambda v: v + 0.05), set()),
        (put("ece", str), {"ece"}),
        (put("train_acc", lambda v: None), {"train_acc"}),
        (put("kl", lambda row: {key: value + 2.0 for key, value in row.items()}), {"kl"}),
    ],
)
def test_a_number_that_is_far_off_is_caught(
    change: Callable[[dict[str, Any]], None], caught: set[str], library: Callable[..., Store]
) -> None:
    assert 10 / TEST_IMAGES < WITHIN < 120 / TEST_IMAGES
    store = library(PAIR)
    key = key_of(PAIR, "mlp-16", taught=True)
    without_classes(store, key)
    forged(store, key, change)
    forged(store, key, elsewhere)
    assert store.is_done(key)
    report = verify_stage(store, key)
    assert not report.differences  # nothing there to tell it by
    after, _ = checked_again(store, {key: report})
    assert SAID in after[key].checked and EXACTLY not in after[key].checked
    assert {name.partition(" with ")[0] for name in differing(after[key])} == caught
    for one in after[key].differences:
        stored = numbers_of(store.result(key) or {})[one.what]
        assert one.stored == ("no number" if math.isnan(stored) else str(stored)) and one.found.endswith(f"({SAID})")


def test_what_another_copy_of_a_teacher_taught_is_not_held_against_this_one(library: Callable[..., Store]) -> None:
    store = library(PAIR)
    key = key_of(PAIR, "mlp-16", taught=True)
    (teacher,) = plan_of(PAIR).stages[key].teachers
    without_classes(store, key)
    forged(store, key, put("kl", lambda row: {key: value + 2.0 for key, value in row.items()}))
    forged(store, key, lambda result: result.update(taught_by={teacher: 0.5}))
    after, _ = checked_again(store, {key: verify_stage(store, key)})
    about = f"kl with {teacher[:8]}"
    assert not after[key].differences and about in after[key].skipped and about not in after[key].checked


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (moved(1), False),
        (put("test_loss", lambda v: v + 1e-7), False),
        (put("val_best_epoch", lambda v: v - 1), False),
        (lambda result: result["files"][WEIGHTS].update(sha256="0" * 64), False),
        (lambda result: result["files"].pop(PREDICTIONS), False),
        (elsewhere, False),
        (lambda result: result.update(seconds=9.0), True),
    ],
)
def test_what_is_the_same_to_the_last_digit_is_said(
    change: Callable[[dict[str, Any]], None], same: bool, library: Callable[..., Store]
) -> None:
    store = library(PAIR)
    key = key_of(PAIR, "mlp-16", taught=True)
    without_classes(store, key)
    forged(store, key, change)
    after, _ = checked_again(store, {key: verify_stage(store, key)})
    assert SAID in after[key].checked and not after[key].differences
    assert (EXACTLY in after[key].checked) == same
    assert not same or all(name in (*TIMED, ROWS, EVENTS) for name in after[key].skipped)


def test_what_was_chosen_on_test_images_is_open_until_it_is_trained_again(library: Callable[..., Store]) -> None:
    store = library(PUBLISHED)
    key = next(k for k, s in plan_of(PUBLISHED).stages.items() if s.teachers and s.recipe.selection)
    last = "selected_on_test: last_test_acc"
    assert {last, "selected_on_test: epoch"} <= set(verify_stage(store, key).skipped)
    forged(store, key, lambda result: result["selected_on_test"].update(last_test_acc=result["test_acc"] - 0.2))
    after, _ = checked_again(store, {key: verify_stage(store, key)}, every=True)
    assert differing(after[key]) == {last}


def test_teachers_that_lie_elsewhere_are_trained_too(library: Callable[..., Store]) -> None:
    """The student of a chain in one library, its assistant and teacher in another; only the student is asked for."""
    store = library(CHAIN)
    chain = next(c for c in plan_of(CHAIN).chains if len(c.keys) == 3)
    (place,) = store.cached[0].glob("packs/*")
    every = packs.members(place)
    for name, keys in (("one", chain.keys[:2]), ("two", chain.keys[2:])):
        (store.root / name / "packs").mkdir(parents=True)
        part = {member: raw for member, raw in every.items() if member.partition("/")[0] in keys}
        (store.root / name / "packs" / f"{name}.sqlar").write_bytes(packs.packed(part))
    apart = Store(store.root, [store.root / "one", store.root / "two"])
    student = chain.student
    after, said = checked_again(apart, {student: verify_stage(apart, student)})
    assert not after[student].differences and set(after[student].checked) >= NUMBERS
    assert all(f"{path}, seed 60: training" in said for path in ("mlp-64", "mlp-32 from mlp-64", "mlp-16 from mlp-32"))

    alone = Store(store.root / "own", [store.root / "two"])  # nobody knows its teachers
    report = verify_stage(alone, student)
    assert checked_again(alone, {student: report}) == ({student: report}, "")


def test_what_is_stopped_keeps_its_report(library: Callable[..., Store]) -> None:
    store = library(PAIR)
    before = reports_of(store, PAIR)
    assert checked_again(store, before, should_stop=lambda: True)[0] == before


def test_stages_with_weights_are_trained_again_only_where_everything_is(
    library: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = library(LIGHT)
    before = reports_of(store, LIGHT)
    light = {key for key, stage in plan_of(LIGHT).stages.items() if stage.network == "mlp-8"}
    assert all(before[key].weights for key in light) and len(light) == 2
    after, said = checked_again(store, before)
    assert "mlp-16" in said and "mlp-8" not in said
    assert all(after[key] == before[key] for key in light)
    (teacher,) = set(after) - light
    assert SAID in after[teacher].checked

    def never(*_: object, **__: object) -> bool:
        raise AssertionError("trained again")

    monkeypatch.setattr(train_again, "train_all", never)
    assert check_again(store, {key: before[key] for key in light}) == {key: before[key] for key in light}
    with pytest.raises(AssertionError, match="trained again"):
        check_again(store, {key: before[key] for key in light}, every=True)
    with pytest.raises(AssertionError, match="trained again"):
        check_again(store, before)


def test_what_differs_already_and_what_was_trained_here_is_left_as_it_is(
    library: Callable[..., Store], shelved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_again, "train_all", lambda *_, **__: pytest.fail("trained again"))
    store = library(PAIR)
    forged(store, key := key_of(PAIR, "mlp-32", taught=False), lambda result: result.update(epochs=7))
    report = verify_stage(store, key)
    assert differing(report)
    assert check_again(store, {key: report}) == {key: report}
    own = Store(Path(shutil.copytree(shelved / "store", tmp_path / "live")))
    for name in (WEIGHTS, PREDICTIONS):
        (own.own_folder(key) / name).unlink()
    report = verify_stage(own, key)
    assert check_again(own, {key: report}) == {key: report}


# Large networks


@pytest.fixture
def all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_again, "trained_again", lambda stage: False)


def test_large_networks_are_trained_again_as_far_as_the_time_goes_and_kept(
    library: Callable[..., Store], all_large: None
) -> None:
    store = library(PAIR)
    before = reports_of(store, PAIR)
    assert checked_again(store, before, every=True)[0] == before  # not by the check of small ones
    assert check_large(store, before, 0.0) == before
    told: list[tuple[int, int]] = []
    after = check_large(store, before, 600.0, trained=lambda *row: told.append(row))
    assert told[-1] == (3, 3)
    assert all(SAID in report.checked and not report.differences for report in after.values())

    kept = Store(stamps_folder(store) / AGAIN)
    assert all(kept.is_done(key) for key in before)
    assert check_large(store, before, 0.0) == after  # what is there is compared, also without time

    key = key_of(PAIR, "mlp-32", taught=False)
    shutil.rmtree(kept.own_folder(key))
    some = check_large(store, before, 0.0)
    assert some[key] == before[key] and all(some[other] == after[other] for other in before if other != key)


def test_a_large_network_that_does_not_come_out_as_it_is_stored_is_named(
    library: Callable[..., Store], all_large: None
) -> None:
    store = library(PAIR)
    key = key_of(PAIR, "mlp-16", taught=True)
    without_classes(store, key)
    forged(store, key, put("test_loss", lambda v: v + 2.0))
    assert differing(check_large(store, {key: verify_stage(store, key)}, 600.0)[key]) == {"test_loss"}


def test_large_networks_of_images_that_are_not_here_are_passed_over(
    library: Callable[..., Store], all_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = library(PAIR)
    before = reports_of(store, PAIR)
    monkeypatch.setattr(train_again, "is_ready", lambda name: False)
    assert check_large(store, before, 600.0) == before
    assert not (stamps_folder(store) / AGAIN / "stages").exists()


@pytest.mark.parametrize(("asked", "again"), [([], 0), (["--again", "600"], 3)])
def test_the_process_of_a_check_trains_large_networks_where_it_is_asked_to(
    asked: list[str], again: int, library: Callable[..., Store], all_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = library(PAIR)
    monkeypatch.setenv("TAKD_CACHED", str(store.cached[0]))
    monkeypatch.setattr(verifier.os, "nice", lambda more: more, raising=False)
    assert verifier.main(["--store", str(store.root), "--all", "--id", "1", *asked]) == verifier.DONE
    stamp = read_stamp(store, "")
    assert stamp is not None and sum(SAID in report.checked for report in stamp.stages) == again


def test_the_command_says_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def start(store: Store, kind: object, row: object, arguments: list[str], person: object) -> str:
        given.append(arguments)
        raise RunError("enough")

    monkeypatch.setattr("takd.runs.jobs.start", start)
    for asked in (["--again", "90"], [], ["--again", "-1"]):
        assert CliRunner().invoke(cli, ["verify", "--all", *asked]).exit_code == 2
    assert given == [["--all", "--again", "90.0"], ["--all"]]


# The command


def verify_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.setenv("TAKD_CACHED", str(store.cached[0]))
    return CliRunner().invoke(cli, ["verify", "--all", "--json"])


def test_the_check_of_everything_ends_with_0_and_with_1_where_a_number_was_changed(
    library: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    from takd.runs.store import open_store

    store = library(PAIR)
    clean = verify_all(store, monkeypatch)
    value = json.loads(clean.stdout)
    assert (clean.exit_code, value["equal"]) == (0, True), clean.output
    assert all(SAID in stage["checked"] for stage in value["stages"]) and len(value["stages"]) == 3
    assert ", 3 trained again (" in value["sentence"]

    key = key_of(PAIR, "mlp-16", taught=True)
    forged(store, key, put("train_acc", lambda v: v - 0.2))
    harmed = verify_all(store, monkeypatch)
    assert (harmed.exit_code, json.loads(harmed.stdout)["equal"]) == (1, False), harmed.output
    stamp = read_stamp(open_store(), "")
    assert stamp is not None
    assert [(report.key, one.what) for report, one in stamp.differences] == [(key, "train_acc")]
