"""Live mode on digits as a visitor sees it: from changing a control to the redrawn chart. Prints medians; no test.

    python -m benchmarks.live_digits [--rounds 5] [--seeds 8 1] [--url http://127.0.0.1:8501]

Every round asks something nobody has asked before. "temperature" trains everything that is taught and reuses the lone
teachers, "first seed" trains the whole study. Without --url it starts its own server with an empty store, and waits for
its idle worker. Needs requirements-dev.txt and Chromium.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.server import CHROMIUM, start_server

CONTROLS = {"temperature": "Temperature T", "first seed": "First seed"}
# Redrawn: the gap chart has new marks at full strength, and the page says that they show the choice.
WATCH = """() => {
  const marks = () => document.querySelector('.st-key-figure-gap canvas, .st-key-figure-gap svg.marks');
  const before = marks();
  window.started = performance.now(); window.redrawn = null;
  (function look() {
    const now = marks(), said = document.querySelector('.st-key-live-said')?.textContent ?? '';
    const strong = now && getComputedStyle(now.closest('[data-testid=stVegaLiteChart]')).opacity === '1';
    if (now && now !== before && strong && said.includes('show')) window.redrawn = performance.now();
    else setTimeout(look, 20);
  })();
}"""


def settled(page: Page) -> None:
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.get_by_text("The figures show your choice.").wait_for(state="attached", timeout=120_000)


def change(page: Page, control: str, value: str) -> float:
    """Seconds from the key that changes the control to the redrawn gap chart."""
    box = page.get_by_label(control, exact=True)
    if not box.is_visible():
        page.get_by_role("button", name="More").click()
    box.fill(value)
    page.evaluate(WATCH)
    box.press("Enter")
    page.wait_for_function("window.redrawn !== null", timeout=120_000, polling=50)  # rarely: it shares the cores
    return float(page.evaluate("window.redrawn - window.started")) / 1000


def rounds(page: Page, url: str, seeds: int, count: int) -> dict[str, list[float]]:
    """Seconds for each control; the first change of each is left out."""
    page.goto(f"{url}/?d=digits&live=1&n={seeds}")
    page.locator("h1").wait_for()
    settled(page)
    taken: dict[str, list[float]] = {name: [] for name in CONTROLS}
    for number in range(count + 1):
        for name, label in CONTROLS.items():
            value = f"{1.5 + 0.5 * number:g}" if name == "temperature" else str(1000 * (number + 1) + 100 * seeds)
            seconds = change(page, label, value)
            settled(page)
            if number:
                taken[name].append(seconds)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[8, 1])
    parser.add_argument("--url")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server, url = (None, arguments.url) if arguments.url else start_server(TAKD_STORE=f"{folder}/store")
        try:
            with sync_playwright() as p:
                launch: dict[str, Any] = {"args": ["--headless", "--no-sandbox", "--disable-gpu"]}
                browser = p.chromium.launch(executable_path=CHROMIUM, **launch)
                page = browser.new_page(viewport={"width": 1280, "height": 720})
                for seeds in arguments.seeds:
                    before = os.getloadavg()[0]
                    for name, values in rounds(page, url, seeds, arguments.rounds).items():
                        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
                        print(
                            f"{name:12s} {seeds:2d} seeds: median {middle:.2f} s, quartiles {low:.2f} to {high:.2f} s"
                        )
                    print(f"  {arguments.rounds} rounds, {os.cpu_count()} cores, load {before:.1f} before, ", end="")
                    print(f"{os.getloadavg()[0]:.1f} after")
                browser.close()
        finally:
            if server is not None:
                server.terminate()
                server.wait()


if __name__ == "__main__":
    main()
