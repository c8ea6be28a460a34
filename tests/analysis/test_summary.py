"""What lists of runs say of a finished run: the same as its own page, kept beside it while the rule stays the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from takd.analysis import summary
from takd.analysis.summary import FILE, Summary, keep, kept, look_up, rule
from takd.data.catalogue import available_datasets
from takd.presentation.study import study
from takd.runs.states import list_runs, write_run_file
from takd.runs.store import REPO, Store
from takd.spec import read_spec

RUN = "20260101-000000-0000"
FOUND = Summary("helps", 0.0125, 0.004, 5)


def a_store(root: Path) -> Store:
    (root / "runs" / RUN).mkdir(parents=True)
    write_run_file(root / "runs" / RUN, "experiment.json", {"spec": {}})
    return Store(root)


def test_it_is_the_verdict_of_the_runs_own_page(tmp_path: Path) -> None:
    store, datasets = Store(tmp_path, [REPO / "cached_runs"]), available_datasets()
    cached = [run for run in list_runs(store) if run.origin == "cached"]
    assert cached
    for run in cached:
        spec = read_spec(run.spec, datasets)[0]
        found = look_up(run.id, run.keys, spec, datasets[spec.dataset], store)
        shown = study(spec, datasets[spec.dataset], store).verdict
        assert shown is not None
        assert found == Summary(shown.kind, shown.interval.mean, shown.interval.half, shown.n)


def test_it_is_kept_while_the_rule_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = a_store(tmp_path)
    assert kept(store, RUN) is None
    keep(store, RUN, FOUND)
    assert kept(Store(tmp_path), RUN) == FOUND
    monkeypatch.setattr(summary, "rule", lambda: "0" * len(rule()))
    assert kept(Store(tmp_path), RUN) is None


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{}", b'{"kind": 1}', b'{"kind": "helps", "mean": 1e999, "half": 0.1, "n": 3, "rule": "RULE"}',
     b'{"kind": "helps", "mean": 0.1, "half": 0.1, "n": true, "rule": "RULE"}'],
)  # fmt: skip
def test_a_damaged_one_is_worked_out_again(tmp_path: Path, raw: bytes) -> None:
    store = a_store(tmp_path)
    (tmp_path / "runs" / RUN / FILE).write_bytes(raw.replace(b"RULE", rule().encode()))
    assert kept(store, RUN) is None


def test_a_server_that_only_shows_keeps_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = a_store(tmp_path)
    monkeypatch.setenv("TAKD_READ_ONLY", "1")
    keep(store, RUN, FOUND)
    assert not (tmp_path / "runs" / RUN / FILE).exists()


def test_what_other_images_say_is_not_kept(tmp_path: Path) -> None:
    cached, datasets = Store(tmp_path / "none", [REPO / "cached_runs"]), available_datasets()
    run = next(run for run in list_runs(cached) if run.spec["dataset"] == "digits")
    spec = read_spec(run.spec, datasets)[0]
    store = a_store(tmp_path / "store")
    found = look_up(RUN, run.keys, spec, replace(datasets["digits"], fingerprint="0" * 64), store)
    assert found.n == 0 and kept(store, RUN) is None
    look_up(RUN, run.keys, spec, datasets["digits"], store)
    assert kept(store, RUN) is not None
