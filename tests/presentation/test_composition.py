"""The composer's links, ways out, drawings and costs, over every combination there is."""

from __future__ import annotations

from itertools import product

import pytest

from takd.methods.composer import CONTROLS, Composition, refusal
from takd.methods.table import METHODS, edges, methods_for
from takd.presentation.methods.composition import (
    STARTS,
    Graph,
    alt_graph,
    cost_sentence,
    from_query,
    legend,
    nearest_methods,
    per_assistant,
    teaching_graph,
    to_query,
    ways_out,
)

ALL = [Composition(**dict(zip(CONTROLS, a, strict=True))) for a in product(*(c.choices for c in CONTROLS.values()))]
SENSIBLE = [c for c in ALL if refusal(c) is None]
KD = Composition("teacher", "logits")
PATH = ("plain-10", "plain-8", "plain-4", "plain-2")


def taught(graph: Graph) -> set[tuple[str, str]]:
    return {(arrow.source, arrow.target) for arrow in graph.arrows if not arrow.belongs}


def test_a_link_reproduces_every_combination() -> None:
    for c in ALL:
        assert from_query(to_query(c), KD) == (c, ())
        assert all(" " not in value for values in to_query(c).values() for value in values)


def test_bad_answers_are_replaced_with_a_sentence() -> None:
    found, problems = from_query({"c-from": ["wizard"], "c-when": ["all-at-once"], "c-gate": ["\x00<b>" * 40]}, KD)
    assert (found.sources, found.schedule, found.gate) == ("teacher", "all at once", "all")
    assert [p.split(" ")[0] for p in problems] == ["Sources", "Gate"]
    assert "'wizard'" in problems[0] and "assistants" in problems[0]
    assert len(problems[1]) < 150 and "\x00" not in problems[1]
    assert from_query({"c-from": []}, KD) == (KD, ())


def test_every_method_is_a_start() -> None:
    assert {start.method for start in STARTS.values()} == set(METHODS)
    assert len({start.label for start in STARTS.values()}) == len(STARTS)
    for start in STARTS.values():
        assert (start.method, start.options) in methods_for(start.composition)


def test_every_refusal_has_smallest_ways_out() -> None:
    for c in ALL:
        if refusal(c) is None:
            continue
        ways = ways_out(c)
        assert ways, c
        assert len({len(way.changes) for way in ways}) == 1
        for way in ways:
            assert refusal(way.composition) is None
            differs = [
                (n, getattr(way.composition, n)) for n in CONTROLS if getattr(way.composition, n) != getattr(c, n)
            ]
            assert list(way.changes) == differs


def test_ways_out_leave_alone_what_was_just_chosen() -> None:
    heads = Composition("heads", "logits")
    assert ways_out(heads, "sources")[0].changes == (("schedule", "all at once"),)
    assert ways_out(heads, "schedule")[0].words == "Sources: teacher"


def test_nearest_methods_differ_in_the_fewest_answers() -> None:
    snapshots = Composition("trajectory", "logits", "all at once")
    near = dict(nearest_methods(snapshots))
    assert {"dgkd", "rco"} <= set(near)
    assert all(len(change.changes) == 1 for change in near.values())
    assert next(iter(near)) == "dgkd"  # what can be trained comes first
    for c in SENSIBLE:
        near = dict(nearest_methods(c))
        assert near
        assert all(refusal(change.composition) is None for change in near.values())
        if methods_for(c):
            assert {STARTS[name].method for name in near} <= {name for name, _ in methods_for(c)}


def test_every_sensible_combination_has_a_drawing() -> None:
    for c in SENSIBLE:
        found = methods_for(c)
        for method in [METHODS[name] for name, _ in found] or [None]:
            graph = teaching_graph(c, PATH, method)
            names = [node.name for node in graph.nodes]
            column = {node.name: node.column for node in graph.nodes}
            assert len(set(names)) == len(names)
            assert graph.nodes[-1].kind == "student"
            assert taught(graph)
            for source, target in taught(graph):
                assert column[source] < column[target] or (target, source) in taught(graph)
            assert {name for pair in taught(graph) for name in pair} == set(names)
            text = alt_graph(graph, c)
            assert len(text) > 40 and "None" not in text and text.endswith(".")
            gated = [arrow for arrow in graph.arrows if arrow.gated]
            assert bool(gated) == (c.gate != "all")
            assert ("ashed" in legend(c, graph)) == bool(gated)


def test_chains_are_drawn_as_their_methods_train_them() -> None:
    names = ["teacher", "assistant 1", "assistant 2", "student"]
    for name, schedule in (("takd", "one by one"), ("dgkd", "all at once")):
        graph = teaching_graph(Composition("assistants", "logits", schedule), PATH)
        assert [node.line for node in graph.nodes] == list(PATH)
        assert taught(graph) == {(names[a], names[b]) for a, b in edges(METHODS[name], 4)}


def test_chance_concerns_the_student_only() -> None:
    graph = teaching_graph(Composition("assistants", "logits", "all at once", "bernoulli"), PATH)
    assert {a.target for a in graph.arrows if a.gated} == {"student"}
    assert {a.note for a in graph.arrows if a.gated} == {"p"}
    assert [a.note for a in graph.arrows if not a.gated] == [""] * 3
    early = teaching_graph(Composition("assistants", "logits", gate="early stop"), PATH)
    assert all(a.gated for a in early.arrows)


def test_methods_of_one_combination_may_be_drawn_differently() -> None:
    inside = Composition("sub-models", "logits", "inside one step")
    star, chain = (taught(teaching_graph(inside, PATH, METHODS[name])) for name in ("ipkd", "ipkd-ta"))
    assert star == {("largest", "middle"), ("largest", "smallest")}
    assert chain == {("largest", "middle"), ("middle", "smallest")}
    route = Composition("trajectory", "logits")
    early, all_of_it = (teaching_graph(route, PATH, METHODS[name]) for name in ("early-teacher", "rco"))
    assert (len(taught(early)), len(taught(all_of_it))) == (1, 4)
    assert [a.note for a in all_of_it.arrows if not a.belongs] == ["1", "2", "3", "4"]
    peers = taught(teaching_graph(Composition("peers", "logits", "inside one step"), PATH))
    assert peers == {("peer", "student"), ("student", "peer")}


def test_a_drawing_needs_no_assistant_in_the_question() -> None:
    graph = teaching_graph(Composition("assistants", "logits"), ("plain-10", "plain-2"))
    assert [node.kind for node in graph.nodes] == ["teacher", "assistant", "student"]


@pytest.mark.parametrize(
    ("name", "assistants", "words"),
    [
        ("takd", 3, "4 trainings besides the student's own, 3 more than direct KD"),
        ("dgkd", 1, "2 forward passes of other networks, 1 more than direct KD"),
        ("scratch", 0, "no training besides the student's own, 1 fewer than direct KD"),
        ("dih", 0, "1 forward pass of other networks, as many as direct KD"),
        ("kd", 0, "1 training besides the student's own."),
        ("kd-long", 2, "trains longer"),
    ],
)
def test_cost_in_words(name: str, assistants: int, words: str) -> None:
    assert words in cost_sentence(METHODS[name], assistants)


def test_cost_per_assistant() -> None:
    assert per_assistant((1, 1)) == "1 + 1 per assistant"
    assert per_assistant((2, 0)) == "2"
