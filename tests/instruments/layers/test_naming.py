"""Layers by name."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import Tap, find, last_map, layers_of, main_layers
from cnnprobe.instruments.network.activations import activations
from cnnprobe.instruments.network.units import units_of
from cnnprobe.models import mousenet
from tests.support.calling import Told
from tests.support.networks import planted


@pytest.fixture(scope="module")
def alexnet():
    return torchvision.models.alexnet(weights=None).eval()


@pytest.fixture(scope="module")
def mouse():
    options = {"variant": "mousenet64", "readout": "pool4", "mask": "none", "mask_seed": 0}
    return mousenet.build(num_classes=10, **options, input_size=None, upsample_to=None)


def named(model, size=(3, 8, 8)):
    return {layer.name: layer for layer in layers_of(model, size)}


def test_short_names_read_after_the_rectifier_and_paths_at_the_module(alexnet):
    found = find(alexnet, ["conv1", "features.0", "conv5", "classifier.6"], (3, 224, 224))
    assert [(layer.module, layer.reads, layer.rectified) for layer in found] == [
        ("features.0", "features.1", True),
        ("features.0", "features.0", False),
        ("features.10", "features.11", True),
        ("classifier.6", "classifier.6", False),
    ]
    assert [(layer.channels, layer.map_size, layer.kind) for layer in found] == [
        (64, (55, 55), "convolution"),
        (64, (55, 55), "convolution"),
        (256, (13, 13), "convolution"),
        (1000, (), "linear"),
    ]


def test_alexnet_has_61_million_parameters_and_costs_714_million_products(alexnet):
    main = main_layers(alexnet, (3, 224, 224))
    assert sum(layer.parameters for layer in main) == 61_100_840
    assert sum(layer.macs for layer in main) == 714_188_480  # sum of map x channels x kernel of its eight layers
    assert [layer.name for layer in main if layer.kind == "convolution"] == [f"conv{n}" for n in range(1, 6)]


def test_rectifiers_may_be_functions_methods_or_in_place():
    for model in (planted.Functional(), planted.Inline()):
        first, second = find(model, "conv*", (3, 8, 8))
        assert first.tap.function.strip("_") == second.tap.function.strip("_") == "relu"
        assert first.rectified and second.rectified and (first.module, second.module) == ("first", "second")
        assert (first.map_size, second.map_size) == ((8, 8), (3, 3))


def test_functional_convolutions_are_numbered_too():
    first, second = find(planted.Bare(), "conv*", (3, 8, 8))
    assert first.tap == Tap("", 0, "relu") and second.tap == Tap("", 0, "conv2d", nth=1)
    assert (first.parameters, second.parameters) == (4 * 3 * 9, 2 * 4)
    assert (first.macs, second.macs) == (36 * 4 * 27, 36 * 2 * 4)


def test_a_batchnorm_followed_by_a_sum_leaves_the_convolution_its_own_output():
    layers = named(planted.Block())
    assert layers["conv1"].tap == Tap("relu", 0)
    assert layers["conv2"].tap == Tap("conv2", 0)


def test_a_module_path_that_is_also_a_short_name_is_asked_for_by_its_call():
    own = find(planted.Block(), "conv1#1", (3, 8, 8))[0]
    assert own.tap == Tap("conv1", 0) and not own.rectified


def test_two_readers_of_a_convolution_leave_it_its_own_output():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, images):
            maps = self.conv(images)
            return maps.relu() + maps

    assert named(Two())["conv1"].tap == Tap("conv", 0)
    assert named(planted.Pair())["conv1"].tap == Tap("conv", 0)  # the output of the network reads it as well


def test_calls_of_one_module_are_never_mixed():
    """F19."""
    layers = named(planted.Block())
    assert layers["relu#1"].tap == Tap("relu", 0) and layers["relu#2"].tap == Tap("relu", 1)
    with pytest.raises(UserError, match="layer 'relu' of block is called 2 times in a pass; say which: relu#1, relu#2"):
        find(planted.Block(), "relu", (3, 8, 8), of="block")
    first, second = find(planted.Twice(), ["conv1", "conv2"], (3, 8, 8))
    assert (first.tap, second.tap) == (Tap("", 0, "relu"), Tap("conv", 1))


def test_parts_of_tuples_have_names_of_their_own():
    """F18."""
    part = find(planted.Odd(), "pair[1]", (3, 8, 8))[0]
    assert part.tap == Tap("pair", 0, part=1) and part.rectified
    with pytest.raises(
        UserError, match=r"layer 'pair' of odd returns a tuple of 2; name its part: pair\[0\], pair\[1\]"
    ):
        find(planted.Odd(), "pair", (3, 8, 8), of="odd")
    with pytest.raises(UserError, match="layer 'named' of odd returns nothing with units"):
        find(planted.Odd(), "named", (3, 8, 8), of="odd")


def test_logits_are_what_the_network_returns_whatever_makes_it():
    """F86: a dense layer, a mean of maps without a module of its own; also where a module has that name."""
    dense = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 7))
    assert find(dense, "logits", (3, 8, 8))[0].channels == 7
    mean = planted.Functional().eval()
    images = torch.rand(2, 3, 9, 9)
    assert torch.equal(activations(mean, find(mean, "logits", (3, 9, 9)), images)["logits"], mean(images))
    named = nn.Sequential(OrderedDict(logits=nn.Conv2d(3, 4, 3), flat=nn.Flatten()))
    assert find(named, "logits", (3, 8, 8))[0].map_size == ()
    assert find(named, "logits#1", (3, 8, 8))[0].map_size == (6, 6)
    assert "logits" not in [layer.name for layer in layers_of(dense, (3, 8, 8))]


class Spectrum(nn.Module):
    def forward(self, images):
        return torch.fft.fft2(images)


class Power(nn.Module):
    def forward(self, spectrum):
        return spectrum.abs()


def test_complex_numbers_on_the_way_are_no_units():
    """F18: no response is complex; what is made of them is measured."""
    model = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), spectrum=Spectrum(), power=Power())).eval()
    names = [layer.name for layer in layers_of(model, (3, 8, 8))]
    assert "power" in names and "spectrum" not in names
    with pytest.raises(UserError, match="layer 'spectrum' of odd returns nothing with units"):
        find(model, "spectrum", (3, 8, 8), of="odd")


def test_what_is_not_used_or_not_there_is_told():
    """F17, F19."""
    with pytest.raises(UserError, match="layer 'aux' of odd is not used for the noise image"):
        find(planted.Odd(), "aux", (3, 8, 8), of="odd")
    with pytest.raises(
        UserError, match="no layer 'conv_2' in net; did you mean 'conv2'\\? layers: conv1, conv2, dense"
    ):
        find(planted.Functional(), "conv_2", (3, 8, 8), of="net")
    with pytest.raises(UserError, match=r"no layer 'zz\*' in net; layers: conv1"):
        find(planted.Functional(), "zz*", (3, 8, 8), of="net")
    with pytest.raises(UserError, match="no layer is requested"):
        find(planted.Functional(), [], (3, 8, 8))


def test_globs_lists_and_all(alexnet):
    size = (3, 224, 224)
    names = [layer.name for layer in find(alexnet, ["conv2", "conv*"], size)]
    assert names == ["conv2", "conv1", "conv3", "conv4", "conv5"]
    assert len(find(alexnet, "features.*", size)) == 13
    dense = ["classifier.1", "classifier.4", "classifier.6"]
    assert [layer.name for layer in find(alexnet, "all", size)] == [f"conv{n}" for n in range(1, 6)] + dense


@pytest.mark.slow
def test_mousenet_reads_its_first_three_convolutions_at_the_area(mouse):
    size = (3, 64, 64)
    reads = {layer.name: layer.reads for layer in find(mouse, ["conv1", "conv2", "conv3", "conv4"], size)}
    assert reads == {"conv1": "area.LGNd", "conv2": "area.VISp4", "conv3": "area.VISp23", "conv4": "conv.conv4"}
    area, spelled = find(mouse, "VISp23", size)[0], find(mouse, "VISp2/3", size)[0]
    assert (area.name, spelled.name) == ("VISp23", "VISp2/3") and area.tap == spelled.tap
    assert (area.kind, area.channels, area.map_size) == ("area", 42, (64, 64))
    assert len(find(mouse, "VISp*", size)) == 9  # 3 of VISp, 3 of VISpl, 3 of VISpor, each once
    assert len(find(mouse, "conv*", size)) == 49
    every = find(mouse, "all", size)
    assert len({layer.tap for layer in every}) == len(every)


@pytest.mark.slow
def test_mousenet_costs_2_52_billion_products_per_image(mouse):
    macs = sum(layer.macs for layer in find(mouse, "conv*", (3, 64, 64)))
    assert round(macs / 1e9, 2) == 2.52


def test_tokens_and_signals():
    vit = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=1, num_heads=2, hidden_dim=12, mlp_dim=20
    )
    layers = named(vit, (3, 32, 32))
    block = layers["encoder.layers.encoder_layer_0"]
    assert (block.channels, block.map_size, block.channel_axis) == (12, (17,), 2)
    assert layers["conv1"].map_size == (4, 4)
    attention = layers["encoder.layers.encoder_layer_0.self_attention[0]"]
    assert attention.kind == "attention" and attention.macs == 17 * (4 * 12**2 + 2 * 17 * 12)
    conv = named(planted.signals(), (2, 64))["conv1"]
    assert (conv.channels, conv.map_size, conv.field.size) == (4, (30,), (5,))


UNFOLDED = {  # channels and map of what a function makes of maps (6, 8, 8), and the function
    "unfold": ((6, 8, 8), lambda maps: (torch.ones(6, 54) @ F.unfold(maps, 3, padding=1)).view(-1, 6, 8, 8)),
    "flat": ((7, 64), lambda maps: torch.einsum("bkl,okl->bol", F.unfold(maps, 3, padding=1), torch.ones(7, 54, 64))),
    "sum": ((6, 8, 8), lambda maps: F.unfold(maps, 3, padding=1).view(-1, 6, 9, 8, 8).sum(2)),
    "maximum": ((6, 8, 8), lambda maps: F.unfold(maps, 3, padding=1).view(-1, 6, 9, 64).amax(2).view(-1, 6, 8, 8)),
    "fold": ((6, 8, 8), lambda maps: F.fold(F.unfold(maps, 3, padding=1), (8, 8), 3, padding=1)),
    "flat and back": ((6, 8, 8), lambda maps: maps.flatten(1).view(-1, 6, 8, 8)),
    "heads": ((3, 2, 64), lambda maps: maps.view(-1, 3, 2, 64)),
    "heads of tokens": ((2, 64, 3), lambda maps: maps.flatten(2).mT.reshape(-1, 64, 3, 2)),
    "tokens": ((7, 64), lambda maps: F.linear(maps.flatten(2).mT, torch.ones(7, 6))),
    "adjoint": ((7, 64), lambda maps: F.linear(maps.flatten(2).adjoint(), torch.ones(7, 6))),
    "einsum": ((7, 64), lambda maps: torch.einsum("bcl,cd->bld", maps.flatten(2), torch.ones(6, 7))),
    "einsum, factors turned": ((7, 64), lambda maps: torch.einsum("cd,bcl->bdl", torch.ones(6, 7), maps.flatten(2))),
    "einsum by numbers": ((6, 64), lambda maps: torch.einsum(maps.flatten(2), [0, 1, 2], [0, 2, 1])),
    "einsum of a map": ((7, 8, 8), lambda maps: torch.einsum("b...yx,...d->byxd", maps, torch.ones(6, 7))),
    "tensordot": ((7, 64), lambda maps: torch.tensordot(maps.flatten(2), torch.ones(6, 7), ([1], [0]))),
    "matmul": ((7, 64), lambda maps: maps.flatten(2).mT @ torch.ones(6, 7)),
    "attention": ((6, 64), lambda maps: F.scaled_dot_product_attention(*[maps.flatten(2).mT] * 3)),
    "parts": ((6, 8, 8), lambda maps: torch.stack(maps.unbind(1), -1)),
}


class Made(nn.Module):
    """A layer that is made of the maps of a convolution by a function."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.made, self.function = nn.Conv2d(3, 6, 3, padding=1), nn.Identity(), function

    def forward(self, images):
        return self.made(self.function(self.conv(images))).flatten(1)[:, :5]


