"""The strongest images of units whose answers are known."""

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe
from cnnprobe.datasets import gratings, shapes
from cnnprobe.datasets.base.given import given_images
from cnnprobe.errors import UserError
from cnnprobe.models import convnet
from cnnprobe.store.tables import Rows


def ranked(model, dataset, **more):
    """Run topk and join the rows of each layer."""
    options = {"layer": "conv1", "units": "all", "k": 3, "criterion": "max", "quantile": 0.995, "bottom": False}
    options |= {"crop": False, "picture": None, "pages": None, "source": None}
    options |= {"batch_size": 8, "device": "cpu", "workers": 0, "seed": 0}
    measurement = cnnprobe.measure("topk", model=model, dataset=dataset, **(options | more))
    found = {}
    for event in measurement.events:
        if isinstance(event, Rows) and event.table.startswith("units/"):
            for name, values in event.columns.items():
                found.setdefault(name, []).append(values)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def identity():
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    nn.init.ones_(model[0].weight)
    return model.eval()


def three_images():
    """1.T1: A one pixel of 10, B a 4x4 block of 5, C everywhere 0.6."""
    images = np.zeros((3, 1, 8, 8), np.float32)
    images[0, 0, 2, 5] = 10
    images[1, 0, 4:, 4:] = 5
    images[2] = 0.6
    return given_images(images)


def test_three_images_are_ordered_by_each_criterion_as_the_known_answer_says():
    found = ranked(identity(), three_images(), criterion=["max", "mean"])
    assert found["image"][0].tolist() == [0, 1, 2]
    np.testing.assert_allclose(found["response"][0], [10, 5, 0.6])
    assert found["position"][0, 0].tolist() == [2, 5]
    assert found["position"][0, 1].tolist() == [4, 4]
    assert found["image_mean"][0].tolist() == [1, 2, 0]
    np.testing.assert_allclose(found["response_mean"][0], [1.25, 0.6, 0.15625])


def test_area_counts_positions_above_the_threshold():
    """1.T1: 0.6 everywhere goes first, then a block of 16 px, then a single px."""
    found = ranked(identity(), three_images(), criterion="area", quantile=0.4)
    assert found["image"][0].tolist() == [2, 1, 0] and found["position"][0].tolist() == [[0, 0], [4, 4], [2, 5]]
    found = ranked(identity(), three_images(), criterion="area", quantile=0.5)
    threshold = found["threshold"][0]
    pixels = three_images().images.flatten(1)
    np.testing.assert_allclose(threshold, np.quantile(pixels, 0.5), rtol=1e-6)
    shares = (pixels > threshold).float().mean(1).numpy()
    order = sorted(range(3), key=lambda i: (-shares[i], i))
    assert found["image"][0].tolist() == order
    np.testing.assert_allclose(found["response"][0], shares[order])


