"""The library of cached runs: its list is today's, what is missing is trained as far as the time goes, and what several
machines trained goes together."""

from __future__ import annotations

import io
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from takd.claims.library import FILE, Entry, Read, all_rises, keys_read, questions_of, rises_of, wanted, write
from takd.claims.library import read as read_list
from takd.claims.settings import SETTINGS
from takd.claims.table import CLAIMS
from takd.commit import commit
from takd.data.catalogue import available_datasets
from takd.plan import build_plan
from takd.runs import library, looking, packs
from takd.runs.classes import answered
from takd.runs.errors import RunError
from takd.runs.estimates import reference_seconds
from takd.runs.layout import CLASSES
from takd.runs.library import Shelf, shelve_all, shelves, train_next
from takd.runs.shelf import HEAVY, shelve
from takd.runs.states import list_runs, run_info
from takd.runs.store import Store
from takd.runs.submit import submit
from takd.spec import require_spec, to_json
from tests.runs.conftest import workers
from tests.runs.fake_trainer import notes

DATASETS = available_datasets()
START_SECONDS = 5.0  # of a run, whatever it trains
RESULT, STAGE, EVENTS = "result.json", "stage.json", "events.jsonl"
WEIGHTS, PREDICTIONS = "weights.safetensors", "predictions.npz"


def entry(name: str = "small", **choices: Any) -> Entry:
    """Two seeds of mlp-16 > mlp-8, trained nowhere else."""
    plain = {"dataset": "digits", "method": "kd", "teacher": "mlp-16", "student": "mlp-8", "assistants": ()}
    spec = require_spec({**plain, "scope": "chain", "seeds": 2, "seed": 900, **choices}, DATASETS)
    return Entry(name, spec, 3.0, 1.0, ("gap",))


SMALL, OTHER = entry(), entry("other", teacher="mlp-32", seed=950)
LONG = entry("long", teacher="mlp-256", budget="paper", seeds=30)


def keys_of(question: Entry) -> dict[str, str]:
    """Its trainings: `teacher`, `student` or `control` by key."""
    stages = question.plan(DATASETS).stages
    taught = {teacher for stage in stages.values() for teacher in stage.teachers}
    return {k: "student" if s.teachers else "teacher" if k in taught else "control" for k, s in stages.items()}


def keys(question: Entry, *words: str) -> frozenset[str]:
    return frozenset(key for key, word in keys_of(question).items() if word in words)


ASKED = keys(SMALL, "teacher", "student") | keys(OTHER, "teacher", "student")
READ = Read(ASKED, decide=ASKED, answers=keys(OTHER, "student"), curves=keys(SMALL, "student"))


