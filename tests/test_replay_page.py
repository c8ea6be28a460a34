"""The Playground's replay: captions, figures as they were, buttons, and the link."""

from __future__ import annotations

from pathlib import Path

import pytest
import streamlit as st

from takd.presets import PRESETS

from .pages_support import charts_of, link, open_page

SPEC = PRESETS["cifar-gap"].spec


@pytest.fixture(autouse=True)
def cached_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_CACHED", str(Path(__file__).parents[1] / "cached_runs"))
    st.cache_resource.clear()


def at_epoch(tick: str):
    return open_page({"e": [tick]})


def strip(at) -> list[str]:
    """What the chain strip says of each network."""
    alt = next(alt for _, alt, _ in charts_of(at) if alt.startswith("Chain of networks"))
    words = {"training now": "training", "not trained yet": "waiting"}
    return [next((w for said, w in words.items() if said in part), "done") for part in alt.split(" teaches ")]


def test_a_link_opens_the_replay_where_it_points() -> None:
    at = at_epoch("8")
    assert not at.exception
    assert at.title[0].value == "Assistant plain‑4 learns from plain‑10\\: epoch 2 of 6"
    assert strip(at) == ["done", "training", "waiting"]
    curves = next(alt for _, alt, _ in charts_of(at) if alt.startswith("Learning curves"))
    assert "plain-4" in curves and curves.endswith("after 2 epochs.") and "plain-2" not in curves


def test_stepping_through_hops() -> None:
    at = at_epoch("8")
    at.button(key="replay-skip_next").click().run()
    assert at.title[0].value.startswith("Assistant plain‑4 is done; next, student plain‑2")
    at.button(key="replay-chevron_right").click().run()
    assert at.title[0].value == "Student plain‑2 learns from plain‑4\\: epoch 1 of 6"
    at.button(key="replay-skip_next").click().run()
    assert at.title[0].value == "Done\\: student plain‑2 has learned from plain‑4" and strip(at) == ["done"] * 3
    at.button(key="replay-skip_previous").click().run()
    at.slider(key="replay-tick").set_value(3).run()
    assert at.title[0].value == "Teacher plain‑10 learns from the labels\\: epoch 3 of 6"
    assert strip(at) == ["training", "waiting", "waiting"]
    at.button(key="replay-end").click().run()
    assert at.title[0].value.startswith("Too early to tell") and link(at, "e") == []


def test_playing_moves_on_by_itself_and_stops_at_the_end() -> None:
    at = open_page()
    at.button(key="replay-begin").click().run()
    titles = [at.title[0].value]
    for _ in range(20):
        at.run()  # AppTest has no timer: each run is a tick
        titles.append(at.title[0].value)
    assert len(set(titles)) > 10 and titles[-1].startswith("Done")
    assert at.session_state["replay-playing"] is False


def test_slow_motion_stops_where_a_hop_ends() -> None:
    at = at_epoch("2")
    at.toggle(key="replay-slow-toggle").set_value(True).run()
    at.button(key="replay-play").click().run()
    for _ in range(12):
        at.run()
    assert at.title[0].value.startswith("Teacher plain‑10 is done; next, assistant plain‑4")
    assert at.session_state["replay-playing"] is False


def test_what_a_slow_browser_still_sends_does_not_stop_a_replay() -> None:
    """The slider goes when it plays, and the browser's last word about it may come after the click on Play."""
    at = at_epoch("3")
    at.button(key="replay-play").click()
    at.slider(key="replay-tick").set_value(5)
    at.run()
    assert at.session_state["replay-playing"] is True and not at.slider
    assert [b.label for b in at.button if b.key in ("replay-play", "replay-pause")] == ["Pause"]


def test_a_click_taken_twice_does_what_it_said() -> None:
    at = at_epoch("3")
    at.button(key="replay-play").click().run()
    pause = at.button(key="replay-pause")
    for _ in range(2):
        pause.click().run()
        assert at.session_state["replay-playing"] is False


@pytest.mark.parametrize("tick", ["-3", "999999999", "soon"])
def test_bad_ticks_end_in_a_sentence(tick: str) -> None:
    at = at_epoch(tick)
    assert not at.exception and at.title and any("Epoch of the replay" in c.value for c in at.caption)


def test_nothing_to_replay_where_nothing_is_stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAKD_CACHED", str(tmp_path))
    at = at_epoch("5")
    assert not at.exception and at.title[0].value == "Nothing trained yet"
    assert not [b for b in at.button if b.key == "replay-begin"]
