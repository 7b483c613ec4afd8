"""Fields of single positions: those that gradients reach through a network made positive, and the paper's U-Net."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnprobe.instruments.fields.phases import Phases, phases_of, together
from cnnprobe.instruments.fields.rules import geometries
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.receptive_field import Span
from cnnprobe.instruments.network.replay import value_at
from cnnprobe.instruments.network.tracing import trace
from cnnprobe.models import unet
from tests.support.positive_gradient import support


def followed(model, name, size):
    """Return a layer, and by axis of the image what its positions see."""
    (layer,), written = find(model, name, size), trace(model, size)
    return layer, phases_of(written, geometries(written))[value_at(written, layer.tap)]


class Decoder(nn.Module):
    """Maps that grow again by some function, beside a finer map that is joined to them."""

    def __init__(self, grow, across=lambda maps: maps):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, stride=2)
        self.grow, self.across, self.end = grow, across, nn.Conv2d(4, 2, 3)

    def forward(self, images):
        fine = self.fine(images)
        risen = self.grow(self.coarse(fine).relu())
        fine = self.across(fine)[..., 1 : 1 + risen.shape[2], 1 : 1 + risen.shape[3]]
        return self.end(torch.cat([fine, risen], 1))


GROWS = {
    "up-convolution": nn.ConvTranspose2d(2, 2, 2, stride=2),
    "overlapping": nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1),
    "repeated": lambda maps: F.interpolate(maps, scale_factor=2),
    "bilinear": lambda maps: F.interpolate(maps, scale_factor=2, mode="bilinear"),
    "shuffled": lambda maps: F.pixel_shuffle(maps.repeat(1, 4, 1, 1), 2),
}


@pytest.mark.parametrize("name", GROWS)
def test_each_position_sees_what_gradients_reach_from_it(name):
    size, model = (1, 25, 23), Decoder(GROWS[name]).eval()
    layer, phases = followed(model, "end", size)
    for position in np.ndindex(5, 5):
        regions = [phases[axis].region(place) for axis, place in enumerate(np.add(position, (3, 4)))]
        place = tuple(np.add(position, (3, 4)).tolist())
        if not all(first >= 2 and last <= side - 3 for (first, last), side in zip(regions, size[1:])):
            continue  # what is repeated at the border
        reached = support(model, layer, size, place).nonzero()
        assert list(zip(reached.amin(0).tolist(), reached.amax(0).tolist())) == regions, place
    for axis, span in enumerate(layer.field.spans):
        assert phases[axis].hull == span


@pytest.mark.parametrize(
    ("depth", "side", "rise", "sizes"),
    [(2, 60, "transposed", (44,)), (3, 108, "transposed", (92, 100)), (4, 188, "transposed", (188, 204))],
)
def test_a_pixel_of_the_output_of_the_paper(depth, side, rise, sizes):
    """By hand: each level doubles what is left of it, and rests on one of two places of its pooling."""
    options = {"num_classes": 2, "channels": 1, "width": 1, "padding": "valid"}
    model = unet.build(depth=depth, input_size=side, rise=rise, **options)
    _, phases = followed(model, "logits", (1, side, side))
    assert phases[0].sizes == phases[1].sizes == sizes


def test_what_cannot_be_followed_is_left_out():
    """A gate sees all of the image; a shuffle of places has no period."""
    model = Decoder(GROWS["repeated"], across=lambda maps: maps * maps.mean((2, 3), keepdim=True))
    assert followed(model.eval(), "end", (1, 25, 25))[1] == {}
    order = torch.from_numpy(np.random.default_rng(0).permutation(23))
    model = Decoder(GROWS["up-convolution"], across=lambda maps: maps[:, :, order])
    assert set(followed(model.eval(), "end", (1, 25, 25))[1]) == {1}


def test_periods_are_as_short_as_they_can_be():
    alike = Phases.of(Span(2, 5, 1))
    assert alike.read_by(([[0], [1], [2]], 3)) == alike
    halves = Phases.of(Span(0, 3, 2)).read_by(([[0], [0]], 1))
    assert halves == Phases((0, 0), (2, 2), 2) and halves.sizes == (3,)
    assert halves.hull == Span(-1, 4, 1)
    joined = together([halves, Phases.of(Span(0, 1, 1))])
    assert (joined.sizes, joined.region(5)) == ((3,), (4, 6))
    assert together([halves, Phases.of(Span(0, 1, 2))]) is None  # they drift apart
    assert Phases.of(Span(0, 1, 1)).read_by(([[], [0]], 1)).sizes == (0, 1)
