"""The command that recomputes stored numbers and says which do not agree."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from takd.cli.output import INTERRUPTED, Meter, Refused, Session, common, table
from takd.runs.jobs import LOG
from takd.runs.stamps import Stamp, read_stamp
from takd.runs.store import Store, open_store
from takd.runs.sums import wrong_files
from takd.runs.verification import Verification, start, stop, verification

DIFFERENT = 1
_LOOK = 0.1  # seconds between looks at the check
LONGEST = 1e6  # seconds large networks may be trained again: more than all of them take
_MORE = (
    "Large networks can be trained again too, in hours: python -m takd verify --all --again SECONDS. "
    "What one claim reads: python -m takd reproduce CLAIM --setting NAME --variants"
)
_MOST_ROWS = 40  # differences shown to people; --json has all


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option(
    "--all", "everything", is_flag=True, help="Every run and every stage, including those that come with the program."
)
@click.option(
    "--again",
    type=click.FloatRange(min=0.0, max=LONGEST),
    default=0.0,
    metavar="SECONDS",
    help="Train large networks that came with the program again too, for so long. They are kept in verified/again of "
    "the store, and asked again, it goes on there.",
)
@common
def verify(session: Session, run_id: str | None, everything: bool, again: float) -> None:
    """Recompute every number of RUN from its own files, and report each difference.

    Rows of the epochs, test answers and weights are asked, and small networks that came with the program without them
    are trained again. Ends with 0 where all numbers agree, 1 where some do not, 2 where the check cannot be done.
    Ctrl-C stops it.
    """
    if everything == (run_id is not None):
        raise Refused(["Name a run (python -m takd list shows them), or ask for --all."])
    store = open_store(session.store)
    number = start(store, run_id or "", again=again)
    try:
        ended = _follow(store, number)
    except KeyboardInterrupt:
        stop(store)
        session.say("The check is stopped.")
        session.leave(INTERRUPTED)
    stamp = read_stamp(store, run_id or "") if ended.state == "done" else None
    if stamp is None:
        log = store.root / "verified" / LOG
        raise Refused([f"The check did not finish ({ended.text or ended.state}); see {log}."])
    changed = {path: pair for root in store.cached for path, pair in wrong_files(root).items()} if everything else {}
    _report(session, stamp, changed)
    session.leave(DIFFERENT if stamp.differences or changed else 0)


def _follow(store: Store, number: str) -> Verification:
    with Meter() as meter:
        while True:
            now = verification(store)
            if now is None or now.id != number:
                raise Refused(
                    ["Another check of this store was started at the same moment; try again when it is done."]
                )
            if not now.active:
                return now
            known = now.state == "running" and now.total > 0
            text = f"Checking {now.total} stages" if known else "Starting the check"
            meter.show(text, now.share if known else None, now.text)
            time.sleep(_LOOK)


def _report(session: Session, stamp: Stamp, changed: Mapping[str, tuple[str, str]]) -> None:
    from takd.presentation.runs.stamp_words import skipped_sentences, stamp_sentence, ties_sentence

    value = stamp.to_json()
    found = stamp.differences
    sentence = stamp_sentence(stamp)
    good = "" if found or changed else " No difference was found in what could be checked."
    shown: list[Any] = [f"{f'Run {stamp.run}' if stamp.run else 'Everything stored'}.{good} {sentence}."]
    if found:
        cells = [[s.key[:8], s.title, d.what, d.stored, d.found] for s, d in found[:_MOST_ROWS]]
        shown.append(table(["stage", "training", "what", "stored", "found"], cells))
    if len(found) > _MOST_ROWS:
        shown.append(f"and {len(found) - _MOST_ROWS} more; --json shows all.")
    if changed:
        shown.append("Files that came with the program and are not as its list of sums says:")
        shown += [f"- {path}: {listed[:12]}, found {now[:12]}" for path, (listed, now) in changed.items()]
    shown += [f"- {text}" for text in (*skipped_sentences(stamp), ties_sentence(stamp)) if text]
    if not stamp.run and skipped_sentences(stamp):
        shown.append(_MORE)
    more = {"equal": not (found or changed), "sentence": sentence, "changed_files": sorted(changed)}
    session.answer(value | more, *shown)
