"""The Capacity gap page as a visitor opens it: stored runs, one seed, nothing stored, methods without a ladder."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest
import streamlit as st
from scipy import stats
from streamlit.testing.v1 import AppTest

from takd.analysis.pool import pool
from takd.analysis.whatif import leave_one_out
from takd.data.catalogue import available_datasets
from takd.plan import Arm, build_plan
from takd.presentation import theme
from takd.presentation.gap import panels as gap_panels
from takd.presentation.gap.capacity_chart import capacity_chart, unplaced
from takd.presentation.gap.students_chart import estimates_chart, students_chart
from takd.presentation.phrases import gain_text
from takd.presentation.study import study
from takd.presets import PRESETS
from takd.runs.store import Store, open_store
from takd.spec import ExperimentSpec

from .pages_support import SMALL, charts_of, link, open_page, train_here

PAGE = "../../pages/gap.py"
CACHED = Path(__file__).parents[1] / "cached_runs"
CIFAR, DIGITS = PRESETS["cifar-gap"].spec, PRESETS["digits-noise"].spec


@pytest.fixture(autouse=True)
def fresh_cache() -> None:
    st.cache_resource.clear()


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_CACHED", str(CACHED))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One seed of mlp-32 > mlp-16 > mlp-8 and its controls."""
    root = tmp_path_factory.mktemp("gap")
    patch = pytest.MonkeyPatch()
    patch.setenv("TAKD_DATA", str(root / "data"))
    train_here(replace(SMALL, seeds=1), root / "store")
    patch.undo()
    return root / "store"


def opened(spec: ExperimentSpec | None = None, **settings: str) -> AppTest:
    at = open_page(spec, page=PAGE)
    if settings:
        for name, value in settings.items():
            at.query_params[name] = value
        at.run()
    return at


def said(at: AppTest, *kinds: str) -> str:
    texts = [e.value for kind in kinds or ("subheader", "caption", "info", "markdown") for e in getattr(at, kind)]
    return " ".join(texts).replace("\\", "").replace("\u2011", "-").replace("\u00a0", " ")


def table_of(chart: tuple[dict[str, Any], str, list[pd.DataFrame]], *columns: str) -> pd.DataFrame:
    """The rows of a chart's tables that have these columns."""
    return pd.concat([frame for frame in chart[2] if set(columns) <= set(frame.columns)], ignore_index=True)


def measured(spec: ExperimentSpec, tmp_path: Path) -> pd.DataFrame:
    """Test accuracy by arm and seed, straight from the result files."""
    store, dataset = Store(tmp_path / "none", [CACHED]), available_datasets()[spec.dataset]
    plan = build_plan(replace(spec, scope="ladder"), dataset)
    rows = [(c.arm.name, c.seed, (store.result(c.student) or {}).get("test_acc")) for c in plan.chains]
    return pd.DataFrame(rows, columns=["arm", "seed", "acc"]).dropna().pivot(index="seed", columns="arm", values="acc")


def test_the_verdict_is_worked_out_and_stands_first(cached: None, tmp_path: Path) -> None:
    at = opened(CIFAR)
    assert not at.exception and not at.info
    own = measured(CIFAR, tmp_path)
    gain = (own["kd 4>2"] - own["kd 10>2"]).to_numpy()
    half = stats.t.ppf(1 - 0.1 / 3 / 2, len(gain) - 1) * gain.std(ddof=1) / math.sqrt(len(gain))  # best of three
    claim = said(at, "subheader")
    sure = gain.mean() - half > 0
    opening = "A bigger teacher stopped helping plain-2"
    assert claim.startswith(opening if sure else "Whether a bigger teacher stops helping plain-2 cannot be told yet")
    assert f"+{100 * gain.mean():.1f} points" in claim
    span = f"{100 * (gain.mean() - half):.1f} to {100 * (gain.mean() + half):.1f}".replace("-", "−")
    assert f"{span}, n = 5 seeds" in claim
    behind = said(at, "caption")
    assert f"Peak: plain-4, the smallest of 4 teachers, {100 * own['kd 4>2'].mean():.1f} %" in behind
    beside = (own["kd 4>2"] - own["kd 6>2"]).to_numpy()
    assert abs(beside.mean()) < stats.t.ppf(0.975, 4) * beside.std(ddof=1) / math.sqrt(5)
    assert "not separable from its neighbour plain-6" in behind
    means = [own[f"kd {t}>2"].mean() for t in (4, 6, 8, 10)]
    rank = f"{stats.spearmanr([1, 2, 3, 4], means).statistic:.2f}".replace("-", "−")
    assert f"{rank} with the teacher's capacity" in behind
    assert "over 4 teachers it describes and does not test" in behind


