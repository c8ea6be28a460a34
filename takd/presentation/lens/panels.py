"""Agreement, shared errors and calibration on the page "Look inside", and what its sections share. They draw; lens_data
knows."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from takd.analysis import inside
from takd.analysis.statistics import Interval, t_interval
from takd.presentation import panels, ui, view
from takd.presentation.formats import listing, percent, points
from takd.presentation.lens import charts as lens_charts
from takd.presentation.lens import data as lens_data
from takd.presentation.study import Study
from takd.presentation.theme import ARM_LABELS
from takd.runs.store import Store

NO_ANSWERS = (
    "The networks of this question have no stored answers, so single pictures and shared errors cannot be shown. "
    "Stages keep their answers when they are trained here with **Run for real** on the Playground."
)
NO_LABELS = (
    "The true labels of this data set are not here. They come with the data set: "
    "`python -m takd data prepare NAME` on this machine brings it."
)
_INTERVAL = "Marks: means; lines: 95 % t intervals over seeds; dots: seeds."


def look_of(shown: Study) -> dict[str, tuple[str, str]]:
    """(role, method) of each voice: its shape and its colour."""
    return {voice.name: (voice.role, voice.method) for voice in lens_data.lens_voices(shown)}


def caption(shown: Study, store: Store, text: str) -> str:
    """A figure's caption, with where its numbers come from; what shows one seed says so, and not how many there are."""
    return ui.plain(f"{panels.origin_line(shown, store, seeds=not text.startswith('Seed '))} {text}")


def seed_of(shown: Study, store: Store) -> int | None:
    """The chain that is looked at, one of those whose answers are stored; drawn as a slider where there are several."""
    seeds = lens_data.lens_seeds(shown, store)
    if not seeds:
        return None
    if len(seeds) > 1:
        view.slider("ls", min_value=seeds[0], max_value=seeds[-1])
    wanted = int(view.get("ls"))
    return min(seeds, key=lambda seed: abs(seed - wanted))


def agree(shown: Study, store: Store) -> None:
    """Agreement along the chain, and whose errors are the same."""
    found, pairs = lens_data.lens_sums(shown, store), lens_data.pair_names(shown)
    summary, dots = inside.mean_frame(found.agreements), inside.seed_frame(found.agreements)
    look = {name: (second.role, second.method) for name, (_, second) in pairs.items()}
    said = _agreement_said(shown, found.agreements)
    st.subheader("How often do they give the same answer?", anchor=False)
    ui.figure(
        "lens-agree",
        lambda compact, dark: lens_charts.rows_chart(
            summary, dots, look, "share of test images with the same answer", dark=dark, compact=compact
        ),
        lambda: _alt_rows("Agreement on test images", summary),
        dots,
        depends=(summary, tuple(look.items())),
        title="agreement along the chain",
        caption=caption(shown, store, f"{_INTERVAL}{_n(summary, shown)}"),
        arms=panels.shown_arms(shown),
    )
    if said:
        st.markdown(ui.plain(said))
    st.subheader("Do they make the same errors?", anchor=False)
    if not found.stored:
        st.info(NO_ANSWERS, icon=":material/visibility_off:")
        return
    table = lens_data.overlap_means(shown, store)
    if table.empty:
        st.info(NO_LABELS, icon=":material/label_off:")
        return
    view.segmented("lo", label_visibility="collapsed")
    _overlaps(shown, store, table, view.get("lo"))


def _overlaps(shown: Study, store: Store, table: pd.DataFrame, what: str) -> None:
    order = [voice.name for voice in lens_data.lens_voices(shown) if voice.name in set(table["first"])]
    value = "of_first" if what == "share" else "kappa"
    cells = pd.DataFrame(
        {
            "row": table["first"],
            "column": table["second"],
            "value": table[value],
            "marked": False,
            "text": [
                f"{100 * v:.0f} ({100 * e:.0f})" if what == "share" else f"{v:.2f}"
                for v, e in zip(table[value], table["expected_first"], strict=True)
            ],
            "told": [
                f"{a}: {100 * s:.1f} % of its errors are also made by {b}; {100 * e:.1f} % if errors were independent; "
                f"kappa {k:.2f}"
                for a, b, s, e, k in table[["first", "second", "of_first", "expected_first", "kappa"]].to_numpy()
            ],
        }
    )
    says = {
        "share": "Each cell: share of the row's errors that the column makes too, in per cent; in brackets what chance "
        "alone would give (the column's error rate). Above and below the diagonal stand the two ways to normalise "
        "DGKD's error overlap (Son et al. 2021, figure 4).",
        "kappa": "Cohen's kappa of being wrong: 0 is what chance gives, 1 the same images.",
    }[what]
    ui.figure(
        "lens-errors",
        lambda compact, dark: lens_charts.matrix_chart(
            cells, (order, order), ("errors of", "also made by"), 1.0, dark=dark, compact=compact
        ),
        lambda: "Error overlap. " + " ".join(f"{told}." for told in cells["told"][: 2 * len(order)]),
        table,
        depends=(what, tuple(order)),
        title="error overlap",
        caption=caption(shown, store, f"{says} Means over {_counted(table['n'])}."),
        arms=panels.shown_arms(shown),
    )
    student, teacher = lens_data.student_of(shown), lens_data.teacher_of(shown)
    rows = table.set_index(["first", "second"])
    if student is not None and teacher is not None and (student.name, teacher.name) in rows.index:
        row = rows.loc[(student.name, teacher.name)]
        st.markdown(
            ui.plain(
                f"{percent(float(row['of_first']))} of the errors of {student.short} are errors of {teacher.short} "
                f"too (mean over {_counted(table['n'])}); if errors fell independently it would be "
                f"{percent(float(row['expected_first']))}. Networks "
                "share errors because some pictures are hard for all of them, whoever taught them: compare with the "
                "student alone."
            )
        )


