"""Every state of the interface that is not "all is well": what a person reads in it and what they can do about it.

What each cause of a failed training says is in test_causes_on_page.py, the queue and its limits in test_modes.py, bad
links in test_pages.py; here every state has its one test over the pages where it shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from takd.data import sources
from takd.data.catalogue import available_datasets
from takd.data.meta import DataError
from takd.plan import build_plan, chosen_arm
from takd.presentation import live, words
from takd.presets import PRESETS
from takd.runs import estimates
from takd.runs import submit as submit_module
from takd.runs.states import STATES, run_ids, run_info, write_run_file
from takd.runs.store import Store, open_store
from takd.spec import ExperimentSpec, start_for, to_json

from . import test_other_pages
from .pages_support import SMALL, charts_of, link, open_page
from .runs.test_policy import make_run

REPO = Path(__file__).parents[1]
EXPLORER = [str(REPO / "pages" / f"{name}.py") for name in ("gap", "chains", "lens")]
RUNS, LEARN, CLAIMS = (str(REPO / "pages" / f"{name}.py") for name in ("runs", "learn", "claims"))
CIFAR = PRESETS["cifar-gap"].spec
Env = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def nobody_works(monkeypatch: Env) -> Iterator[None]:
    """Runs stay as they are when they were asked for, and no speed of this machine is known."""
    st.cache_resource.clear()
    monkeypatch.setattr(submit_module, "start_worker", lambda store, run_id: None)
    yield
    st.cache_resource.clear()


@pytest.fixture
def cached(monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_CACHED", str(REPO / "cached_runs"))


def said(at: AppTest) -> str:
    kinds = ("title", "header", "subheader", "caption", "markdown", "info", "warning", "error")
    text = " ".join(e.value for kind in kinds for e in getattr(at, kind))
    return text.replace("\\", "").replace("\N{NON-BREAKING HYPHEN}", "-").replace("\N{NO-BREAK SPACE}", " ")


def labels(at: AppTest) -> list[str]:
    return [button.label for button in at.button]


def well(at: AppTest) -> AppTest:
    assert not at.exception
    return at


@pytest.mark.usefixtures("cached")
def test_not_cached_the_nearest_is_shown_faded_with_what_differs() -> None:
    asked = replace(CIFAR, temperature=2.0)
    at = well(open_page(asked))
    assert "Temperature T: you asked for 2, shown is 8" in said(at) and "CI" in said(at)
    assert any("opacity: 0.45" in block.proto.body for block in at.get("html"))
    assert at.button(key="run").label.startswith("Run for real") or "downloaded first" in said(at)
    for page in EXPLORER:
        at = well(open_page(asked, page))
        assert "Not trained yet" in said(at) and "Run for real" in said(at) and charts_of(at)


@pytest.mark.parametrize("page", [None, *EXPLORER])
def test_no_runs_at_all_the_digits_are_trained_with_one_click(page: str | None) -> None:
    at = well(open_page({"d": ["cifar10"]}, page))
    assert "No stored run is near these choices" in said(at) and not charts_of(at)
    well(at.button(key="first-run").click().run())
    (run_id,) = run_ids(open_store().root)
    assert run_info(open_store(), run_id).spec == to_json(start_for("digits"))
    at = well(open_page({"d": ["digits"]}))  # where the click leads
    assert "first-run" not in [button.key for button in at.button] and f"Cancel-{run_id}-playground" in [
        button.key for button in at.button
    ]


def test_no_runs_at_all_on_the_other_pages() -> None:
    assert "No finished run yet" in said(well(open_page(page=RUNS)))
    at = well(open_page(page=LEARN))
    assert "train it on the Playground" in said(at)
    at = well(open_page(page=CLAIMS))  # with its board or before it is worked out
    assert re.search("Nothing is tested yet|each with the rule that decides it", said(at))


def test_no_gpu_is_said_beside_the_button(monkeypatch: Env) -> None:
    monkeypatch.setattr(estimates.shutil, "which", lambda name: None)
    monkeypatch.setattr(estimates.Path, "exists", lambda path: False) if estimates.Path(
        "/dev/nvidiactl"
    ).exists() else None
    at = well(open_page(replace(SMALL, budget="paper", seeds=5)))
    notes = [caption for caption in at.caption if "CPU only" in caption.value]
    assert len(notes) == 1 and "NVIDIA" in words.ADD_A_GPU and notes[0].help == words.ADD_A_GPU
    assert not at.button(key="run").disabled and "~" in at.button(key="run").label  # allowed, with its time
    store = open_store()
    estimates.record_rate(store, "cuda:0", "plain-2", 9000.0)
    assert not estimates.cpu_only(store)
    at = well(open_page(SMALL))
    assert "CPU only" not in said(at)


@pytest.mark.usefixtures("cached")
def test_data_missing_and_no_network(monkeypatch: Env, tmp_path: Path) -> None:
    """What is stored can be looked at; the run says what it has to fetch; the failed one what to do without."""
    at = well(open_page(CIFAR))
    assert "CIFAR-10 is prepared first (170" in said(well(open_page(replace(CIFAR, seeds=8))))
    assert charts_of(at) and "cached" in said(at)
    for page in EXPLORER:
        assert charts_of(well(open_page(CIFAR, page)))

    def offline(folder: Path) -> Any:
        raise OSError("no route to host")

    monkeypatch.setitem(sources.DOWNLOADS, "cifar10", replace(sources.DOWNLOADS["cifar10"], read=offline))
    with pytest.raises(DataError) as refused:
        sources.prepare("cifar10")
    stopped(open_store(), CIFAR, "failed", str(refused.value))
    at = well(open_page(page=RUNS))
    assert "Check the network" in said(at) and "put it here" in said(at) and "digits need no download" in said(at)
    assert "Resume" in labels(at)


def stopped(store: Store, spec: ExperimentSpec, state: str, reason: str = "") -> str:
    run_id = make_run(store, "20260101-000000-0009", state="cancelled")
    folder = store.root / "runs" / run_id
    write_run_file(folder, "experiment.json", {"spec": to_json(spec), "created": "2026-01-01T00:00:00+00:00"})
    write_run_file(folder, "status.json", {"state": state, "reason": reason})
    (folder / "log.txt").write_text("the last line\n")
    return run_id


def test_queue_full_says_so_and_a_waiting_run_its_place(monkeypatch: Env) -> None:
    monkeypatch.setenv("TAKD_MAX_WAITING", "2")
    store = open_store()
    for number in range(2):
        make_run(store, f"20260101-000000-000{number}")
    at = well(open_page({"d": ["digits"], "n": ["1"]}))
    assert at.button(key="run").disabled
    assert "2 runs are waiting already" in said(at) and "when some of them are done" in said(at)
    assert "1 run ahead" in said(well(open_page(page=RUNS)))


@pytest.mark.parametrize("state", ["failed", "lost"])
def test_a_run_that_ended_early_offers_to_go_on(state: str) -> None:
    """Crashed, out of memory, its worker dead: test_causes_on_page.py has every cause."""
    stopped(open_store(), SMALL, state, "The computer ran out of memory. Choose a smaller network, then resume.")
    for page in (None, RUNS):
        at = well(open_page(SMALL, page))
        assert STATES[state].word in said(at) and STATES[state].next_action in said(at)
        assert "Resume" in labels(at) and any("the last line" in code.value for code in at.code)


@pytest.mark.parametrize("nearest", [True, False], ids=["beside the nearest", "nothing stored"])
def test_a_cancelled_run_is_told_of_by_the_buttons_that_are_there(filled: Any, nearest: bool) -> None:
    store = open_store()
    if nearest:
        filled(replace(SMALL, temperature=2.0), lambda stage: 0.5)
    at = well(open_page(SMALL))
    assert "Press **Run for real** to train it." in said(at) and at.button(key="run")
    stopped(store, SMALL, "cancelled")
    at = well(open_page(SMALL))
    assert {"Resume", "Forget"} <= set(labels(at)) and not any(label.startswith("Run for") for label in labels(at))
    assert "press **Resume** to continue, or **Forget** to remove it" in said(at)
    assert "Run for real" not in said(at)


@pytest.fixture
def filled(monkeypatch: Env, tmp_path: Path) -> Any:
    """`filled(spec, accuracy)` stores results nobody trained: `accuracy(stage)` of each."""

    def make(spec: ExperimentSpec, accuracy: Any) -> None:
        real = test_other_pages._result
        monkeypatch.setattr(test_other_pages, "_result", lambda stage, value: real(stage, accuracy(stage)))
        test_other_pages.fill(spec, tmp_path / "store")

    return make


def test_a_training_is_named_with_who_teaches_it() -> None:
    """The same network at the same seed is trained once from each of its teachers."""
    plan = build_plan(replace(start_for("digits"), scope="ladder"), available_datasets()["digits"])
    store: Any = SimpleNamespace(stage=plan.stages.get)
    named = [live._current(key, {}, store) for key in plan.stages]
    assert "Now: mlp-16 from mlp-256, seed 0" in named and "Now: mlp-8 from mlp-16 from mlp-256, seed 0" in named
    assert len(set(named)) == len(named)


def test_chance_level_is_no_finding_and_offers_safe_settings(filled: Any) -> None:
    spec = replace(SMALL, temperature=50.0, epochs=2, images=50)
    filled(spec, lambda stage: 0.1 if len(stage.teachers) else 0.9)
    at = well(open_page(spec))
    assert "This training failed" in said(at) and "temperature too high" in said(at)
    at.button(key="try-Safe settings").click().run()
    assert link(well(at), "T") in ([], ["1"]) and "This training failed" not in said(at)
    assert (link(at, "ep"), link(at, "im")) == ([], []), "too few epochs or images may be what failed"


def test_one_seed_cannot_tell_and_offers_more(tmp_path: Path) -> None:
    spec = replace(SMALL, seeds=1)
    test_other_pages.fill(spec, tmp_path / "store")
    at = well(open_page(spec))
    assert [badge for badge in at.get("markdown") if "Cannot tell yet" in badge.value]
    assert "At least 3 seeds are needed" in said(at) and "no interval" in said(at)
    for _, _, frames in charts_of(at):
        assert not any(frame["half"].notna().any() for frame in frames if "half" in frame)
    (more,) = [button for button in at.button if str(button.key).startswith("try-3 seeds")]
    assert "s" in more.label.partition("·")[2] or "min" in more.label
    more.click().run()
    assert link(well(at), "n") == ["3"]


def test_an_interval_with_zero_is_neutral_and_offers_seeds(filled: Any) -> None:
    """The chain wins at one seed what it loses at the next."""
    plan = build_plan(SMALL, available_datasets()["digits"])
    chains = {chain.student for chain in plan.chains_of(chosen_arm(SMALL))}
    filled(SMALL, lambda stage: 0.6 + (0.03, -0.03, 0.01)[stage.seed] * (stage.key in chains))
    at = well(open_page(SMALL))
    (badge,) = [block.value for block in at.markdown if "-badge[" in block.value]
    assert "Cannot tell yet" in badge and ":gray-badge[" in badge
    (more,) = [button for button in at.button if " seeds · " in button.label]
    assert int(more.label.split()[0]) > SMALL.seeds


def test_a_bad_link_is_repaired_and_its_repair_can_be_copied() -> None:
    for page in (None, *EXPLORER):
        at = well(open_page({"d": ["digits"], "T": ["0"]}, page))
        if page is None:
            assert "'0'" in said(at) and "Shown instead" in said(at) and "The repaired link" in said(at)
            (repaired,) = [code.value for code in at.code if code.value.startswith("?")]
            assert "T=0&" not in repaired + "&"
    at = well(open_page({"d": ["digits"]}, EXPLORER[0]))
    at.query_params["y"] = "beauty"
    assert "Of the student cannot be 'beauty'" in said(well(at.run()))


def test_a_broken_folder_is_skipped_and_counted(tmp_path: Path) -> None:
    broken = tmp_path / "store" / "stages" / "ab" / ("ab" + "0" * 30)
    broken.mkdir(parents=True)
    (broken / "stage.json").write_text("{")
    for page in (None, *EXPLORER):
        well(open_page(page=page))
    at = well(open_page(page=RUNS))
    (box,) = [box for box in at.expander if "could not be read" in box.label]
    assert box.label.startswith("1 folder") and len(box.dataframe[0].value) == 1


class Sketch:
    """A figure that cannot be drawn."""

    def __init__(self, monkeypatch: Env, name: str) -> None:
        def broken(*_: object, **__: object) -> Any:
            raise ValueError("no such mark")

        monkeypatch.setattr(name, broken)


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize(
    ("page", "name", "figure"),
    [
        (None, "takd.presentation.charts.gap_chart", "gap"),
        (EXPLORER[0], "takd.presentation.gap.panels.capacity_chart", "capacity"),
    ],
)
def test_a_chart_that_cannot_be_drawn_is_a_table_and_a_sentence(
    page: str | None, name: str, figure: str, monkeypatch: Env, caplog: pytest.LogCaptureFixture
) -> None:
    whole = len(charts_of(well(open_page(CIFAR, page))))
    st.cache_resource.clear()
    Sketch(monkeypatch, name)
    at = well(open_page(CIFAR, page))
    assert len(charts_of(at)) == whole - 1
    assert "cannot be drawn; these are its numbers" in at.warning[0].value
    assert "no such mark" in caplog.text and "no such mark" not in said(at)
    assert "Student accuracy" in said(at) or "teacher" in said(at).lower()
    assert len(at.dataframe[0].value) > 4
    assert f"csv-{figure}" in [
        str(button.proto.id).rpartition("-csv-")[0] and f"csv-{figure}" for button in at.get("download_button")
    ]
    caplog.clear()


def test_a_chart_that_can_not_even_be_told_is_a_table(monkeypatch: Env, caplog: pytest.LogCaptureFixture) -> None:
    def page() -> None:  # AppTest runs its text, without what stands above
        import pandas as pd

        from takd.presentation import ui

        def broken(*_: object) -> object:
            raise KeyError("mean")

        rows = pd.DataFrame({"arm": ["kd 4>2"], "mean": [0.5]})
        ui.figure("sketch", broken, broken, rows, title="a *sketch*", caption="n = 1")

    at = AppTest.from_function(page, default_timeout=30).run()
    well(at)
    assert at.dataframe[0].value["mean"].tolist() == [0.5] and at.caption[0].value == "n = 1"
    assert "KeyError" in caplog.text and not charts_of(at)
    caplog.clear()
