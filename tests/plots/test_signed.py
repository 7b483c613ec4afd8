"""Signed colour maps as pictures: zero is mid-grey, signs keep their colours, what is no number is clear."""

import numpy as np
import pytest

from cnnprobe.plots import signed, style
from cnnprobe.plots.canvas import Cell, empty

MAPS = np.random.default_rng(0).normal(size=(3, 8, 6))


def colours(maps, *rest, **more):
    return signed.picture(np.asarray(maps, float), *rest, **more)[..., :3]


def test_zero_is_mid_grey_and_the_limit_is_full_colour():
    maps = np.zeros((3, 1, 4))
    maps[0, 0, 1], maps[1, 0, 2], maps[:, 0, 3] = 2, -2, 1
    expected = [[0.5, 0.5, 0.5], [1, 0.5, 0.5], [0.5, 0, 0.5], [0.75, 0.75, 0.75]]
    assert np.allclose(colours(maps), [expected])


def test_a_shared_limit_makes_weak_maps_weak_and_cuts_strong_ones():
    assert np.allclose(colours(MAPS, 10.0), np.moveaxis(0.5 + MAPS / 20, 0, -1))
    strong = colours(MAPS, 0.1)
    assert (strong.min(), strong.max()) == (0, 1)


def test_clipped_is_signed_with_the_99th_percentile_as_limit():
    maps = np.linspace(-1, 1, 10000).reshape(1, 100, 100)
    maps[0, 0, 0] = -1e6
    limit = np.sort(np.abs(maps).ravel())[9899]
    assert signed.limit_of([maps], "clipped") == pytest.approx(limit, rel=1e-3)
    assert np.allclose(colours(maps, None, "clipped")[..., 0], np.clip(0.5 + maps[0] / limit / 2, 0, 1), atol=1e-3)
    spot = np.zeros((1, 20, 20))
    spot[0, 3, 3] = -5
    assert signed.limit_of([spot], "clipped") == 5  # fewer than one px in a hundred: still seen


def test_limits_are_over_all_maps_and_leave_out_what_is_no_number():
    assert signed.limit_of([MAPS, np.array([np.nan, -7, np.inf])], "signed") == 7
    assert signed.limit_of([], "signed") == signed.limit_of([np.full(3, np.nan)], "clipped") == 0


def test_stretched_is_the_published_display():
    assert np.allclose(colours(MAPS, None, "stretched"), np.moveaxis((MAPS - MAPS.min()) / np.ptp(MAPS), 0, -1))


def test_grey_is_the_published_display():
    """Sum of |values| over colours; (sum - min) / (99th percentile - min), cut to 0 to 1."""
    total = np.abs(MAPS).sum(0)
    expected = np.clip((total - total.min()) / (np.percentile(total, 99) - total.min()), 0, 1)
    shown = colours(MAPS, None, "grey")
    assert np.allclose(shown, expected[..., None])


@pytest.mark.parametrize(("channels", "seen"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (5, [0, 1, 2])])
def test_any_number_of_channels_is_shown_and_what_is_left_out_is_said(channels, seen):
    maps = np.random.default_rng(1).normal(size=(channels, 4, 4))
    assert np.allclose(colours(maps, 2.0), np.clip(np.moveaxis(0.5 + maps[seen] / 4, 0, -1), 0, 1))
    assert ("of 5" in signed.words("signed", 5)) and ("of 2" in signed.words("stretched", 2))
    assert "channels" not in signed.words("signed", 3) + signed.words("signed", 1)


@pytest.mark.parametrize("display", ["signed", "clipped", "stretched", "grey"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_clear_and_changes_nothing_else(display, bad):
    """F81."""
    maps = MAPS.copy()
    maps[1, 2, 3] = bad
    made = signed.picture(maps, None, display)
    assert np.isfinite(made).all()
    assert made[2, 3, 3] == 0
    assert made[..., 3].sum() == 8 * 6 - 1
    assert (made[..., :3].min() >= 0) and (made[..., :3].max() <= 1)


@pytest.mark.parametrize("display", ["signed", "clipped", "stretched", "grey"])
@pytest.mark.parametrize("value", [0.0, 3.0, -3e38, 1e-44, np.nan])
def test_maps_of_one_value_and_one_px(display, value):
    """F81."""
    for shape in ((3, 5, 5), (1, 1, 1)):
        made = signed.picture(np.full(shape, value, np.float32), None, display)
        assert np.isfinite(made).all()
        if value == 0:
            assert (made[..., 0] == (0 if display == "grey" else 0.5)).all()


def test_large_maps_are_averaged_over_blocks():
    maps = np.random.default_rng(2).normal(size=(3, 60, 40))
    shown = colours(maps, 9.0, "signed", 20)
    blocks = maps.reshape(3, 20, 3, 40, 1).mean((2, 4))[:, :, :39].reshape(3, 20, 13, 3).mean(-1)
    assert np.allclose(shown[:, :13], np.moveaxis(0.5 + blocks / 18, 0, -1))


def test_drawn_maps_are_hatched_and_named_where_there_is_nothing_to_see():
    made = style.figure(3, 1)
    ax = empty(made, (300, 100))
    holes = MAPS.copy()
    holes[0, 0, 0] = np.nan
    for place, maps in enumerate((MAPS, holes, MAPS * np.nan, MAPS * 0 + 2)):
        signed.draw(ax, maps, Cell(60 * place, 0, 50, 50), None, "signed", "dead")
    assert len(ax.images) == 3
    assert sum(bool(patch.get_hatch()) for patch in ax.patches) == 2
    assert [text.get_text() for text in ax.texts] == ["dead", "all 2"]
    assert signed.hatching([MAPS]) == []
    assert len(signed.hatching([MAPS, holes])) == 1
    assert "1 infinite" in signed.hatching([np.array([np.inf])])[0]
