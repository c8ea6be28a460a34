"""Charts compile whatever has been trained, keep their colours, and never start an accuracy axis at zero."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import altair as alt
import jsonschema
import pandas as pd
import pytest

from takd.methods.composer import Composition
from takd.presentation import charts, theme
from takd.presentation.gap_chart import apart
from takd.presentation.lens.charts import ink_on
from takd.presentation.marks import spread, steady
from takd.presentation.methods.composition import Graph, teaching_graph
from takd.presentation.methods.teaching_chart import teaching_chart
from tests.presentation import samples

CHAIN = ("plain-10", "plain-4", "plain-2")


def taught(*answers: str) -> Graph:
    return teaching_graph(Composition(*answers), ("plain-10", "plain-8", "plain-4", "plain-2"))


CHARTS = {
    "strip": lambda **k: charts.chain_strip(samples.chain_boxes(CHAIN), **k),
    "strip partial": lambda **k: charts.chain_strip(samples.chain_boxes(CHAIN, ("done", "training", "waiting")), **k),
    "strip n=1": lambda **k: charts.chain_strip(samples.chain_boxes(CHAIN, n=1), **k),
    "strip one box": lambda **k: charts.chain_strip(samples.chain_boxes(("plain-2",)), method="scratch", **k),
    "strip empty": lambda **k: charts.chain_strip(samples.chain_boxes(CHAIN).head(0), **k),
    "gap": lambda **k: charts.gap_chart(*samples.gap_frames(), selected_teacher="plain-8", **k),
    "gap n=1": lambda **k: charts.gap_chart(*samples.gap_frames("mlp", 1), **k),
    "gap teachers only": lambda **k: charts.gap_chart(*samples.gap_frames(arms=()), **k),
    "gap no direct KD": lambda **k: charts.gap_chart(*samples.gap_frames(arms=("scratch", "takd")), **k),
    "gap empty": lambda **k: charts.gap_chart(*samples.empty_gap(), **k),
    "assistants": lambda **k: charts.assistants_chart(*samples.assistant_frames(), **k),
    "assistants n=1": lambda **k: charts.assistants_chart(*samples.assistant_frames(1), **k),
    "assistants empty": lambda **k: charts.assistants_chart(*(f.head(0) for f in samples.assistant_frames()), **k),
    "parts": lambda **k: charts.parts_chart(*samples.part_frames(), **k),
    "parts exits": lambda **k: charts.parts_chart(*samples.part_frames("msdnet-7"), **k),
    "parts n=1": lambda **k: charts.parts_chart(*samples.part_frames(seeds=1), **k),
    "parts empty": lambda **k: charts.parts_chart(*(f.head(0) for f in samples.part_frames()), **k),
    "curves": lambda **k: charts.curves_chart(samples.curve_rows(), epochs=30, **k),
    "curves live": lambda **k: charts.curves_chart(samples.curve_rows(reached=12), "loss", epochs=30, **k),
    "curves n=1": lambda **k: charts.curves_chart(samples.curve_rows(1), "train_acc", **k),
    "curves empty": lambda **k: charts.curves_chart(samples.curve_rows(0), epochs=30, **k),
    "teaching, dense": lambda **k: teaching_chart(taught("assistants", "logits", "all at once", "bernoulli"), **k),
    "teaching, heads": lambda **k: teaching_chart(taught("heads", "logits", "all at once"), **k),
    "teaching, route": lambda **k: teaching_chart(taught("trajectory", "logits"), **k),
    "teaching, ensemble": lambda **k: teaching_chart(taught("copies", "logits", "all at once"), **k),
    "teaching, peers": lambda **k: teaching_chart(taught("peers", "logits", "inside one step"), **k),
    "teaching, labels": lambda **k: teaching_chart(taught("none", "labels"), **k),
}  # fmt: skip


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize(("compact", "dark"), [(False, False), (True, True)])
def test_compiles(name: str, compact: bool, dark: bool) -> None:
    spec = CHARTS[name](compact=compact, dark=dark).to_dict()
    text = json.dumps(spec, allow_nan=False)
    assert "vconcat" not in spec and "hconcat" not in spec  # these do not follow the width of their place
    assert spec["width"] == "container" and spec["background"] == "transparent"
    assert len(text) < 60_000
    words = [
        v for rows in spec.get("datasets", {}).values() for row in rows for v in row.values() if isinstance(v, str)
    ]
    assert not any(re.search(r"\b(nan|None)\b", word) for word in words)


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("compact", [False, True])
def test_is_valid_vega_lite(name: str, compact: bool) -> None:
    spec = CHARTS[name](compact=compact).to_dict()
    assert spec["$schema"] == alt.SCHEMA_URL
    alt.LayerChart.from_dict(spec)  # checks every part against the schema and raises where it does not fit


def test_the_schema_check_sees_a_wrong_part() -> None:
    spec = CHARTS["gap"]().to_dict()
    next(node for node in walk(spec) if "mark" in node)["mark"]["shape"] = 3
    with pytest.raises(jsonschema.ValidationError):
        alt.LayerChart.from_dict(spec)


@pytest.mark.parametrize("name", ["gap", "gap n=1", "parts", "curves", "curves n=1"])
def test_accuracy_axes_do_not_start_at_zero(name: str) -> None:
    scales = [
        node["y"]["scale"]
        for node in walk(CHARTS[name]().to_dict())
        if isinstance(node.get("y"), dict) and "scale" in node["y"]
    ]
    assert scales
    for scale in scales:
        assert scale["zero"] is False
        assert scale["domain"][0] > 0.3


def test_text_is_readable() -> None:
    for draw in CHARTS.values():
        for node in walk(draw(compact=True).to_dict()):
            for key in ("fontSize", "labelFontSize", "titleFontSize"):
                assert node.get(key, 11) >= 11


def test_colours_stay_when_arms_are_missing() -> None:
    def colours(chart: Any) -> dict[str, str]:
        found = {}
        for node in walk(chart.to_dict()):
            scale = (node.get("color") or {}).get("scale") if isinstance(node.get("color"), dict) else None
            if scale:
                found |= dict(zip(scale["domain"], scale["range"], strict=True))
        return found

    full, some = (
        colours(charts.gap_chart(*samples.gap_frames(arms=arms))) for arms in (("scratch", "kd", "takd"), ("kd",))
    )
    assert full == some == theme.ARM_COLORS
    rows, summary = samples.assistant_frames()
    assert colours(charts.assistants_chart(rows, summary.head(1))) == theme.ARM_COLORS
    line = charts.curves_chart(samples.curve_rows().query("role == 'student'"), methods={"Student plain-2": "kd"})
    assert theme.ARM_COLORS["kd"] in json.dumps(line.to_dict())


def test_a_growing_run_does_not_move_the_x_axis() -> None:
    def domain(reached: int) -> Any:
        spec = charts.curves_chart(samples.curve_rows(reached=reached), epochs=30).to_dict()
        return next(n["x"]["scale"]["domain"] for n in walk(spec) if isinstance(n.get("x"), dict) and "scale" in n["x"])

    assert domain(2) == domain(12) == domain(30)


def test_the_mean_curve_keeps_its_seeds_from_end_to_end() -> None:
    frame = samples.curve_rows(3, reached=12)
    means = charts._means(frame, "val_acc")
    line = frame[(frame["line"] == "Student plain-2") & (frame["seed"] < 2) & (frame["epoch"] == 1)]
    shown = means[(means["line"] == "Student plain-2") & (means["epoch"] == 1)]
    assert shown["val_acc"].iloc[0] == pytest.approx(line["val_acc"].mean())


def _labels(chart: Any) -> list[str]:
    """The sub-models named under the axis of a parts chart."""
    axes = [n["x"]["axis"] for n in walk(chart.to_dict()) if isinstance(n.get("x"), dict) and "axis" in n["x"]]
    shown = json.loads(re.fullmatch(r"(\{.*\})\[.*\]", axes[0]["labelExpr"])[1])  # type: ignore[index]
    return [label for label, _ in shown.values()]


def test_sub_models_are_named_where_there_is_room_and_the_ends_always() -> None:
    assert _labels(CHARTS["parts"]()) == ["width 0.25", "width 0.5", "width 0.75", "width 1"]
    for compact in (False, True):
        names = _labels(CHARTS["parts exits"](compact=compact))
        assert names[0].endswith("1") and names[-1].endswith("7") and len(names) < 7


def test_every_way_to_train_sub_models_is_told_by_colour_and_shape() -> None:
    found = {}
    for node in walk(CHARTS["parts"]().to_dict()):
        if node.get("type") == "point" and node.get("opacity") == 1 and "xOffset" in node:
            found[node["color"]] = node["shape"]
    assert found == {
        theme.ARM_COLORS["scratch"]: "triangle-up",
        theme.ARM_COLORS["joint"]: "square",
        theme.ARM_COLORS["ipkd"]: "circle",
        theme.ARM_COLORS["ipkd-ta"]: "diamond",
    }


def test_no_arrow_leads_to_a_box_that_is_not_taught() -> None:
    def arrows(taught: list[bool]) -> int:
        boxes = samples.chain_boxes(CHAIN).assign(arrow=taught, title=["Largest", "Sub-model", "Smallest"])
        text = json.dumps(spec := charts.chain_strip(boxes).to_dict())
        assert "Sub-model" in text and "Assistant" not in text
        names = {node["data"]["name"] for node in walk(spec) if node.get("mark", {}).get("shape") == "triangle-right"}
        return sum(len(spec["datasets"][name]) for name in names)

    assert arrows([True] * 3) == 2
    assert arrows([False, False, True]) == 1


def test_the_strip_can_be_clicked() -> None:
    spec = CHARTS["strip partial"]().to_dict()
    assert [(p["name"], p["select"]["fields"]) for p in spec["params"]] == [("box", ["network"])]


def test_wider_boxes_hold_more_parameters() -> None:
    spec = CHARTS["strip"]().to_dict()
    boxes = [r for rows in spec["datasets"].values() for r in rows if "params_text" in r]
    assert len(boxes) == 3
    widths = {row["network"]: row["x2"] - row["x"] for row in boxes}
    assert widths["plain-10"] > widths["plain-4"] > widths["plain-2"] > 0.15


def test_frames_are_not_changed() -> None:
    gap, seeds = samples.gap_frames()
    before = gap.copy(), seeds.copy()
    charts.gap_chart(gap, seeds)
    pd.testing.assert_frame_equal(gap, before[0])
    pd.testing.assert_frame_equal(seeds, before[1])


def test_spread_keeps_order_and_distance() -> None:
    placed = spread([0.50, 0.51, 0.505, 0.9], 0.1, 0.0, 1.0)
    assert sorted(range(4), key=placed.__getitem__) == [0, 2, 1, 3]
    ordered = sorted(placed)
    assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(ordered))
    assert max(placed) <= 1.0
    assert spread([], 1, 0, 1) == []
    assert steady(pd.Series([0.4, 0.83]), 0.1) == pytest.approx((0.4, 0.9))


@pytest.mark.parametrize("dark", [False, True])
def test_contrast(dark: bool) -> None:
    ground = theme.palette(dark)
    for method in theme.ARM_COLORS:
        assert theme.contrast(theme.arm_color(method, dark), ground.background) >= 3
        assert theme.contrast(theme.text_color(method, dark), ground.background) >= 4.5
    assert theme.contrast(ground.text, ground.background) >= 7
    assert theme.contrast(ground.muted, ground.background) >= 4.5
    assert theme.contrast(ground.muted, ground.zone) >= 4.5
    assert theme.contrast(ground.faint, ground.background) >= 3
    assert theme.contrast("#000000", "#ffffff") == pytest.approx(21)


def test_streamlit_theme_matches_and_is_readable() -> None:
    config = tomllib.loads((Path(__file__).parents[2] / ".streamlit" / "config.toml").read_text())
    for name, dark in (("light", False), ("dark", True)):
        page, ground = config["theme"][name], theme.palette(dark)
        assert (page["backgroundColor"], page["textColor"]) == (ground.background, ground.text)
        for back in (page["backgroundColor"], page["secondaryBackgroundColor"]):
            assert theme.contrast(page["textColor"], back) >= 7
            assert theme.contrast(page["linkColor"], back) >= 4.5
        assert theme.contrast("#ffffff", page["primaryColor"]) >= 4.5  # white text on primary buttons
        assert theme.contrast(page["primaryColor"], page["backgroundColor"]) >= 3
        colors = theme.ARM_COLORS_DARK if dark else theme.ARM_COLORS
        assert page["chartCategoricalColors"] == list(colors.values())
    assert config["browser"] == {"gatherUsageStats": False, "serverAddress": "localhost"}
    assert config["client"]["toolbarMode"] == "viewer"
    assert config["server"]["maxUploadSize"] <= 20


def test_unknown_methods_have_a_colour() -> None:
    assert theme.arm_color("something-new") == theme.ARM_COLORS["rival"]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("share", [-1.0, -0.7, -0.4, -0.1, 0.0, 0.3, 0.5, 0.7, 1.0, 1.4])
def test_a_coloured_cell_can_be_read_whatever_its_value(share: float, dark: bool) -> None:
    """Half-way colours were written on in the ink of the nearer end: 3.1 to 1."""
    ground = theme.palette(dark)
    inks = (ground.text, "#000000" if dark else "#ffffff")
    ends = [ground.background, *(("#f0803c", "#4ba3e3") if dark else ("#b34f00", "#0072b2"))]
    end, part = ends[1] if share >= 0 else ends[2], min(1.0, abs(share))
    pairs = ((int(ends[0][k : k + 2], 16), int(end[k : k + 2], 16)) for k in (1, 3, 5))
    cell = "#" + "".join(f"{round(a + part * (b - a)):02x}" for a, b in pairs)
    assert theme.contrast(inks[ink_on(share, ends, inks)], cell) >= 4.2


def test_names_of_chains_side_by_side_do_not_touch() -> None:
    """128 and 64 over bars of one height read 12864."""
    told = pd.DataFrame({"at": [5.24, 5.44, 5.64, 6.24], "via": ["128", "64", "", "128"], "top": [0.8, 0.8, 0.8, 0.8]})
    tops = apart(told, 0.001)["top"].tolist()
    assert tops[1] - tops[0] == pytest.approx(0.011) and tops[2:] == [0.8, 0.8]
