"""Replay: a finished question played back epoch by epoch, through the same figures as a live run.

The scrubber's tick is in the URL (`e`), 0 when nothing is replayed. In slow motion each hop along the path is a scene
of its own: the replay stops where it ends and says what happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import streamlit as st

from takd.analysis.replay import Hop, Timeline, timeline
from takd.presentation import lately, panels, ui, view, words
from takd.presentation.study import Study
from takd.runs.store import Store

_TICKS = 40  # of a replay at normal speed: a longer one takes several epochs at a time
NORMAL, SLOW = 0.6, 1.2  # seconds between ticks
_PLAYING, _SLOW = "replay-playing", "replay-slow"


def offered(shown: Study | None, differences: object, *, busy: bool) -> bool:
    """Whether what is on screen can be played back: it answers the question asked, and nothing trains."""
    return shown is not None and differences is None and not busy and shown.seeds_done > 0


def on() -> bool:
    """Whether something is being played back."""
    return int(view.get("e")) > 0


def begin_button() -> None:
    """The button that starts it."""
    st.button(
        "Replay",
        key="replay-begin",
        icon=":material/replay:",
        on_click=_begin,
        help="Play this result back epoch by epoch, as it was trained. Nothing is trained.",
        disabled=view.locked("e"),
    )


def _begin() -> None:
    view.put("e", 1)
    st.session_state[_PLAYING] = True


def end() -> None:
    """Show the finished result again."""
    view.put("e", 0)
    st.session_state[_PLAYING] = False


def player(shown: Study, store: Store, results: Callable[[Study, Store], None]) -> None:
    """Scrubber, buttons and figures as they were at its tick. `results` draws everything under the form."""
    st.fragment(_played, run_every=_period())(shown, store, results, _period())


def _period() -> float | None:
    """Seconds between ticks; None while it stands still."""
    if not st.session_state.get(_PLAYING):
        return None
    return SLOW if st.session_state.get(_SLOW) else NORMAL


def _played(shown: Study, store: Store, results: Callable[[Study, Store], None], timer: float | None) -> None:
    if timer != _period():
        st.rerun()  # the whole page, which sets the timer anew
    clock = _clock(shown)
    tick = min(int(view.get("e")), clock.length)
    if st.session_state.get(_PLAYING):
        tick = _next(clock, tick)
    view.put("e", tick)
    past, then = lately.replayed(shown, store, tick)
    st.title(ui.plain(caption(clock, tick).replace("-", ui.UNBROKEN_HYPHEN)), anchor=False)
    st.caption(ui.plain(_SOURCE.format(origin=panels.origin_line(shown, store))))
    _controls(clock, tick)
    results(past, cast(Store, then))


_SOURCE = (
    "Played back from stored numbers on one clock: every training begins when its teachers are done, one step is one "
    "epoch, all seeds side by side. {origin}"
)


def _next(clock: Timeline, tick: int) -> int:
    """The tick after this one; stops the replay at the end, and in slow motion at the end of each hop."""
    slow = bool(st.session_state.get(_SLOW))
    step = 1 if slow else max(1, round(clock.length / _TICKS))
    stops = [hop.end for hop in clock.hops] if slow else [clock.length]
    after = min([tick + step, *(stop for stop in stops if stop > tick)])
    if after in stops or after >= clock.length:
        st.session_state[_PLAYING] = False
        if tick != after:
            view.put("e", after)
            st.rerun()  # the whole page, so that the timer ends
    return min(after, clock.length)


def caption(clock: Timeline, tick: int) -> str:
    """What goes on at a tick, in one sentence."""
    hop = clock.hop_at(tick)
    place = f"epoch {tick - hop.start} of {hop.end - hop.start}"
    if tick >= clock.length:
        return f"Done: {hop.role} {hop.network} has learned{_from(hop)}"
    if tick == hop.end:
        return f"{words.capital(hop.role)} {hop.network} is done; next, {_after(clock, hop)}"
    return f"{words.capital(hop.role)} {hop.network} learns{_from(hop)}: {place}"


def _from(hop: Hop) -> str:
    return f" from {hop.teacher}" if hop.teacher else " from the labels"


def _after(clock: Timeline, hop: Hop) -> str:
    following = clock.hops[clock.hops.index(hop) + 1]
    return f"{following.role} {following.network} learns{_from(following)}"


def _controls(clock: Timeline, tick: int) -> None:
    playing = bool(st.session_state.get(_PLAYING))
    stops = [hop.end for hop in clock.hops]
    following = next((stop for stop in stops if stop > tick), clock.length)
    before = max([0, *(stop for stop in stops if stop < tick)])
    with st.container(horizontal=True, vertical_alignment="center"):
        _step("Hop back", "skip_previous", max(before, 1), None)
        _step("Back", "chevron_left", max(tick - 1, 1), "Left")
        # Two buttons, not one that toggles: a click that a busy server takes twice pauses twice.
        if playing:
            st.button("Pause", key="replay-pause", icon=":material/pause:", on_click=_pause, **_MAIN)
        else:
            start = 1 if tick >= clock.length else tick
            st.button("Play", key="replay-play", icon=":material/play_arrow:", on_click=_play, args=(start,), **_MAIN)
        _step("Step", "chevron_right", min(tick + 1, clock.length), "Right")
        _step("Next hop", "skip_next", following, None)
        st.session_state["replay-slow-toggle"] = bool(st.session_state.get(_SLOW))
        st.toggle("Slow motion", key="replay-slow-toggle", on_change=_slowed, help="Stops where each hop ends.")
        if st.button("End replay", key="replay-end", icon=":material/close:"):
            end()
            st.rerun()
    if playing:  # a slider that moves by itself would now and then send back where the browser still has it
        st.progress(tick / clock.length)
    elif clock.length > 1:
        st.session_state["replay-tick"] = tick
        st.slider("Epoch", 1, clock.length, key="replay-tick", on_change=_scrubbed, label_visibility="collapsed")


_MAIN: dict[str, Any] = {"type": "primary", "shortcut": "Space"}


def _play(start: int) -> None:
    view.put("e", start)
    st.session_state[_PLAYING] = True


def _pause() -> None:
    st.session_state[_PLAYING] = False


def _step(label: str, icon: str, target: int, shortcut: str | None) -> None:
    if st.button(label, key=f"replay-{icon}", icon=f":material/{icon}:", shortcut=shortcut, type="tertiary"):
        view.put("e", target)
        st.session_state[_PLAYING] = False
        st.rerun()


def _slowed() -> None:
    st.session_state[_SLOW] = bool(st.session_state["replay-slow-toggle"])


def _scrubbed() -> None:
    if st.session_state.get(_PLAYING):
        return  # nobody moved it: while it plays there is no slider, and a slow browser still sends the one it had
    view.put("e", int(st.session_state["replay-tick"]))
    st.session_state[_PLAYING] = False


def _clock(shown: Study) -> Timeline:
    return timeline(shown.plan, shown.chosen)
