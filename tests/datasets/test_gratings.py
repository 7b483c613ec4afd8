import math

import numpy as np
import pytest
import torch

from cnnprobe.datasets.gratings import build
from cnnprobe.errors import UserError


def gratings(**options):
    return build(
        **{"size": 32, "orientations": 4, "frequencies": [2.0, 4.0], "phases": 2, "contrasts": [0.5, 1.0]} | options
    )


def test_all_combinations_are_there_once():
    dataset = gratings()
    factors = {tuple(row) for row in dataset.factors}
    assert len(dataset) == len(factors) == len(set(dataset.names)) == 4 * 2 * 2 * 2
    assert dataset.classes == ("0 degrees", "45 degrees", "90 degrees", "135 degrees")
    assert np.bincount(dataset.labels).tolist() == [8, 8, 8, 8]


def test_each_pixel_follows_the_formula():
    dataset = gratings(size=8)
    for index in (0, 13, 31):
        truth = {name: float(value) for name, value in dataset.truth(index).items()}
        angle = math.radians(truth["orientation"])
        assert truth["orientation"] == 45 * dataset.labels[index]
        image, label = dataset[index]
        assert label == dataset.labels[index]
        for y in range(8):
            for x in range(8):
                along = (x - 3.5) * math.cos(angle) + (y - 3.5) * math.sin(angle)
                wave = math.cos(2 * math.pi * truth["frequency"] * along / 8 + math.radians(truth["phase"]))
                expected = 0.5 + 0.5 * truth["contrast"] * wave
                assert image[:, y, x].tolist() == pytest.approx([expected] * 3, abs=1e-5)


def test_the_spectrum_peaks_at_the_frequency_asked():
    """Of a grating whose bars stand upright, cycles per image is the index of the peak along x."""
    dataset = gratings(frequencies=[6.0])
    spectrum = np.abs(np.fft.fft2(dataset[0][0][0].numpy() - 0.5))
    assert np.unravel_index(spectrum.argmax(), spectrum.shape) in {(0, 6), (0, 26)}


def test_a_matched_filter_prefers_its_own_grating():
    """With 8 orientations, correlation with grating k is largest for grating k, and larger than for noise as strong."""
    dataset = gratings(orientations=8, frequencies=[4.0], phases=1, contrasts=[1.0])
    images = dataset.load(range(8))[0].flatten(1) - 0.5
    noise = torch.randn(200, images.shape[1], generator=torch.Generator().manual_seed(0))
    noise *= images.norm(dim=1).mean() / noise.norm(dim=1, keepdim=True)
    responses = images @ torch.cat([images, noise]).T
    assert responses.argmax(dim=1).tolist() == list(range(8))


def test_a_frequency_that_the_pixels_cannot_show_is_refused():
    with pytest.raises(UserError, match=r"frequencies must be at most 16 cycles per image \(half of size 32\), got 17"):
        gratings(frequencies=[2.0, 17.0])


def test_more_gratings_than_a_run_has_names_for_are_refused():
    """F103: each option is possible by itself."""
    many = [contrast / 1000 for contrast in range(1, 1000)]
    with pytest.raises(UserError, match=r"frequencies, phases and contrasts make 129470400 images"):
        gratings(orientations=360, frequencies=[2.0], phases=360, contrasts=many)
