from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from takd.batching import batch_shape
from takd.budgets import budget_for
from takd.data.table import DATASETS
from takd.networks.table import NETWORKS, ladder
from takd.plan import Plan, build_plan
from takd.runs import estimates
from takd.runs.estimates import (
    default_processes,
    estimate,
    host_key,
    known_rates,
    likely_device,
    makespan,
    measured_rate,
    only_mlps,
    rate_name,
    record_rate,
)
from takd.runs.locks import warm_lock
from takd.runs.memory import peak_mb
from takd.runs.store import Store
from takd.runs.trainer import pick_device
from takd.spec import CHOOSABLE, ExperimentSpec, require_spec
from takd.stage import DataSpec, LossSpec, StageSpec
from tests.runs.conftest import DATA, LADDER

CIFAR = replace(DATASETS["cifar10"], fingerprint="c" * 64)
PLAN = build_plan(ExperimentSpec(budget="taste", seeds=1), CIFAR)


def test_makespan_is_the_workers_schedule() -> None:
    times = {"a": 3.0, "b": 1.0, "c": 1.0, "d": 5.0}
    assert makespan(times, {}, 1) == 10.0
    assert makespan(times, {"b": ("a",), "c": ("b",)}, 1) == 10.0
    assert makespan(times, {"b": ("a",), "c": ("b",)}, 9) == 5.0  # chain a, b, c beside d
    assert makespan(times, {"d": ("c",), "c": ("a",)}, 2) == 9.0  # a, c, d in a row
    assert makespan(times, {"a": ("elsewhere",)}, 4) == 5.0  # a finished teacher holds nobody up
    assert makespan({}, {}, 2) == 0.0
    with pytest.raises(ValueError, match="circle"):
        makespan({"a": 1.0, "b": 1.0}, {"a": ("b",), "b": ("a",)}, 2)


def test_more_processes_never_beat_the_longest_chain_or_lose_to_one(store: Store) -> None:
    one, two, many = (estimate(PLAN, store, 10, n).seconds for n in (1, 2, 64))
    assert one >= two >= many > 0 and one / 2 <= two + 4.0
    assert not estimate(PLAN, store, 10, 1).calibrated


