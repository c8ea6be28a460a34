"""The composer's facts without a page: its links, what lies near a combination, who teaches whom, what a method costs.

Imports no streamlit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, pairwise, product

from takd.methods.composer import CONTROLS, TOGETHER, Composition, refusal
from takd.methods.method import Method
from takd.methods.options import Value, read_options
from takd.methods.scale import extra_forwards, extra_trainings
from takd.methods.table import METHODS, edges, methods_for
from takd.presentation.formats import count

SHORT = {"view": "c-view", "sources": "c-from", "knowledge": "c-what", "schedule": "c-when", "gate": "c-gate"}
CHANCE = ("bernoulli", "drop-one")  # gates that concern the student only
CHECKPOINTS, EARLY = (25, 50, 75, 100), 50  # percent of the teacher's epochs, as the drawing shows a trajectory


def to_query(composition: Composition) -> dict[str, list[str]]:
    """All five answers as URL parameters, so that a link keeps its meaning whatever a page starts with."""
    return {short: [getattr(composition, name).replace(" ", "-")] for name, short in SHORT.items()}


def from_query(query: Mapping[str, list[str]], start: Composition) -> tuple[Composition, tuple[str, ...]]:
    """The combination of a link and a sentence for each answer that had to be replaced by the one of `start`."""
    problems, found = [], start
    for name, short in SHORT.items():
        control, given = CONTROLS[name], next(iter(query.get(short, [])[-1:]), None)
        if given is None:
            continue
        answer = next((choice for choice in control.choices if choice.replace(" ", "-") == given), None)
        if answer is None:
            text = "".join(c if c.isalnum() or c in " -." else "?" for c in given[:40])  # no markup, no links
            problems.append(f"{control.label} '{text}' is not an answer; use one of {', '.join(control.choices)}.")
        else:
            found = replace(found, **{name: answer})
    return found, tuple(problems)


def described(composition: Composition) -> str:
    """The five answers in one line."""
    return ", ".join(f"{control.label.lower()} {getattr(composition, name)}" for name, control in CONTROLS.items())


@dataclass(frozen=True)
class Start:
    """A method as the composer's starting point."""

    method: str
    label: str
    composition: Composition
    options: Mapping[str, Value]


def _starts() -> dict[str, Start]:
    found = {}
    for row in METHODS.values():
        for preset in row.presets:
            words = ", ".join(f"{name} {value}" for name, value in preset.options.items())
            label = f"{row.label}, {words}" if words else row.label
            name = f"{row.name}:{words}" if words else row.name
            found[name] = Start(row.name, label, preset.composition, preset.options)
    return found


STARTS = _starts()


@dataclass(frozen=True)
class Change:
    """Another combination and what has to be changed to get there: (control, answer) pairs."""

    changes: tuple[tuple[str, str], ...]
    composition: Composition

    @property
    def words(self) -> str:
        """`Schedule: all at once`."""
        return ", ".join(f"{CONTROLS[name].label}: {answer}" for name, answer in self.changes)


def _with_changes(composition: Composition, number: int) -> list[Change]:
    """Every sensible combination in which exactly `number` answers differ."""
    found = []
    for names in combinations(CONTROLS, number):
        others = ([a for a in CONTROLS[name].choices if a != getattr(composition, name)] for name in names)
        for answers in product(*others):
            changes = tuple(zip(names, answers, strict=True))
            changed = replace(composition, **dict(changes))
            if refusal(changed) is None:
                found.append(Change(changes, changed))
    return found


@cache
def ways_out(composition: Composition, keep: str = "", most: int = 4) -> tuple[Change, ...]:
    """The smallest changes that make a refused combination sensible, the most useful first.

    The control named `keep` is the one that was just set: what leaves it alone comes first, then what can be trained.
    """

    def rank(change: Change) -> tuple[bool, bool, bool]:
        names = [name for name, _ in methods_for(change.composition)]
        touched = keep in dict(change.changes)
        return touched, not any(name in METHODS for name in names), not names

    for number in range(1, len(CONTROLS) + 1):
        if found := sorted(_with_changes(composition, number), key=rank):
            return tuple(found[:most])
    return ()


@cache
def nearest_methods(composition: Composition) -> tuple[tuple[str, Change], ...]:
    """(name in STARTS, what has to be changed) of the methods that differ in the fewest answers, those that can be
    trained first. The data view is not compared, as no method fixes it, but one that it rules out is no neighbour."""
    found = []
    for name, start in STARTS.items():
        there = replace(start.composition, view=composition.view)
        if refusal(there) is not None:
            there = start.composition
        changes = tuple(
            (control, getattr(there, control))
            for control in CONTROLS
            if getattr(there, control) != getattr(composition, control)
        )
        found.append((name, Change(changes, there)))
    least = min(len(change.changes) for _, change in found)
    near = [(name, change) for name, change in found if len(change.changes) == least]
    return tuple(near)


