"""The commands about the library of cached runs: what it should hold, what is there, and training what is missing."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import click

from takd.claims.library import FILE, all_rises, write
from takd.cli.output import INTERRUPTED, Commands, Meter, Refused, Session, common, quoted, table
from takd.data.catalogue import available_datasets
from takd.runs import files
from takd.runs import library as shelves
from takd.runs.errors import RunError, StoreError
from takd.runs.policy import require_changes_allowed
from takd.runs.states import RunInfo
from takd.runs.store import REPO, open_store
from takd.runs.sums import renew_sums

_MOST_ROWS = 60


class _Library(Commands):
    refusals = (RunError, StoreError)


class _Seconds(click.FloatRange):
    """A time to train; "nan" is a number for click, and no clock ever reaches it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = float(super().convert(value, param, ctx))
        if math.isnan(found):
            self.fail(f"{quoted(value)} is not a number of seconds; give one from 1 on.", param, ctx)
        return found


@click.group(cls=_Library)
def library() -> None:
    """The library of cached runs: what it should hold, and training what is missing."""


@library.command("list")
@click.option("--all", "everything", is_flag=True, help="Include those that are complete.")
@common
def list_(session: Session, everything: bool) -> None:
    """What the library should hold, most value per second first, and what of it is there."""
    store, datasets = open_store(session.store), available_datasets()
    found = list(shelves.shelves(store, datasets, shelves.entries(datasets)))
    rows = [
        {
            "name": shelf.entry.name,
            "claims": shelf.entry.claims,
            "value": shelf.entry.value,
            "trainings": shelf.total,
            "cached": shelf.cached,
            "here": shelf.here,
            "seconds": round(shelf.seconds, 1),
            "ready": shelf.ready,
        }
        for shelf in found
    ]
    from takd.presentation.formats import count, duration

    shown = [s for s in found if everything or not s.complete][: None if everything else _MOST_ROWS]
    cells = [
        [
            s.entry.name,
            ", ".join(s.entry.claims),
            f"{s.cached + s.here}/{s.total}",
            duration(s.seconds) if s.seconds else "",
            "" if s.ready else "data not here",
        ]
        for s in shown
    ]
    complete = sum(s.complete for s in found)
    left = sum(s.seconds for s in found)
    lines = [
        f"{complete} of {count(len(found), 'question')} are complete; the others take about {duration(left)} here."
    ]
    if any(s.guessed for s in found):
        lines.append("Times are rough guesses where no speed was measured here: python -m takd doctor --calibrate")
    lines.append("Train what is missing: python -m takd library next --seconds 600")
    columns = ["question", "read by", "trained", "time left", ""]
    session.answer({"entries": rows, "complete": complete}, table(columns, cells, right=columns[2:4]), *lines)


@library.command("next")
@click.option("--seconds", type=_Seconds(min=1), required=True, help="How long it may train.")
@click.option("--longest", type=_Seconds(min=1), help="Skip questions that take longer than this here.")
@click.option("--only", metavar="TEXT", default="", help="Only questions whose name contains this.")
@common
def next_(session: Session, seconds: float, longest: float | None, only: str) -> None:
    """Train what is missing, most value per second first, within the time.

    What is not finished then is stopped and goes on the next time. Any machine can do this, with or without a GPU.
    """
    require_changes_allowed()
    store, datasets = open_store(session.store), available_datasets()
    if (problem := store.writable()) is not None:
        raise Refused([problem])
    wished = [entry for entry in shelves.entries(datasets) if only in entry.name]
    with Meter() as meter:

        def watch(run: RunInfo) -> None:
            share = run.stages_done / run.stages_total if run.stages_total else None
            meter.show("Training", share, f"{run.stages_done} of {run.stages_total}")

        limit = float("inf") if longest is None else longest
        until, rises = time.monotonic() + seconds, all_rises(datasets)
        shelves.look_around(store, rises, until)  # first, or trainings would take all the time, every time
        left = max(0.0, until - time.monotonic())
        try:
            done = shelves.train_next(store, datasets, wished, left, session.say, longest=limit, watch=watch)
        except KeyboardInterrupt:
            session.say("Stopped. Nothing that was trained is lost; the same command continues from there.")
            session.leave(INTERRUPTED)
        shelves.look_around(store, rises, until)
    from takd.presentation.formats import count

    said = f"{count(len(done), 'question')} completed. Put them into the library: python -m takd library publish"
    session.answer({"completed": done}, said)


@library.command("publish")
@click.option("--to", metavar="DIR", help="The library; default: cached_runs/ of the project.")
@common
def publish(session: Session, to: str | None) -> None:
    """Copy what was trained for the list from the store to the library that travels with the program."""
    require_changes_allowed()
    store, datasets = open_store(session.store), available_datasets()
    place = Path(to) if to else REPO / "cached_runs"
    copied = shelves.shelve_all(store, datasets, shelves.entries(datasets), place, session.say)
    renew_sums(place)
    session.answer({"copied": copied, "to": str(place)}, f"{copied} trainings copied to {place}.")


@library.command("table")
@click.argument("file", metavar="FILE.csv")
@common
def table_(session: Session, file: str) -> None:
    """Write every training that is stored here as one table: choices, numbers, machine, and where it comes from.

    One row for each, and one for each of its sub-models or heads. FILE.parquet keeps every digit and takes less room.
    """
    target = Path(file)
    if "\0" in file or target.suffix not in (".csv", ".parquet"):
        raise Refused([f"{quoted(file)} is neither a .csv nor a .parquet file; name one of these."])
    if target.exists():
        raise Refused([f"{quoted(file)} already exists; name another file."])
    from takd.analysis.trainings import trainings_frame
    from takd.presentation.exports import table_bytes
    from takd.presentation.formats import count

    frame = trainings_frame(open_store(session.store))
    raw = table_bytes(frame) if target.suffix == ".csv" else frame.to_parquet(index=False)
    files.write_atomic(target, raw)
    trained, size = frame["key"].nunique() if len(frame) else 0, count(len(frame.columns), "column")
    value = {"file": file, "trainings": trained, "rows": len(frame), "columns": list(frame.columns)}
    session.answer(value, f"{count(trained, 'training')} in {count(len(frame), 'row')} of {size}: {file}")


@library.command("plan")
@click.option("--write", "keep", is_flag=True, help="Replace the repository's list.")
@common
def plan(session: Session, keep: bool) -> None:
    """Work out anew, from the claims, what the library should hold."""
    if keep:
        require_changes_allowed()
    datasets: dict[str, Any] = available_datasets()
    found = shelves.made_anew(datasets)
    if keep:
        FILE.write_bytes(write(found))
        renew_sums(FILE.parent)
    cells = [[e.name, ", ".join(e.claims), f"{e.value:g}", f"{e.seconds:,.1f}"] for e in found]
    columns = ["question", "read by", "value", "seconds it adds"]
    session.answer({"entries": [e.name for e in found]}, table(columns, cells, right=columns[2:]))