@pytest.mark.parametrize("name", UNFOLDED)
def test_units_are_channels_also_of_maps_whose_places_cannot_be_followed(name):
    """F85: behind unfold(), .mT or einsum() columns of the image or tokens were units, and channels an axis of maps."""
    (channels, *places), function = UNFOLDED[name]
    model = Made(function).eval()
    (layer,) = find(model, "made", (3, 8, 8))
    assert (layer.channels, layer.map_size) == (channels, tuple(places))


class Folding(nn.Module):
    """Both halves of an image in one batch."""

    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, images):
        views = torch.cat([images[..., :4], images[..., 4:].flip(-1)])
        return self.out(self.conv(views).mean((2, 3))).unflatten(0, (2, -1)).sum(0)


def test_where_no_layer_can_be_read_the_reason_is_told():
    """F95: it said that none was asked for."""
    with pytest.raises(UserError, match=r"no layer of the model can be read: conv1, out: .*views"):
        find(Folding().eval(), "all", (3, 8, 8))


class Weighing(nn.Module):
    """Attention pooling: a convolution says how much each place of the map counts."""

    def __init__(self):
        super().__init__()
        self.maps, self.weights, self.out = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 1, 1), nn.Linear(6, 4)

    def forward(self, images):
        maps = self.maps(images).relu()
        weights = (self.weights(maps).flatten(2) / 2).softmax(-1)
        return self.out((maps.flatten(2) * weights).sum(-1))


