"""The images each unit responds to most."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import tap
from cnnprobe.instruments.ranking.top_k import CRITERIA, Ranker
from tests.support.networks import planted


def layer_of(channels, side):
    return find(planted.identity(channels), "conv1", (channels, side, side))[0]


def ranked(activations, k, criteria=CRITERIA, batch=3, order=None, **options):
    """Rank given activations (image, unit, y, x), in batches."""
    layer = layer_of(activations.shape[1], activations.shape[2])
    ranker = Ranker([layer], k, criteria, **options)
    order = torch.arange(len(activations)) if order is None else order
    for part in order.split(batch):
        ranker.begin(part.numpy())
        ranker.receive(layer, activations[part])
    return ranker


def sorted_fully(responses, k):
    """The same by sorting everything: larger first, then the smaller index."""
    indices = np.arange(len(responses))
    return np.stack([np.lexsort((indices, -responses[:, unit]))[:k] for unit in range(responses.shape[1])])


def test_maximum_and_mean_order_three_images_differently():
    """1.T1: a pixel of 10, a 4 x 4 block of 5, 0.6 everywhere; 8 x 8."""
    images = torch.zeros(3, 1, 8, 8)
    images[0, 0, 2, 3] = 10
    images[1, 0, 4:, 1:5] = 5
    images[2] = 0.6
    ranker = ranked(images, 3)
    expected = {
        "max": ([0, 1, 2], [10, 5, 0.6], [[2, 3], [4, 1], [0, 0]]),
        "mean": ([1, 2, 0], [1.25, 0.6, 0.15625], [[4, 1], [0, 0], [2, 3]]),
    }
    for criterion, (order, responses, positions) in expected.items():
        result = ranker.ranked("conv1", criterion)
        assert result.images.tolist() == [order] and result.positions.tolist() == [positions]
        np.testing.assert_allclose(result.responses, [responses], rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 7, 40])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_any_split_into_batches_gives_the_full_sort_bit_for_bit(batch, layout):
    """1.T2, with many ties: activations of few values."""
    generator = torch.Generator().manual_seed(0)
    activations = torch.randint(-2, 4, (40, 6, 5, 5), generator=generator).float().to(memory_format=layout)
    ranker = ranked(activations, 9, batch=batch, bottom=True)
    maps = activations.flatten(2).numpy()
    responses = {
        "max": maps.max(2),
        "mean": maps.sum(2) / np.float32(25),
    }
    for criterion, values in responses.items():
        for end, sign in (("top", 1), ("bottom", -1)):
            best = sorted_fully(values * sign, 9)
            result = ranker.ranked("conv1", criterion, end)
            assert np.array_equal(result.images, best)
            assert np.array_equal(result.responses, np.take_along_axis(values.T, best, 1))
            flat = maps.argmax(2).T
            places = np.take_along_axis(flat, best, 1)
            assert np.array_equal(result.positions, np.stack([places // 5, places % 5], axis=-1))


def test_batches_may_come_in_any_order():
    activations = torch.randint(0, 3, (30, 4, 3, 3), generator=torch.Generator().manual_seed(2)).float()
    forward = ranked(activations, 5, ["max", "mean"])
    shuffled = ranked(activations, 5, ["max", "mean"], order=torch.randperm(30))
    for criterion in ("max", "mean"):
        a, b = forward.ranked("conv1", criterion), shuffled.ranked("conv1", criterion)
        assert np.array_equal(a.images, b.images) and np.array_equal(a.positions, b.positions)


@pytest.mark.parametrize("threads", [1, 2])
def test_of_100_000_equal_images_the_first_are_taken(threads):
    """F50."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for batch in (64, 1000, 7777):
            result = ranked(torch.full((100_000, 1, 1, 1), 0.5), 9, ["max"], batch=batch).ranked("conv1", "max")
            assert result.images.tolist() == [list(range(9))]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_an_image_with_nan_or_inf_never_ranks_and_is_told(bad, caplog):
    """F48."""
    activations = torch.rand(8, 2, 3, 3)
    activations[5, 1, 2, 2] = bad
    ranker = ranked(activations, 8, ["max", "mean"])
    for criterion in ("max", "mean"):
        result = ranker.ranked("conv1", criterion)
        assert not (result.images == 5).any() and (result.images[:, -1] == -1).all()
        assert np.isnan(result.responses[:, -1]).all() and (result.positions[:, -1] == -1).all()
    assert ranker.unfit == {"conv1": [5]}
    assert "layer conv1: NaN or Inf in the activation of 1 of 3 images (first: image 5)" in caplog.text


