"""Compare: the basket, its link, and the numbers on screen against the store's."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st

from takd.data.catalogue import available_datasets
from takd.plan import Arm, build_plan, question_of
from takd.presentation import basket
from takd.presentation.compare.charts import reached_chart
from takd.presentation.compare.panels import labels
from takd.presentation.compare.written import as_shown
from takd.presentation.exports import chart_bytes
from takd.presets import PRESETS
from takd.runs.store import open_store

from .pages_support import charts_of, link, open_page

PAGE = str(Path(__file__).parents[1] / "pages" / "compare.py")
CHAIN = replace(PRESETS["cifar-gap"].spec, scope="chain")
DIRECT = replace(CHAIN, method="kd", assistants=())
ALONE = replace(CHAIN, method="scratch", assistants=())


@pytest.fixture(autouse=True)
def cached_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_CACHED", str(Path(PAGE).parents[1] / "cached_runs"))
    st.cache_resource.clear()


def compare(*specs, **more):
    at = open_page(page=PAGE)
    at.query_params["cmp"] = [basket.write(spec) for spec in specs]
    for name, value in more.items():
        at.query_params[name] = value
    return at.run()


@pytest.mark.parametrize("name", PRESETS)
def test_every_arm_of_every_preset_survives_the_link(name: str) -> None:
    datasets = available_datasets()
    spec = PRESETS[name].spec
    for arm in build_plan(spec, datasets[spec.dataset]).arms:
        one = question_of(spec, arm)
        back, problems = basket.read(basket.write(one), datasets)
        assert (back, problems) == (one, ())


def test_an_arm_with_options_survives_the_link() -> None:
    spec = question_of(CHAIN, Arm("dgkd", CHAIN.path, (("gate", "drop-one"),)))
    assert spec.options and basket.read(basket.write(spec), available_datasets()) == (spec, ())


def table_as_shown(table: pd.DataFrame) -> pd.DataFrame:
    """The texts of its cells."""
    cells = as_shown(table)._translate(False, False)["body"]
    texts = [[cell["display_value"] for cell in row if cell["type"] == "td"] for row in cells]
    return pd.DataFrame(texts, columns=table.columns)


def test_what_is_on_screen_is_what_is_stored() -> None:
    at = compare(DIRECT, CHAIN, ALONE)
    assert not at.exception and not at.warning
    reached = charts_of(at)[0][2]
    shown = next(frame for frame in reached if "mean" in frame).set_index("name")["mean"]
    store, dataset = open_store(), available_datasets()["cifar10"]
    for spec, name in ((DIRECT, "Direct KD 10 → 2"), (CHAIN, "TA chain 10 → 4 → 2"), (ALONE, "plain-2 alone")):
        chains = build_plan(spec, dataset).chains
        wanted = Arm(spec.method, (spec.student,) if spec.method == "scratch" else spec.path)
        results = [store.result(c.student) for c in chains if c.arm == wanted]
        assert shown[name] == pytest.approx(sum(r["test_acc"] for r in results if r) / 5, abs=1e-7)
    text = at.subheader[0].value
    assert "plain-2 alone lower" in text and "Highest on test images" in text
    assert "which cannot be told from Direct KD 10 → 2 yet (+0.2 points, 95 % CI −0.2 to 0.6)" in text
    table = at.dataframe[-1].value
    assert list(table["n"]) == [5, 5, 5] and table["p (Holm)"].notna().sum() == 2
    written = table_as_shown(table)
    assert list(written["low"])[1:] == ["−0.24", "−1.56"]
    assert "p (Holm)" not in compare(DIRECT, CHAIN).dataframe[-1].value
    assert list(at.dataframe[0].value["choice"])[:2] == ["Teacher", "Assistants"]


def test_the_reference_and_the_margin_are_in_the_link() -> None:
    at = compare(DIRECT, CHAIN, ref="2", mg="2")
    assert at.subheader[0].value.startswith("No real difference\\: Direct KD 10 → 2 against TA chain")
    at.selectbox(key="compare-ref").set_value("Direct KD 10 → 2").run()
    assert link(at, "ref") == [] and at.subheader[0].value.startswith("No real difference\\: TA chain")
    bad = compare(DIRECT, CHAIN, ref="99", mg="elephant")
    assert not bad.exception and any("elephant" in c.value for c in bad.caption)


def test_an_empty_basket_offers_a_first_comparison() -> None:
    at = open_page(CHAIN, page=PAGE)
    assert at.info and not at.exception and not charts_of(at)
    next(b for b in at.button if b.label.startswith("Compare the student")).click().run()
    assert len(link(at, "cmp")) == 3 and len(charts_of(at)) == 3
    at.button(key=f"drop-{basket.write(DIRECT)}").click().run()
    assert len(link(at, "cmp")) == 2


def test_one_arm_stands_alone_and_an_untrained_one_says_so() -> None:
    at = compare(ALONE)
    store, chains = open_store(), build_plan(ALONE, available_datasets()["cifar10"]).chains
    reached = [result["test_acc"] for c in chains if (result := store.result(c.student))]
    assert not at.exception
    assert at.subheader[0].value.startswith(f"plain-2 alone\\: {100 * sum(reached) / len(reached):.1f}")
    missing = compare(ALONE, replace(CHAIN, seed=77))
    assert not missing.exception and any("not trained yet" in m.value for m in missing.markdown)


def test_nonsense_in_the_link_ends_in_sentences() -> None:
    at = open_page(page=PAGE)
    at.query_params["cmp"] = ["d:nowhere;t:x", ";;;", "d:cifar10;n:9999;m:kd", "x" * 5000]
    at.run()
    assert not at.exception and at.warning and "nowhere" in at.warning[0].value


def test_what_is_no_arm_is_left_out_of_the_basket() -> None:
    at = open_page(page=PAGE)
    at.query_params["cmp"] = ["garbage", basket.write(DIRECT), "x:1;y:2", ""]
    at.run()
    assert not at.exception
    assert "'garbage' in the link is no arm and was left out." in at.warning[0].value
    assert "takes at least" not in at.warning[0].value and "needs at least" not in at.warning[0].value
    at.run()
    assert link(at, "cmp") == [basket.write(DIRECT)]


def test_epochs_and_images_of_ones_own_are_among_what_differs() -> None:
    short = replace(DIRECT, epochs=2, images=500)
    assert basket.read(basket.write(short), available_datasets()) == (short, ())
    assert "ep:" not in basket.write(DIRECT) and "im:" not in basket.write(DIRECT), "an older basket stays the same"
    assert labels([DIRECT, short])[1] == "Direct KD 10 → 2 (epochs 2, training images 500)"
    at = compare(DIRECT, short)
    rows = at.dataframe[0].value.set_index("choice")
    assert list(rows.loc["Epochs"]) == ["as the budget says", "2"]
    assert list(rows.loc["Training images"]) == ["as the budget says", "500"]
    alike = compare(DIRECT, CHAIN)
    said = " ".join(text.value for text in (*alike.caption, *alike.markdown))
    assert "budget standard" in said and "as the budget says" not in said


def test_names_tell_namesakes_apart() -> None:
    cold = replace(DIRECT, temperature=2.0)
    assert labels([DIRECT, cold]) == (
        "Direct KD 10 → 2 (temperature T 8)",
        "Direct KD 10 → 2 (temperature T 2)",
    )
    assert len(set(labels([DIRECT, CHAIN, ALONE, replace(ALONE, dataset="digits", student="mlp-8")]))) == 4


def test_a_locked_basket_cannot_be_changed() -> None:
    at = compare(DIRECT, CHAIN, lock=["cmp"])
    assert at.button(key=f"drop-{basket.write(DIRECT)}").disabled
    assert any("Fixed by the link" in c.value for c in at.caption)


def test_no_two_ticks_of_the_accuracy_axis_have_the_same_label() -> None:
    """Accuracies a point apart get ticks at half points."""
    table = pd.DataFrame(
        {"name": ["a", "b"], "arm": ["kd 10>2", "scratch 2"], "mean": [0.702, 0.695], "low": [0.699, 0.69]}
        | {"high": [0.705, 0.70], "half": [0.003, 0.005], "n": [5, 5]}
    )
    seeds = pd.DataFrame({"name": ["a"], "arm": ["kd 10>2"], "seed": [0], "value": [0.702]})
    svg = chart_bytes(reached_chart(table, seeds), "svg").decode()
    ticks = re.findall(r">([\d.]+ %)<", svg)
    assert len(ticks) >= 4 and len(set(ticks)) == len(ticks)
