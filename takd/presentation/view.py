"""How a page shows its question: one table of settings, kept in the session and written into the URL.

The question itself is in takd.spec.PARAMETERS; nothing here changes what is trained. A page draws a setting with
`segmented`, `select` or `slider` and reads it with `get`. `follow` is called once in every run, before the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from takd.claims.table import CLAIMS
from takd.presentation import visit
from takd.presentation.formats import listing
from takd.spec import PARAMETERS


@dataclass(frozen=True)
class View:
    """One row: `kind` is choice (one of `options`, whose values are the words on screen), int, float (whose `options`
    are words for numbers that stand for something) or words (any number of short texts). `page` is the page's URL path
    (empty: the Playground's), or EVERY_PAGE. `personal`: words about what a visitor did; going back in the browser
    takes none of it away, and links for others leave it out."""

    short: str
    page: str
    kind: str
    label: str
    default: Any
    options: Mapping[str, str] = field(default_factory=dict)
    low: float = -math.inf
    high: float = math.inf
    help: str = ""
    personal: bool = False


EVERY_PAGE = "*"
LESSONS = {"cifar-gap": "CIFAR-10", "digits-noise": "Digits with wrong labels", "mine": "The Playground's question"}
CURVES = {"val_acc": "validation accuracy", "loss": "training loss", "loss_kl": "teacher's term"}
_MOST_WORDS, _LONGEST, _FEW = 24, 400, 3

_GAP_MEASURES = {
    "accuracy": "accuracy",
    "gain": "gain",
    "agreement": "agreement",
    "calibration": "calibration",
}
_GAP_AXES = {"params": "parameters", "macs": "MACs", "teacher": "own accuracy", "ratio": "ratio"}
_CLAIMS = {row.name: f"{row.number} · {row.title}" for row in CLAIMS.values()}
_GAP_CHAINS = {"none": "none", "own": "this question's", "all": "via each size"}

_ROWS: tuple[View, ...] = (
    # Every page
    View("lock", EVERY_PAGE, "words", "Locked choices", ()),
    # Playground
    View("e", "", "int", "Epoch of the replay", 0, low=0, high=100_000),
    # Capacity gap
    View("y", "gap", "choice", "Of the student", "accuracy", _GAP_MEASURES),
    View("x", "gap", "choice", "Teachers placed by", "params", _GAP_AXES),
    View("via", "gap", "choice", "Chains", "own", _GAP_CHAINS),
    # Assistants
    View(
        "show",
        "chains",
        "choice",
        "Show",
        "help",
        {
            "help": "Does one help?",
            "map": "Every teacher",
            "many": "How many?",
            "paths": "All paths",
            "worth": "Is it worth it?",
            "rule": "Which rule?",
        },
    ),
    View("ta-order", "chains", "choice", "Order", "size", {"size": "by size", "gain": "by gain"}),
    View(
        "ta-margin",
        "chains",
        "float",
        "Too small to matter, ± points",
        0.5,
        low=0.1,
        high=2.0,
        help="Differences within this margin count as none; the verdicts follow it.",
    ),
    View(
        "ta-cost",
        "chains",
        "choice",
        "Cost in",
        "seconds",
        {"seconds": "seconds", "mac_epochs": "MAC-epochs", "trainings": "trainings"},
    ),
    View(
        "ta-over",
        "chains",
        "choice",
        "Scored on",
        "here",
        {"here": "this question's settings", "all": "all stored questions"},
    ),
    # Look inside
    View(
        "look",
        "lens",
        "choice",
        "Look at",
        "soft",
        {
            "soft": "Soft answers",
            "agree": "Agreement",
            "calib": "Calibration",
            "classes": "Classes",
            "loss": "Loss",
            "land": "Landscape",
            "map": "Map",
        },
    ),
    View("ls", "lens", "int", "Seed", 0, low=0, high=1e12, help="One chain of networks; each seed is another."),
    View("lt", "lens", "int", "Temperature", 4, low=1, high=20, help="Higher: the small shares become visible."),
    View(
        "lf",
        "lens",
        "choice",
        "Pictures",
        "rescue",
        {
            "rescue": "Teacher right, student wrong",
            "unsure": "Teacher unsure",
            "all": "A bit of everything",
            "class": "One class",
        },
    ),
    View("lc", "lens", "int", "Class", 0, low=0, high=1e6),
    View("img", "lens", "int", "Test image", -1, {"-1": "the first that fits"}, low=-1, high=1e9),
    View("lo", "lens", "choice", "Shared errors", "share", {"share": "Share of errors", "kappa": "Beyond chance"}),
    View("lv", "lens", "choice", "Compared with", "kd", {"kd": "direct KD", "scratch": "the student alone"}),
    View("le", "lens", "int", "Epoch", 0, low=0, high=1e6),
    View("ld", "lens", "choice", "Directions", "1", {"1": "One direction", "2": "Two directions"}),
    # Compare
    View("cmp", "compare", "words", "Compared arms", ()),
    View("ref", "compare", "int", "Compared with", 1, low=1, high=8),
    View("cc", "compare", "choice", "Curve", "val_acc", CURVES),
    View("each", "compare", "choice", "Seeds", "band", {"band": "mean and interval", "seeds": "every seed"}),
    View("mg", "compare", "float", "Too small to matter, points", 0.5, low=0.1, high=5.0),
    # Claims
    View("claim", "claims", "choice", "Claim", next(iter(_CLAIMS)), _CLAIMS),
    # Learn
    View("step", "learn", "choice", "Step", "1", {str(number): str(number) for number in range(1, 9)}),
    View("lesson", "learn", "choice", "Lesson on", "cifar-gap", LESSONS),
    View("g", "learn", "words", "Guesses", (), personal=True),
    View("notes", "learn", "choice", "Teacher notes", "closed", {"closed": "closed", "hidden": "hidden"}),
)
VIEWS: dict[str, View] = {row.short: row for row in _ROWS}
_VALUES, _WRITTEN, _VISIT, _PROBLEMS = "views", "views-written", "views-visit", "view-problems"
_UNKNOWN = "view-unknown"


def follow(page: str) -> None:
    """Read the settings of this page from the URL where it has changed since it was last written here, then write
    them. The navigation empties the URL, which is no change of mind."""
    rows = [row for row in VIEWS.values() if row.page in (EVERY_PAGE, page)]
    query = {row.short: found for row in rows if (found := st.query_params.get_all(row.short))}
    state = st.session_state
    arrived = state.get(_VISIT) != visit.visit()
    if query != state.get(_WRITTEN) and (query or not arrived):
        for row in rows:
            if arrived and row.short not in query:
                continue
            value, problem = read(row, query.get(row.short, []))
            _keep(row.short, tuple(dict.fromkeys((*get(row.short), *value))) if row.personal else value)
            if problem:
                state.setdefault(_PROBLEMS, []).append(problem)
    told = state.setdefault(_UNKNOWN, set())
    if problem := unknown(name for name in st.query_params if name not in told):
        state.setdefault(_PROBLEMS, []).append(problem)
    told |= set(st.query_params)
    _write(rows)


def problems() -> tuple[str, ...]:
    """Sentences about settings of the URL that could not be taken; said once."""
    return tuple(st.session_state.pop(_PROBLEMS, ()))


def read(row: View, texts: list[str]) -> tuple[Any, str | None]:
    """A setting from the URL's texts and, where it had to be changed, a sentence."""
    texts = [text[:_LONGEST] for text in texts if text]
    if row.kind == "words":
        return tuple(dict.fromkeys(texts))[:_MOST_WORDS], None
    if not texts:
        return row.default, None
    text = texts[-1]
    if row.kind == "choice":
        if text in row.options:
            return text, None
        return row.default, f"{row.label} cannot be {quoted(text)}; shown is {row.options[row.default]}."
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    value = min(max(number, row.low), row.high) if math.isfinite(number) else row.default
    value = round(value) if row.kind == "int" else value
    shown = row.options.get(f"{value:g}", f"{value:g}")
    return value, None if value == number else f"{row.label} cannot be {quoted(text)}; shown is {shown}."


def unknown(names: Iterable[str]) -> str:
    """What a link says that no page reads, in a sentence; empty where there is nothing."""
    ours = {"live", *VIEWS, *(parameter.short for parameter in PARAMETERS.values())}
    found = [quoted(name) for name in names if name not in ours and not name.startswith("c-")]  # c-: the Methods page
    if not found:
        return ""
    was = "it was" if len(found) == 1 else "they were"
    return f"This link says {listing(found[:_FEW])}, which no page knows; {was} ignored."


def get(short: str) -> Any:
    """The setting as it stands."""
    row = VIEWS[short]
    value = st.session_state.get(_VALUES, {}).get(short, row.default)
    return value if row.kind != "choice" or value in row.options else row.default


def put(short: str, value: Any) -> None:
    """Change a setting: for callbacks of buttons, and for pages that have to change one they cannot show."""
    _keep(short, value)


def query() -> dict[str, list[str]]:
    """The URL as it stands."""
    return {name: st.query_params.get_all(name) for name in st.query_params}


def link() -> str:
    """The address of this page as it stands, for somebody else."""
    return visit.address(urlencode(for_others(), doseq=True))


def for_others() -> dict[str, list[str]]:
    """The URL as it stands, for links: whoever opens one has done nothing yet."""
    return {name: values for name, values in query().items() if name not in VIEWS or not VIEWS[name].personal}


def locked(short: str) -> bool:
    """Whether a link fixed this choice (its name in the URL), or all of them."""
    return bool({short, "all"} & set(get("lock")))


def locks_in_words() -> str:
    """What a link fixed, for a line above the page; empty where it fixed nothing."""
    names = {parameter.short: parameter.label for parameter in PARAMETERS.values()}
    names |= {row.short: row.label for row in VIEWS.values() if row.page != EVERY_PAGE}
    found = ["all choices"] if locked("all") else [names[short] for short in get("lock") if short in names]
    return f"Fixed by the link: {', '.join(found)}." if found else ""


def segmented(short: str, **settings: Any) -> Any:
    """The setting as a row of buttons."""
    return _drawn(short, st.segmented_control, {"required": True, **settings})


def select(short: str, **settings: Any) -> Any:
    """The setting as a menu."""
    return _drawn(short, st.selectbox, settings)


def slider(short: str, **settings: Any) -> Any:
    """A number as a slider, with the row's bounds unless the page gives narrower ones."""
    row = VIEWS[short]
    kind: Any = int if row.kind == "int" else float
    settings = {"min_value": kind(row.low), "max_value": kind(row.high), **settings}
    _keep(short, min(max(kind(get(short)), settings["min_value"]), settings["max_value"]))
    return _drawn(short, st.slider, settings)


def _drawn(short: str, widget: Any, settings: dict[str, Any]) -> Any:
    row = VIEWS[short]
    options: dict[str, Any] = {}
    if row.kind == "choice":
        allowed = settings.pop("options", list(row.options))
        if get(short) not in allowed:
            _keep(short, allowed[0])
        options = {"options": allowed, "format_func": row.options.__getitem__}
    st.session_state[_key(short)] = get(short)
    widget(
        settings.pop("label", row.label),
        key=_key(short),
        help=row.help or None,
        disabled=settings.pop("disabled", False) or locked(short),
        on_change=_changed,
        args=(short,),
        **options,
        **settings,
    )
    return get(short)


def _changed(short: str) -> None:
    value = st.session_state[_key(short)]
    if value is not None:  # a row of buttons whose chosen one was pressed again keeps it
        _keep(short, value)


def _key(short: str) -> str:
    return f"v-{short}"


def _keep(short: str, value: Any) -> None:
    st.session_state.setdefault(_VALUES, {})[short] = value


def _write(rows: list[View]) -> None:
    wanted = {row.short: _texts(row, value) for row in rows if (value := get(row.short)) != row.default}
    ours = {row.short for row in VIEWS.values()}
    others = {name: values for name, values in query().items() if name not in ours}
    if {**others, **wanted} != query():
        st.query_params.from_dict({**others, **wanted})
    st.session_state[_WRITTEN], st.session_state[_VISIT] = wanted, visit.visit()


def _texts(row: View, value: Any) -> list[str]:
    if row.kind == "words":
        return list(value)
    return [f"{value:g}" if isinstance(value, (int, float)) else str(value)]


def quoted(text: str) -> str:
    """A text of the URL as a sentence may show it: short, and nothing that is not printed."""
    return f"'{''.join(c if c.isprintable() else '?' for c in text[:30])}'"
