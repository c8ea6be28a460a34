"""A method nobody has thought of: one new file for its term, one row, and it is in the plan, the CLI and the page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from takd.runs.store import REPO

TERM = '''"""Half the squared distance of the probabilities."""

import torch.nn.functional as F

from takd.methods.losses.answers import the_one


def brier_terms(student, labels, teachers, state, *, sharpness):
    p_s, p_t = (F.softmax(sharpness * z, dim=1) for z in (student.logits[0], the_one(teachers)))
    return {"ce": F.cross_entropy(student.logits[0], labels), "kl": 0.5 * (p_s - p_t).square().sum(1).mean()}
'''
ROW = """
ROWS = (
    *ROWS,
    Method(
        "brier",
        "Made-up Brier KD",
        predecessor,
        (0, 0),
        "(1 - lam) CE(z_s, y) + lam |p_s - p_t|^2 / 2",
        "teacher + student",
        "nobody, never",
        "The student's probabilities are pulled towards the teacher's by their squared distance.",
        Loss("brier", "made_up:brier_terms", kd_weights, uses=("lam",), options=("sharpness",)),
        (Preset(Composition("teacher", "logits")),),
        options=(Option("sharpness", "float", 1.0, "Factor on the logits.", {}, 0.0, 10.0, True),),
    ),
)
"""
PAGE = """
from streamlit.testing.v1 import AppTest
at = AppTest.from_file("takd/presentation/frame.py", default_timeout=60)
at.session_state['more'] = True
at.query_params.update({"d": "digits", "m": "brier", "o": "sharpness:2"})
at.run()
assert not at.exception, at.exception
method = at.selectbox(key="w-method")
assert "Made-up Brier KD" in method.options, method.options
assert method.value == "brier" and at.number_input(key="w-o-brier-sharpness").value == 2.0
print("page", any("p_s - p_t" in block.value for block in at.code))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This program with the one file and the one row added."""
    home = Path(tmp_path_factory.mktemp("made_up"))
    for name in ("takd", "pages"):
        shutil.copytree(REPO / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPO / "app.py", home)
    (home / "takd/methods/losses/made_up.py").write_text(TERM)
    with (home / "takd/methods/rows/remedies.py").open("a") as rows:
        rows.write(ROW)
    return home


def python(home: Path, *arguments: str) -> str:
    environment = {**os.environ, "TAKD_STORE": str(home / "store"), "TAKD_WARM_MINUTES": "0", "PYTHONPATH": str(home)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=home, env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


ASKED = ("--dataset", "digits", "--teacher", "mlp-16", "--student", "mlp-4", "--method", "brier", "--seeds", "1")


def test_the_command_line_lists_plans_and_trains_it(home: Path) -> None:
    assert "Made-up Brier KD" in python(home, "-m", "takd", "methods")
    options = (*ASKED, "--budget", "taste", "--scope", "chain", "--options", "sharpness:2")
    assert "brier[sharpness=2.0] 16>4" in python(home, "-m", "takd", "plan", *options)
    assert "Made-up Brier KD" in python(home, "-m", "takd", "run", *options)


def test_the_page_offers_it_with_its_option_and_formula(home: Path) -> None:
    assert "page True" in python(home, "-c", PAGE)
