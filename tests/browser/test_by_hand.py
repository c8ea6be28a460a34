"""The explorer as people use it: presets, picks, replays and guesses, by mouse and by keyboard."""

from __future__ import annotations

import re
from typing import Any

import pytest

from takd.presets import PRESETS

from .conftest import Server, drawn, opened

playwright = pytest.importorskip("playwright.sync_api")


@pytest.mark.slow  # tests/test_cached_runs.py opens every preset without one
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
    """Open a list and choose. A page that is drawn once more meanwhile closes the list, or takes it away between the
    press and the release of the button, and nothing is chosen: what counts is the name that stands in the field."""
    menu.wait_for()
    option = page.get_by_role("option", name=name, exact=True)
    chosen = page.get_by_role("button", name=f"Remove {name}")
    for _ in range(8):
        drawn(page)
        if chosen.count():
            return
        menu.focus()
        page.keyboard.press("ArrowDown")
        try:
            option.click(timeout=4000)
            chosen.wait_for(timeout=4000)
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


def press(page: Any, key: str, shown: str) -> None:
    """Press a key; once more if much later nothing came of it: a page that is just drawn anew has nobody to hear it."""
    page.keyboard.press(key)
    try:
        page.wait_for_selector(shown, state="attached", timeout=15_000)
    except playwright.TimeoutError:
        page.keyboard.press(key)
        page.wait_for_selector(shown, state="attached")


def at_tick(tick: int) -> str:
    return f".st-key-replay-tick input[aria-valuetext='{tick}']"


def test_a_replay_is_steered_by_keys(explorer: Server, visitor: Any) -> None:
    page = opened(visitor(), f"{explorer.url}/?d=digits&e=3")
    page.wait_for_selector(at_tick(3), state="attached")
    drawn(page)
    press(page, "ArrowRight", at_tick(4))
    page.wait_for_url("**e=4*")
    drawn(page)
    press(page, "ArrowLeft", at_tick(3))
    drawn(page)
    press(page, "Space", ".st-key-replay-pause")
    before = page.locator("h1").inner_text()
    page.wait_for_function("before => document.querySelector('h1').innerText !== before", arg=before)
    press(page, "Space", ".st-key-replay-play")
    stood = page.locator("h1").inner_text()
    drawn(page)
    page.wait_for_timeout(2000)
    assert page.locator("h1").inner_text() == stood
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
