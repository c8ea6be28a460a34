"""The commands that put a finished run into one file, and take such a file in."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click

from takd.cli.output import Refused, Session, common
from takd.runs.bundle import write_bundle
from takd.runs.bundle_import import import_bundle
from takd.runs.store import open_store


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("-o", "--output", metavar="FILE", help="Where to; default: takd-RUN.zip in this folder.")
@click.option("--no-weights", is_flag=True, help="Leave the networks' weights out; every number stays.")
@common
def bundle(session: Session, run_id: str, output: str | None, no_weights: bool) -> None:
    """Put a finished RUN into one file, to be opened with `import` on another machine."""
    store = open_store(session.store)
    target = Path(output or f"takd-{run_id if len(run_id) <= 64 else 'run'}.zip")
    if "\0" in str(target) or target.exists():
        raise Refused([f"{target.name[:80]} already exists; name another file with -o."])
    hidden = target.with_name(f".{target.name[:80]}.{secrets.token_hex(4)}.tmp")
    try:
        with open(hidden, "xb") as file:
            stages = write_bundle(store, run_id, file, weights=not no_weights)
        os.replace(hidden, target)
    finally:
        hidden.unlink(missing_ok=True)
    size = target.stat().st_size
    session.answer(
        {"run": run_id, "file": str(target), "bytes": size, "stages": stages, "weights": not no_weights},
        f"Run {run_id} is in {target}: {stages} trainings, {size / 1e6:,.1f} MB.",
        f"On another machine: python -m takd import {target.name}",
    )


@click.command("import")
@click.argument("file", metavar="FILE")
@common
def import_(session: Session, file: str) -> None:
    """Take in a run that was put into FILE with `bundle`, or downloaded from the Runs page.

    Everything in it is checked first; a file that is not sound is refused and leaves nothing behind.
    """
    if "\0" in file or not os.path.isfile(file):
        raise Refused([f"There is no file {file[:80]!r}; name one that was made with: python -m takd bundle RUN"])
    store = open_store(session.store)
    with open(file, "rb") as opened:
        found = import_bundle(store, opened)
    from takd.presentation.runs.bundle_words import imported_sentences

    again = f" --store {session.store}" if session.store else ""
    session.answer(
        {
            "run": found.run_id,
            "known": found.known,
            "origin": found.origin,
            "stages": found.stages,
            "own": found.own,
            "kept": found.kept,
            "weights": found.weights,
        },
        *imported_sentences(found),
        f"Look at it: python -m takd show {found.run_id}{again}; check its numbers: "
        f"python -m takd verify {found.run_id}{again}",
    )
