"""Every offered method from its row to results in the store, on digits at the smallest budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from takd.analysis.frames import arm_frame, chain_frame
from takd.data.catalogue import available_datasets
from takd.evaluation.verify import verify_stage
from takd.methods.table import METHODS
from takd.plan import build_plan
from takd.runs.loop import train_all
from takd.runs.store import Store
from takd.spec import ExperimentSpec, read_spec, start_for, to_json
from takd.training import device, run_stage, teachers


def spec_for(method: str, **options: object) -> ExperimentSpec:
    row, small = METHODS[method], replace(start_for("digits"), seeds=1, scope="chain")
    networks = {"teacher": "mlp-32", "student": "mlp-8"}
    if method == "at":
        networks = {"teacher": "cnn8-8", "student": "cnn8-2"}  # it compares places of the picture
    if row.in_one_network:
        networks = {"teacher": "slim-mlp-64", "student": "slim-mlp-64"}
    assistants = ["mlp-16"] if row.assistants[1] is None else []
    values = {**to_json(small), **networks, "method": method, "assistants": assistants, "options": options}
    spec, problems = read_spec(values)
    assert problems == ()
    return spec


# Published weights are for large maps: on those of digits attention transfer would drown the labels.
CASES = [(name, {"beta": 10.0} if name == "at" else {}) for name in METHODS] + [
    ("dgkd", {"gate": "drop-one", "sum": "code"}),
    ("kd", {"reduction": "mean"}),
    ("dkd", {"scale": "equal"}),
    ("dih", {"sum": "paper", "pooling": "average"}),
    ("early-teacher", {"teacher_run": "short"}),
    ("ipkd-ta", {"teacher": "mean-of-larger", "hard": True, "sum": "mean"}),
    ("dml", {"peers": "copies", "order": "in turn"}),
    ("fitnets", {"phases": "hint first", "beta": 1.0}),
    ("kd-long", {"spends": "heads"}),
]
# Teachers of the student's stage where it is not one.
TEACHERS = {
    "scratch": 0, "dgkd": 2, "dih": 2, "rco": 4, "ensemble": 4, "joint": 0, "ipkd": 0, "ipkd-ta": 0, "dml": 0,
}  # fmt: skip


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
    assert len(student.teachers) == TEACHERS.get(method, 1)
    others = {store.read_file(chain.student, "weights.safetensors") for chain in plan.chains}
    assert len(others) == len({chain.student for chain in plan.chains}), "every loss makes another student"
    parts = (store.result(student.key) or {}).get("parts", [])
    assert len(parts) == {"sub-models": 4, "cohort": 2}.get(METHODS[method].wiring, 0)
    assert all(0.3 < part["test_acc"] < 1 and 0.3 < part["val_acc"] < 1 for part in parts)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_to_the_end_where_the_hardware_has_bf16(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, emulated: images are kept in bf16, and final numbers are taken in fp32."""
    for module in (run_stage, teachers, device):
        monkeypatch.setattr(module, "uses_bf16", lambda device, precision: True)
    spec = replace(spec_for(method), epochs=3, images=125)
    if not METHODS[method].in_one_network:
        path = ("cnn8-8", *["cnn8-4"] * len(spec.assistants), "cnn8-2")
        spec = replace(spec, teacher=path[0], assistants=path[1:-1], student=path[-1])
    plan, store = build_plan(spec, available_datasets()["digits"]), Store(tmp_path)
    assert train_all(store, plan.stages, device="cpu", should_stop=lambda: False, say=print)
    for key, stage in plan.stages.items():
        result = store.result(key)
        assert result is not None and result["env"]["precision"] == "bf16", stage
        assert 0 < result["test_acc"] < 1 and all(0 < part["val_acc"] < 1 for part in result.get("parts", []))
        assert verify_stage(store, key).differences == ()
