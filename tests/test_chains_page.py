"""The Assistants page as a visitor opens it, on the runs that come with the program: no browser, no training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from takd.analysis.pool import pool
from takd.analysis.verdicts import judge
from takd.data.catalogue import available_datasets
from takd.plan import Arm, build_plan
from takd.runs import files
from takd.runs.locks import run_lock
from takd.runs.store import Store, open_store
from takd.runs.submit import write_plan
from takd.spec import to_json, to_query
from takd.starts import start_for

from .pages_support import charts_of, link, open_page

REPO = Path(__file__).parents[1]
PAGE = str(REPO / "pages" / "chains.py")
DIGITS = to_query(start_for("digits"), full=True)
SECTIONS = ("help", "map", "many", "paths", "worth", "rule")


@pytest.fixture(autouse=True)
def with_cached_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    st.cache_resource.clear()
    monkeypatch.setenv("TAKD_CACHED", str(REPO / "cached_runs"))


def opened(show: str = "help", **more: list[str]) -> AppTest:
    at = open_page({**DIGITS, **more, "show": [show]}, page=PAGE)
    # The navigation of a test empties the URL: the settings of this page are given once more.
    for name, values in {"show": [show], **{k: v for k, v in more.items() if k.startswith("ta-")}}.items():
        at.query_params[name] = values
    at.run()
    assert not at.exception
    return at


def claim(at: AppTest) -> str:
    return at.subheader[0].value.replace("\\", "").replace("\N{NON-BREAKING HYPHEN}", "-")


@pytest.mark.parametrize("show", SECTIONS)
def test_each_section_says_one_thing_and_draws_it(show: str) -> None:
    at = opened(show)
    assert len(at.subheader) == 1
    ((spec, alt, frames),) = charts_of(at)
    assert len(alt) > 60 and "nan" not in alt.lower()
    assert any(len(frame) for frame in frames)
    assert "http" not in str({name: part for name, part in spec.items() if name != "$schema"})
    captions = " ".join(caption.value for caption in at.caption)
    assert "n = 8" in captions and "cached" in captions and "interval" in captions


def test_the_claim_is_the_validation_winner_on_test_images() -> None:
    spec = start_for("digits")
    dataset, store = available_datasets()["digits"], open_store()
    found = pool(spec, dataset, store)
    chains = found.chains[found.chains["done"]].set_index(["arm", "seed"])
    names = [f"takd 256>{size}>8" for size in (128, 64, 32, 16)]
    val = {name: chains.loc[name, "val_acc"].mean() for name in names}
    best = max(val, key=val.__getitem__)
    gain = 100 * (chains.loc[best, "test_acc"] - chains.loc["kd 256>8", "test_acc"]).mean()
    at = opened("help")
    assert f"via {best.split('>')[1]}, best of 4 on validation" in claim(at)
    assert f"{gain:+.1f} points" in claim(at)


def test_the_margin_moves_the_verdict() -> None:
    words = {}
    for margin in (0.5, 2):
        (_, alt, _) = charts_of(opened("help", **({"ta-margin": ["2"]} if margin == 2 else {})))[0]
        words[margin] = {size: judge(gains, margin / 100).kind for size, gains in stored_gains().items()}
        assert all(f"via {size} {word}" in alt for size, word in words[margin].items())
    assert words[0.5] != words[2]  # else the page could forget the margin and this would not see it


def stored_gains() -> dict[int, list[float]]:
    """Test accuracy of the chain through each size minus direct KD's, seed by seed, from the result files."""
    spec, store = start_for("digits"), open_store()
    chains = build_plan(spec, available_datasets()["digits"]).chains
    accuracy = {(c.arm.name, c.seed): (store.result(c.student) or {})["test_acc"] for c in chains}
    seeds = range(spec.seed, spec.seed + spec.seeds)
    return {
        size: [accuracy[f"takd 256>{size}>8", seed] - accuracy["kd 256>8", seed] for seed in seeds]
        for size in (128, 64, 32, 16)
    }


def test_rows_are_sorted_by_gain() -> None:
    (_, by_size, _) = charts_of(opened("help"))[0]
    (_, by_gain, _) = charts_of(opened("help", **{"ta-order": ["gain"]}))[0]
    mean = {size: sum(gains) / len(gains) for size, gains in stored_gains().items()}
    for alt, order in ((by_size, list(mean)), (by_gain, sorted(mean, key=mean.__getitem__, reverse=True))):
        assert sorted(order, key=lambda size: alt.index(f"via {size} ")) == order


def test_bad_settings_end_in_a_sentence() -> None:
    at = opened("nonsense", **{"ta-margin": ["9"]})
    said = " ".join(caption.value for caption in at.caption).replace("\\", "")
    assert "Show cannot be 'nonsense'" in said and "cannot be '9'" in said
    assert len(charts_of(at)) == 1
    assert link(at, "ta-margin") == ["2"]


def test_unrun_cells_are_estimates_with_their_error() -> None:
    (_, alt, frames) = charts_of(opened("map"))[0]
    table = next(frame for frame in frames if "look" in frame and (frame["look"] == "open").any())
    open_cells = table[table["look"] == "open"]
    assert len(open_cells) == 6 and open_cells["gain"].isna().all()  # never coloured like a result
    assert open_cells["first"].astype(str).str.startswith("◌").all()
    assert open_cells["first"].astype(str).str.contains("±").all()
    assert "6 further cells are not run" in alt


