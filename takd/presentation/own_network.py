"""Taking in a network of the visitor's own: a path, a check, and what came of it in sentences.

The file is code and checking runs it on the server's machine, so this is for a server whose visitors may run programs
there anyway: alone on their computer. On a public or read-only server, and where people sign in, nothing of this is
drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from takd.data.table import Dataset
from takd.networks.own import OwnNetwork, check, own_networks
from takd.networks.table import NETWORKS, OWN, NetworkError, family_of
from takd.presentation import ui, visitor, words
from takd.runs.policy import public, read_only

_SAID = "own-said"
_PILLS = 48  # letters of a line of pills, with four for the room around each


def allowed() -> bool:
    """Whether visitors may name files of the server: only the machine's own person, who may start any program there."""
    return not (public() or read_only()) and visitor.person(ui.store()).everything


def label(name: str) -> str:
    """A network's name as lists show it; a user's own comes with its file, because digits say nothing."""
    return f"{NETWORKS[name].label} ({name})" if family_of(name) == OWN else name


def pill_labels(names: Sequence[str]) -> Callable[[str], str]:
    """Labels of pills that fit into one line: sizes alone where names are too many or too long. Pills read Markdown,
    unlike a selectbox, and a file may be called anything."""
    full = {name: label(name) for name in names}
    if sum(len(text) + 4 for text in full.values()) > _PILLS:
        full = {name: _short(name) for name in names}
    return lambda name: ui.plain(full.get(name, name))


def _short(name: str) -> str:
    row = NETWORKS[name]
    return f"{row.label} {name[len(OWN) + 1 :][:4]}" if row.family == OWN else str(row.size)


def form(dataset: Dataset) -> None:
    """The field, the button and the answer."""
    if not allowed():
        return
    shape = " x ".join(map(str, dataset.input_shape))
    st.divider()
    st.markdown("**Your own network**")
    st.caption(
        f"A Python file with a function build(classes) that returns a torch.nn.Module. On {ui.plain(dataset.label)} "
        f"it reads images of {shape} and returns {dataset.classes} logits. It is run here: give only one you trust."
    )
    path = st.text_input("Path of the file on the app's computer", key="own-path", placeholder="my_network.py")
    if st.button("Check file", key="own-check", icon=":material/fact_check:"):
        with st.spinner("Building it, running it and training it for one step: a few seconds"):
            said = _checked(path.strip(), dataset)
        st.session_state[_SAID] = (dataset.name, *said)
        st.rerun()  # the lists above were drawn before it was known
    data, good, sentences = st.session_state.get(_SAID, ("", False, ()))
    if data == dataset.name:
        for sentence in sentences:
            (st.success if good else st.error)(ui.plain(sentence))
    if here := own_networks(dataset.classes, dataset.input_shape):
        st.caption(ui.plain(f"To choose from: {', '.join(label(n.name) for n in here)}."))


def _checked(path: str, dataset: Dataset) -> tuple[bool, tuple[str, ...]]:
    """Whether the file is usable, and sentences."""
    if not path:
        return False, ("Give the path of a file first.",)
    try:
        return True, _measured(check(path, dataset.classes, dataset.input_shape))
    except NetworkError as error:
        return False, (str(error),)


def _measured(found: OwnNetwork) -> tuple[str, ...]:
    size = f"{words.size(found.params)} parameters, {words.size(found.macs)} MACs per image"
    first = f"{found.file} can be used: {size}. Choose it as teacher, student or assistant under {found.name}."
    return (first, *(f"Note: {note}" for note in found.notes))
