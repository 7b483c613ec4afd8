import numpy as np
import pytest
from matplotlib.path import Path as Curve

from cnnprobe.datasets.base.collections.objects import Objects, Outlines, filled


def test_filled_has_the_px_whose_centres_lie_inside():
    random = np.random.default_rng(0)
    y, x = np.mgrid[:13, :17]
    centres = np.column_stack([x.ravel() + 0.5, y.ravel() + 0.5])
    for corners in (3, 4, 7) * 20:
        angle = np.sort(random.uniform(0, 2 * np.pi, corners))  # a star-shaped polygon, partly outside
        radius = random.uniform(2, 14, corners)
        polygon = np.column_stack([8 + radius * np.cos(angle), 6 + radius * np.sin(angle)])
        inside = Curve(polygon).contains_points(centres).reshape(13, 17)
        assert np.array_equal(filled(polygon, (13, 17)), inside)


def test_a_rectangle_on_whole_px_is_filled_exactly():
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:7] = True
    assert np.array_equal(filled(np.array([[2, 1], [7, 1], [7, 4], [2, 4]]), (6, 8)), expected)
    assert not filled(np.array([[2.0, 1.0], [7.0, 1.0]]), (6, 8)).any()
    assert not filled(np.zeros((0, 2)), (6, 8)).any()


@pytest.fixture
def objects():
    """Image 0: two equal objects, of classes 2 and 1; image 1: none; image 2: class 0, small, and 3 twice."""
    boxes = np.array([[0, 0, 4, 4], [0, 0, 8, 8], [4, 4, 8, 8], [2, 10, 6, 14], [0, 0, 4, 2]], float)
    images, classes = np.array([0, 2, 0, 2, 2]), np.array([2, 3, 1, 0, 3])
    areas = np.array([16, 64, 16, 16, 70])
    corners = np.concatenate([[(x, y), (end, y), (end, low), (x, low)] for y, x, low, end in boxes])
    outlines = Outlines(np.arange(5), 4 * np.arange(1, 6), corners.astype(np.float32))
    return Objects(images, classes, boxes, areas, outlines=outlines)


def test_the_largest_object_gives_the_class_and_of_equal_ones_the_first(objects):
    assert objects.largest(4).tolist() == [2, -1, 3, -1]


def test_truth_follows_scaling_and_cropping(objects):
    known = objects.truth(2, 3, source=(8, 16), size=(16, 16), resize=None)  # scaled by 2, 8 px cut off each side
    assert known["boxes"].tolist() == [[0, 0, 16, 8]]  # the other lies in what is cut off
    expected = np.zeros((16, 16), bool)
    expected[:16, :8] = True
    assert np.array_equal(known["cue"], expected)
    whole = objects.truth(2, 3, source=(8, 16), size=(8, 16), resize=None)
    assert whole["boxes"].tolist() == [[0, 0, 8, 8], [0, 0, 4, 2]]
    nothing = objects.truth(1, 0, source=(8, 16), size=(8, 16), resize=None)
    assert nothing["boxes"].shape == (0, 4) and not nothing["cue"].any()


def test_shares_of_the_image_become_px():
    boxes = np.array([[0.25, 0.0, 0.75, 0.5]])
    one = Objects(np.array([0]), np.array([5]), boxes, np.array([0.25]), shares=True)
    known = one.truth(0, 5, source=(40, 80), size=(20, 20), resize=None)  # scaled to 20 x 40, 10 px cut off each side
    assert known == {"boxes": pytest.approx(np.array([[5, 0, 15, 10]]))}
