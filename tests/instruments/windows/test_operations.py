"""Every operation that carries windows, by itself: the whole changed map against a second pass of the network."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnprobe.instruments.layers.naming import find, layers_of
from cnnprobe.instruments.windows.engine import WindowEngine
from cnnprobe.instruments.windows.occluders import Grid
from cnnprobe.instruments.windows.operations import AveragePool, Convolution, Join, MaxPool, Pad, Pointwise, Scale, Sum
from cnnprobe.machine.memory import Carried
from cnnprobe.methods.rf_map.occlusion import occluded_images
from tests.support.occluding import by_loop, by_windows

SIZE = (3, 15, 18)


class Then(nn.Module):
    """A convolution, a function, and a module that hands on what comes of it."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.function, self.end = nn.Conv2d(3, 4, 3, padding=1), function, nn.Identity()
        self.eval()

    def forward(self, images):
        return self.end(self.function(self.conv(images)))


def norm():
    made = nn.BatchNorm2d(4)
    made.running_mean.uniform_(-1, 1), made.running_var.uniform_(0.5, 2)
    nn.init.uniform_(made.weight), nn.init.uniform_(made.bias)
    return made


MAP = torch.rand(15, 18)
CASES = [
    # operation, function
    *((Convolution, nn.Conv2d(4, 6, kernel)) for kernel in (1, 2, 3, (4, 1), (1, 5))),
    *((Convolution, nn.Conv2d(4, 6, 3, stride, padding)) for stride in (2, 3, (1, 2)) for padding in (0, 1, (2, 1))),
    *((Convolution, nn.Conv2d(4, 8, 3, 1, 2, dilation, groups)) for dilation in (1, 2, (3, 1)) for groups in (1, 2, 4)),
    *((Convolution, nn.Conv2d(4, 8, 3, 2, 1, dilation, groups)) for dilation in (1, 2) for groups in (1, 4)),
    *((Convolution, nn.Conv2d(4, 5, k, padding=p)) for k in (3, (2, 4)) for p in ("valid", "same")),
    *((Convolution, nn.Conv2d(4, 6, 1, stride, groups=groups)) for stride in (1, 2) for groups in (1, 2)),
    (Convolution, nn.Conv2d(4, 6, 1, padding=1)),
    (Convolution, nn.Conv2d(4, 6, 5, stride=5)),
    (Scale, norm()),
    (Scale, nn.BatchNorm2d(4, affine=False)),
    *(
        (MaxPool, nn.MaxPool2d(k, s, p, ceil_mode=c))
        for k, s, p in ((2, 2, 0), (3, 2, 1), (3, 1, 1))
        for c in (False, True)
    ),
    (MaxPool, nn.MaxPool2d((2, 3), (3, 1), (1, 0))),
    (MaxPool, nn.MaxPool2d(3, 2, dilation=2)),
    (MaxPool, nn.AdaptiveMaxPool2d((5, 6))),
    (MaxPool, nn.AdaptiveMaxPool2d(1)),
    *(
        (AveragePool, nn.AvgPool2d(3, 2, 1, ceil_mode=c, count_include_pad=i))
        for c in (False, True)
        for i in (False, True)
    ),
    (AveragePool, nn.AvgPool2d((2, 3))),
    (AveragePool, nn.AvgPool2d(4, 3, 2, ceil_mode=True, count_include_pad=False)),
    (AveragePool, nn.AvgPool2d(2, divisor_override=3)),
    (AveragePool, nn.AdaptiveAvgPool2d((3, 2))),
    (AveragePool, nn.AdaptiveAvgPool2d(1)),
    (Pad, lambda maps: F.pad(maps, (1, 2, 0, 3))),
    (Pad, lambda maps: F.pad(maps, (1, 2, 0, 3), value=2.0)),
    (Pad, lambda maps: F.pad(maps, (-1, 2, -3, 0))),
    *((Pad, lambda maps, mode=mode: F.pad(maps, (2, 1, 3, 2), mode=mode)) for mode in ("reflect", "replicate")),
    (Pad, lambda maps: F.pad(maps, (2, 1, 3, 2), mode="circular")),
    (Pad, nn.ReflectionPad2d(2)),
    (Pad, nn.ZeroPad2d(2)),
    (Join, lambda maps: torch.cat([maps, maps * 2], 1)),
    (Join, lambda maps: torch.cat((maps, maps, maps), dim=-3)),
    (Sum, lambda maps: maps + maps.tanh()),
    (Sum, lambda maps: maps.add_(maps.tanh())),
    (Sum, lambda maps: maps.clone()),
    (Sum, lambda maps: maps + 1),
    (Sum, lambda maps: maps + torch.ones(4, 15, 18)[None]),
    (Pointwise, lambda maps: torch.add(maps, maps.tanh(), alpha=2)),
    (Pointwise, lambda maps: 1 - maps),
    (Pointwise, lambda maps: maps / maps.abs().add(1)),
    (Pointwise, lambda maps: maps * MAP),
    (Pointwise, lambda maps: maps * torch.arange(4.0).view(4, 1, 1)),
    (Pointwise, lambda maps: torch.maximum(maps, maps.tanh() - 0.1)),
    (Pointwise, lambda maps: maps.clamp(min=0.1)),
    (Pointwise, lambda maps: torch.where(MAP > 0.5, maps, 0.3)),
    (Pointwise, lambda maps: F.local_response_norm(maps, 3, 0.5)),
    (Pointwise, lambda maps: maps.softmax(1)),
    *((Pointwise, module) for module in (nn.ReLU(), nn.ReLU(inplace=True), nn.GELU(), nn.Sigmoid(), nn.PReLU(4))),
    *((Pointwise, function) for function in (torch.sigmoid, F.silu, torch.relu_, lambda maps: maps.mul_(2), F.mish)),
]


