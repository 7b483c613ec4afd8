"""Peaks of curves over time: planted layers found in their order, and how sure that is."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from cnnprobe.methods.rsa.brain.peak_latency import latencies, order, peak_times
from cnnprobe.methods.rsa.comparing.comparison import compare
from cnnprobe.methods.rsa.comparing.inference import bootstrap

TIMES = np.arange(-100, 600, 5.0)


def planted(layers=8, conditions=60, noise=0.5, width=20, seed=0):
    """Dissimilarities over time in which that of layer l (1, 2, …) is mixed with a Gaussian round 80 + 30 l ms.

    Courses that overlap much, without noise, would move the peaks of the outermost layers outwards: a correlation is
    largest where no other layer is mixed in.
    """
    rng = np.random.default_rng(seed)
    models = np.stack([pdist(rng.normal(size=(conditions, 8))) for _ in range(layers)])
    centres = 80 + 30 * np.arange(1, layers + 1)
    course = np.exp(-(((TIMES[:, None] - centres) / width) ** 2) / 2)  # (time, layer)
    standard = (models - models.mean(1, keepdims=True)) / models.std(1, keepdims=True)
    series = course @ standard + noise * rng.normal(size=(len(TIMES), models.shape[1]))
    return models, series, centres


def test_planted_layers_peak_when_they_were_planted():
    models, series, centres = planted()
    curves = compare(models, series, "spearman")
    found = latencies(curves, np.empty((0, len(curves))), TIMES, 20)
    assert np.abs(found.latency - centres).max() <= 5
    assert found.order == 1
    assert np.isnan([*found.low, *found.high, found.order_low]).all()
    np.testing.assert_array_equal(found.peak, curves.max(1))


def test_the_interval_over_conditions_holds_the_truth():
    models, series, centres = planted(layers=4, noise=1.0)
    curves = compare(models, series, "pearson")
    drawn = np.stack(list(bootstrap(models, list(series[:, None]), "pearson", draws=60, over="conditions", seed=1)))
    found = latencies(curves, peak_times(drawn, TIMES), TIMES, 20)
    assert ((found.low <= centres) & (centres <= found.high)).sum() >= 3
    assert (found.low <= found.latency).all() and (found.latency <= found.high).all() and (found.high > found.low).any()
    assert found.order_low <= found.order <= found.order_high


def test_controls_have_a_latency_but_no_place_in_the_order():
    models, series, _ = planted(layers=4)
    curves = compare(models[[3, 0, 1, 2]], series, "pearson")
    none = np.empty((0, 4))
    assert latencies(curves, none, TIMES, 20).order < 1
    found = latencies(curves, none, TIMES, 20, np.array([False, True, True, True]))
    assert found.order == 1 and np.isfinite(found.latency).all()


def test_the_earliest_of_equal_peaks_and_curves_without_values():
    curves = np.array([[0.1, 0.5, 0.5, np.nan], [np.nan] * 4, [np.nan, -0.3, -0.2, -0.9]])
    np.testing.assert_array_equal(peak_times(curves, np.arange(4) * 10), [10, np.nan, 20])


def test_the_order_is_spearmans_and_undefined_where_latencies_are_equal():
    latency = np.array([120.0, 90, 150, 150, 200])
    assert order(latency) == pytest.approx(spearmanr(latency, np.arange(5)).statistic)
    with_gap = np.array([120.0, np.nan, 90, 150])
    assert order(with_gap) == pytest.approx(spearmanr([120, 90, 150], [0, 1, 2]).statistic)
    assert np.isnan(order(np.full(4, 80.0))) and np.isnan(order(np.array([80.0, 90])))
