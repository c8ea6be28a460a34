"""Every page as a visitor opens it: empty, trained, cached, broken, with bad links. No browser, no network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from takd.claims.settings import SETTINGS
from takd.data.catalogue import available_datasets
from takd.methods.table import METHODS
from takd.networks import own
from takd.parameters import PARAMETERS
from takd.plan import build_plan
from takd.presentation.runs import library_rows
from takd.presentation.study import study
from takd.presets import PRESETS
from takd.runs import files
from takd.runs.store import Store
from takd.runs.submit import write_plan
from takd.spec import to_json

from .own_files import DIGITS, LARGE, check_here, keep
from .pages_support import SMALL, charts_of, link, open_page, seeds, train_here, with_details

REPO = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def fresh_cache() -> None:
    st.cache_resource.clear()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one small study: 3 seeds of mlp-32 > mlp-16 > mlp-8 and its controls."""
    root = tmp_path_factory.mktemp("trained")
    patch = pytest.MonkeyPatch()
    patch.setenv("TAKD_DATA", str(root / "data"))
    train_here(SMALL, root / "store")
    patch.undo()
    return root / "store"


def test_empty_store_offers_to_train(tmp_path: Path) -> None:
    at = open_page({"d": ["digits"]})
    assert not at.exception
    assert at.title[0].value == "Nothing trained yet"
    assert at.button(key="run").label.startswith("Run for real")
    assert not at.button(key="run").disabled


