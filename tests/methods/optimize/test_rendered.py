"""Capsules that are moved and drawn: a decoder that is planted, so that what comes back is known."""

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe
from cnnprobe.datasets.base.given import Given
from cnnprobe.errors import UserError
from cnnprobe.instruments.network.about import About
from cnnprobe.methods.optimize.rendered import OFFSETS, slope
from cnnprobe.store.tables import Rows


class Drawer(nn.Module):
    """Two capsules of three numbers: means of parts of the image; a decoder that paints them back.

    Dimension 0 is painted as it is read, 1 at half its strength, and 2 not at all: slopes 1, 0.5 and 0.
    """

    def __init__(self, decoder=True):
        super().__init__()
        self.pose = nn.Identity()
        self.decoder = nn.Identity() if decoder else None
        self.cnnprobe = About(input_size=(1, 4, 6), output="existence", capsules="pose")

    def forward(self, images):
        parts = images[:, 0].reshape(-1, 2, 2, 3, 2).mean((2, 4))  # (image, class, dimension): 2 x 2 px each
        return self.pose(parts.flatten(1)).unflatten(1, (2, 3)).square().sum(2)

    def drawn(self, pose, present):
        values = pose * present[:, :, None] * torch.tensor([1.0, 0.5, 0.0])
        return values.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, None]


class Labelled(Given):
    def __init__(self, images, labels):
        super().__init__(torch.as_tensor(images))
        self.labels, self.classes = np.asarray(labels), ("up", "down")


def shown(count=6):
    """Return images whose upper, and lower, half grows from one to the next."""
    images = np.zeros((count, 1, 4, 6), np.float32)
    for index in range(count):
        images[index, 0, : 2 if index % 2 == 0 else 4][-2:] = 0.3 + 0.05 * index
    return Labelled(images, [index % 2 for index in range(count)])


def run(model=None, dataset=None, **options):
    given = {"objective": "rendered", "top_images": 2} | options
    return cnnprobe.measure("optimize", model=model or Drawer().eval(), dataset=dataset or shown(), **given)


def table(measurement):
    found = {name: column.values for name, column in measurement.tables[0].columns.items() if column.values is not None}
    rows = [event for event in measurement.events if isinstance(event, Rows) and event.table == "units/pose"]
    return found | {name: np.concatenate([row.columns[name] for row in rows]) for name in rows[0].columns}


def test_what_is_painted_comes_back_as_far_as_it_is_painted():
    found = table(run())
    assert found["class"].tolist() == [0, 0, 0, 1, 1, 1] and found["dimension"].tolist() == [0, 1, 2] * 2
    assert np.allclose(found["slope"], np.array([1, 0.5, 0] * 2)[:, None], atol=1e-5)
    assert found["natural_image"][0].tolist() == [4, 2] and found["natural_image"][3].tolist() == [5, 3]
    assert np.allclose(found["value"][0], [0.5, 0.4]) and np.allclose(
        found["length"][0], np.sqrt(3) * found["value"][0]
    )
    assert np.allclose(found["back"][0, 0], 0.5 + OFFSETS, atol=1e-6)


def test_pictures_are_those_of_the_decoder_with_one_number_moved():
    found = table(run(units=[0, 4]))
    image = found["image"][0]  # of class 0, dimension 0: the upper left 2 x 2 px move with it
    assert np.allclose(image[:, 0, :2, :2], (0.5 + OFFSETS)[:, None, None], atol=1e-6)
    assert np.allclose(image[:, 0, :2, 2:4], 0.25) and not image[:, 0, 2:].any() and not image[:, 0, :, 4:].any()
    # half of a quarter each way on 4 of 24 px, at half strength: sqrt(0.25² · 4 / 24)
    assert np.allclose(found["change"][1], np.sqrt(0.25**2 * 4 / 24))
    assert found["picture"].dtype == np.uint8 and found["picture"][0].max() == 128


def test_a_class_without_images_has_no_numbers():
    nothing = Labelled(np.full((2, 1, 4, 6), np.nan, np.float32), [0, 1])
    found = table(run(dataset=nothing))
    assert (found["natural_image"] == -1).all() and np.isnan(found["slope"]).all()


class Mixed(Drawer):
    """The capsules of `Drawer` after a rotation Q, which the decoder takes back: what comes back of direction d of
    one class is Q P Q' d, with P the strengths of 1, 0.5 and 0."""

    ROTATION = torch.linalg.qr(torch.from_numpy(np.random.default_rng(3).normal(size=(3, 3))).float())[0]

    def forward(self, images):
        parts = images[:, 0].reshape(-1, 2, 2, 3, 2).mean((2, 4)) @ self.ROTATION
        return self.pose(parts.flatten(1)).unflatten(1, (2, 3)).square().sum(2)

    def drawn(self, pose, present):
        return super().drawn(pose @ self.ROTATION.T, present)


