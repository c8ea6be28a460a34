"""Every sentence that depends on numbers, as pure functions: the headline, the story under it, and what it leaves open.

A sentence never says more than its verdict: gains are points and carry their interval and n, and what was not measured
is said to be missing. Number formats, verdict phrases and captions live next door and are offered here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from takd.analysis.verdicts import GapVerdict, Verdict
from takd.presentation.captions import (
    ADD_A_GPU,
    alt_assistants,
    alt_chain,
    alt_curves,
    alt_gap,
    cost_details,
    cost_note,
    long_run,
    provenance,
    run_sentence,
    starts_in,
)
from takd.presentation.caveats import AS_PUBLISHED, FAILED
from takd.presentation.formats import (
    MISSING,
    accuracy,
    count,
    duration,
    known,
    listing,
    number_word,
    percent,
    points,
    ratio,
    short_size,
    size,
)
from takd.presentation.phrases import (
    CANNOT_TELL,
    FLAT,
    GAP,
    HELPS,
    HURTS,
    NO_DIFFERENCE,
    NO_GAP,
    SLIGHTLY_HELPS,
    SLIGHTLY_HURTS,
    arm_label,
    capital,
    gain_text,
    gap_kind,
    interval_text,
    kind_of,
    method_label,
    seeds_sentence,
    size_name,
    teacher_of,
    verdict_badge,
    verdict_label,
    verdict_sentence,
    versus,
    via_label,
)
from takd.presentation.theme import ROLE_LABELS

__all__ = [
    "ADD_A_GPU",
    "AS_PUBLISHED",
    "FAILED",
    "MISSING",
    "Facts",
    "Story",
    "accuracy",
    "alt_assistants",
    "alt_chain",
    "alt_curves",
    "alt_gap",
    "arm_label",
    "best_of",
    "box_title",
    "capital",
    "cost_details",
    "cost_note",
    "count",
    "duration",
    "failed",
    "gain_text",
    "gap_kind",
    "gap_sentence",
    "headline",
    "interval_text",
    "kind_of",
    "listing",
    "long_run",
    "method_label",
    "noise_caveat",
    "percent",
    "points",
    "provenance",
    "ratio",
    "run_sentence",
    "seeds_sentence",
    "short_size", "shortcut_sentence", "size", "starts_in",
    "three_sentences",
    "verdict_badge",
    "verdict_label",
    "verdict_sentence",
    "versus",
    "via_label",
]  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """The numbers on screen that the sentences may quote; whatever is not known stays None (NaN counts as unknown).

    Names are network names. `direct` is the student after direct KD from `teacher`, `direct_peak` after direct KD
    from the gap's best smaller teacher, whose own accuracy is `peak_accuracy`. Entropies are mean test entropies in
    nats. `method` names one that is neither direct KD nor a chain. `agreement` is the share of test images on which
    the direct-KD student answers like its teacher. `extra_*` is what the chain costs over direct KD, for one seed.
    """

    teacher: str
    student: str
    assistants: tuple[str, ...] = ()
    noise: float = 0.0
    method: str = ""
    teacher_accuracy: float | None = None
    peak_accuracy: float | None = None
    alone: float | None = None
    direct: float | None = None
    direct_peak: float | None = None
    chain: float | None = None
    teacher_entropy: float | None = None
    peak_entropy: float | None = None
    teacher_train: float | None = None
    peak_train: float | None = None
    agreement: float | None = None
    extra_trainings: int | None = None
    extra_seconds: float | None = None


class Story(NamedTuple):
    """Three short paragraphs under the figure."""

    happened: str
    why: str
    next: str


def headline(gap: GapVerdict | None, chain: Verdict | None, facts: Facts, shortcut: Verdict | None = None) -> str:
    """The claim of the page: does a bigger teacher still help, and what does the chosen chain do.

    `chain` is the chosen arm against its control (None where the arm is its own control); `shortcut` the chain against
    direct KD from its own last assistant, which must be beaten too before the chain deserves the credit.
    """
    parts = []
    if gap is not None and chain is not None and chain.n and gap_kind(gap) == kind_of(chain) == CANNOT_TELL:
        so_far = f"{gain_text(chain)} {_beside(chain)} {_control(chain)} so far ({interval_text(chain)})"
        return f"Too early to tell whether a bigger teacher stops helping or whether {_helps(facts)}: {so_far}."
    if gap is not None:
        numbers = f": {gain_text(gap.verdict)} for the best smaller one ({interval_text(gap.verdict, 'seed')})"
        parts.append(f"{_gap_clause(gap)}{numbers if gap.verdict.n else ''}.")
    if chain is not None:
        parts.append(_chain_clause(gap, chain, facts))
        parts.append(shortcut_sentence(shortcut) if kind_of(chain) in (HELPS, SLIGHTLY_HELPS) else "")
    parts = [part for part in parts if part]
    return " ".join(parts) or "Nothing to compare yet: no chain and its control have finished."


def shortcut_sentence(shortcut: Verdict | None) -> str:
    """What direct KD from the chain's own last assistant does without the chain; empty where it was not compared."""
    if shortcut is None or shortcut.n == 0:
        return ""
    small = f"Direct KD from {size_name(shortcut.against.removeprefix('kd ').split('>')[0])}, without a chain,"
    around = f"(chain minus it: {gain_text(shortcut)}, {interval_text(shortcut)})"
    if kind_of(shortcut) in (HELPS, SLIGHTLY_HELPS):
        return f"{small} does less {around}."
    if kind_of(shortcut) in (HURTS, SLIGHTLY_HURTS):
        return f"{small} does better {around}."
    return f"{small} cannot be told apart from it {around}."


