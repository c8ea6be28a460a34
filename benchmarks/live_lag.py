"""How far a page that watches a run lags behind it. Prints the figures; no test.

    python -m benchmarks.live_lag [--seconds 40] [--question "/?d=digits&m=scratch&..."] [--data FOLDER]

Trains one network alone on digits in the plain loop and looks twenty times a second at which epoch the learning curves
show (their text for screen readers names it). The lag at a moment is the age of the oldest epoch that is stored and not
shown yet. Needs requirements-dev.txt and Chromium.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.server import CHROMIUM, start_server

QUESTION = "/?d=digits&m=scratch&s=cnn8-32&b=paper&scope=chain&n=1"
_SHOWN = """() => [...document.querySelectorAll('.st-key-figure-curves [aria-label]')]
  .map(element => element.getAttribute('aria-label')).join(' ')"""


def written(store: Path) -> int:
    """Epochs stored by now."""
    return sum(path.read_bytes().count(b"\n") for path in store.glob("stages/*/*/events.jsonl"))


def shown(page: Page) -> int:
    """The epoch the learning curves show."""
    return max((int(found) for found in re.findall(r"after (\d+) epoch", str(page.evaluate(_SHOWN)))), default=0)


def watch(page: Page, store: Path, seconds: float) -> tuple[list[float], int]:
    """(lag in seconds at each look from the first epoch on, for so many seconds or until it is trained; epochs
    shown at the end)."""
    since: dict[int, float] = {}
    lags: list[float] = []
    while not since or (time.perf_counter() - since[1] < seconds and not list(store.glob("stages/*/*/result.json"))):
        now = time.perf_counter()
        for number in range(len(since) + 1, written(store) + 1):
            since[number] = now
        seen = shown(page)
        if since:
            lags.append(now - since[seen + 1] if seen + 1 in since else 0.0)
        time.sleep(0.05)
    return lags, seen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--data", help="folder of prepared data sets; digits need none")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp()
    server, url = start_server(
        TAKD_STORE=f"{folder}/store",
        TAKD_DATA=arguments.data or f"{folder}/data",
        TAKD_ENGINE="reference",
        TAKD_WARM_MINUTES="0",
    )
    try:
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=CHROMIUM, args=["--headless", "--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.goto(url + arguments.question)
            start = page.get_by_role("button", name="Run for real")
            start.wait_for()
            page.wait_for_timeout(2000)
            start.click()
            lags, epochs = watch(page, Path(folder) / "store", arguments.seconds)
            cancel = page.get_by_role("button", name="Cancel")
            if cancel.count():
                cancel.first.click()
                page.wait_for_timeout(3000)
            browser.close()
    finally:
        server.terminate()
    ordered = sorted(lags)
    print(
        f"lag median {statistics.median(ordered):.2f} s, 95 % {ordered[int(0.95 * len(ordered))]:.2f} s, longest "
        f"{ordered[-1]:.2f} s; {len(ordered)} looks, {epochs} epochs shown; {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
