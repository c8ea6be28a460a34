"""A store in memory, and plans over it whose numbers are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from takd.data.table import DATASETS
from takd.plan import Plan, build_plan
from takd.spec import ExperimentSpec

DATASET = replace(DATASETS["cifar10"], fingerprint="f" * 64)


class FakeStore:
    def __init__(self) -> None:
        self.results: dict[str, dict[str, Any]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.origins: dict[str, str] = {}
        self.places: dict[str, str] = {}
        self.running: dict[str, dict[str, Any]] = {}
        self.reads: list[tuple[str, int]] = []

    def result(self, key: str) -> dict[str, Any] | None:
        return self.results.get(key)

    def read_events(self, key: str, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Every row is ten bytes long; an offset beyond the end behaves like reading at the end."""
        self.reads.append((key, offset))
        rows = self.events.get(key, [])
        return rows[offset // 10 :], 10 * len(rows)

    def events_id(self, key: str) -> tuple[object, object]:
        """One file for ever, which is another one whenever a row is added."""
        return self.places.get(key), len(self.events.get(key, []))

    def origin(self, key: str) -> str | None:
        return self.origins.get(key)

    def progress(self, key: str) -> dict[str, Any] | None:
        return self.running.get(key)

    def finish(self, plan: Plan, key: str, test_acc: float, origin: str = "cached", **more: Any) -> None:
        stage = plan.stages[key]
        self.origins[key] = origin
        self.results[key] = {
            "test_acc": test_acc,
            "val_acc": test_acc + 0.01,
            "train_acc": test_acc + 0.02,
            "entropy": 0.5,
            "ece": 0.03,
            "seconds": 10.0,
            "images_per_second": 1000.0,
            "agreement": dict.fromkeys(stage.teachers, 0.75),
            "kl": dict.fromkeys(stage.teachers, 0.25),
            "env": {"device": "cuda", "device_name": "H200"},
        } | more


def plan_for(**choices: Any) -> Plan:
    return build_plan(ExperimentSpec(**choices), DATASET)


def event(epoch: int, loss: float = 1.0) -> dict[str, Any]:
    fields = ("val_acc", "train_acc", "loss_ce", "loss_kl")
    return {"epoch": epoch, "loss": loss} | dict.fromkeys(fields, epoch / 100)
