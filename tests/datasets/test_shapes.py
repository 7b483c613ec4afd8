import numpy as np
import pytest
import torch

from cnnprobe.datasets.rendering.drawn import stream
from cnnprobe.datasets.shapes import CLASSES, SHAPES, background, build, coverage


def shapes(**options):
    return build(**{"size": 48, "count": 32, "split": "train", "seed": 0, "contrast": 0.15, "noise": 0.02} | options)


def test_images_are_float_from_0_to_1_and_classes_equally_frequent():
    dataset = shapes()
    images, readable = dataset.load(range(32))
    assert images.dtype == torch.float32 and tuple(images.shape) == (32, 3, 48, 48)
    assert images.min() >= 0 and images.max() <= 1 and readable.all()
    assert np.bincount(dataset.labels).tolist() == [4] * len(CLASSES)


def test_an_image_does_not_depend_on_its_batch_or_on_count():
    dataset = shapes()
    together = dataset.load([5, 3, 9])[0]
    alone = shapes(count=6).load([5])[0]
    assert torch.equal(together[0], alone[0])


def test_splits_and_seeds_give_other_images():
    images = [shapes(**options)[3][0] for options in ({}, {"split": "test"}, {"seed": 1})]
    assert not torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])
    assert len({shapes(**o).fingerprint for o in ({}, {"split": "test"}, {"seed": 1}, {"noise": 0.1})}) == 4


# Areas in units of the squared radius, by elementary geometry.
AREAS = {
    "disc": np.pi * 0.85**2,
    "ring": np.pi * (1 - 0.55**2),
    "triangle": 3 * np.sqrt(3) / 4,
    "square": 2.0,
    "star": 10 * 0.5 * 0.42 * np.sin(np.pi / 5),
    "cross": 2 * 1.9 * 0.6 - 0.6**2,
    "bar": 1.9 * 0.6,
}


@pytest.mark.parametrize("shape", AREAS)
def test_shapes_have_the_area_of_their_figure(shape):
    cover = coverage(shape, np.array([0.5, 0.5, 0.25, 0.7]), 200)
    assert cover.sum() / 50**2 == pytest.approx(AREAS[shape], rel=0.01)


@pytest.mark.parametrize("shape", CLASSES)
def test_shapes_stay_within_their_circle(shape):
    y, x = np.mgrid[-1.5:1.5:301j, -1.5:1.5:301j]
    assert not SHAPES[shape](x, y)[np.hypot(x, y) > 1.001].any()


def test_the_cue_is_where_the_image_differs_from_its_background():
    dataset = shapes(noise=0.0)
    for index in range(8):
        truth = dataset.truth(index)
        image = dataset[index][0].numpy()
        plain = background(48, 0.15, stream(0, 0, index, 1)).clip(0, 1)
        changed = np.abs(image - plain).max(axis=0) > 1e-6
        assert truth["cue"].any() and (changed | ~truth["cue"]).mean() > 0.98
        y, x = np.nonzero(changed)
        centre_x, centre_y, radius, _ = truth["place"]
        assert np.hypot(x + 0.5 - centre_x, y + 0.5 - centre_y).max() <= radius + 1


def test_the_background_has_the_spectrum_of_natural_images():
    """The slope of log amplitude over log frequency is -1."""
    grey = np.mean([background(64, 0.15, stream(seed)).mean(axis=0) - 0.5 for seed in range(1)], axis=0)
    amplitude = np.abs(np.fft.fft2(grey))
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
    use = (frequency > 0.03) & (frequency < 0.5)
    slope = np.polyfit(np.log(frequency[use]), np.log(amplitude[use]), 1)[0]
    assert slope == pytest.approx(-1, abs=0.1)
