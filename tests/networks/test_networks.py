"""Networks against the published layer lists: parameters and MACs of every size, and what the table promises."""

import pytest
import torch

from takd.networks.counting import count, count_table
from takd.networks.plain import plain_cnn
from takd.networks.resnet import resnet_cifar
from takd.networks.table import COUNTS_FILE, FAMILIES, NETWORKS, build, capacity, ladder

# Parameters of the released TAKD models and MACs computed from their layer lists (convolutions and linear layers).
PLAIN = {
    10: {2: (13_082, 1.04), 4: (37_338, 6.36), 6: (82_778, 9.89), 8: (327_962, 13.45), 10: (2_487_850, 71.80)},
    100: {
        2: (215_172, 3.45),
        4: (475_652, 24.89),
        6: (1_107_204, 39.45),
        8: (1_246_276, 52.86),
        10: (2_931_460, 72.24),
    },
}
RESNET = {
    8: (78_042, 83_892, 12.5),
    14: (175_258, 181_108, 26.7),
    20: (272_474, 278_324, 40.8),
    26: (369_690, 375_540, 55.0),
    32: (466_906, 472_756, 69.1),
    44: (661_338, 667_188, 97.4),
    56: (855_770, 861_620, 125.7),
    110: (1_730_714, 1_736_564, 253.1),
}


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("size", [2, 4, 6, 8, 10])
def test_plain_sizes_match_the_published_lists(size: int, classes: int) -> None:
    params, macs = PLAIN[classes][size]
    built = count(plain_cnn(size, classes), (3, 32, 32))
    assert built.params == params
    assert round(built.macs / 1e6, 2) == macs
    assert capacity(f"plain-{size}", classes) == built


@pytest.mark.parametrize("size", RESNET)
def test_resnet_sizes_match_the_published_lists(size: int) -> None:
    params10, params100, macs = RESNET[size]
    assert capacity(f"resnet-{size}", 10).params == params10
    assert capacity(f"resnet-{size}", 100).params == params100
    assert round(capacity(f"resnet-{size}", 10).macs / 1e6, 1) == macs


def test_resnet_56_macs_by_hand() -> None:
    stem, last = 3 * 16 * 9 * 1024, 64 * 10
    full = 16 * 16 * 9 * 1024  # one 3x3 convolution costs the same in every stage: half the side, twice the width
    stages = 18 * full + 2 * (full // 2 + 17 * full)
    projections = 16 * 32 * 256 + 32 * 64 * 64
    assert capacity("resnet-56", 10).macs == stem + stages + projections + last


def test_mlp_parameters_by_hand() -> None:
    # 64*16 + 16 weights and biases in, 16*10 + 10 out
    assert capacity("mlp-16", 10).params == 64 * 16 + 16 + 16 * 10 + 10
    assert capacity("mlp-16", 10).macs == 64 * 16 + 16 * 10


def test_counts_file_equals_the_built_networks() -> None:
    import json

    assert json.loads(COUNTS_FILE.read_text()) == count_table()


@pytest.mark.parametrize("classes", [3, 10, 57, 100])
def test_counts_are_exact_for_any_number_of_classes(classes: int) -> None:
    for name in ("plain-6", "resnet-14", "mlp-8"):
        shape = FAMILIES[NETWORKS[name].family].input_shape
        assert capacity(name, classes) == count(build(name, classes), shape)


@pytest.mark.parametrize("name", ["mlp-4", "plain-2", "plain-6", "resnet-8"])
@pytest.mark.parametrize("classes", [10, 100])
def test_networks_have_the_right_number_of_outputs(name: str, classes: int) -> None:
    shape = FAMILIES[NETWORKS[name].family].input_shape
    network = build(name, classes).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, classes)


def test_ladders_rise_in_macs() -> None:
    for family in FAMILIES:
        macs = [capacity(name, 10).macs for name in ladder(family)]
        assert macs == sorted(macs)
        assert len(set(macs)) == len(macs)


def test_plain_convolutions_have_bias_and_cifar100_size_6_has_no_third_pool() -> None:
    layers = list(plain_cnn(6, 100))
    assert sum(isinstance(layer, torch.nn.MaxPool2d) for layer in layers) == 2
    assert all(layer.bias is not None for layer in layers if isinstance(layer, torch.nn.Conv2d))


def test_resnet_depth_must_be_6k_plus_2() -> None:
    with pytest.raises(ValueError, match="6k"):
        resnet_cifar(10, 10)
