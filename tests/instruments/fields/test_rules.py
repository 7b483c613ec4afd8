"""Fields of layers: published tables, and the pixels that gradients reach."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnnprobe.instruments.layers.naming import find, layers_of
from cnnprobe.instruments.network.receptive_field import Field
from cnnprobe.models import mousenet
from tests.support.networks import planted
from tests.support.positive_gradient import support


def check(model, names, size):
    """Compare the algebra with the pixels a gradient reaches, at the middle of the map and at its first corner."""
    for layer in find(model, names, size):
        for position in (tuple(side // 2 for side in layer.map_size), (0,) * len(layer.map_size)):
            expected = torch.zeros(size[1:], dtype=torch.bool)
            slices = [slice(max(0, int(first)), int(last) + 1) for first, last in layer.field.region(position)]
            expected[tuple(slices)] = True
            reached = support(model, layer, size, position)
            assert torch.equal(reached, expected), (layer.name, position, layer.field, reached.nonzero().aminmax(dim=0))


def test_alexnet_is_as_in_the_table_of_araujo_norris_and_sim():
    model = torchvision.models.alexnet(weights=None).eval()
    names = [f"features.{n}" for n in (1, 4, 7, 9, 11, 2, 5, 12)]
    layers = {layer.name: layer.field for layer in find(model, names, (3, 224, 224))}
    rectifiers = [layers[f"features.{n}"] for n in (1, 4, 7, 9, 11)]
    assert [field.size for field in rectifiers] == [(11, 11), (51, 51), (99, 99), (131, 131), (163, 163)]
    assert [layers[f"features.{n}"].size[0] for n in (2, 5, 12)] == [19, 67, 195]
    assert [layers[f"features.{n}"].stride[0] for n in (1, 2, 4, 5, 7, 12)] == [4, 8, 8, 16, 16, 32]
    assert layers["features.12"].start == (-66, -66) and rectifiers[0].start == (-2, -2)
    check(model.features, ["conv1", "conv2", "5"], (3, 127, 127))


@pytest.mark.slow
def test_vgg16_and_resnet50_are_as_in_the_table_of_araujo_norris_and_sim():
    vgg = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    assert find(vgg, "30", (3, 32, 32))[0].field.size == (212, 212)
    check(vgg[:16], ["conv4", "conv7"], (3, 48, 48))
    resnet = torchvision.models.resnet50(weights=None).eval()
    field = find(resnet, "layer4", (3, 64, 64))[0].field
    assert (field.size, field.stride, field.aligned) == (
        (427, 427),
        (32, 32),
        True,
    )  # stride in the 3x3 (483: in the 1x1)
    resnet.layer3 = resnet.layer4 = resnet.fc = nn.Identity()  # what comes behind costs time and changes no field
    check(resnet, ["conv1", "layer1", "layer2.0"], (3, 96, 96))


def test_resnet50_with_the_stride_of_2015_has_483_pixels():
    """resnet_v1_50 of the table strides at the end of a stage, in its last 3x3 convolution."""
    model = torchvision.models.resnet50(weights=None).eval()
    for stage, following in (("layer1", "layer2"), ("layer2", "layer3"), ("layer3", "layer4")):
        first = getattr(model, following)[0]
        first.conv2.stride, first.downsample[0].stride = (1, 1), (1, 1)
        last = getattr(model, stage)[-1]
        last.conv2.stride = (2, 2)
        last.downsample = nn.MaxPool2d(1, 2)
    assert find(model, "layer4", (3, 64, 64))[0].field.size == (483, 483)


def test_squeezenet_with_its_pools_that_round_up():
    model = torchvision.models.squeezenet1_0(weights=None).eval()
    check(model, ["conv1", "features.3", "conv11", "features.7"], (3, 127, 127))


def mouse():
    options = {"variant": "mousenet64", "readout": "pool4", "mask": "none", "mask_seed": 0}
    return mousenet.build(num_classes=10, **options, input_size=None, upsample_to=None)


@pytest.mark.slow
@pytest.mark.parametrize("checked", ["VISl4", pytest.param(["conv1", "VISp5", "VISl4"], marks=pytest.mark.slow)])
def test_mousenet_has_the_fields_of_its_anatomy(checked):
    model = mouse()
    intervals = {
        "LGNd": (1, -4, 4), "VISp4": (1, -5, 5), "VISp2/3": (1, -9, 9), "VISp5": (1, -10, 10), "VISl4": (2, -18, 20),
        "VISal4": (2, -16, 18), "VISl2/3": (2, -26, 28), "VISl5": (2, -30, 32), "VISpl5": (2, -39, 41),
        "VISpor4": (2, -54, 56), "VISpor5": (2, -68, 70),
    }  # fmt: skip
    for layer in find(model, list(intervals), (3, 64, 64)):
        stride, first, last = intervals[layer.name]
        assert layer.field.stride == (stride, stride)
        assert layer.field.region((0, 0)) == ((first, last), (first, last))
    assert find(model, "VISl4", (3, 64, 64))[0].field.centre((5, 7)) == (11, 15)  # 2 i + 1
    check(model, checked, (3, 32, 32))


class Wrapped(nn.Module):
    """A convolution, and whatever function is to be looked at."""

    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.end = nn.Identity()
        self.function = function

    def forward(self, images):
        return self.end(self.function(self.conv(images)))


@pytest.mark.parametrize(
    "function",
    [
        nn.Conv2d(4, 2, (3, 5), padding="same"),
        nn.Conv2d(4, 2, (3, 4), padding=(1, 0), dilation=(2, 1), stride=(1, 3)),
        nn.Conv2d(4, 4, 3, groups=4, padding="valid"),
        nn.ConvTranspose2d(4, 2, 2, stride=2),
        nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True),
        nn.AdaptiveAvgPool2d(2),
        lambda maps: F.pad(maps, (1, 0, 2, 3)),
        lambda maps: maps[:, :, 1:, ::2],
        lambda maps: maps.flip(3),
        lambda maps: maps.permute(0, 2, 3, 1),
        lambda maps: F.layer_norm(maps.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2),
        lambda maps: F.interpolate(maps, scale_factor=2),
        lambda maps: F.interpolate(maps, size=(4, 4), mode="area"),
        lambda maps: F.channel_shuffle(maps, 2),
        lambda maps: maps.view(1, 2, 2, *maps.shape[2:]).transpose(1, 2).reshape(maps.shape),
        lambda maps: torch.cat(maps.chunk(2, dim=1)[::-1], dim=1) * 2 + maps,
        lambda maps: maps.mean((2, 3), keepdim=True),
        lambda maps: maps * maps.mean((2, 3), keepdim=True) + maps,
        lambda maps: maps.softmax(1),
    ],
)
def test_functions_pass_fields_on_as_gradients_do(function):
    """Every pixel that acts lies in the field; the field is exact or, where positions differ, the largest of them."""
    size, model = (2, 16, 16), Wrapped(function)
    (layer,) = find(model, "end", size)
    mapped = layer.map_size
    for position in np.ndindex(*mapped):
        region = [(max(0, first), min(15, last)) for first, last in layer.field.region(position)]
        reached = support(model, layer, size, position).nonzero()
        if not len(reached):
            continue  # only padding
        low, high = reached.amin(0).tolist(), reached.amax(0).tolist()
        inner = all(
            first >= 0 and last <= 15 for first, last in layer.field.region(position)
        )  # dilation has gaps at borders
        assert all(first <= a and b <= last for (first, last), a, b in zip(region, low, high)), (position, layer.field)
        if layer.field.aligned and inner and "Transpose" not in str(function):
            assert [(a, b) for a, b in zip(low, high)] == region, (position, layer.field)


def test_branches_of_different_reach_are_joined():
    class Branches(nn.Module):
        def __init__(self, padding):
            super().__init__()
            self.small, self.large = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 7, padding=3)
            self.end, self.padding = nn.Identity(), padding

        def forward(self, images):
            return self.end(self.small(F.pad(images, self.padding)) + self.large(images))

    (layer,) = find(Branches((1, 1, 1, 1)), "end", (1, 16, 16))
    assert (layer.field.size, layer.field.start, layer.field.aligned) == ((7, 7), (-3, -3), True)
    (layer,) = find(Branches((2, 0, 1, 1)), "end", (1, 16, 16))
    assert (layer.field.size, layer.field.start, layer.field.aligned) == ((7, 7), (-3, -3), False)


def test_dense_layers_tokens_and_attention_see_the_whole_image():
    model = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=1, num_heads=2, hidden_dim=12, mlp_dim=20
    )
    layers = {layer.name: layer.field for layer in layers_of(model, (3, 32, 32))}
    assert layers["conv1"] == Field((8, 8), (8, 8), (0, 0))
    assert layers["encoder.layers.encoder_layer_0"].whole and layers["heads.head"].size == (32, 32)
    (flat,) = find(planted.grey(), "2", (1, 9, 20))
    assert flat.field == Field((9, 20), (0, 0), (0, 0)) and flat.field.region(()) == ((0, 8), (0, 19))


def test_images_that_are_not_square_and_signals():
    (grey,) = find(planted.grey(), "conv1", (1, 9, 20))
    assert grey.field == Field((3, 5), (1, 2), (0, -2)) and grey.map_size == (7, 10)
    fields = [layer.field for layer in find(planted.signals(), "conv*", (2, 64))]
    assert fields == [Field((5,), (2,), (0,)), Field((23,), (4,), (0,))]  # 5, + pool 2, + 4 x 4


@pytest.mark.parametrize(
    ("function", "is_told"),
    [
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"), True),
        (lambda x: torch.cat([x[..., -1:], x, x[..., :1]], -1), True),
        (lambda x: x.roll((1, -2), (2, 3)), True),
        (lambda x: x[..., [7, 0, 6, 1, 5, 2, 4, 3, 15, 8, 14, 9, 13, 10, 12, 11]], True),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), False),
        (lambda x: torch.cat([x[..., :1], x, x[..., -1:]], -1), False),
        (lambda x: torch.cat([torch.zeros_like(x), x], -1), False),
        (lambda x: x.flip(-1)[..., ::2], False),
    ],
)
def test_an_interval_that_holds_what_lies_between_far_pixels_is_told(function, is_told):
    """F85: behind circular padding a field of three pixels is an interval wider than the image."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.next = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, images):
            return self.next(self.conv(function(images)))

    layers = find(Net().eval(), ["conv", "next"], (1, 16, 16))
    assert all(("brings together pixels that lie far apart" in layer.note) == is_told for layer in layers)
