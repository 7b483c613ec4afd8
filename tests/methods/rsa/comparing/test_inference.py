"""Bootstrap and permutation of conditions against brute force and rsatoolbox's rule; p is uniform where nothing is."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist

from cnnprobe.instruments.statistics.dissimilarity import square, upper
from cnnprobe.methods.rsa.comparing import inference as engine
from cnnprobe.methods.rsa.comparing.comparison import compare
from cnnprobe.methods.rsa.comparing.inference import bootstrap, false_discovery, permutation_p, similarities

RANDOM = np.random.default_rng(5)
CONDITIONS = 9


def matrices(count, seed=0, conditions=CONDITIONS):
    random = np.random.default_rng(seed)
    return np.stack([pdist(random.normal(size=(conditions, 5))) for _ in range(count)])


def test_subjects_of_a_reference_are_averaged():
    models, references = matrices(2), [matrices(3, 1), matrices(1, 2)]
    found = similarities(models, references, "spearman")
    for reference, subjects in enumerate(references):
        for model in range(2):
            each = [stats.spearmanr(models[model], subject).statistic for subject in subjects]
            assert np.isclose(found[model, reference], np.mean(each))


@pytest.mark.parametrize("comparison", ["spearman", "pearson", "kendall", "rho-a"])
def test_drawn_conditions_are_those_of_a_matrix_put_together_anew(comparison):
    """Copies of a condition side by side, their own pairs NaN, not 0."""
    models, references = matrices(2), [matrices(2, 1)]
    drawn = bootstrap(models, references, comparison, draws=5, over="conditions", seed=7)
    for draw, found in enumerate(drawn):
        chosen = np.random.default_rng([7, draw]).integers(CONDITIONS, size=CONDITIONS)
        sides = [square(side, np.nan)[:, chosen][:, :, chosen] for side in (models, references[0])]
        sides = [upper(np.where(chosen[:, None] == chosen, np.nan, side)) for side in sides]
        assert np.allclose(found, compare(*sides, comparison).mean(1, keepdims=True), atol=1e-12)


def test_drawn_subjects_are_averaged_as_often_as_they_are_drawn():
    models, references = matrices(2), [matrices(4, 1), matrices(1, 2)]
    each = compare(models, references[0], "pearson")
    means = {tuple(np.round(each[:, list(chosen)].mean(1), 9)) for chosen in np.ndindex(4, 4, 4, 4)}
    drawn = list(bootstrap(models, references, "pearson", draws=20, over="subjects", seed=1))
    assert all(tuple(np.round(one[:, 0], 9)) in means for one in drawn)
    assert len({float(one[0, 0]) for one in drawn}) > 5
    alone = similarities(models, references, "pearson")[:, 1]
    assert all(np.allclose(one[:, 1], alone) for one in drawn)  # a single subject stays


@pytest.mark.parametrize("comparison", ["spearman", "cosine", "kendall"])
def test_permutations_are_those_of_rows_and_columns_together(comparison, monkeypatch):
    models, reference = matrices(3), matrices(2, 1)
    models[0] = reference[0]
    expected = np.zeros(3)
    actual = compare(models, reference, comparison).mean(1)
    for draw in range(50):
        order = np.random.default_rng([4, draw]).permutation(CONDITIONS)
        permuted = upper(square(reference)[:, order][:, :, order])
        expected += compare(models, permuted, comparison).mean(1) >= actual - 1e-9  # equal ones count
    monkeypatch.setattr(engine, "PIECE", 300)  # several pieces
    found = permutation_p(models, reference, comparison, draws=50, seed=4)
    assert np.allclose(found, (1 + expected) / 51) and found[0] == 1 / 51


def test_conditions_that_a_layer_does_not_know_are_not_permuted():
    """F53: a dead pattern takes its row away; a dead layer has no p."""
    models, reference = square(matrices(3), np.nan), square(matrices(1, 1), np.nan)
    models[1, 4] = models[1, :, 4] = np.nan
    models[2] = np.nan
    found = permutation_p(upper(models), upper(reference), "spearman", draws=30, seed=0)
    rest = np.delete(np.arange(CONDITIONS), 4)
    smaller = (upper(side[:, rest][:, :, rest]) for side in (models[[1]], reference))
    assert found[1] == permutation_p(*smaller, "spearman", draws=30, seed=0)[0]
    assert np.isnan(found[2]) and np.isfinite(found[0])


def test_single_missing_pairs_are_left_out_of_every_permutation():
    models, reference = matrices(2), matrices(1, 1)
    models[0, 3] = np.nan
    found = permutation_p(models, reference, "spearman", draws=40, seed=0)
    assert found[1] == permutation_p(models[1:], reference, "spearman", draws=40, seed=0)[0]
    assert 0 < found[0] <= 1


def test_p_is_uniform_where_the_matrices_have_nothing_in_common():
    p = [
        permutation_p(matrices(1, 2 * run), matrices(1, 2 * run + 1), "spearman", draws=99, seed=run)[0]
        for run in range(400)
    ]
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.09
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_false_discovery_is_that_of_scipy():
    p = RANDOM.random((8, 3)) ** 3
    assert np.allclose(false_discovery(p), stats.false_discovery_control(p, axis=0))
    p[2, 1] = np.nan
    found = false_discovery(p)
    rest = np.delete(p[:, 1], 2)
    assert np.isnan(found[2, 1]) and np.allclose(np.delete(found[:, 1], 2), stats.false_discovery_control(rest))