@dataclass(frozen=True)
class Node:
    """A box of the drawing. `column` is its place in time: a network stands right of all that teach it."""

    name: str
    kind: str
    title: str
    line: str
    column: int


@dataclass(frozen=True)
class Arrow:
    """Who teaches whom; `gated` arrows are not always heard. `belongs` is no teaching: parts of one network."""

    source: str
    target: str
    gated: bool = False
    note: str = ""
    belongs: bool = False


@dataclass(frozen=True)
class Graph:
    """Who teaches whom."""

    nodes: tuple[Node, ...]
    arrows: tuple[Arrow, ...]

    def node(self, name: str) -> Node:
        """A node by its name."""
        return next(node for node in self.nodes if node.name == name)


def teaching_graph(composition: Composition, path: tuple[str, ...], method: Method | None = None) -> Graph:
    """Who teaches whom in a sensible combination, along a path of networks (teacher first, student last).

    Where several methods are this combination, `method` says which one is meant: in-place methods differ in it.
    """
    nodes, pairs = _wiring(composition, path, method)
    student = nodes[-1].name
    arrows = []
    for source, target, note in pairs:
        gated = composition.gate not in ("all", *CHANCE) or (composition.gate in CHANCE and target == student)
        p = "p" if composition.gate == "bernoulli" and gated else ""
        arrows.append(Arrow(source, target, gated and source != "labels", note or p))
    one = [node.name for node in nodes if node.kind in ("teacher", "head", "checkpoint") and node.column == 0]
    if composition.sources in ("heads", "trajectory"):
        arrows += [Arrow(a, b, belongs=True) for a, b in pairwise(one)]
    return Graph(nodes, tuple(arrows))


_Wiring = tuple[tuple[Node, ...], list[tuple[str, str, str]]]


def _wiring(c: Composition, path: tuple[str, ...], method: Method | None) -> _Wiring:
    """Nodes, the student last, and (source, target, note)."""
    labels = Node("labels", "labels", "Labels", "no teacher", 0)
    teacher = Node("teacher", "teacher", "Teacher", path[0], 0)
    student = Node("student", "student", "Student", path[-1], 1)
    if c.sources == "sub-models":
        return _sub_models(labels, c, method)
    if c.sources == "none":
        return (labels, student), [("labels", "student", "")]
    if c.sources == "teacher":
        return (teacher, student), [("teacher", "student", "")]
    if c.sources == "peers":
        peer = Node("peer", "peer", "Peer", path[0], 0)
        return (peer, student), [("peer", "student", ""), ("student", "peer", "")]
    if c.sources == "heads":
        heads = [Node(f"head {i}", "head", f"Head {i}", f"stage {i}", 0) for i in (1, 2, 3)]
        return (teacher, *heads, student), [(node.name, "student", "") for node in (teacher, *heads)]
    if c.sources == "trajectory":
        shares = (EARLY,) if _one_checkpoint(method) else CHECKPOINTS
        kept = [
            Node(f"teacher at {p} %", "checkpoint", "Teacher", f"at {p} %" if p < 100 else "finished", 0)
            for p in shares
        ]
        in_turn = c.schedule != "all at once" and len(kept) > 1
        order = [(node.name, "student", str(i) if in_turn else "") for i, node in enumerate(kept, 1)]
        return (*kept, student), order
    if c.sources == "copies":
        like = [Node(f"copy {i}", "teacher", f"Teacher {i}", path[0], 0) for i in (1, 2, 3, 4)]
        return (*like, student), [(node.name, "student", "") for node in like]
    return _chain(c, path)


def _one_checkpoint(method: Method | None) -> bool:
    return method is not None and not any(option.name == "anchors" for option in method.options)


def _chain(c: Composition, path: tuple[str, ...]) -> _Wiring:
    between = path[1:-1] or ("of a size between",)
    names = ["teacher", *(f"assistant {i}" for i in range(1, len(between) + 1)), "student"]
    last = len(names) - 1
    nodes = [
        Node(
            name,
            "teacher" if i == 0 else "student" if i == last else "assistant",
            "Teacher" if i == 0 else "Student" if i == last else "Assistant",
            (path[0], *between, path[-1])[i],
            i,
        )
        for i, name in enumerate(names)
    ]
    like = METHODS["dgkd" if c.schedule == "all at once" else "takd"]
    return tuple(nodes), [(names[a], names[b], "") for a, b in edges(like, len(names))]


