"""Many browsers watching one live run: how long a tick takes the server, by number of sessions. Prints; no test.

    python -m benchmarks.sessions [--counts 1 10 25 50] [--seconds 20] [--period 3]

A session is what a browser is to the server: a WebSocket that opens the Playground at the run's question and asks for
the page's live part again every `period` seconds (the page's own period where 0 is given). It waits for each answer
before it asks again, as browsers do. Nothing is drawn, so the figures are the server's. It starts its own server with
an empty store, trains small CNNs on digits there meanwhile, and ends both; sessions and seconds are bounded.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from benchmarks.server import start_server
from takd.runs.errors import RunError
from takd.runs.states import run_info
from takd.runs.store import Store, open_store
from takd.runs.submit import cancel, submit
from takd.spec import ExperimentSpec, start_for, to_query

MOST_SESSIONS, MOST_SECONDS = 200, 120.0
ARRIVE = 0.2  # seconds between two browsers that open the page: a class does not click in the same instant
PATIENCE = 60.0  # seconds a session waits for an answer before it counts as lost
QUESTION = {"teacher": "cnn8-32", "assistants": ("cnn8-8",), "student": "cnn8-2", "seeds": 30, "scope": "ladder"}


@dataclass
class Seen:
    """What one session saw: seconds of its first page and of each tick, bytes received, what went wrong."""

    opened: float = 0.0
    ticks: list[float] = field(default_factory=list)
    received: int = 0
    problem: str = ""


async def answer(socket: ClientConnection, seen: Seen) -> tuple[str, float]:
    """Wait until the page has been drawn; (live part's id, its period in seconds), empty where there is none."""
    part, period = "", 0.0
    while True:
        raw = await asyncio.wait_for(socket.recv(), PATIENCE)
        seen.received += len(raw)
        message = ForwardMsg.FromString(raw if isinstance(raw, bytes) else raw.encode())
        kind = message.WhichOneof("type")
        if kind == "auto_rerun":
            part, period = message.auto_rerun.fragment_id, message.auto_rerun.interval
        elif kind == "delta" and message.delta.new_element.WhichOneof("type") == "exception":
            seen.problem = message.delta.new_element.exception.message
        elif kind == "script_finished" and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
            return part, period


async def watch(url: str, query: str, seen: Seen, start: float, end: float, period: float) -> None:
    """One session, from `start` to `end` of the event loop's clock."""
    now = asyncio.get_running_loop().time
    await asyncio.sleep(max(0.0, start - now()))
    try:
        async with connect(f"ws{url[4:]}/_stcore/stream", subprotocols=[Subprotocol("streamlit")], max_size=None) as ws:
            asked = now()
            first = BackMsg()
            first.rerun_script.query_string = query
            await ws.send(first.SerializeToString())
            part, own = await answer(ws, seen)
            seen.opened = now() - asked
            due = now()
            while part and now() < end:
                due = max(due + (period or own), now())
                await asyncio.sleep(max(0.0, due - now()))
                again, asked = BackMsg(), now()
                again.rerun_script.query_string = query
                again.rerun_script.fragment_id = part
                again.rerun_script.is_auto_rerun = True
                await ws.send(again.SerializeToString())
                await answer(ws, seen)
                seen.ticks.append(now() - asked)
    except Exception as error:
        seen.problem = f"{type(error).__name__}: {error}"


async def many(url: str, query: str, count: int, seconds: float, period: float) -> tuple[list[Seen], float]:
    """(what `count` sessions saw, seconds in which they all watched)."""
    begin = asyncio.get_running_loop().time()
    end = begin + ARRIVE * count + seconds
    seen = [Seen() for _ in range(count)]
    await asyncio.gather(*(watch(url, query, one, begin + ARRIVE * i, end, period) for i, one in enumerate(seen)))
    return seen, seconds


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` of the values do not exceed; nan where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def started(store: Store) -> tuple[ExperimentSpec, str]:
    """A run that goes on for minutes, and is under way."""
    from dataclasses import replace

    spec = replace(start_for("digits"), **QUESTION)  # type: ignore[arg-type]
    run_id = submit(store, spec, asked_by="benchmark")
    while run_info(store, run_id).stages_done < 3:
        time.sleep(0.2)
    return spec, run_id


def report(count: int, seen: list[Seen], cpu: float, wall: float, megabytes: float) -> None:
    """One line."""
    ticks = [tick for one in seen for tick in one.ticks]
    opened = [one.opened for one in seen if one.opened]
    lost = [one.problem for one in seen if one.problem]
    kilobytes = sum(one.received for one in seen) / 1000 / wall
    print(
        f"{count:8d} {len(ticks) / wall:8.1f} {statistics.median(ticks) if ticks else float('nan'):8.3f} "
        f"{percentile(ticks, 0.95):8.3f} {max(ticks, default=float('nan')):8.3f} {percentile(opened, 0.95):8.2f} "
        f"{100 * cpu / wall:8.0f} {megabytes:8.0f} {kilobytes:8.0f} {len(lost):8d}"
    )
    for problem in sorted(set(lost))[:3]:
        print(f"         {problem[:100]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 10, 25, 50])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--period", type=float, default=3.0, help="seconds between ticks; 0: the page's own")
    arguments = parser.parse_args()
    if max(arguments.counts) > MOST_SESSIONS or arguments.seconds > MOST_SECONDS:
        sys.exit(f"At most {MOST_SESSIONS} sessions and {MOST_SECONDS:g} seconds each.")
    folder = Path(tempfile.mkdtemp())
    os.environ["TAKD_STORE"] = str(folder / "store")
    os.environ["TAKD_CACHED"] = ""
    server, url = start_server(TAKD_STORE=str(folder / "store"))
    store = open_store(folder / "store")
    run_id = ""
    try:
        spec, run_id = started(store)
        query = urlencode(to_query(spec, full=True), doseq=True)
        process = psutil.Process(server.pid)
        print(
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, ticks every {arguments.period:g} s, one live run"
        )
        print("sessions  ticks/s      p50      p95  longest opening    CPU %       MB     kB/s   failed")
        for count in arguments.counts:
            before = process.cpu_times()
            began = time.monotonic()
            seen, _ = asyncio.run(many(url, query, count, arguments.seconds, arguments.period))
            after, wall = process.cpu_times(), time.monotonic() - began
            cpu = after.user + after.system - before.user - before.system
            report(count, seen, cpu, wall, process.memory_info().rss / 1e6)
            if not run_info(store, run_id).look.active:
                print("         the run has ended: what follows is not about a live run")
    finally:
        try:
            if run_id:
                cancel(store, run_id)
        except RunError:
            pass
        server.terminate()
        server.wait()
        time.sleep(1.0)  # the worker ends by itself
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
