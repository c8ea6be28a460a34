"""The commands about what runs there are: the list with the queue's order, moving a run in it, and the question before
a run of hours."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from takd.cli.output import Refused, Session, common, table
from takd.parameters import LEFT_TO_BUDGET
from takd.runs.policy import LONG_SECONDS
from takd.runs.queue import MOVES, Queued, queue
from takd.runs.queue import move as move_run
from takd.runs.states import RunInfo, list_runs, run_info
from takd.runs.store import open_store


@click.command("list")
@common
def list_(session: Session) -> None:
    """List the runs. Newest first; those that come with the program are `cached`."""
    store = open_store(session.store)
    runs = list_runs(store)
    order = {entry.run.id: entry for entry in queue(store)}
    names = ("state", "origin", "spec", "stages_done", "stages_total", "created", "asked_by")
    rows = [{"run": r.id} | {name: getattr(r, name) for name in names} | _timing(order.get(r.id)) for r in runs]
    cells = [
        [
            r.id,
            _state(order.get(r.id), r),
            r.origin,
            _in_short(r.spec),
            f"{r.stages_done}/{r.stages_total}",
            r.asked_by,
            r.created[:19],
        ]
        for r in runs
    ]
    hint = [] if runs else ["No runs yet. Start one with: python -m takd run --preset digits-noise"]
    columns = ["run", "state", "origin", "experiment", "trainings", "asked for by", "created (UTC)"]
    session.answer({"runs": rows}, table(columns, cells, right=["trainings"]), *hint)


def _timing(entry: Queued | None) -> dict[str, Any]:
    """Place in the queue and seconds, for programs; empty for a run that neither trains nor waits."""
    if entry is None:
        return {}
    times = {"starts_in_seconds": entry.starts_in, "left_seconds": entry.left}
    return {"position": entry.run.position} | {k: v if v is None else round(v, 1) for k, v in times.items()}


def _state(entry: Queued | None, run: RunInfo) -> str:
    from takd.presentation.captions import starts_in
    from takd.presentation.formats import duration

    if entry is None:
        return run.look.word
    if entry.run.position is None:
        return f"{run.look.word}, {duration(entry.left)} left" if entry.left is not None else run.look.word
    hangs = ", no sign of life" if entry.run.cause == "quiet" else ""
    return f"{run.look.word}: {starts_in(entry.starts_in, entry.run.position - 1)}{hangs}"


def _in_short(spec: Mapping[str, Any]) -> str:
    """An experiment in one cell; the values come from a file and may be anything."""
    among = spec.get("assistants")
    path = [spec.get("teacher"), *(among if isinstance(among, list) else ()), spec.get("student")]
    noise = f" noise {spec.get('noise')}" if spec.get("noise") else ""
    own = "".join(f" {name} {spec.get(name)}" for name in LEFT_TO_BUDGET if spec.get(name))
    text = f"{spec.get('dataset')} {spec.get('method')} {' > '.join(map(str, path))} {spec.get('budget')}{own}{noise}"
    return f"{text[:100]}, {str(spec.get('seeds'))[:5]} seed(s), {str(spec.get('scope'))[:10]}"


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--to", type=click.Choice(MOVES), required=True, help="front, back, or one place up or down.")
@common
def move(session: Session, run_id: str, to: str) -> None:
    """Move a waiting run in the queue."""
    store = open_store(session.store)
    move_run(store, run_id, to)
    info = run_info(store, run_id)
    place = (
        "It is not waiting any more." if info.position is None else f"It is number {info.position} of those waiting."
    )
    session.answer({"run": run_id, "state": info.state, "position": info.position}, f"Run {run_id}: {place}")


def agree_to_time(session: Session, seconds: float, yes: bool) -> None:
    """Ask before a run of an hour or more, unless --yes was given. Raises Refused where the answer is no, or there is
    nobody to ask."""
    if yes or seconds < LONG_SECONDS:
        return
    from takd.presentation.captions import long_run

    if session.as_json or not sys.stdin.isatty():
        raise Refused([f"{long_run(seconds)} Add --yes to start it."])
    session.say(long_run(seconds))
    if not click.confirm("Start it?", err=True):
        raise Refused(["Nothing was started."])
