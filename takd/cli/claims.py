"""The commands about the field's claims: what the stored runs say about each, and doing one again from nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from takd.budgets import BUDGETS
from takd.claims import amendments
from takd.claims.claim import Claim, Trial
from takd.claims.library import Entry, rises_of, trial_questions
from takd.claims.settings import SETTINGS, Setting, schedule_words
from takd.claims.table import CLAIMS, find_claim
from takd.cli.output import Meter, Refused, Session, common, quoted, table
from takd.data.catalogue import available_datasets, is_ready
from takd.data.table import Dataset
from takd.evaluation.twice import SHARES, Apart, apart
from takd.plan import Plan
from takd.runs import library as shelves
from takd.runs.policy import require_changes_allowed
from takd.runs.states import RunInfo
from takd.runs.store import Store, open_store

if TYPE_CHECKING:
    from takd.analysis.claims import Finding

DIFFERENT = 1


@click.command()
@click.argument("claim", required=False)
@click.option("--markdown", is_flag=True, help="All of them in Markdown: docs/claims.md.")
@common
def claims(session: Session, claim: str | None, markdown: bool) -> None:
    """The field's claims and what the stored runs say about them; with CLAIM (a number or name) all about one."""
    from takd.analysis.best_of import CLAIM, best_of
    from takd.analysis.claims import board
    from takd.presentation.claims import words
    from takd.presentation.claims.answers import Reader
    from takd.presentation.claims.best_words import best_of_sentence

    store, datasets = open_store(session.store), available_datasets()
    chosen = [_claim(claim)] if claim is not None else None
    rows = board(store, datasets, Reader(store), chosen)
    value = {"claims": words.board_frame(rows).to_dict("records")}
    if markdown:
        from takd.presentation.claims.markdown import page

        session.answer(value, page(rows).rstrip())
        return
    if chosen is None:
        cells = [
            [
                *(row.claim.number, row.claim.title, row.leading.setting.short),
                *(words.status_word(row.leading), words.share_words(row)),
            ]
            for row in rows
        ]
        columns = ["", "claim", "first in", "status there", "supported in"]
        more = "Numbers, intervals and the other settings: python -m takd claims NUMBER"
        session.answer(value, table(columns, cells, right=columns[:1]), words.board_sentence(rows), more)
        return
    (row,) = rows
    asked = row.claim
    lines = [
        f"{asked.number}. {asked.title}",
        f"Source: {asked.source}. Published, not measured here: {asked.published}.",
        f"Experiment: {asked.experiment}.",
        f"Rule: {asked.rule}",
        f"What counts: {words.counts_words(asked)}.",
        *(f"In {line}." for line in words.settings_words(asked)),
        *(f"{row.word}: {row.text}" for row in amendments.of(asked.name)),
        "",
        *(f"- {words.finding_sentence(found)}" for found in row.findings),
    ]
    if asked.name == CLAIM and (more := best_of_sentence(best_of(store, datasets, Reader(store)))):
        lines += ["", more]
    session.answer(value, *lines)


def _claim(text: str) -> Claim:
    found = find_claim(text)
    if found is None:
        names = ", ".join(f"{row.number} {row.name}" for row in CLAIMS.values())
        raise Refused([f"{quoted(text)} is no claim; give the number or name of one: {names}."])
    return found


@click.command()
@click.argument("claim")
@click.option("--setting", metavar="NAME", help=f"Where: {', '.join(SETTINGS)}. Default: the first that is on digits.")
@click.option("--budget", type=click.Choice(list(BUDGETS)), help="How long; default: as the setting says.")
@click.option("--seeds", type=click.IntRange(1, 100), help="How many chains; default: as the setting says.")
@click.option("--variants", is_flag=True, help="Its variants in this setting too, as published or at equal cost.")
@click.option("--keep", metavar="DIR", help="Keep the trainings in this folder; default: they are thrown away.")
@common
def reproduce(
    session: Session,
    claim: str,
    setting: str | None,
    budget: str | None,
    seeds: int | None,
    variants: bool,
    keep: str | None,
) -> None:
    """Train everything a CLAIM rests on again, from nothing, and compare with what is stored, network by network too.

    No stored training is used. Ends with 0 where the status is the stored one or nothing is stored, 1 where it is not.
    """
    require_changes_allowed()
    asked = _claim(claim)
    trial = _trial(asked, setting)
    place = SETTINGS[trial.setting]
    if not is_ready(place.spec.dataset):
        name = place.spec.dataset
        raise Refused([f"The images of {name} are not here; get them first: python -m takd data prepare {name}."])
    spec = replace(place.spec, seeds=seeds or place.spec.seeds)
    if budget is not None:  # all of it, whatever number of epochs the setting has of its own
        spec = replace(spec, budget=budget, epochs=0)
    again = replace(place, spec=spec)
    beside = [other for other in asked.trials if other.variant and other.setting == trial.setting] if variants else []
    if keep is not None:
        _reproduce(session, asked, (trial, *beside), again, Path(keep))
        return
    with tempfile.TemporaryDirectory(prefix="takd-reproduce-") as folder:
        _reproduce(session, asked, (trial, *beside), again, Path(folder))


