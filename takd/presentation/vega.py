"""Vega-Lite specifications made of plain dictionaries, in the words of Altair as far as the charts here use them.

Altair checks and copies every part of a chart at every step, which took most of the time of a page: its eight charts
cost 2.6 s of processor time and these cost 0.2 s. That they are valid Vega-Lite is checked by the tests, with Altair's
own schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

import pandas as pd

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.4.1.json"
Part = dict[str, Any]


class _Absent:
    """The value of a setting that is left out; None is written as null, which often means something."""


ABSENT = _Absent()
_TYPES = {"Q": "quantitative", "N": "nominal"}


def part(**settings: Any) -> Part:
    """A piece of a specification: a scale, an axis, a title, ..."""
    return {name: value for name, value in settings.items() if value is not ABSENT}


def field(shorthand: str, **settings: Any) -> Part:
    """An encoding of a column, written `name:Q` (a number) or `name:N` (a word)."""
    name, _, kind = shorthand.rpartition(":")
    return {"field": name, "type": _TYPES[kind], **part(**settings)}


def value(constant: Any) -> Part:
    """An encoding that is the same for every row, in pixels or as a colour."""
    return {"value": constant}


def when(selection: str, then: Part, otherwise: Part) -> Part:
    """An encoding that depends on whether a mark is selected."""
    return {"condition": {"param": selection, "empty": False, **then}, **otherwise}


class Chart:
    """One mark over one table, or several of those on top of each other (`layer`).

    mark() and encode() and the transforms give changed copies that share their parts; nothing is copied deeply, so a
    part must not be changed once it was used.
    """

    def __init__(
        self, data: pd.DataFrame | None = None, spec: Part | None = None, layers: tuple[Chart, ...] = ()
    ) -> None:
        self.data, self.spec, self.layers = data, spec or {}, layers

    def _with(self, **settings: Any) -> Self:
        return type(self)(self.data, {**self.spec, **settings}, self.layers)

    def mark(self, kind: str, **settings: Any) -> Self:
        """Draw every row as a `point`, `rule`, `line`, `rect` or `text`. For screen readers a chart is one picture with
        its text: marks without rows would be pictures without one."""
        return self._with(mark={"type": kind, "aria": False, **part(**settings)})

    def encode(self, **channels: Any) -> Self:
        """Where and how a row is drawn; a string stands for field(string)."""
        encoding = {name: _channel(name, given) for name, given in channels.items()}
        return self._with(encoding={**self.spec.get("encoding", {}), **encoding})

    def calculate(self, **formulas: str) -> Self:
        """Add columns computed in the browser from fixed formulas."""
        steps = [{"calculate": formula, "as": name} for name, formula in formulas.items()]
        return self._with(transform=[*self.spec.get("transform", []), *steps])

    def filter(self, formula: str) -> Self:
        """Keep the rows for which a fixed formula holds."""
        return self._with(transform=[*self.spec.get("transform", []), {"filter": formula}])

    def selectable(self, name: str, fields: list[str]) -> Self:
        """Let a click select rows by `fields`; the page receives the selection under `name`."""
        return self._with(select={"name": name, "fields": fields})

    def settings(self, **settings: Any) -> Self:
        """Size, title, background and the like of the whole chart."""
        return self._with(**settings)

    def parts(self) -> tuple[Part, dict[str, pd.DataFrame]]:
        """The specification without its data, and the tables it names; what several marks draw is one table."""
        tables: dict[int, tuple[str, pd.DataFrame]] = {}
        params: list[Part] = []
        spec = {"$schema": SCHEMA, **_written(self, tables, params, [0])}
        if params:
            spec["params"] = params
        return spec, dict(tables.values())

    def to_dict(self) -> Part:
        """The specification with its data as rows: what files and other programs need."""
        spec, tables = self.parts()
        rows = {
            name: json.loads(table.to_json(orient="records", double_precision=15)) for name, table in tables.items()
        }
        return {**spec, "datasets": rows}


def layer(*charts: Chart, **settings: Any) -> Chart:
    """Charts on top of each other, the first at the back."""
    return Chart(spec=settings, layers=charts)


def _channel(name: str, given: Any) -> Any:
    if isinstance(given, list):
        return [_channel(name, item) for item in given]
    if not isinstance(given, str):
        return given
    # The far end of a range has the type of its near end.
    return {"field": given.partition(":")[0]} if name in ("x2", "y2") else field(given)


def _written(chart: Chart, tables: dict[int, tuple[str, pd.DataFrame]], params: list[Part], views: list[int]) -> Part:
    """A chart as Vega-Lite has it. Tables are collected under names, selections for the top with their views."""
    own = {name: value for name, value in chart.spec.items() if name != "select"}
    before = views[0]
    if chart.layers:
        own["layer"] = [_written(one, tables, params, views) for one in chart.layers]
    else:
        views[0] += 1
        own["name"] = f"view_{views[0]}"
    if chart.data is not None:
        known = tables.setdefault(id(chart.data), (f"table_{len(tables) + 1}", chart.data))
        own["data"] = {"name": known[0]}
    if isinstance(select := chart.spec.get("select"), Mapping):
        click = {"type": "point", "on": "click", "fields": select["fields"]}
        # The first layer listens for all of them: a selection that two views define is an error.
        params.append({"name": select["name"], "select": click, "views": [f"view_{before + 1}"]})
    return own
