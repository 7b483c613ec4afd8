"""Directions in which capsules of a class are moved: its dimensions, or the principal components over images.

A network that tells a handful of things of a shape uses a handful of directions, and these lie along no dimension. With
v the capsules (image, dimension) of images whose longest capsule it is, the components are the eigenvectors d of

    sum over images of (v - mean v)(v - mean v)' / images

most spread first; the spread of one is the root of its eigenvalue. The largest number of each is made positive.
"""

import numpy as np

from cnnprobe.store.unfinished import State, put


class Spread:
    """What is known of the capsules of each class from the images so far.

    Args:
        classes: how many.
        size: dimensions of a capsule.
    """

    def __init__(self, classes: int, size: int):
        self.sums = {
            "count": np.zeros(classes),
            "first": np.zeros((classes, size)),
            "second": np.zeros((classes, size, size)),
        }

    def add(self, capsules: np.ndarray) -> None:
        """Take the longest capsule of each image, of (image, class, dimension)."""
        capsules = capsules.astype(np.float64)
        known = np.isfinite(capsules).all((1, 2))
        own = np.linalg.norm(capsules[known], axis=2).argmax(1)
        for label, one in zip(own, capsules[known][np.arange(len(own)), own]):
            self.sums["count"][label] += 1
            self.sums["first"][label] += one
            self.sums["second"][label] += np.outer(one, one)

    def take(self) -> State:
        """Return what can be kept."""
        return self.sums

    def restore(self, state: State) -> None:
        """Go on from what was kept."""
        put(self.sums, state)

    def components(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """Return directions (component, dimension) of a class, and the spread (component,) along each.

        NaN where less than two images have it longest.
        """
        count, size = self.sums["count"][label], self.sums["first"].shape[1]
        if count < 2:
            return np.full((size, size), np.nan), np.full(size, np.nan)
        mean = self.sums["first"][label] / count
        values, vectors = np.linalg.eigh(self.sums["second"][label] / count - np.outer(mean, mean))
        axes = vectors.T[::-1]
        largest = axes[np.arange(size), np.abs(axes).argmax(1)]
        return axes * np.sign(largest)[:, None], np.sqrt(np.maximum(values[::-1], 0))


def dimensions(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the dimensions themselves as directions, (dimension, dimension); their spread is not known."""
    return np.eye(size), np.full(size, np.nan)
