"""Figures and tables as files."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from takd.presentation.charts import gap_chart
from takd.presentation.exports import chart_bytes, script_bytes, table_bytes
from takd.presentation.figure_menu import common_setting
from takd.presentation.formats import data_words
from takd.spec import start_for
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


def test_a_long_source_is_broken_into_lines() -> None:
    """A subtitle that is too long is cut at the picture's edge."""
    source = "Digits 8x8 (built in), 20 % wrong labels, cached 2026-11-20 on a processor. " * 3
    svg = chart_bytes(gap_chart(*samples.gap_frames()), "svg", "Capacity gap", source).decode()
    lines = [text for text in re.findall(r">([^<>]+)<", svg) if "wrong" in text or "cached" in text]
    assert " ".join(lines) == source.strip() and max(map(len, lines)) <= 130


def test_a_figure_that_left_its_page_says_what_all_its_arms_were_trained_with() -> None:
    spec = start_for("digits")
    assert common_setting([spec, replace(spec, teacher="mlp-64")]) == "Student mlp-8, T 1, lam 0.9, taste."
    other = replace(spec, student="mlp-4", epochs=5)
    assert common_setting([spec, other]) == "T 1, lam 0.9."
    assert common_setting([]) == ""
    assert common_setting([spec, replace(other, temperature=2.0, lam=0.5)]) == ""


def test_wrong_labels_are_part_of_what_a_data_set_is_called() -> None:
    assert data_words("Digits", 0.2) == "Digits, 20 % wrong labels"
    assert data_words("Digits", 0.0) == "Digits"
