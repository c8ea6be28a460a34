"""A short version of every class of faults; the long one is `python -m tests.faults --kills 1000`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from takd.runs.store import REPO
from tests.faults.__main__ import CLASSES


@pytest.mark.faults
@pytest.mark.parametrize("name", CLASSES)
def test_faults_lose_nothing(name: str) -> None:
    # In a process of its own, which has no threads and may fork.
    command = [sys.executable, "-m", "tests.faults", "--only", name, "--json"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stderr
    (found,) = json.loads(done.stdout.splitlines()[-1])
    assert found["injected"] == found["survived"] and sum(found["injected"].values()), (found["notes"], done.stderr)
    assert found["lost"] == 0 and found["once"] == found["stages"]
