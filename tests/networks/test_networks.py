"""Networks against the published layer lists: parameters and MACs of every size, and what the table promises."""

from __future__ import annotations

import json

import pytest
import torch

from takd.budgets import BUDGETS, budget_for
from takd.networks.counting import count, count_table
from takd.networks.plain import LAYERS, plain_cnn
from takd.networks.resnet import resnet_cifar, resnet_four
from takd.networks.staged import Staged
from takd.networks.table import (
    COUNTS_FILE,
    FAMILIES,
    NETWORKS,
    build,
    capacity,
    is_tiny,
    ladder,
    stage_shapes,
    sub_models,
)
from takd.networks.vgg import BLOCKS, vgg
from takd.networks.wide_resnet import wide_resnet

# Parameters of the released TAKD models and MACs computed from their layer lists (convolutions and linear layers).
PLAIN = {
    10: {2: (13_082, 1.04), 4: (37_338, 6.36), 6: (82_778, 9.89), 8: (327_962, 13.45), 10: (2_487_850, 71.80)},
    100: {
        2: (215_172, 3.45),
        3: (438_596, 15.45),
        4: (475_652, 24.89),
        5: (959_364, 30.02),
        6: (1_107_204, 39.45),
        7: (655_684, 43.42),
        8: (1_246_276, 52.86),
        9: (2_340_868, 62.80),
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
# With 100 classes: parameters, million MACs.
OTHERS = {
    "wrn-16-1": (180_916, 26.7),
    "wrn-16-2": (703_284, 101.1),
    "wrn-28-2": (1_479_220, 214.4),
    "wrn-40-1": (569_780, 83.3),
    "wrn-40-2": (2_255_156, 327.6),
    "wrn-28-4": (5_872_180, 845.6),
    "wrn-28-10": (36_536_884, 5243.4),
    "vgg-8": (3_965_028, 96.2),
    "vgg-11": (9_277_284, 209.4),
    "vgg-13": (9_462_180, 284.9),
    "resnet4-18": (11_220_132, 555.5),
    "resnet4-34": (21_328_292, 1159.4),
}


@pytest.mark.parametrize(("classes", "size"), [(classes, size) for classes in PLAIN for size in PLAIN[classes]])
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


def test_small_cnn_by_hand() -> None:
    """3x3 convolutions at 8x8 and 4x4 with bias and batch norm, then 2x2 places of the last map go to the classes."""
    first, second, last = 9 * 4 + 4 + 2 * 4, 9 * 4 * 8 + 8 + 2 * 8, 8 * 2 * 2 * 10 + 10
    assert capacity("cnn8-4", 10).params == first + second + last
    assert capacity("cnn8-4", 10).macs == 9 * 4 * 8**2 + 9 * 4 * 8 * 4**2 + 8 * 2 * 2 * 10


@pytest.mark.parametrize("name", OTHERS)
def test_other_families_have_their_known_sizes(name: str) -> None:
    params, macs = OTHERS[name]
    assert capacity(name, 100).params == params
    assert round(capacity(name, 100).macs / 1e6, 1) == macs


@pytest.mark.parametrize(("size", "other"), [(8, 67.9), (11, 152.8), (13, 228.3)])
def test_vgg_macs_by_hand(size: int, other: float) -> None:
    """Pools after the first three blocks only, so the last two both work at 4x4; `other`: known figures of the variant
    with a pool after every block."""

    def by_hand(sides: tuple[int, ...]) -> int:
        total, inputs = 512 * 100, 3
        for widths, side in zip(BLOCKS[size], sides, strict=True):
            for width in widths:
                total += 9 * inputs * width * side**2
                inputs = width
        return total

    assert capacity(f"vgg-{size}", 100).macs == by_hand((32, 16, 8, 4, 4))
    assert round(by_hand((32, 16, 8, 4, 2)) / 1e6, 1) == other


def test_wrn_16_2_macs_by_hand() -> None:
    def stage(inputs: int, width: int, side: int) -> int:  # two blocks and the projection of the first
        return side**2 * (9 * (inputs * width + 3 * width * width) + inputs * width)

    stem = 9 * 3 * 16 * 32**2
    by_hand = stem + stage(16, 32, 32) + stage(32, 64, 16) + stage(64, 128, 8) + 128 * 10
    assert capacity("wrn-16-2", 10).macs == by_hand


# Seconds each, even without numbers: their built relatives and their known sizes are held to the file at once.
LONG = {f"msdnet-{n}" for n in (5, 7)} | {f"slim-mobilenet-{n}" for n in (1, 4)}
LONG |= {name for name, row in NETWORKS.items() if row.family.startswith(("imagenet-", "pretrained-"))}


def test_counts_file_equals_the_built_networks() -> None:
    kept = json.loads(COUNTS_FILE.read_text())
    assert kept.keys() == NETWORKS.keys()
    assert {name: row for name, row in kept.items() if name not in LONG} == count_table(NETWORKS.keys() - LONG)


@pytest.mark.slow
def test_counts_file_equals_the_built_long_networks() -> None:
    kept = json.loads(COUNTS_FILE.read_text())
    assert {name: kept[name] for name in LONG} == count_table(LONG)


def test_two_layer_lists_are_told_from_one() -> None:
    """plain-9 has equal stages in both layouts and another hidden width; mlp-4 has one list."""
    table = count_table(["plain-9", "plain-6", "mlp-4"])
    assert [row["small"] == row["large"] for row in table.values()] == [False, False, True]


@pytest.mark.parametrize("classes", [3, 10, 57, 100])
def test_counts_are_exact_for_any_number_of_classes(classes: int) -> None:
    for name in ("plain-6", "plain-7", "resnet-14", "mlp-8", "cnn8-8", "wrn-16-1", "vgg-8", "slim-plain-6", "msdnet-4"):
        shape = FAMILIES[NETWORKS[name].family].input_shape
        assert capacity(name, classes) == count(build(name, classes), shape)


SMALL = [
    "mlp-4",
    "cnn8-2",
    "plain-2",
    "plain-6",
    "resnet-8",
    "wrn-16-1",
    "vgg-8",
    "resnet4-18",
    "slim-mlp-64",
    "slim-plain-4",
]
SMALL += ["slim-mobilenet-1", "msdnet-4"]


@pytest.mark.parametrize("name", SMALL)
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


def test_sizes_that_are_no_network_are_refused() -> None:
    with pytest.raises(ValueError, match="6k"):
        resnet_cifar(10, 10)
    with pytest.raises(ValueError, match="6n"):
        wide_resnet(18, 2, 10)
    with pytest.raises(ValueError, match="18 or 34"):
        resnet_four(50, 10)
    with pytest.raises(ValueError, match="8, 11, 13"):
        vgg(16, 10)


@pytest.mark.parametrize("classes", [2, 10, 11, 57, 100])
@pytest.mark.parametrize("size", [3, 5, 7, 9])
def test_odd_sizes_answer_for_the_classes_asked(size: int, classes: int) -> None:
    """The released DGKD code ends its CIFAR-10 sizes 3, 5, 7 and 9 in 100 outputs and trains without complaint."""
    assert plain_cnn(size, classes).eval()(torch.zeros(2, 3, 32, 32)).shape == (2, classes)


@pytest.mark.parametrize("classes", [10, 100])
def test_the_whole_path_from_10_to_2_falls_in_macs(classes: int) -> None:
    """The released DGKD code gives CIFAR-10 the odd lists of CIFAR-100, where its 3 costs more than the 8: the path
    10-9-...-3-2 would not fall."""
    macs = [capacity(f"plain-{size}", classes).macs for size in range(2, 11)]
    assert macs == sorted(macs)
    borrowed = capacity("plain-3", 100).macs - 90 * 64 * 8 * 8  # its last layer with 10 outputs
    assert borrowed > capacity("plain-8", 10).macs


@pytest.mark.parametrize("kind", ["small", "large"])
@pytest.mark.parametrize("size", [3, 5, 7, 9])
def test_an_odd_size_is_the_next_even_one_less_a_convolution(size: int, kind: str) -> None:
    odd, even = LAYERS[kind][size].split(), LAYERS[kind][size + 1].split()
    shorter = [even[:i] + even[i + 1 :] for i, item in enumerate(even) if item.isdigit() and "|" not in even[:i]]
    assert odd in shorter


def test_ladders_keep_the_published_rungs() -> None:
    """A sweep trains every rung: one more, and every stored run of the family would miss stages."""
    assert ladder("mlp") == tuple(f"mlp-{n}" for n in (4, 8, 16, 32, 64, 128, 256))
    assert ladder("cnn8") == tuple(f"cnn8-{n}" for n in (2, 4, 8, 16, 32))
    assert ladder("plain") == tuple(f"plain-{n}" for n in (2, 4, 6, 8, 10))
    assert ladder("resnet") == tuple(f"resnet-{n}" for n in RESNET)
    assert [name for name, row in NETWORKS.items() if not row.rung] == [f"plain-{n}" for n in (3, 5, 7, 9)]
    assert ladder("wrn-16") == ("wrn-16-1", "wrn-16-2", "wrn-16-4", "wrn-16-8")
    assert all(name == f"{row.family}-{row.size}" for name, row in NETWORKS.items())  # arms are named by sizes


@pytest.mark.parametrize("name", ["plain-2", "plain-6", "resnet-8", "mlp-4"])
def test_initial_weights_of_the_first_families_never_change(name: str) -> None:
    """Cached results were trained from these."""
    torch.manual_seed(0)
    state = build(name, 10).state_dict()
    total = sum(float(tensor.double().abs().sum()) for tensor in state.values())
    assert (len(state), round(total, 3)) == INITIAL[name]


INITIAL = {"plain-2": (16, 363.752), "plain-6": (44, 2521.094), "resnet-8": (56, 5098.908), "mlp-4": (4, 27.194)}


def test_he_start_reaches_every_convolution() -> None:
    """The released MSDNet code means to draw convolutions from He's distribution but leaves torch's default."""
    torch.manual_seed(0)
    for name in ("resnet-8", "wrn-16-1", "vgg-8", "resnet4-18", "msdnet-4", "slim-mobilenet-1"):
        for module in build(name, 10).modules():
            if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 2000:
                wanted = (2 / (module.out_channels * module.kernel_size[0] ** 2)) ** 0.5
                assert float(module.weight.detach().std()) == pytest.approx(wanted, rel=0.15), name


STAGES = {
    "resnet-110": [(16, 32, 32), (32, 16, 16), (64, 8, 8)],
    "resnet4-34": [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)],
    "wrn-28-2": [(32, 32, 32), (64, 16, 16), (128, 8, 8)],
    "plain-2": [(16, 16, 16), (16, 8, 8)],
    "mlp-16": [(16,)],
    "cnn8-16": [(16, 4, 4), (32, 2, 2)],
    "imagenet-resnet-18": [(64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)],
    "imagenet-mobilenet-100": [(16, 112, 112), (24, 56, 56), (32, 28, 28), (96, 14, 14), (1280, 7, 7)],
}


@pytest.mark.parametrize("name", STAGES)
def test_stage_shapes(name: str) -> None:
    assert list(stage_shapes(name, 10)) == STAGES[name]


def test_layouts_differ_in_their_stages() -> None:
    assert stage_shapes("plain-6", 10)[-1] == (64, 4, 4)
    assert stage_shapes("plain-6", 100)[-1] == (128, 8, 8)  # no third pool


HEADS = {
    ("resnet-110", 100): [1_638_500, 819_300, 409_700],
    ("resnet-20", 10): [163_850, 81_930, 40_970],
    ("resnet4-34", 100): [6_553_700, 3_276_900, 1_638_500, 819_300],
    ("resnet4-18", 10): [655_370, 327_690, 163_850, 81_930],
}


@pytest.mark.parametrize(("name", "classes"), HEADS)
def test_heads_on_every_stage_cost_what_dih_pays(name: str, classes: int) -> None:
    """One flattening linear head per stage: on ResNet-110 with 100 classes 1.65 times the network."""
    assert [(c * h * w + 1) * classes for c, h, w in stage_shapes(name, classes)] == HEADS[name, classes]


@pytest.mark.parametrize(
    "name", ["mlp-8", "cnn8-4", "plain-4", "plain-9", "resnet-8", "wrn-16-1", "vgg-8", "resnet4-18"]
)
def test_stage_outputs_are_not_written_over(name: str) -> None:
    """In the released DIH code an in-place ReLU of the next slice removes the negative values of a kept VGG feature."""
    torch.manual_seed(0)
    network = build(name, 10).eval()
    assert isinstance(network, Staged)
    images = torch.randn(2, *FAMILIES[NETWORKS[name].family].input_shape)
    with torch.no_grad():
        logits, outputs = network.forward_stages(images)
        assert torch.equal(logits, network(images))
        assert [tuple(x.shape[1:]) for x in outputs] == list(stage_shapes(name, 10))
        for end, output in zip(network.ends, outputs, strict=True):
            assert torch.equal(output, network[: end + 1](images))


def test_every_family_has_every_budget_and_its_own_batch_order() -> None:
    for family in FAMILIES:
        for budget in BUDGETS:
            row = budget_for(family, budget)
            assert row.recipe.epochs >= 1
            assert row.train_images is None or row.train_images >= row.recipe.batch
    assert budget_for("msdnet", "paper").recipe.epochs == 300
    assert budget_for("vgg", "paper").recipe.weight_decay == 5e-4


def test_networks_for_small_images_are_told_from_those_that_gain_from_a_gpu() -> None:
    assert is_tiny("mlp-256") and is_tiny("cnn8-32")
    assert not is_tiny("plain-2")


def test_families_say_which_images_they_read() -> None:
    assert FAMILIES["plain"].reads((3, 32, 32))
    assert not FAMILIES["plain"].reads((3, 64, 64))
    assert not FAMILIES["plain"].reads((1, 32, 32))
    assert FAMILIES["imagenet-resnet"].reads((3, 64, 64))
    assert not FAMILIES["imagenet-resnet"].reads((3, 32, 32))
    assert not FAMILIES["imagenet-resnet"].reads((3, 64, 96))


def test_only_networks_of_sub_models_have_them() -> None:
    for name, row in NETWORKS.items():
        assert len(sub_models(name, 10)) == len(row.subs)
    assert sub_models("plain-2", 10) == ()
