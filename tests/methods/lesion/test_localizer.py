"""Units that a localizer finds, on half of the images."""

import numpy as np
import pytest
import torch

from tests.support.networks.detectors import Detectors, coloured, measured


def test_units_that_a_localizer_finds_are_those_that_prefer_the_class_and_no_others_matter_to_it():
    """F95: Chosen on half of the images, measured on the other half, and worse than random units of that number."""
    options = {"layer": "conv1", "units": "best:1", "localizer": "2>rest", "how": "zero", "controls": 60}
    rows = measured(Detectors(4, 24).eval(), coloured(80), **options)
    assert rows["localizer/conv1", "chosen"].nonzero()[0].tolist() == [2]
    assert rows["localizer/conv1", "dprime"][2] > 5 and np.isnan(rows["localizer/conv1", "dprime"][4:]).all()
    own = rows["lesions", "control"] < 0
    assert rows["lesions", "class_after"][own].tolist() == [[1, 1, 0, 1]]
    others = rows["lesions", "loss"][~own]
    p = (1 + (others >= 0.25).sum()) / 61
    assert 0 < (others >= 0.25).sum() < 20 and rows["lesions", "p"][own] == pytest.approx(p)
    assert np.isnan(rows["lesions", "p"][~own]).all()
    by_class = rows["lesions", "class_p"][own][0]
    assert by_class[2] == pytest.approx(1 / 61)  # no other unit costs a 2
    assert by_class[[0, 1, 3]] == pytest.approx(1)  # all of them cost nothing or more
    assert not rows["masks/conv1", "lesioned"][1:, 2].any() and (rows["masks/conv1", "lesioned"].sum(1) == 1).all()
    seen = rows["images", "image"]
    assert len(seen) == 40 and set(np.bincount(rows["images", "label"])) == {10}


def test_d_prime_is_that_of_the_formula():
    model, dataset = Detectors().eval(), coloured(80)
    rows = measured(model, dataset, layer="conv1", units="best:2", localizer="1>3", how="zero", batch_size=7)
    used = np.setdiff1d(np.arange(80), rows["images", "image"])
    with torch.no_grad():
        found = model.find(dataset.load(used)[0]).relu().mean((2, 3)).double().numpy()
    one, other = (found[dataset.labels[used] == label][:, :4] for label in (1, 3))
    expected = (one.mean(0) - other.mean(0)) / np.sqrt((one.var(0, ddof=1) + other.var(0, ddof=1)) / 2)
    np.testing.assert_allclose(rows["localizer/conv1", "dprime"][:4], expected, rtol=1e-5)