def engine_of(function, patch=3, stride=2):
    model = Then(function)
    (layer,) = [layer for layer in layers_of(model, SIZE) if layer.name == "end"]
    return model, WindowEngine(model, layer, SIZE, Grid(SIZE[1:], patch, stride), 10**9)


def changed_maps(engine, image, filled):
    """Return (draw, row, column, channel, y, x): what changes, zero outside of the windows."""
    clean = engine.clean(image)
    found = torch.zeros(len(filled), *engine.grid.shape, *clean.values[engine.target].shape[1:])
    for answer in engine.answers(engine.plan(), clean, engine.differences(clean, filled), Carried(10**9)):
        height, width = answer.changes.shape[3:5]
        assert answer.place.lengths == (height, width)
        for i, (row, y) in enumerate(zip(answer.rows, answer.place.first[0])):
            for j, (column, x) in enumerate(zip(answer.columns, answer.place.first[1])):
                window = answer.changes[:, i, j].permute(0, 3, 1, 2)
                found[:, row, column, :, y : y + height, x : x + width] = window
    return found, clean.values[engine.target]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize(("patch", "stride"), [(3, 2), (1, 5), (8, 3)])
@pytest.mark.parametrize("number", range(len(CASES)))
def test_what_changes_is_what_a_second_pass_gives(number, patch, stride):
    kind, function = CASES[number]
    model, engine = engine_of(function, patch, stride)
    kinds = [type(how) for how in engine.operations.values()]
    assert kind in kinds and engine.windowed and set(kinds) <= {Convolution, Pointwise, Sum, kind}
    image, filled = torch.rand(SIZE), torch.rand(2, *SIZE)
    with torch.inference_mode():
        found, clean = changed_maps(engine, image, filled)
        expected = torch.zeros_like(found)
        torch.testing.assert_close(clean, model(image[None]), atol=1e-5, rtol=0)
        tops, lefts = engine.grid.corners
        for draw, row, column in np.ndindex(found.shape[:3]):
            copy = occluded_images(image, filled[draw], [(tops[row], lefts[column])], patch)
            expected[draw, row, column] = (model(copy) - clean)[0]
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, atol=2e-6 * max(1, float(clean.abs().max())), rtol=0)


def test_products_of_a_convolution_are_counted_the_cheaper_way():
    """Outwards from every input, or at every result."""
    (how,) = engine_of(nn.Identity())[1].operations.values()
    assert how.macs((3, 4), (5, 6)) == 12 * 4 * 3 * 9
    assert how.macs((5, 6), (3, 2)) == 6 * 4 * 3 * 9
    *_, strided = engine_of(nn.Conv2d(4, 6, 3, 2))[1].operations.values()
    assert strided.macs((1, 1), (2, 2)) == 4 * 6 * 4 * 9


@pytest.mark.parametrize("stride", [(1, 3), (1, 2), (3, 1), (2, 3)])
@pytest.mark.parametrize("kernel", [(2, 2), (3, 3), (2, 4), (4, 1)])
def test_grey_images_and_unequal_steps(kernel, stride):
    """Torch leaves results of one column unwritten there, which the windows have and the network has not."""
    model = nn.Sequential(nn.Conv2d(1, 8, kernel, stride, bias=False)).eval()
    (layer,) = find(model, "conv1", (1, 13, 13))
    grid, image, filled = Grid((13, 13), 1, 1), torch.rand(1, 13, 13), torch.rand(1, 1, 13, 13)
    sites = np.stack(np.unravel_index(range(math.prod(layer.map_size)), layer.map_size), 1)
    asked = model, layer, grid, image, filled, np.arange(len(sites)) % 8, sites, "site"
    np.testing.assert_allclose(by_windows(*asked), by_loop(*asked), atol=1e-5)
