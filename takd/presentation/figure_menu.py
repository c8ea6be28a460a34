"""The menu of every figure: its link, its files, the code that draws it, and its arms for the Compare page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd
import streamlit as st

from takd.plan import chosen_arm
from takd.presentation import basket, view, words
from takd.presentation.exports import chart_bytes, script_bytes, table_bytes
from takd.presentation.formats import length_words
from takd.presentation.plain_text import unescaped
from takd.presentation.vega import Chart
from takd.spec import ExperimentSpec

Draw = Callable[[bool, bool], Chart]


def menu(name: str, draw: Draw, data: pd.DataFrame, title: str, source: str, arms: Sequence[ExperimentSpec]) -> None:
    """Draw the menu; what is in it is made when somebody opens it or presses a button."""
    box = st.popover(
        "Export", icon=":material/download:", help=f"Save or share “{title}”", key=f"export-{name}", on_change="rerun"
    )
    if not box.open:  # a live page would send the buttons of every figure with each tick
        return
    setting = common_setting(arms)
    source = f"{source} {setting}".strip()
    with box:
        st.caption("Link to this page as it stands")
        st.code(view.link(), language=None, wrap_lines=True)
        files: dict[str, tuple[Callable[[], bytes], str]] = {
            "PNG": (partial(_picture, draw, "png", title, source), "png"),
            "SVG": (partial(_picture, draw, "svg", title, source), "svg"),
            "CSV": (partial(table_bytes, data.assign(setting=setting) if setting else data), "csv"),
            "Python": (partial(_script, draw, name, title, source), "py"),
        }
        for label, (make, ending) in files.items():
            st.download_button(
                label,
                data=make,
                file_name=f"takd-{name}.{ending}",
                key=f"{ending}-{name}",
                on_click="ignore",
                width="stretch",
            )
        if arms:
            _to_compare(name, arms)


def table_button(name: str, data: pd.DataFrame, icon: str) -> None:
    """The figure's numbers as a file; all that is offered of one that cannot be drawn."""
    st.download_button(
        "CSV",
        data=partial(table_bytes, data),
        file_name=f"takd-{name}.csv",
        key=f"csv-{name}",
        icon=icon,
        on_click="ignore",
    )


def common_setting(arms: Sequence[ExperimentSpec]) -> str:
    """What all arms of a figure were trained with: a picture that has left its page says it with it. Empty without
    arms."""
    if not arms:
        return ""
    first, *others = [_setting(spec) for spec in arms]
    shared = [text for text in first if all(text in other for other in others)]
    return words.capital(f"{', '.join(shared)}.") if shared else ""


def _setting(spec: ExperimentSpec) -> list[str]:
    return [f"student {spec.student}", f"T {spec.temperature:g}", f"lam {spec.lam:g}", length_words(spec)]


def _to_compare(name: str, arms: Sequence[ExperimentSpec]) -> None:
    names = {basket.write(spec): words.capital(words.arm_label(chosen_arm(spec).name)) for spec in arms}
    specs = dict(zip(names, arms, strict=False))
    key = f"compare-{name}"
    chosen = st.multiselect("Put side by side", list(names), format_func=names.__getitem__, key=key)
    st.button(
        "Add to Compare",
        key=f"add-{name}",
        icon=":material/compare_arrows:",
        disabled=not chosen,
        on_click=_add,
        args=([specs[text] for text in chosen],),
        width="stretch",
    )


def _add(specs: list[ExperimentSpec]) -> None:
    before = len(basket.items())
    basket.add(specs)
    added = len(basket.items()) - before
    full = " The basket is full." if len(basket.items()) == basket.MOST else ""
    st.session_state["toast"] = f"{words.count(added, 'arm')} added to Compare.{full}"


def _picture(draw: Draw, kind: str, title: str, source: str) -> bytes:
    """Made when the button is pressed, not on every run of the page."""
    return chart_bytes(draw(False, False), kind, words.capital(title), unescaped(source))


def _script(draw: Draw, name: str, title: str, source: str) -> bytes:
    return script_bytes(draw(False, False), name, words.capital(title), unescaped(source))