def test_the_figure_draws_the_stored_numbers(cached: None, tmp_path: Path) -> None:
    at = opened(CIFAR)
    own = measured(CIFAR, tmp_path)
    chart = charts_of(at)[0]
    marks = table_of(chart, "arm", "state", "mean", "at")
    rows = marks.drop_duplicates(["arm", "state"]).set_index("arm")
    for arm in ("kd 4>2", "kd 6>2", "kd 8>2", "kd 10>2", "takd 10>4>2"):
        assert rows.loc[arm, "mean"] == pytest.approx(own[arm].mean(), abs=1e-6)
        assert rows.loc[arm, "state"] == "measured"
    assert rows.loc["takd 6>4>2", "state"] == rows.loc["takd 8>4>2", "state"] == "estimated"
    dots = table_of(chart, "value", "seed", "at").query("seed >= 0")
    assert len(dots.dropna(subset=["value"])) >= 4 * 5
    assert f"plain-4 {100 * own['kd 4>2'].mean():.1f} %" in chart[1] and said(at, "subheader")[:40] in chart[1]
    assert "n = 5" in said(at, "caption") and "95 % t interval" in said(at, "caption")


def test_gain_is_paired_by_seed(cached: None, tmp_path: Path) -> None:
    at = opened(CIFAR, y="gain")
    assert not at.exception
    own = measured(CIFAR, tmp_path)
    gain = (own["kd 10>2"] - own["scratch 2"]).to_numpy()
    half = stats.t.ppf(0.975, 4) * gain.std(ddof=1) / math.sqrt(5)
    row = table_of(charts_of(at)[0], "arm", "state", "low").drop_duplicates("arm").set_index("arm").loc["kd 10>2"]
    assert [row["mean"], row["low"], row["high"]] == pytest.approx(
        [gain.mean(), gain.mean() - half, gain.mean() + half], abs=1e-6
    )
    assert "paired by seed" in said(at, "caption")


@pytest.mark.parametrize("y", ["agreement", "calibration"])
def test_other_measures_come_from_the_results(y: str, cached: None, tmp_path: Path) -> None:
    at = opened(DIGITS, y=y)
    assert not at.exception
    store, plan = Store(tmp_path / "none", [CACHED]), build_plan(DIGITS, available_datasets()["digits"])
    arm = Arm("kd", ("mlp-256", "mlp-8"))
    values = []
    for chain in plan.chains_of(arm):
        result = store.result(chain.student) or {}
        values.append(result["ece"] if y == "calibration" else result["agreement"][chain.keys[0]])
    row = table_of(charts_of(at)[0], "arm", "state", "low").drop_duplicates("arm").set_index("arm").loc[arm.name]
    assert row["mean"] == pytest.approx(np.mean(values), abs=1e-6)
    assert ("lower is better" in said(at, "caption")) == (y == "calibration")


def test_settings_are_in_the_link_and_bad_ones_end_in_words(cached: None) -> None:
    at = opened(CIFAR, y="gain", x="macs", via="all")
    assert (link(at, "y"), link(at, "x"), link(at, "via")) == (["gain"], ["macs"], ["all"])
    names = table_of(charts_of(at)[0], "arm", "state")["arm"].unique()
    assert {"takd 10>4>2", "takd 10>6>2", "takd 10>8>2"} <= set(names) and "takd 8>6>2" not in names
    bad = opened(CIFAR, y="<b>", x="12", via="?")
    assert not bad.exception and "cannot be" in said(bad, "caption") and len(charts_of(bad)) == 2


