"""The command that frees disk space in the store: what can be had again goes, results never do."""

from __future__ import annotations

import click

from takd.cli.output import Session, common, table
from takd.runs.store import open_store
from takd.runs.tidy import remove, spare

_MOST_ROWS = 20  # shown to people; --json has all
_MB = 2**20


@click.command()
@click.option("--yes", is_flag=True, help="Do it. Without this, only say what would be freed.")
@click.option("--keep", type=click.IntRange(min=0), default=0, metavar="MB", help="Keep this much of what saves time.")
@common
def tidy(session: Session, yes: bool, keep: int) -> None:
    """Free disk space: teachers' answers that are kept to save time, and what killed processes left.

    Results, weights and runs stay, and nothing an active run needs is touched. Answers are computed again when a run
    asks for them.
    """
    store = open_store(session.store)
    found = spare(store, keep * _MB)
    size = sum(one.bytes for one in found)
    freed = remove(store, found) if yes else 0
    rows = [
        {"path": str(one.path.relative_to(store.root)), "bytes": one.bytes, "what": one.what, "stage": one.key}
        for one in found
    ]
    largest = sorted(found, key=lambda one: -one.bytes)[:_MOST_ROWS]
    cells = [[str(one.path.relative_to(store.root)), f"{one.bytes / _MB:.2f}", one.what] for one in largest]
    shown = [table(["file", "MB", "what"], cells, right=["MB"])] if found else []
    if yes:
        said = f"{freed / _MB:.1f} MB are free now."
    elif found:
        said = f"{size / _MB:.1f} MB in {len(found)} files could be freed. Do it with: python -m takd tidy --yes"
    else:
        said = "There is nothing to free."
    session.answer({"spare": rows, "bytes": size, "freed": freed, "done": yes}, *shown, said)
