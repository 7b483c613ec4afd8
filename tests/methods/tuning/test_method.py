"""Tuning of planted networks: what was built in is what is measured; two units with one field and two preferences."""

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe
from cnnprobe.datasets import manufactured, shapes
from cnnprobe.errors import UserError
from cnnprobe.methods.tuning import method as tuning
from cnnprobe.methods.tuning.curves import gabor_octaves
from cnnprobe.methods.tuning.gabors import gabor
from cnnprobe.methods.tuning.mapping import FAMILIES
from cnnprobe.store.tables import Rows

FEW = {"orientations": 8, "frequencies": 3, "phases": 4, "contrasts": [0.25, 0.5]}


def stimuli(size=64, channels=3, **options):
    plain = {"families": "all", "orientations": 24, "frequencies": 12, "lowest": 0.03, "highest": 0.4, "phases": 8}
    plain |= {"contrasts": [0.0625, 0.125, 0.25, 0.5], "extent": 0.4}
    return manufactured.build(size=size, channels=channels, **plain | options)


def tables(model, dataset, **options):
    """Run tuning and return by table its columns, those known from the start included."""
    measurement = cnnprobe.measure("tuning", model=model, dataset=dataset, **options)
    found = {
        table.name: {name: [column.values] for name, column in table.columns.items() if column.values is not None}
        for table in measurement.tables
    }
    for event in measurement.events:
        if isinstance(event, Rows):
            for name, values in event.columns.items():
                found[event.table].setdefault(name, []).append(values)
    return {name: {key: np.concatenate(parts) for key, parts in one.items()} for name, one in found.items()}


