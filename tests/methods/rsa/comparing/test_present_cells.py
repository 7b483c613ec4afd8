"""Subjects, moments and regions without values: each place counts those who are there, and is NaN where nobody is."""

import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist
from torch import nn

import cnnprobe as package
from cnnprobe.datasets.base.given import Given
from cnnprobe.methods.rsa.brain.time_courses import TimeCourses
from cnnprobe.methods.rsa.comparing.comparison import compare
from cnnprobe.methods.rsa.comparing.inference import bootstrap, permutation_p, similarities
from cnnprobe.methods.rsa.comparing.present_cells import present, tell_left_out, usable
from cnnprobe.methods.rsa.comparing.uncertainty import Uncertainty
from cnnprobe.methods.rsa.references.given import reference
from cnnprobe.store.tables import Rows
from tests.support.networks.gap import pictures

CONDITIONS, PAIRS = 9, 36
MISSING = [(1, 2, 1), (0, 4, 0), (slice(None), 0, 0), (3, slice(None), slice(None))]
"""One cell, another, a moment of all subjects in one region, a whole subject."""


def matrices(count, seed=0):
    random = np.random.default_rng(seed)
    return np.stack([pdist(random.normal(size=(CONDITIONS, 5))) for _ in range(count)])


def cells(fill):
    """Return (subject, time, region, pair) with places that are missing, and which are there."""
    values = matrices(4 * 5 * 2, 1).reshape(4, 5, 2, PAIRS)
    there = np.ones(values.shape[:3], bool)
    for place in MISSING:
        values[place], there[place] = fill, False
    return values, there


def curves(values, over="subjects", draws=30, comparison="spearman"):
    one = reference("meg", values, CONDITIONS, axes=["subject", "time", "region"], times=np.arange(5.0),
                    regions=["V1", "IT"])  # fmt: skip
    work = TimeCourses([one], ["a", "b", "c"], ["layer"] * 3, comparison, draws, over, 0)
    found = {event.table: event.columns for event in work.events(matrices(3)) if isinstance(event, Rows)}
    return found, {table.name: table for table in work.tables()}


@pytest.mark.parametrize(("comparison", "by_hand"), [("spearman", stats.spearmanr), ("pearson", stats.pearsonr)])
@pytest.mark.parametrize("fill", [np.nan, 0.7])
def test_every_place_is_that_of_the_subjects_who_are_there(fill, comparison, by_hand):
    """F99: the mean, peak and ceiling of each moment and region by hand; NaN where nobody is, and nowhere else."""
    values, there = cells(fill)
    found, tables = curves(values, comparison=comparison)
    expected = np.full((3, 5, 2), np.nan)
    for layer, time, region in np.ndindex(expected.shape):
        own = values[there[:, time, region], time, region]
        if len(own):
            expected[layer, time, region] = np.mean([by_hand(matrices(3)[layer], one).statistic for one in own])
    course = found["courses/0"]
    np.testing.assert_allclose(course["similarity"], expected, atol=1e-12)
    assert np.isnan(expected[:, 0, 0]).all() and np.isfinite(expected).sum() == 27
    np.testing.assert_array_equal(course["latency"], np.nanargmax(expected, 1))
    np.testing.assert_allclose(course["peak"], np.nanmax(expected, 1), atol=1e-12)
    np.testing.assert_array_equal(tables["moments/0"].columns["subjects"].values, there.sum(0))
    rest = values[[0, 2], 2, 1]
    form = stats.rankdata(rest, axis=1) if comparison == "spearman" else stats.zscore(rest, axis=1)
    lower, upper = found["moments/0"]["noise_lower"], found["moments/0"]["noise_upper"]
    assert lower[2, 1] == pytest.approx(by_hand(*rest).statistic)
    assert upper[2, 1] == pytest.approx(np.mean([by_hand(one, form.sum(0)).statistic for one in rest]))
    assert np.isnan(lower).sum() == 1 and np.isfinite(course["latency_low"]).all()


def test_a_moment_of_one_subject_has_no_interval_over_subjects():
    """F99: over conditions and over both there is one; other regions keep theirs."""
    values, _ = cells(np.nan)
    values[1:, 3, 0] = np.nan
    low = curves(values)[0]["courses/0"]["latency_low"]
    assert np.isnan(low[:, 0]).all() and np.isfinite(low[:, 1]).all()
    for over in ("conditions", "both"):
        assert np.isfinite(curves(values, over)[0]["courses/0"]["latency_low"]).all()


def test_a_single_missing_pair_leaves_out_the_pair_alone():
    """F99: the subject counts with the other pairs."""
    values, _ = cells(np.nan)
    values[0, 1, 0, 7] = np.nan
    kept = np.arange(PAIRS) != 7
    each = [stats.spearmanr(matrices(3)[0], values[1, 1, 0]).statistic,
            stats.spearmanr(matrices(3)[0], values[2, 1, 0]).statistic,
            stats.spearmanr(matrices(3)[0][kept], values[0, 1, 0, kept]).statistic]  # fmt: skip
    found, tables = curves(values)
    assert found["courses/0"]["similarity"][0, 1, 0] == pytest.approx(np.mean(each))
    assert tables["moments/0"].columns["subjects"].values[1, 0] == 3


