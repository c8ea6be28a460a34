"""What was measured for ready questions, in Markdown: a part of the README, which a test holds to the stored runs."""

from __future__ import annotations

from collections.abc import Iterable

from takd.analysis.verdicts import Verdict
from takd.claims.settings import schedule_words
from takd.presentation.claims.words import told
from takd.presentation.formats import known
from takd.presentation.phrases import arm_label, capital, gain_text, has_interval, interval_text, verdict_label
from takd.presentation.study import Study
from takd.presentation.words import gap_sentence

HEAD = ("arm", "teacher, test %", "student, test % (95 %)", "n", "over direct KD from the same teacher")


def measured(studies: Iterable[Study]) -> str:
    """A paragraph and a table for each study of a ladder: every arm that is stored, chains with their verdict."""
    return "\n\n".join(_block(shown) for shown in studies)


def _block(shown: Study) -> str:
    spec = shown.spec
    noise = f", {100 * spec.noise:g} % wrong training labels" if spec.noise else ""
    how = schedule_words(spec)
    title = f"**{shown.dataset.label}{noise}, student {spec.student} ({how}).** {gap_sentence(shown.gap_verdict)}"
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    gains = {verdict.arm: verdict for verdict in shown.verdicts if verdict.against == _direct(verdict.arm)}
    for row in shown.arms[shown.arms["n"] > 0].to_dict("records"):
        name = str(row["arm"])
        half = f" ± {told(100 * float(row['half']), 1)}" if known(float(row["half"])) else ""
        teacher = float(row["teacher_mean"])
        lines.append(
            f"| {capital(arm_label(name))} | {told(100 * teacher, 1) if known(teacher) else ''} "
            f"| {told(100 * float(row['mean']), 1)}{half} | {row['n']} | {_gain(gains.get(name))} |"
        )
    return "\n".join([title, "", *lines])


def _direct(arm: str) -> str:
    """Direct KD from the teacher of a chain, by name."""
    sizes = arm.split(" ")[1].split(">")
    return f"kd {sizes[0]}>{sizes[-1]}"


def _gain(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    if not has_interval(verdict):
        return gain_text(verdict)
    around = interval_text(verdict).partition(", n")[0]
    return f"{gain_text(verdict)} ({around}): {verdict_label(verdict).lower()}"
