"""Claims and what was found about them, in words. Pure functions of the board's rows, for pages and the command line.

A status is never said without the number it rests on, its interval with the confidence, and the number of chains.
Accuracies are told in points (100 x fraction), nats and kappa as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import pandas as pd

from takd.analysis.claims import Finding, Row
from takd.analysis.contrasts import ROUNDING
from takd.claims.claim import FAMILIES, Claim, Measure
from takd.claims.library import HEADLINE
from takd.claims.measures import AS_LONG
from takd.claims.settings import SETTINGS, schedule_words
from takd.presentation.claims.marks import MARKS, mark_name
from takd.presentation.formats import MINUS, count, known
from takd.presentation.phrases import capital

CHANGED = (
    "Claims, measures and margins were written down before the runs that registered tests read. What was changed or "
    "added later:"
)
METHOD = (
    "A status follows from a rule and the interval over independent chains (n): above zero is supported, below zero or "
    "wholly within the margin is refuted, anything else is undecided. Claims of “no worse” and of “counts” turn at the "
    "margin instead. Intervals stand at the confidence of Holm's correction: pre-registered tests over those of a "
    "topic in a setting and those withdrawn from among them, exploratory ones (the rule came after results of these "
    "seeds in that setting, or was changed) over all of it."
)
ASKED = ("gap", HEADLINE)  # what this program is about
_WORSE = "worse by more than the margin"
_MOST_DIGITS = 5
_ENOUGH = 0.003  # a margin of 0.3 points is told with one decimal, a smaller one needs two
FRAME_COLUMNS = (
    "number", "claim", "title", "family", "setting", "variant", "status", "why", "unit", "mean", "low", "high",
    "confidence", "n", "p", "p_holm", "seeds_needed", "registered", "origin", "missing",
)  # fmt: skip


def factor(measure: Measure) -> float:
    """What its numbers are multiplied by on screen: 100 for points."""
    return 100.0 if measure.unit == "points" else 1.0


def unit_words(measure: Measure) -> str:
    """`points`, or what a slope is told in: `points per doubling`, `points per further assistant`."""
    if measure.kind != "slope":
        return measure.unit
    counted = all(float(x).is_integer() for x in measure.x)
    return f"{measure.unit} per {'further assistant' if counted else 'doubling'}"


def digits_of(finding: Finding) -> int:
    """Decimals: as many as the unit and the margin need, and more where a bound would else be told as what it is held
    against: where the claim turns, and the margin unless it is supported."""
    measure, interval = finding.measure, finding.interval
    least = (1 if measure.margin >= _ENOUGH else 2) if measure.unit == "points" else 3
    bounds = (interval.low, interval.high) if known(interval.low) else (interval.mean,)
    held = {0.0, measure.turn, *(() if finding.status == "supported" else (measure.margin, -measure.margin))}
    apart = [factor(measure) * abs(v - mark) for v in bounds if known(v) for mark in held if abs(v - mark) > ROUNDING]
    enough = (d for d in range(least, _MOST_DIGITS) if all(gap >= 0.5 * 10**-d for gap in apart))
    return next(enough, _MOST_DIGITS)


def told(value: float, digits: int, *, sign: bool = False) -> str:
    """A number as it is printed: a true minus, and none before a zero."""
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def confidence_words(confidence: float) -> str:
    """`95 % CI`, `98.3 % CI`."""
    return f"{100 * confidence:.1f}".removesuffix(".0") + " % CI"


def chains_words(finding: Finding) -> str:
    """`n = 30 chains`, `n = 4 of 5 chains` while some are missing."""
    n = finding.interval.n
    if finding.missing > 0:
        return f"n = {n} of {count(finding.setting.spec.seeds, 'chain')}"
    return f"n = {count(n, 'chain')}"


def number(finding: Finding) -> str:
    """`+1.8 points (99 % CI 1.3 to 2.3, n = 30 chains)`; `not run` where there is none."""
    if not finding.interval.n:
        return "not run"
    mean, around = _parts(finding)
    return f"{mean} ({around})"


def _parts(finding: Finding) -> tuple[str, str]:
    interval, scale, digits = finding.interval, factor(finding.measure), digits_of(finding)
    mean = f"{told(scale * interval.mean, digits, sign=True)} {unit_words(finding.measure)}"
    if not known(interval.low):
        return mean, f"no interval yet, {chains_words(finding)}"
    span = f"{told(scale * interval.low, digits)} to {told(scale * interval.high, digits)}"
    return mean, f"{confidence_words(interval.confidence)} {span}, {chains_words(finding)}"


def status_word(finding: Finding) -> str:
    """`supported`, `supported by less than what counts`, `refuted, no difference that counts`, `undecided`,
    `not run`."""
    if finding.status == "supported" and finding.why:
        return f"supported {finding.why}"
    if finding.status != "refuted":
        return finding.status
    return f"refuted, {finding.why or _WORSE}"


def counts_words(claim: Claim) -> str:
    """How large a difference has to be to count: `0.3 points`, `0.1 points per doubling`; once per unit."""
    measures = [trial.measure(SETTINGS[trial.setting]) for trial in claim.trials]
    first: dict[str, Measure] = {}
    for measure in measures:
        first.setdefault(unit_words(measure), measure)
    return "; ".join(map(_counts, first.values()))


def _counts(measure: Measure) -> str:
    turn = measure.turn * factor(measure)
    where = f"; the claim turns at {told(turn, 1)}" if turn else ""
    return f"{told(measure.margin * factor(measure), 3).rstrip('0')} {unit_words(measure)}{where}"


def share_words(row: Row) -> str:
    """In how many of the settings where a claim was tested it is supported: `3 of 8`; empty where it was not."""
    run = row.run
    return f"{sum(found.status == 'supported' for found in run)} of {len(run)}" if run else ""


def settings_words(claim: Claim) -> list[str]:
    """What each setting of a claim trains with: its epochs, images, rate, T, lam and seeds."""
    places = dict.fromkeys(trial.setting for trial in claim.trials)
    return [f"{SETTINGS[name].short}: {schedule_words(SETTINGS[name].spec)}" for name in places]


def registered_word(finding: Finding) -> str:
    return "pre-registered" if finding.trial.registered else "exploratory"


def origin_words(origin: str | None) -> str:
    """`cached`; `partly live, partly cached`."""
    parts = (origin or "").split("+")
    return origin or "" if len(parts) == 1 else ", ".join(f"partly {part}" for part in parts)


def precision_words(finding: Finding) -> str:
    """Said where what is compared was not all trained in the same precision; else empty."""
    return f"trained partly in {' and partly in '.join(finding.precisions)}" if len(finding.precisions) > 1 else ""


def place(finding: Finding) -> str:
    """The setting in words, with what is different in a variant."""
    variant = f", {finding.trial.variant}" if finding.trial.variant else ""
    return f"{finding.setting.label}{variant}"


def finding_sentence(finding: Finding) -> str:
    """One finding with all it rests on."""
    if not finding.interval.n:
        wanted = count(finding.setting.spec.seeds, "chain")
        return f"Not run: {place(finding)} ({registered_word(finding)}, {wanted})."
    mean, around = _parts(finding)
    kind, origin, precision = registered_word(finding), origin_words(finding.origin), precision_words(finding)
    parts = [around, finding.pair, place(finding), kind, origin, precision]
    said = f"{capital(status_word(finding))}: {mean} ({'; '.join(part for part in parts if part)})."
    if finding.status != "undecided":
        return said
    if finding.why:
        return f"{said} {finding.why}"
    if finding.seeds_needed is not None:
        return f"{said} {count(finding.seeds_needed, 'chain')} or more may settle it (an estimate: about even odds)."
    return said


def claim_sentence(row: Row) -> str:
    """A claim in one sentence: in which settings it came out how, with the number of the one that leads."""
    if not row.run:
        return f"{row.claim.title}: not run."
    found = (row.leading, *(found for found in row.run if found is not row.leading))
    return f"{row.claim.title}: {_by_status(found, (row.leading,))}."


def variant_sentence(row: Row, variant: str) -> str:
    """The same of one of its variants, with the number of every setting; empty where it was not run."""
    found = [found for found in row.variants if found.trial.variant == variant and found.interval.n]
    return f"The same {variant}: {_by_status(found, found)}." if found else ""


def headline_sentence(row: Row) -> str:
    """What was found about one assistant in one sentence: the number of the leading setting and how many support it,
    and the same against direct KD that trains as many epochs, where the opposite is told as well."""
    if not row.run:
        return claim_sentence(row)
    lead = row.leading
    longer = [found for found in row.variants if found.trial.variant == AS_LONG and found.interval.n]
    said = f"One teacher assistant gives {number(lead)} over direct KD in “{lead.setting.short}”"
    said += f" and is supported in {share_words(row)} settings"
    there = next((found for found in longer if found.setting is lead.setting), None)
    if there is not None:
        looks = [mark_name(found.status, found.why) for found in longer]
        kind = "" if there.trial.registered else ", exploratory"
        said += f"; over direct KD that trains as many epochs as both together it gives {number(there)} there{kind}"
        said += f", and is supported in {looks.count('supported')} of {len(longer)}, the opposite in "
        said += f"{looks.count('reversed')}"
    return f"{said}."


def _by_status(found: Sequence[Finding], numbered: Sequence[Finding]) -> str:
    groups: dict[str, list[str]] = {}
    for one in found:
        told_of = [*(_parts(one) if one in numbered else ()), *([] if one.trial.registered else ["exploratory"])]
        number = f" ({', '.join(told_of)})" if told_of else ""
        groups.setdefault(status_word(one), []).append(f"{one.setting.short}{number}")
    of = f" of {count(len(found), 'setting')}"
    said = (
        f"{status} in {len(where)}{'' if at else of} ({'; '.join(where)})"
        for at, (status, where) in enumerate(groups.items())
    )
    return "; ".join(said)


def deciding(rows: Iterable[Row]) -> list[tuple[Row, Finding]]:
    """Every finding that decides, with its claim."""
    return [(row, found) for row in rows for found in row.findings if found.decides]


def board_sentence(rows: Sequence[Row]) -> str:
    """The board in a few sentences."""
    return " ".join(board_sentences(rows))


def board_sentences(rows: Sequence[Row]) -> list[str]:
    """How many tests say what, and what they say of the two questions of this program, at equal cost too."""
    tests = [found for _, found in deciding(rows)]
    at = sums(rows)
    if at["not run"] == len(tests):
        settings = len({found.setting.name for found in tests})
        return [
            f"Nothing is tested yet: {count(len(rows), 'claim')}, {count(len(tests), 'test')} in "
            f"{count(settings, 'setting')}, none of which has been run."
        ]
    seen = _exploratory(tests)
    total = (
        f"Of {count(len(tests), 'test')} of {count(len(rows), 'claim')}, "
        f"{_verb(at['supported'], 'supports', 'support')} the claim{f' ({seen} exploratory)' if seen else ''}, "
        f"{_verb(at['reversed'], 'finds', 'find')} the opposite, "
        f"{_verb(at['nothing'], 'finds', 'find')} no difference that counts, "
        f"{_verb(at['undecided'], 'is', 'are')} undecided, {_verb(at['not run'], 'was', 'were')} not run"
        f"{_elsewhere(tests)}."
    )
    asked = [_in_its_settings(row) for row in rows if row.claim.name in ASKED and row.leading.interval.n]
    longer = [variant_sentence(row, AS_LONG) for row in rows if row.claim.name == HEADLINE]
    return [total, *asked, *filter(None, longer)]


def sums(rows: Sequence[Row]) -> dict[str, int]:
    """How many tests stand at each row of MARKS."""
    found = [mark_name(found.status, found.why) for _, found in deciding(rows)]
    return {look: found.count(look) for look in MARKS}


def counted(rows: Sequence[Row]) -> str:
    """What the sums are of, for the line beside them."""
    tests = [found for _, found in deciding(rows)]
    seen = _exploratory(tests)
    where = _elsewhere(tests).removeprefix(", ")
    text = f"{count(len(tests), 'test')} of {count(len(rows), 'claim')}."
    text += f" Of those that support {_verb(seen, 'is', 'are')} exploratory." if seen else ""
    return f"{text} Not run: {where}." if where else text


def _in_its_settings(row: Row) -> str:
    """In how many settings a claim is supported, and the number of the one that leads."""
    supported = sum(found.status == "supported" for found in row.run)
    lead, (mean, around) = row.leading, _parts(row.leading)
    first = "first pre-registered one" if lead.trial.registered else "first"
    return (
        f"“{row.claim.title}”: supported in {supported} of {count(len(row.run), 'setting')}; the {first} says {mean} "
        f"({around}; {lead.setting.short})."
    )


def _exploratory(tests: Sequence[Finding]) -> int:
    """How many of those that support are exploratory."""
    return sum(found.status == "supported" and not found.trial.registered for found in tests)


def _elsewhere(tests: Sequence[Finding]) -> str:
    """How many of those not run are in settings in which nothing was run."""
    drawn = {found.setting.name for found in tests if found.interval.n}
    number = sum(found.setting.name not in drawn for found in tests)
    share = "all" if number == sum(not found.interval.n for found in tests) else f"{number} of them"
    return f", {share} in settings without any run" if number else ""


def spread_sentence(row: Row) -> str:
    """How a claim came out over its settings: "In all: supported in 2 of 6 settings, undecided in 2, refuted in 2."
    Empty where it was run in one."""
    found = [status_word(one) for one in row.run]
    if len(found) < 2:
        return ""
    counts = Counter(found).most_common()
    said = [f"{status} in {n}{'' if at else f' of {len(found)} settings'}" for at, (status, n) in enumerate(counts)]
    return f"In all: {'; '.join(said)}."


def _verb(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def not_run(findings: Iterable[Finding]) -> str:
    """Those of some findings that have no run, in one sentence; empty where there are none."""
    left = [
        finding.setting.short + (f" ({finding.trial.variant})" if finding.trial.variant else "")
        for finding in findings
        if not finding.interval.n
    ]
    return f"Not run: {'; '.join(left)}." if left else ""


def board_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """One row per finding (FRAME_COLUMNS). mean, low and high are in `unit`, accuracies in points; confidence is a
    share; status is as the board has it and `why` its reason."""
    found: list[dict[str, object]] = []
    for row in rows:
        claim = row.claim
        head = {"number": claim.number, "claim": claim.name, "title": claim.title, "family": FAMILIES[claim.family]}
        found += [head | _frame_row(finding) for finding in row.findings]
    frame = pd.DataFrame(found, columns=list(FRAME_COLUMNS))
    words = dict.fromkeys(("setting", "variant", "status", "why", "unit", "origin"), "")
    kinds = {"seeds_needed": "Int64", "missing": "Int64", "registered": "boolean", "n": "int64"}
    return frame.fillna(words).astype(kinds)


def _frame_row(finding: Finding) -> dict[str, object]:
    interval, scale = finding.interval, factor(finding.measure)
    return {
        "setting": finding.setting.short, "variant": finding.trial.variant, "status": finding.status,
        "why": finding.why, "unit": unit_words(finding.measure), "mean": scale * interval.mean,
        "low": scale * interval.low, "high": scale * interval.high, "confidence": interval.confidence,
        "n": interval.n, "p": finding.p, "p_holm": finding.p_holm, "seeds_needed": finding.seeds_needed,
        "registered": finding.trial.registered, "origin": finding.origin or "", "missing": max(finding.missing, 0),
    }  # fmt: skip


def shown_settings(rows: Sequence[Row]) -> list[str]:
    """Short names of the settings a figure has room for: those of hours on a GPU only where something is there."""
    found: dict[str, bool] = {}
    for _, finding in deciding(rows):
        setting = finding.setting
        there = finding.interval.n > 0 or setting.spec.budget != "paper"
        found[setting.short] = found.get(setting.short, False) or there
    return [name for name, there in found.items() if there]


def alt_board(rows: Sequence[Row]) -> str:
    """The board in words: every claim with its statuses."""
    shown = shown_settings(rows)
    said = []
    for row in rows:
        cells = [f"{f.setting.short} {_alt_cell(f)}" for f in row.findings if f.decides and f.setting.short in shown]
        said.append(f"{row.claim.number}, {row.claim.title}: {', '.join(cells)}")
    return f"Claims by setting. {board_sentence(rows)} {'. '.join(said)}."


def _alt_cell(finding: Finding) -> str:
    if not finding.interval.n:
        return "not run"
    return f"{status_word(finding)} ({told(factor(finding.measure) * finding.interval.mean, digits_of(finding))})"


def cells(rows: Sequence[Row]) -> pd.DataFrame:
    """What the board's figure draws: a row per claim and shown setting that decides, with `look` as in MARKS."""
    shown = shown_settings(rows)
    found: list[dict[str, object]] = []
    for row in rows:
        claim = row.claim
        head = {"claim": claim.name, "number": claim.number, "title": claim.title, "family": claim.family}
        for finding in row.findings:
            if finding.decides and finding.setting.short in shown:
                look = mark_name(finding.status, finding.why)
                cell = {"setting": finding.setting.short, "look": look, "filled": finding.trial.registered}
                cell |= {"status": capital(status_word(finding)), "told": number(finding), "n": finding.interval.n}
                found.append(
                    head | cell | {"kind": registered_word(finding), "origin": origin_words(finding.origin) or "–"}
                )
    names = ["claim", "number", "title", "family", "setting", "look", "filled", "status", "told", "n", "kind", "origin"]
    return pd.DataFrame(found, columns=names)
