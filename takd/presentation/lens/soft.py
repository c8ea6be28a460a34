"""Soft answers on the page "Look inside": a picture, and what each network answers to it at any temperature."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import streamlit as st

from takd.analysis import inside
from takd.evaluation.answers_read import pictures
from takd.presentation import panels, ui, view
from takd.presentation.formats import listing, percent
from takd.presentation.lens import charts as lens_charts
from takd.presentation.lens import data as lens_data
from takd.presentation.lens.data import Voice
from takd.presentation.lens.panels import NO_ANSWERS, NO_LABELS, caption, seed_of
from takd.presentation.study import Study
from takd.runs.store import Store


def soft(shown: Study, store: Store) -> None:
    """One picture: what each network answers, at any temperature."""
    y = lens_data.lens_truth(shown, store)
    if not lens_data.lens_seeds(shown, store):
        st.info(NO_ANSWERS, icon=":material/visibility_off:")
        return
    if y is None:
        st.info(NO_LABELS, icon=":material/label_off:")
        return
    names = lens_data.lens_names(shown, store)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        view.select("lf", width=260)
        if view.get("lf") == "class":
            number = min(int(view.get("lc")), len(names) - 1)
            view.put("lc", number)
            view.select("lc", options=list(range(len(names))), format_func=lambda n: ui.plain(names[n]), width=180)
        with st.container(width=180):
            seed = seed_of(shown, store)
        with st.container(width=220):
            view.slider("lt")
    assert seed is not None
    heard = lens_data.heard(shown, store, seed, len(y))
    student = heard.of(lens_data.student_of(shown))
    if student is None:
        st.info(f"The student's answers at seed {seed} are not stored.", icon=":material/visibility_off:")
        return
    first = lens_data.teacher_of(shown)
    teacher = heard.of(first)
    guide = student if teacher is None else teacher
    places = inside.probes(view.get("lf"), guide, student, y, int(view.get("lc")))
    chosen = _chosen_image(places, len(y))
    if chosen is None:
        st.caption("No test image fits this filter at this seed.")
        return
    shown_places = [int(place) for place in places]
    if chosen not in shown_places:
        shown_places = [chosen, *shown_places[:23]]
    _strip(shown, store, shown_places, chosen, student, y, names, seed)
    _bars(shown, store, heard, chosen, y, names)
    if teacher is not None and first is not None:
        st.markdown(ui.plain(_similar(first, teacher, y, int(y[chosen]), names, view.get("lt"), seed)))


def _chosen_image(places: np.ndarray, count: int) -> int | None:
    """The image that is looked at: the one just clicked, else the URL's, else the first of the filter."""
    state, key, before = st.session_state, "pick-lens-strip", "lens-image"
    clicked = state.get(key)
    if clicked is not None and clicked != state.get(before) and str(clicked).isdigit():
        view.put("img", int(clicked))
        view.follow("lens")  # the URL was written before this page knew of the click
    wanted = int(view.get("img"))
    if 0 <= wanted < count:
        found = wanted
    elif len(places):
        found = int(places[0])
    else:
        return None
    state[key] = state[before] = str(found)
    return found


def _strip(
    shown: Study,
    store: Store,
    places: list[int],
    chosen: int,
    student: np.ndarray,
    y: np.ndarray,
    names: tuple[str, ...],
    seed: int,
) -> None:
    pixels = pictures(lens_data.data_of(shown), places)
    said = student[places].argmax(1)
    table = pd.DataFrame(
        {
            "image": places,
            "truth": [names[int(y[place])] for place in places],
            "said": [names[int(answer)] for answer in said],
            "right": said == y[places],
        }
    )
    here = pixels is not None
    there = f"Seed {seed}, one run. ✓ and ✗: whether {shown.spec.student} is right after the chosen way. "
    ui.figure(
        "lens-strip",
        lambda compact, dark: lens_charts.strip_chart(
            table.assign(picture=_uris(pixels) if pixels is not None else ""), chosen, dark, compact
        ),
        lambda: f"{len(table)} test images to choose from; image {chosen} ({names[int(y[chosen])]}) is chosen.",
        table,
        depends=(chosen, here, lens_data.data_of(shown).fingerprint),
        title="test images",
        caption=caption(shown, store, there + ("" if here else "Picture: needs the data set.")),
        pick=ui.Pick(
            "image",
            {str(place): f"image {place}, {names[int(y[place])]}" for place in places},
            label="Test image",
            nothing=f"image {chosen}",
        ),
    )


def _uris(pixels: np.ndarray) -> list[str]:
    from PIL import Image  # only here: most sections have no pictures

    found = []
    for picture in pixels:
        buffer = io.BytesIO()
        Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(buffer, "PNG")
        found.append(f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}")
    return found


def _bars(
    shown: Study, store: Store, heard: lens_data.Heard, chosen: int, y: np.ndarray, names: tuple[str, ...]
) -> None:
    temperature, truth = float(view.get("lt")), int(y[chosen])
    shares = [inside.soft_answers(logits[chosen], temperature) for logits in heard.logits]
    order = inside.leading(shares, truth)
    labels = {number: f"{names[number]}{' (true)' if number == truth else ''}" for number in order}
    bars = pd.DataFrame(
        [
            {"panel": voice.name, "entropy": float(inside.entropies(share)), "role": voice.role}
            | {"method": voice.method, "label": labels[number], "share": float(share[number])}
            for voice, share in zip(heard.voices, shares, strict=True)
            for number in order
        ]
    )
    absent = [voice.short for voice in lens_data.lens_voices(shown) if voice not in heard.voices]
    said = listing(
        f"{v.short} {names[int(share.argmax())]} ({percent(float(share.max()), 0)})"
        for v, share in zip(heard.voices, shares, strict=True)
    )
    ui.figure(
        "lens-soft",
        lambda compact, dark: lens_charts.soft_chart(bars, list(labels.values()), dark, compact),
        lambda: f"Soft answers at T = {temperature:g} to a test image of {names[truth]}. Most likely for: {said}.",
        bars,
        depends=(tuple(labels.values()),),
        title=f"soft answers at T = {temperature:g} to test image {chosen}",
        caption=caption(
            shown,
            store,
            f"Seed {heard.seed}, one run. The {len(order)} classes with the largest share on average over these "
            f"networks; softmax of the stored logits at T = {temperature:g}."
            + (f" Without stored answers, and so not here: {listing(absent)}." if absent else ""),
        ),
        arms=panels.shown_arms(shown),
    )


def _similar(
    first: Voice, teacher: np.ndarray, y: np.ndarray, truth: int, names: tuple[str, ...], temperature: float, seed: int
) -> str:
    share = inside.similar_classes(teacher, y, truth, temperature)
    others = [int(number) for number in np.argsort(-share) if number != truth][:2]
    images = int((y == truth).sum())
    told = " and ".join(f"{names[number]} ({percent(float(share[number]))})" for number in others)
    return (
        f"Over all {images} test images of {names[truth]}, {first.short} gives {percent(float(share[truth]))} to the "
        f"true class at T = {temperature:g} and, of the others, most to {told}: what it finds similar to "
        f"{names[truth]}. "
        f"That is what a student hears beyond the label (seed {seed}, one run)."
    )
