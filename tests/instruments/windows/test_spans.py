"""Stretches that are read and changed, against sets of positions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnprobe.instruments.windows.spans import Lookup, Slide, hull, meeting, same

QUICK = settings(max_examples=150, deadline=None, derandomize=True)


@st.composite
def slides(draw):
    """Draw a window that fits at least once; `into` may be more than that (ceil_mode) or less (cut)."""
    kernel, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    stride, before, length = draw(st.integers(1, 4)), draw(st.integers(0, 5)), draw(st.integers(1, 20))
    into = max(1, (length + 2 * before - (kernel - 1) * dilation - 1) // stride + 1 + draw(st.integers(-1, 1)))
    return Slide(kernel, stride, before, dilation, length, into)


def taps(slide: Slide, result: int) -> set[int]:
    """Return what a result reads, on the map or not."""
    return {result * slide.stride - slide.before + tap * slide.dilation for tap in range(slide.kernel)}


@QUICK
@given(slides(), st.data())
def test_results_that_read_a_stretch(slide, data):
    first = data.draw(st.integers(0, slide.length - 1))
    stop = data.draw(st.integers(first, slide.length))
    (low,), (high,) = slide.forward(np.array([first]), np.array([stop]))
    stretch = set(range(first, stop))
    meet = [  # between the first and the last tap; taps of a dilated window may step over a stretch
        u for u in range(slide.into) if stretch & set(range(min(taps(slide, u)), max(taps(slide, u)) + 1))
    ]
    assert list(range(low, high)) == meet
    assert {u for u in range(slide.into) if stretch & taps(slide, u)} <= set(meet)


@QUICK
@given(slides(), st.data())
def test_what_results_read(slide, data):
    first = data.draw(st.integers(0, slide.into - 1))
    stop = data.draw(st.integers(first, slide.into))
    low, high = slide.back(first, stop)
    read = {at for u in range(first, stop) for at in taps(slide, u)} & set(range(slide.length))
    assert read <= set(range(low, high)) <= set(range(slide.length))
    if slide.dilation == 1 and slide.kernel >= slide.stride and read:
        assert (low, high) == (min(read), max(read) + 1)
    if stop == first:
        assert low == high


@QUICK
@given(st.lists(st.integers(-1, 9), min_size=1, max_size=14), st.data())
def test_lookups(source, data):
    lookup = Lookup(np.array(source))
    first = data.draw(st.integers(0, 9))
    stop = data.draw(st.integers(first, 10))
    (low,), (high,) = lookup.forward(np.array([first]), np.array([stop]))
    hit = [u for u, at in enumerate(source) if first <= at < stop]
    assert (low, high) == (min(hit), max(hit) + 1) if hit else low >= high
    begin = data.draw(st.integers(0, len(source) - 1))
    end = data.draw(st.integers(begin, len(source)))
    read = [at for at in source[begin:end] if at >= 0]
    assert lookup.back(begin, end) == ((min(read), max(read) + 1) if read else (0, 0))


def test_many_stretches_at_once_are_each_as_alone():
    slide = Slide(3, 2, 1, 2, 17, 8)
    lookup = Lookup(np.array([-1, 3, 2, 1, 0, 5, 5, -1]))
    first = np.array([0, 3, 5, 7, 16])
    stop = np.array([4, 3, 6, 17, 17])
    for reach in (slide, lookup):
        together = reach.forward(first, stop)
        alone = [reach.forward(first[n : n + 1], stop[n : n + 1]) for n in range(5)]
        assert np.array_equal(together[0], [a[0][0] for a in alone])
        assert np.array_equal(together[1], [a[1][0] for a in alone])


def test_a_function_of_positions_reads_what_it_writes():
    reach = same(9)
    assert reach.back(2, 5) == (2, 5)
    low, high = reach.forward(np.array([0, 4]), np.array([9, 4]))
    assert (low[0], high[0]) == (0, 9) and low[1] == high[1]


@pytest.mark.parametrize(
    ("stretches", "expected"),
    [
        ([(2, 5), (4, 9)], (2, 9)),
        ([(2, 5), (7, 9)], (2, 9)),
        ([(2, 5), (9, 9)], (2, 5)),
        ([(3, 3), (9, 9)], (0, 0)),
        ([(3, 1), (0, 2)], (0, 2)),
        ([(1, 2)], (1, 2)),
    ],
)
def test_the_hull_holds_what_is_not_empty(stretches, expected):
    first, stop = hull([(np.array([a, 0]), np.array([b, 1])) for a, b in stretches])
    assert (first[0], stop[0]) == expected
    assert (first[1], stop[1]) == (0, 1)


def test_what_is_needed_of_a_stretch():
    low, high = meeting((np.array([0, 5, 7, 2]), np.array([4, 9, 9, 4])), (3, 6))
    kept = [set(range(a, b)) for a, b in zip(low, high)]
    assert kept == [{3}, {5}, set(), {3}]
