"""All pages together, as people meet them: in both themes, on a phone, by keyboard, from a link they were sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from takd.presentation import basket
from takd.presets import PRESETS

from .conftest import REPO, Server, settled

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


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all that only look: the program's cached runs and an empty store."""
    place = tmp_path_factory.mktemp("explorer")
    server = Server(place / "store", place / "data", REPO / "cached_runs").start()
    yield server
    server.interrupt()


def opened(page: Any, url: str) -> Any:
    page.goto(url)
    settled(page)
    page.locator("h1, h2").first.wait_for()
    return page


def drawn(page: Any) -> None:
    """Wait until nothing changes any more: what a page tells of its window or its tabs comes with a second run."""
    page.wait_for_function(
        """() => {
            const app = document.querySelector("[data-testid=stApp]");
            const now = app.dataset.testScriptState + app.innerText.length + app.querySelectorAll("*").length;
            const same = window.lately === now && app.dataset.testScriptState === "notRunning";
            window.lately = now;
            return same;
        }""",
        polling=150,
    )


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


def test_every_preset_goes_through_its_link_and_back(explorer: Server, visitor: Any) -> None:
    page, other = opened(visitor(), f"{explorer.url}/?n=3"), visitor()
    for preset in PRESETS.values():
        before = page.url
        page.get_by_role("combobox", name="Question").click()
        page.get_by_role("option", name=preset.title, exact=True).click()
        page.wait_for_function("before => location.href !== before", arg=before)
        drawn(page)
        headline = page.locator("h1").inner_text()
        assert "CI" in headline or headline == "Nothing trained yet" or "nearest" in headline
        opened(other, page.url)
        other.locator("h1").filter(has_text=headline).wait_for()
        question = other.locator(".st-key-w-preset")
        assert preset.title in (question.inner_text() + question.locator("input").input_value()), preset.name
        assert other.url == page.url
        assert other.get_by_text("Shown instead").count() == 0
    assert page.errors == other.errors == []


def choose(page: Any, menu: Any, name: str) -> None:
    """Open a list and choose; a page that is drawn once more meanwhile closes it, and it is opened again."""
    option = page.get_by_role("option", name=name, exact=True)
    for _ in range(8):
        drawn(page)
        menu.focus()
        page.keyboard.press("ArrowDown")
        try:
            option.click(timeout=4000)
            return
        except playwright.TimeoutError:
            continue
    raise AssertionError(f"{name} cannot be chosen")


def test_arms_go_from_a_figure_to_compare_and_on_in_a_link(explorer: Server, visitor: Any) -> None:
    page = opened(visitor(), f"{explorer.url}/gap")
    drawn(page)
    page.locator(".st-key-export-capacity button").first.click()
    menu = page.get_by_role("combobox", name="Put side by side")
    choose(page, menu, "The student alone")
    drawn(page)
    page.get_by_role("button", name="Add to Compare").click()
    page.get_by_text("1 arm added to Compare.").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Compare").click()
    page.get_by_role("heading", name="All numbers").wait_for()
    drawn(page)
    assert len(re.findall("cmp=", page.url)) == 1
    other = opened(visitor(), page.url)
    other.get_by_role("heading", name="All numbers").wait_for()
    drawn(other)
    assert other.locator("h3").all_inner_texts() == page.locator("h3").all_inner_texts() != []
    assert page.errors == other.errors == []


def test_a_replay_is_steered_by_keys(explorer: Server, visitor: Any) -> None:
    page = opened(visitor(), f"{explorer.url}/?d=digits&e=3")
    page.locator(".st-key-replay-play").filter(has_text="Play").wait_for()
    drawn(page)
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**e=4*")
    drawn(page)
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**e=3*")
    drawn(page)
    page.keyboard.press("Space")
    page.locator(".st-key-replay-play").filter(has_text="Pause").wait_for()
    before = page.locator("h1").inner_text()
    page.wait_for_function("before => document.querySelector('h1').innerText !== before", arg=before)
    page.keyboard.press("Space")
    page.locator(".st-key-replay-play").filter(has_text="Play").wait_for()
    assert page.errors == []


def test_a_guess_is_made_and_its_answer_shown(explorer: Server, visitor: Any) -> None:
    page = opened(visitor(), f"{explorer.url}/learn?step=3")
    assert page.locator("[data-testid=stVegaLiteChart]").count() == 0
    page.get_by_text("about the same").click()
    page.get_by_role("button", name="Reveal").click()
    page.locator("[data-testid=stVegaLiteChart]").first.wait_for()
    drawn(page)
    assert page.errors == []


def focus_by_tab(page: Any, wanted: str, at_most: int = 60) -> None:
    """Press Tab until what has the focus matches a selector."""
    for _ in range(at_most):
        page.keyboard.press("Tab")
        if page.evaluate("wanted => document.activeElement.closest(wanted) !== null", wanted):
            return
    raise AssertionError(f"Tab does not reach {wanted}")


def test_everything_is_reached_with_the_keyboard(explorer: Server, visitor: Any) -> None:
    page = opened(visitor(), f"{explorer.url}/")
    drawn(page)
    focus_by_tab(page, "a[href$='/gap']")  # the navigation
    page.keyboard.press("Enter")
    page.wait_for_url("**/gap*")
    page.get_by_role("heading", name="Capacity gap").wait_for()
    drawn(page)
    focus_by_tab(page, ".st-key-v-y button")  # a setting
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.wait_for_url("**y=*")
    drawn(page)
    focus_by_tab(page, "[class*=st-key-pick-] input")  # the menu beside a figure says what a click in it would
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    drawn(page)
    focus_by_tab(page, "[class*=st-key-export-] button")
    page.keyboard.press("Enter")
    for name in ("PNG", "SVG", "CSV", "Python"):
        page.get_by_role("button", name=name, exact=True).first.wait_for()
    page.get_by_text("Link to this page as it stands").wait_for()
    focus_by_tab(page, "[class*=st-key-csv-] button")
    with page.expect_download():
        page.keyboard.press("Enter")
    assert page.errors == []


def test_an_image_is_chosen_and_stands_in_the_link(explorer: Server, visitor: Any) -> None:
    page = opened(visitor(), f"{explorer.url}/lens")
    drawn(page)
    before = page.url
    menu = page.locator("[class*=st-key-pick-] input").first
    menu.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("before => location.href !== before && location.href.includes('img=')", arg=before)
    assert page.errors == []
