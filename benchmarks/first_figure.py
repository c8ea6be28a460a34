"""How long a visitor waits on a warm server: words, first figure, reaction to a cached choice. Prints medians; no test.

    python -m benchmarks.first_figure [--rounds 7] [--url http://127.0.0.1:8501]

Without --url it starts its own server on the cached runs. Needs requirements-dev.txt and Chromium.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.server import CHROMIUM, start_server

FIGURE = ".st-key-figure-gap canvas, .st-key-figure-gap svg.marks"


def visit(page: Page, url: str) -> dict[str, float]:
    """Seconds from the request to the headline, to the gap figure, and from a cached choice to its new headline."""
    started = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.locator("h1").wait_for()
    words = time.perf_counter() - started
    page.locator(FIGURE).first.wait_for()
    figure = time.perf_counter() - started
    before = page.locator("h1").inner_text()
    started = time.perf_counter()
    page.get_by_role("button", name="Remove the assistants").click()
    page.wait_for_function("before => document.querySelector('h1').innerText !== before", arg=before)
    return {"words": words, "first figure": figure, "cached choice": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--url")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp()
    own = {"TAKD_STORE": f"{folder}/store", "TAKD_DATA": f"{folder}/data"}
    server, url = (None, arguments.url) if arguments.url else start_server(**own)
    rows: list[dict[str, float]] = []
    try:
        with sync_playwright() as p:
            launch: dict[str, Any] = {"args": ["--headless", "--no-sandbox", "--disable-gpu"]}
            browser = p.chromium.launch(executable_path=CHROMIUM, **launch)
            context = browser.new_context(viewport={"width": 1280, "height": 720})
            for _ in range(arguments.rounds + 1):  # the first visit also fills the browser's cache and is left out
                page = context.new_page()
                rows.append(visit(page, url))
                page.close()
            browser.close()
    finally:
        if server is not None:
            server.terminate()
    load = os.getloadavg()[0]
    for name in rows[0]:
        values = sorted(row[name] for row in rows[1:])
        print(f"{name:14s} median {statistics.median(values):.2f} s, range {values[0]:.2f} to {values[-1]:.2f} s")
    print(f"{arguments.rounds} visits, {os.cpu_count()} cores, load {load:.1f}")


if __name__ == "__main__":
    main()
