"""What is read out of responses, where the answer is known: planted numbers in noise, components, classes."""

import numpy as np
import pytest

from cnnprobe.instruments.statistics.decoding import LEAST, PENALTIES, Reading, accuracy, r2
from cnnprobe.instruments.statistics.ridge import path


def test_a_planted_number_in_noise_is_read_out_as_far_as_the_noise_lets():
    """y = w'x + e: R² = var(w'x) / (var(w'x) + var(e)) = 0.8 for deviations 1 and 0.5."""
    random = np.random.default_rng(0)
    features = random.normal(size=(2000, 3))
    values = features @ [0.6, 0.8, 0.0] + 0.5 * random.normal(size=2000)
    score = r2(features, values, np.zeros(2000, int), Reading(draws=500))
    assert score[0].value == pytest.approx(0.8, abs=0.02) and score[0].images == 2000
    assert score[0].low < 0.8 < score[0].high and score[0].high - score[0].low < 0.05
    assert score[-1].value == score[0].value


@pytest.mark.parametrize("shape", [(30, 4), (12, 40)])
def test_predictions_are_those_of_the_normal_equations(shape):
    random = np.random.default_rng(5)
    known, new, values = random.normal(size=shape), random.normal(size=(3, shape[1])), random.normal(size=(shape[0], 2))
    x, y = known - known.mean(0), values - values.mean(0)
    for penalty, found in zip(PENALTIES, path(known, values, new, PENALTIES)):
        own = penalty * np.linalg.svd(x)[1][0] ** 2
        weights = np.linalg.solve(x.T @ x + own * np.eye(shape[1]), x.T @ y)
        assert np.allclose(found, values.mean(0) + (new - known.mean(0)) @ weights, rtol=1e-6, atol=1e-8)


def test_the_score_is_that_of_a_loop_over_the_images_held_out():
    random = np.random.default_rng(1)
    features, values = random.normal(size=(40, 4)), random.normal(size=40)
    values += features[:, 0]
    order, errors, spread = np.random.default_rng(7).permutation(40), 0.0, 0.0
    for fold in range(5):
        part = order[fold * 8 : (fold + 1) * 8]
        others = np.array([image for image in order if image not in part])
        within = np.zeros(len(PENALTIES))
        for own in np.array_split(np.arange(32), 5):
            rest = [place for place in range(32) if place not in own]
            shown = features[others[rest]], values[others[rest]][:, None], features[others[own]]
            found = np.stack(list(path(*shown, PENALTIES)))[:, :, 0]
            within += ((found - values[others[own]]) ** 2).sum(1)
        shown = features[others], values[others][:, None], features[part]
        best = next(path(*shown, PENALTIES[[within.argmin()]]))[:, 0]
        errors += ((values[part] - best) ** 2).sum()
        spread += ((values[part] - values[others].mean()) ** 2).sum()
    found = r2(features, values, np.zeros(40, int), Reading(seed=7))[0].value
    assert found == pytest.approx(1 - errors / spread, rel=1e-10)


@pytest.mark.parametrize("seed", range(6))
def test_rectified_units_that_few_images_drive_do_not_spoil_what_the_others_say(seed):
    """With a penalty by generalised cross-validation R² is -47 for one of these."""
    random = np.random.default_rng(seed)
    lying = random.normal(size=(100, 3))
    features = np.maximum(lying @ random.normal(size=(3, 60)) - 3.4, 0)
    assert 0.2 < r2(features, lying[:, 0], np.zeros(100, int), Reading())[0].value < 0.8


def test_components_are_the_directions_of_most_variance_whatever_they_say():
    random = np.random.default_rng(2)
    features = np.stack([10 * random.normal(size=200), random.normal(size=200)], 1)
    values, groups = features[:, 1], np.zeros(200, int)
    assert r2(features, values, groups, Reading())[0].value > 0.999
    assert r2(features, values, groups, Reading(components=1))[0].value < 0.05
    assert r2(features, features[:, 0], groups, Reading(components=1))[0].value > 0.999


def test_each_group_is_read_by_itself_and_their_mean_leaves_out_those_without_a_number():
    random = np.random.default_rng(3)
    features = random.normal(size=(150, 1))
    groups = np.repeat([0, 1, 2], 50)
    values = np.where(groups == 0, features[:, 0], -features[:, 0])  # one regression for both would fail
    values[groups == 2] = np.nan
    found = r2(features, values, groups, Reading())
    assert found[0].value > 0.999 and found[1].value > 0.999 and np.isnan(found[2].value)
    assert found[-1].value == pytest.approx((found[0].value + found[1].value) / 2) and not found[2].few
    few = np.where(np.arange(150) < LEAST - 1, values, np.nan)
    alone = r2(features, few, groups, Reading())
    assert np.isnan(alone[0].value) and alone[0].few and np.isnan(alone[-1].value)


def test_nothing_that_varies_has_no_score():
    same, other = np.ones((60, 2)), np.random.default_rng(0).normal(size=(60, 2))
    assert np.isnan(r2(same, np.arange(60.0), np.zeros(60, int), Reading())[-1].value)
    assert np.isnan(r2(other, np.ones(60), np.zeros(60, int), Reading())[0].value)
    assert np.isnan(accuracy(same, np.arange(60) % 2, Reading())[-1].value)


def test_classes_that_lie_apart_are_told_and_chance_is_the_largest():
    random = np.random.default_rng(4)
    labels = np.array([0] * 60 + [3] * 30 + [-1] * 10)
    features = random.normal(size=(100, 2)) * 0.1 + np.where(labels == 0, 1.0, -1.0)[:, None]
    found = accuracy(features, labels, Reading())
    assert (found[-1].value, found[0].value, found[3].value) == (1, 1, 1)
    assert found[-1].chance == pytest.approx(2 / 3) and found[-1].images == 90
    noise = accuracy(random.normal(size=(100, 2)), labels, Reading())
    assert noise[-1].value == pytest.approx(2 / 3, abs=0.1) and noise[3].value < 0.2
