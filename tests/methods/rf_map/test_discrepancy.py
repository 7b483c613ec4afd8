"""Readings of windows against the same readings of whole maps, and against plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnprobe.methods.rf_map.discrepancy import READINGS, WindowReader, flat_places, read


def by_loop(reading, clean, occluded, units, sites):
    """Read (occluder, channel, y, x) unit by unit."""
    found = np.zeros((len(occluded), len(units)))
    for place, n in np.ndindex(found.shape):
        before, after = clean[units[n]], occluded[place, units[n]]
        y, x = sites[n]
        found[place, n] = {
            "site": before[y, x] - after[y, x],
            "max": before.max() - after.max(),
            "mean": (before - after).sum() / before.size,
            "anywhere": (before - after).max(),
        }[reading]
    return found


@pytest.mark.parametrize("reading", READINGS)
def test_whole_maps(reading):
    random = np.random.default_rng(0)
    clean, occluded = random.normal(size=(4, 3, 5)), random.normal(size=(6, 4, 3, 5))
    units, sites = np.array([3, 0, 3]), np.array([[2, 4], [0, 1], [1, 3]])
    places = flat_places(torch.from_numpy(sites), (3, 5))
    assert places.tolist() == [14, 1, 8]
    found = read(
        reading, *(torch.from_numpy(m).flatten(-2) for m in (clean, occluded)), torch.from_numpy(units), places
    )
    np.testing.assert_allclose(found, by_loop(reading, clean, occluded, units, sites))


def test_places_of_dense_layers_and_of_signals():
    assert flat_places(torch.empty(3, 0, dtype=torch.int64), ()).tolist() == [0, 0, 0]
    assert flat_places(torch.tensor([[4], [1]]), (7,)).tolist() == [4, 1]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from(READINGS), st.integers(0, 999))
def test_windows_read_as_whole_maps(data, reading, seed):
    """A window of any size at any place; around it the map is the clean one."""
    height, width = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 7))
    lengths = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    random = np.random.default_rng(seed)
    draws, rows, columns = random.integers(1, 4, 3)
    firsts = tuple(random.integers(0, side - n + 1, k) for side, n, k in zip((height, width), lengths, (rows, columns)))
    channels = random.integers(1, 5)
    units = random.integers(0, channels, random.integers(1, 6))
    sites = np.stack([random.integers(0, side, len(units)) for side in (height, width)], 1)
    clean = random.normal(size=(channels, height, width)).astype(np.float32)
    changes = random.normal(size=(draws, rows, columns, *lengths, channels)).astype(np.float32)
    occluded = np.broadcast_to(clean, (draws, rows, columns, *clean.shape)).copy()
    for draw, row, column in np.ndindex(draws, rows, columns):
        y, x = firsts[0][row], firsts[1][column]
        window = changes[draw, row, column].transpose(2, 0, 1)
        occluded[draw, row, column, :, y : y + lengths[0], x : x + lengths[1]] += window
    reader = WindowReader(reading, torch.from_numpy(clean), torch.from_numpy(units), torch.from_numpy(sites))
    found = reader.read(firsts, tuple((at, at + n) for at, n in zip(firsts, lengths)), torch.from_numpy(changes))
    expected = by_loop(reading, clean, occluded.reshape(-1, *clean.shape), units, sites)
    np.testing.assert_allclose(found.reshape(-1, len(units)), expected, atol=2e-6)
    if reading == "site":
        outside = [
            (sites[:, axis] < at[:, None]) | (sites[:, axis] >= at[:, None] + n)
            for axis, (at, n) in enumerate(zip(firsts, lengths))
        ]
        assert (found.numpy()[:, outside[0][:, None] | outside[1][None]] == 0).all()


def test_what_cannot_have_changed_is_read_as_zero_whatever_rounding_left_there():
    clean, sites = torch.rand(1, 6, 6), torch.tensor([[2, 2], [3, 3], [4, 4]])
    reader = WindowReader("site", clean, torch.zeros(3, dtype=torch.int64), sites)
    first, changed = (np.array([2]), np.array([2])), ((np.array([2]), np.array([4])), (np.array([3]), np.array([5])))
    found = reader.read(first, changed, torch.full((1, 1, 1, 3, 3, 1), -1e-9))
    assert (found.flatten() == torch.tensor([0.0, 1e-9, 0.0])).all()


def test_an_unknown_reading_is_refused():
    with pytest.raises(ValueError, match="reading must be one of site, max, mean, anywhere, got 'median'"):
        read("median", torch.zeros(1, 1), torch.zeros(1, 1, 1), torch.zeros(1, dtype=torch.int64), torch.zeros(1))
