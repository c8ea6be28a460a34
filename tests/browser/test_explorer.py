"""All pages together, as people meet them: in both themes, on a phone, by keyboard, from a link they were sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from takd.presentation import basket
from takd.presets import PRESETS

from .conftest import REPO, Server, drawn, opened

playwright = pytest.importorskip("playwright.sync_api")
axe_base = pytest.importorskip("axe_playwright_python.base")
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")
CHAINS = ("help", "map", "many", "paths", "worth", "rule")
LOOKS = ("soft", "agree", "calib", "classes", "loss", "land", "map")
PRESET = PRESETS["cifar-gap"].spec
TWO_ARMS = "&".join(f"cmp={basket.write(arm)}" for arm in (PRESET, replace(PRESET, method="kd", assistants=())))
PAGES = (
    "/",
    "/?d=digits",
    "/?e=9",
    "/?b=paper&n=20",  # not trained: the nearest question, faded
    "/gap",
    *(f"/chains?show={name}" for name in CHAINS),
    *(f"/lens?look={name}" for name in LOOKS),
    "/methods",
    "/compare",
    f"/compare?{TWO_ARMS}",
    "/claims?claim=one-ta",
    "/runs",
    "/learn",
)
# Sections that share their pieces with others are looked at once.
ON_A_PHONE = tuple(path for path in PAGES if "show=" not in path and "look=" not in path)
ON_A_PHONE += ("/chains?show=map", "/chains?show=paths", "/lens?look=soft", "/lens?look=classes", "/lens?look=loss")
TITLES = {
    "/gap?y=gain": "Capacity gap",
    "/chains?show=map": "Assistants",
    "/lens?look=agree": "Look inside",
    f"/compare?{TWO_ARMS}": "Compare",
    "/claims": "Claims",
    "/learn?step=4": "Learn",
}


def violations(page: Any) -> list[str]:
    """What axe finds: the rule, how to mend it, and where."""
    if not page.evaluate("typeof window.axe === 'object'"):
        page.evaluate(axe_base.AXE_SCRIPT)
    settings = f"{{runOnly: {list(RULES)}, resultTypes: ['violations']}}"
    found = page.evaluate(f"axe.run(document, {settings}).then(results => results.violations)")
    return [f"{row['id']}: {node['failureSummary']} {node['html'][:200]}" for row in found for node in row["nodes"]]


def width_of(page: Any) -> int:
    return int(
        page.evaluate(
            "Math.max(document.documentElement.scrollWidth, document.querySelector('[data-testid=stMain]').scrollWidth)"
        )
    )


def looked_over(page: Any, path: str, width: int) -> None:
    drawn(page)
    assert page.locator("[data-testid=stException]").count() == 0, path
    assert width_of(page) <= width, path
    assert violations(page) == [], path
    charts = page.locator("[data-testid=stVegaLiteChart]")
    texts = [charts.nth(n).evaluate(_TEXT) for n in range(charts.count())]
    assert all(len(text) > 30 for text in texts), (path, texts)


# The text of a chart stands on one of its elements.
_TEXT = """chart => Math.max(0, ...[chart, ...chart.querySelectorAll("[aria-label]")]
  .map(element => (element.getAttribute("aria-label") ?? "").length)) > 30
  ? [chart, ...chart.querySelectorAll("[aria-label]")].map(e => e.getAttribute("aria-label") ?? "").join(" ") : "" """


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_every_page_can_be_read_by_everybody(explorer: Server, visitor: Any, width: int, theme: str) -> None:
    """WCAG 2.1 A and AA by axe, nothing scrolls sideways, nobody outside is asked."""
    page = visitor(width, theme)
    for path in PAGES if width > 640 else ON_A_PHONE:
        opened(page, explorer.url + path)
        looked_over(page, path, width)
    opened(page, f"{explorer.url}/learn?step=4")
    page.get_by_role("button", name="Show without guessing").click()
    page.locator("[data-testid=stVegaLiteChart]").first.wait_for()
    looked_over(page, "/learn?step=4, revealed", width)
    assert page.outside == [] and page.errors == []


@pytest.mark.slow  # a server for each page; test_app.py opens three of them so every time
def test_a_cold_deep_link_opens_every_page(tmp_path: Path, visitor: Any) -> None:
    """Each is the very first visit of a server of its own; the servers start side by side."""
    servers = {
        path: Server(tmp_path / f"store-{n}", tmp_path / "data", REPO / "cached_runs") for n, path in enumerate(TITLES)
    }
    try:
        for server in servers.values():
            server.start(wait=False)
        page = visitor()
        for path, server in servers.items():
            server.wait()
            opened(page, server.url + path)
            assert page.title() == f"{TITLES[path]} · TAKD Explorer"
            assert page.locator("[role=dialog]").count() == page.locator("[data-testid=stException]").count() == 0
            server.interrupt()
        assert page.errors == []
    finally:
        for server in servers.values():
            server.interrupt()


def test_what_fields_in_more_stood_at_does_not_come_back_over_a_question_chosen_since(
    server: Server, visitor: Any
) -> None:
    """The browser keeps what the fields of a closed box stood at, and said it with the next click that changed the
    page: the run then trained another temperature than was asked for."""
    page = opened(visitor(), server.url)
    more = page.get_by_role("button", name="More", exact=True)
    more.click()
    temperature = page.get_by_role("spinbutton", name="Temperature T")
    temperature.wait_for()
    assert float(temperature.input_value()) == 8
    page.keyboard.press("Escape")
    temperature.wait_for(state="hidden")
    page.get_by_role("combobox", name="Question").click()
    page.get_by_role("option", name="Digits, wrong labels (live)").click()
    page.wait_for_function("() => location.search.includes('d=digits')")
    drawn(page)
    page.get_by_text("Live", exact=True).first.click()
    page.wait_for_function("() => location.search.includes('live=1')")
    drawn(page)
    assert "T=" not in page.url, page.url
    more.click()
    temperature.wait_for()
    assert float(temperature.input_value()) == 1
