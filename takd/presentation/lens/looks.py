"""Landscapes and maps on the page "Look inside": what a process computed, and the button that asks for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from takd.data.catalogue import is_ready
from takd.data.meta import not_prepared
from takd.networks.table import capacity_or_least
from takd.presentation import panels, ui, view, visitor
from takd.presentation.formats import duration, listing
from takd.presentation.lens import data as lens_data
from takd.presentation.lens.data import Voice
from takd.presentation.lens.looks_charts import MOST, line_chart, map_chart, plane_chart
from takd.presentation.lens.panels import NO_ANSWERS, NO_LABELS, caption, look_of, seed_of
from takd.presentation.study import Study
from takd.runs.errors import RunError
from takd.runs.jobs import may_stop
from takd.runs.looking import looking, read_look, start, stop
from takd.runs.policy import read_only
from takd.runs.store import Store

Found = list[tuple[Voice, dict[str, Any]]]

_TICK = 1.0  # seconds between looks at what is being computed
_ASKED = "looking-asked"
# Seconds, measured on one busy core: a process's start with its images, per MAC of a forward pass, per map
_START, _PER_MAC, _MAP = 10.0, 2.5e-10, 5.0
_PLACES = {"line": 41, "plane": 441}
_IMAGES = 1000
_ABOUT = (
    "training images, the same for all, along random directions that are scaled filter by filter to the network's own "
    "norms (Li et al. 2018); biases and batch norm's own weights stay, and batch norm keeps the statistics of the "
    "training. 0 is the trained network. Directions follow from the stage's key, so that they are the same each time."
)


def land(shown: Study, store: Store) -> None:
    """The training loss around each student's weights."""
    if shown.in_one_network:
        st.info(
            "A network of several sub-models has several losses, and no one landscape.", icon=":material/landscape:"
        )
        return
    students = [voice for voice in lens_data.lens_voices(shown) if voice.arm]
    left, right = st.columns([1, 1], vertical_alignment="bottom")
    with left:
        view.segmented("ld", label_visibility="collapsed")
    with right:
        seed = _seed(students, store)
    if seed is None:
        st.info("No student of this question has finished yet.", icon=":material/hourglass_empty:")
        return
    what = "line" if view.get("ld") == "1" else "plane"
    found, missing = _stored(students, seed, what, store)
    st.subheader("How steep is the loss around the trained students?", anchor=False)
    if found:
        frame, look = _frame(found, what), look_of(shown)
        told = listing(f"{voice.short} {_rise(row):.2f}" for voice, row in found)
        ui.figure(
            "lens-landscape",
            lambda compact, dark: (line_chart if what == "line" else plane_chart)(frame, look, dark, compact),
            lambda: f"Loss landscape. Mean rise of the loss at distance 0.5 of the trained weights: {told}.",
            frame,
            depends=(what, tuple(look.items())),
            title="loss landscape",
            caption=caption(
                shown,
                store,
                f"Seed {seed}, one run, and one draw of directions. {_about(found)} Losses above {MOST:g} are cut.",
            ),
            arms=panels.shown_arms(shown),
        )
        st.markdown(
            ui.plain(
                f"Half a step away from the trained weights the loss has risen by, in nats: {told}. One run and one "
                "draw of directions: a picture of these networks, not a comparison of methods."
            )
        )
    else:
        st.caption(ui.plain(_about(found) + _elsewhere(students, what, store)))
    name = shown.dataset.name
    problem = "" if is_ready(name) else f"A landscape needs training images. {not_prepared(name)}"
    _ask(store, what, [v.keys[seed] for v in missing], problem, _seconds(what, missing, shown))


def _about(found: Found) -> str:
    """What a landscape is, with the number of images that was used: small data sets have fewer than others."""
    counts = sorted({int(row["images"]) for _, row in found if isinstance(row.get("images"), int)})
    images = " to ".join(f"{n:,}" for n in (counts[0], counts[-1])[: len(counts)]) if counts else f"up to {_IMAGES:,}"
    return f"Training loss (cross-entropy, nats) on {images} {_ABOUT}"


def _elsewhere(students: Sequence[Voice], what: str, store: Store) -> str:
    """Where the slider has to go to see what is stored."""
    seeds = sorted({seed for voice in students for seed in voice.keys if _stored([voice], seed, what, store)[0]})
    return f" Stored for seed{'s' if len(seeds) > 1 else ''} {listing(map(str, seeds))}." if seeds else ""


def _seed(students: Sequence[Voice], store: Store) -> int | None:
    seeds = sorted({s for voice in students for s, key in voice.keys.items() if store.is_done(key)})
    if len(seeds) > 1:
        view.slider("ls", min_value=seeds[0], max_value=seeds[-1])
    return min(seeds, key=lambda one: abs(one - int(view.get("ls")))) if seeds else None


def _stored(voices: Sequence[Voice], seed: int, what: str, store: Store) -> tuple[Found, list[Voice]]:
    """(voices with what was computed of them, finished ones without)."""
    found: Found = []
    missing = []
    for voice in voices:
        key = voice.keys.get(seed, "")
        row = read_look(store, key, what) if key else None
        if row is not None and _sound(row, what):
            found.append((voice, row))
        elif key and store.is_done(key):
            missing.append(voice)
    return found, missing


def _sound(row: dict[str, Any], what: str) -> bool:
    """Whether a file holds numbers of the shape it should."""
    lists = ("x", "y", "images") if what == "map" else ("places", "loss")
    values = [row.get(name) for name in lists]
    if not all(isinstance(v, list) and v and all(isinstance(n, (int, float)) for n in v) for v in values):
        return False
    sizes = [len(v) for v in values if isinstance(v, list)]
    return len(set(sizes)) == 1 if what != "plane" else sizes[1] == sizes[0] ** 2


