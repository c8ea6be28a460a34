"""Small data, temporary stores and data folders: no test touches the user's own files or the network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two threads on a busy machine are slower than one

import pytest
from hypothesis import HealthCheck, settings

# No test is timed: a busy machine may take as long as it needs over an example.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def every_figure_is_drawn(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A page shows a table where a figure cannot be drawn, and only the log says so. Tests of that clear the log."""
    yield
    problems = [record for record in caplog.get_records("call") if record.name == "takd.presentation.ui"]
    assert problems == [], problems[0].exc_text


@pytest.fixture(autouse=True)
def private_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test gets its own store, data and networks folder, and no cached runs unless it asks for them."""
    monkeypatch.setenv("TAKD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TAKD_NETWORKS", str(tmp_path / "networks"))
    monkeypatch.setenv("TAKD_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("TAKD_CACHED", str(tmp_path / "no-cached-runs"))
