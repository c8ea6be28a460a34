"""What page tests share: a real little study on digits, trained once per session, and the pages under AppTest."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from streamlit.testing.v1 import AppTest

from takd.data.catalogue import available_datasets
from takd.plan import build_plan
from takd.runs.store import Store
from takd.spec import ExperimentSpec, to_query

FRAME = str(Path(__file__).parents[1] / "takd" / "presentation" / "frame.py")
SMALL = ExperimentSpec(
    dataset="digits",
    teacher="mlp-32",
    assistants=("mlp-16",),
    student="mlp-8",
    budget="taste",
    seeds=3,
    temperature=1.0,
    noise=0.2,
    scope="chain",
)


def train_here(spec: ExperimentSpec, root: Path) -> Store:
    """Train a spec in this process, stage by stage."""
    from takd.training.run_stage import run_stage

    store = Store(root)
    plan = build_plan(spec, available_datasets()["digits"])
    for stage in plan.stages.values():
        store.ensure(stage)
        run_stage(store, stage.key, device="cpu")
    return store


def open_page(query: dict[str, list[str]] | ExperimentSpec | None = None, page: str | None = None) -> AppTest:
    """Run the app as a visitor with this URL would, with the box of further choices open."""
    at = AppTest.from_file(FRAME, default_timeout=60)
    at.session_state["more"] = True
    values = to_query(query, full=True) if isinstance(query, ExperimentSpec) else query or {}
    for name, items in values.items():
        at.query_params[name] = items
    at.run()
    if page is not None:
        at.switch_page(page).run()
    return at


def with_details(at: AppTest) -> AppTest:
    """The page with the box of all numbers opened."""
    at.session_state["details"] = True
    return at.run()


def link(at: AppTest, name: str) -> list[str]:
    """The values of one URL parameter (AppTest gives a lone one as a string)."""
    value = at.query_params.get(name, [])
    return [value] if isinstance(value, str) else list(value)


def charts_of(at: AppTest) -> list[tuple[dict[str, Any], str, list[pd.DataFrame]]]:
    """(Vega-Lite spec, alt text, data) of every chart on the page."""
    found = []
    for element in at.get("vega_lite_chart"):
        proto = element.proto
        frames = [pa.ipc.open_stream(io.BytesIO(d.data.data)).read_pandas() for d in proto.datasets]
        found.append((json.loads(proto.spec), proto.alt, frames))
    return found


def seeds(spec: ExperimentSpec, count: int) -> ExperimentSpec:
    return replace(spec, seeds=count)
