"""The sentences of the Capacity gap page. Every number in them is worked out; what is missing is said to be missing."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from takd.analysis.capacity_gap import GUESSED, MEASURED, Peak
from takd.analysis.verdicts import GapVerdict
from takd.analysis.whatif import Guess, rms
from takd.presentation.formats import count, known, listing, percent, points
from takd.presentation.phrases import (
    CANNOT_TELL,
    FLAT,
    GAP,
    NO_GAP,
    gain_text,
    gap_kind,
    interval_text,
    seeds_sentence,
    teacher_of,
)

Badge = tuple[str, str, str]
BADGES: dict[str, Badge] = {
    GAP: ("Capacity gap", "orange", ":material/trending_down:"),
    NO_GAP: ("No capacity gap", "green", ":material/trending_up:"),
    FLAT: ("No real difference", "gray", ":material/drag_handle:"),
    CANNOT_TELL: ("Cannot tell yet", "gray", ":material/help:"),
}
NOTHING = "no teacher"


def badge(gap: GapVerdict) -> Badge:
    """Label, colour and icon of the gap verdict."""
    return BADGES.get(gap_kind(gap), BADGES[CANNOT_TELL])


def headline(gap: GapVerdict, student: str) -> str:
    """The claim of the page, held to its interval."""
    verdict = gap.verdict
    largest, peak = (teacher_of(arm, student) or NOTHING for arm in (gap.largest, gap.peak))
    around = f"{gain_text(verdict)} ({interval_text(verdict, 'seed')})"
    kind = gap_kind(gap)
    if kind == GAP:
        return f"A bigger teacher stopped helping {student}: it does better from {peak} than from {largest}, {around}."
    if kind == NO_GAP:
        return (
            f"A bigger teacher still helps {student}: {peak}, the best smaller one, falls short of {largest}, {around}."
        )
    if kind == FLAT:
        return (
            f"No gap, and no gain from size either: {student} does as well from {peak}, the best smaller teacher, as "
            f"from {largest}, {around}."
        )
    text = f"Whether a bigger teacher stops helping {student} cannot be told yet"
    if verdict.n:
        return f"{text}: {peak} against {largest}, {around} so far."
    return f"{text}: direct KD from at least two teachers has to finish at the same seed first."


def explained(gap: GapVerdict, peak: Peak | None, student: str, teachers: int) -> str:
    """What stands behind the headline: the peak and its neighbours, the rank correlations, what was chosen, and what is
    needed where nothing can be said."""
    parts = []
    if gap_kind(gap) == CANNOT_TELL:
        parts.append(seeds_sentence(gap.verdict))
    if peak is not None:
        parts.append(peak_sentence(peak, student))
    parts.append(rank_sentence(gap, teachers))
    if gap.teacher_monotone is False:
        parts.append("The teachers themselves do not get better at every step.")
    if gap.compared > 1 and gap.verdict.n:
        parts.append(
            f"The headline's smaller teacher is the best of {gap.compared} on validation images; its interval allows "
            "for that."
        )
    return " ".join(parts)


def peak_sentence(peak: Peak, student: str) -> str:
    """Where the student is best, and whether that can be told from the teachers beside it."""
    reach = "one run, no interval"
    if known(peak.low) and known(peak.high):
        reach = f"95 % CI {percent(peak.low)} to {percent(peak.high)}, n = {count(peak.n, 'seed')}"
    end = ", the largest" if peak.largest else ", the smallest" if peak.smallest else ""
    text = (
        f"Peak: {peak.teacher}{end} of {peak.teachers} teachers, {percent(peak.mean)} ({reach}; chosen on validation "
        "images)."
    )
    above: list[str] = []
    below: list[str] = []
    beside: list[str] = []
    for verdict in peak.neighbours:
        said = f"{teacher_of(verdict.against, student)} ({gain_text(verdict)}, {interval_text(verdict, 'seed')})"
        kind = beside if verdict.against in peak.inseparable else above if verdict.interval.low > 0 else below
        kind.append(said)
    if beside:
        text += f" It is not separable from its neighbour{'s' * (len(beside) > 1)} {listing(beside)}."
    if above:
        text += f" It stands clear of {listing(above)}."
    if below:
        text += f" On test images it falls short of {listing(below)}."
    return text


def rank_sentence(gap: GapVerdict, teachers: int) -> str:
    """Spearman's rho with capacity and with the teachers' own accuracy; a few points describe and do not test."""
    if not known(gap.size_spearman):
        return f"Rank correlations need three teachers; {count(teachers, 'teacher')} finished."
    with_size, with_own = (f"{v:+.2f}".replace("-", "\u2212") for v in (gap.size_spearman, gap.teacher_spearman))
    own = f" and {with_own} with the teacher's own accuracy" if known(gap.teacher_spearman) else ""
    return (
        f"Spearman's rho of the student's mean accuracy is {with_size} with the teacher's capacity{own}; over "
        f"{count(teachers, 'teacher')} it describes and does not test."
    )


def quality(table: pd.DataFrame) -> str:
    """How far off estimates are, from a leave_one_out table."""
    if table.empty:
        return "Too few arms are measured for estimates."
    return (
        f"Estimates are off by {100 * rms(table):.2f} points on average (root mean square over {len(table)} measured "
        "arms, each left out once)."
    )


def guess_sentence(guess: Guess | None) -> str:
    """What a run is expected to show."""
    if guess is None:
        return "There is no estimate: too few arms like it are measured."
    half = max(guess.high - guess.mean, guess.mean - guess.low)
    return f"Estimate: {percent(guess.mean)} ± {100 * half:.1f} points (95 %). {guess.basis}"


def alt(lines: pd.DataFrame, measure: str, sentence: str) -> str:
    """The figure in words: every direct-KD mean by teacher, what is only estimated or not run, and the claim."""
    kd = lines[lines["line"] == "kd"]
    told = []
    for row in kd.to_dict("records"):
        value = f"{points(row['mean'])} points" if measure == "gain" else percent(row["mean"])
        said = {MEASURED: value, GUESSED: f"not run, estimate {value}"}.get(str(row["state"]), "not run")
        told.append(f"{row['teacher']} {said}")
    what = {
        "accuracy": "test accuracy of the student",
        "gain": "points the student gains over learning alone",
        "agreement": "agreement of the student with its teacher",
        "calibration": "expected calibration error of the student",
    }[measure]
    return f"{what[0].upper()}{what[1:]} after direct KD by teacher: {listing(told) or 'nothing'}. {sentence}"


def alt_students(frame: pd.DataFrame, measure: str) -> str:
    """The small figures in words: for each student the teacher with the highest mean (lowest calibration error)."""
    told = []
    for student, rows in frame.groupby("student", observed=True, sort=False):
        measured = rows[rows["state"] == MEASURED]
        if measured.empty:
            told.append(f"{student} not run")
            continue
        best = measured.loc[measured["mean"].idxmin() if measure == "calibration" else measured["mean"].idxmax()]
        value = f"{points(best['mean'])} points" if measure == "gain" else percent(best["mean"])
        told.append(f"{student} best from {best['teacher']} ({value}, {count(len(measured), 'teacher')} run)")
    return f"Direct KD by student: {'; '.join(told) or 'nothing trained yet'}."


def left_out(names: Sequence[str]) -> str:
    """A note about teachers without a place on the axis; empty where all have one."""
    return f"Not placed, because their own accuracy is not measured: {listing(names)}." if names else ""
