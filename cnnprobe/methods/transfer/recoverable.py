"""The part of an old task that is recoverable from a body that has learned another: what a new readout gets right."""

import numpy as np

from cnnprobe.instruments.statistics.ridge import readout

FOLDS = 5


def refitted_accuracy(features: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """Return how many images a linear readout answers right that was fitted to the others.

    The images of each class are dealt into 5 parts; each part is answered by the ridge regression of the classes, one
    output each, on the features of the other parts. What the old readout no longer reads but this one does was not
    lost, only moved.

    Args:
        features: (image, f), what enters the readout.
        labels: (image,) index of the class.
        seed: of the parts.

    Returns:
        NaN where less than two classes have two images or more (the others are left out), where there are fewer than
        10 images, or where the features are the same for all images or not finite.
    """
    known, counts = np.unique(labels[labels >= 0], return_counts=True)
    classes = known[counts > 1]
    kept = np.isin(labels, classes)
    features, labels = np.asarray(features, np.float64)[kept], labels[kept]
    rng = np.random.default_rng(seed)
    part = np.empty(len(labels), int)
    for label in classes:
        own = np.flatnonzero(labels == label)
        part[own] = rng.permutation(len(own)) % FOLDS
    if len(classes) < 2 or len(labels) < 10 or not np.isfinite(features).all():
        return float("nan")
    target, right = (labels[:, None] == classes).astype(float), 0
    for fold in range(FOLDS):
        learned, asked = part != fold, part == fold
        if not np.ptp(features[learned], axis=0).any():
            return float("nan")
        answers = readout(features[learned], target[learned], seed=seed).predict(features[asked]).argmax(1)
        right += int((classes[answers] == labels[asked]).sum())
    return right / len(labels)
