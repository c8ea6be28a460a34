"""What a server lets people do: read-only means that nothing is written, limits hold for whoever asks, and everything
in this package that writes on a wish asks first."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from takd.claims.library import Entry, Read
from takd.data.table import Dataset
from takd.runs import (
    bundle_import,
    doctor,
    imported,
    launch,
    library,
    looking,
    policy,
    queue,
    shelf,
    submit,
    tidy,
    verification,
    warm,
)
from takd.runs.errors import RunError
from takd.runs.limits import refusal, store_bytes
from takd.runs.people import MACHINE, Person, clean_name, person_id
from takd.runs.states import run_info, write_run_file
from takd.runs.store import Store
from takd.runs.tickets import draw_ticket, tickets
from takd.spec import to_json
from tests.runs.conftest import CHAIN, DATA, LONE, workers

PACKAGE = Path(policy.__file__).parent
Env = pytest.MonkeyPatch


def make_run(store: Store, run_id: str, owner: str = "", state: str = "starting", name: str = "") -> str:
    """A run as it lies in the store just after it was asked for."""
    folder = store.root / "runs" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    row = {"spec": to_json(LONE), "created": "2026-01-01T00:00:00+00:00", "owner": owner, "asked_by": name}
    write_run_file(folder, "experiment.json", row)
    write_run_file(folder, "status.json", {"state": state, "requested": time.time()})
    if state == "starting":
        draw_ticket(store.root, run_id)
    return run_id


def tree(root: Path) -> dict[str, str]:
    """Every file under a folder and what it holds."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(root.rglob("*"))
    }


# Read-only: whatever writes on a wish is in this table, and a search through the package finds what is missing.

RUN = "20260101-000000-0000"
ENTRY = Entry("question", LONE, 1.0, 1.0, ())
NOTHING_READ = Read(frozenset())
WISHES: dict[str, Callable[[Store], object]] = {
    "library.train_next": lambda store: library.train_next(store, {}, (), 1.0, print),
    "library.look_around": lambda store: library.look_around(store, ["0" * 32]),
    "library.shelve_all": lambda store: library.shelve_all(store, {}, (), store.root, print),
    "shelf.shelve": lambda store: shelf.shelve(store, ENTRY, ENTRY.plan(DATA), store.root, NOTHING_READ),
    "submit.submit": lambda store: submit.submit(store, LONE, datasets=DATA),
    "submit.cancel": lambda store: submit.cancel(store, RUN),
    "submit.resume": lambda store: submit.resume(store, RUN),
    "submit.delete": lambda store: submit.delete(store, RUN),
    "submit.start_worker": lambda store: submit.start_worker(store, RUN),
    "queue.move": lambda store: queue.move(store, RUN, "back"),
    "bundle_import.import_bundle": lambda store: bundle_import.import_bundle(store, io.BytesIO(b"")),
    "imported.remove_imported": lambda store: imported.remove_imported(store, RUN),
    "tidy.remove": lambda store: tidy.remove(store, []),
    "verification.start": lambda store: verification.start(store, RUN),
    "verification.stop": lambda store: verification.stop(store),
    "looking.start": lambda store: looking.start(store, "line", ["0" * 32]),
    "looking.stop": lambda store: looking.stop(store),
    "launch.start_detached": lambda store: launch.start_detached(store, ["--warm"], store.root / "log.txt"),
    "doctor.calibrate": lambda store: doctor.calibrate(store),
}
# Those that do nothing there instead of refusing
QUIET: dict[str, Callable[[Store], object]] = {
    "warm.warm": lambda store: warm.warm(store),
    "warm.hand_over": lambda store: warm.hand_over(store, RUN),
    "doctor.calibrate_in_background": lambda store: doctor.calibrate_in_background(store),
    "doctor.run_checks": lambda store: [doctor._CHECKS[name](store) for name in ("server", "store", "locks")],
}
# Write, but never on a person's wish: tools of those above, and what workers, their engine and the checker call
INSIDE = {
    "files": {"write_atomic", "write_together", "append_line", "sync_file", "sync_folder", "remove_leftovers"},
    "layout": {"remove_those_there"},
    "locks": {"slot_lock"},
    "tickets": {"draw_ticket", "change_places", "touch_ticket", "drop_tickets"},
    "limits": {"forget_ended"},
    "states": {"write_run_file"},
    "stamps": {"write_stamp"},
    "failures": {"record_failure", "clear_failure"},
    "history": {"keep"},
    "estimates": {"record_rate"},
    "jobs": {"start", "stop", "write_progress"},
    "verification": {"write_progress"},
    "looking": {"write_progress", "write_look"},
    "submit": {"write_plan"},
    "imported": {"alone", "sweep"},
    "publish": {"publish", "main"},
    "sums": {"write_sums", "renew_sums"},
}
WORKER_ONLY = {"worker", "loop", "process", "guard", "trainer", "store", "turn"}
WRITES = {
    "write_atomic", "write_together", "append_line", "unlink", "mkdir", "rename", "rmtree", "Popen", "mkdtemp",
    "mkfifo", "utime", "copytree", "write_text", "write_bytes", "touch", "kill", "start_detached",
}  # fmt: skip


