"""The board in Markdown: docs/claims.md and a part of the README, which a test holds to the stored runs."""

from __future__ import annotations

from collections.abc import Sequence

from takd.analysis.claims import SMALL, Finding, Row
from takd.claims.amendments import AMENDMENTS
from takd.claims.library import HEADLINE
from takd.claims.measures import AS_LONG
from takd.claims.settings import SETTINGS, Setting, schedule_words, values_of
from takd.presentation.claims.marks import mark_name
from takd.presentation.claims.words import CHANGED, claim_sentence, headline_sentence, number, variant_sentence

SIGNS: dict[str, str] = {
    "supported": "✓",
    "nothing": "≈",
    "reversed": "✗",
    "undecided": "?",
    "not run": "·",
}
KEY = (
    "✓ supported (small: by less than what counts), ✗ refuted, ≈ refuted: no difference that counts, ? undecided, "
    "· not run; * exploratory: somebody had seen results of these seeds in this setting before the rule was written "
    "down, or the rule was changed since. Above zero speaks for the claim; claim 22 says “no worse” and turns at "
    "−0.3 points, claim 25 at 0.1. What counts: 0.3 points, 0.1 per doubling or further assistant, 0.02 nats (0.001 "
    "per doubling), kappa 0.01. n counts independent chains; intervals are corrected (Holm) within a topic and "
    "setting (exploratory ones over all its tests), and those about the best of several allow for the choice."
)
WITH_NUMBERS = (  # printed by their sources
    *("one-ta", "any-ta", "full-path", "rivals", "dense", "more-tas", "dropping", "early-stop", "flat-slope"),
)


def page(rows: Sequence[Row]) -> str:
    """docs/claims.md."""
    changed = "\n".join(f"{k}. {row.text}" for k, row in enumerate(AMENDMENTS, 1))
    return (
        "# The field's claims, and what the stored runs say\n\nWritten by `python -m tests.test_readme` from "
        "`cached_runs/`. Rules, experiments and every interval: `python -m takd claims NUMBER`, or the Claims page."
        f"\n\n{table(rows)}\n\n## Changed since\n\n{CHANGED}\n\n{changed}\n"
    )


def table(rows: Sequence[Row]) -> str:
    """One row per claim, one column per setting in which anything was run; below, what signs and settings mean."""
    settings = [
        setting
        for setting in SETTINGS.values()
        if any(
            found.setting is setting and found.decides and found.interval.n for row in rows for found in row.findings
        )
    ]
    head = ["claim", "published", *(setting.short for setting in settings)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        own = {found.setting.name: found for found in row.findings if found.decides}
        cells = [_cell(own.get(setting.name)) for setting in settings]
        title = f"{row.claim.number}. {row.claim.title} ({row.claim.source})"
        lines.append(f"| {' | '.join((title, row.claim.published, *cells))} |")
    where = [f"- {setting.short}: {setting.label} ({_beside_label(setting)})" for setting in settings]
    return "\n".join([*lines, "", KEY, "", *where])


def _beside_label(setting: Setting) -> str:
    """What it trains with, without what its label says."""
    said, values = schedule_words(setting.spec), values_of(setting.spec)
    return said.replace(f" {values},", "") if values in setting.label else said


def lead(rows: Sequence[Row]) -> str:
    """What the README leads with: what was found about one assistant, and at equal cost, in one sentence."""
    return f"**{headline_sentence(_headline(rows))}**"


def in_every_setting(rows: Sequence[Row]) -> str:
    """The same setting by setting."""
    row = _headline(rows)
    return "\n\n".join(said for said in (claim_sentence(row), variant_sentence(row, AS_LONG)) if said)


def _headline(rows: Sequence[Row]) -> Row:
    return next(row for row in rows if row.claim.name == HEADLINE)


def beside_published(rows: Sequence[Row]) -> str:
    """Published numbers beside those measured."""
    return table([row for row in rows if row.claim.name in WITH_NUMBERS])


def _cell(finding: Finding | None) -> str:
    if finding is None:
        return ""
    sign = SIGNS[mark_name(finding.status, finding.why)]
    if not finding.interval.n:
        return sign
    small = " small" if finding.why == SMALL else ""
    return f"{sign}{small}{'' if finding.trial.registered else ' *'} {number(finding)}"
