"""Windows on maps: cutting, moving and laying in, against plain indexing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cnnprobe.instruments.network.tracing import Value
from cnnprobe.instruments.windows.carrying import Clean, Place, Windows
from cnnprobe.instruments.windows.plan import Class, Stretches
from cnnprobe.instruments.windows.spans import Lookup, Slide

MAP = Value(0, 0, (1, 3, 9, 11))
FIRST = np.array([0, 2, 4]), np.array([1, 5])
LENGTHS = (4, 5)


@pytest.fixture
def case():
    """Windows of 4 x 5 on a map of 9 x 11, at 3 x 2 places, two draws."""
    torch.manual_seed(0)
    clean = Clean({MAP: torch.rand(MAP.shape)})
    axes = [
        Class(np.arange(len(first)), {MAP: Stretches(first, length, True, (first, first + length))})
        for first, length in zip(FIRST, LENGTHS)
    ]
    windows = Windows(*axes, clean, 2, False)
    windows.set_changes(MAP, torch.rand(2, 3, 2, *LENGTHS, 3))
    return SimpleNamespace(windows=windows, changes=windows.changed[MAP], clean=clean.values[MAP][0])


def whole(changes, draw, row, column, side=(9, 11), margin=6):
    """Return a window's changes on a map with a margin of zeros, (y, x, channel)."""
    made = torch.zeros(side[0] + 2 * margin, side[1] + 2 * margin, 3)
    y, x = FIRST[0][row] + margin, FIRST[1][column] + margin
    made[y : y + LENGTHS[0], x : x + LENGTHS[1]] = changes[draw, row, column]
    return made


TARGETS = [
    Place(FIRST, LENGTHS),
    Place((FIRST[0] - 1, FIRST[1] + 1), (6, 3)),  # all alike
    Place((FIRST[0] + 2, FIRST[1] - 3), (1, 12)),
    Place((np.array([1, 1, 3]), np.array([0, 6])), (5, 4)),  # each its own way
    Place((np.array([-2, 6, 0]), np.array([3, 3])), (3, 7)),
    Place((np.array([20, 20, 20]) - 14, FIRST[1]), (3, 5)),
]


@pytest.mark.parametrize("number", range(len(TARGETS)))
def test_changes_are_moved_to_other_places(case, number):
    target = TARGETS[number]
    found = case.windows.moved(case.changes, Place(FIRST, LENGTHS), target)
    for draw, row, column in np.ndindex(2, 3, 2):
        y, x = target.first[0][row] + 6, target.first[1][column] + 6
        expected = whole(case.changes, draw, row, column)[y : y + target.lengths[0], x : x + target.lengths[1]]
        assert torch.equal(found[draw, row, column], expected)


def test_values_are_changes_on_the_clean_map(case):
    found = case.windows.values(MAP)
    for draw, row, column in np.ndindex(2, 3, 2):
        y, x = FIRST[0][row], FIRST[1][column]
        clean = case.clean[:, y : y + 4, x : x + 5].permute(1, 2, 0)
        torch.testing.assert_close(found[draw, row, column], clean + case.changes[draw, row, column])
    torch.testing.assert_close(case.windows.changes(MAP), case.changes)
    again = Windows(*case.windows.axes, case.windows.clean, 2, False)
    again.set_values(MAP, found)
    torch.testing.assert_close(again.changes(MAP), case.changes)
    fresh = again.values(MAP, fresh=True)
    assert fresh.data_ptr() != found.data_ptr() and torch.equal(fresh, found)


def test_what_a_pooling_reads_lies_in_the_clean_map_and_its_border(case):
    slides = (Slide(3, 2, 1, 1, 9, 5), Slide(3, 2, 1, 1, 11, 6))
    place = Place((np.array([0, 1, 2]), np.array([0, 3])), (3, 3)).read_by(slides)
    assert [first.tolist() for first in place.first] == [[-1, 1, 3], [-1, 5]] and place.lengths == (7, 7)
    found = case.windows.inlaid(MAP, place, slides, -7.0)
    bordered = torch.full((9 + 8, 11 + 8, 3), -7.0)
    bordered[4:13, 4:15] = case.clean.permute(1, 2, 0)
    for draw, row, column in np.ndindex(2, 3, 2):
        expected, y, x = bordered.clone(), FIRST[0][row] + 4, FIRST[1][column] + 4
        expected[y : y + 4, x : x + 5] += case.changes[draw, row, column]
        y, x = place.first[0][row] + 4, place.first[1][column] + 4
        torch.testing.assert_close(found[draw, row, column], expected[y : y + 7, x : x + 7])


