"""What is recorded equals what a plain loop over the network gives."""

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe
from cnnprobe.datasets import shapes
from cnnprobe.errors import UserError
from cnnprobe.models import convnet
from cnnprobe.store.tables import Rows
from tests.support.calling import Told, Undefined, network


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    model = convnet.build(num_classes=8, written="class", input_size=32)
    dataset = shapes.build(size=32, count=21, split="test", seed=0, contrast=0.15, noise=0.02)
    return model, dataset


def columns(model, dataset, **more):
    """Run record and join its rows by table."""
    options = {"classes": (), "layer": ["conv2", "fc1"], "batch_size": 8, "device": "cpu", "workers": 0}
    options |= {"keep": "maps", "dtype": "float32"} | more
    measurement = cnnprobe.measure("record", model=model, dataset=dataset, **options)
    found = {}
    for event in measurement.events:
        if isinstance(event, Rows):
            for name, values in event.columns.items():
                found.setdefault(f"{event.table}/{name}", []).append(values)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def test_maps_summaries_and_predictions_are_those_of_the_network(made):
    model, dataset = made
    found = columns(model, dataset)
    images = torch.stack([dataset[i][0] for i in range(21)])
    with torch.no_grad():
        maps = torch.relu(model.conv2(torch.relu(model.conv1((images - 0.5) / 0.25))))
        outputs = model(images)
    flat = maps.flatten(2)
    np.testing.assert_allclose(found["activations/conv2/maps"], maps, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["activations/conv2/max"], flat.amax(2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["activations/conv2/mean"], flat.mean(2), rtol=1e-5, atol=1e-6)
    picked = np.take_along_axis(flat.numpy(), found["activations/conv2/argmax"][..., None].astype(int), 2)[..., 0]
    np.testing.assert_allclose(picked, flat.amax(2), rtol=1e-5, atol=1e-6)
    assert found["activations/fc1/max"].shape == (21, 128)
    assert found["images/prediction"].tolist() == outputs.argmax(1).tolist()
    ranks = [(outputs[i] > outputs[i, label]).sum().item() for i, label in enumerate(dataset.labels)]
    assert found["images/rank"].tolist() == ranks


def test_half_the_space_keeps_half_the_digits(made):
    fine, coarse = columns(*made), columns(*made, dtype="float16")
    np.testing.assert_allclose(
        fine["activations/conv2/maps"].astype(np.float16), coarse["activations/conv2/maps"].astype(np.float16)
    )


def test_labels_are_compared_only_where_the_class_names_agree(made):
    assert (columns(*made, classes=tuple(f"other{i}" for i in range(8)))["images/rank"] == -1).all()
    assert (columns(*made, classes=made[1].classes)["images/rank"] >= 0).all()


def test_it_goes_on_from_a_batch(made):
    whole, rest = columns(*made), columns(*made, start=16)
    for name, values in rest.items():
        if not name.startswith("pictures"):
            np.testing.assert_array_equal(values, whole[name][16:])


def test_the_batch_size_changes_nothing_beyond_rounding(made):
    one, other = columns(*made, batch_size=1), columns(*made, batch_size=21)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-5)


def test_a_nan_is_told_with_layer_and_image(made):
    """F48: planted for one image, whose row is NaN; it is no class, and not decided rightly."""
    _, dataset = made
    brightest = int(torch.stack([dataset[i][0].mean() for i in range(21)]).argmax())
    limit = dataset[brightest][0].mean().item() - 1e-6
    with Told() as lines:
        named = {"classes": tuple(dataset.classes)}
        found = columns(network(Undefined, limit), dataset, layer=["conv1"], keep="summary", **named)
    assert sorted(lines) == [
        f"conv1: not finite in 6 of 6 units for 1 images, first image {brightest}",
        f"logits: not finite in 8 of 8 units for 1 images, first image {brightest}",
    ]
    assert np.isnan(found["activations/conv1/max"]).all(1).nonzero()[0].tolist() == [brightest]
    for name in ("prediction", "rank"):
        assert (found[f"images/{name}"] < 0).nonzero()[0].tolist() == [brightest], name


def test_an_unknown_layer_is_told_before_anything_is_shown(made):
    model, dataset = made
    with pytest.raises(UserError, match="no layer 'conv9'"):
        columns(model, dataset, layer="conv9")


class Tied(nn.Module):
    """Its outputs are 0 but for those of classes 2 and 5, which are 1 where the image is bright."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 8)

    def forward(self, images):
        values = 0 * self.fc(self.conv(images).mean((2, 3)))
        values[:, [2, 5]] += (images.mean((1, 2, 3)) > 0.5).to(values)[:, None]
        return values


def test_of_equal_outputs_the_first_is_the_class_and_has_the_first_rank(made):
    """F86: a network that says the same of every class is not right about each of them."""
    _, dataset = made
    images = torch.stack([dataset[i][0] for i in range(21)])
    found = columns(Tied().eval(), dataset, classes=tuple(dataset.classes), layer=None)
    with torch.no_grad():
        order = [sorted(range(8), key=lambda one: -row[one]) for row in Tied()(images).tolist()]  # a stable sort
    assert found["images/prediction"].tolist() == [row[0] for row in order]
    assert found["images/rank"].tolist() == [row.index(label) for row, label in zip(order, dataset.labels)]
    right = found["images/prediction"] == dataset.labels
    assert ((found["images/rank"] == 0) == right).all() and 0 < right.sum() < 21
