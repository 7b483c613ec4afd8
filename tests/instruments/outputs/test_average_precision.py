"""Average precision against its definition, place by place, and a planted order."""

import numpy as np
import pytest

from cnnprobe.instruments.outputs.average_precision import all_present, average_precision


def by_hand(scores, present):
    """Mean over the images that have the class of the precision at their score, ties together."""
    found = []
    for score in scores[present]:
        reached = scores >= score
        found.append(present[reached].mean())
    return np.mean(found)


@pytest.mark.parametrize("ties", [False, True])
def test_it_is_the_mean_precision_at_each_image_that_has_the_class(ties):
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(40, 5))
    scores = np.round(scores) if ties else scores
    present = generator.random((40, 5)) < 0.3
    expected = [by_hand(one, there) for one, there in zip(scores.T, present.T)]
    assert average_precision(scores, present) == pytest.approx(expected)


def test_planted_orders():
    scores = np.arange(6.0)[:, None]
    assert average_precision(scores, np.array([[0, 0, 0, 1, 1, 1]]).T) == [1.0]
    assert average_precision(scores, np.array([[1, 0, 0, 0, 0, 0]]).T) == pytest.approx([1 / 6])
    assert average_precision(np.zeros((6, 1)), np.array([[1, 0, 0, 0, 1, 0]]).T) == pytest.approx([1 / 3])  # chance
    assert np.isnan(average_precision(scores, np.zeros((6, 1)))).all()


def test_all_classes_of_an_image_come_first():
    scores = np.array([[3.0, 2, 1], [3, 1, 2], [1, 1, 1], [1, 2, 3]])
    present = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    assert all_present(scores, present).tolist() == [True, False, False, True]
    assert all_present(np.ones((1, 3)), np.array([[1, 0, 0]])).tolist() == [True]  # of equal ones the first
