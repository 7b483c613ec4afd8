"""Crops against whole images: the same activations and the same gradients, on random networks and published ones."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

from cnnprobe.instruments.layers.naming import find, layers_of
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.network.replay import Unrepeatable
from cnnprobe.instruments.network.untouched import untouched
from cnnprobe.methods.gbp.crops import FieldCrops
from cnnprobe.models import mousenet, squeezenet
from tests.support.networks.random_networks import networks
from tests.support.occluding import textured

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")


def by_whole_images(model, layer, images, positions):
    """Return activations (n, channel) and, for the sum of each one's channels weighted 1, 2, …, its gradient."""
    pixels, values = images.clone().requires_grad_(), []
    with tap(model, [layer], lambda _, activation: values.append(activation * 1)) as run:
        run(pixels * 1)
        found = values[0][torch.arange(len(images)), :, *torch.as_tensor(positions).unbind(1)]
        return found.detach(), torch.autograd.grad(weighted(found), pixels)[0]


def by_crops(crops, model, images, positions):
    """The same from crops, gradients laid back into their images; and how much of them lay beyond."""
    with untouched(model):
        pixels = crops.cut(images, positions).requires_grad_()
        found = crops.run(pixels * 1, positions)
        cut = torch.autograd.grad(weighted(found), pixels)[0]
    gradients, beyond = torch.zeros_like(images), 0.0
    for n, (top, left) in enumerate(crops.corners(positions)):
        for (y, x), values in zip(np.ndindex(cut.shape[2:]), cut[n].flatten(1).T):
            if 0 <= top + y < images.shape[2] and 0 <= left + x < images.shape[3]:
                gradients[n, :, top + y, left + x] = values
            else:
                beyond = max(beyond, float(values.abs().max()))
    return found.detach(), gradients, beyond


def weighted(found):
    return (found * torch.arange(1.0, found.shape[1] + 1)).sum()


def compare(model, layer, size, seed=0, count=5):
    """Compare both; return the crops."""
    crops = FieldCrops(model, layer, size)
    random = np.random.default_rng(seed)
    positions = np.stack([random.integers(0, side, count) for side in layer.map_size], 1)
    images = torch.from_numpy(random.random((count, *size), np.float32))
    expected, slopes = by_whole_images(model, layer, images, positions)
    found, gradients, beyond = by_crops(crops, model, images, positions)
    assert beyond == 0.0
    for one, other in ((found, expected), (gradients, slopes)):
        assert (one - other).abs().max() <= 1e-5 * other.abs().max() + 1e-7
    return crops


@st.composite
def cases(draw):
    model, size = draw(networks())
    layers = [layer for layer in layers_of(model, size) if len(layer.map_size) == 2 and not layer.field.whole]
    assume(layers)
    return model, draw(st.sampled_from(layers)), size, draw(st.integers(0, 99))


def check(case):
    model, layer, size, seed = case
    try:
        compare(model, layer, size, seed)
    except Unrepeatable:
        assume(False)
    except RuntimeError as error:  # of the whole network: torch itself has no gradient for it
        assume("modified by an inplace operation" not in str(error))
        raise


MOUSE = {"readout": "pool4", "mask": "per_channel", "mask_seed": 1, "input_size": None, "upsample_to": None}
SETTINGS = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.filter_too_much, HealthCheck.too_slow],
}


@pytest.mark.slow
@settings(max_examples=60, **SETTINGS)
@given(cases())
def test_networks_drawn_at_random(case):
    check(case)


@pytest.mark.slow
@settings(max_examples=1000, **SETTINGS)
@given(cases())
def test_many_networks_drawn_at_random(case):
    check(case)


@pytest.mark.parametrize(
    "name", ["conv1", *(pytest.param(name, marks=pytest.mark.slow) for name in ("conv2", "conv3")), "VISp5"]
)
def test_mousenet(name):
    """Branches, sparse kernels, strides, fields that reach beyond the image on all sides."""
    torch.manual_seed(0)
    model = textured(mousenet.build(variant="mousenet64", num_classes=10, **MOUSE))
    compare(model, find(model, name, (3, 64, 64))[0], (3, 64, 64))


@pytest.mark.parametrize("name", ["conv1", "features.4", "features.7"])
def test_squeezenet(name):
    """Joined branches, pooling that reaches beyond its map (ceil_mode)."""
    torch.manual_seed(0)
    model = textured(squeezenet.build(num_classes=10, version=1.0, input_size=None))
    crops = compare(model, find(model, name, (3, 97, 101))[0], (3, 97, 101))
    assert crops.share < 0.5


def test_the_crop_is_the_theoretical_field():
    model = nn.Sequential(nn.Conv2d(3, 4, 5, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(4, 2, 3, padding=1)).eval()
    layer = find(model, "3", (3, 40, 50))[0]
    crops = FieldCrops(model, layer, (3, 40, 50))
    for position in ((0, 0), (3, 5)):
        corner = crops.corners(np.array([position]))[0]
        assert [(first, first + w.length - 1) for first, w in zip(corner, crops.window)] == list(
            layer.field.region(position)
        )


class Whole(nn.Module):
    def forward(self, maps):
        return maps - maps.mean((2, 3), keepdim=True)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Whole(), "its units see the whole image"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "border is not constant"),
        (nn.Upsample(scale_factor=2), "interpolate is not local"),
    ],
)
def test_what_is_not_local_is_said(step, reason):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), step, nn.Conv2d(4, 2, 3)).eval()
    with pytest.raises(Unrepeatable, match=reason):
        FieldCrops(model, find(model, "2", (3, 20, 20))[0], (3, 20, 20))
