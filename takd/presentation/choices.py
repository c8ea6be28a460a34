"""The form that builds an ExperimentSpec, kept in step with the URL.

Streamlit can bind widgets to the URL itself, but a starting choice here depends on the data set, and a bound widget
leaves "its" default out of the link; so the whole spec is written and read by its own codec instead. The URL is read
when it differs from what was last written, which makes links, back and forward work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import streamlit as st

from takd.budgets import BUDGETS
from takd.data.table import Dataset
from takd.methods.composer import CONTROLS
from takd.methods.method import Settings
from takd.methods.options import Value, read_options
from takd.methods.scale import largest_multiplier
from takd.methods.table import METHODS
from takd.networks.table import NETWORKS, capacity
from takd.parameters import AS_BUDGET, LEFT_TO_BUDGET
from takd.presentation import own_network, ui, view, window, words
from takd.presentation.visit import visit
from takd.presets import PRESETS
from takd.spec import (
    PARAMETERS,
    ExperimentSpec,
    between,
    from_query,
    multi_networks_for,
    networks_for,
    read_spec,
    rungs_between,
    size_order,
    start_for,
    start_of,
    to_json,
    to_query,
)
from takd.starts import SCOPES
from takd.wiring import schedule_of

_SPEC, _WRITTEN, _NOTICES, _VISIT = "spec", "query-written", "notices", "query-visit"
_SAID = "notices-said"
SEED_CHOICES = (1, 3, 5, 8, 10, 20)
CUSTOM = "(your own choices)"
_SUB_MODELS = "One network whose smaller versions share its weights; the smallest is what you want to use."
IN_MORE = ("temperature", "lam", "noise", *LEFT_TO_BUDGET, "seed", "scope", "view")


def current_spec(datasets: Mapping[str, Dataset]) -> tuple[ExperimentSpec, tuple[str, ...]]:
    """The spec of this session and the sentences about what had to be repaired (shown once).

    A URL that changed since it was last written here wins over the session. The navigation empties it, which is no
    change of mind: a visitor who comes from another page finds the choices as they were.
    """
    state = st.session_state
    query = {name: st.query_params.get_all(name) for name in _ours()}
    query = {name: values for name, values in query.items() if values}
    arrived = state.get(_VISIT) != visit()
    if _SPEC not in state or (query != state.get(_WRITTEN) and (query or not arrived)):
        spec, notices = from_query(query, datasets)
        _keep(spec, notices)
    state[_SAID] = state.pop(_NOTICES, ())
    return state[_SPEC], state[_SAID]


def _say_again() -> None:
    """Callback of the box of further choices: to close it is no choice, and what was said of a number that was typed
    into it is not read before it is closed."""
    st.session_state[_NOTICES] = st.session_state.get(_SAID, ())


def write_url(spec: ExperimentSpec) -> None:
    """Put the spec into the URL; parameters that are not ours stay."""
    wanted = to_query(spec)
    others = {name: st.query_params.get_all(name) for name in st.query_params if name not in _ours()}
    now = {name: st.query_params.get_all(name) for name in st.query_params if name in _ours()}
    if now != wanted:
        st.query_params.from_dict({**others, **wanted})
    st.session_state[_WRITTEN], st.session_state[_VISIT] = wanted, visit()


def _ours() -> list[str]:
    return [parameter.short for parameter in PARAMETERS.values()]


def _keep(spec: ExperimentSpec, notices: tuple[str, ...] = ()) -> None:
    """Make a spec the session's and bring every widget in line with it."""
    state = st.session_state
    state[_SPEC], state[_NOTICES] = spec, notices
    for name, value in to_json(spec).items():
        state[f"w-{name}"] = value
    state["w-preset"] = _preset_of(spec)


def adopt(spec: ExperimentSpec) -> None:
    """Callback of buttons that propose a spec."""
    _keep(spec)


def with_method(
    spec: ExperimentSpec,
    method: str,
    options: Mapping[str, Value],
    datasets: Mapping[str, Dataset],
    view: str = "same",
) -> tuple[ExperimentSpec, tuple[str, ...]]:
    """The same question under another method and data view. Assistants come and go as it needs them; where the networks
    leave no room for one, the spec says direct KD."""
    values = {**to_json(spec), "method": method, "view": view}
    if spec.temperature == start_of(spec).temperature:  # not chosen: a method may have one of its own
        del values["temperature"]
    fitted = _fitting(values, datasets)
    student = fitted.get("student", spec.student)
    proposed = METHODS[method].starts.get(NETWORKS[student].family, {})
    fitted["options"] = dict(options) or dict(proposed)
    if fitted["method"] != method:
        del fitted["options"]
    return read_spec(fitted, datasets)


