"""The Playground for methods that are not a row of networks: sub-models, peers, heads, a teacher at earlier epochs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import streamlit as st

from takd.data.catalogue import available_datasets
from takd.methods.table import METHODS
from takd.plan import build_plan
from takd.presentation import sub_words
from takd.presentation.boxes import box_frame, curve_lines
from takd.presentation.parts_chart import parts_chart
from takd.presentation.playground.proposals import proposals_for
from takd.presentation.study import Study, study
from takd.runs.store import Store
from takd.spec import ExperimentSpec, from_query, read_spec, to_json

from .pages_support import charts_of, link, open_page, with_details

TOGETHER = [name for name, row in METHODS.items() if row.in_one_network]
NETWORK = "slim-mlp-64"
LABELS = {"slim": ("width 0.25", "width 0.5", "width 0.75", "width 1")}


@pytest.fixture(autouse=True)
def fresh_cache() -> None:
    st.cache_resource.clear()


def question(method: str, **more: Any) -> ExperimentSpec:
    ends = {"student": NETWORK} if method in TOGETHER else {"teacher": "mlp-32", "student": "mlp-8"}
    spec, problems = read_spec({"dataset": "digits", "method": method, "seeds": 3, "scope": "chain", **ends, **more})
    assert problems == ()
    return spec


def fill(spec: ExperimentSpec, root: Path) -> Store:
    """Results nobody trained, of the shape that training writes: the page only reads them."""
    store, finished = Store(root), {}
    for place, (key, stage) in enumerate(build_plan(spec, available_datasets()["digits"]).stages.items()):
        value = 0.6 + 0.01 * stage.seed + 0.02 * (place % 7)
        rows = "".join(_event(epoch, value) for epoch in range(1, stage.recipe.last + 1))
        (store.ensure(stage, own=True) / "events.jsonl").write_text(rows)
        finished[key] = (_result(stage, value), {})
    store.commit_many(finished)
    return store


def _event(epoch: int, value: float) -> str:
    return f'{{"epoch": {epoch}, "loss": 1.0, "loss_ce": 1.0, "loss_kl": 0.1, "train_acc": 0.7, "val_acc": {value}}}\n'


def _result(stage: Any, value: float) -> dict[str, Any]:
    names = LABELS["slim"] if stage.network == NETWORK else (stage.network, *stage.peers) if stage.peers else ()
    numbers = {"test_acc": value, "val_acc": value, "entropy": 0.4, "ece": 0.02, "test_loss": 0.5}
    parts = [{**numbers, "name": name, "test_acc": value - 0.03 + 0.01 * k} for k, name in enumerate(names)]
    if stage.peers:
        parts[0]["test_acc"] = value
    return numbers | {
        "epochs": stage.recipe.last, "train_acc": 0.8, "seconds": 2.0, "images_per_second": 900.0,
        "agreement": dict.fromkeys(stage.teachers, 0.7), "kl": dict.fromkeys(stage.teachers, 0.2),
        "env": {"device": "cpu", "device_name": "made up"}, "finished": "2026-01-01T00:00:00+00:00",
    } | ({"parts": parts} if parts else {})  # fmt: skip


def opened(spec: ExperimentSpec, tmp_path: Path) -> tuple[Any, Study, Store]:
    store = fill(spec, tmp_path / "store")
    return open_page(spec), study(spec, available_datasets()["digits"], store), store


def said(at: Any) -> str:
    """Everything the page says, but for the popover with the formula."""
    parts = [e.value for kind in ("title", "subheader", "caption", "markdown", "info") for e in getattr(at, kind)]
    return " ".join([*parts, *(alt for _, alt, _ in charts_of(at))]).replace("\\", "").replace("\u2011", "-")


@pytest.mark.parametrize("method", TOGETHER)
def test_sub_models_are_drawn_and_told(method: str, tmp_path: Path) -> None:
    at, shown, store = opened(question(method), tmp_path)
    assert not at.exception and not at.warning and not at.info
    text = said(at)
    for foreign in ("direct KD", "Does a bigger teacher", f"{NETWORK} > ", "nan", "teacher slim", "the student alone"):
        assert foreign not in text, foreign
    assert "What does each sub-model reach?" in text and "width 0.25 alone" in text
    assert "n = 3 seeds" in shown.headline and "chains" not in shown.headline
    assert len(charts_of(at)) == 3  # strip, sub-models, curves
    boxes = box_frame(shown, store)
    assert boxes["network"].tolist() == list(reversed(LABELS["slim"]))
    assert boxes["accuracy"].is_monotonic_decreasing
    assert boxes["arrow"].any() == (method == "ipkd-ta")
    rows = with_details(at).dataframe[1].value
    assert len(rows) == 1 + 3 * 4 and {"parameters", "MACs", "n", "± 95 %"} <= set(rows.columns)
    assert at.button(key="run").disabled
    assert list(curve_lines(shown, None)[0]) == ["joint training", "in-place KD", "in-place TA chain"]


def test_the_network_takes_the_student_s_place_and_goes_again() -> None:
    at = open_page({"d": ["digits"]})
    at.selectbox(key="w-method").set_value("ipkd-ta").run()
    assert not at.exception and not at.warning
    assert (link(at, "s"), link(at, "t"), link(at, "m")) == ([NETWORK], [NETWORK], ["ipkd-ta"])
    assert at.selectbox(key="w-student").label == "Network with sub-models"
    assert at.selectbox(key="w-no-teacher").disabled
    at.selectbox(key="w-student").set_value("slim-mlp-256").run()
    at.selectbox(key="w-method").set_value("joint").run()
    assert not at.exception and not at.warning
    assert (link(at, "s"), link(at, "t")) == (["slim-mlp-256"], ["slim-mlp-256"])
    again = open_page({name: link(at, name) for name in at.query_params})
    assert not again.exception and not again.warning
    assert link(again, "s") == ["slim-mlp-256"]
    at.selectbox(key="w-method").set_value("takd").run()
    assert not at.exception and not at.warning
    assert [link(at, name) for name in ("s", "t", "ta", "m")] == [[], [], [], []]  # where the data set starts
    assert at.selectbox(key="w-student").value == "mlp-8"


def test_the_summed_losses_are_warned_of() -> None:
    at = open_page({"d": ["digits"], "m": ["ipkd"], "s": [NETWORK], "o": ["teacher:all-larger"]})
    assert not at.exception and not at.warning
    assert any("4 sub-models add up to a weight of 7" in caption.value for caption in at.caption)


@pytest.mark.parametrize("method", TOGETHER)
def test_proposals_inside_one_network_make_sense(method: str) -> None:
    datasets = available_datasets()
    spec = question(method)
    found = proposals_for(spec, datasets["digits"])
    assert found
    for _, changes in found:
        proposed, problems = read_spec({**to_json(spec), **changes}, datasets)
        assert problems == () and proposed != spec
        assert METHODS[proposed.method].in_one_network
    assert from_query({"d": ["digits"], "m": [method], "s": [NETWORK]}, datasets)[1] == ()


OTHERS = ["dih", "rco", "early-teacher", "dml", "fitnets"]


@pytest.mark.parametrize("method", OTHERS)
def test_methods_with_other_stages_are_drawn_and_told(method: str, tmp_path: Path) -> None:
    at, shown, store = opened(question(method), tmp_path)
    assert not at.exception and not at.warning and not at.info
    boxes = box_frame(shown, store)
    assert boxes["network"].tolist() == ["mlp-32", "mlp-8"]
    assert boxes["n"].tolist() == [3, 3]
    assert boxes["accuracy"].iloc[1] == pytest.approx(shown.arms.set_index("arm").loc[shown.chosen.name, "mean"])
    text = said(at)
    assert "nan" not in text
    lines, how = curve_lines(shown, None)
    assert set(lines) == set(how) == ({"student mlp-8"} if method == "dml" else {"teacher mlp-32", "student mlp-8"})
    for network in ("mlp-32", "mlp-8"):
        assert all(len(keys) == 3 for keys in curve_lines(shown, network)[0].values())


def test_a_peer_is_a_peer(tmp_path: Path) -> None:
    at, shown, store = opened(question("dml"), tmp_path)
    boxes = box_frame(shown, store)
    assert boxes["title"].tolist() == ["Peer", "Student"] and not boxes["arrow"].any()
    results = [store.result(chain.student) or {} for chain in shown.plan.chains_of(shown.chosen)]
    assert boxes["accuracy"].iloc[0] == pytest.approx(sum(r["parts"][1]["test_acc"] for r in results) / 3)
    assert "learn at the same time" in said(at)
    copies = replace(shown.spec, options=(("peers", "copies"),))
    boxes = box_frame(study(copies, available_datasets()["digits"], store), store)
    assert boxes["network"].tolist() == ["mlp-8", "mlp-8"] and boxes["state"].tolist() == ["waiting", "waiting"]


def test_a_teacher_that_stopped_early_says_so(tmp_path: Path) -> None:
    at, shown, store = opened(question("early-teacher"), tmp_path)
    title = box_frame(shown, store)["title"].iloc[0]
    assert title.startswith("Teacher, epoch ") and title.lower() in said(at)
    teachers = shown.gap[(shown.gap["panel"] == "teacher") & (shown.gap["x"] == "mlp-32")]
    assert teachers["n"].tolist() == [3]


@pytest.mark.parametrize("done", [(), ("joint",), ("scratch", "ipkd-ta")])
def test_a_half_trained_network_is_told_as_far_as_it_is(done: tuple[str, ...], tmp_path: Path) -> None:
    spec, digits = question("ipkd-ta", seeds=1), available_datasets()["digits"]
    whole = fill(spec, tmp_path / "whole")
    store, plan = Store(tmp_path / "store"), build_plan(spec, digits)
    for chain in (chain for chain in plan.chains if chain.arm.method in done):
        store.ensure(plan.stages[chain.student], own=True)
        store.commit(chain.student, whole.result(chain.student) or {}, {})
    shown = study(spec, digits, store)
    assert box_frame(shown, store)["state"].eq("done" if "ipkd-ta" in done else "waiting").all()
    texts = [shown.headline, *shown.story, sub_words.reading(shown.part_means, shown.verdicts)]
    texts.append(sub_words.alt_parts(shown.part_means))
    assert all(texts) and not any("nan" in text for text in texts)
    assert parts_chart(shown.part_means, shown.parts).to_dict()
