"""Intervals of pixels, and how they join."""

import numpy as np
import pytest

from cnnprobe.instruments.network.receptive_field import (
    BATCH,
    CHANNEL,
    Field,
    Geometry,
    Span,
    envelope,
    gathered,
    union,
)

ALL = Span(0, 9, 0)


def test_the_field_of_a_position():
    field = Field(size=(5, 3), stride=(2, 1), start=(-2, 0))
    assert field.region((3, 4)) == ((4, 8), (4, 6)) and field.centre((3, 4)) == (6, 5)
    assert not field.whole
    dense = Field(size=(9, 9), stride=(0, 0), start=(0, 0))
    assert dense.whole and dense.region(()) == ((0, 8), (0, 8)) and dense.centre(()) == (4, 4)


def test_the_envelope_holds_every_position():
    assert envelope(np.array([0, 2, 4]), np.array([2, 4, 6]), 2) == (Span(0, 3, 2), True)
    assert envelope(np.array([0, 2, 5]), np.array([1, 3, 6]), 2) == (Span(0, 3, 2), False)


@pytest.mark.parametrize("kernel, stride, padding", [(3, 1, 1), (5, 2, 0), (2, 3, 1)])
def test_gathering_windows_gives_the_formula(kernel, stride, padding):
    """r_0 = r + (k - 1) j, start = start - p j, j_0 = j s (Araujo, Norris, Sim 2019)."""
    first = np.arange(6) * stride - padding
    span, exact = gathered(Span(-4, 9, 2), first, first + kernel - 1, stride)
    assert exact and span == Span(-4 - 2 * padding, 9 + 2 * (kernel - 1), 2 * stride)


def test_branches_join_to_the_largest_of_their_fields():
    assert union([Span(0, 3, 1), Span(-1, 5, 1)], 4, ALL) == (Span(-1, 5, 1), True)
    assert union([Span(0, 3, 1), Span(1, 3, 1)], 4, ALL) == (Span(0, 4, 1), False)
    assert union([Span(0, 3, 1), Span(0, 9, 0)], 4, ALL) == (ALL, True)
    span, aligned = union([Span(0, 1, 1), Span(0, 1, 2)], 4, ALL)
    assert not aligned and all(span.region(u)[0] <= u and 2 * u <= span.region(u)[1] for u in range(4))


def test_the_axis_of_the_units():
    spans = (Span(0, 1, 1),) * 2
    for roles, axis in (
        ((BATCH, CHANNEL, 0, 1), 1),
        ((BATCH, 0, 1, CHANNEL), 3),
        ((BATCH, None), 1),
        ((BATCH, None, 0, 1), 1),
        ((BATCH, None, CHANNEL), 2),
    ):
        assert Geometry(roles, spans, (8, 8)).channel_axis == axis
