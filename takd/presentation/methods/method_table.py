"""The table of all methods as the Methods page shows it: an overview, and the details of each row."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from takd.methods.method import Method
from takd.methods.table import METHODS
from takd.presentation import ui
from takd.presentation.formats import listing
from takd.presentation.methods.composition import per_assistant

_PUBLISHED = {"temperature": "T", "lam": "lam"}


def published(method: Method) -> str:
    """`T = 5, lam = 0.1`: what the source uses where it differs from ours."""
    return ", ".join(f"{_PUBLISHED[name]} = {value:g}" for name, value in method.published.items())


def overview() -> None:
    """One line a method, to compare."""
    rows = [
        {
            "method": row.label,
            "other trainings": per_assistant(row.trainings),
            "other forwards": per_assistant(row.forwards),
            "the teacher hands over": ", ".join(need for need in row.needs if need != "labels") or "nothing",
            "published": published(row),
        }
        for row in METHODS.values()
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        height=35 * (len(rows) + 1) + 3,
        column_config={
            "other trainings": st.column_config.TextColumn(help="besides the student's own"),
            "other forwards": st.column_config.TextColumn(
                help="of other networks in each of the student's steps, where their answers are not stored"
            ),
            "published": st.column_config.TextColumn("published T, lam", help="where they differ from ours"),
        },
    )


def details() -> None:
    """Everything the table says of each method."""
    for row in METHODS.values():
        with st.expander(ui.plain(row.label)):
            st.markdown(ui.plain(row.help))
            st.code(row.formula, language=None, wrap_lines=True)
            needs = [need for need in row.needs if need != "labels"]
            lines = [
                f"**Cost:** {ui.plain(row.cost)}.",
                f"**Trainings besides the student's own:** {per_assistant(row.trainings)}; **forward passes of other "
                f"networks in each step**, where no answers are stored: {per_assistant(row.forwards)}.",
                f"**The teacher hands over:** {listing(needs) or 'nothing; the labels teach'}.",
                f"**Source:** {ui.plain(row.reference)}.",
            ]
            if row.published:
                lines.append(f"**Published with** {published(row)}, which differs from ours.")
            for reading in row.readings:
                name = reading.option.replace("_", " ")
                lines.append(f"**Sources leave {ui.plain(name)} open:** {ui.plain(reading.why)}")
            st.markdown("\n".join(f"- {line}" for line in lines))
