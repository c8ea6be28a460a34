"""A user's network in experiments: spec, plan, command line, training. What is refused when a file is checked is in
tests/networks/test_own.py."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from takd.analysis.frames import chain_frame, stage_frame
from takd.budgets import BUDGETS
from takd.data.catalogue import available_datasets
from takd.data.table import DATASETS
from takd.methods.table import METHODS
from takd.networks import own
from takd.networks.table import NETWORKS, build, capacity
from takd.plan import build_plan
from takd.runs.estimates import estimate
from takd.runs.memory import peak_mb
from takd.runs.store import Store
from takd.runs.submit import write_plan
from takd.spec import (
    CHOOSABLE,
    SpecError,
    between,
    from_json,
    from_query,
    ladder_family,
    networks_for,
    read_spec,
    require_spec,
    rungs_between,
    size_order,
    to_json,
    to_query,
)
from takd.stage import StageSpec
from takd.training.fold import folded
from takd.training.fused import training_forward
from takd.training.run_stage import run_stages
from tests.own_files import LARGE, SMALL, check_here, keep
from tests.test_cli import call, last_json

RGB = (3, 32, 32)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are checked in this process."""
    monkeypatch.setattr(own, "_try", check_here)


def digits(**choices: object) -> dict[str, object]:
    return {"dataset": "digits", "seeds": 1, "scope": "chain", **choices}


def test_every_role_and_every_way_of_writing_it_down() -> None:
    big, middle, small = keep("big.py", 1_000_000), keep("middle.py", 9_000), keep("small.py", 100)
    for path in (
        (big.name, "mlp-64", "mlp-8"),
        ("mlp-256", middle.name, "mlp-8"),
        ("mlp-256", "mlp-16", small.name),
        (big.name, middle.name, "mlp-64", small.name),
        (big.name, middle.name, small.name),
    ):
        assert list(path) == sorted(path, key=size_order, reverse=True)
        spec = require_spec(digits(teacher=path[0], assistants=list(path[1:-1]), student=path[-1]))
        assert spec.path == path
        assert from_query(to_query(spec)) == from_query(to_query(spec, full=True)) == (spec, ())
        assert from_json(json.dumps(to_json(spec))) == spec
        options = ["--data", "digits", "--teacher", path[0], "--student", path[-1], "--seeds", "1", "--scope", "chain"]
        planned = last_json(call("plan", *options, "--assistants", ",".join(path[1:-1]), "--json"))
        assert planned["spec"] == to_json(spec)
        assert planned["new"] > 0


def test_names_that_cannot_be_used_here() -> None:
    colour = keep("colour.py", 50_000_000, shape=RGB)
    twenty = keep("twenty.py", 5_000, classes=20)
    again = "python -m takd networks --add FILE --data"
    table = [
        (digits(teacher="own-12345678"), ["own-12345678", "not an own network of this machine", f"{again} digits"]),
        (digits(student="own-00000000"), ["Student", "own-00000000", "of this machine"]),
        (digits(assistants=["own-12345678"]), ["Assistant own-12345678", "left out"]),
        (digits(teacher=colour.name), ["colour.py", "not checked for Digits", f"{again} digits"]),
        (digits(student=twenty.name), ["twenty.py", "not checked for Digits"]),
        ({"teacher": twenty.name}, ["twenty.py", "not checked for CIFAR-10", f"{again} cifar10"]),
        (digits(teacher="own-1234"), ["'own-1234' is not allowed"]),
        (digits(teacher="own-../../x"), ["is not allowed"]),
    ]
    for values, words in table:
        with pytest.raises(SpecError) as caught:
            require_spec(values)
        text = " ".join(caught.value.problems)
        assert [word for word in words if word not in text] == [], text
        assert all(problem.endswith(".") and len(problem) < 600 for problem in caught.value.problems)
        repaired = read_spec(values)[0]
        assert require_spec(to_json(repaired)) == repaired


def test_sizes_decide_the_order_across_families() -> None:
    big, small = keep("big.py", 1_000_000), keep("small.py", 100)
    with pytest.raises(SpecError, match="must be larger"):
        require_spec(digits(teacher=small.name, student="mlp-8", method="kd", assistants=[]))
    with pytest.raises(SpecError, match="not between"):
        require_spec(digits(teacher="mlp-256", assistants=[big.name], student="mlp-8"))
    for student in (big.name, small.name):  # also where no rung is larger than the own student
        repaired = read_spec(digits(teacher="mlp-4", student=student, method="kd"))[0]
        assert size_order(repaired.teacher) > size_order(repaired.student)


