"""Computed fields against the network itself: what the trace does not show is found before a field is believed."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe
from cnnprobe.instruments.fields.check import checked
from cnnprobe.instruments.layers.naming import find, layers_of
from cnnprobe.instruments.network.replay import Unrepeatable
from cnnprobe.instruments.windows.occluders import Grid
from cnnprobe.methods.gbp.crops import FieldCrops
from cnnprobe.methods.rf_map.occlusion import Occlusion

SIZE = (3, 24, 26)


class Between(nn.Module):
    """A function between two convolutions."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.function = function

    def forward(self, images):
        return self.last(self.function(self.first(images)))


def through_numpy(maps):
    return maps + torch.from_numpy(maps.detach().cpu().numpy()[..., ::-1].copy())


def compiled():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that scripts are outdated
        return torch.jit.trace(lambda maps: maps.flip(3) * 0.5, torch.rand(1, 4, 24, 26))


FLIPPED = compiled()


def by_values(maps):
    """Move each image's maps by as many columns as its largest value says."""
    return torch.roll(maps, int(maps.abs().max() * 100) % 7, 3)


HIDDEN = {
    "a mean in Python": lambda maps: maps * float(maps.mean()),
    "through NumPy": through_numpy,
    "a compiled function": lambda maps: maps + FLIPPED(maps),
    "a step taken from values": by_values,
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_the_trace_does_not_show_makes_a_field_the_whole_image(name):
    """F85."""
    model = Between(HIDDEN[name]).eval()
    computed = {layer.name: layer for layer in layers_of(model, SIZE)}["last"]
    assert not computed.field.whole  # the functions that were called do not show it
    first, last = find(model, ["first", "last"], SIZE)
    assert first.field.size == (3, 3) and not first.note and not first.measured_whole
    assert last.field.whole and last.field.size == SIZE[1:] and "beyond the computed field" in last.note


def test_what_python_decides_by_values_is_said_and_not_repeated_on_crops():
    """F85: noise images may all go one way, and others another."""
    model = Between(lambda maps: maps.flip(3) if maps.abs().max() > 50 else maps).eval()
    first, last = find(model, ["first", "last"], SIZE)
    assert not first.note and last.field.size == (5, 5) and last.note == "Python decides by __bool__() of values"
    with pytest.raises(Unrepeatable, match="does something in Python"):
        FieldCrops(model, last, SIZE)


def test_the_whole_image_runs_where_a_field_does_not_hold_and_the_store_says_why():
    """F85: neither crops nor windows, and every number is the network's."""
    model = Between(HIDDEN["through NumPy"]).eval()
    (layer,) = find(model, "last", SIZE)
    with pytest.raises(Unrepeatable, match="beyond the computed field"):
        FieldCrops(model, layer, SIZE)
    assert "beyond the computed field" in Occlusion(model, layer, SIZE, Grid(SIZE[1:], 5, 5)).engine
    images = np.random.default_rng(0).random((4, *SIZE)).astype(np.float32)
    for command, options in (("topk", {}), ("rf-map", {"top_images": 2, "patch_size": 5, "stride": 8})):
        measured = cnnprobe.measure(command, model=model, dataset=images, layer="last", **options)
        own = measured.tables[0].attributes
        assert "beyond the computed field" in own["field_note"] and own["field_stride"] == [0, 0]


@pytest.mark.parametrize(
    "function",
    [
        lambda maps: maps.relu(),
        lambda maps: maps - maps.new_tensor(0.45),
        lambda maps: maps.flip(3),
        lambda maps: maps + torch.rand_like(maps),  # the same numbers in every pass
        lambda maps: maps / 0 * torch.where(maps > 0, 0.0, 1.0),  # NaN and infinity where they always are
        lambda maps: torch.full_like(maps, 0.5),
    ],
)
def test_fields_that_hold_are_left(function):
    model = Between(function).eval()
    before = layers_of(model, SIZE)
    assert checked(model, before, SIZE) == before


def test_a_network_that_fails_on_some_images_is_not_believed():
    """F85."""

    class Delicate(Between):
        def forward(self, images):
            if images.std() > 0.4:
                raise ValueError("too much contrast")
            return super().forward(images)

    (layer,) = find(Delicate(torch.relu).eval(), "last", SIZE)
    assert layer.field.whole and layer.note.endswith("not compared with noise images (too much contrast)")


def test_the_image_is_handed_over_anew_for_each_pass():
    class Writes(Between):
        def forward(self, images):
            images.sub_(0.5)
            return super().forward(images)

    model = Writes(lambda maps: maps).eval()
    assert all(not layer.measured_whole for layer in checked(model, layers_of(model, SIZE), SIZE))


def test_signals_are_compared_along_time():
    """F85."""

    class Signals(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.first, self.last, self.function = nn.Conv1d(2, 4, 3), nn.Conv1d(4, 4, 3), function

        def forward(self, signals):
            return self.last(self.function(self.first(signals)))

    for function, whole in ((lambda maps: maps.relu(), False), (lambda maps: maps * float(maps.mean()), True)):
        first, last = find(Signals(function).eval(), ["first", "last"], (2, 40))
        assert not first.field.whole and last.field.whole is whole