def carry(spec: ExperimentSpec, notices: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Make a spec the session's for a visit to the Playground, which shows `notices`; the URL it needs there."""
    _keep(spec, notices)
    st.session_state[_WRITTEN] = to_query(spec)
    return st.session_state[_WRITTEN]


def _changed(name: str, datasets: Mapping[str, Dataset]) -> None:
    """Callback of every widget: one choice changed, the rest follows where it must."""
    state, old = st.session_state, st.session_state[_SPEC]
    value: Any = state[f"w-{name}"]
    if value is None:  # an emptied number is the budget's, a deselected segment keeps the old choice
        value = 0 if name in LEFT_TO_BUDGET else getattr(old, name)
    if name == "dataset":
        _keep(start_for(value))
        return
    if name == "method":
        _keep(*with_method(old, value, {}, datasets, old.view))  # options were the other method's
        return
    values = {**to_json(old), name: value}
    if name in ("teacher", "student"):
        values = _fitting(values, datasets)
    spec, notices = read_spec(values, datasets)
    _keep(spec, notices)


def _fitting(values: dict[str, Any], datasets: Mapping[str, Dataset]) -> dict[str, Any]:
    """Let the student and the assistants follow a moved teacher or a changed method without complaint."""
    dataset = datasets[values["dataset"]]
    in_one_network = METHODS[values["method"]].in_one_network
    fits = bool(NETWORKS[values["student"]].subs) == in_one_network
    if in_one_network or not fits:  # what is not named here starts anew, and nothing is said about it
        values = {name: value for name, value in values.items() if name not in ("teacher", "assistants")}
        return values if fits else {name: value for name, value in values.items() if name != "student"}
    if size_order(values["teacher"]) <= size_order(values["student"]):
        smaller = [n.name for n in networks_for(dataset) if size_order(n.name) < size_order(values["teacher"])]
        values = {**values, "student": smaller[-1]}
    if METHODS[values["method"]].assistants[1] == 0:
        return {**values, "assistants": []}
    inside = between(values["teacher"], values["student"], dataset)
    proposed = rungs_between(values["teacher"], values["student"], dataset)[-1:]
    kept = [a for a in values["assistants"] if a in inside] or list(proposed)
    if not kept:  # neighbours leave no room for an assistant
        return {**values, "assistants": [], "method": "kd"}
    return {**values, "assistants": kept}


def _set_assistants(datasets: Mapping[str, Dataset]) -> None:
    """The pills decide between direct KD (none) and a chain."""
    state, old = st.session_state, st.session_state[_SPEC]
    order = between(old.teacher, old.student, datasets[old.dataset])
    chosen = [name for name in order if name in (state["w-assistants"] or [])]
    takes = METHODS[old.method].assistants[1] is None
    method = old.method if takes and chosen else "takd" if chosen else "kd"
    _keep(read_spec({**to_json(old), "assistants": chosen, "method": method}, datasets)[0])


def _option_changed(name: str, datasets: Mapping[str, Dataset]) -> None:
    old = st.session_state[_SPEC]
    rows = METHODS[old.method].options
    values = read_options(rows, {**dict(old.options), name: st.session_state[_option_key(old.method, name)]})
    options = {row.name: values[row.name] for row in rows if row.matters(values)}
    spec, notices = read_spec({**to_json(old), "options": options}, datasets)
    _keep(spec, notices)


def _option_key(method: str, name: str) -> str:
    return f"w-o-{method}-{name}"


def _preset_chosen() -> None:
    name = st.session_state["w-preset"]
    if name in PRESETS:
        _keep(PRESETS[name].spec)


def _restore(spec: ExperimentSpec) -> None:
    """Streamlit forgets what widgets stood at once a page was shown without them."""
    for name, value in to_json(spec).items():
        st.session_state.setdefault(f"w-{name}", value)
    st.session_state.setdefault("w-preset", _preset_of(spec))


def _preset_of(spec: ExperimentSpec) -> str:
    return next((p.name for p in PRESETS.values() if p.spec == spec), CUSTOM)


def choices(spec: ExperimentSpec, datasets: Mapping[str, Dataset]) -> None:
    """Draw the form: two rows and a popover with the rest."""
    dataset = datasets[spec.dataset]
    names = [n.name for n in reversed(networks_for(dataset))]

    def network_label(name: str) -> str:
        size = capacity(name, dataset.classes)
        return f"{own_network.label(name)} · {words.size(size.params)} parameters"

    def change(name: str, disabled: bool = False) -> dict[str, Any]:
        parameter = PARAMETERS[name]
        return {
            "label": parameter.label,
            "key": f"w-{name}",
            "help": parameter.help,
            "on_change": _changed,
            "args": (name, datasets),
            "disabled": disabled or view.locked(parameter.short),
        }

    _restore(spec)
    first = st.columns([1.3, 1.3, 1.5, 1.5], vertical_alignment="bottom")
    first[0].selectbox(
        "Question",
        [*PRESETS, CUSTOM],
        key="w-preset",
        format_func=lambda name: PRESETS[name].title if name in PRESETS else name,
        on_change=_preset_chosen,
        disabled=bool(view.get("lock")),
        help="Ready questions; every choice below can then be changed.",
    )
    first[1].selectbox(options=list(datasets), format_func=lambda name: datasets[name].label, **change("dataset"))
    in_one_network = METHODS[spec.method].in_one_network
    inside = () if in_one_network else between(spec.teacher, spec.student, dataset)
    if in_one_network:
        first[2].selectbox(
            options=[n.name for n in reversed(multi_networks_for(dataset))],
            format_func=network_label,
            **change("student") | {"label": "Network with sub-models", "help": _SUB_MODELS},
        )
        why = "The sub-models of the network teach each other, or nobody does: see the method."
        first[3].selectbox("Teacher", ["inside the network"], key="w-no-teacher", help=why, disabled=True)
    else:
        teachers = [n for n in names if size_order(n) > size_order(names[-1])]
        first[2].selectbox(options=teachers, format_func=network_label, **change("teacher"))
        first[3].selectbox(
            options=[n for n in names if size_order(n) < size_order(spec.teacher)],
            format_func=network_label,
            **change("student"),
        )
    second = st.columns([1.5, 2.0, 1.6, 0.75, 0.85], vertical_alignment="bottom")
    methods = [name for name, row in METHODS.items() if not row.in_one_network or multi_networks_for(dataset)]
    second[0].selectbox(options=methods, format_func=lambda name: METHODS[name].label, **change("method"))
    second[1].pills(
        "Assistants: the sub-models" if in_one_network else "Assistants",
        options=list(inside),
        selection_mode="multi",
        format_func=own_network.pill_labels(inside),
        key="w-assistants",
        on_change=_set_assistants,
        args=(datasets,),
        help="Sub-models between the largest and the smallest can teach; there are no others."
        if in_one_network
        else "Sizes between teacher and student. None: the teacher teaches the student directly.",
        disabled=(METHODS[spec.method].assistants[1] == 0 and spec.method != "kd") or not inside or view.locked("ta"),
    )
    second[2].segmented_control(options=list(BUDGETS), width="stretch", **change("budget"))
    seeds = sorted({*SEED_CHOICES, spec.seeds})
    second[3].selectbox(options=seeds, **change("seeds"))
    # The browser does not draw what is in a closed box, but it would go on saying with every click what the fields
    # stood at when it was open, over a question chosen since: so they are there only while it is open.
    more = second[4].popover("More", icon=":material/tune:", width="stretch", key="more", on_change=_say_again)
    if more.open:
        for name in IN_MORE:  # the browser builds them when it opens, and then asks what they stand at
            value = getattr(spec, name)
            st.session_state[f"w-{name}"] = None if name in LEFT_TO_BUDGET and not value else value
        with more:
            _more(spec, datasets, change)


def _more(spec: ExperimentSpec, datasets: Mapping[str, Dataset], change: Callable[..., dict[str, Any]]) -> None:
    """What is in the popover."""
    in_one_network = METHODS[spec.method].in_one_network
    # No bounds: the browser would keep a number beyond them to itself. What is sent is repaired, with a sentence.
    fields: list[dict[str, Any]] = [
        {"step": 0.5, "format": "%g", **change("temperature")},
        {"step": 0.05, "format": "%g", **change("lam", in_one_network)},
        {"step": 0.05, "format": "%g", **change("noise")},
        *(change(name) | _as_budget(name, spec, datasets[spec.dataset]) for name in LEFT_TO_BUDGET),
    ]
    across = 2 if window.narrow() else 3
    for first in range(0, len(fields), across):
        with st.container(horizontal=True):
            for field in fields[first : first + across]:
                st.number_input(**field)
    _method_options(spec, datasets)
    row = PARAMETERS["seed"]
    st.number_input(min_value=int(row.low), max_value=int(row.high), step=1, **change("seed"))
    st.selectbox(options=list(SCOPES), format_func=lambda name: SCOPES[name], **change("scope", in_one_network))
    views = CONTROLS["view"].choices
    st.selectbox(options=list(views), format_func=lambda name: f"{name}: {views[name]}", **change("view"))
    own_network.form(datasets[spec.dataset])


def _as_budget(name: str, spec: ExperimentSpec, dataset: Dataset) -> dict[str, Any]:
    """The field of a number that is empty while the budget says it; its help names the budget's own."""
    recipe, images = schedule_of(spec.student, replace(spec, epochs=0, images=0, lr=0.0), dataset)
    own, step = {
        "epochs": (words.count(recipe.epochs, "epoch"), 1.0),
        "images": (f"{images:,} images", 100.0),
        "lr": (f"{recipe.lr:g}", 0.01),
    }[name]
    number = int if PARAMETERS[name].kind == "int" else float
    return {
        "help": f"{PARAMETERS[name].help} Empty or 0: {AS_BUDGET}, {own} for {spec.student}.",
        "step": number(step),
        "format": "%d" if number is int else "%g",
        "value": None,
        "placeholder": AS_BUDGET.capitalize(),
    }


def _method_options(spec: ExperimentSpec, datasets: Mapping[str, Dataset]) -> None:
    """The formula of the chosen method, its options, and where its sources do not agree."""
    method = METHODS[spec.method]
    st.caption(ui.plain(f"{method.label}: {method.help} {method.reference}."))
    st.code(method.formula, language=None, wrap_lines=True)
    values = read_options(method.options, dict(spec.options))
    hidden = {o.name for o in method.options if o.when is not None and values[o.when[0]] not in o.when[1]}
    for option in (option for option in method.options if option.name not in hidden):
        key = _option_key(spec.method, option.name)
        st.session_state[key] = values[option.name]
        shared: dict[str, Any] = {
            "label": option.name.replace("_", " "),
            "key": key,
            "help": option.help,
            "on_change": _option_changed,
            "args": (option.name, datasets),
            "disabled": view.locked("o"),
        }
        if option.kind == "choice":
            st.selectbox(options=list(option.choices), **shared)
            st.caption(ui.plain(f"{values[option.name]}: {option.choices[str(values[option.name])]}"))
        elif option.kind == "bool":
            st.toggle(**shared)
        elif option.kind == "int":
            st.number_input(min_value=int(option.low), max_value=int(option.high), step=1, **shared)
        else:
            least = option.low + 0.01 if option.open_low else option.low
            st.number_input(min_value=float(least), max_value=float(option.high), step=0.05, format="%g", **shared)
    _pull(spec, datasets[spec.dataset], values)
    for reading in (reading for reading in method.readings if reading.option not in hidden):
        st.caption(ui.plain(f"Sources leave {reading.option.replace('_', ' ')} open: {reading.why}"))


def _pull(spec: ExperimentSpec, dataset: Dataset, values: Mapping[str, Any]) -> None:
    """The warning where a loss pulls harder than what it is compared with."""
    method, subs = METHODS[spec.method], len(NETWORKS[spec.student].subs)
    settings = Settings(
        spec.lam, values, len(spec.assistants) + 1, max(subs, 1), 0, 100, dataset.classes, spec.temperature
    )
    pull = largest_multiplier(method.loss, settings)
    if pull <= 1.05:
        st.caption("All arms train at one learning rate, and the weights of this loss add up to no more than KD's.")
        return
    if subs:
        st.caption(
            f"The losses of the {subs} sub-models add up to a weight of {pull:.3g} on what they share; a sub-model "
            "trained alone has 1. That acts like a higher learning rate, and all train at the same one: read a "
            "difference with that in mind."
        )
        return
    st.caption(
        f"The weights of this loss add up to {pull:.3g}, those of KD to 1. That acts like a higher learning rate, "
        "and all arms train at the same one: read a difference with that in mind."
    )