def test_a_picked_cell_can_be_trained_or_opened() -> None:
    at = opened("map")
    at.session_state["pick-chains-map"] = "takd 128>64>8"
    at.run()
    assert not at.exception
    text = " ".join(part.value for part in at.markdown).replace("\\", "")
    assert "Not run. ◌ Estimate" in text
    assert at.button(key="run").label.startswith("Run for real")
    at.session_state["pick-chains-map"] = "takd 256>16>8"
    at.run()
    text = " ".join(part.value for part in at.markdown).replace("\\", "")
    assert "Helps: TA chain 256 → 16 → 8 against direct KD 256 → 8" in text
    assert not [button for button in at.button if button.key == "run"]  # nothing is left to train


def test_a_path_is_opened_on_the_playground() -> None:
    at = opened("paths")
    at.session_state["pick-chains-paths"] = "takd 256>64>16"
    at.run()
    at.button(key="chain-open").click().run()
    assert not at.exception
    assert at.session_state["spec"].path == ("mlp-256", "mlp-64", "mlp-16")


def test_the_lattice_marks_only_a_certain_best_path() -> None:
    (_, alt, frames) = charts_of(opened("paths"))[0]
    nodes = next(frame for frame in frames if "beside" in frame)
    assert "not run" in alt
    best = next(frame for frame in frames if "look" in frame and (frame["look"] == "best").any())
    assert len(best) == 3  # the steps of 256 > 64 > 16 > 8, the best on validation images of eight seeds
    assert nodes["row"].max() <= 10
    clean = opened("paths", noise=["0"])
    assert not any("look" in f and (f["look"] == "best").any() for _, _, frames in charts_of(clean) for f in frames)
    assert "no path is marked" in claim(clean)


def test_the_equal_cost_control_is_offered_where_it_is_not_run() -> None:
    at = opened("worth")
    text = " ".join(part.value for part in at.markdown)
    assert "Equal cost: not run." in text
    assert at.button(key="run").label.startswith("Run for real")
    (spec, alt, _) = charts_of(at)[0]
    assert "Pareto front" in alt and "log" in str(spec)
    (other, _, _) = charts_of(opened("worth", **{"ta-cost": ["trainings"]}))[0]
    assert "'type': 'log'" not in str(other)


def test_rules_over_all_stored_questions_have_more_seeds() -> None:
    def seeds(at: AppTest) -> int:
        (_, _, frames) = charts_of(at)[0]
        dots = next(frame for frame in frames if "rho" in frame)
        return int(dots["rho"].notna().sum())

    here, everywhere = opened("rule"), opened("rule", **{"ta-over": ["all"]})
    assert seeds(everywhere) > seeds(here) > 0
    assert any("Published: Mirzadeh" in caption.value.replace("\\", "") for caption in here.caption)


def test_methods_inside_one_network_have_no_chain() -> None:
    at = open_page({"d": ["digits"], "m": ["ipkd"]}, page=PAGE)
    assert not at.exception
    assert any("no ladder of separate networks" in info.value for info in at.info)
    assert not charts_of(at) and not at.subheader
    at.button(key="chains-back").click().run()
    assert not at.exception
    assert at.session_state["spec"].method == "ipkd" and at.title[0].value != "Assistants"


def test_nothing_stored_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAKD_CACHED", str(tmp_path / "none"))
    monkeypatch.setenv("TAKD_STORE", str(tmp_path / "store"))
    at = open_page({**DIGITS}, page=PAGE)
    assert not at.exception
    assert "nothing to show yet" in at.info[0].value
    assert not charts_of(at)


def test_data_that_is_not_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_DATA", str(tmp_path / "data"))
    at = open_page({"d": ["cifar100"]}, page=PAGE)
    assert not at.exception


def test_every_section_with_one_seed_and_no_assistant() -> None:
    for show in SECTIONS:
        at = opened(show, n=["1"], ta=[""], m=["kd"])
        assert len(at.subheader) == 1
        assert "helps" not in claim(at).lower()


def test_a_run_at_work_marks_what_it_trains(tmp_path: Path) -> None:
    spec = replace(start_for("digits"), assistants=("mlp-128", "mlp-64"), scope="chain")
    store, plan = Store(tmp_path / "store"), build_plan(spec, available_datasets()["digits"])
    folder = store.root / "runs" / "20260101-000000-0001"
    folder.mkdir(parents=True)
    write_plan(store, folder, plan)
    asked = {"schema": 1, "spec": to_json(spec), "created": "2026-01-01T00:00:00", "asked_by": ""}
    files.write_atomic(folder / "experiment.json", json.dumps(asked).encode())
    files.write_atomic(folder / "status.json", json.dumps({"schema": 1, "state": "running"}).encode())
    begun = plan.stages[plan.chains_of(Arm("takd", spec.path))[0].keys[2]]  # mlp-64 along 256 > 128 > 64
    store.ensure(begun)
    store.write_progress(begun.key, {"epoch": 1, "epochs": 5, "step": 1, "steps": 10})
    with run_lock(folder):
        at = opened("paths")
        drawn = [frame for _, _, frames in charts_of(at) for frame in frames if "state" in frame]
        states = {str(a): str(s) for frame in drawn for a, s in zip(frame["arm"], frame["state"], strict=True)}
        assert states["takd 256>128>64"] == "training"
        assert states["takd 256>128>64>8"] == "not run"
        assert len(states) == 22
        assert any("trained" in str(progress.proto.text) for progress in at.get("progress"))
    assert "training" not in str(charts_of(opened("help"))[0][1])
