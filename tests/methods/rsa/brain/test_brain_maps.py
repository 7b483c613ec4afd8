"""Searchlights of several subjects: found where they were planted, in voxels and in mm, one by one and as a group."""

import logging

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from cnnprobe.errors import UserError
from cnnprobe.methods.rsa.brain.brain_maps import BrainMaps, Volume, radius_of, varying
from cnnprobe.methods.rsa.brain.searchlight import searchlight
from cnnprobe.store.tables import Advance, Phase, Rows

SHAPE, CONDITIONS = (9, 10, 8), 12
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
FEATURES = np.random.default_rng(0).normal(size=(2, CONDITIONS, 20))
MODELS = np.stack([pdist(one, "correlation") for one in FEATURES])


def patterns(seed, strength=2.0):
    """The first layer's pattern in a ball round (4, 5, 4), noise elsewhere."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(*SHAPE, CONDITIONS)).astype(np.float32)
    ball = ((np.indices(SHAPE) - np.reshape([4, 5, 4], (3, 1, 1, 1))) ** 2).sum(0) <= 5
    found[ball] += strength * FEATURES[0][:, rng.integers(0, 20, ball.sum())].T
    return found


def maps(given, mask=None, radius=2, closed=False, kinds=("layer", "layer"), metric="correlation",
         comparison="spearman", flips=256, least=2):  # fmt: skip
    return BrainMaps(
        given, mask, ["a", "b"], list(kinds), CONDITIONS, metric, comparison, radius, closed, least, flips, 0
    )


def run(work, models=MODELS):
    found, counted, phases = {}, 0, []
    for event in work.events(models):
        if isinstance(event, Rows):
            for name, values in event.columns.items():
                found.setdefault(event.table, {}).setdefault(name, []).append(values)
        elif isinstance(event, Advance):
            counted += event.count
        elif isinstance(event, Phase):
            phases.append(event.total)
    assert counted == sum(phases)
    tables = {table.name: table for table in work.tables()}
    found = {table: {name: np.concatenate(parts) for name, parts in c.items()} for table, c in found.items()}
    assert set(found) == set(tables)
    for name, columns in found.items():
        for key, values in columns.items():
            assert values.shape == (tables[name].rows, *tables[name].columns[key].shape)
    return found, tables


def test_one_subject_in_voxels():
    found, tables = run(maps(patterns(1)))
    own = found["searchlight/subject-01"]
    whole = np.ones(SHAPE, bool)
    np.testing.assert_allclose(own["map"], searchlight(patterns(1), whole, MODELS, radius=2), atol=1e-6)
    assert np.linalg.norm(own["peak_at"][0] - [4, 5, 4]) <= 1.5
    assert own["peak"][0] == pytest.approx(np.nanmax(own["map"][0])) and own["peak"][0] > own["peak"][1] + 0.2
    assert "group" not in tables and tables["searchlight/subject-01"].attributes["voxels"] == 27
    assert found["masks"]["inside"].all()


def test_a_sphere_in_mm_and_a_mask():
    mask = np.zeros(SHAPE, bool)
    mask[2:8] = True
    volume = Volume("sub 01/é", patterns(1), AFFINE)
    found, tables = run(maps([volume], mask, "4mm", True))
    name = "searchlight/sub_01_"
    options = {"radius": 4, "voxel_size": (2, 2, 3), "closed": True}
    np.testing.assert_allclose(found[name]["map"], searchlight(patterns(1), mask, MODELS, **options), atol=1e-6)
    assert np.isnan(found[name]["map"][:, ~mask]).all()
    about = tables[name].attributes
    assert (about["radius"], about["sphere"], about["voxel_size"]) == ("4mm", "closed", [2, 2, 3])
    np.testing.assert_array_equal(np.reshape(about["affine"], (4, 4)), AFFINE)
    np.testing.assert_array_equal(found["masks"]["inside"], mask[None])


def test_a_group_has_its_effect_where_all_subjects_have_it():
    given = [patterns(seed) for seed in range(6)]
    for one in given:
        one[0] = 3.0  # no signal
    found, tables = run(maps(given))
    group = found["group"]
    single = np.stack([found[f"searchlight/subject-{place:02d}"]["map"] for place in range(1, 7)])
    np.testing.assert_allclose(group["map"], np.tanh(np.arctanh(single).mean(0)), atol=1e-5)
    ball = ((np.indices(SHAPE) - np.reshape([4, 5, 4], (3, 1, 1, 1))) ** 2).sum(0) <= 1
    assert (group["p"][0][ball] < 0.05).all() and np.nanmin(group["p"][1]) > 0.05
    assert np.linalg.norm(group["peak_at"][0] - [4, 5, 4]) <= 1.5
    assert np.isnan(group["p"][:, 0]).all() and not found["masks"]["inside"][:, 0].any()
    assert tables["group"].attributes["subjects"] == 6


def test_p_is_corrected_among_rows_of_one_kind():
    given = [patterns(seed, strength=0.6) for seed in range(6)]
    together = run(maps(given))[0]["group"]["p"]
    apart = run(maps(given, kinds=("layer", "random")))[0]["group"]["p"]
    assert np.nanmin(together - apart) >= 0 and np.nanmax(together - apart) > 0


def test_what_a_group_cannot_show_is_said(caplog):
    logging.getLogger("cnnprobe").propagate = True
    given = [patterns(seed) for seed in range(3)]
    with caplog.at_level("WARNING", "cnnprobe"):
        found, _ = run(maps(given))
        assert "3 subjects have 8 flips: no p is below 0.05" in caplog.text
        assert np.nanmin(found["group"]["p"]) == 1 / 8
        cosine = run(maps(given, comparison="cosine"))[0]["group"]
        assert np.isnan(cosine["p"]).all() and np.isfinite(cosine["map"]).any()
        nothing = np.zeros(SHAPE, bool)
        nothing[::3, ::3, ::3] = True  # no sphere has a second voxel
        found, _ = run(maps(given[0], nothing, 3))
        assert "no sphere of radius 3 has enough voxels inside the mask (min_voxels=2)" in caplog.text
    own = found["searchlight/subject-01"]
    assert np.isnan(own["map"]).all() and np.isnan(own["peak"]).all() and (own["peak_at"] == -1).all()


def test_without_a_mask_it_is_where_values_differ_between_conditions():
    values = patterns(1)
    values[1] = 4.0
    values[2, 3, 1, 5] = np.nan
    expected = np.ones(SHAPE, bool)
    expected[1] = expected[2, 3, 1] = False
    np.testing.assert_array_equal(varying(values), expected)


@pytest.mark.parametrize(
    "spec, found", [(3, (3.0, False)), ("2.5", (2.5, False)), ("6mm", (6, True)), ("6 mm", (6, True))]
)
def test_a_radius_is_in_voxels_or_mm(spec, found):
    assert radius_of(spec) == found


def test_what_does_not_fit_is_said():
    for spec in ("6cm", "large", 0, -1, "mm"):
        with pytest.raises(UserError, match="radius must be a number of voxels or mm"):
            radius_of(spec)
    with pytest.raises(UserError, match=r"volumes of subject-02 are \(9, 10, 8, 11\); needed are \(9, 10, 8, 12\)"):
        maps([patterns(1), patterns(2)[..., :11]])
    with pytest.raises(UserError, match="the mask has"):
        maps(patterns(1), np.ones((2, 2, 2), bool))
    with pytest.raises(UserError, match=r"metric=correlation, .*; got crossnobis"):
        maps(patterns(1), metric="crossnobis")
    with pytest.raises(UserError, match="holds no voxel but its centre"):
        maps(Volume("a", patterns(1), AFFINE), radius="2mm")
