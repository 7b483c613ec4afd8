"""Ridge regression against closed formulas, scikit-learn, and plain loops over folds."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from cnnprobe.errors import UserError
from cnnprobe.instruments.statistics.ridge import PENALTIES, errors_within, readout, ridge

RNG = np.random.default_rng(0)


def noisy(images, count, units, noise=1.0):
    features = RNG.normal(size=(images, count)) * RNG.gamma(2, size=count) + RNG.normal(size=count)
    return features, features @ RNG.normal(size=(count, units)) + noise * RNG.normal(size=(images, units)) + 3


@pytest.mark.parametrize(("images", "count"), [(60, 7), (40, 39), (40, 40), (30, 200)])
def test_weights_are_those_of_the_closed_formula_and_of_sklearn_primal_and_dual(images, count):
    features, responses = noisy(images, count, 4)
    found = ridge(features, responses)
    x, y = features - features.mean(0), responses - responses.mean(0)
    for unit in range(4):
        penalty = found.penalty[unit]
        closed = np.linalg.solve(x.T @ x + penalty * np.eye(count), x.T @ y[:, unit])
        peer = Ridge(alpha=penalty, solver="svd").fit(features, responses[:, unit])
        np.testing.assert_allclose(found.weights[:, unit], closed, rtol=1e-6, atol=1e-7 * np.abs(closed).max())
        np.testing.assert_allclose(found.weights[:, unit], peer.coef_, rtol=1e-6, atol=1e-7 * np.abs(closed).max())
        np.testing.assert_allclose(found.bias[unit], peer.intercept_, rtol=1e-6)
        np.testing.assert_allclose(found.predict(features)[:, unit], peer.predict(features), rtol=1e-7)


def chosen(features, responses, shares):
    """Return the penalty of each unit, by a loop over folds with scikit-learn, as shares of the largest square."""
    errors = np.zeros((len(shares), responses.shape[1]))
    for out in np.array_split(np.arange(len(features)), 5):
        kept = np.delete(np.arange(len(features)), out)
        largest = np.linalg.svd(features[kept] - features[kept].mean(0), compute_uv=False)[0] ** 2
        for place, share in enumerate(shares):
            fit = Ridge(alpha=share * largest, solver="svd").fit(features[kept], responses[kept])
            errors[place] += ((fit.predict(features[out]) - responses[out]) ** 2).sum(0)
    return shares[errors.argmin(0)], errors


@pytest.mark.parametrize(("images", "count"), [(25, 6), (16, 40)])
def test_the_penalty_is_the_one_that_predicts_the_images_of_other_folds_best(images, count):
    features, responses = noisy(images, count, 5, noise=12.0)
    grid = np.logspace(-5, 2, 29)
    found = readout(features, responses, penalties=grid, seed=3)
    order = np.random.default_rng(3).permutation(images)
    best, errors = chosen(features[order], responses[order], grid)
    np.testing.assert_allclose(errors_within(features[order], responses[order], grid), errors, rtol=1e-6)
    largest = np.linalg.svd(features - features.mean(0), compute_uv=False)[0] ** 2
    np.testing.assert_allclose(found.penalty, best * largest)
    assert len(set(found.penalty)) > 1


@pytest.mark.parametrize("seed", range(6))
def test_rectified_units_that_few_images_drive_do_not_spoil_what_the_others_say(seed):
    """By generalised cross-validation two of these eighteen are below 0, one at -47."""
    random = np.random.default_rng(seed)
    lying = random.normal(size=(100, 3))
    features = np.maximum(lying @ random.normal(size=(3, 60)) - 3.4, 0)
    assert (ridge(features, lying).r2 > 0).all()


def test_held_out_r2_is_that_of_a_plain_loop_over_folds_inside_folds():
    features, responses = noisy(50, 8, 3, noise=3.0)
    features[:25] += 5  # images in the order of their classes, which folds must not follow
    found = ridge(features, responses, folds=5, seed=4)
    order = np.random.default_rng(4).permutation(50)
    errors = spread = 0
    for part in range(5):
        out = order[part * 10 : part * 10 + 10]
        kept = np.array([image for image in order if image not in out])
        best, _ = chosen(features[kept], responses[kept], PENALTIES)
        largest = np.linalg.svd(features[kept] - features[kept].mean(0), compute_uv=False)[0] ** 2
        for image in out:
            answer = [
                Ridge(alpha=p * largest).fit(features[kept], responses[kept, unit]).predict(features[[image]])[0]
                for unit, p in enumerate(best)
            ]
            errors = errors + (responses[image] - answer) ** 2
            spread = spread + (responses[image] - responses[kept].mean(0)) ** 2
    np.testing.assert_allclose(found.r2, 1 - errors / spread, rtol=1e-5)


def test_what_is_linear_is_predicted_and_what_is_noise_is_not():
    features = RNG.normal(size=(200, 30))
    responses = np.stack([features @ RNG.normal(size=30), RNG.normal(size=200)], 1)
    found = ridge(features, responses)
    assert found.r2[0] > 0.999999
    assert found.r2[1] < 0.1
    assert found.penalty[1] > found.penalty[0] * 1e3


def test_more_features_than_images_still_predict():
    """A response in three directions of the data's twenty, seen through 500 features."""
    hidden = RNG.normal(size=(120, 20))
    features = hidden @ RNG.normal(size=(20, 500))
    responses = hidden[:, :3] @ RNG.normal(size=(3, 2))
    assert (ridge(features, responses).r2 > 0.999).all()


def test_units_that_answer_all_images_alike_are_flagged():
    features, responses = noisy(30, 4, 4)
    responses[:, 1], responses[:, 2] = 0, 1e3 + 1e-4 * RNG.random(30)
    found = ridge(features, responses)
    assert found.constant.tolist() == [False, True, True, False]
    assert np.isnan(found.r2).tolist() == [False, True, True, False]
    assert not found.weights[:, [1, 2]].any()
    np.testing.assert_allclose(found.bias[[1, 2]], [0, 1e3], rtol=1e-6)


def test_the_result_is_the_same_for_units_together_and_alone_and_for_features_of_another_scale():
    features, responses = noisy(40, 60, 3)
    whole = ridge(features, responses)
    alone = ridge(features, responses[:, [1]])
    np.testing.assert_allclose(alone.weights[:, 0], whole.weights[:, 1], rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(alone.r2[0], whole.r2[1])
    scaled = ridge(1e4 * features, responses)
    np.testing.assert_allclose(scaled.weights * 1e4, whole.weights, rtol=1e-5, atol=1e-9)
    assert np.all(np.diff(PENALTIES) > 0)


def test_too_few_images_and_numbers_that_are_none_are_refused():
    features, responses = noisy(30, 4, 2)
    with pytest.raises(UserError, match=r"over 5 folds needs at least 10 readable images, got 9"):
        ridge(features[:9], responses[:9])
    assert ridge(features[:10], responses[:10]).weights.shape == (4, 2)
    with pytest.raises(UserError, match="responses are not finite for 1 images"):
        ridge(features, np.where(np.arange(30)[:, None] == 3, np.nan, responses))
    with pytest.raises(UserError, match="activations are not finite for 2 images"):
        ridge(np.where(np.arange(30)[:, None] > 27, np.inf, features), responses)
    with pytest.raises(UserError, match="all 4 features are the same for all 30 images"):
        ridge(np.ones((30, 4)), responses)