def test_a_batch_may_have_no_image_that_can_be_read():
    """F32: the thresholds of area come from the others."""
    images = three_images()
    images.images[1] = np.nan
    found = ranked(identity(), images, criterion="area", batch_size=1)
    assert found["image"][0].tolist()[2] == -1 and sorted(found["image"][0].tolist()[:2]) == [0, 2]


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_any_batch_size_gives_the_full_sort(batch_size):
    """1.T2, against a sort of all responses with the tie rule."""
    torch.manual_seed(0)
    model = convnet.build(num_classes=8, written="class", input_size=32)
    dataset = shapes.build(size=32, count=50, split="test", seed=1, contrast=0.15, noise=0.02)
    found = ranked(model, dataset, layer="conv3", k=5, batch_size=batch_size, bottom=True)
    images = torch.stack([dataset[i][0] for i in range(50)])
    with torch.no_grad():
        x = torch.relu(model.conv2(torch.relu(model.conv1((images - 0.5) / 0.25))))
        maps = torch.relu(model.conv3(model.pool(x))).flatten(2).amax(2).numpy()
    for unit in np.flatnonzero(~found["dead"]):
        np.testing.assert_allclose(found["response"][unit], np.sort(maps[:, unit])[::-1][:5], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found["bottom_response"][unit], np.sort(maps[:, unit])[:5], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(maps[found["image"][unit], unit], found["response"][unit], rtol=1e-5, atol=1e-6)


def test_a_dead_unit_has_no_images():
    """F49: a rectifier behind a bias of -1e9."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU()).eval()
    nn.init.ones_(model[0].weight)
    model[0].bias.data = torch.tensor([0.0, -1e9])
    found = ranked(model, three_images())
    assert found["dead"].tolist() == [False, True]
    assert (found["image"][1] == -1).all()
    assert np.isnan(found["response"][1]).all()
    assert (found["picture"][1] == 255).all()


def test_equal_responses_go_by_index_for_a_hundred_thousand_images():
    """F50: whatever the batches."""
    images = torch.ones(1, 1, 1, 1).expand(100_000, 1, 1, 1)
    for batch_size in (999, 4096):
        assert ranked(identity(), given_images(images), k=4, batch_size=batch_size)["image"][0].tolist() == [0, 1, 2, 3]


def test_a_gabor_answers_most_to_the_grating_of_its_own_orientation():
    """1.T5: 8 Gabors; 8 gratings among 200 noise images of equal energy."""
    dataset = gratings.build(size=32, orientations=8, frequencies=[4.0], phases=1, contrasts=[1.0])
    waves = torch.stack([dataset[i][0] for i in range(len(dataset))])
    noise = torch.rand(200, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    noise = (noise - 0.5) / noise.std() * waves[0].std() + 0.5
    y, x = np.mgrid[-7:8, -7:8]
    model = nn.Sequential(nn.Conv2d(3, 8, 15, bias=False)).eval()
    for k in range(8):
        wave = waves[k, 0].numpy() - 0.5
        # the orientation is read off the picture itself: the direction in which it changes
        gy, gx = np.gradient(wave)
        angle = 0.5 * np.arctan2(2 * (gx * gy).sum(), (gx**2 - gy**2).sum())
        along = x * np.cos(angle) + y * np.sin(angle)
        gabor = np.exp(-(x**2 + y**2) / 18) * np.cos(2 * np.pi * 4 / 32 * along)
        model[0].weight.data[k] = torch.tensor(gabor - gabor.mean()).float()
    found = ranked(model, given_images(torch.cat([noise, waves])), k=1)
    assert (found["image"][:, 0] - 200).tolist() == list(range(8))


def test_pictures_are_the_images_and_crops_their_fields():
    """The picture of a unit's first image is that image; cropped, it is the field of the maximum."""
    images = np.random.default_rng(0).random((4, 1, 12, 12)).astype(np.float32)
    model = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False)).eval()
    nn.init.ones_(model[0].weight)
    whole = ranked(model, given_images(images), k=1)
    best = whole["image"][0, 0]
    np.testing.assert_array_equal(whole["picture"][0, 0], np.round(images[best] * 255).astype(np.uint8))
    cut = ranked(model, given_images(images), k=1, crop=True)
    y, x = whole["position"][0, 0]
    field = np.round(images[best, :, y : y + 3, x : x + 3] * 255)
    assert np.abs(cut["picture"][0, 0][:, ::4, ::4] - field).max() <= 1


def test_only_the_units_asked_for_are_kept():
    model = nn.Sequential(nn.Conv2d(1, 6, 1)).eval()
    every, some = ranked(model, three_images()), ranked(model, three_images(), units=[4, 1])
    np.testing.assert_array_equal(some["image"], every["image"][[4, 1]])


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="has units 0 to 0"):
        ranked(identity(), three_images(), units=[3])
    with pytest.raises(UserError, match="pages=2"):
        ranked(identity(), three_images(), pages=[2])