def test_own_networks_change_no_plan_that_does_not_name_them() -> None:
    specs = [read_spec({"dataset": name, "scope": "ladder"})[0] for name in ("digits", "cifar10")]
    rows = {name: replace(DATASETS[name], fingerprint="f" * 64) for name in ("digits", "cifar10")}
    before = [(set(build_plan(spec, rows[spec.dataset]).stages), read_spec(to_json(spec))) for spec in specs]
    keep("between.py", 3_000)
    keep("colour.py", 20_000_000, shape=RGB)
    after = [(set(build_plan(spec, rows[spec.dataset]).stages), read_spec(to_json(spec))) for spec in specs]
    assert after == before
    assert list(NETWORKS) == [name for name in NETWORKS if not own.is_own(name)]


def test_the_ladder_of_own_networks() -> None:
    row = DATASETS["digits"]
    big, middle, small = (keep(f"{macs}.py", macs).name for macs in (1_000_000, 3_000, 100))
    assert {ladder_family(t, s, row) for t in (big, "mlp-256") for s in ("mlp-8", small)} == {"mlp"}
    assert ladder_family("vgg-13", "own-00000000", DATASETS["cifar10"]) == "vgg"
    assert ladder_family("own-00000000", "vgg-8", DATASETS["cifar10"]) == "vgg"
    assert ladder_family("own-00000000", "own-00000001", DATASETS["cifar10"]) == "plain"
    assert middle in between(big, "mlp-8", row)  # offered
    assert middle not in rungs_between(big, "mlp-8", row)  # never proposed
    swept = require_spec(digits(teacher=big, student="mlp-8", method="kd", assistants=[], scope="ladder"))
    rungs = {"mlp-16", "mlp-32", "mlp-64", "mlp-128", "mlp-256"}
    assert {s.network for s in build_plan(swept, row).stages.values()} == {big, "mlp-8", *rungs}
    chosen = require_spec(digits(teacher=big, student="mlp-8", assistants=[middle], scope="ladder"))
    arms = [arm.name for arm in build_plan(chosen, row).arms]
    assert f"kd {middle}>mlp-8" in arms
    assert f"takd {big}>{middle}>mlp-8" in arms


def test_peers_of_an_own_network_are_trained_as_it_was_tried() -> None:
    """Its code has seen fp32 only, and a cohort has one recipe."""
    peer = keep("peer.py", 20_000_000, shape=RGB)
    dataset = replace(DATASETS["cifar10"], fingerprint="f" * 64)
    for teacher, precision in ((peer.name, "fp32"), ("plain-10", "mixed")):
        spec = require_spec({"dataset": "cifar10", "method": "dml", "teacher": teacher, "student": "plain-2",
                             "assistants": [], "seeds": 1, "scope": "chain"})  # fmt: skip
        plan = build_plan(spec, dataset)
        assert plan.stages[plan.chains_of(plan.chosen)[0].student].recipe.precision == precision


def test_arms_of_own_networks_alone_have_names_of_their_own() -> None:
    big, small = keep("big.py", 1_000_000).name, keep("small.py", 100).name
    plan = build_plan(require_spec(digits(teacher=big, student=small, method="kd", assistants=[])), DATASETS["digits"])
    assert [arm.name for arm in plan.arms] == [f"scratch {small}", f"kd {big}>{small}"]


@pytest.mark.parametrize("method", METHODS)
def test_any_method_plans_with_own_networks(method: str) -> None:
    big, middle, small = (keep(f"{macs}.py", macs).name for macs in (1_000_000, 3_000, 100))
    inside = [middle] if METHODS[method].assistants[1] != 0 else []
    values = digits(teacher=big, student=small, method=method, assistants=inside)
    spec, problems = read_spec(values)
    if problems:  # it asks for what a user's file does not have
        assert METHODS[method].in_one_network or "hidden stages" in problems[0], problems
        assert "such as plain" not in problems[0]
        return
    stages = build_plan(spec, DATASETS["digits"]).stages
    assert peak_mb(stages.values(), "cpu") > 0


