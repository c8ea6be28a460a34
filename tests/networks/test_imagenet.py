"""torchvision's ImageNet networks: sizes, stages, and weights that are only ever read from this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torchvision import models

from takd.networks import imagenet
from takd.networks.table import NetworkError, build, capacity, stage_shapes

PUBLISHED = {"imagenet-resnet-18": (11_689_512, 1.814), "imagenet-resnet-34": (21_797_672, 3.664)}
PUBLISHED |= {"imagenet-resnet-50": (25_557_032, 4.089), "imagenet-mobilenet-100": (3_504_872, 0.301)}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of downloaded weights, and no way to download."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("building a network must not download")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_torchvision_documents(name: str) -> None:
    size = capacity(name, 1000)
    assert (size.params, round(size.macs / 1e9, 3)) == PUBLISHED[name]


def test_in_one_line_they_compute_what_torchvision_computes() -> None:
    torch.manual_seed(0)
    ours = build("imagenet-resnet-18", 5).eval()
    torch.manual_seed(0)
    theirs = models.resnet18(num_classes=5).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
    torch.manual_seed(0)
    mobile = build("imagenet-mobilenet-50", 5).eval()
    torch.manual_seed(0)
    theirs = models.mobilenet_v2(num_classes=5, width_mult=0.5).eval()
    with torch.no_grad():
        assert torch.equal(mobile(images), theirs(images))
        _, outputs = mobile.forward_stages(images)
    assert [x.shape[-1] for x in outputs] == [32, 16, 8, 4, 2]
    assert [x.shape[1] for x in outputs] == [shape[0] for shape in stage_shapes("imagenet-mobilenet-50", 5)]


@pytest.mark.parametrize("name", ["pretrained-resnet-18", "pretrained-mobilenet-100"])
def test_missing_weights_are_an_error_that_says_how_to_get_them(name: str, hub: Path) -> None:
    """Never a random network in the place of a pretrained one."""
    with pytest.raises(NetworkError, match=f"python -m takd.networks.imagenet {name}") as caught:
        build(name, 10)
    assert str(hub) in str(caught.value)
    assert "download.pytorch.org" in str(caught.value)


def test_damaged_weights_are_refused(hub: Path) -> None:
    (hub / "mobilenet_v2-b0353104.pth").write_bytes(b"not weights")
    with pytest.raises(NetworkError, match="damaged"):
        build("pretrained-mobilenet-100", 10)


def test_weights_really_load_and_the_last_layer_is_fresh(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    published = models.mobilenet_v2()
    unnamed = hub / "unnamed.pth"
    torch.save(published.state_dict(), unnamed)
    name = f"mobilenet_v2-{hashlib.sha256(unnamed.read_bytes()).hexdigest()[:8]}.pth"
    unnamed.rename(hub / name)

    class Weights:
        url = f"https://download.pytorch.org/models/{name}"

        def get_state_dict(self, **options: object) -> object:
            assert options["weights_only"] is True
            return torch.hub.load_state_dict_from_url(self.url, **options)

    monkeypatch.setattr(imagenet, "_MOBILENET", Weights())
    network = build("pretrained-mobilenet-100", 7)
    assert torch.equal(network[0][0].weight, published.features[0][0].weight)
    assert network[-1].weight.shape == (7, 1280)


def test_the_command_names_what_can_be_downloaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert imagenet.main([]) == 2
    assert imagenet.main(["resnet-18"]) == 2
    assert "pretrained-resnet-34" in capsys.readouterr().err


def test_a_failed_download_is_a_sentence(hub: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    assert imagenet.main(["pretrained-mobilenet-100"]) == 1
    assert "no route to host" in capsys.readouterr().err
