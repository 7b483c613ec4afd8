"""Intervals of similarities: of subjects those of SciPy's t, of conditions by plain loops."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist

from cnnprobe.instruments.statistics.dissimilarity import square, upper
from cnnprobe.methods.rsa.comparing.comparison import compare
from cnnprobe.methods.rsa.comparing.inference import bootstrap
from cnnprobe.methods.rsa.comparing.uncertainty import Uncertainty, resampled_interval

CONDITIONS = 9


def matrices(count, seed=0, conditions=CONDITIONS):
    random = np.random.default_rng(seed)
    return np.stack([pdist(random.normal(size=(conditions, 5))) for _ in range(count)])


def uncertainty(models, references, over, comparison="pearson", draws=60, seed=3):
    found = Uncertainty(models, references, comparison, draws=draws, over=over, seed=seed)
    assert sum(1 for _ in found.work()) == found.steps
    return found


def test_over_subjects_they_are_students_t():
    """F99: of 4 subjects as of many; of similarities on Fisher's scale, of differences as they are."""
    models, reference = matrices(2), matrices(4, 1)
    each = compare(models, reference, "pearson")
    low, high = uncertainty(models, [reference], "subjects").intervals()
    mean, error = each.mean(1), each.std(1, ddof=1) / 2
    reach = stats.t.ppf(0.975, 3) * error / (1 - mean**2)
    np.testing.assert_allclose(low[:, 0], np.tanh(np.arctanh(mean) - reach))
    np.testing.assert_allclose(high[:, 0], np.tanh(np.arctanh(mean) + reach))
    low, high, p = uncertainty(models, [reference], "subjects").differences(np.array([0]), np.array([1]))
    test = stats.ttest_rel(*each)
    assert p[0, 0] == pytest.approx(test.pvalue)
    assert (low[0, 0], high[0, 0]) == pytest.approx(tuple(test.confidence_interval()))


def test_over_conditions_pairs_are_counted_once():
    """F99: twice the jackknife less the bootstrap, each by brute force: matrices put together anew."""
    models, reference = matrices(2), matrices(1, 1)
    found = uncertainty(models, [reference], "conditions")
    whole = [square(side) for side in (models, reference)]
    left = []
    for one in range(CONDITIONS):
        rest = np.delete(np.arange(CONDITIONS), one)
        left.append(compare(*(upper(side[:, rest][:, :, rest]) for side in whole), "pearson")[:, 0])
    jackknife = (CONDITIONS - 1) ** 2 / CONDITIONS * np.var(left, 0, ddof=1)
    given = {"draws": 60, "over": "conditions", "seed": 3}
    again = np.var([one[:, 0] for one in bootstrap(models, [reference], "pearson", **given)], 0, ddof=1)
    variance = np.maximum(2 * jackknife - again, again / 3)
    value = compare(models, reference, "pearson")[:, 0]
    reach = stats.t.ppf(0.975, CONDITIONS - 1) * np.sqrt(variance) / (1 - value**2)
    np.testing.assert_allclose(found.intervals()[1][:, 0], np.tanh(np.arctanh(value) + reach))


def test_what_both_samples_add_is_wider_than_either():
    models = matrices(1)
    references = [models * 0.5 + matrices(6, 3)]
    widths = {}
    for over in ("conditions", "subjects", "both"):
        low, high = uncertainty(models, references, over, draws=300).intervals()
        widths[over] = (high - low)[0, 0]
    assert widths["both"] > widths["subjects"] > 0 and widths["conditions"] > 0


def test_there_is_no_interval_where_nothing_is_known():
    """F99: one subject, too few conditions, no draws, a dead layer."""
    models, one, several = matrices(2), matrices(1, 1), matrices(3, 2)
    low, high = uncertainty(models, [one, several], "subjects").intervals()
    assert np.isnan(low[:, 0]).all() and np.isnan(high[:, 0]).all() and (low[:, 1] < high[:, 1]).all()
    both = uncertainty(models, [one, several], "both").intervals()
    np.testing.assert_allclose(both[0][:, 0], uncertainty(models, [one], "conditions").intervals()[0][:, 0])
    few = uncertainty(matrices(2, 0, 4), [matrices(1, 1, 4)], "conditions")
    none = uncertainty(models, [one], "conditions", draws=0)
    dead = uncertainty(np.stack([models[0], np.full(len(models[0]), np.nan)]), [one], "conditions")
    for found in (few, none):
        assert np.isnan(found.intervals()).all()
        assert np.isnan(found.differences(np.array([0]), np.array([1]))).all()
    assert np.isfinite(dead.intervals()[0][:, 0]).tolist() == [True, False]
    assert np.isnan(dead.differences(np.array([0]), np.array([1]))).all()


def test_the_same_matrix_is_surely_the_same():
    models = matrices(1)
    low, high = uncertainty(models, [models], "conditions").intervals()
    assert low[0, 0] == pytest.approx(1) and high[0, 0] == pytest.approx(1)


def test_many_differences_are_taken_in_pieces(monkeypatch):
    models, reference = matrices(5), matrices(3, 1)
    first, second = np.triu_indices(5, 1)
    whole = uncertainty(models, [reference], "both").differences(first, second)
    monkeypatch.setattr("cnnprobe.methods.rsa.comparing.uncertainty.PIECE", 1)
    np.testing.assert_allclose(uncertainty(models, [reference], "both").differences(first, second), whole)


def test_a_statistic_of_few_subjects_has_a_wide_interval_within_its_range():
    """F99: the bootstrap's deviation as that of n - 1, times Student's t; one subject has none."""
    drawn = np.random.default_rng(0).normal(100, 10, (500, 2))
    drawn[:, 1] = np.nan
    low, high = resampled_interval(np.array([100.0, 100.0]), drawn, 4, 0, 120)
    reach = stats.t.ppf(0.975, 3) * drawn[:, 0].std(ddof=1) * np.sqrt(4 / 3)
    assert low[0] == pytest.approx(100 - reach) and high[0] == 120 and np.isnan([low[1], high[1]]).all()
    assert np.isnan(resampled_interval(np.array([100.0]), drawn[:, :1], 1, 0, 120)).all()