def _sub_models(labels: Node, c: Composition, method: Method | None) -> _Wiring:
    sizes = ("largest", "middle", "smallest")
    who = read_options(method.options, {}).get("teacher", "largest") if method is not None else "largest"
    in_a_row = who == "next-larger" and c.knowledge != "labels"
    parts = [
        Node(size, "student" if i == 2 else "sub-model", "Sub-model", size, i if in_a_row else min(i, 1))
        for i, size in enumerate(sizes)
    ]
    if c.knowledge == "labels":
        parts = [replace(part, column=1) for part in parts]
        return (labels, *parts), [("labels", size, "") for size in sizes]
    if in_a_row:
        return tuple(parts), [("largest", "middle", ""), ("middle", "smallest", "")]
    return tuple(parts), [("largest", "middle", ""), ("largest", "smallest", "")]


_GATES = {
    "bernoulli": "Dashed arrows are heard in each step with probability p.",
    "drop-one": "In each step one of the dashed arrows is left out.",
    "early stop": "Dashed arrows are heard in the first part of the training only.",
    "warm-up": "Dashed arrows fade in: soft at first, full after some epochs.",
}


def legend(composition: Composition, graph: Graph) -> str:
    """What the arrows of the drawing mean, in sentences."""
    c, said = composition, CONTROLS
    parts = [f"Arrows hand over: {said['knowledge'].choices[c.knowledge]}."]
    if c.knowledge == "labels":
        parts = ["Arrows hand over the labels; no network teaches another."]
    if c.schedule == "two phases":
        parts.append("First the handed-over knowledge alone, then the usual loss.")
    if c.sources == "heads":
        parts.append("The heads sit on stages of the finished teacher.")
    if c.sources == "trajectory":
        kept = sum(node.kind == "checkpoint" for node in graph.nodes)
        several = "in this order" if c.schedule != "all at once" else "all at once"
        parts.append(
            f"One teacher, kept at several epochs of its training; they teach {several}."
            if kept > 1
            else "The teacher before the end of its training."
        )
    if c.sources == "copies":
        parts.append("The teachers differ in nothing but their seed.")
    if c.sources in TOGETHER:
        parts.append("All are trained in the same step.")
    if c.gate in _GATES:
        parts.append(_GATES[c.gate])
    if c.view == "own":
        parts.append("Students see their random views, finished teachers the images as they are.")
    if c.view == "split":
        parts.append("The teacher learns from one part of the images, the student from the other.")
    return " ".join(parts)


def alt_graph(graph: Graph, composition: Composition) -> str:
    """The drawing in words."""

    def said(name: str) -> str:
        node = graph.node(name)
        return f"{node.title.lower()} {node.line}" if node.kind != "labels" else "the labels"

    told = [
        f"{said(a.source)} {'teach' if a.source == 'labels' else 'teaches'} {said(a.target)}"
        for a in graph.arrows
        if not a.belongs
    ]
    return f"Who teaches whom: {'; '.join(told)}. {legend(composition, graph)}"


def per_assistant(cost: tuple[int, int]) -> str:
    """`1`, or `1 + 1 per assistant`."""
    constant, each = cost
    return f"{constant} + {each} per assistant" if each else str(constant)


def _against(number: int, direct: int) -> str:
    if number == direct:
        return "as many as direct KD"
    return f"{abs(number - direct)} {'more' if number > direct else 'fewer'} than direct KD"


def cost_sentence(method: Method, assistants: int) -> str:
    """Trainings and forward passes of a method with so many assistants, held against direct KD."""
    direct = METHODS["kd"]
    trainings, forwards = extra_trainings(method, assistants), extra_forwards(method, assistants)
    need = f"{count(trainings, 'training') if trainings else 'no training'} besides the student's own"
    live = f"{count(forwards, 'forward pass', 'forward passes') if forwards else 'no forward pass'} of other networks"
    if method is not direct:
        need += f", {_against(trainings, extra_trainings(direct, 0))}"
        live += f", {_against(forwards, extra_forwards(direct, 0))}"
    stored = "; none where answers are stored" if forwards and method.wiring != "cohort" else ""
    longer = " The student trains longer instead, for what the assistants would have cost." * method.spends_assistants
    inside = " Each step runs every sub-model." * method.in_one_network
    return f"{need}.{longer} In each of the student's steps {live}{stored}.{inside}"
