"""Spectral fields: what silent and unmoved units have, and that chance is called chance."""

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe
from cnnprobe.methods.perturb.mapping import Chance, unmoved
from cnnprobe.store.tables import Rows


class Planted(nn.Module):
    """Four maps of a signal: its square, silence, a constant, and a linear circular filter."""

    def __init__(self):
        super().__init__()
        self.filter = nn.Conv1d(1, 1, 9, padding="same", padding_mode="circular", bias=False)

    def forward(self, signals):
        one = self.filter(signals)
        return torch.cat([one.square(), 0 * one, 0 * one + 2, one], 1)


def measured(model, signals, **options):
    torch.manual_seed(0)
    given = {"bands": 4, "draws": 2, "permutations": 40, "gradient_images": 0} | options
    measurement = cnnprobe.measure("perturb", model=model, dataset=signals, layer="0", **given)
    rows = [event for event in measurement.events if isinstance(event, Rows)]
    return {(row.table, name): values for row in rows for name, values in row.columns.items()}


def white(count=120, channels=1, length=64, seed=0):
    return np.random.default_rng(seed).standard_normal((count, channels, length)).astype(np.float32)


def test_silent_units_have_no_value_and_unmoved_ones_have_0():
    found = measured(nn.Sequential(Planted()).eval(), white(), kind="both")
    units = {name: values for (table, name), values in found.items() if table == "units/0"}
    assert units["dead"].tolist() == [False, True, False, False]
    assert units["amplitude"].shape == (4, 4, 1) and units["phase"].shape == (4, 4)
    assert (units["amplitude"][0] > units["amplitude_null"][0]).any()
    for kind in ("amplitude", "phase"):
        for name in (kind, f"{kind}_null", f"{kind}_partial", f"{kind}_se"):
            assert np.isnan(units[name][1]).all(), name
            assert not units[name][2].any(), name
    for name in ("amplitude", "amplitude_null"):  # 6.T2
        assert not units[name][3].any()
    assert (np.abs(units["phase"][3]) > units["phase_null"][3]).any()
    alive = np.abs(units["amplitude"][[0, 2, 3]])
    assert np.allclose(found["layers", "amplitude"][0], alive.mean(0), atol=1e-6)


class Hashes(nn.Module):
    """Units whose answer to a perturbation is as good as drawn: digits behind the fourth of a linear filter."""

    def __init__(self, count):
        super().__init__()
        self.filter = nn.Conv1d(1, count, 64)

    def forward(self, signals):
        return torch.frac(self.filter(signals) * 1e4)


def test_chance_exceeds_its_level_as_often_as_asked():
    """200 units that answer at random: about one in ten has a band above a level of 0.1."""
    torch.manual_seed(1)
    model = nn.Sequential(Hashes(200)).eval()
    measurement = cnnprobe.measure("perturb", model=model, dataset=white(60), layer="0", bands=4, draws=1,
                                   permutations=99, level=0.1, gradient_images=0)  # fmt: skip
    rows = [event.columns for event in measurement.events if isinstance(event, Rows) and event.table == "units/0"]
    above = np.concatenate([np.abs(one["amplitude"]).max((1, 2)) > one["amplitude_null"] for one in rows])
    assert len(above) == 200 and 0.03 < above.mean() < 0.2


def test_the_level_is_the_quantile_of_the_largest():
    largest = np.arange(100.0)[:, None] * [1, 2]
    assert Chance(100, 0.05, 0).limit(largest).tolist() == [95, 190]
    assert np.isnan(Chance(0, 0.05, 0).limit(np.zeros((0, 3)))).all()


def test_rounding_is_no_change():
    random = torch.Generator().manual_seed(0)
    response = torch.randn(2, 50, 4, generator=random).double() * torch.tensor([1e-9, 1e-3, 1e-9, 0])
    response[1, :, 2] = 5 * torch.randn(50, generator=random)
    response[:, :, 3] = torch.nan
    assert unmoved(response, torch.ones(4)).tolist() == [True, False, False, False]


def test_slopes_go_along_with_correlations_where_the_network_is_locally_linear():
    """Energy of a filter: both are largest where the filter is, channel by channel."""
    torch.manual_seed(0)

    class Energy(nn.Module):
        def __init__(self):
            super().__init__()
            self.filter = nn.Conv1d(2, 3, 11)

        def forward(self, signals):
            return self.filter(signals).square()

    found = measured(nn.Sequential(Energy()).eval(), white(600, 2), bands=8, gradient_images=64, scale=0.2)
    rho, slope = found["units/0", "amplitude"], found["units/0", "gradient"]
    assert rho.shape == slope.shape == (3, 8, 2)
    for unit in range(3):
        assert np.corrcoef(rho[unit].ravel(), slope[unit].ravel())[0, 1] > 0.97


@pytest.mark.parametrize("units", [[3, 0], "2:4"])
def test_units_do_not_depend_on_each_other(units):
    model = nn.Sequential(Planted()).eval()
    one, some = measured(model, white()), measured(model, white(), units=units)
    rows = [3, 0] if isinstance(units, list) else [2, 3]
    for (table, name), values in some.items():
        if table == "units/0":
            assert np.allclose(values, one[table, name][rows], atol=1e-6, equal_nan=True), name