def writers() -> dict[str, ast.FunctionDef]:
    """Public functions of the package that write, by themselves or through another function of it."""
    functions: dict[str, ast.FunctionDef] = {}
    for path in sorted(PACKAGE.glob("*.py")):
        if path.stem not in WORKER_ONLY:
            body = ast.parse(path.read_text(encoding="utf-8")).body
            functions |= {f"{path.stem}.{node.name}": node for node in body if isinstance(node, ast.FunctionDef)}
    called = {
        name: {
            str(getattr(call.func, "attr", getattr(call.func, "id", "")))
            for call in ast.walk(node)
            if isinstance(call, ast.Call)
        }
        for name, node in functions.items()
    }
    found = {name for name, calls in called.items() if calls & WRITES}
    while more := {
        name
        for name, calls in called.items()
        if name not in found and calls & {writer.split(".")[1] for writer in found}
    }:
        found |= more
    return {name: functions[name] for name in found if not name.split(".")[1].startswith("_")}


def asks_first(node: ast.FunctionDef) -> bool:
    first = next(
        line for line in node.body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
    )
    return ast.unparse(first) in ("require_changes_allowed()", "require_imports_allowed()")


def test_everything_that_writes_on_a_wish_asks_first() -> None:
    found = writers()
    assert set(WISHES) <= set(found) and all(asks_first(found[name]) for name in WISHES)
    known = {*WISHES, *QUIET, *(f"{module}.{name}" for module, names in INSIDE.items() for name in names)}
    new = {name for name, node in found.items() if name not in known and not asks_first(node)}
    assert new == set(), "call require_changes_allowed() first, or say in INSIDE why nobody can wish for it"
    in_no_table = {name for name, node in found.items() if asks_first(node)} - set(WISHES)
    assert in_no_table == set(), "add it to WISHES, so that it is called on a read-only server"


@pytest.mark.parametrize("wish", WISHES)
def test_a_read_only_server_refuses(store: Store, monkeypatch: Env, wish: str) -> None:
    make_run(store, RUN)
    before = tree(store.root)
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    with pytest.raises(RunError, match="only shows results"):
        WISHES[wish](store)
    assert tree(store.root) == before and workers(store) == []


@pytest.mark.parametrize("wish", QUIET)
def test_a_read_only_server_starts_nothing_by_itself(store: Store, monkeypatch: Env, wish: str) -> None:
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    result = QUIET[wish](store)
    for lines in result if isinstance(result, list) else ():
        assert all(status == "ok" for status, _ in lines)
    assert not store.root.exists() and workers(store) == []


# Settings


