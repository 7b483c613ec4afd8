"""Colours, range and amplitudes of images that were made to have them."""

import numpy as np
import pytest
import torch

from cnnprobe.instruments.images.batches import Batch
from cnnprobe.instruments.images.image_statistics import LUCID, Statistics, measured, root_of, unit_columns

ROOT = torch.tensor([[0.2, 0.05, 0.01], [0.2, 0.0, -0.03], [0.2, -0.05, 0.02]])


def loader(images, readable=None):
    readable = np.ones(len(images), bool) if readable is None else readable

    def load():
        for start in range(0, len(images), 4):
            part = slice(start, start + 4)
            indices = np.arange(len(images))[part]
            yield Batch(indices, images[part], np.full(len(indices), -1), readable[part])

    return load


def coloured(count=12, side=32):
    noise = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    return 0.4 + torch.einsum("ij,bj...->bi...", ROOT, noise)


def test_the_root_of_a_covariance_gives_it_back():
    covariance = (ROOT @ ROOT.T).double()
    root = root_of(covariance)
    torch.testing.assert_close(root @ root.T, covariance, rtol=1e-6, atol=1e-9)
    norms = root.norm(dim=0)
    assert (norms.diff() <= 0).all()
    assert unit_columns(root).norm(dim=0).max() == pytest.approx(1)


def test_colours_and_mean_are_those_of_the_images():
    found = measured(loader(coloured()), (3, 32, 32), amplitudes=False)
    np.testing.assert_allclose(found.mean, [0.4] * 3, atol=0.01)
    product = found.colours @ found.colours.T
    expected = ROOT @ ROOT.T
    torch.testing.assert_close(product / product[0, 0], expected / expected[0, 0], rtol=0.05, atol=0.05)
    assert (found.low, found.high, found.magnitude) == (0.0, 1.0, None)


def test_amplitudes_are_means_over_images_in_decorrelated_colours():
    images = coloured()
    found = measured(loader(images), (3, 32, 32), amplitudes=True)
    plain = torch.linalg.solve(found.colours, (images - found.mean[:, None, None]).flatten(2)).view_as(images)
    expected = np.mean([np.abs(np.fft.rfft2(image.numpy())) for image in plain], 0)
    np.testing.assert_allclose(found.magnitude, expected, rtol=1e-3, atol=1e-3)


def test_signals_have_the_range_of_their_values():
    signals = torch.randn(8, 2, 64, generator=torch.Generator().manual_seed(1)) * 20
    found = measured(loader(signals), (2, 64), amplitudes=True)
    assert (found.low, found.high) == (float(signals.min()), float(signals.max()))
    assert found.magnitude.shape == (2, 33)


def test_images_that_cannot_be_read_do_not_count():
    images = coloured()
    images[3] = 100
    readable = np.arange(12) != 3
    assert measured(loader(images, readable), (3, 32, 32), amplitudes=False).mean.max() < 0.5
    nothing = measured(loader(images, np.zeros(12, bool)), (3, 32, 32), amplitudes=True)
    assert torch.equal(nothing.mean, torch.full((3,), 0.5))


def test_a_grey_dataset_can_still_be_decorrelated():
    grey = torch.rand(4, 1, 16, 16).expand(4, 3, 16, 16)
    found = measured(loader(grey), (3, 16, 16), amplitudes=True)
    assert torch.isfinite(found.magnitude).all()
    assert torch.linalg.cond(found.colours) < 1e3
    flat = measured(loader(torch.full((4, 1, 8, 8), 0.3)), (1, 8, 8), amplitudes=True)
    assert torch.isfinite(flat.colours).all() and torch.isfinite(flat.magnitude).all()


def test_without_a_dataset_colours_are_lucids():
    plain = Statistics.plain(3)
    largest = np.linalg.norm(np.array(LUCID), axis=0).max()
    assert largest == pytest.approx(0.46195, abs=1e-5)
    np.testing.assert_allclose(plain.colours, np.array(LUCID) / largest, rtol=1e-5)
    assert torch.equal(Statistics.plain(2).colours, torch.eye(2))