def calibration(shown: Study, store: Store) -> None:
    """Whether a network that says 80 % is right in 80 of 100 cases."""
    found, look = lens_data.lens_sums(shown, store), look_of(shown)
    bins = lens_data.bin_means(shown, store)
    summary, dots = inside.mean_frame(found.ece), inside.seed_frame(found.ece)
    left, right = st.columns([1, 1])
    with left:
        st.subheader("Are they right as often as they claim to be?", anchor=False)
        ui.figure(
            "lens-reliability",
            lambda compact, dark: lens_charts.reliability_chart(bins, look, dark, compact),
            lambda: f"Reliability diagram of {listing(look)}. {_alt_rows('Calibration error', summary)}",
            bins,
            depends=(tuple(look.items()), summary),
            title="reliability diagram",
            caption=caption(
                shown,
                store,
                f"{inside.BINS} bins of confidence at T = 1, pooled over seeds; those with fewer than "
                f"{lens_data.LEAST} answers are not drawn. Dashed: perfect calibration; below it a network is surer "
                "than it is right. Large marks hold more images.",
            ),
            arms=panels.shown_arms(shown),
        )
    with right:
        st.subheader("Calibration error (ECE)", anchor=False)
        ui.figure(
            "lens-ece",
            lambda compact, dark: lens_charts.rows_chart(
                summary, dots, look, "expected calibration error at T = 1", dark=dark, compact=compact
            ),
            lambda: _alt_rows("Expected calibration error", summary),
            dots,
            depends=(summary, tuple(look.items())),
            title="expected calibration error",
            caption=caption(shown, store, f"{_INTERVAL}{_n(summary, shown)} {inside.BINS} bins (Guo et al. 2017)."),
            arms=panels.shown_arms(shown),
        )
        if said := _calibration_said(shown, found.ece):
            st.markdown(ui.plain(said))
    if bins.empty:
        st.caption(NO_ANSWERS if not found.stored else NO_LABELS)


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Interval:
    """The difference of two values, paired by seed."""
    return t_interval([one[seed] - other[seed] for seed in sorted(set(one) & set(other))])


def _certainty(interval: Interval) -> str:
    if interval.n < 3:
        return f" (n = {interval.n}): too few seeds to tell."
    clear = "" if interval.low > 0 or interval.high < 0 else " The interval includes zero: no difference can be told."
    low, high = (points(end).removeprefix("+") for end in (interval.low, interval.high))
    return f" (95 % CI {low} to {high}, n = {interval.n}, paired by seed).{clear}"


def _agreement_said(shown: Study, values: lens_data.Numbers) -> str:
    """Whether the chosen student is closer to the teacher than that of direct KD."""
    student, pairs = lens_data.student_of(shown), lens_data.pair_names(shown)
    ends = {
        second.name: name
        for name, (first, second) in pairs.items()
        if second.role == "student" and first == lens_data.teacher_of(shown)
    }
    other = next((name for name in ends if student is not None and name != student.name), None)
    if student is None or student.name not in ends or other is None:
        return ""
    interval = paired(values[ends[student.name]], values[ends[other]])
    if not interval.n:
        return ""
    how = "the TA chain" if student.method == "takd" else ARM_LABELS.get(student.method, student.method)
    gain = points(abs(interval.mean)).removeprefix("+")
    often = "less" if interval.mean < 0 else "more"
    return (
        f"After {how} the student gives its teacher's answer {gain} points {often} often than after "
        f"direct KD{_certainty(interval)}"
    )


def _calibration_said(shown: Study, values: lens_data.Numbers) -> str:
    students = [voice for voice in lens_data.lens_voices(shown) if voice.arm and values.get(voice.name)]
    if len(students) < 2:
        return ""
    interval = paired(values[students[0].name], values[students[1].name])
    if not interval.n:
        return ""
    return (
        f"The calibration error of {students[0].short} minus that of {students[1].short}: {points(interval.mean)} "
        f"points{_certainty(interval)}"
    )


def _alt_rows(what: str, summary: pd.DataFrame) -> str:
    if summary.empty:
        return f"{what}: nothing is stored yet."
    rows = summary[["name", "mean", "low", "high", "n"]].to_numpy()
    told = [
        f"{a} {100 * m:.1f} %" + (f" ({100 * lo:.1f} to {100 * hi:.1f})" if n > 1 else "") for a, m, lo, hi, n in rows
    ]
    return f"{what}, mean and 95 % interval over seeds: {'; '.join(told)}."


def _n(summary: pd.DataFrame, shown: Study) -> str:
    """n where it is not that of the whole question, which the caption says already."""
    return f" n = {_span(summary['n'])}." if len(summary) and set(summary["n"]) != {shown.seeds_done} else ""


def _counted(counts: pd.Series) -> str:
    return "one seed: one run" if counts.max() == 1 else f"{_span(counts)} seeds"


def _span(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"
