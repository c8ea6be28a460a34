"""The charts of the Assistants page: valid Vega-Lite, wide and narrow, light and dark, full, half and not filled."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd
import pytest

from takd.analysis.assistants import by_length, gain_map, longer_against_shorter
from takd.analysis.lattice import lattice, training_arms
from takd.analysis.pool import Pool, plan_of_paths, pool
from takd.analysis.rules import per_seed, rules
from takd.analysis.verdicts import judge
from takd.analysis.whatif import Guess
from takd.analysis.worth import worth_frame
from takd.plan import Arm
from takd.presentation.chains import card as chain_card
from takd.presentation.chains.lattice_chart import alt_lattice, claim_lattice, lattice_chart
from takd.presentation.chains.length_chart import alt_lengths, claim_lengths, length_chart
from takd.presentation.chains.map_chart import alt_map, chain_map, claim_map
from takd.presentation.chains.rules_chart import alt_rules, claim_rules, rules_chart
from takd.presentation.chains.worth_chart import (
    alt_worth,
    before_on_front,
    cheaper_and_better,
    claim_worth,
    worth_chart,
)
from takd.spec import start_for
from tests.analysis.fakes import DATASET, FakeStore

SPEC = start_for("cifar10")
T, S = SPEC.teacher, SPEC.student
NO_GUESS = pd.DataFrame(columns=["arm", "gain", "error"])


def stored(seeds: int) -> FakeStore:
    """Every path but those through 8 and on, at some seeds; one training is under way."""
    store, plan = FakeStore(), plan_of_paths(SPEC, DATASET)
    for chain in plan.chains:
        if chain.seed < seeds and "plain-8" not in chain.arm.path[1:-1]:
            for i, key in enumerate(chain.keys):
                store.finish(plan, key, 0.7 + 0.01 * len(chain.arm.path) + 0.001 * ((i * 7 + chain.seed * 3) % 5))
    for chain in plan.chains_of(Arm("takd", (T, "plain-8", S)))[:2]:
        store.running[chain.student] = {"epoch": 1}
    return store


STORES = {seeds: stored(seeds) for seeds in (0, 1, 5)}
POOLS: dict[int, Pool] = {seeds: pool(SPEC, DATASET, store) for seeds, store in STORES.items()}


def texts(seeds: int) -> dict[str, tuple[Callable[..., Any], str, str]]:
    """Per chart: how it is drawn, its claim, its text for screen readers."""
    found, store = POOLS[seeds], STORES[seeds]
    cells, paths = gain_map(found, S), by_length(found, T, S)
    guess = NO_GUESS if not seeds else pd.DataFrame({"arm": ["takd 10>8>2"], "gain": [0.004], "error": [0.003]})
    tree = lattice(found, T, S, training_arms(found.plan, store))
    arms = worth_frame(found, S)
    scored = rules([(found, store)])
    lengths = claim_lengths(paths, longer_against_shorter(found, paths))
    worth = claim_worth(arms, "takd 10>4>2")
    table = per_seed(scored.cases)
    return {
        "map": (lambda **k: chain_map(cells, guess, **k), claim_map(cells, S), alt_map(cells, S)),
        "many": (lambda **k: length_chart(paths, **k), lengths, alt_lengths(paths, lengths)),
        "paths": (
            lambda **k: lattice_chart(tree.nodes, tree.columns, picked="kd 10>4", **k),
            claim_lattice(tree),
            alt_lattice(tree, claim_lattice(tree)),
        ),
        "worth": (
            lambda **k: worth_chart(arms, "seconds", "takd 10>4>2", **k),
            worth,
            alt_worth(arms, "seconds", worth),
        ),
        "rule": (
            lambda **k: rules_chart(scored, table, **k),
            claim_rules(scored),
            alt_rules(scored, claim_rules(scored)),
        ),
    }


@pytest.mark.parametrize("seeds", [0, 1, 5])
@pytest.mark.parametrize("name", ["map", "many", "paths", "worth", "rule"])
def test_valid_and_in_words(name: str, seeds: int) -> None:
    draw, claim, text = texts(seeds)[name]
    for compact in (False, True):
        spec = draw(compact=compact, dark=compact).to_dict()
        alt.LayerChart.from_dict(spec)
        assert spec["width"] == "container" and "vconcat" not in spec
        shown = [v for rows in spec["datasets"].values() for row in rows for v in row.values() if isinstance(v, str)]
        assert not any(re.search(r"\b(nan|None)\b", word) for word in shown)
        assert len(json.dumps(spec, allow_nan=False)) < 60_000
    for said in (claim, text):
        assert len(said) > 20 and not re.search(r"\b(nan|None)\b", said)
    if seeds < 3:
        assert not re.search(r"\b(helps|hurts|wins|ranks)\b", claim)


@pytest.mark.parametrize("seeds", [1, 5])
def test_an_estimate_is_no_solid_cell(seeds: int) -> None:
    draw, _, _ = texts(seeds)["map"]
    spec = draw().to_dict()
    tables = spec["datasets"]
    for layer in walk(spec):
        mark = layer.get("mark")
        if not (isinstance(mark, dict) and mark["type"] == "rect" and "data" in layer):
            continue
        looks = {row.get("look") for row in tables[layer["data"]["name"]]}
        if looks == {"open"}:
            assert "strokeDash" in mark and "color" not in layer["encoding"]
            assert any(row["first"] == "◌ +0.4 ±0.3" for row in tables[layer["data"]["name"]])
            break
    else:
        raise AssertionError("no cell is open")


def test_nodes_that_are_not_run_are_hollow() -> None:
    draw, _, _ = texts(5)["paths"]
    spec = draw().to_dict()
    filled = {}
    for layer in walk(spec):
        if "encoding" in layer and "shape" in layer["encoding"]:
            for row in spec["datasets"][layer["data"]["name"]]:
                filled[row["arm"]] = "fill" not in layer["mark"]
    assert filled["takd 10>4>2"] is True
    assert filled["takd 10>8>2"] is False  # in training
    assert filled["takd 10>8>6"] is False
    assert len(filled) == 16


def walk(node: Any) -> list[dict[str, Any]]:
    found = []
    if isinstance(node, dict):
        found.append(node)
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            found += walk(value)
    return found


def test_a_chain_on_the_front_is_held_against_the_next_cheaper_arm() -> None:
    arms = pd.DataFrame(
        {
            "arm": ["scratch 2", "kd 4>2", "takd 10>4>2", "kd 10>2"],
            "seconds": [10.0, 20.0, 80.0, 70.0],
            "mean": [0.60, 0.70, 0.71, 0.69],
            "front": [True, True, True, False],
        }
    )
    assert before_on_front(arms, "takd 10>4>2") == "kd 4>2"
    assert before_on_front(arms, "scratch 2") is None  # nothing is cheaper
    assert before_on_front(arms, "kd 10>2") is None
    unsure = judge([0.0, 0.01, 0.02], arm="takd 10>4>2", against="kd 4>2")
    said = claim_worth(arms, "takd 10>4>2", over_cheaper=unsure)
    assert "against direct KD 4 → 2, which takes 25 % of the time: cannot tell yet, +1.0 points" in said
    beaten = claim_worth(arms, "kd 10>2")
    assert "not on the Pareto front: direct KD 4 → 2 reaches 70.0 % for 29 % of the time" in beaten
    assert cheaper_and_better(arms, "kd 10>2") == "kd 4>2" and cheaper_and_better(arms, "takd 10>4>2") is None
    told = claim_worth(arms, "kd 10>2", over_cheaper=judge([0.0, -0.01, -0.02], arm="kd 10>2", against="kd 4>2"))
    assert "(cannot tell yet: −1.0 points, 95 % CI −3.5 to 1.5, n = 3 chains)" in told
    assert "not known" in claim_worth(arms, "takd 10>6>2")


def test_a_path_that_is_certain_to_be_worse_is_not_called_uncertain() -> None:
    store, plan = FakeStore(), plan_of_paths(SPEC, DATASET)
    for arm, value in ((Arm("kd", (T, S)), 0.70), (Arm("takd", (T, "plain-4", S)), 0.68)):
        for chain in plan.chains_of(arm):
            for key in chain.keys:
                store.finish(plan, key, value + 0.001 * (chain.seed % 2) * (arm.method == "takd"))
    claim = claim_lattice(lattice(pool(SPEC, DATASET, store), T, S))
    assert "−2.0 points over direct KD" in claim and claim.endswith("so no path is marked")
    assert "not certain" not in claim


def test_the_map_says_that_each_pair_is_judged_by_itself() -> None:
    claim = claim_map(gain_map(POOLS[5], S), S)
    assert claim.endswith("(95 % interval clear of 0, each judged by itself)") and "certain" not in claim


def test_an_estimated_gain_over_an_estimated_control_has_both_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    found = POOLS[0]
    made = {arm.name: Guess(arm.name, 0.7, 0.6, 0.8, 0.03, 9, "made up") for arm in found.plan.arms}
    monkeypatch.setattr(chain_card, "guesses", lambda pool: made)
    guessed = chain_card.gains_guessed(found, gain_map(found, S))
    assert guessed["error"].tolist() == pytest.approx([0.03 * 2**0.5] * len(guessed)) and len(guessed)