def gap_sentence(gap: GapVerdict | None) -> str:
    """The gap claim with its own interval, for the line under the gap chart."""
    if gap is None:
        return "The capacity gap has not been measured: it needs direct KD from several teachers."
    verdict = gap.verdict
    if verdict.n == 0:
        return f"{_gap_clause(gap)}: direct KD from at least two teachers has to finish at the same seed first."
    # No p here: the sign-flip test knows nothing of the smaller teacher having been chosen among several.
    around = interval_text(verdict, "seed")
    text = f"{_gap_clause(gap)}. {capital(versus(verdict))}: {gain_text(verdict)} ({around})."
    if gap.teacher_monotone is False:
        text += " Mind that the teachers themselves do not get better at every step."
    if gap.compared > 1:
        text += (
            f" The smaller teacher is the best of {gap.compared} on validation images; its interval allows for that."
        )
    return f"{text} {seeds_sentence(verdict)}" if gap_kind(gap) == CANNOT_TELL else text


def _gap_clause(gap: GapVerdict) -> str:
    """Only what the rule compared: the largest teacher and the smaller one that validation images prefer."""
    largest, peak = _teacher_name(gap.largest), _teacher_name(gap.peak)
    return {
        GAP: "A bigger teacher stopped helping",
        NO_GAP: f"A bigger teacher still helps: {largest} teaches better than {peak}, the best smaller one",
        FLAT: f"The largest teacher, {largest}, does no better and no worse than {peak}, the best smaller one",
    }.get(gap_kind(gap), "Whether a bigger teacher stops helping cannot be told yet")


def _teacher_name(arm: str | None) -> str:
    """The teacher of a direct-KD arm as arm names write it, e.g. `10` of `kd 10>2`."""
    return size_name(arm.removeprefix("kd ").split(">")[0]) if arm else "the largest"


def _chain_clause(gap: GapVerdict | None, chain: Verdict, facts: Facts) -> str:
    who, control = _subject(facts), _control(chain)
    gain, kind, around = gain_text(chain), kind_of(chain), f"({interval_text(chain)})"
    if kind == CANNOT_TELL:
        if chain.n == 0:
            return f"{capital(who)}: nothing to compare yet."
        return f"Whether {_helps(facts)} cannot be told yet: {gain} {_beside(chain)} {control} so far {around}."
    returned = _returned(gap, facts)
    verb = {
        HELPS: f"gave back {gain}" if returned else f"added {gain} over {control}",
        SLIGHTLY_HELPS: f"gave back a little, {gain}" if returned else f"added a little over {control}, {gain}",
        NO_DIFFERENCE: f"made no real difference to {control}, {gain}",
        SLIGHTLY_HURTS: f"made it slightly worse than {control}, {gain}",
        HURTS: f"made it worse than {control}, {gain}",
    }[kind]
    return f"{capital(who)} {verb} {around}."


