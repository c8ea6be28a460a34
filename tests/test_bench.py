"""The benchmarks: how figures are assembled, that a row of unlike work is void, that every part runs. No times."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks import baselines, clock, cpu, engine, gate, gpu, gpu_rows, mlp_rows, weigh
from benchmarks.clock import Spent, in_turns, spent_on
from benchmarks.images import Source, small_set
from benchmarks.memory_row import weighed
from benchmarks.report import Fact, Gate, Ratio, Row, judge, report, row_lines, row_value, spread, text, write_json
from takd.cli import bench as cli_bench
from takd.cli.main import cli
from takd.data.loading import load_training
from tests.test_architecture import loose_pins

ROOT = Path(__file__).resolve().parents[1]
SLOW = [Spent(30.0, 60.0), Spent(20.0, 20.0), Spent(40.0, 30.0)]
FAST = [Spent(10.0, 10.0), Spent(10.0, 10.0), Spent(10.0, 10.0)]
LOSSES = [2.0, 1.5, 1.25]

torch.set_num_threads(1)


def row(found: Gate | None = None, target: float = 2.5) -> Row:
    times = {"ours": FAST, "theirs": SLOW}
    return Row("a", "a title", "seconds", times, [Ratio("ours", "theirs", target)], [Fact("size", [7.0], "MB")], found)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """No data set is prepared; the small ones are written where the training looks for them."""
    monkeypatch.setenv("TAKD_DATA", str(tmp_path / "small"))
    return Source(tmp_path / "nothing", tmp_path / "small")


# Figures


def test_ratios_are_taken_within_rounds_and_then_spread() -> None:
    value = row_value(row())
    assert value["contenders"]["theirs"]["cpu"] == {
        "median": 30.0,
        "q1": 25.0,
        "q3": 35.0,
        "rounds": [30.0, 20.0, 40.0],
    }
    (ratio,) = value["ratios"]
    assert (ratio["cpu"]["median"], ratio["wall"]["median"]) == (3.0, 3.0)
    assert ratio["wall"]["rounds"] == [6.0, 2.0, 3.0]
    assert (ratio["reached"], row_value(row(target=3.5))["ratios"][0]["reached"]) == (True, False)


def test_a_fact_may_be_too_large() -> None:
    facts = [Fact("a", [1.0, 3.0], "s", 2.0), Fact("b", [3.0], "s", 2.0), Fact("c", [3.0], "s")]
    found = row_value(Row("a", "t", "u", facts=facts))["facts"]
    assert [fact["reached"] for fact in found] == [True, False, None]


def test_spread_leaves_out_what_is_not_a_number() -> None:
    assert spread([math.nan, math.inf])["median"] is None
    assert spread([math.nan, 2.0]) == {"median": 2.0, "q1": 2.0, "q3": 2.0, "rounds": [2.0]}


def test_report_is_strict_json_and_says_everything(tmp_path: Path) -> None:
    infinite = Row(
        "b", "another", "seconds", {"ours": [Spent(0.0, 0.0)], "theirs": FAST[:1]}, [Ratio("ours", "theirs")]
    )
    value = report([row(judge("x", LOSSES, {"ours": LOSSES}, [9.0] * 3, 1e-3)), infinite], {"load": {"start": [1.0]}})
    write_json(tmp_path / "new" / "r.json", value)

    def refuse(text: str) -> float:
        raise AssertionError(text)

    again = json.loads((tmp_path / "new" / "r.json").read_text(), parse_constant=refuse)
    assert again == value
    shown = text(again)
    assert "a title" in shown and "x3 [2.5, 3.5]" in shown and "reached" in shown and "7 MB" in shown
    assert "1.00" in shown


# The gate


def wrong(losses: list[float]) -> list[float]:
    return [*losses[:-1], losses[-1] * 1.01]


@pytest.mark.parametrize(
    ("ours", "unlike", "passed"),
    [
        (LOSSES, [2.0, 1.5, 9.0], True),
        (wrong(LOSSES), [2.0, 1.5, 9.0], False),
        (LOSSES[:2], [2.0, 1.5, 9.0], False),
        ([2.0, 1.5, math.nan], [2.0, 1.5, 9.0], False),
        (LOSSES, LOSSES, False),  # if another seed looks the same, nothing has been shown
    ],
)
def test_gate_compares_every_step(ours: list[float], unlike: list[float], passed: bool) -> None:
    assert judge("x", LOSSES, {"ours": ours}, unlike, 1e-3).passed is passed


def test_gate_holds_all_contenders_to_the_tolerance() -> None:
    assert not judge("x", LOSSES, {"ours": LOSSES, "theirs": wrong(LOSSES)}, [9.0] * 3, 1e-3).passed
    assert not judge("x", LOSSES, {}, [9.0] * 3, 1e-3).passed


def test_unlike_work_voids_the_row() -> None:
    value = row_value(row(judge("x", LOSSES, {"ours": wrong(LOSSES)}, [9.0] * 3, 1e-3)))
    assert value["void"] and not value["contenders"] and not value["ratios"] and not value["facts"]
    shown = "\n".join(row_lines(value))
    assert "VOID" in shown and "NO" in shown and "x3" not in shown
    assert row_value(row(judge("x", LOSSES, {"ours": LOSSES}, [9.0] * 3, 1e-3)))["void"] is False


def test_engine_and_torch_loop_train_alike() -> None:
    found = gate.mlp_gate(quick=True)
    assert found.passed, found.sentence


def test_a_wrong_training_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = baselines._kd
    monkeypatch.setattr(baselines, "_kd", lambda one, answers, labels, _: right(one, answers, labels, None))
    assert not gate.mlp_gate(quick=True).passed


def test_engine_and_plain_script_train_alike(source: Source) -> None:
    found = gate.cnn_gate(source, "plain-2", "plain-2", "cpu", quick=True)
    assert found.passed, found.sentence
    assert ("torchdistill" in found.differences) is (baselines.library_problem() is None)


def test_library_is_missed_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchdistill", None)
    assert "requirements-bench.txt" in str(baselines.library_problem())


def test_plain_script_sends_its_backward_pass_through_the_teacher(source: Source) -> None:
    data, _ = small_set(source, 10, 18, 2)
    teacher = engine.stage("plain-2", data, engine.recipe(1, batch=6))
    network = engine.initial_network("plain-2", 10, 0)
    pupil = engine.stage("plain-2", data, engine.recipe(1, batch=6), teacher, seed=1)
    script = baselines.PlainScript(pupil, network, engine.arrays_of(pupil))
    assert len(list(script.batches(0))) == 3 and len(list(script.evaluation())) == 1
    assert script.teacher is not None
    assert all(parameter.grad is not None for parameter in script.teacher.parameters())


# The clock


def test_steps_are_multiplied_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def steps() -> Iterator[int]:
        nonlocal now
        for number, seconds in enumerate((50.0, 1.0, 1.0, 1.0, 1.0)):
            now += seconds
            yield number

    monkeypatch.setattr(clock, "_now", lambda: Spent(now, 2 * now))
    monkeypatch.setattr(clock, "_children", lambda: 0.0)
    assert spent_on(steps(), skip=1, whole=100) == Spent(100.0, 200.0)
    with pytest.raises(ValueError, match="warm up"):
        spent_on(iter(range(2)), skip=2, whole=4)


def test_workers_are_counted_from_their_start(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = iter([0.0, 8.0])  # children are seen when they end
    monkeypatch.setattr(clock, "_now", iter([Spent(0.0, 0.0), Spent(1.0, 1.0), Spent(12.0, 4.0)]).__next__)
    seen: list[float] = []

    def children() -> float:
        seen.append(next(ended, 8.0))
        return seen[-1]

    monkeypatch.setattr(clock, "_children", children)
    # 4 steps, 1 of them warm-up: own CPU 12 - 1 - 8 = 3 for 3 steps, workers 8 for 4 steps
    assert spent_on(iter(range(4)), skip=1, whole=8) == Spent(8.0 + 16.0, 8.0)


def test_contenders_take_turns_and_each_begins_once() -> None:
    order: list[str] = []

    def contender(name: str) -> Callable[[], Spent]:
        def take() -> Spent:
            order.append(name)
            return Spent(1.0, 1.0)

        return take

    found = in_turns({name: contender(name) for name in "abc"}, 3, tell=lambda _: None)
    assert "".join(order) == "abcbcacab"
    assert {name: len(times) for name, times in found.items()} == {"a": 3, "b": 3, "c": 3}


# Images, specs, rows


def test_small_sets_have_the_sizes_asked_for(source: Source) -> None:
    data, what = small_set(source, 100, 90, 10)
    arrays = load_training(data, 0)
    assert (len(arrays.train_y), len(arrays.val_y), data.classes) == (90, 10, 100)
    assert "random" in what
    with pytest.raises(ValueError, match="10 validation"):
        small_set(source, 10, 90, 9)


def test_small_sets_are_real_where_they_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.arange(400, dtype=np.uint8).repeat(32 * 32 * 3).reshape(400, 32, 32, 3)
    monkeypatch.setattr("benchmarks.images.read_arrays", lambda *_: (pixels[:200], np.arange(200) % 10))
    monkeypatch.setenv("TAKD_DATA", str(tmp_path))
    data, what = small_set(Source(tmp_path / "x", tmp_path), 10, 90, 20)
    assert what == "cifar10"
    assert (load_training(data, 0).train_x.std(axis=(1, 2, 3)) == 0).all()  # each is one of the flat pictures


def test_study_is_fifteen_trainings_a_seed() -> None:
    stages = mlp_rows.study(2)
    assert len(stages) == 30
    places = {one.key: place for place, one in enumerate(stages)}
    assert all(places[teacher] < places[one.key] for one in stages for teacher in one.teachers)
    assert {one.network for one in stages if not one.teachers} == {f"mlp-{w}" for w in (4, 8, 16, 64, 256)}


def test_stages_share_their_answers_with_the_stored_teacher(source: Source, tmp_path: Path) -> None:
    data, _ = small_set(source, 10, 18, 2)
    boss = engine.stage("plain-2", data, engine.recipe(9, batch=6))
    pupil = engine.stage("plain-2", data, engine.recipe(1, batch=6), boss, seed=1)
    engine.untrained(boss, tmp_path / "bare")
    asked = engine.answers_remembered(tmp_path / "bare", tmp_path / "asked", pupil)
    assert not list((tmp_path / "bare").glob("**/logits-*.npy"))
    assert len(list(asked.glob("**/logits-*.npy"))) == 1
    assert engine.losses(pupil, [tmp_path / "bare"]) == engine.losses(pupil, [asked])
    answers = engine.network_of(tmp_path / "bare", boss)(engine.images(engine.arrays_of(boss), slice(None)))
    assert torch.isfinite(answers).all() and answers.std() > 0


def test_a_stage_that_fails_is_told(source: Source, tmp_path: Path) -> None:
    data, _ = small_set(source, 10, 18, 2)
    other = replace(data, fingerprint="0" * 64)
    with pytest.raises(engine.NotTrained, match="not the ones this experiment"):
        engine.train([engine.stage("plain-2", other, engine.recipe(1))], tmp_path / "s")


@pytest.mark.parametrize("way", ["eager", "default", *engine.WAYS])
def test_one_step_can_be_timed_in_every_way(way: str) -> None:
    seconds, name = engine.step_seconds("plain-2", 2 if way in engine.WAYS else 1, way, "cpu", steps=1, batch=4)
    assert seconds > 0 and (way not in engine.WAYS or way in name)
    assert "TAKD_ENGINE" not in os.environ


def test_importing_the_plan_weighs_little_and_loads_no_torch() -> None:
    found = weighed("plan")
    assert found["heavy"] == [] and 0 < found["megabytes"] < 300
    assert {"takd.presentation.charts", "takd.analysis.frames", "streamlit"} <= set(weigh.web_modules())
    assert "takd.runs.worker" not in weigh.web_modules()


# Programs


def test_quick_row_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = os.environ["TAKD_DATA"]
    assert cpu.main(["--quick", "--row", "sweep", "--json", str(tmp_path / "r.json")]) == 0
    assert os.environ["TAKD_DATA"] == before
    value = json.loads((tmp_path / "r.json").read_text())
    (found,) = value["rows"]
    assert not found["void"] and set(found["contenders"]) == {"engine", "torch loop"} and len(found["ratios"]) == 1
    assert found["gate"]["passed"] and value["options"]["quick"] and len(value["load"]) == 2
    assert "sweep of 16 MLPs" in capsys.readouterr().out


def test_void_row_ends_with_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bad = row(judge("x", LOSSES, {"ours": wrong(LOSSES)}, [9.0] * 3, 1e-3))
    monkeypatch.setitem(cpu.ROWS, "sweep", lambda _: bad)
    assert cpu.main(["--row", "sweep"]) == 1
    assert "VOID" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "link-plain", "link-resnet", "chain", "sub-models", "memory"])
def test_every_quick_row(name: str, tmp_path: Path) -> None:
    assert cpu.main(["--quick", "--row", name, "--json", str(tmp_path / "r.json")]) == 0
    (found,) = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert found["contenders"] or found["facts"]


def test_a_gpu_row_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> Row:
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(gpu, "ROWS", {"broken": broken, "fine": lambda _: row()})
    assert gpu.main(["--device", "cpu", "--quick", "--json", str(tmp_path / "g.json")]) == 1
    value = json.loads((tmp_path / "g.json").read_text())
    assert [found["failed"] for found in value["rows"]] == [True, False]
    assert "no kernel image" in value["rows"][0]["notes"][0]


@pytest.mark.parametrize(("limit", "whole"), [(0.0, False), (1e9, True)])
def test_long_studies_are_extrapolated(
    limit: float, whole: bool, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    def cost(stages: list[Any], cached: object = (), device: str = "cpu") -> Spent:
        trained.append(stages[0].recipe.epochs)
        return Spent(0.0, 2.0 + 0.5 * stages[0].recipe.epochs)

    monkeypatch.setattr(engine, "cost", cost)
    monkeypatch.setattr(engine, "cost_and_engines", lambda *_, **__: (Spent(0.0, 1.0), "loop"))
    work = gpu_rows.Work(cpu.Options(source, 1, False, True), gpu_rows.Size(epochs=160), limit)
    data, _ = small_set(source, 10, 18, 2)
    spent, how = gpu_rows._whole(work, lambda recipe: [engine.stage("plain-2", data, recipe)], 160)
    assert spent.wall == pytest.approx(82.0)
    assert trained == ([1, 7, 160] if whole else [1, 7])
    assert ("EXTRAPOLATED" in how) is not whole


def test_table_and_sweep_have_the_published_numbers(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, int] = {}
    monkeypatch.setattr(gpu_rows.Work, "data", lambda self, classes, images: small_set(source, classes, 18, 2))
    for name in ("table", "sweep", "resnet"):

        def whole(work: object, stages: Callable[..., list[Any]], epochs: int, name: str = name) -> tuple[Spent, str]:
            seen[name] = len({one.key for one in stages(engine.recipe(epochs))})
            return Spent(1.0, 1.0), ""

        monkeypatch.setattr(gpu_rows, "_whole", whole)
        gpu_rows.ROWS[name](gpu_rows.Work(cpu.Options(source, 1, False, True), gpu_rows.Size(), 1.0))
    # A seed: 5 sizes alone (one is the root of all paths) and 15 distilled ones on the 8 paths
    assert seen == {"table": 3 * 20, "sweep": 25 + 75, "resnet": 3}


@pytest.mark.slow
def test_gpu_script_runs_without_a_gpu(tmp_path: Path) -> None:
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--device", "cpu", "--quick"]
    environment = {**os.environ, "OUT": str(tmp_path), "PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    value = json.loads((tmp_path / "gpu.json").read_text())
    assert [found["name"] for found in value["rows"]] == list(gpu_rows.ROWS)
    assert "tests collected" in (tmp_path / "gpu-tests.txt").read_text()


def test_command_starts_the_benchmarks_in_a_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(cli_bench.subprocess, "run", run)
    target = str(tmp_path / "r.json")
    result = CliRunner().invoke(cli, ["bench", "--row", "memory", "--row", "sweep", "--quick", "--json", target])
    assert result.exit_code == 1
    words = asked[0][asked[0].index("benchmarks.cpu") + 1 :]
    assert words == ["--rounds", "5", "--row", "memory", "--row", "sweep", "--quick", "--json", target]
    assert tuple(cpu.ROWS) == cli_bench.ROWS
    assert CliRunner().invoke(cli, ["bench", "--row", "nothing"]).exit_code == 2


def test_copy_without_benchmarks_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli_bench, "ROOT", tmp_path)
    result = CliRunner().invoke(cli, ["bench"])
    assert result.exit_code == 2 and "complete copy" in result.output


def test_pins_of_the_library() -> None:
    lines = (ROOT / "requirements-bench.txt").read_text(encoding="utf-8")
    assert loose_pins(lines) == [] and "torchdistill==" in lines
