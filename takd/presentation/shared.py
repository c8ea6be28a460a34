"""Values that many sessions show at the same moment: worked out once, and by nobody's page where an old one will do."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

T = TypeVar("T")
_KEPT = 200
_STALE = 3.0  # times its age limit: an older value is not shown even for a moment
AT_ONCE = 2  # pages of a live run that are drawn at the same time
FEW = 3  # sessions; so few are shown everything as it is now, and more often
_HURRIED = 0.2  # of the age limit, for those few
_PRESENT = 10.0  # seconds after its last look a session still counts


@dataclass
class _Value:
    made: float
    value: Any


@dataclass
class _Memory:
    values: dict[tuple[str, str], _Value] = field(default_factory=dict)
    working: dict[tuple[str, str], threading.Event] = field(default_factory=dict)
    forgotten: Counter[str] = field(default_factory=Counter)  # how often, by word
    sessions: dict[str, float] = field(default_factory=dict)  # when each last looked
    guard: threading.Lock = field(default_factory=threading.Lock)
    worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, "takd-lately"))


@st.cache_resource
def _memory() -> _Memory:
    return _Memory()


def tick() -> float:
    """Seconds between looks at a live run: one while few look on, two in a class."""
    return 1.0 if _few(_memory()) else 2.0


def _few(memory: _Memory) -> bool:
    """Whether so few sessions look at live pages that each can be shown what is true now. Nobody who asks outside of a
    page is counted."""
    session, now = get_script_run_ctx(suppress_warning=True), time.monotonic()
    with memory.guard:
        if session is not None:
            memory.sessions[session.session_id] = now
        memory.sessions = {name: at for name, at in memory.sessions.items() if now - at < _PRESENT}
        return 0 < len(memory.sessions) <= FEW


def lately(what: str, name: str, seconds: float, make: Callable[[], T]) -> T:
    """make(), or what it gave less than `seconds` ago.

    An older value, up to three times as old, is given back at once while a thread of the server works out the next: of
    forty pages that look at one run none waits for it. Without any value, or with one that is far too old, the first
    who asks makes it and the others wait for that one. While few look on, nothing older than a fifth of `seconds` is
    shown, and who asks makes it. An error of make is raised to who made it, and to nobody in the
    background.
    """
    memory, key = _memory(), (what, name)
    stale = _STALE
    if _few(memory):
        seconds, stale = seconds * _HURRIED, 1.0
    came = time.monotonic()
    while True:
        with memory.guard:
            known, working = memory.values.get(key), memory.working.get(key)
            age = time.monotonic() - known.made if known is not None else float("inf")
            mine = age >= seconds and working is None
            before = memory.forgotten[what]
            if mine:
                memory.working[key] = threading.Event()
        if known is not None and (age < stale * seconds or known.made >= came):
            if mine:
                memory.worker.submit(_make, memory, key, make, before, quiet=True)
            return known.value
        if mine:
            return _make(memory, key, make, before)
        if working is not None:
            working.wait(30.0)


def forget(what: str) -> None:
    """Nothing that was worked out under this word counts any more."""
    memory = _memory()
    with memory.guard:
        memory.forgotten[what] += 1
        for key in [key for key in memory.values if key[0] == what]:
            del memory.values[key]


def _make(memory: _Memory, key: tuple[str, str], make: Callable[[], Any], before: int, quiet: bool = False) -> Any:
    """Make a value and keep it, unless its word was forgotten since it was `before` times."""
    try:
        value = make()
        with memory.guard:
            memory.values.pop(key, None)
            if memory.forgotten[key[0]] == before:
                memory.values[key] = _Value(time.monotonic(), value)  # the newest last
            for oldest in list(memory.values)[:-_KEPT]:
                del memory.values[oldest]
        return value
    except Exception:
        if not quiet:
            raise
        return None
    finally:
        with memory.guard:
            done = memory.working.pop(key)
        done.set()


@st.cache_resource
def turn() -> threading.BoundedSemaphore:
    """To be held while a live page is drawn. Python runs one thread at a time; more of them only wait for each other's
    locks, and every page is later than if they had come one after another."""
    return threading.BoundedSemaphore(AT_ONCE)