def test_an_arm_that_was_not_run_can_be_trained(cached: None, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(CIFAR)
    menu = at.selectbox(key="pick-capacity")
    assert any("not run" in text for text in menu.options)
    assert not [b for b in at.button if b.key == "run"]
    menu.set_value("takd 8>4>2").run()
    assert not at.exception
    card = said(at, "markdown", "caption")
    assert "Train it: CIFAR-10: TA chain plain-8 > plain-4 > plain-2" in card and "Estimate: " in card
    assert f"missed by {_off():.2f} points" in card
    asked: list[ExperimentSpec] = []
    monkeypatch.setattr("takd.presentation.live.submit", lambda store, spec, person: asked.append(spec))
    monkeypatch.setattr("takd.presentation.live.LONG_SECONDS", math.inf)
    monkeypatch.setattr("takd.presentation.live.refusal", lambda *_: None)
    at.run()
    at.button(key="run").click().run()
    assert [(s.teacher, s.assistants, s.student, s.scope, s.seeds) for s in asked] == [
        ("plain-8", ("plain-4",), "plain-2", "chain", 5)
    ]
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    at.run()
    assert not [b for b in at.button if b.key == "run"] and "shows stored results" in said(at, "caption")


def _estimates() -> pd.DataFrame:
    """Every measured arm beside its estimate without it."""
    return leave_one_out(pool(CIFAR, available_datasets()["cifar10"], open_store()))


def _off() -> float:
    """How far estimates are off, in points."""
    table = _estimates()
    return 100 * math.sqrt(((table["estimated"] - table["measured"]) ** 2).mean())


def test_a_student_of_the_small_figures_becomes_the_question_s(cached: None) -> None:
    at = opened(CIFAR)
    small = table_of(charts_of(at)[1], "student", "teacher", "state")
    assert list(small["student"].unique()) == ["plain-2", "plain-4", "plain-6", "plain-8"]
    assert set(small[small["student"] == "plain-6"]["state"]) == {"measured", "estimated"}
    at.selectbox(key="pick-students").set_value("plain-4").run()
    assert not at.exception and link(at, "s") == ["plain-4"]
    assert "plain-4" in said(at, "subheader") and at.selectbox(key="pick-students").value is None
    asked = replace(CIFAR, student="plain-4", assistants=("plain-6",))
    gap = study(asked, available_datasets()["cifar10"], open_store()).gap_verdict
    wording = {
        "gap": "stopped helping", "no gap": "still helps", "flat": "No gap", "cannot tell yet": "cannot be told yet",
    }  # fmt: skip
    assert [kind for kind, text in wording.items() if text in said(at, "subheader")] == [gap.kind]
    assert gain_text(gap.verdict) in said(at, "subheader")
    needed = gap.verdict.seeds_needed
    assert needed is None or f"{needed} seeds" in said(at, "caption")


def test_numbers_and_quality_are_sent_when_somebody_looks(cached: None, tmp_path: Path) -> None:
    at = opened(CIFAR)
    assert not at.dataframe and len(charts_of(at)) == 2
    at.session_state["gap-numbers"] = at.session_state["gap-quality"] = True
    at.run()
    rows = at.dataframe[0].value.set_index("arm")
    row = rows.loc["Direct KD 4 → 2"]
    assert row["accuracy, %"] == round(100 * measured(CIFAR, tmp_path)["kd 4>2"].mean(), 2)
    assert (row["n"], row["from"], row["parameters"]) == (5, "cached", 37338)
    assert rows.loc["TA chain 8 → 4 → 2", "from"] == "estimate" and rows.loc["TA chain 8 → 4 → 2", "n"] == 0
    chart = charts_of(at)[2]
    assert f"{_off():.2f} points" in chart[1]
    assert len(table_of(chart, "measured", "estimated", "arm")) == len(_estimates()) > 3


def test_nothing_stored_says_so() -> None:
    at = opened(SMALL)
    assert not at.exception and not charts_of(at)
    assert "nothing to show yet" in said(at, "info")


def test_one_seed_claims_nothing(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_STORE", str(trained))
    for y in ("accuracy", "gain", "agreement", "calibration"):
        at = opened(replace(SMALL, seeds=1), y=y)
        assert not at.exception and len(charts_of(at)) == 2
        assert "cannot be told yet" in said(at, "subheader") and "At least 3 seeds" in said(at, "caption")
        assert "nan" not in said(at) + charts_of(at)[0][1] + charts_of(at)[1][1]
    assert "estimate" not in said(at, "caption")  # far too few arms for one


def test_the_nearest_question_stands_below_the_notice(cached: None) -> None:
    at = opened(replace(CIFAR, seeds=3, temperature=2.0))
    assert not at.exception and "nearest stored question" in said(at, "info") and len(charts_of(at)) == 2
    assert "Temperature T: you asked for 2, shown is 8" in said(at, "info")
    assert "First seed: you asked for 999, shown is 0" in said(opened(replace(CIFAR, seed=999)), "info")


def test_sub_models_have_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from .test_other_pages import fill, question

    spec = question("ipkd")
    monkeypatch.setenv("TAKD_STORE", str(fill(spec, tmp_path / "inside").root))
    at = opened(spec)
    assert not at.exception and "no capacity gap" in said(at, "info") and len(charts_of(at)) == 1
    at.button(key="to-ladder").click().run()
    assert not at.exception and link(at, "m") == [] and link(at, "d") == ["digits"]


FORMS = [
    ("accuracy", "params", False, False),
    pytest.param("gain", "macs", True, True, marks=pytest.mark.slow),  # the schema takes seconds for each
    pytest.param("agreement", "teacher", False, True, marks=pytest.mark.slow),
    pytest.param("calibration", "ratio", True, False, marks=pytest.mark.slow),
]


def test_own_networks_have_a_place_among_the_teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from .own_files import keep
    from .test_other_pages import fill

    mine = keep("mine.py", 1500).name
    spec = ExperimentSpec(**{**vars(replace(SMALL, seeds=3)), "assistants": (mine,)})
    monkeypatch.setenv("TAKD_STORE", str(fill(replace(spec, scope="ladder"), tmp_path / "own").root))
    for via in ("own", "all"):
        at = opened(spec, via=via)
        assert not at.exception and len(charts_of(at)) == 2
        rows = table_of(charts_of(at)[0], "arm", "state", "teacher").drop_duplicates("arm").set_index("teacher")
        assert rows.loc[mine, "state"] == "measured"
        assert mine in charts_of(at)[0][1]


@pytest.mark.parametrize(("measure", "axis", "compact", "dark"), FORMS)
def test_figures_are_valid_in_every_form(measure: str, axis: str, compact: bool, dark: bool, tmp_path: Path) -> None:
    store = Store(tmp_path / "none", [CACHED])
    shown = study(DIGITS, available_datasets()["digits"], store)
    here = gap_panels.pool_scene(shown, store, measure, "own")  # type: ignore[arg-type]
    for drawn in (
        capacity_chart(here.teachers, here.lines, here.values, measure, axis, "takd 32>16>8", dark, compact),
        students_chart(here.students, "mlp-8", measure, dark, compact),
    ):
        spec = drawn.to_dict()
        alt.LayerChart.from_dict(spec)  # checks every part against the schema
        assert theme.arm_color("kd", dark) in str(spec)
        sizes = [node[key] for node in _parts(spec) for key in ("fontSize", "labelFontSize") if key in node]
        assert min(sizes) >= 11


def _parts(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _parts(part)


def test_what_has_no_place_is_named_and_empty_frames_are_words(tmp_path: Path) -> None:
    store = Store(tmp_path / "none", [CACHED])
    shown = study(CIFAR, available_datasets()["cifar10"], store)
    here = gap_panels.pool_scene(shown, store, "accuracy", "none")
    holes = here.teachers.assign(mean=[math.nan, *here.teachers["mean"].iloc[1:]])
    assert unplaced(holes, "teacher") == ["plain-4"] and unplaced(holes, "params") == []
    assert "plain-4" not in str(
        capacity_chart(holes, here.lines, here.values, axis="teacher").to_dict()["datasets"]["table_1"]
    )
    for chart in (
        capacity_chart(here.teachers.head(0), here.lines, here.values),
        students_chart(here.students.head(0), "plain-2"),
        estimates_chart(pd.DataFrame(columns=["arm", "measured", "estimated"])),
    ):
        words = [row["text"] for table in chart.to_dict()["datasets"].values() for row in table if "text" in row]
        assert len(words) == 1 and len(words[0]) > 20


def test_a_question_in_training_is_watched_while_the_nearest_is_shown(
    cached: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = SimpleNamespace(id="r1", look=SimpleNamespace(active=True))
    monkeypatch.setattr(gap_panels.live, "active_run", lambda spec, store: run if spec.temperature == 3.0 else None)
    monkeypatch.setattr(gap_panels.live, "watching", lambda run_id, store, place: st.markdown(f"watching {run_id}"))
    assert "watching r1" in said(opened(replace(CIFAR, temperature=3.0)), "markdown")
    assert "watching" not in said(opened(CIFAR), "markdown")


def test_hollow_marks_without_an_estimate_are_not_called_estimates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAKD_CACHED", str(tmp_path / "none"))
    monkeypatch.setenv("TAKD_STORE", str(tmp_path / "own"))
    train_here(replace(SMALL, seeds=1), tmp_path / "own")
    caption = next(c.value for c in opened(replace(SMALL, seeds=1)).caption if "every student of the ladder" in c.value)
    assert "hollow\\: not run, at the foot" in caption and "estimate" not in caption