def test_a_map_that_weighs_places_is_not_the_last_map():
    """F87: its mean gradient is 0 but for rounding, which was drawn as evidence."""
    layer = last_map(Weighing().eval(), (3, 8, 8))
    assert (layer.channels, layer.map_size, layer.tap.module) == (6, (6, 6), "")


def test_a_second_name_of_the_same_place_is_told():
    """F95."""
    model = nn.Sequential(OrderedDict(first=nn.Conv2d(3, 4, 3), second=nn.Conv2d(4, 4, 3))).eval()
    with Told() as lines:
        assert [one.name for one in find(model, ["conv1", "first", "conv1", "second"], (3, 8, 8))] == [
            "conv1",
            "second",
        ]
    assert lines == ["first is conv1 of the model: it is measured once, under that name"]


class Turned(nn.Module):
    """A layer that answers in four rotations (p4): 5 channels of them, in 20 of a convolution, split as it says."""

    def __init__(self, *split):
        super().__init__()
        self.conv, self.maps, self.split = nn.Conv2d(3, 20, 3), nn.Identity(), split

    def forward(self, images):
        made = self.conv(images)
        return self.maps(made.unflatten(1, self.split)).amax(2).mean((-2, -1))


@pytest.mark.parametrize("split", [(5, 4), (4, 5), (5, 2, 2)])
def test_of_channels_in_several_axes_the_first_are_the_units(split):
    """F85: rotations were taken for the units, and channels for an axis of the map."""
    torch.manual_seed(0)
    model, images = Turned(*split).eval(), torch.rand(3, 3, 8, 8)
    (layer,) = find(model, "maps", (3, 8, 8))
    assert layer.channels == split[0] and layer.map_size == (*split[1:], 6, 6)
    expected = model.conv(images).unflatten(1, split)
    torch.testing.assert_close(activations(model, [layer], images)["maps"], expected)


