"""What is shown of changed units: the fields are those of rf-map, the preferred images drive the unit."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe
from cnnprobe.datasets.base.given import Given, given_images
from cnnprobe.instruments.layers.naming import find
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.transfer.comparison.changed_units import Chosen, Overwritten
from cnnprobe.methods.transfer.comparison.responses import answers
from cnnprobe.store.tables import Rows

SIZE = (3, 16, 16)


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3), nn.ReLU()).eval()


def pictures():
    return given_images(torch.rand(12, *SIZE, generator=torch.Generator().manual_seed(0)))


def strongest(model, layer, images, k):
    work = answers(model, [layer], images, np.arange(2), Computation(batch_size=5))
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value[layer.name].strongest(k)


def shown(networks, layers, images, units, **changes):
    """Look at (layer, unit) pairs; return the rows."""
    found = {}
    for place in {place for place, _ in units}:
        found[place] = [strongest(model, layers[place], images, 3) for model in networks]
    chosen = [Chosen(place, unit, tuple(one.of(np.array([unit])) for one in found[place])) for place, unit in units]
    given = {"rows": len(units) + 1, "k": 3, "steps": 12, "computation": Computation(batch_size=5, seed=3)}
    look = Overwritten(networks, layers, images, **given | changes)
    (rows,) = (event for event in look.events(chosen, {}) if isinstance(event, Rows))
    assert set(rows.columns) == set(look.columns())
    return rows.columns


def test_fields_are_those_of_rf_map_in_the_middle_of_one_canvas():
    networks, images = (network(0), network(1)), pictures()
    layers = find(networks[0], ["conv1", "conv2"], SIZE)
    found = shown(networks, layers, images, [(1, 2), (0, 1), (1, 0)], steps=1)
    options = {"patch_size": None, "stride": None, "filling": "noise", "draws": 3, "reading": "site", "memory": None}
    options |= {"precision": "float32", "effective": False, "picture": None, "pages": None, "source": None}
    options |= {"batch_size": 5, "device": "cpu", "workers": 0, "seed": 3, "top_images": 3, "units": "all"}
    for side, model in zip(("before", "after"), networks):
        whole = cnnprobe.measure("rf-map", model=model, dataset=images, layer=["conv1", "conv2"], **options)
        fields = {event.table: event.columns for event in whole.events if isinstance(event, Rows)}
        for row, (place, unit) in enumerate([(1, 2), (0, 1), (1, 0)]):
            expected = fields[f"units/conv{place + 1}"]["field"][unit]
            canvas = found[f"field_{side}"][row]
            edge = [(large - small) // 2 for large, small in zip(canvas.shape, expected.shape)]
            middle = canvas[tuple(slice(first, first + size) for first, size in zip(edge, expected.shape))]
            np.testing.assert_allclose(middle, expected, atol=1e-6)
            assert np.isfinite(canvas).sum() == np.isfinite(expected).sum()
            assert found[f"size_{side}"][row] == pytest.approx(fields[f"units/conv{place + 1}"]["size"][unit, 1])
        assert np.isnan(found[f"field_{side}"][3]).all()  # no unit


def test_the_same_network_twice_shows_the_same():
    model, images = network(0), pictures()
    found = shown((model, copy.deepcopy(model)), find(model, ["conv1", "conv2"], SIZE), images, [(0, 3), (1, 1)])
    for name in ("image", "response", "picture", "preferred", "preferred_response", "field", "size"):
        np.testing.assert_array_equal(found[f"{name}_before"], found[f"{name}_after"])


def test_preferred_images_reach_the_response_that_is_stored():
    networks, images = (network(0), network(1)), pictures()
    layers = find(networks[0], ["conv1", "conv2"], SIZE)
    found = shown(networks, layers, images, [(1, 0), (1, 2)])
    for side, model in zip(("before", "after"), networks):
        preferred = torch.from_numpy(found[f"preferred_{side}"][:2])
        with torch.no_grad():
            reached = model(preferred).amax((2, 3)).numpy()[[0, 1], [0, 2]]
        np.testing.assert_allclose(found[f"preferred_response_{side}"][:2], reached, rtol=1e-4, atol=1e-6)


def test_signals_have_no_fields():
    torch.manual_seed(0)
    networks = tuple(nn.Sequential(nn.Conv1d(2, 3, 5), nn.ReLU()).eval() for _ in range(2))
    signals = Given(torch.randn(9, 2, 40, generator=torch.Generator().manual_seed(0)))
    found = shown(networks, find(networks[0], "conv1", (2, 40)), signals, [(0, 1)])
    assert not [name for name in found if name.startswith(("field", "size"))]
    np.testing.assert_array_equal(found["picture_before"][0], signals.load(found["image_before"][0])[0].numpy())
    assert np.isfinite(found["preferred_after"][0]).all()
