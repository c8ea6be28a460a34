"""How long a visitor waits on a warm server, page by page: words, first figure, reaction to a cached choice. Prints
medians; no test.

    python -m benchmarks.first_figure [--rounds 7] [--pages / /gap /chains] [--url http://127.0.0.1:8501]

Without --url it starts its own server on the cached runs. Needs requirements-dev.txt and Chromium.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.server import CHROMIUM, start_server


@dataclass(frozen=True)
class Row:
    """A page, its first figure, and a choice whose answer is stored: `press` makes it, and `seen` is a text or a
    selector's inner text that is there, or has changed, once the page has followed."""

    path: str
    figure: str
    press: Callable[[Page], None]
    changed: str


def _button(name: str) -> Callable[[Page], None]:
    return lambda page: page.get_by_role("button", name=name, exact=True).first.click()


def _option(name: str) -> Callable[[Page], None]:
    return lambda page: page.get_by_role("radio", name=name, exact=True).first.click()


_ARMS = ("t:plain-10;s:plain-2;m:kd", "t:plain-10;ta:plain-4;s:plain-2;m:takd")
_BASKET = "&".join(f"cmp=d:cifar10;{arm};b:standard;n:5;T:8;lam:0.5" for arm in _ARMS)
ROWS = {
    row.path.partition("?")[0]: row
    for row in (
        Row("/", "gap", _button("Remove the assistants"), "h1"),
        Row("/gap", "", _option("gain"), "[class*=st-key-figure-] svg.marks"),
        Row("/chains", "", _option("Every teacher"), "[class*=st-key-figure-] svg.marks"),
        Row("/lens", "", _option("Calibration"), "[class*=st-key-figure-] svg.marks"),
        Row(f"/compare?{_BASKET}", "", _option("training loss"), ".st-key-figure-grouped svg.marks"),
    )
}


def visit(page: Page, url: str, row: Row) -> dict[str, float]:
    """Seconds from the request to the headline and to the first figure, and from a cached choice to its answer."""
    figure = f".st-key-figure-{row.figure}" if row.figure else "[class*=st-key-figure-]"
    started = time.perf_counter()
    page.goto(url + row.path, wait_until="commit")
    page.locator("h1").first.wait_for()
    words = time.perf_counter() - started
    page.locator(f"{figure} svg.marks").first.wait_for()
    first = time.perf_counter() - started
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.locator(row.changed).first.wait_for()
    before = page.locator(row.changed).first.evaluate("element => element.innerHTML")
    started = time.perf_counter()
    row.press(page)
    page.wait_for_function(
        "([at, before]) => { const now = document.querySelector(at); return now && now.innerHTML !== before; }",
        arg=[row.changed, before],
    )
    return {"words": words, "first figure": first, "cached choice": time.perf_counter() - started}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pages", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--url")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp()
    own = {"TAKD_STORE": f"{folder}/store", "TAKD_DATA": f"{folder}/data"}
    server, url = (None, arguments.url) if arguments.url else start_server(**own)
    found: dict[str, list[dict[str, float]]] = {}
    try:
        with sync_playwright() as p:
            launch: dict[str, Any] = {"args": ["--headless", "--no-sandbox", "--disable-gpu"]}
            browser = p.chromium.launch(executable_path=CHROMIUM, **launch)
            context = browser.new_context(viewport={"width": 1280, "height": 720})
            for name in arguments.pages:
                for _ in range(arguments.rounds + 1):  # the first visit also fills caches and is left out
                    page = context.new_page()
                    found.setdefault(name, []).append(visit(page, url, ROWS[name]))
                    page.close()
            browser.close()
    finally:
        if server is not None:
            server.terminate()
    for name, rows in found.items():
        told = []
        for what in rows[0]:
            values = sorted(row[what] for row in rows[1:])
            told.append(f"{what} {statistics.median(values):.2f} s ({values[0]:.2f} to {values[-1]:.2f})")
        print(f"{name:10s} {'; '.join(told)}")
    print(f"medians of {arguments.rounds} visits (range), {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