def test_positions_are_looked_up(case):
    """Mirrored at the left border; -1 is a constant."""
    lookups = Lookup(np.array([2, 1, 0, 1, 2, 3, 4, 5, -1])), Lookup(np.arange(11))
    target = Place((np.array([0, 3, 4]), FIRST[1]), (5, 5))
    found = case.windows.fetched(case.changes, Place(FIRST, LENGTHS), target, lookups)
    for draw, row, column in np.ndindex(2, 3, 2):
        padded = whole(case.changes, draw, row, column)
        for step in range(5):
            source = lookups[0].source[target.first[0][row] + step]
            x = FIRST[1][column] + 6
            expected = padded[source + 6, x : x + 5] if source >= 0 else torch.zeros(5, 3)
            assert torch.equal(found[draw, row, column, step], expected)


def test_a_whole_value_is_the_clean_map_with_the_window(case):
    found = case.windows.whole(MAP)
    assert found.shape == (12, 3, 9, 11)
    for number, (draw, row, column) in enumerate(np.ndindex(2, 3, 2)):
        expected = case.clean + whole(case.changes, draw, row, column)[6:15, 6:17].permute(2, 0, 1)
        torch.testing.assert_close(found[number], expected)


def test_an_image_enters_with_what_is_under_the_occluder_only():
    """Rows of one class are 3 long at most, one of them is only 2 and another empty."""
    first, stop = np.array([0, 4, 7]), np.array([3, 6, 7])
    rows = Class(np.arange(3), {MAP: Stretches(np.array([0, 4, 6]), 3, False, (first, stop))})
    at = np.array([2, 5])
    columns = Class(np.arange(2), {MAP: Stretches(at, 4, True, (at, at + 4))})
    windows = Windows(rows, columns, Clean({MAP: torch.rand(MAP.shape)}), 2, False)
    differences = torch.rand(2, 9, 11, 3)
    windows.enter(MAP, differences)
    for draw, row, column in np.ndindex(2, 3, 2):
        expected = torch.zeros(9, 11, 3)
        expected[first[row] : stop[row]] = differences[draw, first[row] : stop[row]]
        y, x = (0, 4, 6)[row], at[column]
        assert torch.equal(windows.changes(MAP)[draw, row, column], expected[y : y + 3, x : x + 4])


def test_what_is_forgotten_is_gone(case):
    case.windows.values(MAP), case.windows.whole(MAP)
    case.windows.forget(MAP)
    assert not (case.windows.changed or case.windows.valued or case.windows.wholes)


def test_tables_are_made_once_for_every_border():
    values = torch.rand(MAP.shape)
    clean = Clean({MAP: values})
    rows, width = clean.table(MAP)
    assert width == 11 and torch.equal(rows.view(9, 11, 3), values[0].permute(1, 2, 0))
    bordered, width = clean.table(MAP, (1, 2, 3, 0), -1.0)
    expected = torch.nn.functional.pad(values[0], (1, 2, 3, 0), value=-1.0).permute(1, 2, 0)
    assert width == 14 and torch.equal(bordered.view(12, 14, 3), expected)
    assert clean.table(MAP)[0] is rows and clean.table(MAP, (1, 2, 3, 0), -1.0)[0] is bordered


def test_places_of_results_and_of_what_they_read():
    slides = (Slide(3, 2, 1, 2, 20, 9), Slide(1, 1, 0, 1, 20, 20))
    place = Place((np.array([0, 3]), np.array([7])), (2, 4))
    read = place.read_by(slides)
    assert [first.tolist() for first in read.first] == [[-1, 5], [7]] and read.lengths == (2 + 5, 4)
    assert [gap.tolist() for gap in read.relative_to(place)] == [[-1, 2], [0]]