def _trial(claim: Claim, setting: str | None) -> Trial:
    own = [trial for trial in claim.trials if not trial.variant]
    if setting is None:
        return next((trial for trial in own if trial.setting.startswith("digits")), own[0])
    for trial in own:
        if trial.setting == setting:
            return trial
    known = ", ".join(trial.setting for trial in own)
    raise Refused([f"Claim {claim.number} is not tested in {quoted(setting)}; choose one of {known}."])


def _reproduce(session: Session, claim: Claim, trials: Sequence[Trial], setting: Setting, folder: Path) -> None:
    """Train and compare; the first trial is the claim itself, the others its variants."""
    from takd.analysis.claims import board
    from takd.presentation.claims.answers import Reader

    datasets, fresh, known = available_datasets(), Store(folder.absolute()), open_store(session.store)
    if (problem := fresh.writable()) is not None:
        raise Refused([problem])
    questions = {spec: name for trial in trials for name, spec in trial_questions(trial, setting)}
    wished = [Entry(name, spec, 1.0, 0.0, (claim.name,)) for spec, name in questions.items()]
    dataset = datasets[setting.spec.dataset]
    with Meter() as meter:

        def watch(run: RunInfo) -> None:
            meter.show("Training", run.stages_done / max(1, run.stages_total), f"{run.stages_done}/{run.stages_total}")

        shelves.train_next(fresh, datasets, wished, float("inf"), session.say, watch=watch)
        shelves.look_around(fresh, frozenset().union(*(rises_of(trial, setting, dataset) for trial in trials)))
    (row,) = board(known, datasets, Reader(known), [claim])
    there = {finding.trial: finding for finding in row.findings}
    found = [_again(claim, there[trial], setting, dataset, fresh, known) for trial in trials]
    networks = _networks((entry.plan(datasets) for entry in wished), fresh, known)
    trained = f"Trained now: {schedule_words(setting.spec)}."
    lines: list[Any] = [f"{claim.number}. {claim.title}", trained, *(line for _, lines in found for line in lines)]
    if networks:
        lines += ["Network by network, now and stored:", table(_COLUMNS, _cells(networks), right=_COLUMNS[1:])]
    value = {"claim": claim.name, "setting": setting.name, **found[0][0]}
    value |= {"variants": [row for row, _ in found[1:]], "networks": [asdict(row) for row in networks]}
    session.answer(value, *lines)
    same = value["stored"] is None or value["stored"]["status"] == value["now"]["status"]
    session.leave(0 if same else DIFFERENT)


def _again(
    claim: Claim, there: Finding, setting: Setting, dataset: Dataset, fresh: Store, known: Store
) -> tuple[dict[str, Any], list[str]]:
    """What a trial of the board (`there`) gives now and gave before, as values and as lines."""
    from takd.analysis.claims import ALPHA, alone
    from takd.presentation.claims import words
    from takd.presentation.claims.answers import Reader

    trial = there.trial
    same = setting == there.setting  # then all is told at the board's confidence, which is that of several tests
    alpha = 1 - there.interval.confidence if same and there.interval.n else ALPHA
    now, values = alone(claim, trial, setting, fresh, dataset, Reader(fresh), alpha)
    before, stored = alone(claim, trial, setting, known, dataset, Reader(known), alpha)
    shared = sorted(set(values.seeds) & set(stored.seeds))
    gaps = [
        float(abs(values.values[values.seeds.index(s)] - stored.values[stored.seeds.index(s)]).max()) for s in shared
    ]
    value: dict[str, Any] = {
        "variant": trial.variant,
        "now": _numbers(now),
        "stored": _numbers(before) if before.interval.n else None,
        "board": _numbers(there) if there.interval.n else None,
        "seeds_compared": len(shared),
        "seeds_equal": sum(gap == 0 for gap in gaps),
        "largest_difference": max(gaps, default=None),
    }
    lines = [f"Now: {words.finding_sentence(now)}"]
    shown = []
    if not same and there.interval.n:
        shown = [f"On the board ({schedule_words(there.setting.spec)}): {words.finding_sentence(there)}"]
    if not before.interval.n:
        nothing = "Nothing of it is stored with these choices, so there is nothing to compare with, network by network."
        return value, [*lines, nothing, *shown]
    lines += [f"Stored: {words.finding_sentence(before)}", *shown]
    lines.append(f"{value['seeds_equal']} of {len(shared)} chains gave exactly the stored numbers.")
    return value, lines


def _networks(plans: Iterable[Plan], fresh: Store, known: Store) -> list[Apart]:
    """How far the numbers of the networks lie apart that are here and there."""
    keys = dict.fromkeys(key for plan in plans for key in plan.stages)
    results = ((fresh.result(key), known.result(key)) for key in keys)
    return list(apart((now, stored) for now, stored in results if now is not None and stored is not None))


_COLUMNS = ["number", "networks", "equal", "median difference", "largest"]


def _cells(rows: Iterable[Apart]) -> Iterator[list[str]]:
    for row in rows:
        scale, unit = (100, "points") if row.number in SHARES else (1, "nats")
        gaps = (f"{scale * gap:.3g} {unit}" for gap in (row.median, row.largest))
        yield [row.number, str(row.trainings), str(row.equal), *gaps]


def _numbers(found: Finding) -> dict[str, Any]:
    interval = found.interval
    return {"status": found.status, "n": interval.n, "mean": interval.mean, "low": interval.low, "high": interval.high}
