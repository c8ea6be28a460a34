"""A run's plan is read back as it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from takd.data.catalogue import available_datasets
from takd.plan import Plan, build_plan
from takd.runs.states import run_info, write_run_file
from takd.runs.store import Store
from takd.runs.stored_plan import stored_plan
from takd.runs.submit import write_plan
from takd.spec import require_spec, to_json


def stored_run(tmp_path: Path, **choices: Any) -> tuple[Store, Path, Plan]:
    """A run of digits that is written and not started: its store, its folder and its plan."""
    spec = require_spec({"dataset": "digits", "seeds": 1, **choices})
    store, folder = Store(tmp_path), tmp_path / "runs" / "20260101-000000-abcd"
    folder.mkdir(parents=True)
    write_run_file(folder, "experiment.json", {"spec": to_json(spec), "created": "2026-01-01T00:00:00"})
    made = build_plan(spec, available_datasets()["digits"])
    write_plan(store, folder, made)
    return store, folder, made


@pytest.mark.parametrize(
    "choices",
    [
        {"method": "dkd", "options": {"scale": "equal"}},
        {"method": "dml"},  # the peer has no stage of its own
        {"method": "rco"},  # stages beside the path
        {"method": "ipkd-ta", "student": "slim-mlp-64"},
    ],
)
def test_a_stored_plan_is_the_one_that_was_made(choices: dict[str, Any], tmp_path: Path) -> None:
    store, folder, made = stored_run(tmp_path, **choices)
    stored = stored_plan(store, run_info(store, folder.name))
    assert stored is not None
    assert stored.arms == made.arms
    assert stored.chains_of(stored.chosen) == made.chains_of(made.chosen) != ()


@pytest.mark.parametrize("harm", [{"arms": []}, {"chains": [{"arm": 7}]}, {"chains": 3}])
def test_a_plan_that_makes_no_sense_is_none(harm: dict[str, Any], tmp_path: Path) -> None:
    store, folder, made = stored_run(tmp_path)
    write_run_file(folder, "plan.json", {**made.to_json(), **harm})
    assert stored_plan(store, run_info(store, folder.name)) is None