def test_settings_have_defaults_for_one_person_and_for_strangers(monkeypatch: Env) -> None:
    assert policy.limits() == policy.Limits(50, 0, 0.0, 0.0) and policy.problems() == ()
    monkeypatch.setenv("TAKD_PUBLIC", "yes")
    assert policy.limits() == policy.Limits(50, 3, 2.0, 5.0)
    monkeypatch.setenv("TAKD_MAX_HOURS", "0.5")
    monkeypatch.setenv("TAKD_MAX_PER_PERSON", "0")
    assert policy.limits() == policy.Limits(50, 0, 0.5, 5.0) and policy.problems() == ()
    monkeypatch.setenv("TAKD_PUBLIC", "off")
    assert not policy.public() and policy.limits().store_gb == 0


@pytest.mark.parametrize("name", ["TAKD_MAX_WAITING", "TAKD_MAX_PER_PERSON", "TAKD_MAX_HOURS", "TAKD_MAX_STORE_GB"])
@pytest.mark.parametrize("value", ["many", "-1", "nan", "inf", "1e400", "٣", "2;3"])
def test_what_cannot_be_read_is_said_and_the_careful_value_counts(monkeypatch: Env, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    (sentence,) = policy.problems()
    assert name in sentence and "Correct it" in sentence
    careful = dict(zip(policy._DEFAULTS, (50, 3, 2, 5), strict=False))[name]
    assert careful in (getattr(policy.limits(), field) for field in ("waiting", "per_person", "hours", "store_gb"))
    monkeypatch.setattr(doctor, "_CHECKS", {"server": doctor._CHECKS["server"]})
    assert [check.status for check in doctor.run_checks(Store(Path("none")))] == ["failed", "ok"]


def test_a_switch_that_cannot_be_read_is_on(monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_READ_ONLY", "maybe")
    assert policy.read_only() and "neither 1 nor 0" in policy.problems()[0]


# Limits


ADA, BEN = Person("a" * 16, "Ada"), Person("b" * 16, "Ben")


def ask(store: Store, person: Person = MACHINE, **changes: object) -> str:
    return submit.submit(store, replace(CHAIN, **changes), datasets=DATA, person=person)  # type: ignore[arg-type]


def test_a_run_may_not_take_longer_than_the_server_lets_it(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_MAX_HOURS", "0.0001")
    with pytest.raises(RunError, match=r"may take 0.0001 \(TAKD_MAX_HOURS\). Choose fewer seeds"):
        ask(store, seeds=10, budget="paper")
    unprepared: dict[str, Dataset] = {"digits": replace(DATA["digits"], fingerprint=None)}
    with pytest.raises(RunError, match="TAKD_MAX_HOURS"):
        submit.submit(store, replace(CHAIN, seeds=10, budget="paper"), datasets=unprepared)
    assert not (store.root / "runs").exists() and workers(store) == []
    monkeypatch.setenv("TAKD_MAX_HOURS", "0")
    monkeypatch.setattr(submit, "start_worker", lambda *_: None)
    run_id = ask(store, seeds=10, budget="paper")
    monkeypatch.setenv("TAKD_MAX_HOURS", "0.0001")
    (store.root / "runs" / run_id / "cancel").touch()
    write_run_file(store.root / "runs" / run_id, "status.json", {"state": "cancelled"})
    with pytest.raises(RunError, match="TAKD_MAX_HOURS"):
        submit.resume(store, run_id)


def test_a_person_has_a_number_of_runs(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_PUBLIC", "1")
    monkeypatch.setattr(submit, "start_worker", lambda *_: None)
    mine = [make_run(store, f"20260101-000000-000{n}", ADA.id) for n in range(3)]
    with pytest.raises(RunError, match=r"3 of your runs wait or train.*TAKD_MAX_PER_PERSON.*cancel one"):
        ask(store, ADA)
    ask(store, BEN)
    ask(store)  # whoever has the machine
    assert refusal(store, ADA, 1.0, besides=mine[0]) == ""  # live mode: the new one takes its place
    write_run_file(store.root / "runs" / mine[0], "status.json", {"state": "done"})
    ask(store, ADA)
    assert mine[0] not in [ticket.run_id for ticket in tickets(store.root)]  # it ended without saying so


def test_clicks_at_the_same_moment_pass_no_limit(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_PUBLIC", "1")
    monkeypatch.setattr(submit, "start_worker", lambda *_: None)

    def click(seed: int) -> str:
        try:
            return ask(store, ADA, seed=seed)
        except RunError as error:
            return str(error)

    with ThreadPoolExecutor(12) as pool:
        said = list(pool.map(click, range(12)))
    assert sum("TAKD_MAX_PER_PERSON" in text for text in said) == 9
    assert len(tickets(store.root)) == 3


def test_a_full_store_takes_no_run(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_MAX_STORE_GB", "0.000001")
    (store.root / "stages").mkdir(parents=True)
    (store.root / "stages" / "big").write_bytes(b"x" * 2000)
    assert store_bytes(store.root) == 2000
    with pytest.raises(RunError, match=r"keeps 1e-06 GB \(TAKD_MAX_STORE_GB\)"):
        ask(store)
    monkeypatch.setenv("TAKD_MAX_STORE_GB", "0")
    assert refusal(store, ADA, None) == ""


def test_many_waiting_runs(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_MAX_WAITING", "2")
    make_run(store, "20260101-000000-0001")
    assert refusal(store, MACHINE, 1.0) == ""
    make_run(store, "20260101-000000-0002")
    assert "2 runs are waiting already" in refusal(store, MACHINE, 1.0)


# People


@pytest.mark.parametrize(
    "act", [submit.cancel, submit.resume, submit.delete, lambda s, r, p: queue.move(s, r, "back", p)]
)
def test_only_the_owner_changes_a_run(store: Store, act: Callable[[Store, str, Person], object]) -> None:
    run_id = make_run(store, RUN, ADA.id, name="Ada <b>")
    before = tree(store.root)
    for stranger in (BEN, Person(), Person("", "nobody"), Person(ADA.id, "Ada", refused="Sign in first.")):
        with pytest.raises(RunError, match=r"belongs to Ada <b>|Sign in first"):
            act(store, run_id, stranger)
    assert tree(store.root) == before
    ours = make_run(store, "20260101-000000-0001")  # asked for at the command line: nobody's cookie opens it
    with pytest.raises(RunError, match="belongs to whoever runs this server"):
        act(store, ours, BEN)


def test_a_run_remembers_whose_it_is(store: Store, monkeypatch: Env) -> None:
    monkeypatch.setattr(submit, "start_worker", lambda *_: None)
    info = run_info(store, ask(store, ADA))
    assert (info.owner, info.asked_by) == (ADA.id, "Ada")
    submit.cancel(store, info.id, ADA)
    submit.cancel(store, info.id, MACHINE)
    with pytest.raises(RunError, match="Sign in"):
        ask(store, Person(refused="Sign in to start a training."))


def test_ids_and_names() -> None:
    secret = "0123456789abcdef" * 2
    assert person_id("cookie", secret) == person_id("cookie", secret) != person_id("account", secret)
    assert len(person_id("account", "issuer", "subject")) == 16 and secret[:6] not in person_id("cookie", secret)
    assert clean_name("  A\n\x1b[31m da\u202e " + "x" * 99) == ("A [31m da " + "x" * 99)[:60]


def test_a_read_only_disk_is_only_read(store: Store, monkeypatch: Env) -> None:
    if os.geteuid() == 0:
        pytest.skip("the administrator may write anywhere")
    make_run(store, RUN)
    store.root.chmod(0o500)
    try:
        assert run_info(store, RUN).position == 1
    finally:
        store.root.chmod(0o700)
