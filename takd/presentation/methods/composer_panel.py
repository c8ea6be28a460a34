"""The composer of the Methods page: five selects kept in step with the URL, and what their combination is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
import streamlit as st

from takd.data.table import Dataset
from takd.methods.composer import CONTROLS, Composition, refusal
from takd.methods.method import Method
from takd.methods.options import Value
from takd.methods.table import METHODS, methods_for
from takd.presentation import ui
from takd.presentation.choices import carry, with_method
from takd.presentation.formats import listing
from takd.presentation.methods import composition as facts
from takd.presentation.methods.composition import SHORT, STARTS, Change
from takd.presentation.methods.teaching_chart import teaching_chart
from takd.presentation.visit import PLAYGROUND, visit
from takd.spec import ExperimentSpec

OWN = "(your own combination)"
_HERE, _WRITTEN, _VISIT, _LAST, _START = "composition", "c-written", "c-visit", "c-last", "c-start"


def start_of(spec: ExperimentSpec) -> str:
    """The name in STARTS of the method a spec trains with, the preset whose options it has if there is one."""
    mine = [name for name, start in STARTS.items() if start.method == spec.method]
    return next(
        (n for n in mine if STARTS[n].options and STARTS[n].options.items() <= dict(spec.options).items()), mine[0]
    )


def current(spec: ExperimentSpec) -> tuple[Composition, tuple[str, ...]]:
    """The combination of this session and what had to be repaired in the link. Without a link it starts as the method
    of the current question; a URL that changed since it was last written wins over the session."""
    state = st.session_state
    query = {short: st.query_params.get_all(short) for short in SHORT.values() if short in st.query_params}
    arrived = state.get(_VISIT) != visit()
    problems: tuple[str, ...] = ()
    if query and query != state.get(_WRITTEN):
        state[_HERE], problems = facts.from_query(query, Composition("assistants", "logits"))
        state[_LAST] = ""
    elif _HERE not in state or (not query and not arrived):
        begin(start_of(spec))
    return state[_HERE], problems


def write_url(composition: Composition) -> None:
    """Put the combination into the URL, every answer of it; other parameters stay."""
    wanted = facts.to_query(composition)
    if {short: st.query_params.get_all(short) for short in wanted} != wanted:
        others = {name: st.query_params.get_all(name) for name in st.query_params if name not in wanted}
        st.query_params.from_dict({**others, **wanted})
    st.session_state[_WRITTEN], st.session_state[_VISIT] = wanted, visit()


def begin(name: str) -> None:
    """Set all five controls as a method has them."""
    st.session_state[_HERE], st.session_state[_START], st.session_state[_LAST] = STARTS[name].composition, name, ""


def take(composition: Composition) -> None:
    """Callback of the buttons that propose a combination."""
    st.session_state[_HERE], st.session_state[_LAST] = composition, ""


def _answered(name: str) -> None:
    state = st.session_state
    state[_HERE], state[_LAST] = replace(state[_HERE], **{name: state[f"c-w-{name}"]}), name


def _begun() -> None:
    if (name := st.session_state["c-w-start"]) in STARTS:
        begin(name)


def controls(composition: Composition) -> None:
    """The method to start from, and the five selects, each with the sentence of its answer."""
    state = st.session_state
    alike = [name for name, start in STARTS.items() if start.composition == composition]
    chosen = state.get(_START)
    state["c-w-start"] = chosen if chosen in alike else next(iter(alike), OWN)
    st.selectbox(
        "Start from a method",
        [*STARTS, OWN],
        key="c-w-start",
        format_func=lambda name: STARTS[name].label if name in STARTS else name,
        on_change=_begun,
        help="Sets all five choices as the method has them; each can then be changed.",
        width=420,
    )
    for column, control in zip(st.columns(len(CONTROLS)), CONTROLS.values(), strict=True):
        state[f"c-w-{control.name}"] = answer = getattr(composition, control.name)
        column.selectbox(
            control.label,
            list(control.choices),
            key=f"c-w-{control.name}",
            on_change=_answered,
            args=(control.name,),
            help=control.help,
        )
        column.caption(ui.plain(f"{control.help} {control.choices[answer][:1].upper()}{control.choices[answer][1:]}."))


def result(composition: Composition, spec: ExperimentSpec, datasets: Mapping[str, Dataset]) -> None:
    """What the combination is: a refusal with ways out, or its drawing and its methods."""
    if reason := refusal(composition):
        st.info(ui.plain(reason), icon=":material/block:")
        _changes("Smallest changes that make sense:", facts.ways_out(composition, st.session_state.get(_LAST, "")))
        return
    found = _in_order(methods_for(composition))
    _drawing(composition, spec, datasets, found)
    if composition.view != "same":
        st.caption("The data view goes along to the Playground, where it stands under More.")
    if not found:
        _unnamed(composition)
        return
    st.subheader("The method of this combination" if len(found) == 1 else "Methods of this combination", anchor=False)
    if len(found) > 1:
        st.caption("They differ in the loss, or in details the five choices do not tell apart.")
    for number, (name, options) in enumerate(found):
        _card(METHODS[name], options, composition.view, number, spec, datasets)


def _in_order(found: tuple[tuple[str, Mapping[str, Value]], ...]) -> list[tuple[str, Mapping[str, Value]]]:
    """The method that was started from first."""
    started = STARTS.get(st.session_state.get("c-w-start", ""))
    return sorted(found, key=lambda pair: started is None or pair[0] != started.method)


def _drawing(
    composition: Composition,
    spec: ExperimentSpec,
    datasets: Mapping[str, Dataset],
    found: list[tuple[str, Mapping[str, Value]]],
) -> None:
    method = METHODS[found[0][0]] if found else None
    path = spec.path
    one = spec.teacher == spec.student and composition.sources != "sub-models"  # the question on screen has no row
    if one or (composition.sources == "assistants" and not spec.assistants):
        path = with_method(spec, "takd", {}, datasets)[0].path
    graph = facts.teaching_graph(composition, path, method)
    color = method.name if method is not None else "rival"
    data = pd.DataFrame(
        [(a.source, a.target, a.gated) for a in graph.arrows if not a.belongs], columns=["teacher", "pupil", "gated"]
    )
    st.subheader("Who teaches whom", anchor=False)
    ui.figure(
        "teaching",
        lambda compact, dark: teaching_chart(graph, dark, compact, color),
        lambda: facts.alt_graph(graph, composition),
        data,
        depends=(graph, color, composition),
        title="who teaches whom",
        caption=ui.plain(facts.legend(composition, graph)),
    )


def _changes(lead: str, changes: tuple[Change, ...]) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(lead, width="content")
        for change in changes:
            st.button(change.words, key=f"c-to-{change.words}", on_click=take, args=(change.composition,))


def _unnamed(composition: Composition) -> None:
    """A combination that makes sense and that no method of the table is."""
    st.info("This makes sense, but no method of the table is this combination.", icon=":material/search_off:")
    grouped: dict[tuple[tuple[str, str], ...], list[str]] = {}
    ways: dict[tuple[tuple[str, str], ...], Change] = {}
    for name, change in facts.nearest_methods(composition):
        grouped.setdefault(change.changes, []).append(STARTS[name].label)
        ways[change.changes] = change
    st.caption("The nearest methods:")
    for changes, labels in list(grouped.items())[:5]:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.button(
                ways[changes].words, key=f"c-to-{ways[changes].words}", on_click=take, args=(ways[changes].composition,)
            )
            st.caption(ui.plain(f"is {listing(labels)}"), width="content")


def _card(
    method: Method,
    options: Mapping[str, Value],
    view: str,
    number: int,
    spec: ExperimentSpec,
    datasets: Mapping[str, Dataset],
) -> None:
    """One method: what it is, its formula, its cost for the current chain, and the way to the Playground."""
    with st.container(border=True):
        settings = ", ".join(f"{name} {value}" for name, value in options.items())
        st.markdown(f"**{ui.plain(method.label)}**" + (f" ({ui.plain(settings)})" if settings else ""))
        st.markdown(ui.plain(method.help))
        st.code(method.formula, language=None, wrap_lines=True)
        adopted, notices = with_method(spec, method.name, options, datasets, view)
        fits = adopted.method == method.name
        st.caption(ui.plain(_cost(method, adopted.path if fits else spec.path, max(1, len(adopted.assistants)))))
        st.caption(ui.plain(f"{method.reference}."))
        if not fits:
            room = f"There is no size between {spec.teacher} and {spec.student} for an assistant: choose a larger "
            room += "teacher on the Playground first."
            st.caption(ui.plain(" ".join(notices) or room))
        if st.button(
            f"Use in Playground: {ui.plain(method.label)}",
            key=f"c-use-{method.name}-{number}",
            icon=":material/arrow_forward:",
            disabled=not fits,
        ):
            st.switch_page(PLAYGROUND, query_params=carry(adopted, notices))


def _cost(method: Method, path: tuple[str, ...], assistants: int) -> str:
    """The cost sentence for the networks of the current question that the method uses."""
    takes = assistants if method.assistants[1] != 0 else 0
    if method.in_one_network or method.name == "scratch":
        path = path[-1:]
    along = " > ".join(path if takes else dict.fromkeys((path[0], path[-1])))
    return f"Cost for {along}: {facts.cost_sentence(method, takes)}"
