"""Learning curves: tidy rows, and a reader that reads only what is new and notices rewinds."""

from __future__ import annotations

from typing import Any

import pytest

from takd.analysis.curves import CURVE_COLUMNS, CurveReader, curve_frame
from tests.analysis.fakes import FakeStore, event, plan_for


def test_reader_reads_only_new_rows() -> None:
    store = FakeStore()
    reader = CurveReader(store)
    assert reader.read("k") == []
    store.events["k"] = [event(1), event(2)]
    assert [row["epoch"] for row in reader.read("k")] == [1, 2]
    assert len(reader.read("k")) == 2
    store.events["k"].append(event(3))
    assert [row["epoch"] for row in reader.read("k", epochs=3)] == [1, 2, 3]
    assert store.reads == [("k", 0), ("k", 0), ("k", 20), ("k", 20)]
    assert len(reader.read("k", epochs=3)) == 3
    assert len(store.reads) == 4  # complete: not read again


def test_answers_given_earlier_do_not_change() -> None:
    store = FakeStore()
    store.events["k"] = [event(1)]
    reader = CurveReader(store)
    first = reader.read("k")
    store.events["k"].append(event(2))
    reader.read("k")
    assert len(first) == 1


@pytest.mark.parametrize("later", [2, 3, 4, 6, 7])
def test_reader_notices_a_rewind(later: int) -> None:
    """After five epochs the training goes back to its checkpoint at two and runs on with other losses."""
    store = FakeStore()
    store.events["k"] = [event(e, loss=1) for e in range(1, 6)]
    reader = CurveReader(store)
    reader.read("k")
    store.events["k"] = [event(e, loss=1 if e <= 2 else 2) for e in range(1, 3)]
    reader.read("k")
    store.events["k"] = [event(e, loss=1 if e <= 2 else 2) for e in range(1, later + 1)]
    rows = reader.read("k")
    assert [row["epoch"] for row in rows] == list(range(1, later + 1))
    assert [row["loss"] for row in rows] == [1, 1] + [2] * (later - 2)


def test_reader_survives_a_store_that_keeps_the_offset() -> None:
    """A rewind can also show as rows that do not follow on."""

    class Stubborn(FakeStore):
        def read_events(self, key: str, offset: int = 0) -> tuple[list, int]:
            rows, after = super().read_events(key, offset)
            return rows, max(after, offset)

    store = Stubborn()
    store.events["k"] = [event(1), event(2), event(3)]
    reader = CurveReader(store)
    reader.read("k")
    store.events["k"] = [event(1), event(2), event(2, loss=5), event(3, loss=5)]  # appended after a resume
    assert [(row["epoch"], row["loss"]) for row in reader.read("k")] == [(1, 1), (2, 5), (3, 5)]


def test_bad_rows_are_left_out() -> None:
    store = FakeStore()
    bad: list[Any] = [{"epoch": None}, "torn", {"loss": 1.0}, {"epoch": 0}]
    store.events["k"] = [event(1), *bad, {"epoch": 2}]
    rows = CurveReader(store).read("k")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1]["loss"] is None


def test_curve_frame_and_mean() -> None:
    plan = plan_for(seeds=2)
    chains = [c for c in plan.chains if c.arm.name == "takd 10>4>2"]
    store = FakeStore()
    store.events[chains[0].keys[-1]] = [event(1, 1.0), event(2, 3.0)]
    store.events[chains[1].keys[-1]] = [event(1, 2.0)]
    store.events[chains[0].keys[1]] = [event(1, 9.0)]
    lines = {"student": [c.keys[-1] for c in chains], "helper": [c.keys[1] for c in chains]}
    curves = curve_frame(plan, store, lines)
    assert {c: str(t) for c, t in curves.dtypes.items()} == CURVE_COLUMNS
    assert curves[["line", "role", "seed", "epoch", "loss"]].to_numpy().tolist() == [
        ["student", "student", 0, 1, 1.0],
        ["student", "student", 0, 2, 3.0],
        ["student", "student", 1, 1, 2.0],
        ["helper", "assistant", 0, 1, 9.0],
    ]
    assert curves["val_acc"].tolist() == pytest.approx([0.01, 0.02, 0.01, 0.01])


def test_curves_of_nothing() -> None:
    plan = plan_for(seeds=1)
    lines = {"student": [plan.chains[0].student]}
    for keys in ({}, lines):
        curves = curve_frame(plan, FakeStore(), keys)
        assert curves.empty and {c: str(t) for c, t in curves.dtypes.items()} == CURVE_COLUMNS
    with pytest.raises(KeyError):
        curve_frame(plan, FakeStore(), {"x": ["not a key"]})


def test_a_live_page_shares_its_reader() -> None:
    plan = plan_for(seeds=1)
    key = plan.chains[0].student
    store = FakeStore()
    store.events[key] = [event(1)]
    reader = CurveReader(store)
    for _ in range(2):
        assert len(curve_frame(plan, store, {"a": [key]}, reader)) == 1
    assert store.reads == [(key, 0), (key, 10)]


def test_rows_of_another_file_take_the_place_of_known_ones() -> None:
    """An imported stage is trained here; a run is removed and brought again."""
    plan = plan_for(seeds=1)
    key = plan.chains[0].student
    epochs = plan.stages[key].recipe.last
    store = FakeStore()
    store.events[key] = [event(n) | {"val_acc": 0.5} for n in range(1, epochs + 1)]
    reader = CurveReader(store)
    assert {row["val_acc"] for row in reader.read(key, epochs)} == {0.5}
    store.places[key], store.events[key] = "elsewhere", [event(1) | {"val_acc": 0.1}]
    assert [row["val_acc"] for row in reader.read(key, epochs)] == [0.1]
