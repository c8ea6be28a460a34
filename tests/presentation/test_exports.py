"""Figures and tables as files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from takd.presentation.charts import gap_chart
from takd.presentation.exports import chart_bytes, script_bytes, table_bytes
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


def test_the_python_file_draws_the_figure(tmp_path: Path) -> None:
    """As somebody would run it, in a folder of their own: the page it writes has the numbers."""
    pytest.importorskip("altair")
    frames = samples.gap_frames()
    text = script_bytes(gap_chart(*frames), "made-up", 'A "title" \\n', "n = 1; made up for a test")
    (tmp_path / "figure.py").write_bytes(text)
    subprocess.run([sys.executable, "figure.py"], cwd=tmp_path, check=True, timeout=120)
    page = (tmp_path / "takd-made-up.html").read_text()
    for name in frames[0]["x"]:
        assert f'"{name}"' in page
    assert "A 'title'" in text.decode()