def test_a_trained_question_shows_its_own_numbers(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_STORE", str(trained))
    at = open_page(SMALL)
    assert not at.exception
    shown = study(SMALL, available_datasets()["digits"], Store(trained))
    assert shown.verdict is not None
    assert shown.verdict.n == 3
    plain_title = at.title[0].value.replace("\N{NON-BREAKING HYPHEN}", "-").replace("\\", "")
    plain_title = plain_title.replace("\N{NO-BREAK SPACE}", " ")
    assert plain_title == shown.headline
    assert "n = 3" in plain_title
    assert at.button(key="run").disabled
    student = shown.arms.set_index("arm").loc[shown.chosen.name]
    table = with_details(at).dataframe[0].value.set_index("arm")
    assert round(100 * student["mean"], 2) in set(table["student, test %"])


def test_every_figure_has_alt_text_and_its_numbers(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_STORE", str(trained))
    charts = charts_of(open_page(SMALL))
    assert len(charts) == 4  # strip, gap, curves, assistants
    for spec, alt, _ in charts:
        assert len(alt) > 40
        assert "nan" not in alt.lower()
        assert "http" not in str({k: v for k, v in spec.items() if k != "$schema"})
    assert any("Student accuracy after direct KD" in alt for _, alt, _ in charts)


def finished_run(root: Path) -> None:
    """The run that asked for what `trained` holds."""
    folder = root / "runs" / "20260101-000000-0001"
    folder.mkdir(parents=True, exist_ok=True)
    write_plan(Store(root), folder, build_plan(SMALL, available_datasets()["digits"]))
    for name, row in (
        ("experiment.json", {"schema": 1, "spec": to_json(SMALL), "created": "2026-01-01T00:00:00", "asked_by": ""}),
        ("status.json", {"schema": 1, "state": "done"}),
    ):
        files.write_atomic(folder / name, json.dumps(row).encode())


def test_an_untrained_question_shows_the_nearest_and_says_what_differs(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAKD_STORE", str(trained))
    finished_run(trained)
    at = open_page(replace(SMALL, temperature=3.0))
    assert not at.exception
    assert "Not trained yet" in at.info[0].value
    assert "Temperature T: you asked for 3, shown is 1" in at.info[0].value.replace("\\", "")
    assert not at.button(key="run").disabled
    runs = open_page(page=str(REPO / "pages" / "runs.py"))
    assert not runs.exception
    assert len(runs.dataframe[0].value) == 1
    assert runs.dataframe[0].value["n"].tolist() == [3]


def test_more_seeds_than_trained_says_so(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_STORE", str(trained))
    at = open_page(seeds(SMALL, 5))
    assert not at.exception
    assert "n = 3" in at.title[0].value.replace("\N{NO-BREAK SPACE}", " ")
    assert at.button(key="run").label.startswith("Run for real")


BAD_LINKS = [
    ({"t": ["plain-1"]}, "plain-1"),
    ({"d": ["imagenet-22k"]}, "imagenet-22k"),
    ({"ta": ["resnet-110"]}, "resnet-110"),
    ({"ta": ["plain-4", "plain-4"]}, "plain-4"),
    ({"t": ["plain-2"], "s": ["plain-10"]}, "plain-2"),
    ({"T": ["0"]}, "'0'"),
    ({"T": ["nan"]}, "nan"),
    ({"T": ["1e999"]}, "1e999"),
    ({"lam": ["1.5"]}, "1.5"),
    ({"n": ["0"]}, "'0'"),
    ({"n": ["10000"]}, "10000"),
    ({"n": ["2.5"]}, "2.5"),
    ({"m": ["magic"]}, "magic"),
    ({"b": ["../../etc/passwd"]}, "etc/passwd"),
    ({"noise": ["0.9"]}, "0.9"),
    ({"seed": ["-1"]}, "-1"),
    ({"d": ["<img src=x onerror=alert(1)>"]}, "img src=x"),
    ({"t": ["![x](http://evil.example/a.png)"]}, "evil.example"),
]


@pytest.mark.parametrize(("query", "named"), BAD_LINKS)
def test_bad_links_are_repaired_with_a_sentence(query: dict[str, list[str]], named: str) -> None:
    at = open_page(query)
    assert not at.exception
    text = at.warning[0].value
    assert named in text.replace("\\", "")
    assert "<" not in text.replace("\\<", "")
    assert "](" not in text  # no link or picture survives
    assert any(link(at, name) != values for name, values in query.items())  # the URL no longer says the bad thing
    assert not open_page({name: link(at, name) for name in at.query_params}).warning  # and its repair is good


def test_foreign_folders_are_listed_and_harm_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "messy"
    (root / "stages" / "zz" / "hello").mkdir(parents=True)
    (root / "stages" / "ab" / ("ab" + "0" * 30)).mkdir(parents=True)
    (root / "stages" / "ab" / ("ab" + "0" * 30) / "stage.json").write_text("{")
    (root / "runs" / "20260101-000000-beef").mkdir(parents=True)
    (root / "runs" / "20260101-000000-beef" / "experiment.json").write_text("[1, 2")
    monkeypatch.setenv("TAKD_STORE", str(root))
    assert not open_page().exception
    runs = open_page(page=str(REPO / "pages" / "runs.py"))
    assert not runs.exception
    assert "could not be read" in runs.expander[0].label


def test_widgets_change_the_question_and_the_link() -> None:
    at = open_page({"d": ["digits"]})
    at.selectbox(key="w-student").select("mlp-16").run()
    assert not at.exception
    assert link(at, "s") == ["mlp-16"]
    assert link(at, "ta") == ["mlp-32"]  # the old assistant no longer fits; the smallest that does steps in
    at.selectbox(key="w-dataset").select("cifar10").run()
    assert not at.exception
    assert link(at, "d") == []  # back at the start of CIFAR-10
    at.selectbox(key="w-preset").select("digits-two-assistants").run()
    assert link(at, "ta") == ["mlp-64", "mlp-16"]
    at.button(key="try-Remove the assistants").click().run()
    assert link(at, "m") == ["kd"]
    assert not at.exception


def test_number_fields_show_what_a_link_brought_and_the_seed_ends_where_the_table_says() -> None:
    at = open_page({"d": ["digits"], "T": ["0.05"]})
    assert not at.exception
    assert at.number_input(key="w-temperature").value == 0.05
    field, row = at.number_input(key="w-seed"), PARAMETERS["seed"]
    assert (field.min, field.max) == (row.low, row.high)


def test_a_smaller_teacher_takes_the_student_along() -> None:
    at = open_page({"d": ["digits"]})
    at.selectbox(key="w-teacher").select("mlp-8").run()
    assert not at.exception
    assert not at.warning
    assert (link(at, "t"), link(at, "s"), link(at, "m")) == (["mlp-8"], ["mlp-4"], ["kd"])


def checked_on_page(path: Path) -> AppTest:
    at = open_page({"d": ["digits"]})
    at.text_input(key="own-path").set_value(str(path)).run()
    at.button(key="own-check").click().run()
    assert not at.exception
    return at


def test_a_network_of_the_visitor_is_checked_and_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "_try", check_here)
    file = tmp_path / "my*net.py"
    file.write_text(LARGE)
    at = checked_on_page(file)
    (found,) = own.own_networks(10, DIGITS)
    assert found.name in at.success[0].value
    assert "my\\*net.py can be used" in at.success[0].value
    shown = next(o for o in at.selectbox(key="w-teacher").options if found.name in o)
    assert "my*net.py" in shown
    at.selectbox(key="w-teacher").select(found.name).run()
    assert (link(at, "t"), link(at, "ta")) == ([found.name], [])  # the start's assistant still fits
    at.selectbox(key="w-student").select("mlp-128").run()
    assert not at.exception
    other = open_page({"d": ["digits"], "t": [found.name], "s": ["mlp-16"], "m": ["kd"]})
    assert not other.exception and not other.warning
    (own.own_root() / f"{found.sha256}.py").unlink()
    gone = open_page({"d": ["digits"], "t": [found.name], "s": ["mlp-16"], "m": ["kd"]})
    assert not gone.exception
    assert "not an own network of this machine" in gone.warning[0].value


def test_a_file_that_cannot_be_used_gets_its_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "_try", check_here)
    (tmp_path / "bad.py").write_text("def build(classes):\n    raise ValueError('<b>![x](http://e.example)')")
    at = checked_on_page(tmp_path / "bad.py")
    assert "ValueError" in at.error[0].value
    assert "](" not in at.error[0].value.replace("\\](", "")
    assert "cannot be read" in checked_on_page(tmp_path / "none.py").error[0].value
    at = open_page({"d": ["digits"]})
    at.button(key="own-check").click().run()
    assert "path" in at.error[0].value


@pytest.mark.parametrize("name", ["TAKD_READ_ONLY", "TAKD_PUBLIC"])
def test_a_public_server_takes_no_files(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    at = open_page({"d": ["digits"]})
    assert not at.exception
    assert not [t for t in at.text_input if t.key == "own-path"]
    assert not [b for b in at.button if b.key == "own-check"]


def test_a_finished_run_whose_network_is_gone_is_not_shown_as_another(tmp_path: Path) -> None:
    found = keep("mine.py", 1_000_000)
    spec = replace(SMALL, teacher=found.name, assistants=(), method="kd")
    store = Store(tmp_path / "store")
    folder = store.root / "runs" / "20260101-000000-0001"
    folder.mkdir(parents=True)
    write_plan(store, folder, build_plan(spec, available_datasets()["digits"]))
    row = {"schema": 1, "spec": to_json(spec), "created": "2026-01-01T00:00:00", "asked_by": ""}
    (folder / "experiment.json").write_text(json.dumps(row))
    (folder / "status.json").write_text(json.dumps({"schema": 1, "state": "done"}))
    assert len(open_page(page=str(REPO / "pages" / "runs.py")).dataframe) == 1
    (own.own_root() / f"{found.sha256}.py").unlink()
    runs = open_page(page=str(REPO / "pages" / "runs.py"))
    assert not runs.exception
    assert not runs.dataframe
    assert any(found.name in caption.value for caption in runs.caption)
    assert not open_page({"d": ["digits"]}).exception


def test_cached_runs_open_with_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_CACHED", str(REPO / "cached_runs"))
    at = open_page()
    assert not at.exception
    assert "Nothing trained" not in at.title[0].value
    assert "CI" in at.title[0].value
    assert any("cached" in caption.value for caption in at.caption)
    assert not at.info  # the first page answers its own question, not a neighbour's


def test_a_ready_question_says_what_to_look_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_CACHED", str(REPO / "cached_runs"))
    ready = PRESETS["digits-clean"]
    for spec, says in ((ready.spec, True), (replace(ready.spec, assistants=("mlp-32",)), False)):
        at = open_page(spec)
        assert not at.exception and says == any(ready.look_for in caption.value for caption in at.caption)


def test_curves_say_why_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of most digits networks the library holds results without the rows of their epochs."""
    monkeypatch.setenv("TAKD_CACHED", str(REPO / "cached_runs"))
    st.cache_resource.clear()
    at = open_page(replace(SETTINGS["digits-noise-tuned"].spec, method="ensemble", assistants=(), seeds=3))
    assert not at.exception
    curves = next(alt for _, alt, _ in charts_of(at) if alt.startswith("Learning curves"))
    assert curves.endswith("the epochs of these trainings are not stored, only their results.")


def test_attention_transfer_starts_with_a_weight_for_small_maps() -> None:
    at = open_page({"d": ["digits"], "t": ["cnn8-8"], "s": ["cnn8-2"], "m": ["kd"], "ta": [""]})
    at.selectbox(key="w-method").set_value("at").run()
    assert not at.exception and (link(at, "m"), link(at, "o")) == (["at"], ["beta:10"])


def test_a_method_that_does_not_fit_the_networks_says_so() -> None:
    at = open_page({"d": ["digits"]})
    at.selectbox(key="w-method").set_value("at").run()
    assert not at.exception and link(at, "m") == ["kd"]
    assert any("Attention" in warning.value for warning in (*at.warning, *at.info))


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if not row.assistants[0] and name != "at"])
def test_every_method_without_assistants_can_be_chosen(name: str) -> None:
    at = open_page({"d": ["digits"]})
    at.selectbox(key="w-method").set_value(name).run()
    assert not at.exception
    assert link(at, "m") == ([name] if name != "takd" else [])
    assert any(METHODS[name].formula in block.value for block in at.code)
    for option in METHODS[name].options:
        shown = [w for w in (*at.selectbox, *at.number_input, *at.toggle) if w.key == f"w-o-{name}-{option.name}"]
        assert len(shown) == (option.when is None), option.name


def test_options_of_a_method_change_the_question_and_go_with_it() -> None:
    at = open_page({"d": ["digits"], "m": ["dgkd"], "ta": ["mlp-64", "mlp-16"]})
    assert not [w for w in at.number_input if w.key == "w-o-dgkd-p"]  # without chance it means nothing
    at.selectbox(key="w-o-dgkd-gate").set_value("bernoulli").run()
    at.number_input(key="w-o-dgkd-p").set_value(0.5).run()
    assert not at.exception
    assert link(at, "o") == ["gate:bernoulli", "p:0.5"]
    at.selectbox(key="w-method").set_value("takd").run()
    assert link(at, "o") == []
    assert not at.warning
    text = " ".join(caption.value for caption in open_page({"d": ["digits"], "m": ["dkd"]}).caption)
    assert "higher learning rate" in text  # its weights add up to ten


def test_a_result_of_another_method_is_drawn_and_told(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_STORE", str(trained))
    spec = replace(SMALL, method="dgkd", assistants=("mlp-16",), options=(("gate", "weaken"),))
    train_here(spec, trained)
    at = open_page(spec)
    assert not at.exception
    assert "DGKD (gate weaken)" in at.title[0].value.replace("\\", "")
    text = " ".join(caption.value for caption in at.caption)
    assert "Not trained yet" not in text


def test_what_is_said_of_direct_kd_does_not_change_with_the_method_chosen(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Students of another loss run along the same path."""
    monkeypatch.setenv("TAKD_STORE", str(trained))
    direct = replace(SMALL, method="kd", assistants=())
    other = replace(direct, options=(("reduction", "mean"),))
    train_here(other, trained)
    digits, store = available_datasets()["digits"], Store(trained)
    facts = [study(spec, digits, store).facts for spec in (direct, other)]
    assert facts[0].agreement is not None
    assert facts[0].agreement == facts[1].agreement
    assert facts[0].direct == facts[1].direct != facts[1].chain


def test_runs_that_were_not_met_are_looked_up_bit_by_bit(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKD_STORE", str(trained))
    finished_run(trained)
    monkeypatch.setattr(library_rows, "BUDGET", -1.0)
    library_rows._rows().clear()
    page = open_page(page=str(REPO / "pages" / "runs.py"))
    table = page.dataframe[0].value
    assert "looked up for the first time" in " ".join(c.value for c in page.caption)
    assert set(table["question"]) == {library_rows.WORKING} and table["gain"].isna().all()
    monkeypatch.setattr(library_rows, "BUDGET", 60.0)
    page.run()
    assert "looked up for the first time" not in " ".join(c.value for c in page.caption)
    assert library_rows.WORKING not in set(page.dataframe[0].value["question"])
