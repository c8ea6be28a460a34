"""The page "Look inside" as a visitor opens it: on the cached runs, on an empty store, with bad links."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from takd.analysis import inside
from takd.claims.settings import FIRST_FRESH
from takd.data.catalogue import available_datasets
from takd.evaluation import answers_read
from takd.presentation import view
from takd.presentation.lens import data as lens_data
from takd.presentation.lens import looks as lens_looks
from takd.presentation.lens import panels as lens_panels
from takd.presentation.study import Study, study
from takd.presets import PRESETS
from takd.runs import looking
from takd.runs.store import Store
from takd.spec import PARAMETERS
from tests.pages_support import charts_of, link, open_page
from tests.test_other_pages import fill
from tests.test_other_pages import question as other_question

REPO = Path(__file__).parents[1]
CACHED = REPO / "cached_runs"
PAGE = str(REPO / "pages" / "lens.py")
QUESTION = PRESETS["cifar-gap"].spec


@pytest.fixture(autouse=True)
def cached(monkeypatch: pytest.MonkeyPatch) -> None:
    st.cache_resource.clear()
    monkeypatch.setenv("TAKD_CACHED", str(CACHED))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"), [CACHED])


@pytest.fixture(scope="module")
def shown(store: Store) -> Study:
    return study(QUESTION, available_datasets()["cifar10"], store)


def opened(**query: str) -> AppTest:
    at = open_page({"d": ["cifar10"], **{name: [value] for name, value in query.items()}}, page=PAGE)
    # Going to another page empties the URL: a deep link arrives on it instead.
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception
    return at


def said(at: AppTest) -> str:
    kinds = ("subheader", "caption", "markdown", "info", "latex")
    return " ".join(e.value for kind in kinds for e in getattr(at, kind)).replace("\\", "")


def table(at: AppTest, column: str) -> pd.DataFrame:
    """The first table of any chart that has this column."""
    return next(frame for _, _, frames in charts_of(at) for frame in frames if column in frame)


# What is stored


def test_stored_labels_give_every_cached_accuracy(store: Store) -> None:
    checked = 0
    for path in CACHED.glob("stages/*/*/predictions.npz"):
        stage, found = store.stage(path.parent.name), answers_read.answers(store, path.parent.name)
        result = store.result(path.parent.name)
        assert stage is not None and found is not None and result is not None
        y = answers_read.labels(store, stage.data)
        assert y is not None and len(y) == 10_000
        # float16 can make a tie of the two best answers
        assert float((found.logits.argmax(1) == y).mean()) == pytest.approx(result["test_acc"], abs=5e-4)
        checked += 1
    assert checked == 95


def test_labels_travel_without_pictures() -> None:
    files = list((CACHED / "labels").iterdir())
    assert {path.suffix for path in files} == {".npy", ".json"}
    counts = sorted(np.bincount(np.load(path)).tolist() for path in files if path.suffix == ".npy")
    assert len(counts) == 3 and sum(counts[0]) == 900  # digits
    assert counts[1:] == [[100] * 100, [1000] * 10]  # CIFAR-100 and CIFAR-10
    assert sum(path.stat().st_size for path in files) < 25_000


def test_nothing_is_invented_where_neither_labels_nor_data_are(tmp_path: Path) -> None:
    data = next(iter(study(QUESTION, available_datasets()["cifar10"], Store(tmp_path)).plan.stages.values())).data
    bare = Store(tmp_path)
    assert answers_read.labels(bare, data) is None
    assert answers_read.pictures(data, [0]) is None
    assert answers_read.class_names(bare, data) == tuple("0123456789")
    assert answers_read.answers(bare, "0" * 32) is None


def test_damaged_answers_count_as_none(tmp_path: Path, store: Store) -> None:
    key = next(iter(CACHED.glob("stages/*/*/predictions.npz"))).parent.name
    copy = tmp_path / "cached" / "stages" / key[:2] / key
    copy.mkdir(parents=True)
    for path in store.folder(key).iterdir():
        copy.joinpath(path.name).write_bytes(path.read_bytes())
    (copy / "predictions.npz").write_bytes(b"PK\x03\x04 nothing")
    assert answers_read.answers(Store(tmp_path / "own", [tmp_path / "cached"]), key) is None


# Frames


def test_voices_are_the_chain_and_its_controls(shown: Study) -> None:
    assert [(v.role, v.method) for v in lens_data.lens_voices(shown)] == [
        ("teacher", "scratch"), ("assistant", "kd"), ("student", "takd"), ("student", "kd"), ("student", "scratch"),
    ]  # fmt: skip
    assert all(len(v.keys) == 5 for v in lens_data.lens_voices(shown))


def test_agreement_is_that_of_the_results(shown: Study, store: Store) -> None:
    found = lens_data.lens_sums(shown, store)
    assistant, student = lens_data.lens_voices(shown)[1:3]
    name = next(n for n, (a, b) in lens_data.pair_names(shown).items() if (a, b) == (assistant, student))
    for seed, value in found.agreements[name].items():
        result = store.result(student.keys[seed])
        assert result is not None
        assert value == pytest.approx(result["agreement"][assistant.keys[seed]], abs=1e-3)
        assert found.ece[student.name][seed] == pytest.approx(result["ece"], abs=2e-3)
        counts = np.array(result["correct_classes"])
        assert found.classes[student.name][seed] == pytest.approx(counts / 1000, abs=2e-3)


def test_without_answers_numbers_come_from_the_results(store: Store) -> None:
    digits = study(PRESETS["digits-two-assistants"].spec, available_datasets()["digits"], store)
    found = lens_data.lens_sums(digits, store)
    # from the answers of three seeds, and where results say it of all
    assert found.stored and set(inside.mean_frame(found.agreements)["n"]) == {3, 8}
    assert set(found.overlaps["seed"]) == {0, 1, 2}
    fresh = replace(PRESETS["digits-noise"].spec, seed=FIRST_FRESH)  # what the library of claims has of it
    digits = study(fresh, available_datasets()["digits"], store)
    found = lens_data.lens_sums(digits, store)
    assert not found.stored and found.bins.empty and found.overlaps.empty
    assert set(inside.mean_frame(found.agreements)["n"]) == {8}
    assert set(inside.mean_frame(found.ece)["n"]) == {8}


# The page


def test_soft_answers_of_the_image_in_the_link(shown: Study, store: Store) -> None:
    at = opened(img="17", lt="2", ls="3")
    bars = pd.concat([f for _, _, frames in charts_of(at) for f in frames if "percent" in f])
    voice = lens_data.lens_voices(shown)[0]
    logits = lens_data.logits(voice, 3, store)
    assert logits is not None
    share = inside.soft_answers(logits[17], 2.0)
    names = answers_read.class_names(store, lens_data.data_of(shown))
    own = bars[bars["panel"] == voice.name]
    assert len(own) >= 5
    for label, start, end in own[["label", "offset", "end"]].to_numpy():
        assert end - start == pytest.approx(share[names.index(label.replace(" (true)", ""))])
    assert sum("(true)" in label for label in own["label"]) == 1
    assert "Seed 3, one run" in said(at)
    assert "needs the data set" in said(at)
    assert link(at, "img") == ["17"] and link(at, "lt") == ["2"]


def test_the_strip_holds_what_the_filter_says(shown: Study, store: Store) -> None:
    at = opened()
    tiles = table(at, "truth")
    assert len(tiles) == 24 and not tiles["right"].any()
    assert (tiles["said"] != tiles["truth"]).all()
    picked = tiles["image"].iloc[3]
    at.selectbox(key="pick-lens-strip").set_value(picked).run()
    assert not at.exception
    assert link(at, "img") == [picked]
    assert any(f"image {picked} " in alt for _, alt, _ in charts_of(at))


def test_agreement_and_shared_errors(shown: Study, store: Store) -> None:
    at = opened(look="agree")
    charts = charts_of(at)
    assert len(charts) == 2
    assert "Agreement on test images" in charts[0][1] and "teacher plain-10" in charts[0][1]
    cells = table(at, "column").set_index(["row", "column"])
    means = lens_data.overlap_means(shown, store).set_index(["first", "second"])
    for pair in means.index:  # with what chance would give in brackets, and kappa where it is pointed at
        share, chance = means["of_first"][pair], means["expected_first"][pair]
        assert cells["text"][pair] == f"{100 * share:.0f} ({100 * chance:.0f})"
        assert f"kappa {means['kappa'][pair]:.2f}" in cells["told"][pair]
    assert "95 % CI" in said(at) and "n = 5" in said(at)


def test_a_class_that_is_called_by_a_number_is_no_count() -> None:
    at = open_page({"d": ["digits"]}, page=PAGE)
    at.query_params["look"] = "classes"
    at.run()
    assert not at.exception and "After correcting for 10 classes, these classes differ: “8” and “0”." in said(at)


@pytest.mark.parametrize("look", ["calib", "classes", "loss"])
def test_sections_draw_and_say_how_many_seeds(look: str) -> None:
    at = opened(look=look)
    charts = charts_of(at)
    assert len(charts) == {"calib": 2, "classes": 2, "loss": 1}[look]
    for spec, alt, _ in charts:
        assert len(alt) > 40 and "nan" not in alt.lower()
        assert "http" not in str({k: v for k, v in spec.items() if k != "$schema"})
    assert "one run" in said(at) if look == "loss" else "n = 5" in said(at)


def test_the_loss_of_an_epoch_adds_up(shown: Study, store: Store) -> None:
    at = opened(look="loss", le="2")
    student = lens_data.student_of(shown)
    assert student is not None
    row = store.read_events(student.keys[0])[0][1]
    assert "in epoch 2" in said(at)
    assert f"stored is {row['loss']:.4f}" in said(at) and "The terms add up to" in said(at)
    assert f"{row['loss_ce']:.4g}" in at.latex[0].value and f"{row['loss_kl'] / 64:.4g}" in at.latex[0].value


def test_digits_open_with_answers_of_three_seeds() -> None:
    at = open_page({"d": ["digits"]}, page=PAGE)
    assert not at.exception and "no stored answers" not in said(at) and "labels of this data set" not in said(at)
    assert charts_of(at)


def test_digits_without_answers_say_so_and_show_what_is_known() -> None:
    for look in ("soft", "agree", "calib", "classes", "loss"):
        at = open_page({"d": ["digits"], "seed": [str(FIRST_FRESH)]}, page=PAGE)
        at.query_params["look"] = look
        at.run()
        assert not at.exception, look
    at = open_page({"d": ["digits"], "seed": [str(FIRST_FRESH)]}, page=PAGE)
    assert "no stored answers" in said(at)


def test_an_empty_store_and_bad_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(img="999999", lt="77", ls="-4", lf="nonsense", lc="5000", e="99", look="loss")
    assert "cannot be" in said(at)
    assert not opened(lf="class", lc="5000").exception
    monkeypatch.setenv("TAKD_CACHED", str(tmp_path / "nothing"))
    st.cache_resource.clear()
    at = open_page({"d": ["cifar10"]}, page=PAGE)
    assert not at.exception
    assert "nothing to show yet" in at.info[0].value


# Landscapes and maps


@pytest.mark.parametrize(("look", "what"), [("land", "line"), ("map", "map")])
def test_what_is_not_computed_yet_can_be_asked_for(look: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(look=look, ls="4")  # nothing travels with this seed
    if look == "land":
        assert "training images" in " ".join(info.value for info in at.info)  # the data set is not here
    else:
        assert at.button(key="looking-map").label.startswith("Compute (~")
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    at = opened(look=look, ls="4")
    assert not [button for button in at.button if str(button.key).startswith("looking")]


def test_the_button_asks_for_the_stages_of_the_seed(
    shown: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []
    monkeypatch.setattr(lens_looks, "start", lambda store, what, keys, person: asked.append((what, tuple(keys))) or "1")
    opened(look="map", ls="4").button(key="looking-map").click().run()
    assert asked == [("map", tuple(voice.keys[4] for voice in lens_data.lens_voices(shown)))]


def test_a_stored_landscape_is_drawn(shown: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_STORE", str(tmp_path / "own"))
    own = Store(tmp_path / "own")
    looking.folder(own).mkdir(parents=True)
    students = [voice for voice in lens_data.lens_voices(shown) if voice.arm]
    places = [round(-1 + 0.05 * k, 2) for k in range(41)]
    for number, voice in enumerate(students):  # a bowl of known steepness
        row = {"places": places, "loss": [1 + (number + 1) * x * x for x in places], "images": 1000}
        looking.write_look(own, voice.keys[4], "line", row)
    at = opened(look="land", ls="4")
    (chart,) = charts_of(at)
    assert "0.25" in chart[1] and "0.50" in chart[1] and "0.75" in chart[1]  # k / 4 above the middle at half a step
    assert "one run" in said(at) and not [b for b in at.button if str(b.key).startswith("looking")]
    path = looking.folder(own) / f"{students[0].keys[4]}-line.json"
    looking.write_look(own, students[0].keys[4], "line", {"places": places, "loss": ["x"] * 41})
    assert path.exists() and "Stored for seeds 0 and 4." in " ".join(
        c.value for c in opened(look="land", ls="1").caption
    )
    at = opened(look="land", ls="4")  # a damaged one counts as not computed
    assert students[0].short not in charts_of(at)[0][1]


def test_settings_do_not_collide() -> None:
    own = [short for short, row in view.VIEWS.items() if row.page == "lens"]
    assert not set(own) & {parameter.short for parameter in PARAMETERS.values()}
    assert json.dumps(own)


@pytest.mark.parametrize("method", ["ipkd-ta", "dml", "dgkd", "scratch"])
def test_other_methods_draw_what_there_is(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results without answers, as in tests/test_other_pages.py."""
    monkeypatch.setenv("TAKD_CACHED", str(tmp_path / "nothing"))
    spec = other_question(method, **({"assistants": ["mlp-16"]} if method == "dgkd" else {}))
    fill(spec, tmp_path / "store")
    at = open_page(spec, page=PAGE)
    for look in ("soft", "agree", "calib", "classes", "loss", "land", "map"):
        at.query_params["look"] = look
        at.run()
        assert not at.exception, (look, at.exception)
    assert all("nan" not in alt.lower() for _, alt, _ in charts_of(at))


