"""The section about classes of the page "Look inside": which of them gain, and what is taken for what."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from takd.analysis.verdicts import LEAST_SEEDS
from takd.presentation import panels, ui, view
from takd.presentation.formats import listing, points
from takd.presentation.lens import charts as lens_charts
from takd.presentation.lens import data as lens_data
from takd.presentation.lens.data import Voice
from takd.presentation.lens.panels import caption
from takd.presentation.study import Study
from takd.runs.store import Store

_MOST = 20  # classes that a figure can name


def classes(shown: Study, store: Store) -> None:
    """Gain of each class, and the difference of two confusion matrices."""
    student, others = lens_data.student_of(shown), _others(shown)
    if student is None or not others:
        st.info("There is no second way of teaching to compare this student with.", icon=":material/balance:")
        return
    if len(others) > 1:
        view.segmented("lv", options=list(others), label_visibility="collapsed")
        against = others[view.get("lv")]
    else:
        against = next(iter(others.values()))
    gains = lens_data.gains(shown, store, against)
    if gains.empty:
        st.info(
            "Gains by class need the true labels of the test images, which come with the data set, and a seed at which "
            "both students have finished.",
            icon=":material/label_off:",
        )
        return
    _gains(shown, store, student, against, gains)
    _confusions(shown, store, student, against)


def _others(shown: Study) -> dict[str, Voice]:
    student = lens_data.student_of(shown)
    voices = [v for v in lens_data.lens_voices(shown) if v.arm and v != student]
    found = {"kd": next((v for v in voices if not v.arm.startswith("scratch ")), None)}
    found["scratch"] = next((v for v in voices if v.arm.startswith("scratch ")), None)
    return {name: voice for name, voice in found.items() if voice is not None}


def _gains(shown: Study, store: Store, student: Voice, against: Voice, gains: pd.DataFrame) -> None:
    ranked = gains.sort_values("mean", ascending=False, kind="stable")
    left_out = max(0, len(ranked) - _MOST)
    if left_out:
        ranked = pd.concat([ranked.head(_MOST // 2), ranked.tail(_MOST // 2)])
    rows = zip(ranked["label"], ranked["p_holm"], ranked["n"], strict=True)
    sure = [str(label) for label, p, seeds in rows if p < 0.05 and seeds >= LEAST_SEEDS]
    marks = {label: f"{label} *" if label in sure else str(label) for label in ranked["label"]}
    summary = ranked.assign(name=ranked["label"].map(marks))[["name", "mean", "low", "high", "n"]]
    found = lens_data.lens_sums(shown, store).classes
    ours, theirs = found[student.name], found[against.name]
    dots = pd.DataFrame(
        [
            (marks[label], seed, float(ours[seed][number] - theirs[seed][number]))
            for label, number in zip(ranked["label"], ranked["number"], strict=True)
            for seed in sorted(set(ours) & set(theirs))
        ],
        columns=["name", "seed", "value"],
    )
    look = dict.fromkeys(summary["name"], ("student", student.method))
    n = int(gains["n"].max())
    st.subheader(f"Which classes gain: {ui.plain(student.short)} against {ui.plain(against.short)}", anchor=False)
    alt = "; ".join(f"{name} {points(m)}" for name, m in zip(summary["name"], summary["mean"], strict=True))
    ui.figure(
        "lens-gains",
        lambda compact, dark: lens_charts.rows_chart(
            summary, dots, look, "gain in points of a class's accuracy", points=True, dark=dark, compact=compact
        ),
        lambda: f"Gain by class in points, mean over {n} seeds, largest first: {alt}.",
        gains,
        depends=(summary, tuple(look.items())),
        title="gain by class",
        caption=caption(
            shown,
            store,
            f"Paired by seed{'' if n == shown.seeds_done else f', n = {n}'}. Marks: means; lines: 95 % t intervals, "
            "not corrected; dots: seeds; * marks "
            "classes that stay clear of zero after Holm's correction over all classes (paired t-test, 5 %)."
            + (f" {left_out} classes in the middle are left out." if left_out else ""),
        ),
        arms=panels.shown_arms(shown),
    )
    if n < LEAST_SEEDS:
        st.markdown(f"Cannot tell yet: n = {n}.")
    elif sure:
        st.markdown(ui.plain(_told_apart(sure, len(gains))))
    else:
        st.markdown(
            f"After correcting for looking at {len(gains)} classes, no class can be told to gain or lose (n = {n})."
        )


def _told_apart(sure: list[str], tried: int) -> str:
    """Which classes differ after the correction. Their names are quoted: those of digits read as counts."""
    names = listing(f"“{name}”" for name in sure)
    one = len(sure) == 1
    return f"After correcting for {tried} classes, {'one class differs' if one else 'these classes differ'}: {names}."


def _confusions(shown: Study, store: Store, student: Voice, against: Voice) -> None:
    change, n = lens_data.confusion_change(shown, store, against)
    if change is None:
        st.caption("Confusions between classes need stored answers, which these stages do not have.")
        return
    names = lens_data.lens_names(shown, store)
    kept = np.sort(np.argsort(-np.abs(np.nan_to_num(change)).sum(1), kind="stable")[:_MOST])
    labels = [names[number] for number in kept]
    cells = pd.DataFrame(
        [
            {
                "row": names[i],
                "column": names[j],
                "value": float(change[i, j]),
                "marked": bool(i == j),
                "text": f"{change[i, j]:+.0f}".replace("+0", "0").replace("-0", "0").replace("-", "\u2212"),
                "told": f"{names[i]} answered as {names[j]}: {change[i, j]:+.1f} per 1,000 images of {names[i]}",
            }
            for i in kept
            for j in kept
            if np.isfinite(change[i, j])
        ]
    )
    most = max(5.0, float(cells["value"].abs().max()))
    off = cells[~cells["marked"]]
    worst, best = off.loc[off["value"].idxmax()], off.loc[off["value"].idxmin()]
    st.subheader("What is mistaken for what", anchor=False)
    ui.figure(
        "lens-confusions",
        lambda compact, dark: lens_charts.matrix_chart(
            cells, (labels, labels), ("true class", "answer"), most, diverging=True, dark=dark, compact=compact
        ),
        lambda: f"Change of confusions. Largest rise: {worst['told']}. Largest fall: {best['told']}.",
        cells,
        depends=(tuple(labels), most),
        title="difference of confusions",
        caption=caption(
            shown,
            store,
            f"{student.name} minus {against.short}, in answers per 1,000 test images of the true class; mean over "
            f"{n} {'seed: one run' if n == 1 else 'seeds'}, no intervals. Framed: the diagonal, right answers (orange "
            "is more of them). Elsewhere orange means more of that error."
            + (f" The {len(labels)} classes that change most, of {len(names)}." if len(labels) < len(names) else ""),
        ),
        arms=panels.shown_arms(shown),
    )
