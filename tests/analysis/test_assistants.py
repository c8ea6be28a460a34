"""Winners, maps and lengths against numbers worked out by hand, and the lattice against every path counted by hand."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from scipy import stats

from takd.analysis.assistants import by_length, gain_map, longer_against_shorter, winner
from takd.analysis.lattice import arm_of, lattice, training_arms
from takd.analysis.pool import Pool, plan_of_paths, pool
from takd.plan import Arm
from takd.spec import ExperimentSpec, start_for
from tests.analysis.fakes import DATASET, FakeStore

SPEC = start_for("cifar10")  # plain-10 > plain-4 > plain-2 on a ladder of five, five seeds
T, S = "plain-10", "plain-2"


def path(*sizes: int) -> tuple[str, ...]:
    return tuple(f"plain-{size}" for size in sizes)


def finish(
    store: FakeStore, arm: Arm, accuracies: list[float], vals: list[float] | None = None, spec: ExperimentSpec = SPEC
) -> None:
    """Finish an arm at the first seeds, with the networks above it at 0.8 where they are not finished yet."""
    plan = plan_of_paths(spec, DATASET)
    for i, (chain, value) in enumerate(zip(plan.chains_of(arm), accuracies, strict=False)):
        for key in chain.keys[:-1]:
            if key not in store.results:
                store.finish(plan, key, 0.8)
        store.finish(plan, chain.student, value, val_acc=value if vals is None else vals[i])


def made(store: FakeStore) -> Pool:
    return pool(SPEC, DATASET, store)


def kd(*sizes: int) -> Arm:
    return Arm("kd", path(*sizes))


def ta(*sizes: int) -> Arm:
    return Arm("takd", path(*sizes))


def test_winner_is_chosen_on_validation_and_judged_on_test() -> None:
    store = FakeStore()
    finish(store, kd(10, 2), [0.70, 0.70, 0.70], [0.70, 0.70, 0.70])
    finish(store, ta(10, 4, 2), [0.71, 0.72, 0.73], [0.71, 0.71, 0.71])
    finish(store, ta(10, 6, 2), [0.75, 0.75, 0.75], [0.70, 0.70, 0.70])  # best on test, which must not count
    found = winner(made(store).chains, ["takd 10>4>2", "takd 10>6>2"], "kd 10>2")
    assert (found.name, found.tried) == ("takd 10>4>2", 2)
    half = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)  # two tried: the confidence stays 95 %
    assert found.verdict.interval.low == pytest.approx(0.02 - half)
    finish(store, ta(10, 8, 2), [0.70, 0.70, 0.70], [0.6, 0.6, 0.6])
    three = winner(made(store).chains, ["takd 10>4>2", "takd 10>6>2", "takd 10>8>2"], "kd 10>2")
    wider = stats.t.ppf(1 - 0.1 / 3 / 2, 2) * 0.01 / math.sqrt(3)
    assert three.verdict.interval.half == pytest.approx(wider)
    assert three.verdict.interval.half > half


def test_a_lucky_single_seed_is_no_winner() -> None:
    store = FakeStore()
    finish(store, kd(10, 2), [0.70] * 3)
    finish(store, ta(10, 4, 2), [0.71] * 3)
    finish(store, ta(10, 6, 2), [0.90])
    assert winner(made(store).chains, ["takd 10>4>2", "takd 10>6>2"], "kd 10>2").name == "takd 10>4>2"
    assert winner(made(store).chains, ["takd 10>6>2"], "kd 10>2").name == "takd 10>6>2"  # nothing better to elect
    assert winner(made(store).chains, ["takd 10>8>2"], "kd 10>2").name is None


def test_map_says_what_is_measured_and_what_is_certain() -> None:
    store = FakeStore()
    finish(store, kd(10, 2), [0.70] * 3)
    finish(store, ta(10, 4, 2), [0.709, 0.710, 0.711])
    finish(store, ta(10, 6, 2), [0.69, 0.70, 0.71])
    finish(store, ta(8, 4, 2), [0.7] * 3)  # without direct KD from 8 there is nothing to hold it against
    cells = gain_map(made(store), S).set_index(["teacher", "assistant"])
    assert len(cells) == 6  # teachers 10, 8, 6 with 3, 2, 1 sizes below them and above the student
    sure, unsure, alone = (cells.loc[path(*pair)] for pair in ((10, 4), (10, 6), (8, 4)))
    assert (sure["state"], sure["certain"], sure["kind"]) == ("measured", True, "helps")
    assert sure["gain"] == pytest.approx(0.01)
    assert (unsure["state"], unsure["certain"]) == ("measured", False)
    assert (alone["state"], alone["n"]) == ("no control", 0)
    assert cells.loc[path(6, 4)]["state"] == "not run"
    assert not cells["certain"].to_numpy()[cells["n"] < 3].any()


def test_each_length_shows_its_best_path_on_validation() -> None:
    store = FakeStore()
    finish(store, kd(10, 2), [0.70] * 3)
    finish(store, ta(10, 4, 2), [0.72, 0.73, 0.74], [0.5] * 3)
    finish(store, ta(10, 6, 2), [0.71, 0.71, 0.71], [0.6] * 3)
    finish(store, ta(10, 6, 4, 2), [0.70] * 3)
    paths = by_length(made(store), T, S)
    assert list(paths["assistants"]) == [0, 1, 1, 2]
    assert list(paths.loc[paths["best"], "arm"]) == ["kd 10>2", "takd 10>6>2", "takd 10>6>4>2"]
    first, second = longer_against_shorter(made(store), paths)
    assert (first.arm, first.against) == ("takd 10>6>2", "kd 10>2")
    assert first.interval.mean == pytest.approx(0.01)
    assert second.interval.mean == pytest.approx(-0.01)


def test_lattice_is_every_subset_of_sizes_once() -> None:
    tree = lattice(made(FakeStore()), T, S)
    subsets = [via for k in range(4) for via in combinations(path(8, 6, 4), k)]
    ends = tree.nodes[tree.nodes["role"] == "student"]
    assert (tree.shown, tree.whole, len(ends)) == (8, 8, 8)
    assert set(ends["arm"]) == {arm_of((T, *via, S)).name for via in subsets}
    assert len(tree.nodes) == 8 + 7 + 1  # a student for each subset, an assistant at the end of each that is not empty
    assert tree.nodes["arm"].is_unique
    assert sorted(ends["row"]) == list(range(8))
    assert set(tree.nodes["state"]) == {"not run"}
    assert not tree.nodes["best"].any()
    seen: set[str] = {""}
    for node in tree.nodes.to_dict("records"):  # parents first, left of their children, in their row or above
        assert node["parent"] in seen
        seen.add(node["arm"])
        if node["parent"]:
            parent = tree.nodes.set_index("arm").loc[node["parent"]]
            assert parent["column"] < node["column"] and parent["row"] <= node["row"]


def test_lattice_numbers_by_hand() -> None:
    store = FakeStore()
    finish(store, kd(10, 4), [0.75, 0.75, 0.75])
    finish(store, kd(10, 2), [0.70, 0.70, 0.70])
    finish(store, ta(10, 4, 2), [0.719, 0.720, 0.721])
    finish(store, ta(10, 6, 4), [0.76, 0.77, 0.78])
    plan = plan_of_paths(SPEC, DATASET)
    trained = plan.chains_of(ta(10, 8, 2))[0].student
    store.running[trained] = {"epoch": 1}
    assert training_arms(plan, store) == {"takd 10>8>2"}
    tree = lattice(made(store), T, S, training_arms(plan, store))
    nodes = tree.nodes.set_index("arm")
    assert nodes.loc["takd 10>4>2", "gain"] == pytest.approx(0.02)
    assert nodes.loc["takd 10>6>4", "gain"] == pytest.approx(0.02)  # against the same network, plain-4 taught by 10
    assert math.isnan(nodes.loc["kd 10>2", "gain"]) and math.isnan(nodes.loc["scratch 10", "gain"])
    assert list(nodes.index[nodes["best"]]) == ["scratch 10", "kd 10>4", "takd 10>4>2"]
    assert nodes.loc["takd 10>8>2", "state"] == "training"
    # Every training takes ten seconds.
    assert nodes.loc["takd 10>4>2", "total"] == 30 and nodes.loc["takd 10>4>2", "seconds"] == 10
    assert not nodes.loc["takd 10>4>2", "estimated"]
    assert nodes.loc["takd 10>6>4>2", "estimated"] and nodes.loc["takd 10>6>4>2", "total"] == 40


def test_an_uncertain_best_path_is_not_marked() -> None:
    store = FakeStore()
    finish(store, kd(10, 2), [0.70, 0.70, 0.70])
    finish(store, ta(10, 4, 2), [0.69, 0.70, 0.75])
    tree = lattice(made(store), T, S)
    assert tree.winner.name == "takd 10>4>2"
    assert not tree.nodes["best"].any()


def test_a_long_ladder_shows_chains_of_two_assistants() -> None:
    spec = start_for("digits")
    data = DATASET.__class__(**{**vars(DATASET), "name": "digits", "families": ("mlp",), "classes": 10})
    tree = lattice(pool(spec, data, FakeStore()), "mlp-256", "mlp-8")
    assert (tree.shown, tree.whole) == (11, 16)  # four sizes in between: 1 + 4 + 6 paths
    near = lattice(pool(spec, data, FakeStore()), "mlp-128", "mlp-8")
    assert (near.shown, near.whole) == (7, 8)  # the pool of a ladder of seven holds no chain of three
