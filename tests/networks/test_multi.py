"""Networks of several sub-models: published sizes, shared weights, one interface."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from takd.networks.counting import count
from takd.networks.multi import MultiNetwork
from takd.networks.plain import plain_cnn
from takd.networks.slimmable import SlimBatchNorm2d, widths_of
from takd.networks.table import FAMILIES, NETWORKS, WIDTHS, build, capacity, sub_models

# Widths 0.25 to 1 of slimmable MobileNet-V1: parameters with 100 and 10 classes; million MACs by the last map's side.
MOBILENET = [(238_772, 215_642), (869_892, 823_722), (1_893_460, 1_824_250), (3_309_476, 3_217_226)]
MOBILENET_MACS = {1: [0.86, 3.09, 6.70, 11.69], 2: [3.35, 12.21, 26.58, 46.45], 4: [12.06, 45.36, 99.89, 175.65]}
# MSDNet with 100 classes by its exits: parameters; million MACs to each exit alone, and with all earlier exits.
MSDNET = {
    7: (3_067_960, [15.0, 21.7, 28.8, 34.8, 41.7, 46.3, 51.9], [15.0, 25.3, 36.8, 46.0, 56.9, 66.5, 75.5]),
    5: (2_078_924, [6.8, 12.0, 21.9, 33.5, 45.9], [6.8, 14.2, 27.3, 41.4, 58.1]),
    4: (913_712, [4.1, 4.8, 5.9, 6.1], [4.1, 6.6, 9.0, 10.9]),
}
MSDNET_7_PARAMS = [434, 532, 529, 628, 733, 725, 854]  # thousands, each exit alone

SMALL = ["slim-mlp-64", "slim-plain-4", "slim-plain-6", "slim-mobilenet-2", "msdnet-4"]


def made(name: str, classes: int = 10) -> tuple[MultiNetwork, torch.Tensor]:
    torch.manual_seed(0)
    network = build(name, classes)
    assert isinstance(network, MultiNetwork)
    return network, torch.randn(3, *FAMILIES[NETWORKS[name].family].input_shape)


@pytest.mark.parametrize("size", MOBILENET_MACS)
def test_slimmable_mobilenet_has_the_published_sizes(size: int) -> None:
    name = f"slim-mobilenet-{size}"
    many, few = sub_models(name, 100), sub_models(name, 10)
    assert [(a.params, b.params) for a, b in zip(many, few, strict=True)] == MOBILENET
    assert [round(sub.macs / 1e6, 2) for sub in many] == MOBILENET_MACS[size]
    assert capacity(name, 100).params == 3_342_308  # all widths together: private batch norms are the only extra
    assert capacity(name, 100).macs == many[-1].macs


def test_mobilenet_at_224_pixels_agrees_with_the_read_me_of_the_paper() -> None:
    network, _ = made("slim-mobilenet-1", 1000)
    subs = [count(network.sub(k), (3, 224, 224)).macs for k in range(4)]
    assert [round(macs / 1e6, 1) for macs in subs] == [41.0, 149.5, 325.4, 568.7]  # printed as 41, 150, 325 and 569


def test_widths_are_multiples_of_8_and_never_lose_more_than_a_tenth() -> None:
    assert widths_of(32, 8) == (8, 16, 24, 32)
    assert widths_of(44, 8) == (16, 24, 32, 48)  # 11 would become 8, which is below nine tenths of it
    for channels in range(8, 300):
        for width, found in zip(WIDTHS, widths_of(channels, 8), strict=True):
            assert found % 8 == 0
            assert found >= 0.9 * channels * width
            assert found <= max(8, channels * width + 8)


@pytest.mark.parametrize("exits", MSDNET)
def test_msdnet_has_the_published_sizes(exits: int) -> None:
    params, alone, together = MSDNET[exits]
    subs = sub_models(f"msdnet-{exits}", 100)
    assert capacity(f"msdnet-{exits}", 100).params == params
    assert [round(sub.macs / 1e6, 1) for sub in subs] == pytest.approx(alone, abs=0.051)
    assert [round(sub.macs_with_smaller / 1e6, 1) for sub in subs] == pytest.approx(together, abs=0.051)


def test_msdnet_parameters_of_each_exit_alone() -> None:
    assert [round(sub.params / 1000) for sub in sub_models("msdnet-7", 100)] == MSDNET_7_PARAMS


@pytest.mark.parametrize("size", [4, 6])
@pytest.mark.parametrize("classes", [10, 100])
def test_the_full_width_of_a_slimmable_plain_cnn_is_the_plain_cnn(size: int, classes: int) -> None:
    full = sub_models(f"slim-plain-{size}", classes)[-1]
    plain = capacity(f"plain-{size}", classes)
    assert (full.params, full.macs) == (plain.params, plain.macs)


def test_full_width_computes_what_the_plain_cnn_computes() -> None:
    network, images = made("slim-plain-6")
    plain = plain_cnn(6, 10)
    ours = [p for name, p in network.named_parameters() if not _narrow(name)]
    with torch.no_grad():
        for target, source in zip(plain.parameters(), ours, strict=True):
            target.copy_(source)
        assert torch.allclose(network(images), plain(images), atol=1e-5)


def _narrow(name: str) -> bool:
    """Batch norms of the widths below 1: layers.<position>.<width>.<weight or bias>."""
    parts = name.split(".")
    return len(parts) == 4 and parts[2] != "3"


@pytest.mark.parametrize("name", SMALL)
def test_sub_models_rise_in_macs_and_are_named(name: str) -> None:
    subs = sub_models(name, 10)
    assert [sub.macs for sub in subs] == sorted({sub.macs for sub in subs})
    assert all(sub.macs_with_smaller >= sub.macs for sub in subs)
    assert [sub.label for sub in subs] == list(NETWORKS[name].subs)
    assert len({sub.name for sub in subs}) == len(subs)


@pytest.mark.parametrize("name", SMALL)
def test_counts_of_every_sub_model_are_those_of_the_built_one(name: str) -> None:
    network, _ = made(name, 57)
    shape = FAMILIES[NETWORKS[name].family].input_shape
    for k, sub in enumerate(sub_models(name, 57)):
        assert count(network.sub(k), shape).macs == sub.macs
        assert network.parameters_of(k) == sub.params
        network.zero_grad()
        network.eval().answer(torch.randn(2, *shape), k).sum().backward()
        touched = sum(int((p.grad != 0).sum()) for p in network.parameters() if p.grad is not None)
        reached = sum(p.numel() for p in network.parameters() if p.grad is not None)
        assert touched <= sub.params
        if name != "msdnet-4":  # whose exits are counted with whole blocks, finer maps for later exits included
            assert sub.params <= reached


@pytest.mark.parametrize("name", SMALL)
def test_all_answers_in_one_call_equal_one_by_one(name: str) -> None:
    network, images = made(name)
    network.eval()
    with torch.no_grad():
        together = network.forward_all(images)
        assert len(together) == network.count == len(NETWORKS[name].subs)
        assert all(logits.shape == (3, 10) for logits in together)
        for k, logits in enumerate(together):
            assert torch.allclose(logits, network.answer(images, k), atol=1e-6)
            assert torch.equal(network.sub(k)(images), network.answer(images, k))
        assert torch.allclose(network(images), together[-1], atol=1e-6)
        assert len(network.forward_all(images, 2)) == 2
    with pytest.raises(IndexError):
        network.sub(network.count)


@pytest.mark.parametrize("name", SMALL)
def test_one_backward_of_the_sum_equals_a_backward_per_sub_model(name: str) -> None:
    network, images = made(name)
    network.double().eval()
    labels, images = torch.tensor([0, 1, 2]), images.double()
    sum(F.cross_entropy(logits, labels) for logits in network.forward_all(images)).backward()
    once = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    for k in reversed(range(network.count)):
        F.cross_entropy(network.answer(images, k), labels).backward()
    assert all(torch.allclose(a, p.grad, atol=1e-12) for a, p in zip(once, network.parameters(), strict=True))


def test_a_detached_target_leaves_the_teacher_alone() -> None:
    """In-place distillation without detach pulls the shared teacher towards its pupil."""
    network, images = made("slim-plain-4")
    small, large = network.answer(images, 0), network.answer(images, 3)
    last_bn = [m for m in network.modules() if isinstance(m, SlimBatchNorm2d)][-1]
    F.kl_div(F.log_softmax(small, 1), F.softmax(large.detach(), 1), reduction="batchmean").backward(retain_graph=True)
    assert last_bn[3].weight.grad is None
    F.kl_div(F.log_softmax(small, 1), F.softmax(large, 1), reduction="batchmean").backward()
    assert last_bn[3].weight.grad is not None


def test_batch_norms_are_private_and_weights_are_shared() -> None:
    network, images = made("slim-plain-4")
    network.train()
    norms = [m for m in network.modules() if isinstance(m, SlimBatchNorm2d)]
    assert all(len(norm) == len(WIDTHS) for norm in norms)
    network.answer(images, 1)
    moved = [[bool(bn.running_mean.abs().sum() > 0) for bn in norm] for norm in norms]
    assert moved == [[False, True, False, False]] * len(norms)
    before = network.eval().answer(images, 3)
    with torch.no_grad():
        network.layers[0].weight[0].add_(1.0)  # a filter of the narrowest width is one of the widest's
    assert not torch.allclose(before, network.answer(images, 3))


def test_a_narrow_width_does_not_read_the_channels_it_has_not() -> None:
    network, images = made("slim-mobilenet-2")
    network.eval()
    before = network.answer(images, 0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and hasattr(module, "outputs"):
                module.weight[module.outputs[0] :] = float("nan")
                if not getattr(module, "depthwise", False):
                    module.weight[:, module.inputs[0] :] = float("nan")
    assert torch.equal(before, network.answer(images, 0))


def test_an_early_exit_needs_nothing_behind_it() -> None:
    network, images = made("msdnet-4")
    network.eval()
    before = network.answer(images, 1)
    with torch.no_grad():
        for part in (*network.blocks[2:], network.exits[0], *network.exits[2:]):
            for parameter in part.parameters():
                parameter.fill_(float("nan"))
    assert torch.equal(before, network.answer(images, 1))
    assert not torch.isfinite(network(images)).all()


@pytest.mark.parametrize("name", SMALL)
def test_a_batch_of_one_trains(name: str) -> None:
    network, images = made(name)
    network.train()
    sum(F.cross_entropy(z, torch.tensor([1])) for z in network.forward_all(images[:1])).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_weights_go_through_bytes(name: str) -> None:
    from safetensors.torch import load, save

    network, images = made(name)
    torch.manual_seed(1)
    other = build(name, 10)
    other.load_state_dict(load(save(network.state_dict())), strict=True)
    pairs = zip(network.eval().forward_all(images), other.eval().forward_all(images), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_sizes_that_are_not_there_are_refused() -> None:
    from takd.networks.msdnet import msdnet
    from takd.networks.slimmable import mobilenet

    with pytest.raises(ValueError, match="4, 5, 7"):
        msdnet(6, 10)
    with pytest.raises(ValueError, match="1, 2, 4"):
        mobilenet(3, 10)