@pytest.mark.parametrize(("lead", "word"), [(0.02, "more"), (-0.02, "less")])
def test_agreement_is_said_with_the_sign_it_has(shown: Study, lead: float, word: str) -> None:
    values: lens_data.Numbers = {}
    for name, (_, second) in lens_data.pair_names(shown).items():
        base = 0.7 + (lead if second == lens_data.student_of(shown) else 0.0)
        values[name] = {seed: base + 0.001 * seed for seed in range(5)}
    said = lens_panels._agreement_said(shown, values)
    assert f"answer 2.00 points {word} often than after direct KD" in said


def test_one_seed_is_not_said_to_be_five() -> None:
    texts = [c.value for c in opened(look="soft").caption if "Seed 0, one run" in c.value]
    assert texts and not any("n = 5" in text for text in texts)


def test_similar_classes_are_not_called_most_of_the_rest() -> None:
    assert "of the others, most to" in said(opened(look="soft"))


def test_a_landscape_says_on_how_many_images_it_was_computed() -> None:
    voice = lens_data.Voice("a", "a", "student", "kd", {})
    about = lens_looks._about([(voice, {"images": 700}), (voice, {"images": 700})])
    assert about.startswith("Training loss (cross-entropy, nats) on 700 training images")
    assert "on up to 1,000 training images" in lens_looks._about([])


def test_networks_without_stored_answers_are_named(
    shown: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = next(voice for voice in lens_data.lens_voices(shown) if voice.arm.startswith("scratch "))
    whole = lens_data.logits
    monkeypatch.setattr(lens_data, "logits", lambda v, seed, store: None if v == alone else whole(v, seed, store))
    assert "Without stored answers, and so not here: student, alone." in said(opened(look="soft"))