def test_units():
    """F17."""
    layer = find(planted.Functional(), "conv1", (3, 8, 8))[0]
    for spec, units in (
        ("all", [0, 1, 2, 3]),
        (2, [2]),
        ([3, 0, 3], [3, 0]),
        ("1:3", [1, 2]),
        (["2:", "0"], [2, 3, 0]),
    ):
        assert np.array_equal(units_of(layer, spec), units)
    for spec in (4, -1, [0, 4], "0:9", "3:3"):
        with pytest.raises(UserError, match=r"conv1 has units 0 to 3, got|units=3:3 of conv1 is empty"):
            units_of(layer, spec)
    for spec in ("x", [1.5], [[0]]):
        with pytest.raises(UserError, match="units must be all, numbers, a range"):
            units_of(layer, spec)
    with pytest.raises(UserError, match="got none"):
        units_of(layer, [])


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("densenet121", "mobilenet_v3_small")),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("efficientnet_b0", "shufflenet_v2_x0_5")),
        pytest.param("convnext_tiny", marks=pytest.mark.slow),
        "swin_t",
    ],
)
def test_layers_of_every_kind_of_network_are_read_where_they_say(name):
    from cnnprobe.instruments.network.activations import tap

    model = torchvision.models.get_model(name, weights=None).eval()
    layers = main_layers(model, (3, 64, 64))
    shapes = {}
    with torch.no_grad(), tap(model, layers, lambda layer, a: shapes.update({layer.name: tuple(a.shape)})) as run:
        run(torch.rand(2, 3, 64, 64))
    assert shapes == {layer.name: (2, layer.channels, *layer.map_size) for layer in layers}
    convolutions = {m for m in model.modules() if isinstance(m, nn.Conv2d)}
    assert {layer.module for layer in layers if layer.kind == "convolution"} == {
        path for path, module in model.named_modules() if module in convolutions
    }


