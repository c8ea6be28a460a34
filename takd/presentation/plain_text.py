"""Text of strangers, so that Markdown shows it as it is."""

from __future__ import annotations

import re

_WORD_JOINER = "\N{WORD JOINER}"  # no letter and no room
# The browser makes links of bare addresses (GFM), also after the signs in them were escaped: it looks at the text that
# is left. With a joiner inside them they are no addresses.
_IN_ADDRESSES = re.compile(r"(?<=www)(?=\.)|(?<=:)(?=//)|(?<=@)", re.IGNORECASE)


def plain(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no links, no images, no formulas."""
    text = _IN_ADDRESSES.sub(_WORD_JOINER, text)
    for mark in "\\`*_[]<>$:#~|!":
        text = text.replace(mark, f"\\{mark}")
    return text


def unescaped(text: str) -> str:
    """What `plain` was given, for files in which nothing makes markup of it."""
    return text.replace("\\", "").replace(_WORD_JOINER, "")
