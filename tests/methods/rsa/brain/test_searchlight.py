"""Searchlights beside a loop over spheres, beside rsatoolbox, and where a pattern was planted."""

import warnings
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr, rankdata, spearmanr

from cnnprobe.errors import UserError
from cnnprobe.instruments.statistics.dissimilarity import METRICS
from cnnprobe.methods.rsa.brain.searchlight import COMPARISONS, Searchlight, ranks, searchlight, sphere


def volume(shape=(6, 7, 5), conditions=7, seed=0):
    return np.random.default_rng(seed).normal(10, 1, (*shape, conditions)).astype(np.float32)


def models(conditions=7, layers=3, seed=1):
    patterns = np.random.default_rng(seed).normal(size=(layers, conditions, 4))
    return np.stack([pdist(one) for one in patterns])


@pytest.mark.parametrize("closed, counts", [(True, [7, 33, 123, 257, 515]), (False, [1, 27, 93, 251, 485])])
def test_voxels_of_spheres(closed, counts):
    assert [len(sphere(radius, closed=closed)) for radius in range(1, 6)] == counts


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("radius, sides", [(6, (2, 2, 3)), (4.5, (1.5, 3.0, 4.5)), (2.1, (0.7, 0.7, 0.7))])
def test_a_sphere_in_mm_follows_the_sides_of_the_voxels(closed, radius, sides):
    """Each side as a file holds it, as float32: 3 x 0.7 mm are 2.1 mm."""
    found = sphere(radius, tuple(np.float32(side).item() for side in sides), closed)
    tenths = [round(10 * side) for side in sides]
    limit = round(10 * radius) ** 2
    expected = {
        (x, y, z)
        for x in range(-9, 10)
        for y in range(-9, 10)
        for z in range(-9, 10)
        if (square := (x * tenths[0]) ** 2 + (y * tenths[1]) ** 2 + (z * tenths[2]) ** 2) < limit
        or (closed and square == limit)
    }
    assert set(map(tuple, found.tolist())) == expected and len(found) == len(expected)


def looped(patterns, mask, references, steps, metric, comparison, threshold):
    """The same by hand, one sphere at a time."""
    found = np.full((len(references), *mask.shape), np.nan)
    for centre in np.argwhere(mask):
        voxels = [tuple(v) for v in centre + steps if (v >= 0).all() and (v < mask.shape).all()]
        inside = [v for v in voxels if mask[v]]
        if len(inside) / len(voxels) < threshold:
            continue
        rows = np.array([patterns[v] for v in inside], float).T  # (condition, voxel)
        rows = rankdata(rows, axis=1) if metric == "spearman" else rows
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            distances = pdist(rows, "correlation" if metric == "spearman" else metric).round(11)
            if metric in ("correlation", "spearman"):
                constant = (rows == rows[:, :1]).all(1)
                distances[[a or b for a, b in combinations(constant, 2)]] = np.nan
        for place, reference in enumerate(references):
            both = np.isfinite(distances) & np.isfinite(reference)
            found[(place, *centre)] = alike(distances[both], reference[both], comparison)
    return found


def alike(first, second, comparison):
    if len(first) < 3 or np.ptp(first) < 1e-9 or np.ptp(second) < 1e-9:
        return np.nan
    if comparison == "cosine":
        return first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    if comparison == "rho-a":
        one, two = (rankdata(v) - (len(v) + 1) / 2 for v in (first, second))
        return 12 * one @ two / (len(first) ** 3 - len(first))
    return {"spearman": spearmanr, "pearson": pearsonr}[comparison](first, second)[0]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("comparison", COMPARISONS)
def test_every_metric_and_comparison_is_that_of_a_loop(metric, comparison):
    patterns, references = volume(), models()
    mask = np.random.default_rng(2).random(patterns.shape[:3]) < 0.7
    options = {"radius": 2, "closed": True, "metric": metric, "comparison": comparison, "least": 0.6}
    found = searchlight(patterns, mask, references, **options)
    expected = looped(patterns, mask, references, sphere(2, closed=True), metric, comparison, 0.6)
    assert 20 < np.isfinite(expected[0]).sum() < mask.sum()
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_a_thin_mask_cuts_the_spheres(metric):
    """F93: every voxel of a ribbon has a value, of the voxels that lie in it, as in nilearn and BrainIAK."""
    patterns, references = volume(), models()
    distance = np.sqrt(((np.indices(patterns.shape[:3]).transpose(1, 2, 3, 0) - 2.5) ** 2).sum(-1))
    mask = (distance > 1.5) & (distance < 2.6)
    found = searchlight(patterns, mask, references, radius=2.5, metric=metric)
    expected = looped(patterns, mask, references, sphere(2.5), metric, "spearman", 0)
    assert np.isfinite(found[:, mask]).all() and np.isnan(found[:, ~mask]).all() and mask.sum() > 30
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.isnan(searchlight(patterns, mask, references, radius=2.5, metric=metric, least="all")).all()


