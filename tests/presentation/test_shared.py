"""Values many sessions share: made once, shown a little old rather than waited for, never far too old."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from takd.presentation import shared
from takd.presentation.shared import forget, lately


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    found = Clock()
    monkeypatch.setattr(shared, "time", found)
    shared._memory().values.clear()
    shared._memory().sessions.clear()  # a page that was tested before looks on by another clock
    yield found
    shared._memory().values.clear()


class Maker:
    """Counts how often it is asked, and may be held up."""

    def __init__(self) -> None:
        self.made = 0
        self.free = threading.Event()
        self.free.set()

    def __call__(self) -> int:
        self.free.wait(10.0)
        self.made += 1
        return self.made


def in_the_background() -> None:
    """Wait until the server's thread has done what it was asked."""
    while shared._memory().working:
        time.sleep(0.01)


def test_a_fresh_value_is_not_made_again(clock: Clock) -> None:
    make = Maker()
    assert [lately("a", "b", 2.0, make) for _ in range(3)] == [1, 1, 1]
    clock.now += 1.9
    assert lately("a", "b", 2.0, make) == 1 and make.made == 1
    assert lately("a", "c", 2.0, make) == 2  # another name is another value


def test_a_little_old_it_is_shown_and_made_anew_by_nobodys_page(clock: Clock) -> None:
    make = Maker()
    lately("a", "b", 2.0, make)
    clock.now += 2.5
    make.free.clear()
    assert [lately("a", "b", 2.0, make) for _ in range(5)] == [1] * 5  # at once, though making it takes a while
    make.free.set()
    in_the_background()
    assert make.made == 2 and lately("a", "b", 2.0, make) == 2


def test_far_too_old_it_is_not_shown(clock: Clock) -> None:
    make = Maker()
    lately("a", "b", 2.0, make)
    clock.now += 2.0 * shared._STALE
    assert lately("a", "b", 2.0, make) == 2


def test_of_many_who_ask_first_one_makes_it(clock: Clock) -> None:
    make = Maker()
    make.free.clear()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(lately, "a", "b", 2.0, make) for _ in range(8)]
        time.sleep(0.1)
        make.free.set()
        assert [one.result(10.0) for one in asked] == [1] * 8
    assert make.made == 1


def test_an_error_reaches_who_made_it_and_the_next_one_tries_again(clock: Clock) -> None:
    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        lately("a", "b", 2.0, fail)
    assert lately("a", "b", 2.0, lambda: 7) == 7
    clock.now += 2.5
    assert lately("a", "b", 2.0, fail) == 7  # in the background nobody is disturbed
    in_the_background()
    clock.now += 10.0
    with pytest.raises(ValueError, match="no"):
        lately("a", "b", 2.0, fail)


def test_what_is_forgotten_is_made_anew(clock: Clock) -> None:
    make = Maker()
    assert (lately("a", "b", 2.0, make), lately("c", "b", 2.0, make)) == (1, 2)
    forget("a")
    assert (lately("a", "b", 2.0, make), lately("c", "b", 2.0, make)) == (3, 2)


def test_it_keeps_no_more_than_it_may(clock: Clock) -> None:
    for number in range(shared._KEPT + 5):
        lately("a", str(number), 2.0, lambda: 0)
    assert len(shared._memory().values) == shared._KEPT


def test_what_took_longer_than_it_may_be_old_is_still_given_to_all_who_waited(clock: Clock) -> None:
    made = []

    def slow() -> int:
        made.append(1)
        clock.now += 100.0
        time.sleep(0.1)
        return len(made)

    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(lately, "a", "b", 2.0, slow) for _ in range(6)]
        assert [one.result(10.0) for one in asked] == [1] * 6
    assert len(made) == 1


def test_what_was_under_way_when_it_was_forgotten_is_not_kept(clock: Clock) -> None:
    make = Maker()
    lately("a", "b", 2.0, make)
    clock.now += 2.5
    make.free.clear()
    lately("a", "b", 2.0, make)  # the background begins
    forget("a")
    make.free.set()
    in_the_background()
    assert lately("a", "b", 2.0, make) == 3


class Page:
    """What Streamlit says about the session of a run of a page."""

    def __init__(self, session: str) -> None:
        self.session_id = session


@pytest.fixture
def look_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def come(session: str) -> None:
        monkeypatch.setattr(shared, "get_script_run_ctx", lambda **_: Page(session))

    yield come
    shared._memory().sessions.clear()


def test_few_who_look_on_see_what_is_true_now_and_look_more_often(clock: Clock, look_on: Callable[[str], None]) -> None:
    make = Maker()
    look_on("one")
    assert lately("a", "b", 5.0, make) == 1 and shared.tick() == 1.0
    clock.now += 0.9
    assert lately("a", "b", 5.0, make) == 1
    clock.now += 0.2
    assert lately("a", "b", 5.0, make) == 2  # made by who asks, and nothing older shown meanwhile


def test_a_class_shares_what_is_a_little_old(clock: Clock, look_on: Callable[[str], None]) -> None:
    make = Maker()
    for number in range(shared.FEW + 1):
        look_on(f"pupil {number}")
        lately("a", "b", 5.0, make)
    assert make.made == 1 and shared.tick() == 2.0
    clock.now += 4.0
    assert lately("a", "b", 5.0, make) == 1 and make.made == 1
    clock.now += 20.0  # all but one have left
    look_on("teacher")
    assert shared.tick() == 1.0
