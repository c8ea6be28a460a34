"""The board: what the stored runs say about each claim, by rules that were fixed beforehand.

A status is read off an interval over seeds (independent chains). All registered trials of one family in one setting are
corrected together with Holm's step-down (1979), the exploratory ones over all of the family: each gets the confidence
at which Holm would have tested it, and its interval is drawn at that confidence, so the picture and the word agree.
Trials that were not run count as tests that found nothing: a family is as large before its runs as after them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from takd.analysis.contrasts import NOTHING, ROUNDING, Beside, Readings, Sample, interval_of, p_of, sample
from takd.analysis.frames import Store, origin_of_all
from takd.analysis.statistics import Interval, holm, seeds_needed
from takd.analysis.verdicts import LEAST_SEEDS
from takd.claims.claim import Claim, Line, Measure, Trial
from takd.claims.settings import SETTINGS, Setting
from takd.claims.table import CLAIMS
from takd.data.table import Dataset

Status = Literal["supported", "refuted", "undecided", "not run"]
ALPHA = 0.05
NO_DIFFERENCE = "no difference that counts"
SMALL = "by less than what counts"
_SAME_PICK = "Both rules name the same assistant at every seed."


@dataclass(frozen=True)
class Finding:
    """One trial's outcome. values: one number per seed (index), in the unit of the measure; where the measure is about
    the best or weakest of several, those of `pair`. interval: over the seeds, wide enough for that choice, at Holm's
    confidence. why: what a status rests on where the interval alone does not say it.
    seeds_needed: in all, an estimate; only where undecided. origin: live, cached or imported. missing: chains.
    precisions: what its networks were trained in (fp32, bf16), which follows the machine and is no part of a question.
    """

    claim: str
    setting: Setting
    trial: Trial
    measure: Measure
    values: pd.Series
    pair: str
    interval: Interval
    status: Status
    p: float
    p_holm: float
    seeds_needed: int | None
    why: str
    origin: str | None
    missing: int
    precisions: tuple[str, ...] = ()

    @property
    def decides(self) -> bool:
        """Whether it is the claim's own measure and not a variant of it."""
        return not self.trial.variant


@dataclass(frozen=True)
class Row:
    """A claim with its findings, the deciding one first."""

    claim: Claim
    findings: tuple[Finding, ...]

    @property
    def run(self) -> tuple[Finding, ...]:
        """The tests that decide, as far as they were run."""
        return tuple(found for found in self.findings if found.decides and found.interval.n)

    @property
    def leading(self) -> Finding:
        """What stands for the claim: the first pre-registered test that was run, else the first that was."""
        run = self.run
        return next((found for found in run if found.trial.registered), run[0] if run else self.findings[0])

    @property
    def status(self) -> Status:
        return self.leading.status if self.findings else "not run"

    @property
    def elsewhere(self) -> tuple[Finding, ...]:
        """The same measure in the other settings."""
        return tuple(found for found in self.findings[1:] if found.decides)

    @property
    def variants(self) -> tuple[Finding, ...]:
        return tuple(found for found in self.findings[1:] if not found.decides)


def board(
    store: Store, datasets: Mapping[str, Dataset], beside: Beside, claims: Iterable[Claim] | None = None
) -> tuple[Row, ...]:
    """Every claim of the table on what is stored. Holm's families are always those of the whole table."""
    trials = [(claim, trial) for claim in CLAIMS.values() for trial in claim.trials]
    measures = {(claim.name, trial): trial.measure(SETTINGS[trial.setting]) for claim, trial in trials}
    readings = {
        name: Readings(setting, dataset, store, _lines(measures, name), beside)
        for name, setting in SETTINGS.items()
        if (dataset := datasets[setting.spec.dataset]).fingerprint is not None
    }
    values = {
        at: sample(measure, readings[at[1].setting]) if at[1].setting in readings else NOTHING
        for at, measure in measures.items()
    }
    levels = _levels(trials, measures, values)
    rows = []
    for claim in CLAIMS.values() if claims is None else claims:
        found = [
            _finding(
                claim,
                trial,
                SETTINGS[trial.setting],
                measures[claim.name, trial],
                values[claim.name, trial],
                levels[claim.name, trial],
                readings.get(trial.setting),
            )
            for trial in claim.trials
        ]
        rows.append(Row(claim, tuple(found)))
    return tuple(rows)


def _lines(measures: Mapping[tuple[str, Trial], Measure], setting: str) -> list[Line]:
    return [line for (_, trial), measure in measures.items() if trial.setting == setting for line in measure.lines()]