def _returned(gap: GapVerdict | None, facts: Facts) -> bool:
    """Something is only given back where the largest teacher took it away and the chain starts from that teacher."""
    if gap is None or gap_kind(gap) != GAP or not facts.assistants:
        return False
    return teacher_of(gap.largest, facts.student) == facts.teacher


def _subject(facts: Facts) -> str:
    if facts.method:
        return f"{facts.method}{f' with {listing(facts.assistants)}' if facts.assistants else ''}"
    if not facts.assistants:
        return f"direct KD from {facts.teacher}"
    number = len(facts.assistants)
    return f"{number_word(number)} assistant{'s' if number > 1 else ''} ({', '.join(facts.assistants)})"


def _helps(facts: Facts) -> str:
    return f"{_subject(facts)} {'help' if len(facts.assistants) > 1 and not facts.method else 'helps'}"


def _beside(chain: Verdict) -> str:
    return "against" if chain.interval.mean < 0 else "over"


def _control(chain: Verdict) -> str:
    return "direct KD" if chain.against.startswith("kd ") else arm_label(chain.against)


def three_sentences(gap: GapVerdict | None, chain: Verdict | None, facts: Facts) -> Story:
    """What happened, why, and what it costs or what to try next; every number is one on the screen."""
    peak = teacher_of(gap.peak, facts.student) if gap is not None else None
    peak = None if peak == facts.teacher else peak
    why = _why(peak if gap is not None and gap_kind(gap) == GAP else None, facts)
    return Story(_happened(peak, chain, facts), why, _next(gap, peak, chain, facts))


def _happened(peak: str | None, chain: Verdict | None, facts: Facts) -> str:
    direct = facts.direct
    if peak and all(map(known, (facts.teacher_accuracy, facts.peak_accuracy, direct, facts.direct_peak))):
        first = (
            f"{facts.teacher} itself scores {percent(facts.teacher_accuracy)} and {peak}, trained alone, "
            f"{percent(facts.peak_accuracy)}; taught directly by them, {facts.student} scores {percent(direct)} and "
            f"{percent(facts.direct_peak)}."
        )
    else:
        itself = f"{facts.teacher} itself {_scores(facts.teacher_accuracy)}"
        first = f"{itself}; {facts.student} taught directly by it {_scores(direct)}."
    first += f" Alone, {facts.student} {_scores(facts.alone)}."
    if not facts.assistants and not facts.method:
        return first
    around = f"{gain_text(chain)} ({interval_text(chain)})" if chain is not None else "not compared yet"
    over = f" over {_control(chain)}" if chain is not None and chain.n else ""
    how = f"By way of {listing(facts.assistants)}" if facts.assistants else f"With {facts.method}"
    how = f"{how} ({facts.method})" if facts.method and facts.assistants else how
    return f"{first} {how} it {_scores(facts.chain)}: {around}{over}."


def _scores(value: float | None) -> str:
    return f"scores {percent(value)}" if known(value) else "is not measured yet"


def _why(peak: str | None, facts: Facts) -> str:
    """What was measured beside accuracy; the papers' explanation is named as theirs, and only where there is a gap
    (`peak` is given) for it to explain."""
    parts = []
    if facts.noise > 0:
        parts.append(_memorised(peak, facts))
    own, other = facts.teacher_entropy, facts.peak_entropy
    if peak and own is not None and other is not None and known(own) and known(other):
        entropies = f"both trained alone; mean entropy {own:.2f} against {other:.2f} nats on test images"
        if f"{own:.2f}" == f"{other:.2f}":
            parts.append(f"{facts.teacher} and {peak} are equally sure of their answers ({entropies}).")
        elif own < other:
            parts.append(
                f"{facts.teacher} is surer of its answers than {peak} ({entropies}); Mirzadeh et al. suggest that "
                "sure answers say less about which classes look alike."
            )
        else:
            parts.append(f"{facts.teacher} is less sure of its answers than {peak} ({entropies}).")
    if known(facts.agreement):
        share = percent(facts.agreement)
        parts.append(f"After direct KD the student answers like {facts.teacher} on {share} of the test images.")
    return " ".join(parts) or "Why is not measured here: entropy and agreement of these networks are missing."


