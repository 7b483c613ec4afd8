"""What is done for the units of a layer, and how often; the fields themselves are tested in tests/methods."""

import gc

import numpy as np
import pytest
import torch
from torch import nn

from cnnprobe.datasets.base.given import given_images
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.ranking.strongest import BEST, Strongest
from cnnprobe.instruments.ranking.top_k import Ranked
from cnnprobe.instruments.windows.occluders import Grid
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.rf_map import mapping as field_mapping
from cnnprobe.methods.rf_map.mapping import FieldMapping, OcclusionSettings
from cnnprobe.methods.rf_map.occlusion import Occlusion
from cnnprobe.store.tables import Advance, Phase, Rows
from cnnprobe.store.unfinished import Unfinished

SIZE = (1, 10, 10)
IMAGES = torch.rand(5, *SIZE, generator=torch.Generator().manual_seed(0))


class Counted(Occlusion):
    """An engine that notes which (unit, site) pairs it is asked for at once."""

    def discrepancies(self, image, filled, units, sites, reading):
        which = int((image == IMAGES).flatten(1).all(1).nonzero())
        self.asked.append((which, [(int(unit), *map(int, site)) for unit, site in zip(units, sites)]))
        return super().discrepancies(image, filled, units, sites, reading)


def mapping(reading="site", units=12, filling="zero", draws=1):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, units, 3), nn.ReLU()).eval()
    layer, grid = find(model, "conv1", SIZE)[0], Grid(SIZE[1:], 3, 2)
    how = OcclusionSettings(model, given_images(IMAGES), Computation(), grid, filling, draws, reading, True)
    how.brightness = IMAGES.mean((0, 2, 3)), IMAGES.std((0, 2, 3))
    occlusion = Counted(model, layer, SIZE, grid)
    occlusion.asked = []
    return FieldMapping(how, layer, np.arange(units), 2, SIZE, occlusion)


def strongest(units=12):
    """Units answer images 0 and 3, or 4 and 3, at places of their own; the last one is silent on its second."""
    images = np.array([[0, 3] if unit % 2 else [4, 3] for unit in range(units)])
    responses = np.tile(np.float32([2, 1]), (units, 1))
    responses[-1, 1] = 0
    positions = np.stack(np.unravel_index(np.arange(2 * units) % 64, (8, 8)), -1).reshape(units, 2, 2)
    return Strongest({BEST: Ranked(images, responses, positions)}, np.zeros(units, bool))


def test_an_image_is_occluded_once_for_all_units_that_look_at_it():
    one, found = mapping(), strongest()
    events = list(one.events(found, frozenset(), 0))
    assert [image for image, _ in one.occlusion.asked] == [0, 3, 4] * 2  # twelve units are saved eight at a time
    best = found.ranks[BEST]
    for number, (image, pairs) in enumerate(one.occlusion.asked):
        units = range(8) if number < 3 else range(8, 12)
        expected = [
            (unit, *best.positions[unit, k])
            for unit in units
            for k in (0, 1)
            if best.images[unit, k] == image and best.responses[unit, k] > 0
        ]
        assert pairs == expected
    assert events[0] == Phase("occluding for conv1", 23, "maps")
    assert sum(event.count for event in events if isinstance(event, Advance)) == 23
    assert [event.start for event in events if isinstance(event, Rows)] == [0, 8]


def test_maps_are_held_no_longer_than_until_they_are_saved(monkeypatch):
    monkeypatch.setattr(field_mapping, "SAVED_UNITS", 2)
    gc.collect()
    gc.freeze()  # what there is already is not looked through again and again
    seen = 0
    try:
        for event in mapping().events(strongest(), frozenset(), 0):
            full = [hasattr(one, "columns") for one in gc.get_objects() if type(one) is field_mapping._Part]
            seen += len(full)
            assert sum(full) <= 1, event
    finally:
        gc.unfreeze()
    assert seen


def test_only_the_batches_that_are_missing_are_mapped():
    one = mapping()
    events = list(one.events(strongest(), frozenset([0]), 0))
    assert [event.start for event in events if isinstance(event, Rows)] == [8]
    assert [image for image, _ in one.occlusion.asked] == [0, 3, 4]
    assert events[0].total == 7
    assert [type(event) for event in mapping().events(strongest(), frozenset([0, 8]))] == [Phase]


@pytest.mark.parametrize("reading", ["max", "mean", "anywhere"])
def test_units_that_share_a_pass_are_saved_together_as_far_as_memory_allows(reading, monkeypatch):
    whole = mapping(reading)
    assert whole.together == 12
    assert whole.canvas.sides == (19, 19)
    row = sum(column.row_bytes for column in whole.columns.values()) + 2 * 100 * 4  # and two gradients
    monkeypatch.setattr(field_mapping, "TOGETHER", 5 * row)
    assert mapping(reading).together == 5
    monkeypatch.setattr(field_mapping, "TOGETHER", 1)
    assert mapping(reading).together == 1
    assert mapping("site").together == field_mapping.SAVED_UNITS


def test_the_table_says_how_it_was_made_and_lays_out_what_the_rows_hold():
    one = mapping()
    table = one.table({"patch_size": 3})
    assert (table.name, table.rows, table.batch) == ("units/conv1", 12, 8)
    assert {"patch_size", "filling", "engine", "rectified", "recentred", "levels", "field_size"} <= set(
        table.attributes
    )
    rows = [event for event in one.events(strongest(), frozenset(), 0) if isinstance(event, Rows)]
    for batch in rows:
        for name, values in batch.columns.items():
            assert values.shape == (len(batch), *table.columns[name].shape), name
            assert values.dtype == np.dtype(table.columns[name].dtype), name
        assert set(batch.columns) == {name for name, column in table.columns.items() if column.values is None}


def test_the_effective_field_is_left_out_when_it_is_not_wanted():
    one = mapping()
    one.how.effective = False
    assert not [
        name for name in FieldMapping(one.how, one.layer, one.units, 2, SIZE, one.occlusion).columns if "eff" in name
    ]


def test_the_gap_of_images_that_do_not_count():
    """A silent image and its picture stay blank; the field is that of the other image alone."""
    one = mapping(filling="noise", draws=2)
    rows = [event.columns for event in one.events(strongest(), frozenset(), 0) if isinstance(event, Rows)][1]
    assert np.isnan(rows["discrepancy"][-1, 1]).all() and not np.isnan(rows["discrepancy"][-1, 0]).any()
    assert np.isnan(rows["discrepancy_error"][-1]).tolist() == [False, True]
    assert (rows["picture"][-1, 1] == 255).all() and (rows["picture"][-1, 0] != 255).any()
    assert rows["coverage"][-1].max() == 1
    assert rows["coverage"][0].max() == 2


def test_maps_without_gradients_are_kept_too():
    """F87: the effective field is asked for, but no gradient gets back to the image."""
    one, keeper = mapping(), Unfinished()
    one.gradients = False
    for event in one.events(strongest(), frozenset(), keeper):
        states = [part.take() for part in keeper.parts.values()]
        if isinstance(event, Advance):
            assert [set(state["columns"]) & {"field", "/"} for state in states] == [{"field"}]
