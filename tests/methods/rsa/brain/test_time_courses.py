"""Layers beside references with moments and regions: curves, latencies and their intervals, noise ceilings."""

import json

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from cnnprobe.methods.rsa.brain import time_courses
from cnnprobe.methods.rsa.brain.time_courses import TimeCourses
from cnnprobe.methods.rsa.comparing.inference import bootstrap
from cnnprobe.methods.rsa.comparing.noise_ceiling import noise_ceiling
from cnnprobe.methods.rsa.references.given import reference
from cnnprobe.store.tables import Rows

CONDITIONS, TIMES = 14, np.arange(0, 300, 20.0)


def models(layers=3):
    rng = np.random.default_rng(0)
    return np.stack([pdist(rng.normal(size=(CONDITIONS, 6))) for _ in range(layers)])


def series(subjects, noise, seed=1):
    """Return (subject, time, pair): layer l of 3 peaks at 60 + 60 l ms."""
    rng = np.random.default_rng(seed)
    course = np.exp(-(((TIMES[:, None] - 60 * np.arange(1, 4)) / 30) ** 2))
    mixed = course @ (models() - models().mean(1, keepdims=True))
    return mixed + noise * rng.normal(size=(subjects, *mixed.shape))


def run(given, names=("a", "b", "c"), kinds=("layer",) * 3, draws=20, over="subjects", values=None):
    work = TimeCourses(given, list(names), list(kinds), "spearman", draws, over, 0)
    found = {}
    for event in work.events(models() if values is None else values):
        if isinstance(event, Rows):
            found[event.table] = event.columns
    tables = {table.name: table for table in work.tables()}
    assert set(found) == set(tables)
    for name, columns in found.items():
        unfilled = {key: column for key, column in tables[name].columns.items() if column.values is None}
        assert {key: (tables[name].rows, *column.shape) for key, column in unfilled.items()} == {
            key: np.shape(values) for key, values in columns.items()
        }
    return found, tables


def test_every_moment_is_compared_as_by_hand():
    given = series(4, 1.0)
    one = reference("meg", given, CONDITIONS, axes=["subject", "time"], times=TIMES, time_unit="ms")
    found, tables = run([one])
    curves = found["courses/0"]["similarity"]
    assert curves.shape == (3, len(TIMES), 1)
    expected = np.mean([spearmanr(models()[1], given[subject, 4]).statistic for subject in range(4)])
    assert curves[1, 4, 0] == pytest.approx(expected)
    lower, upper = noise_ceiling(given[:, 4], "spearman")
    assert found["moments/0"]["noise_lower"][4, 0] == lower and found["moments/0"]["noise_upper"][4, 0] == upper
    about = tables["courses/0"].attributes
    assert about["reference"] == "meg" and about["time_unit"] == "ms" and json.loads(about["regions"]) == [""]
    np.testing.assert_array_equal(tables["moments/0"].columns["time"].values, TIMES)


@pytest.mark.parametrize("over", ["subjects", "conditions", "both"])
def test_planted_latencies_are_found_and_within_their_intervals(over):
    one = reference("meg", series(6, 1.5), CONDITIONS, axes=["subject", "time"], times=TIMES)
    found, _ = run([one], over=over)
    course = found["courses/0"]
    np.testing.assert_array_equal(course["latency"][:, 0], [60, 120, 180])
    assert (course["latency_low"] <= course["latency"]).all() and (course["latency"] <= course["latency_high"]).all()
    np.testing.assert_array_equal(course["peak"][:, 0], course["similarity"].max(1)[:, 0])
    assert found["regions/0"]["order"] == [1] and found["regions/0"]["order_high"] == [1]


@pytest.mark.parametrize("over", ["subjects", "both"])
def test_who_is_drawn_is_drawn_at_every_moment(over):
    """F99: else the draws have peaks that no mean of the subjects' curves has."""
    matrices = np.repeat(series(5, 1.5)[:, :1], 4, 1)  # the same at each moment, so that each draw is flat
    matrices[2, 1:3] = np.nan
    there = [np.flatnonzero(np.isfinite(matrices[:, t, 0])) for t in range(4)]
    cells, how = [matrices[there[t], t] for t in range(4)], {"draws": 20, "over": over, "seed": 0}
    drawn = np.array(list(bootstrap(models(), cells, "spearman", who=there, **how)))
    np.testing.assert_allclose(drawn[..., 0], drawn[..., 3], atol=1e-12)
    np.testing.assert_allclose(drawn[..., 1], drawn[..., 2], atol=1e-12)
    assert 0 < (np.abs(drawn[..., 0] - drawn[..., 1]) > 1e-12).any(1).sum() < 20  # where subject 2 is not drawn
    apart = np.array(list(bootstrap(models(), cells, "spearman", **how)))
    assert (np.abs(apart[..., 0] - apart[..., 3]) > 1e-6).any()


def test_latencies_are_drawn_from_curves_of_the_same_people(monkeypatch):
    """F99."""
    given = []
    monkeypatch.setattr(
        time_courses, "bootstrap", lambda *a, who, **k: given.append(who) or bootstrap(*a, who=who, **k)
    )
    run([reference("meg", series(4, 1.5), CONDITIONS, axes=["subject", "time"], times=TIMES)])
    assert [one.tolist() for one in given[0]] == [[0, 1, 2, 3]] * len(TIMES)


def test_one_subject_has_no_interval_over_subjects():
    one = reference("meg", series(1, 0.5)[0], CONDITIONS, axes=["time"], times=TIMES)
    found, tables = run([one], over="subjects")
    assert np.isnan(found["courses/0"]["latency_low"]).all() and np.isnan(found["moments/0"]["noise_lower"]).all()
    assert tables["courses/0"].attributes["bootstrap"] == 0
    assert np.isfinite(run([one], over="conditions")[0]["courses/0"]["latency_low"]).all()


def test_regions_alone_and_regions_over_time():
    still = models()[[2, 0]][None] + 0.01 * np.random.default_rng(2).normal(size=(3, 2, models().shape[1]))
    moving = np.stack([series(3, 0.5), series(3, 0.5)[:, ::-1]], 2)  # the second region runs backwards
    given = [
        reference("fmri", still, CONDITIONS, axes=["subject", "region"], regions=["IT", "V1"]),
        reference("both", moving, CONDITIONS, axes=["subject", "time", "region"], times=TIMES, regions=["x", "y"]),
        reference("neither", still[:, 0], CONDITIONS),
    ]
    found, tables = run(given)
    assert {name.split("/")[1] for name in tables} == {"0", "1"}
    assert found["courses/0"]["similarity"][:, 0].argmax(0).tolist() == [2, 0]
    assert np.isnan(found["courses/0"]["latency"]).all() and not tables["courses/0"].attributes["timed"]
    np.testing.assert_allclose(found["courses/1"]["latency"].T, [[60, 120, 180], 280 - np.array([60, 120, 180])])
    assert found["regions/1"]["order"].tolist() == [1, -1]
    assert tables["regions/1"].columns["name"].values.tolist() == ["x", "y"]


def test_controls_have_curves_but_no_place_in_the_order():
    one = reference("meg", series(3, 0.5), CONDITIONS, axes=["subject", "time"], times=TIMES)
    values = np.concatenate([models(), models()[:1], np.full((1, models().shape[1]), np.nan)])
    found, _ = run([one], "abcrd", ["layer"] * 3 + ["random", "layer"], values=values)
    assert found["courses/0"]["latency"][3, 0] == 60 and found["regions/0"]["order"] == [1]
    assert np.isnan([found["courses/0"][name][4] for name in ("latency", "latency_low", "peak")]).all()
