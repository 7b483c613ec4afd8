"""Which neuron is read: compared with loops over whole maps."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.instruments.images.batches import Batch
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import activations
from cnnprobe.methods.tuning.responses import Site, respond

SIZE = (3, 33, 33)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()


def shown(images, batch_size):
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        yield Batch(np.arange(start, start + len(part)), part, np.zeros(len(part)), np.ones(len(part), bool))


def run(model, sites, images, reaches, batch_size=4):
    steps = respond(model, sites, shown(images, batch_size), reaches)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


@pytest.mark.parametrize("reading", ["centre", "max"])
def test_centre_is_the_neuron_in_the_middle_and_small_things_have_the_largest_of_those_on_them(reading):
    model, images = network(), torch.rand(7, *SIZE)
    reaches = np.array([0, 0.5, 0.2, 0.5, 0, 0.2, 1.0])
    layers = find(model, ["conv1", "2", "logits"], SIZE)
    units = {"conv1": np.array([3, 0]), "2": np.arange(4), "logits": np.array([1])}
    sites = {one.name: Site(one, units[one.name], SIZE, reading) for one in layers}
    found = run(model, sites, images, reaches)
    whole = activations(model, layers, images)
    for one in layers:
        for row, unit in enumerate(units[one.name]):
            for image in range(7):
                a_map = whole[one.name][image, unit]
                if reading == "max" or a_map.ndim == 0:
                    expected = a_map.max()
                else:
                    places = [one.field.centre((u, 0))[0] for u in range(len(a_map))]
                    middle = min(range(len(places)), key=lambda u: abs(places[u] - 16))
                    within = reaches[image] / 2 * 33
                    on_it = [u for u, place in enumerate(places) if abs(place - 16) <= within or u == middle]
                    expected = a_map[on_it][:, on_it].max()
                assert found[one.name][row, image] == pytest.approx(float(expected), abs=1e-6)


def test_of_an_even_map_the_neuron_whose_field_is_nearest_the_middle_is_named():
    """F95: of 16 places at a step of 2 px the field of 8 is centred on 16, of 7 on 14; the middle of 32 px is 15.5."""
    model, size = nn.Sequential(nn.Conv2d(3, 2, 3, 1, 1), nn.Conv2d(2, 2, 3, 2, 1)).eval(), (3, 32, 32)
    first, second = (Site(one, np.arange(2), size, "centre") for one in find(model, ["conv1", "conv2"], size))
    assert first.position == [15, 15] and second.position == [8, 8]
    images = torch.rand(3, *size)
    found = run(model, {"conv2": second}, images, np.zeros(3))["conv2"]
    np.testing.assert_allclose(found, model(images)[:, :, 8, 8].T.detach(), atol=1e-6)
    assert Site(second.layer, np.arange(2), size, "max").position == []


def test_batches_change_nothing():
    model, images = network(), torch.rand(7, *SIZE)
    reaches = np.arange(7) % 3 * 0.3
    sites = {one.name: Site(one, np.arange(4), SIZE, "centre") for one in find(model, ["conv1", "conv2"], SIZE)}
    one, other = run(model, sites, images, reaches, 1), run(model, sites, images, reaches, 7)
    for name in sites:
        np.testing.assert_allclose(one[name], other[name], atol=1e-6)


def test_tokens_have_no_middle():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.cut = nn.Conv2d(3, 6, 8, stride=8)
            self.norm = nn.LayerNorm(6)

        def forward(self, images):
            return self.norm(self.cut(images).flatten(2).transpose(1, 2)).mean(1)

    model = Tokens().eval()
    (layer,) = find(model, "norm", (3, 32, 32))
    with pytest.raises(UserError, match=r"reading=centre needs a map .* say reading=max"):
        Site(layer, np.arange(6), (3, 32, 32), "centre")
    images = torch.rand(3, 3, 32, 32)
    found = run(model, {"norm": Site(layer, np.arange(6), (3, 32, 32), "max")}, images, np.zeros(3))
    expected = model.norm(model.cut(images).flatten(2).transpose(1, 2)).amax(1)
    np.testing.assert_allclose(found["norm"].T, expected.detach(), atol=1e-6)
