"""Figures and tables as files."""

from __future__ import annotations

import pandas as pd
import pytest

from takd.presentation.charts import gap_chart
from takd.presentation.exports import chart_bytes, table_bytes
from tests.presentation import samples


def test_a_picture_stands_alone() -> None:
    chart = gap_chart(*samples.gap_frames())
    svg = chart_bytes(chart, "svg", "Capacity gap", "CIFAR-10, cached 2026-11-20, n = 5").decode()
    assert svg.startswith("<svg")
    assert "Capacity gap" in svg
    assert "n = 5" in svg
    assert "http://" not in svg.replace("http://www.w3.org", "")
    assert chart_bytes(chart, "png").startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="gif"):
        chart_bytes(chart, "gif")


def test_a_spreadsheet_does_not_run_what_a_table_holds() -> None:
    frame = pd.DataFrame({"name": ["=HYPERLINK(1)", "+1", "@x", "plain-4"], "value": [-1.5, 2.0, 3.0, 4.0]})
    lines = table_bytes(frame).decode().splitlines()
    assert lines[0] == "name,value"
    assert lines[1] == "'=HYPERLINK(1),-1.5"
    assert [line[0] for line in lines[1:4]] == ["'", "'", "'"]
    assert lines[4] == "plain-4,4.0"
