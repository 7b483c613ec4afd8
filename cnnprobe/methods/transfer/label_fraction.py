"""A share of the labels of a dataset: evenly over the classes, and smaller shares inside larger ones."""

import numpy as np

from cnnprobe.datasets.base.imageset import ImageSet


def label_fraction(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose images so that every class keeps the same share of its own, at least one.

    Of each class the first images of an order drawn from (seed, class) are taken: 1 % is part of 3 %, and what is
    chosen of one class does not depend on the others.

    Args:
        labels: (image,) index of the class; images of no class (-1) are never chosen.
        fraction: share of the images, more than 0, at most 1.
        seed: another one, other images.

    Returns:
        (chosen,) indices of images, rising.
    """
    chosen = []
    for label in np.unique(labels[labels >= 0]):
        own = np.flatnonzero(labels == label)
        order = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 1, int(label)])).permutation(own)
        # rounded first: 0.29 of 100 images are 29, though 0.29 * 100 is a little less in floating point
        chosen.append(order[: max(1, int(np.floor(round(fraction * len(own), 9) + 0.5)))])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)


def image_fraction(dataset: ImageSet, fraction: float, seed: int) -> np.ndarray:
    """Choose a share of the images of a task, see `label_fraction`.

    Where what is learned are no classes of images (masks, several classes, courses), images without a label are as one
    class more: they are chosen by number.

    Args:
        dataset, fraction, seed: see `label_fraction`.
    """
    labels = dataset.labels
    if dataset.target.kind != "class":
        labels = np.where(labels < 0, labels.max(initial=-1) + 1, labels)
    return label_fraction(labels, fraction, seed)