@pytest.mark.parametrize("comparison", ["spearman", "pearson", "kendall", "cosine", "rho-a"])
def test_what_can_be_compared_is_what_has_a_comparison(comparison):
    """F99: as the comparison itself says, for every measure."""
    rows = matrices(6, 2)
    rows[1], rows[2], rows[3, 2:], rows[4, 3:], rows[5] = np.nan, 0.3, np.nan, np.nan, 0.1
    rows[5, 0] = np.nextafter(np.float32(0.1), np.float32(1))  # another rank, near rounding for what counts the size
    ranked = comparison in ("spearman", "kendall", "rho-a")
    defined = [np.isfinite(compare(row[None], row[None], comparison)[0, 0]) for row in rows]
    assert usable(rows, comparison).tolist() == defined == [True, False, False, False, True, ranked]
    np.testing.assert_array_equal(present(rows, comparison), rows[[0, 4, 5] if ranked else [0, 4]])


def test_draws_intervals_and_p_are_those_without_who_is_not_there():
    """F99: a reference without subjects is NaN, and changes no other one."""
    models, own, nobody = matrices(3), matrices(3, 1), np.zeros((0, PAIRS))
    dead = np.full((1, PAIRS), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for over in ("subjects", "conditions", "both"):
            how = {"draws": 12, "over": over, "seed": 0}
            alone, beside = (np.stack(list(bootstrap(models, given, "spearman", **how)))
                             for given in ([own], [own, nobody]))  # fmt: skip
            np.testing.assert_allclose(beside[..., 0], alone[..., 0], atol=1e-12)
            assert np.isnan(beside[..., 1]).all()
            ends = []
            for given in ([own], [own, nobody]):
                one = Uncertainty(models, given, "spearman", **how)
                list(one.work())
                ends.append((*one.intervals(), *one.differences(np.array([0]), np.array([1]))))
            for first, second in zip(*ends):
                np.testing.assert_allclose(second[..., 0], first[..., 0], atol=1e-12)
                assert np.isfinite(first).all() and np.isnan(second[..., 1]).all()
        assert np.isnan(permutation_p(models, nobody, "spearman", draws=9, seed=0)).all()
        beside = similarities(models, [own, dead, nobody], "spearman")
    assert np.isfinite(beside[:, 0]).all() and np.isnan(beside[:, 1:]).all()


def test_regions_that_a_subject_lacks_in_a_run(caplog):
    """F99: values, intervals over subjects by Student's t, p, counts and the one line that is told."""
    values = matrices(4 * 3, 3).reshape(4, 3, PAIRS)
    values[1, 2], values[:, 1] = np.nan, np.nan
    one = reference("rois", values, CONDITIONS, axes=["subject", "region"], regions=["V1", "V4", "FFA"])
    given = {"layer": ["conv1"], "controls": None, "bootstrap": 5, "permutations": 19, "over": "subjects"}
    model = nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 12 * 12, 5)).eval()
    measured = list(
        package.measure("rsa", model=model, dataset=Given(pictures(CONDITIONS, 16)), reference=one, **given)
    )
    row = next(row for row in measured if row.table == "layers")
    own = row.rdm[np.triu_indices(CONDITIONS, 1)].astype(np.float64)
    for place, there in ((0, [0, 1, 2, 3]), (2, [0, 2, 3])):
        each = np.array([stats.spearmanr(own, values[subject, place]).statistic for subject in there])
        count = len(each)
        assert row.similarity[place] == pytest.approx(each.mean(), abs=1e-6)
        reach = stats.t.ppf(0.975, count - 1) * each.std(ddof=1) / np.sqrt(count) / (1 - each.mean() ** 2)
        ends = np.tanh(np.arctanh(each.mean()) + np.array([-reach, reach]))
        np.testing.assert_allclose([row.similarity_low[place], row.similarity_high[place]], ends, atol=1e-5)
        rest = permutation_p(own[None], values[there, place], "spearman", draws=19, seed=0)
        assert row.p[place] == pytest.approx(rest[0]) and np.isfinite(row.noise_lower[place])
    assert np.isnan([row.similarity[1], row.similarity_low[1], row.p[1], row.noise_lower[1]]).all()
    told = [record.getMessage() for record in caplog.records if "cannot be compared" in record.getMessage()]
    assert told == [
        "rois: 5 of 12 matrices cannot be compared, 5 without values (region V4 of all subjects, region FFA of "
        "subject 2); they are left out, the others count"
    ]


def test_who_is_left_out_where_is_told_in_one_line(caplog):
    """F99: whole subjects first, then what nobody has, then single cells; both reasons are counted."""
    values, _ = cells(np.nan)
    values[0, 4, 0] = 0.7
    one = reference("meg", values, CONDITIONS, axes=["subject", "time", "region"], times=np.arange(5) / 10,
                    regions=["V1", "IT"], time_unit="s")  # fmt: skip
    tell_left_out(one, "spearman")
    assert [record.getMessage() for record in caplog.records] == [
        "meg: 15 of 40 matrices cannot be compared, 14 without values and 1 with all values equal (subject 4, time 0 s "
        "region V1 of all subjects, time 0.4 s region V1 of subject 1, time 0.2 s region IT of subject 2); they are "
        "left out, the others count"
    ]
    caplog.clear()
    tell_left_out(reference("all", matrices(2), CONDITIONS), "spearman")
    assert not caplog.records
    tell_left_out(reference("none", matrices(2) * np.nan, CONDITIONS), "spearman")
    assert [record.getMessage() for record in caplog.records] == [
        "none: no matrix of 2 can be compared, 2 without values; nothing is similar to it (NaN)"
    ]
