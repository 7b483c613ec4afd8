"""A readout fitted anew: on planted features, against scikit-learn, and where nothing can be said."""

import numpy as np
import pytest

from cnnprobe.methods.transfer.recoverable import refitted_accuracy


def clouds(count=300, apart=1.0, classes=3, seed=0):
    """Return Gaussian clouds, one a class, in 6 dimensions."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % classes)
    centres = apart * np.linalg.qr(rng.normal(size=(6, 6)))[0][:classes]
    return centres[labels] + 0.5 * rng.normal(size=(count, 6)), labels


def test_what_is_there_is_found_wherever_it_lies():
    """A turned, stretched and shifted body has lost nothing, whatever its old readout says."""
    features, labels = clouds(apart=4.0)
    assert refitted_accuracy(features, labels, 0) == 1
    turned = features @ np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0] * 30 + 7
    assert refitted_accuracy(turned, labels, 0) == 1


def test_noise_gives_chance():
    features, labels = clouds(900, apart=0.0)
    assert refitted_accuracy(features, labels, 0) == pytest.approx(1 / 3, abs=0.05)


def test_as_the_ridge_classifier_of_scikit_learn_over_folds():
    linear_model, selection = (pytest.importorskip(f"sklearn.{name}") for name in ("linear_model", "model_selection"))
    features, labels = clouds(600)
    folds = selection.StratifiedKFold(5, shuffle=True, random_state=0)
    model = linear_model.RidgeClassifierCV(alphas=np.logspace(-4, 4, 20))
    expected = selection.cross_val_score(model, features, labels, cv=folds).mean()
    assert 0.6 < expected < 0.99
    assert refitted_accuracy(features, labels, 0) == pytest.approx(expected, abs=0.02)


def test_where_nothing_can_be_said_it_is_not_a_number():
    features, labels = clouds(30)
    assert np.isnan(refitted_accuracy(features, np.arange(30), 0))  # one image a class
    assert np.isnan(refitted_accuracy(features, np.zeros(30, int), 0))
    assert np.isnan(refitted_accuracy(features, np.full(30, -1), 0))
    assert np.isnan(refitted_accuracy(features[:9], labels[:9], 0))
    assert np.isnan(refitted_accuracy(np.ones((30, 4)), labels, 0))
    features[3, 2] = np.inf
    assert np.isnan(refitted_accuracy(features, labels, 0))


def test_images_of_rare_classes_and_of_none_are_left_out():
    features, labels = clouds(60)
    more = np.concatenate([features, 100 + features[:2]])
    assert refitted_accuracy(more, np.append(labels, [7, -1]), 0) == refitted_accuracy(features, labels, 0)