def test_few_images_are_looked_at_more_often() -> None:
    few, many = keep("few.py", 1_000_000), keep("many.py", 90_000_000, shape=RGB)
    for budget in BUDGETS:
        small = build_plan(require_spec(digits(teacher=few.name, budget=budget)), DATASETS["digits"]).stages.values()
        row = DATASETS["cifar10"]
        large = build_plan(require_spec({"teacher": many.name, "budget": budget}), row).stages.values()
        steps = [
            next(s.recipe.epochs * s.data.train_images // s.recipe.batch for s in found if own.is_own(s.network))
            for found in (small, large)
        ]
        assert steps[0] >= 600  # 500 images are taught longer than a few thousand
        assert steps[1] >= 45


def test_memory_is_known_for_every_family() -> None:
    row = DATASETS["cifar10"]
    for name in CHOOSABLE:
        stages = build_plan(
            require_spec({"dataset": "digits", "method": "scratch", "assistants": []}), DATASETS["digits"]
        )
        stage = next(iter(stages.stages.values()))
        assert peak_mb([replace(stage, network=name, data=replace(stage.data, name=row.name))], "cpu") > 0


def test_verdicts_are_read_again_only_after_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    first = keep("first.py", 1_000)
    old = time.time() - 60
    os.utime(own.own_root(), (old, old))
    reads: list[str] = []
    true = own._verdicts
    monkeypatch.setattr(own, "_verdicts", lambda digest: reads.append(digest) or true(digest))
    row = DATASETS["digits"]
    for _ in range(3):
        assert first.name in {n.name for n in networks_for(row)}
    assert len(reads) == 1
    second = keep("second.py", 2_000)
    assert {first.name, second.name} <= {n.name for n in networks_for(row)}


ADDED = {
    "raises": ("def build(classes):\n    raise KeyError('x')", ["build(10)", "KeyError", "line 2"]),
    "NaN": (SMALL.replace("nn.Linear(16, classes)", "nn.Linear(16, classes), N()").replace("def build", (
        "class N(nn.Module):\n    def forward(self, x): return x * float('nan')\n\ndef build")), ["not a number"]),
    "wrong classes": (SMALL.replace("16, classes", "16, 7"), ["7 numbers", "10 classes"]),
    "wrong images": (SMALL.replace("16, classes", "17, classes"), ["1 x 8 x 8"]),
}  # fmt: skip


@pytest.mark.parametrize("case", ADDED)
def test_files_that_are_refused_end_with_code_2(case: str, tmp_path: Path, here: None) -> None:
    code, words = ADDED[case]
    (tmp_path / "mine.py").write_text(code)
    result = call("networks", "--add", str(tmp_path / "mine.py"), "--data", "digits", "--json")
    assert result.exit_code == 2
    assert [word for word in ("mine.py", *words) if word not in last_json(result)["error"]] == []


def test_files_and_data_sets_that_are_not_there(tmp_path: Path) -> None:
    for options, words in (
        (["--add", str(tmp_path / "none.py")], ["cannot be read", "check the path"]),
        (["--add", "x.py", "--data", "mnist-2d"], ["mnist-2d", "digits"]),
    ):
        result = call("networks", *options, "--json")
        assert result.exit_code == 2
        assert [word for word in words if word not in last_json(result)["error"]] == []


def test_a_file_is_added_and_listed(tmp_path: Path, here: None) -> None:
    (tmp_path / "mine.py").write_text(LARGE)
    result = call("networks", "--add", str(tmp_path / "mine.py"), "--data", "digits")
    assert result.exit_code == 0
    found = last_json(call("networks", "--json"))["own"]
    assert [(row["file"], row["classes"], row["input_shape"]) for row in found] == [("mine.py", 10, [1, 8, 8])]
    assert f"{found[0]['params']:,} parameters" in result.stdout
    assert f"{found[0]['macs']:,} MACs" in result.stdout
    for text in (result.stdout, call("networks").stdout):
        assert "mine.py" in text
        assert found[0]["name"] in text


def short(stage: StageSpec, teachers: dict[str, str]) -> StageSpec:
    heard = tuple(teachers[key] for key in stage.teachers)
    return replace(stage, recipe=replace(stage.recipe, epochs=3), teachers=heard)


def shortened(spec_values: dict[str, object]) -> list[StageSpec]:
    """The stages of a plan with three epochs each, teachers first."""
    plan = build_plan(require_spec(spec_values), available_datasets()["digits"])
    keys: dict[str, str] = {}
    made = []
    for key, stage in plan.stages.items():
        made.append(short(stage, keys))
        keys[key] = made[-1].key
    return made


@pytest.mark.parametrize("path", [("LARGE", "mlp-8"), ("mlp-256", "SMALL"), ("LARGE", "mlp-16", "SMALL")])
def test_trained_from_end_to_end(path: tuple[str, ...], tmp_path: Path, here: None) -> None:
    names = []
    for name in path:
        if name in ("LARGE", "SMALL"):
            (tmp_path / f"{name}.py").write_text(globals()[name])
            name = own.check(tmp_path / f"{name}.py", 10, (1, 8, 8)).name
        names.append(name)
    method = "takd" if len(names) > 2 else "kd"
    values = digits(teacher=names[0], assistants=names[1:-1], student=names[-1], method=method)
    store = Store(tmp_path / "store")
    for stage in shortened(values):
        store.ensure(stage)
        assert run_stages(store, [stage.key], device="cpu", pupils={}) == {}
        result = store.result(stage.key)
        assert result is not None
        assert set(result["agreement"]) == set(stage.teachers)
        assert store.read_events(stage.key)[0][-1]["loss"] > 0
    plan = build_plan(require_spec(values), available_datasets()["digits"])
    frame = stage_frame(plan, store)
    assert dict(zip(frame["network"], frame["params"], strict=True)) == {n: capacity(n, 10).params for n in names}
    assert len(chain_frame(plan, store)) == len(plan.chains)
    assert estimate(plan, store, 10).seconds > 0


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_worker_without_the_file_fails_the_stage_with_a_sentence(damage: str, tmp_path: Path, here: None) -> None:
    (tmp_path / "mine.py").write_text(SMALL)
    found = own.check(tmp_path / "mine.py", 10, (1, 8, 8))
    values = digits(teacher="mlp-16", student=found.name, method="scratch", assistants=[])
    (stage,) = shortened(values)
    store = Store(tmp_path / "store")
    store.ensure(stage)
    kept = own.own_root() / f"{found.sha256}.py"
    if damage == "missing":
        kept.unlink()
    else:
        kept.write_text(LARGE)
    failed = run_stages(store, [stage.key], device="cpu", pupils={})
    assert failed[stage.key].cause_class == "bad-network"
    assert found.name in failed[stage.key].sentence
    assert "heck" in failed[stage.key].sentence  # the file again
    assert store.result(stage.key) is None


def test_no_engine_takes_a_users_modules_apart(tmp_path: Path, here: None) -> None:
    """LARGE uses one ReLU twice: walking its children would find it once."""
    (tmp_path / "mine.py").write_text(LARGE)
    network = build(own.check(tmp_path / "mine.py", 10, (1, 8, 8)).name, 10)
    cpu = torch.device("cpu")
    assert training_forward(network, False, cpu) is network
    network.eval()
    assert folded(network) is network
    assert isinstance(network, nn.Module)


def test_dropout_follows_from_seed_and_epoch(tmp_path: Path, here: None) -> None:
    (tmp_path / "mine.py").write_text(LARGE)
    found = own.check(tmp_path / "mine.py", 10, (1, 8, 8))
    (stage,) = shortened(digits(student=found.name, method="scratch", assistants=[]))
    losses = []
    for place in ("one", "two"):
        store = Store(tmp_path / place)
        store.ensure(stage)
        torch.manual_seed(len(place) + len(losses))  # what was trained before
        run_stages(store, [stage.key], device="cpu", pupils={})
        losses.append([row["loss"] for row in store.read_events(stage.key)[0]])
    assert losses[0] == losses[1]


def test_runs_whose_network_is_gone_say_so() -> None:
    found = keep("mine.py", 1_000_000)
    spec = require_spec(digits(teacher=found.name, student="mlp-8", method="kd", assistants=[]))
    store = Store(Path(os.environ["TAKD_STORE"]))
    folder = store.root / "runs" / "20260101-000000-0001"
    folder.mkdir(parents=True)
    write_plan(store, folder, build_plan(spec, DATASETS["digits"]))
    row = {"schema": 1, "spec": to_json(spec), "created": "2026-01-01T00:00:00", "asked_by": ""}
    (folder / "experiment.json").write_text(json.dumps(row))
    (folder / "status.json").write_text(json.dumps({"schema": 1, "state": "done"}))
    shown = call("show", "20260101-000000-0001")
    assert "mlp-8" in shown.stdout
    (own.own_root() / f"{found.sha256}.py").unlink()
    assert own.gone(to_json(spec)) == (found.name,)
    text = call("show", "20260101-000000-0001").stdout
    assert "not on this machine" in text
    assert found.name in text