def test_how_many_voxels_a_sphere_must_have():
    """F93: a number, a share, or all of those in the volume."""
    patterns, references = volume(), models()
    mask = np.random.default_rng(2).random(patterns.shape[:3]) < 0.5
    steps = sphere(2)
    search = Searchlight(mask, references, 2)
    counts, there = np.zeros(mask.shape, int), np.zeros(mask.shape, int)
    for centre in np.ndindex(mask.shape):
        at = [tuple(v) for v in centre + steps if (v >= 0).all() and (v < mask.shape).all()]
        there[centre], counts[centre] = len(at), sum(mask[one] for one in at)
    np.testing.assert_array_equal(search.voxels(mask), np.where(mask, counts, 0))
    for least, needed in ((2, 2), (9, 9), (0.4, 0.4 * there), ("all", there), (0, 2), (1, 2)):
        found = searchlight(patterns, mask, references, radius=2, least=least)
        np.testing.assert_array_equal(np.isfinite(found[0]), mask & (counts >= np.maximum(needed, 2)))
    for wrong in (2.5, 1000):
        with pytest.raises(UserError, match="min_voxels must be a whole number up to 27, "):
            searchlight(patterns, mask, references, radius=2, least=wrong)


def test_equal_numbers_share_their_rank():
    values = np.random.default_rng(6).integers(0, 5, (20, 9)).astype(float)
    values[:10] += np.arange(9) / 10  # rows without equal numbers among those with
    np.testing.assert_array_equal(ranks(torch.from_numpy(values)), rankdata(values, axis=1) - 1)


def test_patterns_that_do_not_vary_are_left_out():
    """Where a condition's pattern is constant in a sphere, its pairs do not count; where all are, nothing does."""
    patterns, references = volume(), models()
    patterns[:3, ..., 2] = 0.1  # one condition in half of the volume
    patterns[:, :, 3:] = 0.1  # all conditions
    mask = np.ones(patterns.shape[:3], bool)
    found = searchlight(patterns, mask, references, radius=1, closed=True)
    expected = looped(patterns, mask, references, sphere(1, closed=True), "correlation", "spearman", 1.0)
    assert np.isnan(expected[0, :, :, 4]).all() and np.isfinite(expected[0, :, :, :3]).all()
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_voxels_without_values_are_no_voxels():
    patterns, references = volume(), models()
    patterns[2, 3, 1, 4] = np.nan
    mask = np.ones(patterns.shape[:3], bool)
    without = mask.copy()
    without[2, 3, 1] = False
    options = {"radius": 2, "least": 0.5}
    found = searchlight(patterns, mask, references, **options)
    assert np.isnan(found[:, 2, 3, 1]).all() and np.isfinite(found[:, 2, 3, 2]).all()
    np.testing.assert_array_equal(found, searchlight(np.nan_to_num(patterns), without, references, **options))
    assert np.isnan(searchlight(patterns, ~mask, references, radius=2)).all()
    assert np.isnan(searchlight(patterns * np.nan, mask, references, radius=2)).all()


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_layers_with_missing_or_equal_dissimilarities(comparison):
    patterns, references = volume(), models(layers=4)
    references[0] = references[0].round()
    references[1, [0, 4, 9]] = np.nan
    references[2] = 0.3
    references[3] = np.nan
    mask = np.ones(patterns.shape[:3], bool)
    found = searchlight(patterns, mask, references, radius=2, comparison=comparison)
    expected = looped(patterns, mask, references, sphere(2), "correlation", comparison, 1.0)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.isnan(found[2:]).all() and np.isfinite(found[:2]).all()


