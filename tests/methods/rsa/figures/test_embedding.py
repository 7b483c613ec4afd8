"""Stimuli drawn at their places."""

import numpy as np

from cnnprobe.methods.rsa.figures.embedding import embedding_panels
from cnnprobe.plots import style

POINTS = np.random.default_rng(0).normal(size=(7, 2))
PICTURES = np.random.default_rng(1).integers(0, 255, (7, 3, 12, 8), np.uint8)


def test_every_picture_stands_at_its_point_in_its_own_proportions():
    points = POINTS.copy()
    points[3] = np.nan
    made = embedding_panels([points], [0.1234], ["conv1"], PICTURES, "title")
    ax = made.axes[0]
    places = []
    for image in ax.get_images():
        left, right, bottom, top = image.get_extent()
        places.append(((left + right) / 2, (bottom + top) / 2))
        assert np.isclose((top - bottom) / (right - left), 12 / 8)
    assert np.allclose(sorted(places), sorted(map(tuple, np.delete(points, 3, 0))))
    assert ax.get_title() == "conv1, stress 0.123"
    low, high = np.transpose([ax.get_xlim(), ax.get_ylim()])
    assert (np.array(places) > low).all() and (np.array(places) < high).all()
    assert style.png(made)


def test_without_pictures_there_are_names():
    made = embedding_panels([POINTS, POINTS * 2], [0.1, 0.2], ["a", "b"], None, "title", list("tuvwxyz"))
    assert [text.get_text() for text in made.axes[1].texts] == list("tuvwxyz")
    made = embedding_panels([POINTS], [0.1], ["a"], PICTURES[:2], "title")  # pictures of some only
    assert [text.get_text() for text in made.axes[0].texts] == list("0123456") and not made.axes[0].get_images()


def test_a_system_without_dissimilarities_says_so():
    made = embedding_panels([np.full((7, 2), np.nan)], [np.nan], ["dead"], PICTURES, "title")
    assert [text.get_text() for text in made.axes[0].texts] == ["no dissimilarities"]
    assert style.png(made)