def blocks(count=40):
    """Return images of one class whose three parts vary by themselves, by 0.3, 0.2 and 0.1 in the mean."""
    random = np.random.default_rng(1)
    parts = 0.5 + random.permuted(np.linspace(-1, 1, count)[:, None] * [0.3, 0.2, 0.1], axis=0)
    images = np.zeros((count, 1, 4, 6), np.float32)
    images[:, 0, :2] = parts.repeat(2, 1)[:, None]
    return Labelled(images, [0] * count), parts


@pytest.mark.parametrize("batch_size", [7, 40])
def test_components_are_those_of_a_decomposition_of_all_capsules_and_come_back_as_their_parts_do(batch_size):
    images, parts = blocks()
    found = table(run(Mixed().eval(), images, units="0:3", along="components", batch_size=batch_size))
    own = parts @ Mixed.ROTATION.double().numpy()
    _, deviations, axes = np.linalg.svd(own - own.mean(0))
    assert np.allclose(found["spread"], deviations / np.sqrt(len(own)), rtol=1e-4)
    alike = np.abs((found["direction"] * axes).sum(1))
    assert np.allclose(alike, 1, atol=1e-4)
    assert (found["direction"][[0, 1, 2], np.abs(found["direction"]).argmax(1)] > 0).all()
    turned = found["direction"] @ Mixed.ROTATION.double().numpy().T
    assert np.allclose(found["slope"], (turned**2 @ [1, 0.5, 0])[:, None], atol=1e-4)
    assert np.allclose(found["value"], (own[found["natural_image"]] * found["direction"][:, None]).sum(2), atol=1e-5)
    plain = table(run(Mixed().eval(), images, units="0:3"))
    assert np.array_equal(plain["direction"], np.eye(3)) and np.isnan(plain["spread"]).all()


def test_a_class_that_no_image_has_longest_has_no_components():
    found = table(run(Mixed().eval(), blocks()[0], along="components"))
    assert np.isfinite(found["slope"][:3]).all() and np.isnan(found["slope"][3:]).all()
    assert np.isnan(found["direction"][3:]).all()


def test_components_are_of_rendered_capsules_alone():
    with pytest.raises(UserError, match="along=components is of objective=rendered, got objective=channel"):
        run(objective="channel", layer="pose", along="components")


def test_the_slope_is_that_of_the_least_squares_line():
    back = np.random.default_rng(0).normal(size=len(OFFSETS))
    assert slope(OFFSETS, back) == pytest.approx(np.polyfit(OFFSETS, back, 1)[0])


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (
            Drawer(decoder=False),
            {},
            r"needs a network with a decoder \(model=capsnet with model.decoder\), Drawer has none",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(24, 2)), {}, "needs a network with a decoder .*, Sequential has none"),
        (Drawer(), {"layer": "logits"}, "draws the class capsules: say layer=pose, got logits"),
    ],
)
def test_networks_and_layers_that_cannot_be_drawn_are_refused(model, options, words):
    with pytest.raises(UserError, match=f"objective=rendered {words}"):
        run(model.eval(), **options)


def test_a_resumed_run_renders_what_is_missing_alike():
    whole = [event for event in run().events if isinstance(event, Rows) and event.table == "units/pose"]
    done = {"units/pose": frozenset([0, 1, 3])}
    rest = [event for event in run(finished=done).events if isinstance(event, Rows)]
    rest = [event for event in rest if event.table == "units/pose"]
    assert [event.start for event in rest] == [2, 4, 5]
    for event in rest:
        for name, values in event.columns.items():
            assert np.array_equal(values, whole[event.start].columns[name], equal_nan=True), name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 8, "starts": 3}, "steps, starts"),
        ({"natural": False}, "natural"),
        ({"preset": ["standard", "lucid"], "position": [0, 0]}, "position, preset"),
        ({"groups": [[0, 1]], "pooling": "min", "direction": [1.0, 0.0]}, "groups, pooling, direction"),
        ({"group_weights": [[1.0]], "picture": 16, "brain_layer": "conv1"}, "group_weights, picture, brain_layer"),
    ],
)
def test_options_of_an_ascent_are_refused(options, words):
    """F95: they were taken, and did nothing."""
    told = {word.strip() for word in words.split(",")}
    with pytest.raises(UserError, match="objective=rendered makes no ascent: leave out ") as refused:
        run(**options)
    assert {word.strip() for word in str(refused.value).partition("leave out ")[2].split(",")} == told
