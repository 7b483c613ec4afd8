"""Windows against brute force, on networks drawn at random."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.windows.occluders import Grid
from cnnprobe.methods.rf_map.discrepancy import READINGS
from tests.support.networks import random_networks
from tests.support.occluding import by_brute_force, by_loop, measured, misses, scale

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def wraps(model: torch.nn.Module) -> bool:
    """Say whether padding shows pixels of elsewhere, which the algebra of fields does not know."""
    modes = [getattr(module, "padding_mode", "zeros") for module in model.modules()]
    return set(modes) != {"zeros"} or any("reflect" in getattr(m, "name", "") for m in model.modules())


def compare(case: random_networks.Case, reading: str) -> None:
    largest = scale(case.model, case.layer, case.image)
    assume(np.isfinite(largest) and largest > 0.05)  # a response lost in rounding says nothing
    asked = (case.model, case.layer, case.grid, case.image, case.filled, case.units, case.sites, reading)
    found, occlusion = measured(*asked)
    assert occlusion.engine == "windows"
    expected = by_brute_force(*asked)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * largest)
    if reading == "site" and case.layer.map_size and not wraps(case.model):
        missed = misses(case.layer, case.grid, case.sites)[:, None].repeat(len(case.filled), 1)
        # behind a function that is not local every occluded image is run, together with others: rounding remains
        rest = 0 if occlusion.windows.windowed else 1e-6 * largest
        assert (np.abs(found[missed]) <= rest).all()


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=CHECKS)
@given(random_networks.cases(), st.sampled_from(["site", *READINGS]))
def test_windows_equal_brute_force_whatever_the_network(case, reading):
    compare(case, reading)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=CHECKS)
@given(random_networks.cases(), st.sampled_from(["site", *READINGS]))
def test_windows_equal_brute_force_on_many_networks(case, reading):
    compare(case, reading)


def test_places_made_from_values_are_not_looked_up_in_windows():
    """F85: of equal values the first is the largest, unless rounding has made another one larger."""

    class Unpooled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = (torch.nn.Conv2d(c, 4, 3, padding=1) for c in (3, 4))

        def forward(self, images):
            pooled, places = torch.nn.functional.max_pool2d(self.first(images).clamp(-0.1, 0.1), 2, return_indices=True)
            return self.last(torch.nn.functional.max_unpool2d(pooled, places, 2))

    torch.manual_seed(0)
    model, random = Unpooled().eval(), np.random.default_rng(0)
    (layer,), grid = find(model, "last", (3, 16, 16)), Grid((16, 16), 4, 3)
    image, filled = (torch.from_numpy(random.random((n, 3, 16, 16), np.float32)) for n in (1, 1))
    asked = (model, layer, grid, image[0], filled, [0, 1], [[3, 4], [9, 9]], "site")
    found, occlusion = measured(*asked)
    assert "makes places out of values" in occlusion.engine
    np.testing.assert_array_equal(found, by_brute_force(*asked))


class Winners(torch.nn.Module):
    """Of each channel the 40 largest values are kept: those of a flat square are equal."""

    def __init__(self):
        super().__init__()
        self.first, self.last = (torch.nn.Conv2d(c, 4, 3, padding=1) for c in (3, 4))

    def forward(self, images):
        maps = self.first(images).relu()
        least = maps.flatten(2).topk(40)[0][..., -1, None, None]
        return self.last(maps * (maps >= least))


class Edges(Winners):
    """Signs of differences, which are 0 in a flat square."""

    def forward(self, images):
        maps = self.first(images)
        return self.last(torch.sign(maps - maps.roll(1, 3)))


class Saturated(Winners):
    """Where maps reach their limit, one position further down."""

    def forward(self, images):
        maps = self.first(4 * images).clamp(-0.7, 0.7).roll(1, 2)
        return self.last((maps >= 0.7).float())


@pytest.mark.parametrize("kind", [Winners, Edges, Saturated])
def test_what_is_equal_in_a_flat_square_stays_so(kind):
    """F85: values set against each other are not rounded apart, and values at a limit stay there."""
    torch.manual_seed(0)
    model, random = kind().eval(), np.random.default_rng(0)
    (layer,), grid = find(model, "last", (3, 16, 16)), Grid((16, 16), 4, 4)
    image, filled = torch.from_numpy(random.random((3, 16, 16), np.float32)), torch.full((1, 3, 16, 16), 0.47)
    asked = (model, layer, grid, image, filled, [0, 1], [[3, 4], [9, 9]], "site")
    found, occlusion = measured(*asked)
    assert occlusion.engine == "windows" if kind is Saturated else "compares values" in occlusion.engine
    np.testing.assert_allclose(found, by_loop(*asked), rtol=0, atol=1e-5 * scale(model, layer, image))