def test_the_parts_are_all_voxels_of_the_mask_and_their_size_changes_nothing(monkeypatch):
    patterns, references = volume(), models()
    mask = np.random.default_rng(3).random(patterns.shape[:3]) < 0.8
    whole = searchlight(patterns, mask, references, radius=2, least=0)
    monkeypatch.setattr("cnnprobe.methods.rsa.brain.searchlight.TOGETHER", 1)
    parts = list(Searchlight(mask, references, 2, least=0).parts(patterns))
    assert len(parts) == mask.sum()
    np.testing.assert_array_equal(np.concatenate([places for places, _ in parts]), np.flatnonzero(mask))
    np.testing.assert_allclose(np.concatenate([v for _, v in parts], 1), whole[:, mask], atol=1e-12)


def test_equal_to_rsatoolbox():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from rsatoolbox.inference import eval_fixed
        from rsatoolbox.model import ModelFixed
        from rsatoolbox.util.searchlight import (
            evaluate_models_searchlight,
            get_searchlight_RDMs,
            get_volume_searchlight,
        )

        patterns, references = volume((7, 6, 6), 9), models(9)
        mask = np.random.default_rng(4).random(patterns.shape[:3]) < 0.97
        centres, neighbours = get_volume_searchlight(mask, radius=2, threshold=1.0)
        flat = patterns.reshape(-1, 9).T.astype(float)
        rdms = get_searchlight_RDMs(flat, centres, neighbours, np.arange(9), verbose=False)
        theirs = [ModelFixed(str(place), one) for place, one in enumerate(references)]
        results = evaluate_models_searchlight(rdms, theirs, eval_fixed, method="spearman")
    expected = np.full((3, mask.size), np.nan)
    expected[:, centres] = np.array([result.evaluations.ravel() for result in results]).T
    assert 20 < len(centres) < mask.sum()
    found = searchlight(patterns, mask, references, radius=2, least="all")
    np.testing.assert_allclose(found.reshape(3, -1), expected, atol=1e-6)


def test_a_planted_pattern_is_found_where_it_was_planted():
    """14^3 voxels, 16 conditions, a ball of radius 3 at (7, 7, 7) that carries the layer's pattern."""
    rng = np.random.default_rng(5)
    features = rng.normal(size=(16, 40))
    patterns = rng.normal(size=(14, 14, 14, 16))
    distance = np.sqrt(((np.indices((14, 14, 14)) - 7) ** 2).sum(0))
    ball = distance <= 3
    patterns[ball] += 2 * features[:, rng.integers(0, 40, ball.sum())].T
    other = pdist(rng.normal(size=(16, 40)), "correlation")
    found, control = searchlight(
        patterns.astype(np.float32), np.ones((14,) * 3, bool), np.stack([pdist(features, "correlation"), other]),
        radius=2,
    )  # fmt: skip
    peak = np.unravel_index(np.nanargmax(found), found.shape)
    assert np.linalg.norm(np.subtract(peak, 7)) <= 1.5
    assert found[ball].mean() > 0.4
    assert abs(found[distance > 6].mean()) < 0.03
    assert abs(control[ball].mean()) < 0.15


def test_what_cannot_be_searched_is_said():
    mask, references = np.ones((4, 4, 4), bool), models()
    with pytest.raises(UserError, match=r"radius 1 holds no voxel but its centre"):
        Searchlight(mask, references, 1)
    with pytest.raises(UserError, match=r"radius 2 mm in voxels of 2 x 2 x 3 mm holds no voxel but its centre"):
        Searchlight(mask, references, 2, (2, 2, 3))
    with pytest.raises(UserError, match=r"comparison=spearman, pearson, cosine, rho-a; got kendall"):
        Searchlight(mask, references, 2, comparison="kendall")
    with pytest.raises(UserError, match=r"metric=correlation, .*; got crossnobis"):
        Searchlight(mask, references, 2, metric="crossnobis")


def test_threads_change_nothing_and_torch_keeps_its_own():
    patterns, references = volume(), models()
    mask = np.ones(patterns.shape[:3], bool)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        several = searchlight(patterns, mask, references, radius=2)
        parts = Searchlight(mask, references, 2).parts(patterns)
        next(parts)
        assert torch.get_num_threads() == 3
        parts.close()
        torch.set_num_threads(1)
        np.testing.assert_array_equal(searchlight(patterns, mask, references, radius=2), several)
    finally:
        torch.set_num_threads(before)