class Filters(nn.Module):
    """Planted filters (unit, channel, y, x) followed by a rectifier."""

    def __init__(self, filters):
        super().__init__()
        self.conv = nn.Conv2d(filters.shape[1], len(filters), filters.shape[-1], padding=filters.shape[-1] // 2)
        self.conv.weight.data = torch.as_tensor(np.asarray(filters), dtype=torch.float32)
        nn.init.zeros_(self.conv.bias)

    def forward(self, images):
        return torch.relu(self.conv(images - 0.5)).mean((2, 3))


def grey(*planes):
    return np.stack([np.repeat(one[None], 3, 0) / 3 for one in planes])


@pytest.fixture(scope="module")
def gabor_layer():
    """Return Gabor units of known tuning and what was measured of them."""
    planted = [
        {"sigma_x": n / f, "sigma_y": 0.5 / f, "frequency": f, "orientation": turn, "phase": phase}
        for n, f, turn, phase in (
            (0.3, 0.15, 30.0, 90),
            (0.4, 0.12, 75.0, 0),
            (0.5, 0.15, 120.0, 40),
            (0.4, 0.1, 0.0, 90),
        )
    ]
    made = [gabor(31, **one) for one in planted]
    model = Filters(grey(*[one - one.mean() for one in made]))
    shown = stimuli(36, families=["gratings", "contrast"], frequencies=24, extent=0.5)
    return planted, tables(model, shown, layer="conv", batch_size=256)


def test_bandwidths_of_a_gabor_layer_are_those_of_the_formula(gabor_layer):
    """9.T3: octaves within 5 %; half width of orientation by n_y; preferences as planted; simple cells."""
    planted, found = gabor_layer
    units = found["units/conv"]
    for row, one in enumerate(planted):
        n_x = one["sigma_x"] * one["frequency"]
        turn = one["orientation"]
        assert abs((units["preferred"][row] - turn + 90) % 180 - 90) < 1.5  # a fifth of a step
        assert units["preferred_frequency"][row] == pytest.approx(one["frequency"], rel=0.05)
        if n_x >= 0.4:  # below, the passbands about f and -f meet
            assert units["frequency_bandwidth"][row] == pytest.approx(gabor_octaves(n_x), rel=0.05)
        assert units["f1_f0"][row] == pytest.approx(np.pi / 2, rel=0.05)
        assert units["orientation_index"][row] > 0.95
    assert units["bandwidth"][1] == pytest.approx(21.7, abs=1)  # n_x 0.4, n_y 0.5
    assert np.isnan(units["direction_index"]).all()
    assert units["contrast_exponent"] == pytest.approx([1] * 4, abs=0.1)  # linear and rectified: a line, unsaturated
    assert np.isnan(units["contrast_half"]).all()


def test_its_filters_are_fitted_in_the_same_run(gabor_layer):
    planted, found = gabor_layer
    fits = found["gabor/conv"]
    assert (fits["kind"] == 0).all()
    for row, one in enumerate(planted):
        assert fits["n_x"][row] == pytest.approx(one["sigma_x"] * one["frequency"], abs=0.02)
        assert fits["n_y"][row] == pytest.approx(0.5, abs=0.02)
        assert abs((fits["orientation"][row] - one["orientation"] + 90) % 180 - 90) < 1
    assert fits["chromatic"] == pytest.approx([0] * 4, abs=1e-6)


def test_an_energy_unit_is_complex():
    """The sum of squares of two Gabors a quarter of a wave apart answers all phases alike."""
    pair = [gabor(21, sigma_x=3, sigma_y=3, frequency=0.15, orientation=30, phase=phase) for phase in (0, 90)]

    class Energy(Filters):
        def forward(self, images):
            return self.out(self.conv(images - 0.5))

    model = Energy(grey(*[one - one.mean() for one in pair]))

    class Sum(nn.Module):
        def forward(self, maps):
            return (maps**2).sum(1, keepdim=True)

    model.out = Sum()
    found = tables(
        model, stimuli(48, families=["gratings", "contrast"]), layer=["conv", "out"], batch_size=256, gabor=False
    )
    assert found["units/out"]["f1_f0"][0] < 0.15
    assert found["units/out"]["preferred"][0] == pytest.approx(30, abs=1)
    assert (found["units/conv"]["f1_f0"] > 1.4).all()
    assert found["units/out"]["contrast_exponent"][0] == pytest.approx(2, abs=0.1)
    assert "gabor/conv" not in found


def localise_or_identify():
    """Return a network of two units that look at the same 7 px, one for upright stripes, one for red."""
    envelope = gabor(7, sigma_x=1.5, sigma_y=1.5, frequency=0, orientation=0, phase=0)
    stripes = gabor(7, sigma_x=1.5, sigma_y=1.5, frequency=0.25, orientation=0, phase=0)
    stripes -= stripes.mean() * envelope / envelope.mean()
    red = np.array([1.0, -0.5, -0.5])[:, None, None] * envelope
    return Filters(np.stack([grey(stripes)[0], red]))


def red_stripes(count=12, size=40):
    """Return images with a patch of red upright stripes anywhere on grey: both units answer it at the same place."""
    random, images = np.random.default_rng(0), np.full((count, 3, size, size), 0.5, np.float32)
    wave = gabor(9, sigma_x=2, sigma_y=2, frequency=0.25, orientation=0, phase=0)
    envelope = gabor(9, sigma_x=2, sigma_y=2, frequency=0, orientation=0, phase=0)
    for image in images:
        y, x = random.integers(4, size - 13, 2)
        image[:, y : y + 9, x : x + 9] += 0.2 * wave
        image[:, y : y + 9, x : x + 9] += 0.2 * np.array([1, -0.5, -0.5])[:, None, None] * envelope
    return images.clip(0, 1)


def test_a_discrepancy_map_localises_and_does_not_identify():
    """Two units with the same field: occlusion sees no difference, manufactured stimuli see what each needs."""
    model, images = localise_or_identify(), red_stripes()
    options = {"layer": "conv", "top_images": 6, "patch_size": 3, "stride": 1, "filling": "mean"}
    maps = [row for row in cnnprobe.measure("rf-map", model=model, dataset=images, **options) if hasattr(row, "field")]
    fields = [np.nan_to_num(row.field).ravel() for row in maps]
    assert np.corrcoef(fields)[0, 1] > 0.9
    found = tables(model, stimuli(size=40), layer="conv", batch_size=256)["units/conv"]
    assert found["circular_variance"][0] < 0.5
    assert abs((found["preferred"][0] + 90) % 180 - 90) < 2
    assert abs((found["preferred_hue"][1] + 180) % 360 - 180) < 5
    assert found["colours_variance"][1] < 0.6
    curves = found["curve"]
    assert np.corrcoef(curves)[0, 1] < 0.3
    gratings, colours = (FAMILIES.index(name) for name in ("gratings", "colours"))
    peaks = found["family_peak"]
    assert peaks[0, gratings] > 5 * peaks[1, gratings]  # a grey grating is nothing to a unit for red
    assert peaks[1, colours] > 2 * peaks[0, colours]


def small(units_of_conv1=40, **options):
    torch.manual_seed(0)
    first = nn.Conv2d(3, units_of_conv1, 7)
    model = nn.Sequential(first, nn.ReLU(), nn.Conv2d(units_of_conv1, 5, 3), nn.ReLU()).eval()
    return tables(model, stimuli(24, **FEW), layer=["conv1", "conv2"], **options)


def test_the_batch_size_changes_nothing_beyond_rounding():
    one, other = small(batch_size=7, gabor=False), small(batch_size=500, gabor=False)
    for name in ("units/conv1", "units/conv2"):
        scale = np.abs(other[name]["curve"]).max()
        np.testing.assert_allclose(one[name]["curve"], other[name]["curve"], atol=1e-5 * scale)


@pytest.mark.slow
def test_what_is_there_is_not_done_again_and_the_rest_is_the_same(monkeypatch):
    monkeypatch.setattr(tuning, "SAVED_UNITS", 6)
    monkeypatch.setattr(tuning, "SAVED_FITS", 2)
    whole = small(8)
    finished = {"units/conv1": frozenset({0}), "gabor/conv1": frozenset({0, 4})}
    rest = small(8, finished=finished)
    kept = {"units/conv1": np.arange(6, 8), "gabor/conv1": np.r_[2:4, 6:8]}
    for name, rows in kept.items():
        for column in ("circular_variance", "curve") if name.startswith("units") else ("n_x", "fit"):
            np.testing.assert_array_equal(rest[name][column], whole[name][column][rows])
    everything = {name: frozenset(range(0, 2000)) for name in whole}
    left = small(8, finished=everything)
    assert "curve" not in left["units/conv1"]


def test_units_are_measured_one_by_one():
    some = small(5, units=[3, 1])
    every = small(5)
    assert some["units/conv1"]["unit"].tolist() == [3, 1]
    for name in ("curve", "preferred"):
        np.testing.assert_array_equal(some["units/conv1"][name], every["units/conv1"][name][[3, 1]])
    np.testing.assert_array_equal(some["gabor/conv1"]["n_x"], every["gabor/conv1"]["n_x"][[3, 1]])


def test_the_maximum_of_the_map_has_no_phases():
    found = small(reading="max", gabor=False)["units/conv1"]
    assert np.isnan(found["f1_f0"]).all()
    assert np.isfinite(found["preferred"]).any()
    assert (found["curve"] >= small(gabor=False)["units/conv1"]["curve"] - 1e-6).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": "f1", "reading": "max"}, "say reading=centre"),
        ({"pages": 77}, "pages=77: that unit is not among those measured"),
        ({"layer": "conv9"}, "no layer 'conv9'"),
        ({"layer": "conv2", "gabor": True}, "gabor=true needs a first convolution, got conv2"),
        ({"dataset": shapes.build(size=24, count=4, split=None, seed=0, contrast=0.1, noise=0.1)}, "got shapes"),
        ({"cells": "nowhere.csv"}, "cells=nowhere.csv cannot be read"),
    ],
)
def test_mistakes_are_told(options, words):
    model = nn.Sequential(nn.Conv2d(3, 4, 7), nn.ReLU(), nn.Conv2d(4, 5, 3))
    with pytest.raises(UserError, match=words):
        tables(model, **{"dataset": stimuli(24, **FEW), "layer": "conv1"} | options)