def _levels(
    trials: Sequence[tuple[Claim, Trial]],
    measures: Mapping[tuple[str, Trial], Measure],
    values: Mapping[tuple[str, Trial], Sample],
) -> dict[tuple[str, Trial], tuple[float, float]]:
    """(alpha, Holm's p) of every trial, by families: one topic in one setting. Registered trials are corrected for one
    another and for what was withdrawn from among them, exploratory ones for all."""
    found: dict[tuple[str, Trial], tuple[float, float]] = {}
    families: dict[tuple[str, str], list[tuple[str, Trial]]] = {}
    for claim, trial in trials:
        families.setdefault((claim.family, trial.setting), []).append((claim.name, trial))
    pvalues = {at: 1.0 if math.isnan(p := t_test(values[at], measures[at])) else p for at in measures}
    for members in families.values():
        for some in (members, [at for at in members if at[1].registered or at[1].withdrawn]):
            safe = [pvalues[at] for at in some]
            for at, alpha, adjusted in zip(some, holm_levels(safe), holm(safe), strict=True):
                if some is members or at[1].registered:
                    found[at] = alpha, adjusted
    return found


def holm_levels(pvalues: Sequence[float], alpha: float = ALPHA) -> list[float]:
    """The level at which Holm's procedure tests each hypothesis: alpha / m for the smallest p, alpha / (m - 1) for the
    next while all before were rejected; those after the first that is not rejected stay at its level. An interval at
    confidence 1 - level excludes zero where Holm rejects, and nowhere else."""
    m = len(pvalues)
    levels = [0.0] * m
    open_, level = True, alpha / max(m, 1)
    for rank, i in enumerate(sorted(range(m), key=lambda i: pvalues[i])):
        if open_:
            level = alpha / (m - rank)
            open_ = pvalues[i] <= level
        levels[i] = level
    return levels


def t_test(found: Sample, measure: Measure) -> float:
    """Two-sided p of the measure lying where the claim turns."""
    return p_of(found, measure.turn)


def alone(
    claim: Claim, trial: Trial, setting: Setting, store: Store, dataset: Dataset, beside: Beside, alpha: float = ALPHA
) -> tuple[Finding, Sample]:
    """One trial by itself, in a setting that may differ from the table's (another budget, other seeds), at confidence
    1 - alpha, and the differences it rests on. `dataset` must carry its fingerprint."""
    measure = trial.measure(setting)
    readings = Readings(setting, dataset, store, measure.lines(), beside)
    found = sample(measure, readings)
    return _finding(claim, trial, setting, measure, found, (alpha, math.nan), readings), found


def _finding(
    claim: Claim,
    trial: Trial,
    setting: Setting,
    measure: Measure,
    found: Sample,
    level: tuple[float, float],
    readings: Readings | None,
) -> Finding:
    alpha, p_holm = level
    interval, values = interval_of(found, alpha), found.series()
    status, why = judged(measure, found, interval)
    needed = None
    if status == "undecided" and not why:
        widest = 1 - alpha / max(found.values.shape[1:])
        needed = seeds_needed(values, settling_half(measure, interval.mean), widest) or LEAST_SEEDS
        needed = max(needed, interval.n + 1, LEAST_SEEDS)
    origin, precisions, missing = None, set[str](), setting.spec.seeds - interval.n
    if readings is not None and interval.n:
        came = [readings.came(key) for key in _students(readings, measure, set(found.seeds))]
        origin = origin_of_all(where for where, _ in came)
        precisions = {said for _, said in came if said}
    return Finding(
        claim=claim.name,
        setting=setting,
        trial=trial,
        measure=measure,
        values=values,
        pair=found.name,
        interval=interval,
        status=status,
        p=t_test(found, measure),
        p_holm=p_holm,
        seeds_needed=needed,
        why=why,
        origin=origin,
        missing=missing,
        precisions=tuple(sorted(precisions)),
    )


def judged(measure: Measure, found: Sample, interval: Interval) -> tuple[Status, str]:
    """(status, reason where the interval alone does not give one), in this order: fewer than three seeds are undecided;
    an interval above the turn supports; one within the margin refutes, because nothing is there that counts; one below
    the turn refutes; else undecided. A claim that turns elsewhere than at zero is only above or below."""
    if not interval.n:
        return "not run", ""
    if interval.n < LEAST_SEEDS:
        return "undecided", ""
    if measure.kind == "midpoint" and not abs(found.values).max() > ROUNDING:
        return "undecided", _SAME_PICK
    if measure.turn:
        low, high = interval.low - measure.turn, interval.high - measure.turn
        why = NO_DIFFERENCE if measure.turn > 0 else ""
        return ("supported", "") if low > ROUNDING else ("refuted", why) if high < -ROUNDING else ("undecided", "")
    if interval.low > ROUNDING:
        return "supported", SMALL if interval.high <= measure.margin + ROUNDING else ""
    if interval.low >= -measure.margin - ROUNDING and interval.high <= measure.margin + ROUNDING:
        return "refuted", NO_DIFFERENCE
    return ("refuted", "the other way round") if interval.high < -ROUNDING else ("undecided", "")


def settling_half(measure: Measure, mean: float) -> float:
    """The half width at which an interval around this mean would settle it: off the turn, or all within the margin."""
    off = abs(mean - measure.turn)
    return off if measure.turn else max(off, measure.margin - abs(mean))


def _students(readings: Readings, measure: Measure, seeds: set[int]) -> list[str]:
    """Keys of all students that it compares."""
    lines = dict.fromkeys(measure.lines())
    return [chain.student for line in lines for chain in readings.chains(line) if chain.seed in seeds]
