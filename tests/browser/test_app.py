"""The main paths, driven as a person drives them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import TRAINED, Server, drawn, settled

CHAIN = "d=digits&t=mlp-64&ta=mlp-16&s=mlp-8&scope=chain"
LONG = f"{CHAIN}&n=8"  # on a patient server: long enough to leave, come back and restart it in the middle


def states(server: Server) -> list[str]:
    return [json.loads(f.read_text())["state"] for f in sorted(server.store.glob("runs/*/status.json"))]


def headline(page: Any) -> str:
    return str(page.locator("h1").inner_text()).replace("\N{NO-BREAK SPACE}", " ")


def test_choose_run_watch_refresh_restart_result(patient_server: Server, visitor: Any) -> None:
    server = patient_server
    page = visitor()
    page.goto(f"{server.url}/?{LONG}")
    settled(page)
    assert "Nothing trained" in page.locator("h1").inner_text() or page.get_by_text("Not trained yet").count()
    page.get_by_role("button", name="Run for real").click()
    page.get_by_text("stages trained").wait_for()
    page.get_by_role("button", name="Cancel").wait_for()
    page.get_by_text("Now:").first.wait_for()

    page.reload()  # a refresh finds the run again
    page.get_by_text("stages trained").wait_for()

    page.close()  # closing the tab and another person opening the same link: one run, watched by both
    page = visitor()
    page.goto(f"{server.url}/?{LONG}")
    page.get_by_text("stages trained").wait_for()
    assert len(states(server)) == 1

    server.interrupt()  # Ctrl-C on the server does not touch the training
    assert states(server)[0] in ("running", "done")
    server.start()
    page.goto(f"{server.url}/?{LONG}")
    settled(page)
    page.get_by_role("button", name="Everything is trained").wait_for(timeout=TRAINED)
    assert states(server) == ["done"]
    title = headline(page)
    assert "n = 8" in title
    assert "CI" in title
    page.goto(f"{server.url}/runs")
    settled(page)
    page.get_by_text("Library").wait_for()
    assert page.errors == []


def test_cancel_and_resume(patient_server: Server, visitor: Any) -> None:
    server = patient_server
    page = visitor()
    page.goto(f"{server.url}/?{LONG}")
    settled(page)
    page.get_by_role("button", name="Run for real").click()
    page.get_by_text("Now:").first.wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Resume").wait_for()
    settled(page)
    assert states(server) == ["cancelled"]
    done = len(list(server.store.glob("stages/*/*/result.json")))
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Everything is trained").wait_for(timeout=TRAINED)
    assert states(server) == ["done"]
    assert len(list(server.store.glob("stages/*/*/result.json"))) > done


def test_live_mode_follows_the_newest_choice(server: Server, visitor: Any) -> None:
    page = visitor()
    page.goto(f"{server.url}/?{CHAIN}&n=2")
    settled(page)
    page.locator(".st-key-w-live label").click()
    answered = page.get_by_text("The figures show your choice.")
    answered.wait_for(state="attached", timeout=TRAINED)
    assert "n = 2" in headline(page)
    page.get_by_role("button", name="Two assistants").click()
    page.wait_for_timeout(400)
    page.get_by_role("button", name="Use a smaller teacher").click()  # mostly while the choice before is being trained
    page.wait_for_url("**t=mlp-32**")
    page.get_by_role("button", name="Everything is trained").wait_for(timeout=TRAINED)
    answered.wait_for(state="attached", timeout=TRAINED)
    settled(page)
    assert "live=1" in page.url
    newest = max(server.store.glob("runs/*/experiment.json")).parent
    assert json.loads((newest / "experiment.json").read_text())["spec"]["teacher"] == "mlp-32"
    ended = time.monotonic() + 30  # the last training is stored a moment before its run has ended
    while set(states(server)) - {"done", "cancelled"} and time.monotonic() < ended:
        page.wait_for_timeout(100)
    assert set(states(server)) <= {"done", "cancelled"}
    chart = ".st-key-figure-gap [data-testid=stVegaLiteChart]"
    page.wait_for_function(  # no longer dimmed, as a figure is that shows the choice before; it may be drawn anew
        "chart => getComputedStyle(document.querySelector(chart) ?? document.head).opacity === '1'"
        " && document.querySelector(chart) !== null",
        arg=chart,
        timeout=TRAINED,
    )
    page.get_by_role("button", name="Everything is trained").wait_for()
    page.reload()
    answered.wait_for(state="attached", timeout=TRAINED)
    assert page.locator("[data-testid=stException]").count() == 0
    assert page.errors == []


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("/runs", "Runs · TAKD Explorer"),
        ("/methods?c-from=heads", "Methods · TAKD Explorer"),
        ("/?d=digits", "Playground · TAKD Explorer"),
    ],
)
def test_a_cold_deep_link_opens_right(server: Server, visitor: Any, path: str, title: str) -> None:
    page = visitor()
    page.goto(server.url + path)  # the very first visit of a fresh server
    settled(page)
    page.locator("h1").wait_for()
    assert page.title() == title
    assert page.locator("[role=dialog]").count() == 0


def test_pages_fit_ask_nobody_outside_and_work_in_both_themes(explorer: Server, visitor: Any) -> None:
    """The two ways of looking that test_explorer.py leaves out, and links that say nonsense."""
    for width, theme in ((1280, "dark"), (390, "light")):
        page = visitor(width, theme)
        for path in ("/", "/gap", "/methods?c-gate=bernoulli&c-when=all-at-once", "/?t=nonsense&T=0"):
            page.goto(explorer.url + path)
            settled(page)
            page.locator("h1").wait_for()
            page.wait_for_timeout(700)
            wide = page.evaluate(
                "Math.max(document.documentElement.scrollWidth,"
                " document.querySelector('[data-testid=stMain]').scrollWidth)"
            )
            assert wide <= width, (path, width)
            assert page.locator("[data-testid=stException]").count() == 0
        assert page.outside == []
        assert page.errors == []


def test_clicking_a_box_shows_that_network(visitor: Any, explorer: Server) -> None:
    page = visitor()
    page.goto(explorer.url)
    settled(page)
    box = page.locator(".st-key-figure-strip svg.marks").first
    box.wait_for()
    page.get_by_text("How the chain learned").wait_for()
    drawn(page)  # a click that comes before the last drawing is lost with the drawing
    size = box.bounding_box()
    page.mouse.click(size["x"] + size["width"] - 60, size["y"] + 60)
    page.get_by_text("How plain-2 learned").wait_for()
    bar = page.locator(".st-key-figure-strip [data-testid=stElementToolbar]").first
    assert not bar.is_visible()  # it would lie on Run for real, above the box, and take its clicks


def test_exports_are_files(visitor: Any, explorer: Server, tmp_path: Path) -> None:
    page = visitor()
    page.goto(explorer.url)
    settled(page)
    export = page.get_by_role("button", name="Export").nth(1)
    export.evaluate("button => button.scrollIntoView({block: 'center'})")  # room for what opens below
    export.click()
    for label, start in (("SVG", b"<svg"), ("PNG", b"\x89PNG"), ("CSV", b"panel,")):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=label, exact=True).first.click()
        target = tmp_path / label
        waiting.value.save_as(target)
        assert target.read_bytes().startswith(start)


def test_figures_follow_the_width_of_the_window(visitor: Any, explorer: Server) -> None:
    page = visitor()
    page.goto(f"{explorer.url}/?d=digits")
    settled(page)
    strip = page.locator(".st-key-figure-strip svg.marks")
    strip.first.wait_for()
    assert strip.count() == 1
    wide = strip.evaluate("element => element.outerHTML")
    width = "document.querySelector('.st-key-figure-strip svg.marks')?.getBoundingClientRect().width"
    page.set_viewport_size({"width": 390, "height": 720})
    page.wait_for_function(f"{width} <= 390")
    page.wait_for_function(
        "wide => document.querySelector('.st-key-figure-strip svg.marks')?.outerHTML !== wide", arg=wide
    )
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 1280, "height": 720})
    page.wait_for_function(f"{width} > 700")
    assert page.errors == []