@pytest.fixture
def claims_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims read the teachers and students of the small questions here, and none of their controls."""
    monkeypatch.setattr(library, "keys_read", lambda _: READ)


# The list


def test_the_repositorys_list_is_what_the_claims_want_today() -> None:
    found = wanted(DATASETS, reference_seconds)
    assert write(found) == FILE.read_bytes(), "run `python -m takd library plan --write`"
    assert read_list(FILE.read_bytes(), DATASETS) == found == library.entries(DATASETS)


def test_the_list_is_in_order_of_value_per_second_and_every_entry_adds_something() -> None:
    found = library.entries(DATASETS)
    costs: list[dict[str, float]] = []
    for one in found:
        stages = one.plan(DATASETS).stages
        costs.append({key: reference_seconds(stage, stages) for key, stage in stages.items()})
    covered: set[str] = set()
    for place, (one, own) in enumerate(zip(found, costs, strict=True)):
        adds = [sum(s for key, s in cost.items() if key not in covered) for cost in costs[place:]]
        rates = [e.value / (seconds + START_SECONDS) for e, seconds in zip(found[place:], adds, strict=True)]
        assert rates[0] >= max(rates) - 1e-12, one.name
        assert one.seconds == pytest.approx(adds[0], abs=0.06) and not set(own) <= covered
        covered |= set(own)


def test_every_question_of_a_claim_is_covered_by_the_list() -> None:
    listed = {key for one in library.entries(DATASETS) for key in one.plan(DATASETS).stages}
    for name in ("digits-clean", "cifar10"):
        for spec in questions_of("one-ta", SETTINGS[name]):
            assert set(build_plan(spec, DATASETS[spec.dataset]).stages) <= listed
    assert keys_read(DATASETS).every <= listed


def test_a_list_is_read_as_it_was_written() -> None:
    raw = write([SMALL, LONG])
    assert read_list(raw, DATASETS) == (SMALL, LONG) and read_list(write([]), DATASETS) == ()
    assert [json.loads(line.rstrip(b","))["name"] for line in raw.splitlines()[1:-1]] == ["small", "long"]


GOOD = json.loads(write([SMALL]))["entries"][0]


@pytest.mark.parametrize(
    "value",
    [
        "{", b"\xff", [], {"schema": 2, "entries": []}, {"schema": 1}, {"schema": 1, "entries": {}},
        *({"schema": 1, "entries": [row]} for row in (
            1, None, "x", [], {}, {**GOOD, "spec": "text"}, {**GOOD, "spec": None}, {**GOOD, "spec": ["dataset"]},
            {**GOOD, "spec": {"dataset": "nowhere"}}, {**GOOD, "value": "much"}, {**GOOD, "value": None},
            {**GOOD, "claims": 3}, {k: v for k, v in GOOD.items() if k != "seconds"},
        )),
    ],
)  # fmt: skip
def test_a_damaged_list_is_named_in_a_sentence(value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = value if isinstance(value, bytes) else (value if isinstance(value, str) else json.dumps(value)).encode()
    (tmp_path / "library.json").write_bytes(raw)
    monkeypatch.setattr(library, "FILE", tmp_path / "library.json")
    with pytest.raises(RunError, match=r"library\.json cannot be read .*python -m takd library plan --write"):
        library.entries(DATASETS)


def test_without_a_list_it_is_worked_out_and_unknown_images_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "FILE", tmp_path / "library.json")
    bare = {name: replace(row, fingerprint=None) if name != "digits" else row for name, row in DATASETS.items()}
    anew = library.entries(bare)
    assert anew and {one.spec.dataset for one in anew} == {"digits"}
    (tmp_path / "library.json").write_bytes(write([SMALL, entry("images", **CIFAR)]))
    assert library.entries(bare) == (SMALL,) and len(library.entries(DATASETS)) == 2


CIFAR = {"dataset": "cifar10", "teacher": "plain-4", "student": "plain-2"}


# Training what is missing, with true workers that train in moments


def train(store: Store, wished: list[Entry], seconds: float = 60.0, **more: Any) -> tuple[list[str], str]:
    """(runs that were completed, what was said)."""
    said: list[str] = []
    return train_next(store, DATASETS, wished, seconds, said.append, **more), "\n".join(said)


def trained(store: Store, question: Entry) -> int:
    return sum(store.is_done(key) for key in question.plan(DATASETS).stages)


def only(store: Store, question: Entry) -> Shelf:
    (found,) = shelves(store, DATASETS, [question])
    return found


@pytest.mark.usefixtures("claims_read")
def test_what_is_missing_is_trained_and_nothing_a_second_time(store: Store) -> None:
    before = only(store, SMALL)
    assert (before.total, before.cached, before.here, before.complete, before.ready) == (4, 0, 0, False, True)
    assert before.seconds > 0
    watched: list[str] = []
    done, said = train(store, [SMALL, OTHER], watch=lambda run: watched.append(run.id))
    assert len(done) == 2 and set(watched) == set(done)
    assert {run.id for run in list_runs(store)} == set(done)
    assert "small: 4 of 4 trainings to go." in said
    assert (trained(store, SMALL), trained(store, OTHER)) == (6, 6)
    now = only(store, SMALL)
    assert (now.total, now.here, now.complete, now.seconds) == (4, 4, True, 0.0)
    assert run_info(store, done[0]).asked_by == library.ASKED_BY
    begun = len(notes(store, "start"))
    assert train(store, [SMALL, OTHER]) == ([], "") and len(notes(store, "start")) == begun


@pytest.mark.usefixtures("claims_read")
def test_who_asked_for_the_same_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_FAKE_MS", "150")
    asked = submit(store, SMALL.spec, "somebody", datasets=DATASETS)
    assert train(store, [SMALL])[0] == [asked] and [run.id for run in list_runs(store)] == [asked]


@pytest.mark.usefixtures("claims_read")
def test_it_stops_at_its_time_and_goes_on_from_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_EPOCHS", "30")
    monkeypatch.setenv("TAKD_FAKE_MS", "500")
    seen: list[int] = []

    def rows() -> int:
        return sum(len(store.read_events(key)[0]) for key in SMALL.plan(DATASETS).stages)

    done, _ = train(store, [SMALL, OTHER], seconds=4.0, watch=lambda run: seen.append(rows()))
    (run,) = list_runs(store)
    assert done == [] and run.state == "cancelled" and seen[-1] < 180
    kept = rows()
    assert kept > 0 and trained(store, SMALL) < 6
    for process in workers(store):  # an idle one has the old length
        process.kill()
        process.wait(10)
    monkeypatch.setenv("TAKD_FAKE_MS", "1")
    done, _ = train(store, [SMALL], watch=lambda run: seen.append(rows()))
    assert done == [run.id] and trained(store, SMALL) == 6
    assert seen[-1] == 180 and min(seen[seen.index(kept) :] or [0]) >= kept > 0


@pytest.mark.usefixtures("claims_read")
def test_long_ones_and_images_that_are_not_here_are_passed_over(store: Store) -> None:
    small, large = only(store, SMALL).seconds, only(store, LONG).seconds
    assert small < large
    done, said = train(store, [LONG, entry("images", **CIFAR), SMALL], longest=(small + large) / 2)
    assert len(done) == 1 and trained(store, SMALL) == 6 and trained(store, LONG) == 0
    assert "images: cifar10 is not prepared here, passed over." not in said  # too long as well
    done, said = train(store, [entry("images", **CIFAR)])
    assert done == [] and said == "images: cifar10 is not prepared here, passed over."
    assert len(list_runs(store)) == 1


@pytest.mark.usefixtures("claims_read")
def test_a_run_that_fails_is_named_and_the_next_one_is_trained(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAIL", "mlp-16:diverged")
    done, said = train(store, [SMALL, OTHER])
    failed = next(run for run in list_runs(store) if run.state == "failed")
    assert f"Run {failed.id} failed and is passed over: " in said and "mlp-16 went wrong" in said
    assert len(done) == 1 and failed.id not in done and trained(store, OTHER) == 6 and trained(store, SMALL) == 2
    for process in workers(store):
        process.kill()
        process.wait(10)
    monkeypatch.delenv("FAKE_FAIL")
    assert train(store, [SMALL, OTHER])[0] == [failed.id] and trained(store, SMALL) == 6


# Into the library


def finish(
    store: Store, question: Entry, words: tuple[str, ...] = ("teacher", "student", "control"), size: int = 0
) -> Store:
    """Train the named stages of a question in no time; weights have `size` bytes if it is said, answers more."""
    answers = io.BytesIO()
    np.savez(answers, logits=np.eye(10, dtype=np.float16).repeat(max(1, size // 200 + 1), 0))
    for key in keys(question, *words):
        stage = question.plan(DATASETS).stages[key]
        store.ensure(stage, own=True)
        store.append_events(key, [{"epoch": 1, "val_acc": 0.5}])
        env = {"device_name": store.root.name, "platform": "p", "python": "3", "torch": "2"}
        weights = size or (2_400 if stage.network == "mlp-8" else 5_000)
        end = f"2026-01-0{1 + (store.root.name == 'b')}T00:00:00+00:00"
        result = {"test_acc": 0.75, "seconds": 1.5, "env": env, "finished": end}
        store.commit(key, result, {WEIGHTS: b"w" * weights, PREDICTIONS: answers.getvalue()})
    return store


def packs_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("packs/*"))


def test_exactly_what_is_read_is_packed_with_the_files_of_the_table(tmp_path: Path) -> None:
    store, place = Store(tmp_path / "a"), tmp_path / "cached"
    for question in (SMALL, OTHER):
        assert shelve(finish(store, question), question, question.plan(DATASETS), place, READ) == 4
    light, heavy = {STAGE, RESULT, WEIGHTS}, {STAGE, RESULT, CLASSES}
    wished = {
        **dict.fromkeys(keys(SMALL, "teacher") | keys(OTHER, "teacher"), heavy),
        **{key: {*light, EVENTS} for key in keys(SMALL, "student")},
        **{key: {STAGE, RESULT, EVENTS, PREDICTIONS} for key in keys(OTHER, "student")},
    }
    found: dict[str, set[str]] = {}
    for path in packs_in(place):
        for name, raw in packs.members(path).items():
            key, _, file = name.partition("/")
            found.setdefault(key, set()).add(file)
            own = store.own_folder(key) / file
            assert raw == (own.read_bytes() if file != CLASSES else bytes(range(10)))
    assert found == wished and set(found) == READ.every
    assert packs.problems(place) == [] and Store(tmp_path / "own", [place]).broken(place) == []


@pytest.mark.parametrize(
    ("size", "leads", "kept"),
    [(HEAVY, False, {WEIGHTS}), (HEAVY + 1, False, {CLASSES}), (HEAVY + 1, True, {WEIGHTS, CLASSES})],
)
def test_what_would_outweigh_all_else_goes_without_weights_and_answers_unless_it_is_the_headline(
    size: int, leads: bool, kept: set[str], tmp_path: Path
) -> None:
    question = entry("photographs", dataset="cifar10", teacher="plain-4", student="plain-2", seeds=1)
    student = keys(question, "student")
    read = Read(student, headline=student if leads else frozenset())
    store = Store(tmp_path / "a")
    finish(store, question, size=size)
    assert shelve(store, question, question.plan(DATASETS), tmp_path / "cached", read) == 1
    (path,) = packs_in(tmp_path / "cached")
    files = {name.partition("/")[2] for name in packs.members(path)} - {""}
    assert files == {STAGE, RESULT, EVENTS, *kept}


@pytest.mark.parametrize("decides", [True, False])
def test_small_weights_go_along_where_a_claims_own_measure_reads_them(decides: bool, tmp_path: Path) -> None:
    question = entry("small", seeds=1)
    students, store = keys(question, "student"), Store(tmp_path / "a")
    finish(store, question)
    read = Read(students, decide=students if decides else frozenset())
    shelve(store, question, question.plan(DATASETS), tmp_path / "cached", read)
    (path,) = packs_in(tmp_path / "cached")
    files = {name.partition("/")[2] for name in packs.members(path)} - {""}
    assert files == {STAGE, RESULT, WEIGHTS if decides else CLASSES}


def test_of_answers_that_a_claim_reads_logits_of_three_seeds_go_along_and_classes_of_the_others(tmp_path: Path) -> None:
    question = entry("read", seeds=5, seed=40)
    students, store = keys(question, "student"), Store(tmp_path / "a")
    finish(store, question)
    read = Read(students, decide=students, answers=students, curves=students)
    shelve(store, question, question.plan(DATASETS), tmp_path / "cached", read)
    (path,) = packs_in(tmp_path / "cached")
    found: dict[str, set[str]] = {}
    for name in packs.members(path):
        key, _, file = name.partition("/")
        found.setdefault(key, set()).add(file)
    stages = question.plan(DATASETS).stages
    shown = {key: PREDICTIONS in files for key, files in found.items()}
    assert {stages[key].seed for key in students if shown[key]} == {40, 41, 42} and len(shown) == 5
    assert all(files == {STAGE, RESULT, EVENTS, WEIGHTS, CLASSES} for key, files in found.items() if not shown[key])
    library = Store(tmp_path / "own", [tmp_path / "cached"])
    answers = [answered(library, key, 10, 10) for key in found]
    assert all(row is not None and row[0].tolist() == list(range(10)) for row in answers)


def test_a_pack_says_where_its_numbers_come_from(tmp_path: Path) -> None:
    store, place = finish(Store(tmp_path / "a"), SMALL), tmp_path / "cached"
    shelve(store, SMALL, SMALL.plan(DATASETS), place, READ)
    (path,) = packs_in(place)
    assert path.name.startswith("small-") and path.suffix == packs.ENDING
    raw = packs.about(path)
    assert raw is not None
    told = json.loads(raw)
    assert told["question"] == "small" and require_spec(told["spec"], DATASETS) == SMALL.spec
    assert told["spec"] == json.loads(json.dumps(to_json(SMALL.spec)))
    assert (told["stages"], told["seconds"], told["machines"]) == (4, 6.0, ["a, p, 3, 2"])
    assert told["commit"] == commit() and told["finished"] == ["2026-01-01T00:00:00+00:00"] * 2


def test_publishing_again_changes_nothing_and_what_is_new_is_added(
    tmp_path: Path, claims_read: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, place, said = Store(tmp_path / "a"), tmp_path / "cached", list[str]()
    assert shelve_all(store, DATASETS, [SMALL], place, said.append) == 0 and not place.exists()
    finish(store, SMALL, ("teacher", "control"))
    assert shelve_all(store, DATASETS, [SMALL, OTHER], place, said.append) == 2
    first = {path: path.read_bytes() for path in packs_in(place)}
    assert shelve_all(store, DATASETS, [SMALL, OTHER], place, said.append) == 0
    assert {path: path.read_bytes() for path in packs_in(place)} == first and said == ["small: 2 trainings copied."]
    finish(store, SMALL)
    assert shelve_all(store, DATASETS, [SMALL], place, said.append) == 2
    assert len(packs_in(place)) == 2 and all(path.read_bytes() == raw for path, raw in first.items())
    lib = Store(tmp_path / "own", [place])
    assert all(lib.origin(key) == "cached" for key in keys(SMALL, "teacher", "student"))
    assert only(lib, SMALL).complete and only(lib, SMALL).cached == 4


def test_nothing_is_packed_of_a_question_with_a_damaged_file(tmp_path: Path) -> None:
    store, place = finish(Store(tmp_path / "a"), SMALL), tmp_path / "cached"
    student = min(keys(SMALL, "student"))
    (store.own_folder(student) / WEIGHTS).write_bytes(b"x" * 2_400)
    with pytest.raises(RunError, match="Nothing was put into the library"):
        shelve(Store(store.root), SMALL, SMALL.plan(DATASETS), place, READ)
    assert packs_in(place) == []


@pytest.mark.usefixtures("claims_read")
def test_two_machines_may_train_the_same_and_their_files_go_together_in_either_order(tmp_path: Path) -> None:
    """`a` trained both questions, `b` one of them."""
    for name, questions in (("a", [SMALL, OTHER]), ("b", [SMALL])):
        store = Store(tmp_path / name)
        for question in questions:
            shelve(finish(store, question), question, question.plan(DATASETS), tmp_path / f"from-{name}", READ)
    for order in ("ab", "ba"):
        place = tmp_path / order
        for name in order:
            shutil.copytree(tmp_path / f"from-{name}", place, dirs_exist_ok=True)
        assert [path.name[:5] for path in packs_in(place)] == ["other", "small", "small"]
        lib = Store(tmp_path / "own", [place])
        assert lib.broken(place) == [] and packs.keys(place) == READ.every
        for shelf in shelves(lib, DATASETS, [SMALL, OTHER]):
            assert (shelf.total, shelf.cached, shelf.here, shelf.complete) == (4, 4, 0, True)
        for key in READ.every:
            assert lib.origin(key) == "cached" and (lib.result(key) or {})["test_acc"] == 0.75
        assert {lib.read_file(key, WEIGHTS) for key in keys(SMALL, "student")} == {b"w" * 2_400}


def test_what_is_in_the_library_already_is_not_put_there_by_the_second_machine(tmp_path: Path) -> None:
    place, plan = tmp_path / "cached", SMALL.plan(DATASETS)
    assert shelve(finish(Store(tmp_path / "a"), SMALL, ("teacher",)), SMALL, plan, place, READ) == 2
    assert shelve(finish(Store(tmp_path / "b"), SMALL), SMALL, plan, place, READ) == 2
    machines = [json.loads(packs.about(path) or b"{}")["machines"] for path in packs_in(place)]
    assert sorted(machines) == [["a, p, 3, 2"], ["b, p, 3, 2"]]
    assert packs.keys(place) == keys(SMALL, "teacher", "student")


def test_a_shelf_counts_what_came_along_apart_from_what_was_trained_here(tmp_path: Path, claims_read: None) -> None:
    shelve(finish(Store(tmp_path / "a"), SMALL, ("teacher",)), SMALL, SMALL.plan(DATASETS), tmp_path / "cached", READ)
    brought = finish(Store(tmp_path / "brought"), SMALL)  # nobody knows who trained it
    lib = Store(tmp_path / "own", [tmp_path / "cached"], brought.root)
    assert (only(lib, SMALL).cached, only(lib, SMALL).here) == (2, 0)
    finish(lib, SMALL, ("control",))
    assert (only(lib, SMALL).cached, only(lib, SMALL).here) == (2, 0)  # no claim reads it
    finish(lib, SMALL)
    shelf = only(lib, SMALL)
    assert (shelf.total, shelf.cached, shelf.here, shelf.complete) == (4, 2, 2, True)
    assert only(lib, entry("nobody's", seed=990)).total == 6  # where no claim reads anything, all of it counts
    assert not only(lib, entry("images", **CIFAR)).ready


def test_controls_that_no_claim_reads_are_left_out() -> None:
    """The chains of small CNNs on digits are held against each other only; a run trains their student alone as well."""
    read = keys_read(DATASETS)
    chosen = next(one for one in library.entries(DATASETS) if one.name == "digits-cnn-tuned kd 32>2")
    assert keys(chosen, "teacher", "student") <= read.every and not keys(chosen, "control") & read.every
    assert len(keys(chosen, "control")) == 30
    assert read.answers <= read.every and read.curves <= read.every and read.answers and read.curves
    assert read.headline <= read.decide < read.every - read.mapped
    plan = chosen.plan(DATASETS)
    assert {plan.stages[key].seed for key in read.headline & plan.stages.keys()} == {chosen.spec.seed}


# How steep the loss is


def looked_at(at: Store, monkeypatch: pytest.MonkeyPatch, state: str = "done") -> list[list[str]]:
    """Looks that are there at once; the keys of every request."""
    asked: list[list[str]] = []

    def start(own: Store, what: str, some: list[str]) -> None:
        asked.append(some)
        looking.folder(own).mkdir(exist_ok=True)
        for key in some:
            looking.write_look(own, key, what, {"rise": 0.5})
        looking.write_progress(own, {"id": "a", "what": what, "state": state, "text": "no images"})

    monkeypatch.setattr(looking, "start", start)
    return asked


def test_the_loss_is_looked_at_once_where_the_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lib = finish(Store(tmp_path / "own"), SMALL)
    asked = looked_at(lib, monkeypatch)
    monkeypatch.setattr(looking, "MOST_RISES", 1)
    wished = {*keys(SMALL, "student"), *keys(OTHER, "student")}  # the other question was not trained here
    assert library.look_around(lib, wished, time.monotonic()) == 0 and asked == []  # no time
    assert library.look_around(lib, wished) == 2
    assert sorted(asked) == sorted([key] for key in keys(SMALL, "student"))
    assert library.look_around(lib, wished) == 0 and len(asked) == 2


def test_a_look_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lib = finish(Store(tmp_path / "own"), SMALL)
    looked_at(lib, monkeypatch, "failed")
    with pytest.raises(RunError, match="no images"):
        library.look_around(lib, keys(SMALL, "student"))


def test_looks_go_into_the_library_once(tmp_path: Path, claims_read: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "all_rises", lambda _: keys(SMALL, "student"))
    lib, place = finish(Store(tmp_path / "own"), SMALL), tmp_path / "cached"
    looked_at(lib, monkeypatch)
    library.look_around(lib, keys(SMALL, "student", "teacher"))
    library.shelve_all(lib, DATASETS, [SMALL], place, lambda _: None)
    found = Store(tmp_path / "other", [place])
    assert {k for k in READ.every if looking.read_look(found, k, "rise")} == keys(SMALL, "student")
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*.json")}
    library.shelve_all(lib, DATASETS, [SMALL], place, lambda _: None)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*.json")} == before


def test_the_claim_about_flatness_reads_looks_of_its_students() -> None:
    trial = CLAIMS["flatness"].trials[0]
    found = rises_of(trial, SETTINGS[trial.setting], DATASETS["digits"])
    assert len(found) == 60 and found <= all_rises(DATASETS)
    assert rises_of(CLAIMS["one-ta"].trials[0], SETTINGS["cifar10"], DATASETS["cifar10"]) == frozenset()
