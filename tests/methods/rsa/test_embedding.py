"""Points in a plane: found again, no worse than scikit-learn's, turned alike, and left out where unknown (F53)."""

import warnings

import numpy as np
from scipy.spatial.distance import pdist, squareform

from cnnprobe.methods.rsa.embedding import classical, embed, turned

RANDOM = np.random.default_rng(0)
POINTS = RANDOM.normal(size=(12, 2)) * [3, 1]


def distances(points):
    return squareform(pdist(points))


def test_points_of_a_plane_are_found_again():
    found = embed(distances(POINTS))
    assert np.allclose(distances(found.points), distances(POINTS), atol=1e-6) and found.stress < 1e-6


def test_stress_is_as_low_as_that_of_scikit_learn():
    from sklearn.manifold import MDS

    target = distances(RANDOM.normal(size=(30, 10)))
    found = embed(target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peers = [MDS(2, dissimilarity="precomputed", n_init=4, random_state=seed, eps=1e-9).fit(target).stress_
                 for seed in range(3)]  # fmt: skip
    misfit = np.square(target - distances(found.points))[np.triu_indices(30, 1)].sum()
    assert misfit <= 1.05 * min(peers)
    assert np.isclose(found.stress, np.sqrt(misfit / np.square(pdist_of(target)).sum()))
    start = np.square(target - distances(classical(target)))[np.triu_indices(30, 1)].sum()
    assert misfit < 0.8 * start


def pdist_of(matrix):
    return matrix[np.triu_indices(len(matrix), 1)]


def test_the_longest_axis_lies_level():
    found = embed(distances(POINTS)).points
    assert np.allclose(found.mean(0), 0, atol=1e-9) and np.ptp(found[:, 0]) > np.ptp(found[:, 1])
    assert abs((found[:, 0] * found[:, 1]).sum()) < 1e-6


def test_an_embedding_is_turned_and_mirrored_to_lie_like_another():
    angle = 1.1
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centred = POINTS - POINTS.mean(0)
    assert np.allclose(turned(centred @ rotation * [1, -1] @ rotation, centred), centred)
    found = embed(distances(POINTS), like=centred)
    assert np.allclose(found.points, centred, atol=1e-5)


def test_conditions_without_dissimilarities_are_left_out():
    matrix = distances(POINTS)
    matrix[4] = matrix[:, 4] = np.nan
    found = embed(matrix).points
    assert np.isnan(found[4]).all()
    rest = np.delete(np.arange(12), 4)
    assert np.allclose(distances(found[rest]), distances(POINTS[rest]), atol=1e-6)
    assert np.isnan(embed(np.full((5, 5), np.nan)).points).all() and np.isnan(embed(np.zeros((5, 5))).stress)


def test_negative_dissimilarities_count_as_none():
    matrix = distances(POINTS)
    matrix[0, 1] = matrix[1, 0] = -0.2
    level = matrix.clip(0)
    assert np.array_equal(embed(matrix).points, embed(level).points)


def test_rounding_of_what_is_placed_hardly_moves_a_point():
    """F98: a processor that rounds otherwise places the same; where the descent is stopped early, it does not."""
    random = np.random.default_rng(1)
    for _ in range(8):
        target = distances(random.normal(size=(24, 10)))
        noise = random.normal(size=target.shape) * 1e-7 * target
        one, other = embed(target).points, embed(target + (noise + noise.T) / 2).points
        assert np.abs(turned(other, one) - one).max() <= 1e-5 * np.abs(one).max()
        nearby = [np.square(target - distances(one + random.normal(size=one.shape) * 1e-4)).sum() for _ in range(50)]
        assert np.square(target - distances(one)).sum() < min(nearby)