@pytest.mark.parametrize(
    ("arch", "name", "shape"),
    [
        ("resnet18", "layer4", (512, 4, 4)),  # what is pooled, behind the sum and its rectifier
        ("alexnet", "conv5", (256, 7, 7)),
        ("squeezenet1_0", "conv26", (1000, 7, 7)),
        ("densenet121", "relu()", (1024, 4, 4)),
        ("convnext_tiny", "features", (768, 4, 4)),
    ],
)
def test_where_the_last_map_stands(arch, name, shape):
    layer = last_map(torchvision.models.get_model(arch, weights=None).eval(), (3, 128, 128))
    assert (layer.name, (layer.channels, *layer.map_size)) == (name, shape)


def test_of_a_network_without_a_map_none_is_found():
    with pytest.raises(UserError, match="no convolution with a map"):
        last_map(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), (3, 4, 4))


def test_a_layer_behind_what_cannot_be_followed_is_refused_with_the_reason():
    """F85."""

    class Mapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Conv2d(3, 2, 3)

        def forward(self, images):
            return self.last(torch.vmap(lambda one: one.flip(2))(images))

    with pytest.raises(UserError, match="how it comes from the image cannot be followed"):
        find(Mapped(), "last", (3, 8, 8))


def test_parameters_are_those_that_can_be_learned():
    """F95: a fixed kernel has none, a constrained one those of its module."""
    wrapped = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))

    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("kernel", torch.rand(3, 3, 3, 3))
            self.bias, self.inner = nn.Parameter(torch.rand(3)), nn.Identity()

        def forward(self, x):
            return self.inner(nn.functional.conv2d(x, self.kernel, self.bias))

    model = nn.Sequential(Fixed(), wrapped).eval()
    first, second = find(model, ["conv1", "conv2"], (3, 8, 8))
    assert first.parameters == 3 and second.parameters == sum(one.numel() for one in wrapped.parameters()) == 116