def test_filters_too_small_for_eight_parameters_are_told():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(UserError, match=r"8 parameters.* square filters of 5 px and more, got 3 x 3"):
        tables(model, stimuli(24, **FEW), layer="conv1", gabor=True)
    assert "gabor/conv1" not in tables(model, stimuli(24, **FEW), layer="conv1")


@pytest.mark.slow
def test_a_run_has_its_factor_table_and_its_figures(cnnprobe, tmp_path):
    """From the command line: the store alone draws the figures, with cells of the user beside the filters."""
    (tmp_path / "cells.csv").write_text("n_x,n_y\n0.3,0.4\n0.2,0.2\n")
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    first = nn.Conv2d(1, 6, 7), nn.ReLU()\n"
        "    return nn.Sequential(*first, nn.Conv2d(6, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    words = ["tuning", "model=custom", "model.file=net.py", "model.input_size=32", "model.channels=1", "weights=random"]
    words += ["layer=[conv1,logits]", "dataset.orientations=8", "dataset.frequencies=4", "dataset.phases=4"]
    answer = cnnprobe(*words, "cells=cells.csv", "pages=[0,2]")
    assert answer.status == 0, answer.err
    assert "simple" in answer.out
    folder = tmp_path / "outputs/tuning/custom-manufactured/v001"
    import cnnprobe as package

    run = package.open(folder)
    shown, units = run["stimuli"], run["units/conv1"]
    assert units["curve"].shape == (6, len(shown["name"]))
    assert {"family", "word", "orientation", "frequency", "phase", "contrast", "hue"} <= set(shown)
    assert "colours" not in set(shown["family"])  # one channel has none
    assert run["cells"]["n_x"].tolist() == [0.3, 0.2]
    figures = {path.name for path in (folder / "figures").iterdir()}
    layers = {f"{layer}{ending}.png" for layer in ("conv1", "logits") for ending in ("", "_units")}
    assert figures == layers | {"population.png", "conv1_gabors.png", "conv1_shapes.png"}
    answer = cnnprobe("tuning", "model=convnet", "layer=conv1", "dataset=avatar", "limit=3")
    assert answer.status == 2
    assert "tuning shows dataset=manufactured or poses, whose factors are known; got avatar" in answer.err
    answer = cnnprobe("tuning", "model=convnet", "layer=conv1", "limit=3")
    assert "tuning shows dataset=manufactured without limit=" in answer.err


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_ends_as_if_never_stopped(cnnprobe, tmp_path, monkeypatch):
    """Stopped while the second batch of Gabors is fitted: the rest is done, bit for bit as in one go."""
    import cnnprobe as package

    monkeypatch.setattr(tuning, "SAVED_FITS", 2)
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU())\n"
    )
    words = ["tuning", "model=custom", "model.file=net.py", "model.input_size=24", "weights=random", "layer=conv1"]
    words += ["dataset.orientations=4", "dataset.frequencies=2", "dataset.phases=3", "batch_size=100"]
    calls, fit = [], tuning.fit_gabors

    def stopping(filters):
        calls.append(len(filters))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(filters)

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "fit_gabors", stopping)
        answer = cnnprobe(*words)
        assert answer.status == 130
        assert answer.err.endswith(" model.file=net.py\n")
    runs = tmp_path / "outputs/tuning/custom-manufactured"
    stopped = package.open(runs / "v001")
    assert not stopped.complete
    assert len(stopped["gabor/conv1"].rows) == 2
    answer = cnnprobe("tuning", "--resume", str(runs / "v001"), "model.file=net.py")
    assert answer.status == 0, answer.err
    assert cnnprobe(*words).status == 0
    one, other = (package.open(runs / version) for version in ("v001", "v002"))
    assert list(one) == list(other)
    for name in one:
        for column in one[name]:
            same = {"equal_nan": True} if one[name][column].dtype.kind == "f" else {}
            assert np.array_equal(one[name][column], other[name][column], **same), (name, column)
    for path in (runs / "v001/figures").iterdir():
        assert path.read_bytes() == (runs / "v002/figures" / path.name).read_bytes()