def test_a_dead_unit_has_no_images():
    """F49: a rectifier behind a bias of -1e9. A unit that answers all images alike is not dead."""
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU()).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 1, 0]).reshape(3, 1, 1, 1))
        model[0].bias.copy_(torch.tensor([0, -1e9, 0.7]))
    layers = find(model, "conv1", (1, 4, 4))
    ranker = Ranker(layers, 2)
    with tap(model, layers, ranker.receive) as run:
        ranker.begin([0, 1, 2])
        run(torch.rand(3, 1, 4, 4))
    result = ranker.ranked("conv1", "max")
    assert ranker.dead("conv1").tolist() == [False, True, False]
    assert result.images[1].tolist() == [-1, -1] and np.isnan(result.responses[1]).all()
    assert result.images[2].tolist() == [0, 1]


def test_more_ranks_than_images_and_images_that_could_not_be_read():
    layer = layer_of(1, 2)
    ranker = Ranker([layer], 4)
    ranker.begin(np.array([3, 4, 5]), np.array([True, False, True]))
    ranker.receive(layer, torch.tensor([1.0, 9, 2]).reshape(3, 1, 1, 1).expand(3, 1, 2, 2))
    assert ranker.ranked("conv1", "max").images.tolist() == [[5, 3, -1, -1]]
    assert ranker.unfit == {}


def test_dense_layers_have_no_position():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    layers = find(model, "1", (1, 2, 2))
    ranker = Ranker(layers, 2)
    images = torch.rand(5, 1, 2, 2)
    with torch.no_grad(), tap(model, layers, ranker.receive) as run:
        ranker.begin(range(5))
        run(images)
        best = model(images).argmax(0)
    result = ranker.ranked("1", "max")
    assert result.positions.shape == (3, 2, 0) and result.images[:, 0].tolist() == best.tolist()


def test_gabor_filters_answer_most_to_gratings_of_their_own_orientation():
    """1.T5: 8 filters, 8 gratings, 200 noise images of the same energy."""
    y, x = torch.meshgrid(torch.arange(-7.0, 8), torch.arange(-7.0, 8), indexing="ij")
    angles = torch.arange(8) * torch.pi / 8
    waves = [torch.cos(torch.pi / 2 * (x * angle.cos() + y * angle.sin())) for angle in angles]
    gabors = torch.stack([wave * torch.exp(-(x**2 + y**2) / 18) for wave in waves])
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    gratings = torch.stack([torch.cos(torch.pi / 2 * (x * angle.cos() + y * angle.sin())) for angle in angles])
    images = torch.cat([gratings, torch.randn(200, 32, 32, generator=torch.Generator().manual_seed(0))])[:, None]
    images = images / images.square().mean((1, 2, 3), keepdim=True).sqrt()
    model = nn.Sequential(nn.Conv2d(1, 8, 15, bias=False), nn.ReLU()).eval()
    model[0].weight.data = gabors[:, None] / gabors.square().sum((1, 2)).sqrt()[:, None, None, None]
    layers = find(model, "conv1", (1, 32, 32))
    ranker = Ranker(layers, 1)
    with tap(model, layers, ranker.receive) as run:
        for start in range(0, 208, 50):
            ranker.begin(np.arange(start, min(208, start + 50)))
            run(images[start : start + 50])
    assert ranker.ranked("conv1", "max").images[:, 0].tolist() == list(range(8))
