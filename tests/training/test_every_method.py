"""Every offered method from its row to results in the store, on digits at the smallest budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from takd.analysis.frames import arm_frame, chain_frame
from takd.data.catalogue import available_datasets
from takd.methods.table import METHODS
from takd.plan import build_plan
from takd.runs.loop import train_all
from takd.runs.store import Store
from takd.spec import read_spec, start_for, to_json


def spec_for(method: str, **options: object):
    values = {
        **to_json(replace(start_for("digits"), seeds=1, scope="chain")),
        "teacher": "mlp-32",
        "student": "mlp-8",
        "method": method,
        "assistants": ["mlp-16"] if METHODS[method].assistants[1] is None else [],
        "options": options,
    }
    spec, problems = read_spec(values)
    assert problems == ()
    return spec


CASES = [(name, {}) for name in METHODS] + [
    ("dgkd", {"gate": "drop-one", "sum": "code"}),
    ("kd", {"reduction": "mean"}),
    ("dkd", {"scale": "equal"}),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One for all: lone teachers are trained once."""
    return Store(Path(tmp_path_factory.mktemp("methods")))


@pytest.mark.parametrize(("method", "options"), CASES, ids=[f"{name}{list(o) or ''}" for name, o in CASES])
def test_a_method_trains_from_end_to_end(method: str, options: dict[str, object], store: Store) -> None:
    spec = spec_for(method, **options)
    plan, said = build_plan(spec, available_datasets()["digits"]), list[str]()
    assert train_all(store, plan.stages, device="cpu", should_stop=lambda: False, say=said.append)
    arms = arm_frame(chain_frame(plan, store)).set_index("arm")
    for arm in plan.arms:
        assert arms.loc[arm.name, "n"] == 1, said
        assert arms.loc[arm.name, "mean"] > 0.3, "better than guessing by far"
    student = plan.stages[plan.chains_of(plan.chosen)[0].student]
    assert len(student.teachers) == (0 if method == "scratch" else 2 if method == "dgkd" else 1)
    others = {store.read_file(chain.student, "weights.safetensors") for chain in plan.chains}
    assert len(others) == len({chain.student for chain in plan.chains}), "every loss makes another student"
