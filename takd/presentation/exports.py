"""Figures and tables as files, made offline."""

from __future__ import annotations

import json
from textwrap import wrap
from typing import Any

import pandas as pd
import vl_convert

from takd.presentation.theme import palette

_SUBTITLE = 130  # characters that fit below the title
EXPORT_WIDTH = 900  # pixels; on the page a figure takes the width of its place
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def chart_bytes(chart: Any, kind: str, title: str = "", source: str = "") -> bytes:
    """A chart drawn for light ground as `png` (two pixels per point) or `svg`, with a title and a line that says where
    its numbers come from: a picture on a slide has to stand alone."""
    spec = _standing_alone(chart, title, source)
    if kind == "png":
        return bytes(vl_convert.vegalite_to_png(spec, scale=2.0))
    if kind == "svg":
        return str(vl_convert.vegalite_to_svg(spec)).encode()
    raise ValueError(f"There is no figure export called {kind!r}.")


_SCRIPT = '''"""{title}

{source}

Draws takd-{name}.html; needs `pip install altair`. The numbers are in SPEC["datasets"].
"""

import json

import altair as alt

SPEC = json.loads(r"""
{spec}
""")

chart = alt.Chart.from_dict(SPEC)
chart.save("takd-{name}.html")
'''


def script_bytes(chart: Any, name: str, title: str, source: str) -> bytes:
    """A Python program that draws the figure with Altair, its numbers included: somewhere to start from for a paper."""
    spec = json.dumps(_standing_alone(chart, title, source), indent=1, ensure_ascii=True)
    said = [" ".join(text.replace("\\", " ").replace('"', "'").split()) for text in (title, source)]
    return _SCRIPT.format(title=said[0], source=said[1], name=name, spec=spec).encode()


def _standing_alone(chart: Any, title: str, source: str) -> dict[str, Any]:
    """The specification on light ground, of a fixed width, with its title."""
    spec: dict[str, Any] = chart.to_dict()
    ground = palette(dark=False)
    spec["background"] = ground.background
    if title:
        lines = wrap(source, _SUBTITLE)  # a line that is too long is cut at the edge
        spec["title"] = {"text": title, "subtitle": lines, "anchor": "start", "fontSize": 16, "offset": 14}
        spec["title"] |= {"color": ground.text, "subtitleColor": ground.muted, "subtitleFontSize": 12}
    spec["width"] = EXPORT_WIDTH  # in the place of the page's
    spec["padding"] = 16
    return spec


def table_bytes(frame: pd.DataFrame) -> bytes:
    """The table as CSV (UTF-8); text that a spreadsheet would run as a formula is quoted."""
    safe = frame.copy()
    for column in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[column]) and not pd.api.types.is_bool_dtype(safe[column]):
            safe[column] = [
                f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value
                for value in safe[column].astype(object)
            ]
    return str(safe.to_csv(index=False)).encode()