def _memorised(peak: str | None, facts: Facts) -> str:
    """How far the teachers fit labels that are wrong: right answers on the noisy training labels above the share of
    labels that are right."""
    text = f"{percent(facts.noise, 0)} of the training labels are wrong on purpose."
    if known(facts.teacher_train):
        text += f" {facts.teacher} answers {percent(facts.teacher_train)} of them as labelled"
        text += f", {peak} {percent(facts.peak_train)}" if peak and known(facts.peak_train) else ""
        text += f"; what is above {percent(1 - facts.noise, 0)} must be wrong labels learned by heart."
    return text


def _next(gap: GapVerdict | None, peak: str | None, chain: Verdict | None, facts: Facts) -> str:
    parts, kind = [], kind_of(chain)
    if facts.assistants and facts.extra_trainings is not None:
        time = f", {duration(facts.extra_seconds)}" if known(facts.extra_seconds) else ""
        more = count(facts.extra_trainings, "more training")
        parts.append(f"For each seed the chain takes {more} than direct KD{time}.")
    elif facts.assistants:
        parts.append("What the chain costs is not measured here.")
    shorter = gap is not None and gap_kind(gap) == GAP and bool(peak)
    if shorter:
        parts.append(f"Compare with direct KD from {peak} ({percent(facts.direct_peak)}): it needs no chain.")
    if chain is not None and kind == CANNOT_TELL:
        parts.append(seeds_sentence(chain))
    elif not shorter:
        parts.append(_suggestion(gap, kind, facts))
    return " ".join(parts)


def _suggestion(gap: GapVerdict | None, kind: str, facts: Facts) -> str:
    if gap is not None and gap_kind(gap) == CANNOT_TELL:
        return f"For the teacher's size: {seeds_sentence(gap.verdict)}"
    if facts.assistants and kind in (HURTS, SLIGHTLY_HURTS, NO_DIFFERENCE):
        return "Try another assistant, or leave it out."
    return "Try a smaller student, which is further from its teacher."


def box_title(role: str, epochs: int, whole: int) -> str:
    """The word over a box of the strip; a teacher that is heard before its last epoch says so."""
    label = ROLE_LABELS[role]
    return label if epochs >= whole else f"{label}, epoch {epochs} of {whole}"


def noise_caveat(noise: float, stored_digits: bool = False) -> str:
    """What label noise means for the reading; empty where there is none. `stored_digits` is the setting of the stored
    study on digits, of which more is known."""
    if not noise > 0:
        return ""
    text = (
        f"{percent(noise, 0)} of the training labels were made wrong on purpose; validation and test labels are clean. "
        "A teacher that learns wrong labels by heart passes them on, and a small assistant may filter them. Compare "
        "the chain with direct KD from its assistant, which needs no chain and may be as good, and with clean labels "
        "(More, Label noise 0)."
    )
    if stored_digits:
        text += (
            " This noise level and these sizes were found by trying about seven settings on other seeds, and with "
            "clean labels the stored runs show neither gap nor gain. Validation accuracy falls after the first epochs "
            "while wrong labels are learned; stopping early might do as much as a chain, which is not measured here."
        )
    return text


def failed(facts: Facts) -> bool:
    """Whether the chosen student is so far below what it reaches alone that its training must have gone wrong."""
    taught = facts.chain if facts.chain is not None else facts.direct
    return known(taught) and known(facts.alone) and float(taught or 0.0) < 0.5 * float(facts.alone or 0.0)


def best_of(tried: int, holm: str = "is in the table below") -> str:
    """The warning where several choices were compared, and where Holm's p stands; empty for one."""
    if tried < 2:
        return ""
    return (
        f"{capital(number_word(tried))} choices were compared, so the best of them looks better than it is. "
        f"These verdicts are before correction (Holm's p {holm}); confirm a winner on new seeds."
    )
