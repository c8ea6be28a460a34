"""A folder imported at more than 32 pixels: which networks it offers, what it opens with, what has to be there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from takd.data.catalogue import available_datasets, damaged, families_of_side
from takd.data.meta import data_root
from takd.data.table import DATASETS, IMAGENET, RGB_32
from takd.networks import weights
from takd.networks.table import FAMILIES
from takd.plan import build_plan
from takd.runs.errors import RunError
from takd.runs.memory import image_shape, peak_mb
from takd.runs.store import Store
from takd.runs.submit import submit
from takd.spec import SpecError, from_query, networks_for, read_spec, require_spec, start_for, to_json, to_query
from tests.own_files import keep
from tests.test_cli import call, last_json


@pytest.fixture
def pets(tmp_path: Path) -> str:
    """Pictures of two classes, imported at 64 pixels."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        for number in range(60):
            pixels = random.integers(0, 256, (70, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "tree" / name / f"{number}.png")
    done = call("data", "import", str(tmp_path / "tree"), "pets", "--side", "64", "--json")
    assert done.exit_code == 0
    return "folder-pets"


def test_every_data_set_has_the_shape_its_networks_read() -> None:
    for row in DATASETS.values():
        assert all(FAMILIES[name].reads(row.input_shape) for name in row.families), row.name
    assert families_of_side(32) == RGB_32
    assert families_of_side(64) == families_of_side(256) == IMAGENET
    assert families_of_side(48) == families_of_side(257) == ()


def test_larger_images_offer_imagenets_networks(pets: str) -> None:
    row = available_datasets()[pets]
    assert (row.families, row.input_shape) == (IMAGENET, (3, 64, 64))
    assert {n.family for n in networks_for(row)} == set(IMAGENET)
    start = start_for(pets)
    datasets = available_datasets()
    assert require_spec(to_json(start), datasets) == start
    assert to_query(start) == {"d": [pets]}
    assert from_query({"d": [pets]}, datasets) == (start, ())
    asked = {"dataset": pets, "teacher": "pretrained-resnet-18", "student": "imagenet-mobilenet-50", "method": "kd"}
    spec = require_spec(asked, datasets)
    assert from_query(to_query(spec), datasets) == (spec, ())
    with pytest.raises(SpecError, match="plain-10 does not read"):
        require_spec({**asked, "teacher": "plain-10"}, datasets)
    with pytest.raises(SpecError, match="imagenet-resnet-18 does not read CIFAR-10"):
        require_spec({"teacher": "imagenet-resnet-18"})
    mine = keep("mine.py", 1_000_000_000, classes=2, shape=(3, 64, 64)).name  # more per pixel than any of them
    assert require_spec({**asked, "teacher": mine, "student": "imagenet-resnet-50"}, datasets).teacher == mine


def test_its_memory_is_that_of_its_images(pets: str) -> None:
    row = available_datasets()[pets]
    stages = build_plan(start_for(pets), row).stages.values()
    assert {image_shape(stage) for stage in stages} == {(3, 64, 64)}
    assert 500 < peak_mb(stages, "cpu") < 3_000


def test_sides_nothing_reads_are_refused(tmp_path: Path) -> None:
    result = call("data", "import", str(tmp_path), "pets", "--side", "48", "--json")
    assert result.exit_code == 2
    assert "64 to 256" in last_json(result)["error"]


@pytest.mark.parametrize("side", [0, "64", True, 10**9, None])
def test_a_damaged_side_is_named(pets: str, side: object) -> None:
    file = data_root() / pets / "meta.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "side": side}))
    assert pets not in available_datasets()
    assert "side" in dict(damaged())[pets]


def test_a_run_without_its_pretrained_weights_is_refused_before_it_starts(
    pets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    datasets = available_datasets()
    asked = {"dataset": pets, "teacher": "pretrained-resnet-18", "student": "imagenet-mobilenet-50", "method": "kd"}
    store = Store(tmp_path / "store")
    with pytest.raises(RunError, match=r"python -m takd\.networks\.imagenet pretrained-resnet-18"):
        submit(store, require_spec(asked, datasets))
    assert not (store.root / "runs").exists()
    file = weights.weights_path("pretrained-resnet-18")
    assert file.is_relative_to(tmp_path)
    file.parent.mkdir(parents=True)
    file.touch()
    assert weights.missing_weights("pretrained-resnet-18") == weights.missing_weights("plain-2") == ""


def test_the_names_of_the_weights_are_torchvisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from takd.networks.imagenet import _PUBLISHED, weights_file

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert weights.WEIGHTS.keys() == _PUBLISHED.keys()
    for name, published in _PUBLISHED.items():
        assert weights_file(published) == weights.weights_path(name)


def test_a_folder_of_32_pixels_stays_as_it_was(pets: str) -> None:
    row = replace(available_datasets()[pets], name="folder-none", families=RGB_32, input_shape=(3, 32, 32))
    spec, problems = read_spec({"dataset": "folder-none"}, {"folder-none": row})
    assert (spec.teacher, problems) == ("plain-10", ())