def test_small_networks_get_one_process_until_helpers_pay(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAKD_PROCESSES")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    few, many = (build_plan(replace(LADDER, seeds=n), DATA["digits"]) for n in (2, 40))
    assert estimate(few, store, 10).processes == estimate(many, store, 10).processes == 1
    assert estimate(PLAN, store, 10).processes == default_processes("cpu") > 1
    for network in {stage.network for stage in few.stages.values()}:
        record_rate(store, "cpu", network, 5_000.0)  # as where nothing is compiled
    assert estimate(few, store, 10).seconds > 60 and estimate(few, store, 10).processes > 1
    assert estimate(few, store, 10, 3).processes == 3
    monkeypatch.setenv("TAKD_PROCESSES", "2")
    assert estimate(few, store, 10).processes == 2


def test_a_start_costs_little_where_a_worker_waits_and_nothing_once_it_has_begun(store: Store) -> None:
    (store.root / "warm").mkdir(parents=True)
    cold = estimate(PLAN, store, 10, 1).seconds
    with warm_lock(store.root):
        warm = estimate(PLAN, store, 10, 1).seconds
    begun = estimate(PLAN, store, 10, 1, begun=True).seconds
    assert begun < warm < begun + 1 < cold


def test_memory_grows_with_images_networks_and_processes(store: Store) -> None:
    def memory(plan: Plan, processes: int = 1, device: str = "cpu") -> float:
        return estimate(plan, store, 10, processes, device).memory_mb

    digits = build_plan(LADDER, DATA["digits"])
    longer = build_plan(replace(PLAN.spec, budget="standard"), CIFAR)
    deeper = build_plan(replace(PLAN.spec, teacher="resnet-110", assistants=("resnet-20",), student="resnet-8"), CIFAR)
    assert 300 < memory(digits) < memory(PLAN) < min(memory(longer), memory(deeper)) < 4_000
    assert memory(PLAN, 2) == 2 * memory(PLAN)
    assert memory(PLAN, device="cuda:0") < memory(PLAN)
    for stage in PLAN.stages.values():
        store.ensure(stage)
        store.commit(stage.key, {"test_acc": 0.5}, {})
    assert memory(PLAN) == 0.0


@pytest.mark.parametrize("family", sorted({NETWORKS[name].family for name in CHOOSABLE}))
@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_every_family_that_can_be_chosen_has_an_estimate(store: Store, family: str, device: str) -> None:
    rungs = ladder(family)
    name = next(name for name, row in DATASETS.items() if family in row.families)
    dataset = replace(DATASETS[name], fingerprint="c" * 64)
    wanted = {"dataset": name, "teacher": rungs[-1], "student": rungs[0], "method": "kd", "budget": "taste", "seeds": 1}
    if NETWORKS[rungs[0]].subs:
        wanted |= {"method": "ipkd", "teacher": rungs[-1], "student": rungs[-1]}
    plan = build_plan(require_spec(wanted), dataset)
    found = estimate(plan, store, dataset.classes, 1, device)
    assert 0 < found.seconds < 20_000
    assert 0 < found.memory_mb < 10_000  # a machine that trains it at all has as much


def test_a_wide_network_keeps_less_of_an_image_per_mac() -> None:
    """Else a WRN-28-10 would be said to need 45 GB."""
    stages = {
        size: StageSpec(f"wrn-16-{size}", DataSpec("cifar10", "c" * 64, 10, 1_000, 0.0, 0), LossSpec("ce", None, 0.0),
                        budget_for("wrn-16", "taste").recipe, 0)
        for size in (1, 8)
    }  # fmt: skip
    one, eight = (peak_mb([stage], "cpu") for stage in stages.values())
    assert one < eight < 4 * one


def test_small_cnns_stay_on_the_cpu_beside_mlps() -> None:
    plan = build_plan(
        require_spec({"dataset": "digits", "teacher": "cnn8-16", "student": "mlp-8", "method": "kd"}), DATA["digits"]
    )
    assert likely_device({"cuda:0": {"plain-10": 9e4}}, plan.stages) == "cpu"
    assert likely_device({"cuda:0": {"plain-10": 9e4}}, PLAN.stages) == "cuda:0"
    assert pick_device("auto", plan.stages) == "cpu"
    shapes = {stage.network: batch_shape(stage, "cpu") for stage in plan.stages.values()}
    assert shapes["cnn8-16"] is None, "a CNN fills its core by itself"
    assert not only_mlps(plan.stages), "helpers pay for CNNs, and MLPs alone share one process"


def test_bigger_budgets_and_bigger_networks_take_longer(store: Store) -> None:
    def seconds(plan: Plan) -> float:
        return estimate(plan, store, 10, 2).seconds

    assert 10 < seconds(PLAN) < 1_000
    longer = build_plan(replace(PLAN.spec, budget="standard"), CIFAR)
    deeper = build_plan(replace(PLAN.spec, teacher="resnet-110", assistants=("resnet-20",), student="resnet-8"), CIFAR)
    assert seconds(longer) > 5 * seconds(PLAN) and seconds(deeper) > seconds(PLAN)
    assert 1 < seconds(build_plan(replace(LADDER, seeds=8), DATA["digits"])) < 30


def test_measured_speeds_are_used_scaled_and_averaged(store: Store) -> None:
    store.root.mkdir()
    before = estimate(PLAN, store, 10, 1)
    for network in ("plain-10", "plain-10"):
        record_rate(store, "cpu", network, 6_000.0)
    after = estimate(PLAN, store, 10, 1)
    assert after.seconds < before.seconds and not after.calibrated and after.new_stages == after.total_stages
    for stage in PLAN.stages.values():
        record_rate(store, "cpu", rate_name(stage.network, 10), 1_000.0)
    assert estimate(PLAN, store, 10, 1).calibrated
    rates = json.loads((store.root / "rates.json").read_text())[host_key()]["cpu"]
    assert rates["plain-10"] == 6_000.0 + 0.3 * (1_000.0 - 6_000.0)
    record_rate(store, "cuda:0", "plain-10", 90_000.0)
    assert estimate(PLAN, store, 10, 1).seconds < estimate(PLAN, store, 10, 1, "cpu").seconds
    assert rate_name("plain-4", 100) == "plain-4/large"
    record_rate(store, "cpu", "plain-4/large", 50.0)


def test_speeds_of_another_processor_under_the_same_name_are_not_believed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual machine that was moved."""
    store.root.mkdir()
    before = estimate(PLAN, store, 10, 1)
    for stage in PLAN.stages.values():
        record_rate(store, "cpu", rate_name(stage.network, 10), 9_000.0)
    here = estimate(PLAN, store, 10, 1)
    assert here.seconds < before.seconds
    monkeypatch.setattr(estimates, "_processor", lambda: "another")
    host_key.cache_clear()
    assert estimate(PLAN, store, 10, 1).seconds == before.seconds
    monkeypatch.undo()
    host_key.cache_clear()
    assert estimate(PLAN, store, 10, 1).seconds == here.seconds


def test_nonsense_is_neither_kept_nor_believed(store: Store) -> None:
    store.root.mkdir()
    for network, rate in (("plain-4", 0.0), ("plain-4", float("nan")), ("plain-4", -1.0), ("other", 5.0)):
        record_rate(store, "cpu", network, rate)
    assert not (store.root / "rates.json").exists()
    expected = estimate(PLAN, store, 10, 2)
    wrong = {"cpu": {"plain-4": "x", "y": 1}}
    for text in ("", "[]", "{", json.dumps({host_key(): 7}), json.dumps({host_key(): wrong})):
        (store.root / "rates.json").write_text(text)
        assert estimate(PLAN, store, 10, 2) == expected
    (store.root / "rates.json").write_text(json.dumps({host_key(): 7}))
    record_rate(store, "cpu", "plain-4", 5.0)
    assert json.loads((store.root / "rates.json").read_text())[host_key()] == {"cpu": {"plain-4": 5.0}}


def test_a_speed_far_below_that_of_a_larger_relative_is_not_believed(store: Store) -> None:
    """What older stores keep of a first network that was measured while it was compiled."""
    store.root.mkdir()
    plan = build_plan(LADDER, DATA["digits"])
    for network in ("mlp-8", "mlp-32"):
        record_rate(store, "cpu", network, 2e6)
    expected = estimate(plan, store, 10, 1).seconds
    record_rate(store, "cpu", "mlp-4", 62.0)
    assert estimate(plan, store, 10, 1).seconds == expected < 100
    record_rate(store, "cpu", "mlp-256", 1e4)  # larger ones may be as slow as they are
    record_rate(store, "cpu", "plain-2", 700.0)  # and so may other families
    assert set(known_rates(store)["cpu"]) == {"mlp-8", "mlp-32", "mlp-256", "plain-2"}


def test_the_rate_of_a_result() -> None:
    stage = next(iter(PLAN.stages.values()))
    images = stage.recipe.epochs * (5_000 + 5_000 / 3)
    assert measured_rate([stage], [{"seconds": 10.0}], 12.0) == pytest.approx(images / 10)
    assert measured_rate([stage], [{}], 1.0) == measured_rate([stage], [{"seconds": 0}], 1.0) == 0.0
    assert measured_rate([], [], 1.0) == 0.0


def test_the_rate_of_stages_trained_together_is_that_of_the_wall() -> None:
    stages = [stage for stage in build_plan(LADDER, DATA["digits"]).stages.values() if stage.network == "mlp-8"]
    assert len(stages) > 4
    images, count = len(stages) * measured_rate(stages[:1], [{"seconds": 1.0}], 1.0), len(stages)
    shares = [{"seconds": 1.0}] * count
    alone = measured_rate(stages, shares, 100.0 * count)  # one core, much waiting: the shares are the training time
    assert alone == pytest.approx(images / count)
    cores = os.cpu_count() or 1
    if cores > 1:  # shares of threads that ran side by side: what they took together is less than their sum
        assert alone < measured_rate(stages, shares, 0.75 * count) <= cores * alone * 1.001
    assert measured_rate(stages, [*shares[:-1], {}], 1.0) == 0.0


def test_done_stages_cost_nothing(store: Store) -> None:
    for stage in PLAN.stages.values():
        store.ensure(stage)
        store.commit(stage.key, {"test_acc": 0.5}, {})
    done = estimate(PLAN, store, 10, 2)
    assert (done.new_stages, done.total_stages, done.seconds) == (0, len(PLAN.stages), 0.0)
