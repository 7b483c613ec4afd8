"""What a dataset varies, read out of planted networks: where a shape lies, from its centre; capsules and lengths."""

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe
from cnnprobe.datasets import poses
from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import About
from cnnprobe.methods.tuning.varied import COMPONENTS
from tests.methods.tuning.test_method import tables

PLAIN = {"size": 24, "channels": 1, "count": 200, "split": "test", "seed": 0, "shift": 3.0, "turn": 0.0, "scale": 0.2}
PLAIN |= {"shear": 0.0, "noise": 0.0, "shapes": 1, "grid": None}


def images(**options):
    return poses.build(**PLAIN | options)


class Centres(nn.Module):
    """Units that are the centre of the light (x, y, in parts of 10 px) and its amount, and the same as capsules.

    Every class has a capsule of the centre alone, so that the one of the image's class knows where the shape is.
    """

    def __init__(self, classes=8):
        super().__init__()
        self.places, self.pose, self.classes = nn.Identity(), nn.Identity(), classes
        self.cnnprobe = About(capsules="pose")

    def forward(self, shown):
        side = shown.shape[-1]
        along = torch.arange(side, dtype=shown.dtype) + 0.5 - side / 2
        light = shown[:, 0].sum((1, 2)).clamp(min=1e-6)
        x, y = (shown[:, 0] * along).sum((1, 2)) / light, (shown[:, 0] * along[:, None]).sum((1, 2)) / light
        places = self.places(torch.stack([x, y, light], 1))
        capsules = self.pose((places[:, :2] / 10).repeat(1, self.classes))
        return places[:, 2:] * torch.ones(self.classes) + 0 * capsules.sum(1, keepdim=True)


def scores(found, **wanted):
    """Return the mean scores of a read-out by factor, over classes."""
    table = found["decoding"]
    rows = table["class"] < 0
    for name, value in wanted.items():
        rows &= table[name] == value
    return dict(zip(table["factor"][rows].tolist(), table["score"][rows].tolist()))


@pytest.fixture(scope="module")
def found():
    return tables(Centres().eval(), images(), layer=["places", "pose"])


def test_where_a_shape_lies_is_read_out_of_its_centre(found):
    whole = scores(found, layer="places", readout="all")
    assert whole["x"] > 0.99 and whole["y"] > 0.99 and whole["scale"] > 0.9
    assert set(found["decoding"]["readout"][found["decoding"]["layer"] == "places"]) == {"all"}


def test_a_capsule_says_where_and_its_length_does_not(found):
    own, length = (scores(found, layer="pose", readout=kind) for kind in ("capsule", "length"))
    assert own["x"] > 0.99 and own["y"] > 0.99 and own["scale"] < 0.2
    assert abs(length["x"]) < 0.2 and abs(length["y"]) < 0.2
    features = found["decoding"]["features"][found["decoding"]["layer"] == "pose"]
    assert set(features.tolist()) == {2, 1, 16} and COMPONENTS == 16


def test_what_is_stored_is_what_the_units_respond(found):
    dataset = images()
    with torch.inference_mode():
        shown, _ = dataset.load(range(len(dataset)))
        kept = []
        model = Centres().eval()
        model.places.register_forward_hook(lambda module, inputs, output: kept.append(output))
        model(shown)
    assert np.allclose(found["units/places"]["curve"].T, kept[0].numpy(), atol=1e-5)
    assert np.array_equal(found["stimuli"]["x"], dataset.poses[:, 0, 0])


@pytest.mark.parametrize("reading", ["centre", "max"])
def test_of_a_map_the_neuron_in_the_middle_is_read_or_the_largest(reading):
    torch.manual_seed(0)
    model, dataset = (
        nn.Sequential(nn.Conv2d(1, 3, 5, padding=2), nn.Flatten(), nn.Linear(1728, 8)).eval(),
        images(count=16),
    )
    seen = model[0](dataset.load(range(16))[0]).detach()
    expected = seen[:, :, 11, 11] if reading == "centre" else seen.amax((2, 3))
    found = tables(model, dataset, layer="0", reading=reading)["units/0"]["curve"]
    assert np.allclose(found.T, expected.numpy(), atol=1e-5)


def test_an_image_without_a_class_has_no_capsule_of_its_own():
    dataset = images()
    dataset.labels = np.where(np.arange(200) < 160, dataset.labels, -1)
    found = tables(Centres().eval(), dataset, layer="pose")["decoding"]
    rows = (found["class"] == -2) & (found["factor"] == "x")
    assert np.isnan(found["score"][rows & (found["readout"] == "capsule")]).all()
    assert np.isfinite(found["score"][rows & (found["readout"] == "all")]).all()


def test_a_grid_has_curves_and_nothing_is_read_out():
    grid = tables(Centres().eval(), images(grid=5), layer="places")
    assert "decoding" not in grid and grid["units/places"]["curve"].shape == (3, 8 * 3 * 5)
    stepped = grid["stimuli"]["stepped"] == "x"
    own = stepped & (grid["stimuli"]["label"] == 4)  # the square, whose centre is its own
    assert np.allclose(grid["units/places"]["curve"][0][own], [-3, -1.5, 0, 1.5, 3], atol=0.05)


def test_too_few_images_of_a_class_are_told(caplog):
    few = tables(Centres().eval(), images(count=80), layer="places")
    assert np.isnan(few["decoding"]["score"][few["decoding"]["factor"] == "x"]).all()
    assert "x of places: not decoded in 8 of 8 classes, which have fewer than 20 images with it" in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gabor": True}, "gabor=true is of the gratings and filters of dataset=manufactured; poses has none"),
        ({"strength": "f1"}, "strength=f1 is of the gratings"),
        ({"pages": 7}, r"pages=7: that unit is not among those measured"),
    ],
)
def test_options_of_gratings_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        cnnprobe.measure("tuning", model=Centres().eval(), dataset=images(count=8), layer="places", **options)


def test_a_resumed_run_reads_out_what_is_missing_alike(found):
    finished = {"units/places": frozenset([0]), "decoding": frozenset(range(0, 9 * 10, 9))}
    rest = tables(Centres().eval(), images(), layer=["places", "pose"], finished=finished)
    assert "curve" not in rest["units/places"]
    assert np.array_equal(rest["units/pose"]["curve"], found["units/pose"]["curve"])
    missing = len(found["decoding"]["score"]) - 9 * 10
    assert missing > 0 and np.array_equal(rest["decoding"]["score"], found["decoding"]["score"][-missing:])