def _frame(found: Found, what: str) -> pd.DataFrame:
    """Columns: voice, x, y (0 along a line), loss."""
    rows = []
    for voice, row in found:
        places, values = row["places"], row["loss"]
        if what == "line":
            rows += [(voice.name, x, 0.0, z) for x, z in zip(places, values, strict=True)]
        else:
            rows += [
                (voice.name, x, y, values[i * len(places) + j])
                for i, y in enumerate(places)
                for j, x in enumerate(places)
            ]
    return pd.DataFrame(rows, columns=["voice", "x", "y", "loss"])


def _rise(row: dict[str, Any]) -> float:
    """Mean rise of the loss at half a step along the first direction, both ways."""
    places, middle = row["places"], len(row["places"]) // 2
    values = (
        row["loss"]
        if len(row["loss"]) == len(places)
        else row["loss"][middle * len(places) : (middle + 1) * len(places)]
    )
    at = [values[i] for i, place in enumerate(places) if math.isclose(abs(place), 0.5)]
    return sum(at) / len(at) - values[middle] if at else math.nan


def _seconds(what: str, voices: Sequence[Voice], shown: Study) -> float:
    if what == "map":
        return 3 + _MAP * len(voices)
    macs = sum(
        capacity_or_least(shown.plan.stages[next(iter(v.keys.values()))].network, shown.dataset.classes).macs
        for v in voices
    )
    return _START + _PER_MAC * macs * _IMAGES * _PLACES[what]


def maps(shown: Study, store: Store) -> None:
    """t-SNE of the answers of each network."""
    if not lens_data.lens_seeds(shown, store):
        st.info(NO_ANSWERS, icon=":material/visibility_off:")
        return
    labels, names = lens_data.lens_truth(shown, store), lens_data.lens_names(shown, store)
    if labels is None:
        st.info(NO_LABELS, icon=":material/label_off:")
        return
    with st.container(width=260):
        seed = seed_of(shown, store)
    assert seed is not None
    voices = [v for v in lens_data.lens_voices(shown) if v.part in (None, 0) and lens_data.has_answers(v, seed, store)]
    found, missing = _stored(voices, seed, "map", store)
    st.subheader("Which pictures does each network find alike?", anchor=False)
    if found:
        frame = pd.DataFrame(
            [
                {
                    "voice": voice.name,
                    "image": image,
                    "x": x,
                    "y": y,
                    "number": int(labels[image]),
                    "truth": names[int(labels[image])],
                }
                for voice, row in found
                for image, x, y in zip(row["images"], row["x"], row["y"], strict=True)
                if 0 <= image < len(labels)
            ]
        )
        count = len(found[0][1]["images"])
        look = look_of(shown)
        ui.figure(
            "lens-map",
            lambda compact, dark: map_chart(frame, look, dark, compact),
            lambda: (
                f"t-SNE maps of the answers of {listing(v.short for v, _ in found)} to {count} test images, by class."
            ),
            frame,
            depends=(tuple(look.items()),),
            title="maps of answers",
            caption=caption(
                shown,
                store,
                f"Seed {seed}, one run. t-SNE of the standardised logits of {count} test images, the same for all; "
                f"perplexity {found[0][1].get('perplexity', 30):g}. Letters and colours: the true class. Only "
                "neighbourhoods mean something: distances between groups, their sizes and the axes do not.",
            ),
            arms=panels.shown_arms(shown),
        )
    if shown.in_one_network:
        st.caption("Maps are of the main answer of a stage; single sub-models have none.")
    _ask(store, "map", [v.keys[seed] for v in missing], "", _seconds("map", missing, shown))


def _ask(store: Store, what: str, keys: Sequence[str], problem: str, seconds: float) -> None:
    now = looking(store)
    going_on = now is not None and now.active
    st.fragment(_panel, run_every=_TICK if going_on else None)(store, what, tuple(keys), problem, seconds)


def _panel(store: Store, what: str, keys: tuple[str, ...], problem: str, seconds: float) -> None:
    """How far it is, or the button. When it ends, the whole page is drawn again."""
    now, state = looking(store), st.session_state
    if now is not None and now.active:
        state[_ASKED] = now.id
        st.progress(
            now.share, text=f"Computing{f' ({ui.plain(now.text)})' if now.text else ''}: {100 * now.share:.0f} %"
        )
        person = visitor.person(store)
        if may_stop(now, person) and st.button("Stop", icon=":material/stop:", key="looking-stop"):
            try:
                stop(store, person)
            except RunError as error:
                st.error(ui.plain(str(error)))
            else:
                st.rerun()
        return
    if state.pop(_ASKED, None) is not None:
        st.rerun()  # without the timer, and with what was found
    if not keys:
        return
    if now is not None and now.state in ("failed", "lost"):
        st.caption(f"The last one did not finish. {ui.plain(now.text)}")
    if problem:
        st.info(ui.plain(problem), icon=":material/image_not_supported:")
        return
    if read_only() or visitor.person(store).refused:
        st.caption("Not computed yet, and this server only shows what is stored.")
        return
    help_text = store.writable() or "Runs in the background; you can close the page meanwhile. The result is kept."
    if st.button(
        f"Compute ({duration(seconds)})",
        icon=":material/play_arrow:",
        key=f"looking-{what}",
        disabled=bool(store.writable()),
        help=help_text,
    ):
        try:
            state[_ASKED] = start(store, what, keys, visitor.person(store))
        except RunError as error:
            st.error(ui.plain(str(error)))
        else:
            st.rerun()
