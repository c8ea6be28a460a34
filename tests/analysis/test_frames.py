"""Tables over a store in memory: finished, half finished, with holes, and empty."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from takd.analysis import frames
from takd.analysis.frames import (
    arm_frame,
    chain_frame,
    gap_frame,
    gap_seed_frame,
    path_label,
    progress_frame,
    stage_frame,
)
from takd.analysis.verdicts import gap, verdicts_for
from takd.budgets import budget_for
from takd.networks.table import capacity
from takd.plan import Arm, Plan
from tests.analysis.fakes import FakeStore, plan_for

MAKERS = {
    "stages": (stage_frame, frames.STAGE_COLUMNS),
    "chains": (chain_frame, frames.CHAIN_COLUMNS),
    "arms": (lambda plan, store: arm_frame(chain_frame(plan, store)), frames.ARM_COLUMNS),
    "gap": (gap_frame, frames.GAP_COLUMNS),
    "gap seeds": (gap_seed_frame, frames.GAP_SEED_COLUMNS),
    "progress": (progress_frame, frames.PROGRESS_COLUMNS),
}

EPOCHS = budget_for("plain", "standard").recipe.epochs


def key_of(plan: Plan, arm: str, seed: int, position: int = -1) -> str:
    return next(c for c in plan.chains if c.arm.name == arm and c.seed == seed).keys[position]


def full_store(plan: Plan, origin: str = "cached") -> FakeStore:
    """Every stage finished; accuracy 0.5 + 0.01 * position in the plan."""
    store = FakeStore()
    for i, key in enumerate(plan.stages):
        store.finish(plan, key, 0.5 + 0.01 * i, origin)
    return store


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("filled", [False, True])
def test_columns_and_dtypes_do_not_depend_on_the_store(name: str, filled: bool) -> None:
    make, columns = MAKERS[name]
    plan = plan_for(seeds=2)
    frame = make(plan, full_store(plan) if filled else FakeStore())
    assert {c: str(t) for c, t in frame.dtypes.items()} == columns
    assert list(frame.columns) == list(columns)
    if filled:
        assert len(frame) > 0
        assert frame.select_dtypes("number").notna().any().all()


def test_empty_tables_stay_usable() -> None:
    plan = plan_for(seeds=2)
    chains = chain_frame(plan, FakeStore())
    assert len(chains) == len(plan.chains) and not chains["done"].any()
    arms = arm_frame(chains)
    assert arms["n"].tolist() == [0] * len(plan.arms) and arms["mean"].isna().all() and arms["origin"].isna().all()
    assert gap_frame(plan, FakeStore()).empty and gap_seed_frame(plan, FakeStore()).empty
    none = chains.iloc[:0]
    assert arm_frame(none).empty and gap(none).kind == "cannot tell yet"
    assert {v.n for v in verdicts_for(plan, none)} == {0}


def test_stage_roles_methods_and_paths() -> None:
    plan = plan_for(seeds=1)
    table = stage_frame(plan, FakeStore()).set_index("key")
    assert len(table) == len(plan.stages)

    def of(arm: str, position: int) -> tuple[str, str, str, str]:
        row = table.loc[key_of(plan, arm, 0, position)]
        return row["network"], row["role"], row["method"], row["path"]

    assert of("scratch 2", 0) == ("plain-2", "student", "scratch", "2")
    assert of("takd 10>4>2", 0) == ("plain-10", "teacher", "scratch", "10")
    assert of("takd 10>4>2", 1) == ("plain-4", "assistant", "kd", "10>4")
    assert of("takd 10>4>2", 2) == ("plain-2", "student", "takd", "10>4>2")
    assert of("kd 4>2", 0) == ("plain-4", "teacher", "scratch", "4")  # the lone plain-4, not the assistant
    assert of("kd 4>2", 1) == ("plain-2", "student", "kd", "4>2")
    size = capacity("plain-4", 10)
    row = table.loc[key_of(plan, "kd 4>2", 0, 0)]
    assert (row["family"], row["size"], row["params"], row["macs"]) == ("plain", 4, size.params, size.macs)
    assert row["epochs"] == EPOCHS and not row["done"]


def test_stage_numbers() -> None:
    plan = plan_for(seeds=1)
    store = FakeStore()
    student, assistant = (key_of(plan, "takd 10>4>2", 0, i) for i in (2, 1))
    store.finish(plan, student, 0.7, "live", agreement={assistant: 0.9, "other": 0.1}, kl={"other": 0.1})
    store.finish(plan, key_of(plan, "scratch 2", 0), 0.6, env={"device": "cpu"})
    table = stage_frame(plan, store).set_index("key")
    row = table.loc[student]
    assert (row["test_acc"], row["val_acc"], row["train_acc"], row["entropy"], row["ece"]) == pytest.approx(
        (0.7, 0.71, 0.72, 0.5, 0.03)
    )
    assert row["agreement"] == 0.9 and math.isnan(row["kl"])
    assert (row["origin"], row["device"], row["seconds"], row["images_per_second"]) == ("live", "H200", 10.0, 1000.0)
    alone = table.loc[key_of(plan, "scratch 2", 0)]
    assert math.isnan(alone["agreement"]) and alone["device"] == "cpu"
    assert table["done"].sum() == 2 and table["origin"].notna().sum() == 2


def test_statistics_are_computed_on_float64() -> None:
    plan = plan_for(method="kd", assistants=(), scope="chain", seeds=3)
    store = FakeStore()
    values = [0.7, 0.7 + 1e-9, 0.7 + 3e-9]  # float32 would make them equal
    for seed, value in enumerate(values):
        store.finish(plan, key_of(plan, "scratch 2", seed), value)
    arms = arm_frame(chain_frame(plan, store)).set_index("arm")
    assert arms.loc["scratch 2", "half"] == pytest.approx(4.302653 * np.std(values, ddof=1) / math.sqrt(3), rel=1e-5)


def test_chain_table() -> None:
    plan = plan_for(seeds=2)
    store = full_store(plan)
    store.origins[key_of(plan, "takd 10>4>2", 1, 1)] = "live"
    del store.results[key_of(plan, "takd 10>8>2", 0)]  # student missing
    del store.results[key_of(plan, "takd 10>6>2", 0, 1)]  # student there, its assistant's folder lost
    chains = chain_frame(plan, store)
    assert len(chains) == 2 * len(plan.arms)
    table = chains.set_index(["arm", "seed"])
    row = table.loc[("takd 10>4>2", 0)]
    assert (row["method"], row["path"], row["teacher"], row["student"]) == ("takd", "10>4>2", "plain-10", "plain-2")
    assert (row["trainings"], row["seconds"], row["origin"], row["done"]) == (3, 30.0, "cached", True)
    assert row["student_key"] == key_of(plan, "takd 10>4>2", 0)
    assert row["test_acc"] == store.results[row["student_key"]]["test_acc"]
    assert row["val_acc"] == pytest.approx(row["test_acc"] + 0.01)
    assert row["teacher_test_acc"] == store.results[key_of(plan, "takd 10>4>2", 0, 0)]["test_acc"]
    macs = sum(capacity(name, 10).macs for name in ("plain-10", "plain-4", "plain-2"))
    assert row["mac_epochs"] == pytest.approx(3 * macs * 45_000 * EPOCHS)
    assert table.loc[("takd 10>4>2", 1), "origin"] == "live"
    store.origins[key_of(plan, "takd 10>4>2", 0, 1)] = "imported"  # one imported training, and the whole is imported
    brought = chain_frame(plan, store)
    assert brought.set_index(["arm", "seed"]).loc[("takd 10>4>2", 0), "origin"] == "imported"
    assert arm_frame(brought).set_index("arm").loc["takd 10>4>2", "origin"] == "imported"
    unfinished = table.loc[("takd 10>8>2", 0)]
    assert not unfinished["done"] and math.isnan(unfinished["test_acc"]) and pd.isna(unfinished["origin"])
    lost = table.loc[("takd 10>6>2", 0)]
    assert lost["done"] and math.isnan(lost["seconds"])
    alone = table.loc[("scratch 2", 0)]
    assert pd.isna(alone["teacher"]) and math.isnan(alone["teacher_test_acc"]) and alone["trainings"] == 1


def test_arm_table_counts_finished_seeds_only() -> None:
    plan = plan_for(method="kd", assistants=(), scope="chain", seeds=4)
    store = FakeStore()
    for seed, value in enumerate((0.70, 0.72, 0.74)):
        store.finish(plan, key_of(plan, "kd 10>2", seed), value, seconds=5.0)
        store.finish(plan, key_of(plan, "kd 10>2", seed, 0), 0.9 + seed / 100, "live" if seed == 2 else "cached")
    store.finish(plan, key_of(plan, "kd 10>2", 3, 0), 0.1)  # a teacher without its student yet: must not count
    store.finish(plan, key_of(plan, "scratch 2", 0), 0.65)
    arms = arm_frame(chain_frame(plan, store))
    assert arms["arm"].tolist() == [arm.name for arm in plan.arms] == ["scratch 2", "kd 10>2"]
    kd = arms.set_index("arm").loc["kd 10>2"]
    assert (kd["n"], kd["trainings"], kd["seconds"], kd["origin"], kd["teacher"]) == (3, 2, 15.0, "live", "plain-10")
    half = 4.302653 * 0.02 / math.sqrt(3)
    assert (kd["mean"], kd["half"], kd["low"], kd["high"]) == pytest.approx((0.72, half, 0.72 - half, 0.72 + half))
    assert (kd["val_mean"], kd["teacher_mean"]) == pytest.approx((0.73, 0.91))
    alone = arms.set_index("arm").loc["scratch 2"]
    assert (alone["n"], alone["mean"], alone["origin"]) == (1, 0.65, "cached")
    assert math.isnan(alone["half"]) and math.isnan(alone["low"])


def test_gap_tables() -> None:
    plan = plan_for(seeds=3)
    store = full_store(plan)
    del store.results[key_of(plan, "kd 8>2", 2)]
    marks, dots = gap_frame(plan, store), gap_seed_frame(plan, store)
    ladder = ["plain-4", "plain-6", "plain-8", "plain-10"]
    for group in ("teacher alone", "kd", "scratch"):
        rows = marks[marks["group"] == group]
        assert rows["x"].tolist() == ladder and rows["order"].tolist() == [0, 1, 2, 3]
        assert rows["macs"].is_monotonic_increasing
    assert set(marks.loc[marks["group"] == "teacher alone", "panel"]) == {"teacher"}
    assert marks.loc[marks["group"] == "scratch", "mean"].nunique() == 1  # one level line
    chains = marks[marks["group"] == "takd"]
    assert chains["arm"].tolist() == ["takd 10>8>2", "takd 10>6>2", "takd 10>4>2"]
    assert set(chains["x"]) == {"plain-10"}
    assert marks.loc[marks["chosen"], "arm"].tolist() == ["takd 10>4>2"]
    by_x = marks[marks["group"] == "kd"].set_index("x")
    assert by_x["n"].tolist() == [3, 3, 2, 3]
    expected = [store.results[key_of(plan, "kd 8>2", seed)]["test_acc"] for seed in (0, 1)]
    assert by_x.loc["plain-8", "mean"] == pytest.approx(np.mean(expected))
    teacher = marks[marks["group"] == "teacher alone"].set_index("x")
    own = [store.results[key_of(plan, "kd 10>2", seed, 0)]["test_acc"] for seed in range(3)]
    assert teacher.loc["plain-10", "mean"] == pytest.approx(np.mean(own))
    assert teacher.loc["plain-10", "n"] == 3  # one teacher a seed, though four arms share it
    assert teacher.loc["plain-10", "params"] == capacity("plain-10", 10).params
    assert len(dots) == marks["n"].sum()
    eight = dots[(dots["group"] == "kd") & (dots["x"] == "plain-8")]
    assert eight["value"].tolist() == pytest.approx(expected) and eight["seed"].tolist() == [0, 1]


def test_gap_tables_without_any_teacher() -> None:
    plan = plan_for(method="scratch", assistants=(), scope="chain")
    assert gap_frame(plan, full_store(plan)).empty


def test_progress() -> None:
    plan = plan_for(seeds=1)
    store = FakeStore()
    done, busy, odd = (key_of(plan, arm, 0) for arm in ("scratch 2", "kd 10>2", "kd 4>2"))
    store.finish(plan, done, 0.6, "live")
    store.running = {
        busy: {"epoch": 4, "epochs": EPOCHS, "step": 50, "steps": 100},
        odd: {"epoch": 99},
        done: {"epoch": 2},
    }
    table = progress_frame(plan, store).set_index("key")
    assert len(table) == len(plan.stages)
    assert tuple(table.loc[done, ["state", "epoch", "epochs", "share", "origin"]]) == (
        "done",
        EPOCHS,
        EPOCHS,
        1.0,
        "live",
    )
    assert tuple(table.loc[busy, ["state", "epoch", "epochs"]]) == ("training", 4, EPOCHS)
    assert table.loc[busy, "share"] == pytest.approx(3.5 / EPOCHS)
    assert table.loc[odd, "epoch"] == EPOCHS and table.loc[odd, "share"] <= 1
    waiting = table.loc[key_of(plan, "takd 10>4>2", 0)]
    assert (waiting["state"], waiting["epoch"], waiting["share"], waiting["role"]) == ("waiting", 0, 0.0, "student")
    assert sorted(table["state"].value_counts().tolist()) == [1, 2, len(plan.stages) - 3]


def test_progress_before_the_first_report() -> None:
    plan = plan_for(seeds=1)
    store = FakeStore()
    store.running = {next(iter(plan.stages)): {}}
    row = progress_frame(plan, store).iloc[0]
    assert (row["state"], row["epoch"], row["share"]) == ("training", 0, 0.0)


def test_path_label_is_the_path_of_the_arm_name() -> None:
    for path in (("plain-2",), ("plain-10", "plain-4", "plain-2"), ("resnet-20", "plain-2")):
        assert f"kd {path_label(path)}" == Arm("kd", path).name
